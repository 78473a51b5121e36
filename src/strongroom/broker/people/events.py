"""What a verified security event token (RFC 8417) says about whom. Pure.

Events of CAEP 1.0, RISC 1.0 and RFC 9967 that lower somebody's standing lead to a suspension. Events that raise it, and
those that we don't know, are taken and lead to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError
from strongroom.personnel.lifecycle import SuspensionCause

MAX_EVENTS: Final = 8
MAX_SUBJECT: Final = 1024
MAX_ALIASES: Final = 8
_CAEP: Final = "https://schemas.openid.net/secevent/caep/event-type/"
_RISC: Final = "https://schemas.openid.net/secevent/risc/event-type/"
_SCIM: Final = "urn:ietf:params:scim:event:prov:"

Event = Mapping[str, Json]


class EventKind(StrEnum):
    """The events that can lower, by the names that settings use."""

    SESSION_REVOKED = "session-revoked"
    CREDENTIAL_CHANGE = "credential-change"
    ASSURANCE_LEVEL_CHANGE = "assurance-level-change"
    DEVICE_COMPLIANCE_CHANGE = "device-compliance-change"
    RISK_LEVEL_CHANGE = "risk-level-change"
    ACCOUNT_DISABLED = "account-disabled"
    ACCOUNT_PURGED = "account-purged"
    CREDENTIAL_COMPROMISE = "credential-compromise"
    SESSIONS_REVOKED = "sessions-revoked"
    SCIM_DEACTIVATE = "scim-deactivate"
    SCIM_DELETE = "scim-delete"


class SubjectName(StrEnum):
    """How a subject is told: what its value is compared with."""

    EMAIL = "email"
    ISSUED = "issued"
    """An issuer's own identifier of the user."""
    RECORD = "record"
    """A SCIM resource's id at this server."""
    EXTERNAL_ID = "external-id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One way to tell who is meant (RFC 9493). ``issuer`` is None where the format has none."""

    name: SubjectName
    value: str
    issuer: str | None = None

    def __repr__(self) -> str:
        return f"<Subject {self.name.value}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One event that lowers: why, and by what names its subject goes, any of which may fit."""

    kind: EventKind
    cause: SuspensionCause
    subjects: tuple[Subject, ...]


def signals(claims: Event) -> tuple[Signal, ...]:
    """Return what a token's claims ask for. The claims are those of a token whose signature was verified.

    :raises MalformedError: there is no event, or too many, or one that lowers names its subject in no known format.
    """
    events = claims.get("events")
    if not isinstance(events, dict) or not 0 < len(events) <= MAX_EVENTS:
        raise MalformedError(f"`events` must be an object with 1 to {MAX_EVENTS} members")
    found = []
    for uri, event in events.items():
        if not isinstance(event, dict):
            raise MalformedError("an event must be a JSON object")
        known = _EVENTS.get(uri)
        cause = known[1](event) if known else None
        if known and cause:
            found.append(Signal(kind=known[0], cause=cause, subjects=_subjects(claims.get("sub_id"))))
    return tuple(found)


# --- which events lower -----------------------------------------------------------------------------------------------


def _always(cause: SuspensionCause) -> Callable[[Event], SuspensionCause | None]:
    return lambda _event: cause


def _credential(event: Event) -> SuspensionCause | None:
    # A new or renewed credential takes nothing away; any other word, a later version's too, is taken for the worst.
    return None if event.get("change_type") in ("create", "update") else SuspensionCause.CREDENTIAL_CHANGED


def _assurance(event: Event) -> SuspensionCause | None:
    return None if event.get("change_direction") == "increase" else SuspensionCause.ASSURANCE_LOWERED


def _device(event: Event) -> SuspensionCause | None:
    return None if event.get("current_status") == "compliant" else SuspensionCause.DEVICE_NOT_COMPLIANT


def _risk(event: Event) -> SuspensionCause | None:
    return None if event.get("current_level") in ("LOW", "MEDIUM") else SuspensionCause.RISK_RAISED


