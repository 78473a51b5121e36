"""Proof of possession: whoever has a copy's bytes can say a code over stretches of them that nobody foresaw.

A challenge names a nonce; the nonce names 64 stretches of 64 KiB, anywhere in the copy. The answer is an HMAC-SHA-256
under the nonce over the copy's list of files and those stretches, and whoever has the same bytes compares. A copy of
which a share f is gone answers rightly with a chance of (1 - f)^64, so 5 % lost is noticed 26 times in 27.
(Ateniese et al., Provable Data Possession at Untrusted Stores, CCS 2007, section 5.)

It proves that the one who answered could read those bytes, then. Not that they lie where the register says, nor that
there is no other copy.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.errors import DeniedError, MalformedError, UsageError
from strongroom.core.fields import Fields
from strongroom.intake.source import Source

NONCE_BYTES: Final = 32
STRETCHES: Final = 64
STRETCH: Final = 64 * 1024
MAX_FILE: Final = 4096
CHALLENGE_SECONDS: Final = 3600
_PLACE_BYTES: Final = 16


class PossessionError(DeniedError):
    """An answer doesn't prove that the copy is there."""

    code = "possession-unproved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What is asked of whoever holds a copy."""

    copy: str
    nonce: bytes
    until: Instant

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the object.

        :raises MalformedError: another form.
        """
        made = cls(
            copy=fields.parsed("copy", copy_id),
            nonce=fields.binary("nonce", max_length=NONCE_BYTES),
            until=fields.instant("until"),
        )
        if len(made.nonce) != NONCE_BYTES:
            raise MalformedError(f"a challenge's nonce has {NONCE_BYTES} bytes")
        return made

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(data, max_bytes=MAX_FILE), "challenge") as fields:
            fields.constant("v", 1)
            return cls.read(fields)

    def members(self) -> dict[str, Json]:
        """Return what :meth:`read` reads."""
        return {"copy": self.copy, "nonce": to_base64(self.nonce), "until": format_instant(self.until)}

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode({"v": 1, **self.members()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the holder says."""

    copy: str
    nonce: bytes
    code: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(data, max_bytes=MAX_FILE), "answer") as fields:
            fields.constant("v", 1)
            return cls(
                copy=fields.parsed("copy", copy_id),
                nonce=fields.binary("nonce", max_length=NONCE_BYTES),
                code=fields.binary("code", max_length=32),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode({"v": 1, "copy": self.copy, "nonce": to_base64(self.nonce), "code": to_base64(self.code)})


def copy_id(text: str) -> str:
    """Check and return a copy's id: 32 hex characters.

    :raises MalformedError: another form.
    """
    if len(text) != 32 or set(text) - set("0123456789abcdef"):
        raise MalformedError("a copy's id has 32 hex characters")
    return text


def files_digest(sources: Mapping[str, Source]) -> Digest:
    """Return the digest of a copy's list of files: names and sizes. It names no content.

    :raises UsageError: no files, or none with a byte.
    """
    if not sum(source.size for source in sources.values()):
        raise UsageError("a copy has at least one byte")
    files: list[Json] = [[name, source.size] for name, source in sorted(sources.items())]
    return Digest.of(encode(files))


def answer(challenge: Challenge, sources: Mapping[str, Source]) -> Answer:
    """Answer a challenge from a copy's files.

    :raises UsageError: no files. :raises IntakeRefusedError: a file shrank while it was read.
    """
    code = hmac.new(challenge.nonce, b"strongroom possession v1\0" + challenge.copy.encode(), hashlib.sha256)
    code.update(str(files_digest(sources)).encode())
    ordered = [source for _name, source in sorted(sources.items())]
    total = sum(source.size for source in ordered)
    draws = hashlib.shake_256(b"strongroom stretches v1\0" + challenge.nonce).digest(STRETCHES * _PLACE_BYTES)
    for draw in range(0, len(draws), _PLACE_BYTES):
        # 128 bits over at most 2^60 places: the remainder is even enough.
        begin = int.from_bytes(draws[draw : draw + _PLACE_BYTES], "big") % total
        for piece in _stretch(ordered, begin):
            code.update(piece)
    return Answer(copy=challenge.copy, nonce=challenge.nonce, code=code.digest())


def _stretch(ordered: list[Source], begin: int) -> list[bytes]:
    pieces, left = [], STRETCH
    for source in ordered:
        if begin < source.size and left:
            taken = min(left, source.size - begin)
            pieces.append(source.read(begin, taken))
            left -= taken
            begin = 0
        elif begin >= source.size:
            begin -= source.size
    return pieces


def check_answer(given: Answer, challenge: Challenge, reference: Mapping[str, Source], *, now: Instant) -> None:
    """Compare an answer with what the same bytes here say.

    :raises PossessionError: an answer to something else, too late, or of somebody who doesn't have the bytes.
    """
    if (given.copy, given.nonce) != (challenge.copy, challenge.nonce):
        raise PossessionError("the answer is to another challenge", remedy="make one and answer that")
    if now > challenge.until:
        raise PossessionError(
            f"the challenge was good until {format_instant(challenge.until)}", remedy="make another one"
        )
    if not hmac.compare_digest(given.code, answer(challenge, reference).code):
        raise PossessionError(
            "whoever answered doesn't have the bytes that are here",
            remedy="see which of the two copies is damaged; if it is the other, it isn't the copy that was registered",
        )
