"""What is wanted of an AWS Nitro enclave's attestation document. Debug mode is refused without a rule for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from strongroom.attestation.policies.allowed import NOTHING, Allowed
from strongroom.attestation.policies.revocation_rule import RevocationRule
from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

MAX_AGE: Final = 3 * 60 * 60
"""A leaf certificate lives three hours; no document outlives it."""
MAX_SKEW: Final = 300
_LAST_PCR: Final = 31
_REGISTER: Final = re.compile(r"[0-9a-f]{96}")
_INSTANCE: Final = re.compile(r"i-[0-9a-f]{8,32}")
_STRICT_AGE: Final = 300
_STRICT_SKEW: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class NitroPolicy:
    """Rules for attestation documents. PCR0, PCR1 and PCR2 are the image's and are compared with reference values."""

    max_age: int
    """Seconds from the document's timestamp to the appraisal, 1 to 10,800."""
    max_skew: int
    """Seconds that the document may lie in the future, because two clocks differ; 0 to 300."""
    locked_pcrs: tuple[int, ...]
    """PCRs besides 0, 1 and 2 that must be there and not zero: 3 to 31, each once, in order."""
    pcr3: Allowed
    """SHA-384 of the parent instance's IAM role, as AWS extends it: 96 hex digits each."""
    pcr4: Allowed
    """The same for the parent instance's id."""
    pcr8: Allowed
    """The same for the certificate that signed the enclave image."""
    instances: Allowed
    """EC2 instance ids (``i-0123456789abcdef0``)."""
    revocation: RevocationRule
    """AWS's own procedure checks no lists; its regional and zonal certificates name some all the same."""

    @classmethod
    def read(cls, fields: Fields) -> NitroPolicy:
        """Read the object.

        :raises MalformedError: a field is missing, of another type or out of its range.
        """
        return cls(
            max_age=fields.integer("max_age", least=1, most=MAX_AGE),
            max_skew=fields.integer("max_skew", most=MAX_SKEW),
            locked_pcrs=_numbers(fields, "locked_pcrs"),
            pcr3=Allowed.read(fields, "pcr3", _REGISTER),
            pcr4=Allowed.read(fields, "pcr4", _REGISTER),
            pcr8=Allowed.read(fields, "pcr8", _REGISTER),
            instances=Allowed.read(fields, "instances", _INSTANCE),
            revocation=fields.parsed("revocation", RevocationRule),
        )

    def to_json(self) -> dict[str, Json]:
        """Return the object."""
        return {
            "max_age": self.max_age,
            "max_skew": self.max_skew,
            "locked_pcrs": list(self.locked_pcrs),
            "pcr3": self.pcr3.to_json(),
            "pcr4": self.pcr4.to_json(),
            "pcr8": self.pcr8.to_json(),
            "instances": self.instances.to_json(),
            "revocation": self.revocation.value,
        }

    @classmethod
    def strictest(cls) -> NitroPolicy:
        """Return the tightest rules: role, instance and image signer must each be listed, and none is yet.

        Lists aren't required: AWS asks for chains to be checked without them (section 3.2.4), and promises none.
        """
        return cls(
            max_age=_STRICT_AGE,
            max_skew=_STRICT_SKEW,
            locked_pcrs=(3, 4, 8),
            pcr3=NOTHING,
            pcr4=NOTHING,
            pcr8=NOTHING,
            instances=NOTHING,
            revocation=RevocationRule.WHEN_PRESENT,
        )


def _numbers(fields: Fields, name: str) -> tuple[int, ...]:
    found = []
    for where, number in fields.items(name, most=_LAST_PCR):
        if not isinstance(number, int) or isinstance(number, bool) or not 3 <= number <= _LAST_PCR:
            raise MalformedError(f"`{where}` must be a PCR's number, 3 to {_LAST_PCR}")
        found.append(number)
    if found != sorted(set(found)):
        raise MalformedError(f"`{fields.where}.{name}` must name each PCR once, in order")
    return tuple(found)