_EVENTS: Final[Mapping[str, tuple[EventKind, Callable[[Event], SuspensionCause | None]]]] = MappingProxyType(
    {
        f"{_CAEP}session-revoked": (EventKind.SESSION_REVOKED, _always(SuspensionCause.SESSION_REVOKED)),
        f"{_CAEP}credential-change": (EventKind.CREDENTIAL_CHANGE, _credential),
        f"{_CAEP}assurance-level-change": (EventKind.ASSURANCE_LEVEL_CHANGE, _assurance),
        f"{_CAEP}device-compliance-change": (EventKind.DEVICE_COMPLIANCE_CHANGE, _device),
        f"{_CAEP}risk-level-change": (EventKind.RISK_LEVEL_CHANGE, _risk),
        f"{_RISC}account-disabled": (EventKind.ACCOUNT_DISABLED, _always(SuspensionCause.DEACTIVATED)),
        f"{_RISC}account-purged": (EventKind.ACCOUNT_PURGED, _always(SuspensionCause.LEFT)),
        f"{_RISC}credential-compromise": (
            EventKind.CREDENTIAL_COMPROMISE,
            _always(SuspensionCause.CREDENTIAL_COMPROMISED),
        ),
        f"{_RISC}sessions-revoked": (EventKind.SESSIONS_REVOKED, _always(SuspensionCause.SESSION_REVOKED)),
        f"{_SCIM}deactivate": (EventKind.SCIM_DEACTIVATE, _always(SuspensionCause.DEACTIVATED)),
        f"{_SCIM}delete": (EventKind.SCIM_DELETE, _always(SuspensionCause.LEFT)),
    }
)


# --- who is meant (RFC 9493) ------------------------------------------------------------------------------------------


def _subjects(value: Json) -> tuple[Subject, ...]:
    if not isinstance(value, dict):
        raise MalformedError("`sub_id` must be a JSON object")
    if value.get("format") == "aliases":
        aliases = value.get("identifiers")
        if not isinstance(aliases, list) or not 0 < len(aliases) <= MAX_ALIASES:
            raise MalformedError(f"`sub_id.identifiers` must be an array of 1 to {MAX_ALIASES} subjects")
        return tuple(subject for alias in aliases for subject in _simple(alias))
    if value.get("format") == "complex":
        # A session or a device has no person of its own: the user beside it is meant.
        return _simple(value.get("user"))
    return _simple(value)


def _simple(value: Json) -> tuple[Subject, ...]:
    if not isinstance(value, dict):
        raise MalformedError("`sub_id` names no user")
    match value.get("format"):
        case "email":
            return (Subject(name=SubjectName.EMAIL, value=_text(value, "email")),)
        case "account":
            account = _text(value, "uri")
            if not account.startswith("acct:"):
                raise MalformedError("`sub_id.uri` must be an `acct:` URI")
            return (Subject(name=SubjectName.EMAIL, value=account.removeprefix("acct:")),)
        case "iss_sub":
            issuer = _text(value, "iss")
            return (Subject(name=SubjectName.ISSUED, value=_text(value, "sub"), issuer=issuer),)
        case "opaque":
            return (Subject(name=SubjectName.ISSUED, value=_text(value, "id")),)
        case "scim":
            return _scim(value)
        case _:
            raise MalformedError("`sub_id.format` isn't one that is known here")


def _scim(value: Event) -> tuple[Subject, ...]:
    found = []
    if "externalId" in value:
        found.append(Subject(name=SubjectName.EXTERNAL_ID, value=_text(value, "externalId")))
    if "uri" in value:
        found.append(Subject(name=SubjectName.RECORD, value=_text(value, "uri").rpartition("/")[2]))
    if not found:
        raise MalformedError("`sub_id` names no user")
    return tuple(found)


def _text(value: Event, name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str) or not 0 < len(text) <= MAX_SUBJECT:
        raise MalformedError(f"`sub_id.{name}` must be a string of at most {MAX_SUBJECT} characters")
    return text
