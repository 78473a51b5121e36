"""What one piece of evidence must commit to, and the proof that it was compared.

A verifier gets a binding, takes the bytes that the evidence holds in each slot, and asks :meth:`ItemBinding.bound`.
Only that makes a :class:`Bound`, and no :class:`~strongroom.attestation.verifier.Genuine` can be built without one: a
verifier that forgets the nonce can't be written.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from strongroom.attestation.errors import EvidenceReplayedError
from strongroom.core.errors import UsageError


class Slot(StrEnum):
    """Where evidence can hold bytes that the relying party chose."""

    REPORT_DATA = "report-data"
    """64 bytes: SEV-SNP REPORT_DATA, TDX and SGX REPORTDATA."""
    QUALIFYING_DATA = "qualifying-data"
    """TPM 2.0 quote's ``extraData``, at most 64 bytes."""
    NONCE = "nonce"
    """Nitro ``nonce``; the 32 bytes of an NVIDIA SPDM request."""
    USER_DATA = "user-data"
    """Nitro ``user_data``."""


_MADE_HERE: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Proof that a binding was looked at; only a binding makes one.

    ``fresh`` says that the bytes were compared with what the relying party asked for. Recorded evidence, judged without
    its challenge, is never fresh and never wanted.
    """

    fresh: bool
    seen: Mapping[Slot, bytes]
    made_by: object

    def __post_init__(self) -> None:
        if self.made_by is not _MADE_HERE:
            raise UsageError("only a binding says that evidence is bound")


class ItemBinding(Protocol):
    """What one piece of evidence must commit to."""

    def bound(self, seen: Mapping[Slot, bytes]) -> Bound:
        """Compare what the evidence holds, slot by slot.

        :raises EvidenceReplayedError: a slot holds other bytes, or lacks any.
        :raises UsageError: the binding has no bytes for this kind of evidence.
        """
        ...


@dataclass(frozen=True, slots=True)
class ExpectedBinding:
    """The bytes that each slot must hold; what isn't listed isn't asked for, and at least one slot must be.

    :raises UsageError: no slot at all, or an empty one.
    """

    values: Mapping[Slot, bytes]

    def __post_init__(self) -> None:
        if not self.values or not all(self.values.values()):
            raise UsageError("a binding without bytes would accept every old piece of evidence")

    def bound(self, seen: Mapping[Slot, bytes]) -> Bound:
        """Compare in constant time; see :class:`ItemBinding`."""
        wanted = {slot: value for slot, value in self.values.items() if slot in seen}
        if not wanted:
            raise UsageError(
                f"the binding has nothing for {', '.join(f'`{slot}`' for slot in seen) or 'this evidence'}",
                remedy="give the bytes that this kind of evidence commits to",
            )
        for slot, value in wanted.items():
            # Never padded or cut to fit: bytes that were made to match prove nothing.
            if not hmac.compare_digest(seen[slot], value):
                raise EvidenceReplayedError(
                    f"the evidence's `{slot}` was made for another challenge, request, model or recipient key",
                    seen=seen[slot].hex() or "nothing",
                    wanted=value.hex(),
                    remedy="ask for a new challenge and collect evidence again",
                )
        return Bound(fresh=True, seen=dict(seen), made_by=_MADE_HERE)


@dataclass(frozen=True, slots=True)
class RecordedBinding:
    """For evidence that was recorded earlier, whose challenge nobody knows any more: reports what it commits to.

    What comes of it can be genuine and never wanted.
    """

    def bound(self, seen: Mapping[Slot, bytes]) -> Bound:
        """Return an unfresh :class:`Bound`."""
        return Bound(fresh=False, seen=dict(seen), made_by=_MADE_HERE)
