"""Names that files of a model may have inside the enclave. Pure: a name in, its parts or a refusal out."""

from __future__ import annotations

from typing import Final

from strongroom.core.errors import MalformedError

MAX_DEPTH: Final = 8
MAX_PART: Final = 255
MAX_FILES: Final = 20_000


def parts_of(name: str) -> tuple[str, ...]:
    """Return the folders and file name of ``name``, written with ``/``.

    Names come from a signed manifest, and are still not trusted to stay inside the folder: no absolute path, no empty
    part, no ``.`` or ``..``, no control character, no backslash.

    :raises MalformedError: any of these, too deep, or a part that is too long.
    """
    parts = tuple(name.split("/"))
    if not 1 <= len(parts) <= MAX_DEPTH:
        raise MalformedError(f"a model's file name has {len(parts)} parts; 1 to {MAX_DEPTH} are taken")
    for part in parts:
        if part in {"", ".", ".."} or len(part.encode("utf-8", "surrogatepass")) > MAX_PART:
            raise MalformedError("a model's file name has an empty, dotted or overlong part", reason="model.name")
        if not part.isprintable() or "\\" in part:
            raise MalformedError("a model's file name has a character that no file may have", reason="model.name")
    return parts
