"""What the guard says to the responder: a JSON object a line. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from strongroom.core.canonical import Json, encode, parse
from strongroom.core.errors import MalformedError
from strongroom.core.fields import reading

MAX_PATH: Final = 4096
MAX_LINE: Final = 2 * 4 * MAX_PATH + 1024
"""Two paths, each letter of four bytes or escaped: whoever names files mustn't make a line too long to be read."""
MAX_FILES: Final = 65536
NOBODY: Final = 2**32 - 1
"""A user id that can't be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Somebody tried to open a guarded file."""

    path: str
    pid: int
    exe: str
    uid: int
    denied: bool
    ticks: int
    """When the guard had answered: nanoseconds of the monotonic clock."""

    def to_line(self) -> bytes:
        """Return the line."""
        told: dict[str, Json] = {
            "path": _plain(self.path),
            "pid": self.pid,
            "exe": _plain(self.exe),
            "uid": self.uid if 0 <= self.uid < NOBODY else NOBODY,
            "denied": self.denied,
            "ticks": self.ticks,
        }
        return encode({"opened": told}) + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """The guard lives, and what it couldn't say or see since it began."""

    untold: int
    """Openings that were answered and, being too many, not told one by one."""
    lost: int
    """Openings that the kernel's queue had no room for: neither seen nor stopped."""

    def to_line(self) -> bytes:
        """Return the line."""
        return encode({"beat": {"untold": self.untold, "lost": self.lost}}) + b"\n"

    @classmethod
    def none(cls) -> Self:
        """Return the beat of a guard that just began."""
        return cls(untold=0, lost=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """A decoy doesn't lie where it lay, or isn't what it was."""

    path: str

    def to_line(self) -> bytes:
        """Return the line."""
        return encode({"gone": {"path": _plain(self.path)}}) + b"\n"


def read_line(line: bytes) -> Opened | Beat | Gone:
    """Read a line.

    :raises MalformedError: another form.
    """
    with reading(parse(line, max_bytes=MAX_LINE), "guard") as fields:
        if fields.optional("beat"):
            with fields.child("beat") as beat:
                return Beat(untold=beat.integer("untold"), lost=beat.integer("lost"))
        if fields.optional("gone"):
            with fields.child("gone") as gone:
                return Gone(path=gone.text("path", max_length=MAX_PATH))
        with fields.child("opened") as opened:
            return Opened(
                path=opened.text("path", max_length=MAX_PATH),
                pid=opened.integer("pid"),
                exe=opened.text("exe", max_length=MAX_PATH),
                uid=opened.integer("uid", most=NOBODY),
                denied=opened.boolean("denied"),
                ticks=opened.integer("ticks"),
            )


def read_paths(data: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read what the responder tells the guard at its start: the decoys' paths, and those that are only watched.

    :raises MalformedError: another form.
    """
    with reading(parse(data, max_bytes=64 << 20), "guard") as fields:
        decoys = fields.texts("decoys", most=MAX_FILES, max_length=MAX_PATH)
        watched = fields.texts("watched", most=MAX_FILES, max_length=MAX_PATH)
    if not decoys and not watched:
        raise MalformedError("the guard has nothing to guard")
    return decoys, watched


def _plain(text: str) -> str:
    # A file's name is bytes that an attacker chose: with a control character in it, or half a letter, the line would
    # be refused, and the guard taken for one that isn't ours.
    return "".join(letter if letter.isprintable() else "?" for letter in text[:MAX_PATH])
