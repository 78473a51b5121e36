"""The appraisal policy: which kinds of evidence are taken, and what is wanted of each. Every result has its digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.policies.nvidia import NvidiaDevicesPolicy
from strongroom.attestation.registry import VERIFIERS
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

MAX_POLICY: Final = 128 * 1024
MOST_REATTEST_SECONDS: Final = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class AppraisalPolicy:
    """Rules for each kind that is taken; a kind without rules is refused.

    :raises MalformedError: no kind at all, devices without rules for them together (or the other way round), or a
        period that isn't 60 seconds to an hour.
    """

    kinds: Mapping[EvidenceKind, Any]
    """Each kind's own typed policy (``policies``)."""
    devices: NvidiaDevicesPolicy | None
    """What is wanted of a machine's devices together; None where no device is taken."""
    reattest_seconds: int
    """How old a running enclave's evidence may grow before its lease needs new evidence; at most an hour."""

    def __post_init__(self) -> None:
        if not self.kinds:
            raise MalformedError("an appraisal policy takes at least one kind of evidence")
        if any(kind.is_device for kind in self.kinds) != (self.devices is not None):
            # Judged one by one, eight devices could all be the same one, or seven.
            raise MalformedError("a policy that takes devices has rules for them together, and no other has")
        if not 60 <= self.reattest_seconds <= MOST_REATTEST_SECONDS:
            raise MalformedError(f"`reattest_seconds` is 60 to {MOST_REATTEST_SECONDS}")

    @classmethod
    def read(cls, fields: Fields) -> AppraisalPolicy:
        """Read ``{v, reattest_seconds, devices, kinds: {kind: rules}}``; what isn't taken must say so with null.

        :raises MalformedError: a member is missing, unknown or out of its range.
        """
        fields.constant("v", 1)
        kinds: dict[EvidenceKind, Any] = {}
        with fields.child("kinds") as told:
            for kind in VERIFIERS:
                rules = told.value(kind.value)
                if rules is None:
                    continue
                with Fields(rules, f"{told.where}.{kind.value}") as one:
                    kinds[kind] = VERIFIERS[kind].policy.read(one)
        devices = None
        if (rules := fields.value("devices")) is not None:
            with Fields(rules, f"{fields.where}.devices") as together:
                devices = NvidiaDevicesPolicy.read(together)
        return cls(kinds=kinds, devices=devices, reattest_seconds=fields.integer("reattest_seconds"))

    @classmethod
    def parse(cls, data: bytes) -> AppraisalPolicy:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(data, max_bytes=MAX_POLICY), "policy") as fields:
            return cls.read(fields)

    def to_json(self) -> Json:
        """Return the object; kinds that aren't taken stand there with null."""
        return {
            "v": 1,
            "reattest_seconds": self.reattest_seconds,
            "devices": self.devices.to_json() if self.devices else None,
            "kinds": {kind.value: self.kinds[kind].to_json() if kind in self.kinds else None for kind in VERIFIERS},
        }

    @property
    def digest(self) -> Digest:
        """How results name this policy."""
        return Digest.of(encode(self.to_json()))

    @staticmethod
    def names(kind: EvidenceKind) -> tuple[frozenset[str], frozenset[str]]:
        """Return the measurements that an image must and may list for a kind."""
        verifier = VERIFIERS[kind]
        return verifier.reference_names, verifier.optional_names

    @classmethod
    def strictest(cls, *kinds: EvidenceKind) -> AppraisalPolicy:
        """Return the tightest policy for these kinds: where a new one starts."""
        return cls(
            kinds={kind: VERIFIERS[kind].policy.strictest() for kind in kinds},
            devices=NvidiaDevicesPolicy.strictest() if any(kind.is_device for kind in kinds) else None,
            reattest_seconds=MOST_REATTEST_SECONDS,
        )
