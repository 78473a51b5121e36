"""What is wanted of a TPM 2.0 quote. A key that nobody vouches for, and SHA-1, are refused without a rule for them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from strongroom.attestation.policies.allowed import ANYTHING, Allowed
from strongroom.attestation.policies.revocation_rule import RevocationRule
from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

Choice = TypeVar("Choice", bound=StrEnum)

_VERSION: Final = re.compile(r"[0-9a-f]{16}")


class Bank(StrEnum):
    """Banks of PCRs that can be believed."""

    SHA256 = "sha256"
    SHA384 = "sha384"
    SHA512 = "sha512"


class Voucher(StrEnum):
    """Who says that the attestation key lives in a TPM."""

    ENROLMENT = "enrolment"
    """The keeper's signed record: the TPM proved it, under its maker's certificate."""
    CERTIFICATE = "certificate"
    """A certificate of the attestation key, from a pinned root."""


class LogRule(StrEnum):
    """Which log must account for the quoted PCRs. A log that comes along and doesn't replay is refused either way."""

    FIRMWARE = "firmware"
    """The firmware's log, with PCR 0 to 7 all quoted."""
    LAUNCH_OR_FIRMWARE = "launch-or-firmware"
    """The launcher's log, or the firmware's as above."""
    WHEN_PRESENT = "when-present"
    """None: the quoted values are compared with reference values, and that is enough."""


class SecureBootRule(StrEnum):
    """What the firmware's log must prove of UEFI Secure Boot."""

    REQUIRED = "required"
    """That it was on."""
    WHEN_LOGGED = "when-logged"
    """That it was on, if a firmware log came along."""
    ANY = "any"
    """Nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tpm2Policy:
    """Rules for TPM quotes. PCR values and launch measurements are compared with reference values, not here."""

    clock_must_be_safe: bool
    """The TPM's clock must not have gone back since its last orderly shutdown."""
    banks: tuple[Bank, ...]
    """The banks that a quote may cover, one at a time."""
    event_log: LogRule
    secure_boot: SecureBootRule
    firmware_versions: Allowed
    """The TPM's own firmware: 16 hex digits each, as the quote states it."""
    ak_vouched_by: tuple[Voucher, ...]
    """Who may vouch for the attestation key."""
    revocation: RevocationRule
    """For certified keys. An enrolled key ends by leaving the register of platforms."""

    @classmethod
    def read(cls, fields: Fields) -> Tpm2Policy:
        """Read the object.

        :raises MalformedError: a field is missing, unknown or out of its range.
        """
        return cls(
            clock_must_be_safe=fields.boolean("clock_must_be_safe"),
            banks=_choices(fields, "banks", Bank),
            event_log=fields.parsed("event_log", LogRule),
            secure_boot=fields.parsed("secure_boot", SecureBootRule),
            firmware_versions=Allowed.read(fields, "firmware_versions", _VERSION),
            ak_vouched_by=_choices(fields, "ak_vouched_by", Voucher),
            revocation=fields.parsed("revocation", RevocationRule),
        )

    def to_json(self) -> dict[str, Json]:
        """Return the object."""
        return {
            "clock_must_be_safe": self.clock_must_be_safe,
            "banks": [bank.value for bank in self.banks],
            "event_log": self.event_log.value,
            "secure_boot": self.secure_boot.value,
            "firmware_versions": self.firmware_versions.to_json(),
            "ak_vouched_by": [voucher.value for voucher in self.ak_vouched_by],
            "revocation": self.revocation.value,
        }

    @classmethod
    def strictest(cls) -> Tpm2Policy:
        """Return the tightest rules that Strongroom's own attester meets: it quotes its launch, and no firmware log.

        TPM makers publish no list of good firmware, so any version is taken until a deployment lists its own.
        """
        return cls(
            clock_must_be_safe=True,
            banks=(Bank.SHA256, Bank.SHA384),
            event_log=LogRule.LAUNCH_OR_FIRMWARE,
            secure_boot=SecureBootRule.WHEN_LOGGED,
            firmware_versions=ANYTHING,
            ak_vouched_by=(Voucher.ENROLMENT,),
            revocation=RevocationRule.REQUIRED,
        )


def _choices(fields: Fields, name: str, kind: type[Choice]) -> tuple[Choice, ...]:
    texts = fields.texts(name, most=len(kind))
    found = tuple(one for one in kind if one.value in texts)
    if len(found) != len(texts):
        raise MalformedError(f"`{fields.where}.{name}` must name each of {', '.join(kind)} at most once")
    return found
