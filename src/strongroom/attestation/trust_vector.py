"""The trustworthiness vector of AR4SI (draft-ietf-rats-ar4si, section 2.3): eight aspects, each one signed byte.

The rule, aspect by aspect:

- No claim speaks of it: 0, *none*. Nothing is affirmed by default.
- A claim failed: 96, *contraindicated*.
- All held: 2, *affirming*; of executables 3, since what is measured is what was started, not what runs later.
- The isolation class can make it worse and never better, even where no claim speaks of the aspect:
  ``cvm-weak``       hardware 32 and runtime-opaque 32, *warning*: genuine, with a known weakness that the host can use
  ``measured-host``  runtime-opaque 32: out of reach for other guests, open to the machine's owner
  ``vm-simulated`` and below  hardware 97 and runtime-opaque 96, *contraindicated*: no hardware stands behind it

Evidence that isn't genuine says nothing of its own. Only instance-identity is set: to 96 for a key that its issuer took
back, 97 for a chain that leads to no pinned root, and 99 (cryptographic validation failed) for everything else.
Evidence that was never appraised is all zeroes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from strongroom.attestation.claims import Aspect, Claim
from strongroom.attestation.errors import CertificateRevokedError, ChainRefusedError
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.results import Status, SubmoduleResult
from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

LEAST: Final = -128
MOST: Final = 127


class TrustTier(StrEnum):
    """AR4SI's four tiers, as EAR spells them in JSON; ``worst`` orders them."""

    NONE = "none"
    AFFIRMING = "affirming"
    WARNING = "warning"
    CONTRAINDICATED = "contraindicated"

    @classmethod
    def of(cls, value: int) -> TrustTier:
        """Return the tier of a claim's value: standard values count up from 0, a verifier's own count down.

        :raises MalformedError: not a signed byte.
        """
        if not LEAST <= value <= MOST:
            raise MalformedError(f"a trustworthiness claim is {LEAST} to {MOST}")
        distance = value if value >= 0 else -value
        if distance <= 1:
            return cls.NONE
        own = value < 0  # the verifier's own ranges end one later: -2 to -32, -33 to -96
        if distance < (33 if own else 32):
            return cls.AFFIRMING
        return cls.WARNING if distance < (97 if own else 96) else cls.CONTRAINDICATED

    @classmethod
    def worst(cls, tiers: Iterable[TrustTier]) -> TrustTier:
        """Return the least trusted; ``none`` only where nothing else is."""
        order = list(cls)
        return max(tiers, key=order.index, default=cls.NONE)


_NO_CLAIM: Final = 0
_AFFIRMED: Final = 2
_AFFIRMED_AT_START: Final = 3
_WEAK: Final = 32
_REFUSED: Final = 96
_UNRECOGNISED: Final = 97
_NOT_GENUINE: Final = 99
_SIMULATED: Final = MappingProxyType({Aspect.HARDWARE: _UNRECOGNISED, Aspect.RUNTIME_OPAQUE: _REFUSED})
_AT_BEST: Final[Mapping[IsolationClass, Mapping[Aspect, int]]] = MappingProxyType(
    {
        IsolationClass.NONE: _SIMULATED,
        IsolationClass.PROCESS: _SIMULATED,
        IsolationClass.VM_SIMULATED: _SIMULATED,
        IsolationClass.MEASURED_HOST: {Aspect.RUNTIME_OPAQUE: _WEAK},
        IsolationClass.CVM_WEAK: {Aspect.HARDWARE: _WEAK, Aspect.RUNTIME_OPAQUE: _WEAK},
        IsolationClass.CVM: {},
        IsolationClass.CVM_GPU: {},
        IsolationClass.CVM_GPU_CUSTODY: {},
    }
)
_FAILED_CODES: Final = MappingProxyType({CertificateRevokedError.code: _REFUSED, ChainRefusedError.code: _UNRECOGNISED})


@dataclass(frozen=True, slots=True)
class TrustVector:
    """One value for each aspect.

    :raises MalformedError: an aspect is missing, or a value isn't a signed byte.
    """

    values: Mapping[Aspect, int]

    def __post_init__(self) -> None:
        if set(self.values) != set(Aspect):
            raise MalformedError("a trustworthiness vector has a value for each of its eight aspects")
        for value in self.values.values():
            TrustTier.of(value)

    @property
    def tier(self) -> TrustTier:
        """The worst aspect's tier."""
        return TrustTier.worst(map(TrustTier.of, self.values.values()))

    @classmethod
    def read(cls, fields: Fields) -> TrustVector:
        """Read ``{aspect: value}``; an aspect that is left out is 0, as AR4SI says.

        :raises MalformedError: an unknown aspect, or a value that isn't a signed byte.
        """
        names = {aspect.value for aspect in Aspect}
        present = fields.names(most=len(names))
        if unknown := sorted(set(present) - names):
            raise MalformedError(f"`{fields.where}` has an aspect that AR4SI doesn't know: `{unknown[0]}`")
        return cls(
            {
                aspect: fields.integer(aspect.value, least=LEAST, most=MOST) if aspect.value in present else _NO_CLAIM
                for aspect in Aspect
            }
        )

    def to_json(self) -> dict[str, Json]:
        """Return ``{aspect: value}``, all eight."""
        return {aspect.value: value for aspect, value in self.values.items()}


def trust_vector(result: SubmoduleResult, more: Iterable[Claim] = ()) -> TrustVector:
    """Return one statement's vector. ``more`` are claims about the whole platform, for its own statement."""
    values = dict.fromkeys(Aspect, _NO_CLAIM)
    if result.status is Status.ERROR:
        if result.claims:
            values[Aspect.INSTANCE_IDENTITY] = _FAILED_CODES.get(result.reason, _NOT_GENUINE)
        return TrustVector(values)
    for claim in (*result.claims, *more):
        values[claim.aspect] = max(values[claim.aspect], _value(claim))
    for aspect, value in _AT_BEST[result.isolation].items():
        values[aspect] = max(values[aspect], value)
    return TrustVector(values)


def tier(result: SubmoduleResult, vector: TrustVector) -> TrustTier:
    """Return one statement's status: its worst aspect, and never affirming unless it is wanted."""
    found = vector.tier
    if result.status is not Status.WANTED and found is TrustTier.AFFIRMING:
        return TrustTier.CONTRAINDICATED
    return found


def _value(claim: Claim) -> int:
    if not claim.ok:
        return _REFUSED
    return _AFFIRMED_AT_START if claim.aspect is Aspect.EXECUTABLES else _AFFIRMED
