"""RFC 9457 problems, read back into the errors that the broker or the keeper raised, so that exit codes survive."""

from __future__ import annotations

from typing import Final

from strongroom.core.canonical import parse
from strongroom.core.errors import (
    ConflictError,
    DeniedError,
    MalformedError,
    NotFoundError,
    StrongroomError,
    TamperedError,
    UnavailableError,
    UsageError,
)
from strongroom.ipc.frames import told_error

MAX_PROBLEM: Final = 65536
_MAX_TEXT: Final = 2000
_BY_STATUS: Final[dict[int, type[StrongroomError]]] = {
    400: UsageError,
    401: DeniedError,
    403: DeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: TamperedError,
}


def problem_error(status: int, body: bytes) -> StrongroomError:
    """Return (not raise) the error that an HTTP answer of 4xx or 5xx stands for.

    The ``title`` is the class's code. A class that this program doesn't know becomes the nearest one by status: a
    refusal stays a refusal. Texts are stripped of control characters before anybody's terminal sees them.
    """
    nearest = _BY_STATUS.get(status, UnavailableError)
    try:
        value = parse(body, max_bytes=MAX_PROBLEM)
    except MalformedError:
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("title"), str):
        return nearest(f"the deployment answered with status {status} and no explanation")
    told = {name: _text(value.get(name)) for name in ("title", "code", "detail", "remedy")}
    error = told_error([told["title"]], told["code"] or told["title"], told["detail"], told["remedy"])
    if error.code == told["title"]:
        return error
    return nearest(told["detail"], remedy=told["remedy"], reason=told["code"] or told["title"])


def _text(value: object) -> str:
    # A hostile server must not be able to write escape sequences to a person's terminal.
    text = value if isinstance(value, str) else ""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text[:_MAX_TEXT])
