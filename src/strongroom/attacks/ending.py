"""How an act in a lab can end other than well: refused, impossible here, or set up wrongly."""

from __future__ import annotations

import errno

from strongroom.core.errors import StrongroomError


class NotRunError(Exception):
    """Something that an attack needs isn't on this machine."""


class SetupError(Exception):
    """The honest act failed: the attack would prove nothing."""


class RefusedError(Exception):
    """An attempt was refused with a code that no error of ours carries: an HTTP answer, an exit code, a TLS alert."""

    def __init__(self, code: str, said: str = "") -> None:
        super().__init__(f"{code}: {said}" if said else code)
        self.code = code


def code_of(error: BaseException) -> str:
    """Return the stable code of a refusal; nothing if it is no refusal."""
    if isinstance(error, StrongroomError):
        return error.reason
    if isinstance(error, RefusedError):
        return error.code
    if isinstance(error, OSError) and error.errno is not None:
        return errno.errorcode.get(error.errno, "")
    return ""
