"""Vetting records (SL2-PFM-01, SL3-PFM-01, SL4-PFM-01): outcomes, never findings. Two officers sign each one.

A record lapses by itself: nothing has to happen for a clearance to end. A newer one replaces it by its serial number,
and only a newer one can bring back somebody who was suspended. The record's salt makes its digest in the log a
commitment that says nothing once the record is erased.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import payload_type
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId, person_id
from strongroom.personnel.lifecycle import Employment

VETTING_TYPE: Final = payload_type("vetting.v1")
OFFICER: Final = "vetting-officer"
OFFICERS: Final = 2
MAX_TIER: Final = 5
MAX_TRAINING: Final = 32
MAX_RECORD: Final = 16384
SALT_BYTES: Final = 16
RESCREEN_SECONDS: Final = 180 * 86400
"""Who can copy weights is screened again at least every six months (RAND's SL3)."""
_CODE: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?")
_REFERENCE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """A course that was passed, and when that stops to count."""

    course: str
    expires: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Nda:
    """The agreement that was signed: its version, and when."""

    version: str
    signed_on: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class VettingRecord:
    """What two officers say of one person. References are opaque: what they point at is kept elsewhere, if at all."""

    genesis: Digest
    person: PersonId
    serial: int
    scheme: str
    """By whose rules, e.g. ``internal``, ``bpss``, ``sc``."""
    tier: int
    adjudicated_on: Instant
    expires_on: Instant
    rescreen_due: Instant
    employment: Employment
    training: tuple[Training, ...] = ()
    nda: Nda | None = None
    conflict: str | None = None
    """An opaque reference while a conflict of interest is open; None when there is none."""
    case: str = ""
    salt: bytes

    @classmethod
    def parse(cls, payload: bytes) -> VettingRecord:
        """Read canonical bytes.

        :raises MalformedError: another form, or times that contradict each other.
        """
        with Fields(decode(payload, max_bytes=MAX_RECORD), "vetting") as fields:
            fields.constant("v", 1)
            record = cls(
                genesis=fields.digest("genesis"),
                person=fields.parsed("person", person_id),
                serial=fields.integer("serial", least=1),
                scheme=fields.parsed("scheme", _code),
                tier=fields.integer("tier", most=MAX_TIER),
                adjudicated_on=fields.instant("adjudicated_on"),
                expires_on=fields.instant("expires_on"),
                rescreen_due=fields.instant("rescreen_due"),
                employment=fields.parsed("employment", Employment),
                training=fields.objects(
                    "training",
                    lambda f: Training(course=f.parsed("course", _code), expires=f.instant("expires")),
                    most=MAX_TRAINING,
                ),
                nda=_nda(fields.child("nda")) if fields.optional("nda") else None,
                conflict=fields.parsed("conflict", _reference) if fields.optional("conflict") else None,
                case=fields.parsed("case", lambda text: _reference(text) if text else ""),
                salt=fields.binary("salt", max_length=SALT_BYTES),
            )
        record._check()
        return record

    def _check(self) -> None:
        if len(self.salt) != SALT_BYTES:
            raise MalformedError(f"`vetting.salt` must have {SALT_BYTES} bytes")
        if not self.adjudicated_on < self.expires_on or not self.adjudicated_on < self.rescreen_due:
            raise MalformedError("a vetting record expires, and is due again, after it was adjudicated")
        courses = [training.course for training in self.training]
        if len(set(courses)) != len(courses):
            raise MalformedError("the vetting record lists a course twice")

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that the officers sign."""
        body: Json = {
            "v": 1,
            "genesis": str(self.genesis),
            "person": self.person,
            "serial": self.serial,
            "scheme": self.scheme,
            "tier": self.tier,
            "adjudicated_on": format_instant(self.adjudicated_on),
            "expires_on": format_instant(self.expires_on),
            "rescreen_due": format_instant(self.rescreen_due),
            "employment": self.employment.value,
            "training": [{"course": one.course, "expires": format_instant(one.expires)} for one in self.training],
            "nda": {"version": self.nda.version, "signed_on": format_instant(self.nda.signed_on)} if self.nda else None,
            "conflict": self.conflict,
            "case": self.case,
            "salt": to_base64(self.salt),
        }
        return encode(body)

    @property
    def cleared_until(self) -> Instant:
        """When this record stops to count: at its expiry or when the next screening is due, whichever comes first."""
        return min(self.expires_on, self.rescreen_due)

    @property
    def copy_until(self) -> Instant:
        """Until when it clears somebody to copy weights: at most 180 days after the screening."""
        return min(self.cleared_until, self.adjudicated_on + RESCREEN_SECONDS)

    def courses(self, at: Instant) -> frozenset[str]:
        """Return the courses that still count at ``at``."""
        return frozenset(training.course for training in self.training if at < training.expires)


def _nda(fields: Fields) -> Nda:
    with fields:
        return Nda(version=fields.parsed("version", _code), signed_on=fields.instant("signed_on"))


def _code(text: str) -> str:
    if not _CODE.fullmatch(text):
        raise MalformedError("a code is 1 to 48 characters of a-z, 0-9 and `-`")
    return text


def _reference(text: str) -> str:
    if not _REFERENCE.fullmatch(text):
        raise MalformedError("a reference is 1 to 64 characters of letters, digits and `._/-`, and says nothing itself")
    return text
