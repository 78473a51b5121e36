"""The disk with the sealed files: a plain tar, written by the launcher, read with the hand inside. Pure: its rules.

The host owns this disk. The kernel's file systems aren't made for hostile images, and the machine would be taken over
before it attests; so none is mounted. What is read is bounded, plain, and ciphertext that the agent checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from strongroom.core.errors import MalformedError
from strongroom.enclave.model_folder import MAX_FILES, parts_of

BLOCK: Final = 512
_REGULAR: Final = (b"0", b"\0")
_END: Final = bytes(BLOCK)
_NAME: Final = slice(0, 100)
_SIZE: Final = slice(124, 136)
_SUM: Final = slice(148, 156)
_KIND: Final = slice(156, 157)
_MAGIC: Final = slice(257, 263)
_PREFIX: Final = slice(345, 500)


def read_header(block: bytes) -> tuple[str, int] | None:
    """Return a file's name and size; None at the archive's end (POSIX.1-1988, ustar).

    :raises MalformedError: anything but a regular file with a plain name.
    """
    if len(block) != BLOCK:
        raise MalformedError("the sealed files' disk ends inside a header")
    if block == _END:
        return None
    total = sum(block) - sum(block[_SUM]) + 8 * ord(" ")
    if block[_MAGIC] != b"ustar\0" or _octal(block[_SUM]) != total or block[_KIND] not in _REGULAR:
        raise MalformedError("the sealed files' disk holds something that isn't a regular file in a plain archive")
    prefix, name = (_text(block[where]) for where in (_PREFIX, _NAME))
    found = f"{prefix}/{name}" if prefix else name
    parts_of(found)
    return found, _octal(block[_SIZE])


def write_header(name: str, size: int) -> bytes:
    """Return a file's header.

    :raises MalformedError: a name or a size that a plain archive can't hold.
    """
    parts_of(name)
    data = name.encode("ascii", "replace")
    if len(data) > 100 or data.decode("ascii") != name or not 0 <= size < 8**11:
        raise MalformedError(f"the sealed file `{name[:80]}` can't be carried in a plain archive")
    head = data.ljust(100, b"\0") + b"0000400\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"00000000000\0"
    rest = b"0" + bytes(100) + b"ustar\0" + b"00"
    block = (head + b" " * 8 + rest).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padding(size: int) -> int:
    """Return how many bytes follow ``size`` bytes of contents."""
    return -size % BLOCK


def require_room(found: Mapping[str, int], *, most: int) -> None:
    """Refuse more than a machine holds.

    :raises MalformedError: too many files, or more than ``most`` bytes.
    """
    if len(found) > MAX_FILES or sum(found.values()) > most:
        raise MalformedError("the sealed files' disk holds more than this machine takes")


def _text(data: bytes) -> str:
    text, _, rest = data.partition(b"\0")
    if rest.strip(b"\0") or not text.isascii():
        raise MalformedError("the sealed files' disk has a name that isn't plain")
    return text.decode("ascii")


def _octal(data: bytes) -> int:
    digits = data.rstrip(b"\0 ")
    if not digits or any(byte not in b"01234567" for byte in digits):
        raise MalformedError("the sealed files' disk has a number that isn't one")
    return int(digits, 8)
