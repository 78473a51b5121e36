"""Canary values: what the model answered when it was sealed, to be compared after it is opened, before it serves.

Confidential-computing modes have served garbage without an error; a model that was exchanged or damaged in memory shows
here too. They lie in the sealed index, since questions and answers tell something of the model, and are as good as
signed.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.core.canonical import Json, encode, parse
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.sealing.errors import CanaryMismatchError

MAX_CANARIES: Final = 32
MAX_CANARY_FILE: Final = 4 << 20
MAX_TOKENS: Final = 4096
MAX_TOLERANCE: Final = 1_000_000


class CanaryKind(StrEnum):
    """What is compared."""

    TOKENS = "tokens"
    """Token ids, exactly: greedy decoding from the input."""
    VECTOR = "vector"
    """A vector, by its cosine distance: an embedding, or logits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """One question and its answer. ``output`` is token ids; ``vector`` is little-endian float32."""

    name: str
    kind: CanaryKind
    input: tuple[int, ...]
    """Token ids."""
    output: tuple[int, ...] = ()
    vector: bytes = b""
    tolerance: int = 0
    """Largest cosine distance, in millionths."""

    @classmethod
    def of_vector(cls, name: str, given: Sequence[int], vector: Sequence[float], *, tolerance: int) -> Canary:
        """Make a canary of a vector.

        :raises MalformedError: a vector or a tolerance that compares nothing.
        """
        packed = struct.pack(f"<{len(vector)}f", *vector)
        return _checked(cls(name=name, kind=CanaryKind.VECTOR, input=tuple(given), vector=packed, tolerance=tolerance))

    @classmethod
    def of_tokens(cls, name: str, given: Sequence[int], output: Sequence[int]) -> Canary:
        """Make a canary of token ids.

        :raises MalformedError: no output.
        """
        return _checked(cls(name=name, kind=CanaryKind.TOKENS, input=tuple(given), output=tuple(output)))

    @classmethod
    def read(cls, fields: Fields) -> Canary:
        """Read the JSON form.

        :raises MalformedError: another form.
        """
        kind = fields.parsed("kind", _kind)
        canary = cls(
            name=fields.text("name", max_length=64),
            kind=kind,
            input=_ids(fields, "input"),
            output=_ids(fields, "output") if kind is CanaryKind.TOKENS else (),
            vector=fields.binary("vector", max_length=4 * MAX_TOKENS) if kind is CanaryKind.VECTOR else b"",
            tolerance=fields.integer("tolerance", most=MAX_TOLERANCE) if kind is CanaryKind.VECTOR else 0,
        )
        return _checked(canary)

    def to_json(self) -> Json:
        """Return the JSON form."""
        common: dict[str, Json] = {"name": self.name, "kind": self.kind.value, "input": [*self.input]}
        if self.kind is CanaryKind.TOKENS:
            return {**common, "output": [*self.output]}
        return {**common, "vector": to_base64(self.vector), "tolerance": self.tolerance}

    def check_tokens(self, found: Sequence[int]) -> None:
        """Compare token ids.

        :raises CanaryMismatchError: they differ, or this canary is of another kind.
        """
        if self.kind is not CanaryKind.TOKENS or tuple(found) != self.output:
            raise CanaryMismatchError(f"canary `{ascii(self.name)[1:-1]}`: the model doesn't answer as when sealed")

    def check_vector(self, found: Sequence[float]) -> None:
        """Compare a vector by its cosine distance.

        :raises CanaryMismatchError: it is farther away than the tolerance, has another length or isn't finite, or this
            canary is of another kind.
        """
        wanted = struct.unpack(f"<{len(self.vector) // 4}f", self.vector)
        distance = math.inf
        if self.kind is CanaryKind.VECTOR and len(found) == len(wanted) and all(map(math.isfinite, found)):
            lengths = math.hypot(*found) * math.hypot(*wanted)
            with suppress(OverflowError):  # far beyond any model's values: infinitely far away
                product = math.fsum(a * b for a, b in zip(found, wanted, strict=True))
                distance = 1 - product / lengths if lengths else math.inf
        # A NaN compares false with everything: it must not pass.
        if not distance <= self.tolerance / 1_000_000 + 1e-9:
            raise CanaryMismatchError(f"canary `{ascii(self.name)[1:-1]}`: the model doesn't answer as when sealed")


def canaries_to_bytes(canaries: Sequence[Canary]) -> bytes:
    """Return canaries as a file, ``{"canaries": [...]}``."""
    told: list[Json] = [canary.to_json() for canary in canaries]
    return encode({"canaries": told})


def read_canaries(data: bytes) -> tuple[Canary, ...]:
    """Read what :func:`canaries_to_bytes` wrote, or a publisher by hand.

    :raises MalformedError: another form.
    """
    with Fields(parse(data, max_bytes=MAX_CANARY_FILE), "canaries") as fields:
        return fields.objects("canaries", Canary.read, most=MAX_CANARIES)


def _kind(text: str) -> CanaryKind:
    try:
        return CanaryKind(text)
    except ValueError:
        raise MalformedError("a canary is of kind `tokens` or `vector`") from None


def _ids(fields: Fields, name: str) -> tuple[int, ...]:
    found = tuple(value for _where, value in fields.items(name, most=MAX_TOKENS))
    ids = tuple(one for one in found if isinstance(one, int) and not isinstance(one, bool) and 0 <= one < 2**31)
    if len(ids) != len(found):
        raise MalformedError(f"`{fields.where}.{name}` must be token ids")
    return ids


def _checked(canary: Canary) -> Canary:
    vector = struct.unpack(f"<{len(canary.vector) // 4}f", canary.vector) if len(canary.vector) % 4 == 0 else ()
    answers = len(canary.output) if canary.kind is CanaryKind.TOKENS else len(vector)
    if not canary.name or not answers or answers > MAX_TOKENS or len(canary.input) > MAX_TOKENS:
        raise MalformedError(f"a canary has a name, and an answer of 1 to {MAX_TOKENS} values")
    if not all(map(math.isfinite, vector)) or (vector and not any(vector)):
        raise MalformedError("a canary's vector is finite and not zero")
    return canary
