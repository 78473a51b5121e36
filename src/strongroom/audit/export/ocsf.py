"""OCSF 1.8.0 (schema.ocsf.io): each entry as an event of the class that fits it, one JSON object a line.

``metadata.uid`` names the entry for good, ``metadata.sequence`` is its index, ``metadata.correlation_uid`` its request,
and whatever OCSF has no place for stands in ``unmapped``. What concerns a model and is an activity on data or an API
carries the ``ai_operation`` profile with its ``ai_model``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from strongroom import __version__
from strongroom.audit.export.record import Body, Record, json_bytes
from strongroom.audit.facts import StoredFact
from strongroom.audit.reading.query import Outcome
from strongroom.core.canonical import Json
from strongroom.core.events import EventName

SCHEMA_VERSION: Final = "1.8.0"
_PRODUCT: Final = "Strongroom"
_SUCCESS: Final = 1
_FAILURE: Final = 2
_OTHER: Final = 99


class OcsfClass(IntEnum):
    """The classes that are used, by ``class_uid``; the category is the first digit."""

    EVENT_LOG_ACTIVITY = 1008
    ACCOUNT_CHANGE = 3001
    AUTHENTICATION = 3002
    ENTITY_MANAGEMENT = 3004
    USER_ACCESS_MANAGEMENT = 3005
    API_ACTIVITY = 6003
    DATASTORE_ACTIVITY = 6005
    FILE_HOSTING_ACTIVITY = 6006


class _Facts:
    """A record's facts as they find their place; what is left over is ``unmapped``."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self._left = {name: value for name, value in record.facts.items() if value is not None}

    def take(self, *names: str) -> str | None:
        """Take the first of these facts that is there, as text."""
        for name in names:
            if name in self._left:
                value = self._left.pop(name)
                return " ".join(value) if isinstance(value, tuple) else str(value)
        return None

    def left(self) -> Mapping[str, StoredFact]:
        """Return what nobody took."""
        return self._left


Fill = Callable[[_Facts], dict[str, Json]]
"""Returns the members that its class has beside those of every event."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """What an event is in OCSF: a class, one of its activities, and how its members are filled."""

    ocsf_class: OcsfClass
    activity: int
    fill: Fill


# --- the parts of classes ---------------------------------------------------------------------------------------------


def _user(uid: str | None) -> dict[str, Json]:
    return {"uid": uid, "type_id": 1} if uid else {"name": "unknown", "type_id": 0}


def _actor(facts: _Facts, *roles: str) -> dict[str, Json]:
    uid = facts.take(*roles)
    # Where the log names nobody, the keeper acted.
    return {"user": _user(uid)} if uid else {"app_name": f"{_PRODUCT} {facts.record.by}"}


def _endpoint(facts: _Facts) -> dict[str, Json]:
    # The log holds no addresses. The machine is named where one is; else the receiver's key, else the keeper.
    platform = facts.take("platform")
    if platform is not None:
        return {"uid": platform, "type_id": 1}
    recipient = facts.take("recipient")
    return {"uid": recipient, "type_id": 0} if recipient else {"name": facts.record.by, "type_id": 1}


def _model(facts: _Facts) -> tuple[str | None, str | None]:
    return facts.take("model"), facts.take("version")


def _ai(facts: _Facts, name: str | None, version: str | None) -> dict[str, Json]:
    if name is None:
        return {}
    # The provider is whoever holds the weights: this deployment, by its log's name.
    model: dict[str, Json] = {"name": name, "ai_provider": facts.record.origin}
    return {"ai_model": model if version is None else {**model, "version": version}}


# --- one filler a shape -----------------------------------------------------------------------------------------------


def _log(facts: _Facts) -> dict[str, Json]:
    return {"log_name": facts.record.origin, "log_provider": _PRODUCT}


def _account(role: str, *actors: str) -> Fill:
    def fill(facts: _Facts) -> dict[str, Json]:
        user = _user(facts.take(role))
        return {"user": user, "actor": _actor(facts, *actors)}

    return fill


def _authentication(facts: _Facts) -> dict[str, Json]:
    user = {**_user(facts.take("person"))}
    credential = facts.take("key")
    if credential is not None:
        user["credential_uid"] = credential
    return {"user": user, "service": {"name": f"{_PRODUCT} keeper"}}


def _entity(kind: str, uid: str, *actors: str, type_id: int = _OTHER) -> Fill:
    """Fill in what is managed: ``uid`` is the fact that names it, ``kind`` what it is."""

    def fill(facts: _Facts) -> dict[str, Json]:
        entity: dict[str, Json] = {"name": kind, "type": kind, "type_id": type_id}
        named, version = facts.take(uid), facts.take("epoch", "version")
        if named is not None:
            entity["uid"] = named
        if version is not None:
            entity["version"] = version
        return {"entity": entity, "actor": _actor(facts, *actors)}

    return fill


def _access(facts: _Facts) -> dict[str, Json]:
    user = _user(facts.take("requester"))
    privileges: list[Json] = [facts.take("action") or "unknown"]
    resource: Json = {"name": facts.take("model") or "unknown", "type": "model"}
    return {
        "user": user,
        "privileges": privileges,
        "resources": [resource],
        "actor": _actor(facts),
    }


def _api(operation: str, *actors: str) -> Fill:
    def fill(facts: _Facts) -> dict[str, Json]:
        actor = _actor(facts, *actors)
        request = facts.record.text("request")
        api: dict[str, Json] = {"operation": operation, "service": {"name": f"{_PRODUCT} keeper"}}
        if request is not None:
            api["request"] = {"uid": request}
        return {"actor": actor, "api": api, "src_endpoint": _endpoint(facts), **_ai(facts, *_model(facts))}

    return fill


def _datastore(*actors: str) -> Fill:
    def fill(facts: _Facts) -> dict[str, Json]:
        name, version = _model(facts)
        key = facts.take("data_key")
        bucket: dict[str, Json] = {"name": name or "sealed weights", "type": "sealed weights", "type_id": _OTHER}
        if key is not None:
            bucket["uid"] = key
        return {
            "actor": _actor(facts, *actors),
            "databucket": bucket,
            "src_endpoint": _endpoint(facts),
            **_ai(facts, name, version),
        }

    return fill


def _file(name: str, uid: str, *actors: str) -> Fill:
    def fill(facts: _Facts) -> dict[str, Json]:
        model, version = _model(facts)
        told = "/".join(part for part in (model, version, name) if part)
        file: dict[str, Json] = {"name": told, "type_id": _OTHER, "type": name}
        digest, size = facts.take(uid), facts.take("bytes")
        if digest is not None:
            file["uid"] = digest
        if size is not None:
            file["size"] = int(size)
        return {"actor": _actor(facts, *actors), "file": file, "src_endpoint": _endpoint(facts)}

    return fill


_C: Final = OcsfClass
_E: Final = EventName
MAPPED: Final[Mapping[EventName, Mapped]] = MappingProxyType(
    {
        _E.LOG_OPENED: Mapped(_C.EVENT_LOG_ACTIVITY, 6, _log),
        _E.SHARD_CLOSED: Mapped(_C.EVENT_LOG_ACTIVITY, 5, _log),
        _E.SHARD_CONTINUED: Mapped(_C.EVENT_LOG_ACTIVITY, 6, _log),
        _E.SHARD_PRUNED: Mapped(_C.EVENT_LOG_ACTIVITY, 2, _log),
        _E.KEEPER_UNLOCKED: Mapped(_C.ENTITY_MANAGEMENT, 10, _entity("keeper", "")),
        _E.KEEPER_LOCKED: Mapped(_C.ENTITY_MANAGEMENT, 11, _entity("keeper", "")),
        _E.EPOCH_CREATED: Mapped(_C.ENTITY_MANAGEMENT, 1, _entity("key epoch", "")),
        _E.EPOCH_ROTATED: Mapped(_C.ENTITY_MANAGEMENT, 3, _entity("key epoch", "authority")),
        _E.EPOCH_DESTROYED: Mapped(_C.ENTITY_MANAGEMENT, 4, _entity("key epoch", "authority")),
        _E.KEK_CREATED: Mapped(_C.ENTITY_MANAGEMENT, 1, _entity("model KEK", "kek")),
        _E.KEK_ROTATED: Mapped(_C.ENTITY_MANAGEMENT, 3, _entity("model KEK", "kek")),
        _E.KEK_RETIRED: Mapped(_C.ENTITY_MANAGEMENT, 4, _entity("model KEK", "kek")),
        _E.ROOT_ROTATED: Mapped(_C.ENTITY_MANAGEMENT, 3, _entity("root key", "authority")),
        _E.ROOT_MOVED: Mapped(_C.ENTITY_MANAGEMENT, 3, _entity("root key", "providers")),
        _E.ESCROW_ADOPTED: Mapped(_C.ENTITY_MANAGEMENT, 3, _entity("escrow", "escrow", "custodians")),
        _E.ESCROW_OPENED: Mapped(_C.ENTITY_MANAGEMENT, 10, _entity("escrow", "escrow", "custodians")),
        _E.ESCROW_ANSWERED: Mapped(_C.ENTITY_MANAGEMENT, 3, _entity("escrow", "statement", "custodian")),
        _E.MODEL_DESTROYED: Mapped(_C.ENTITY_MANAGEMENT, 4, _entity("model", "model")),
        _E.DESTRUCTION_CERTIFIED: Mapped(_C.ENTITY_MANAGEMENT, 3, _entity("destruction certificate", "certificate")),
        _E.RESPONDER_SILENT: Mapped(_C.ENTITY_MANAGEMENT, 11, _entity("responder", "responder")),
        _E.RESPONDER_HEARD: Mapped(_C.ENTITY_MANAGEMENT, 10, _entity("responder", "responder")),
        _E.INCIDENT_RECORDED: Mapped(_C.ENTITY_MANAGEMENT, 3, _entity("incident", "incident", "person")),
        _E.PRECAUTION_TAKEN: Mapped(_C.ENTITY_MANAGEMENT, 1, _entity("precaution", "statement", "person")),
        _E.PRECAUTION_LIFTED: Mapped(_C.ENTITY_MANAGEMENT, 4, _entity("precaution", "precaution")),
        _E.BACKUP_MADE: Mapped(_C.ENTITY_MANAGEMENT, 1, _entity("backup", "backup")),
        _E.DEPLOYMENT_RESTORED: Mapped(_C.ENTITY_MANAGEMENT, 3, _entity("deployment", "backup")),
        _E.ROSTER_ADOPTED: Mapped(_C.ENTITY_MANAGEMENT, 3, _entity("roster", "document", type_id=3)),
        _E.VETTING_RECORDED: Mapped(_C.ACCOUNT_CHANGE, 2, _account("person", "officers")),
        _E.KEYS_ENROLLED: Mapped(_C.ACCOUNT_CHANGE, 10, _account("person", "officers")),
        _E.PERSON_SUSPENDED: Mapped(_C.ACCOUNT_CHANGE, 9, _account("person")),
        _E.PERSON_ERASED: Mapped(_C.ACCOUNT_CHANGE, 6, _account("person", "officers")),
        _E.POLICY_ADOPTED: Mapped(_C.ENTITY_MANAGEMENT, 3, _entity("release policy", "document", type_id=5)),
        _E.REFERENCE_VALUES_ADOPTED: Mapped(
            _C.ENTITY_MANAGEMENT, 3, _entity("reference values", "document", type_id=5)
        ),
        _E.PLATFORM_ENROLLED: Mapped(_C.ENTITY_MANAGEMENT, 6, _entity("platform", "platform", type_id=1)),
        _E.PLATFORM_REVOKED: Mapped(_C.ENTITY_MANAGEMENT, 7, _entity("platform", "platform", type_id=1)),
        _E.COLLATERAL_IMPORTED: Mapped(_C.ENTITY_MANAGEMENT, 3, _entity("collateral", "digest", "by")),
        _E.REQUEST_CREATED: Mapped(_C.API_ACTIVITY, 1, _api("request", "requester")),
        _E.REQUEST_APPROVED: Mapped(_C.API_ACTIVITY, 3, _api("approve", "person")),
        _E.REQUEST_DENIED: Mapped(_C.API_ACTIVITY, 3, _api("deny", "person")),
        _E.AUTHENTICATOR_REGRESSED: Mapped(_C.AUTHENTICATION, _OTHER, _authentication),
        _E.GRANT_ISSUED: Mapped(_C.USER_ACCESS_MANAGEMENT, 1, _access),
        _E.GRANT_REVOKED: Mapped(_C.ENTITY_MANAGEMENT, 9, _entity("grant", "grant")),
        _E.ACCESS_REVIEWED: Mapped(_C.ENTITY_MANAGEMENT, 3, _entity("access review", "statement", "reviewer")),
        _E.BREAK_GLASS_REVIEWED: Mapped(
            _C.ENTITY_MANAGEMENT, 3, _entity("break-glass review", "statement", "reviewers")
        ),
        _E.CHANGE_PROPOSED: Mapped(_C.ENTITY_MANAGEMENT, 1, _entity("proposed change", "document", type_id=5)),
        _E.CHANGE_STOPPED: Mapped(_C.ENTITY_MANAGEMENT, 4, _entity("proposed change", "document", "person", type_id=5)),
        _E.MODEL_FROZEN: Mapped(_C.ENTITY_MANAGEMENT, 12, _entity("model", "model")),
        _E.MODEL_RESUMED: Mapped(_C.ENTITY_MANAGEMENT, 13, _entity("model", "model")),
        _E.DATA_KEY_CREATED: Mapped(_C.DATASTORE_ACTIVITY, 9, _datastore()),
        _E.VERSION_REGISTERED: Mapped(_C.FILE_HOSTING_ACTIVITY, 1, _file("manifest", "manifest", "publisher")),
        _E.RELEASED: Mapped(_C.DATASTORE_ACTIVITY, 10, _datastore("requester")),
        _E.EXPORTED: Mapped(_C.FILE_HOSTING_ACTIVITY, 2, _file("weights in clear", "manifest", "requester")),
        _E.REDELIVERED: Mapped(_C.DATASTORE_ACTIVITY, 10, _datastore()),
        _E.REFUSED: Mapped(_C.API_ACTIVITY, _OTHER, _api("release")),
        _E.REFUSALS_SUMMED: Mapped(_C.API_ACTIVITY, _OTHER, _api("release")),
        _E.LEASE_ATTESTED: Mapped(_C.ENTITY_MANAGEMENT, 3, _entity("lease", "result")),
        _E.LEASE_ENDED: Mapped(_C.ENTITY_MANAGEMENT, 11, _entity("lease", "recipient")),
        _E.EGRESS_POLICIES_ADOPTED: Mapped(_C.ENTITY_MANAGEMENT, 3, _entity("egress policies", "document", type_id=5)),
        _E.ODOMETER_ADVANCED: Mapped(_C.DATASTORE_ACTIVITY, 1, _datastore()),
        _E.EGRESS_WARNED: Mapped(_C.DATASTORE_ACTIVITY, 1, _datastore()),
        _E.EGRESS_BREACHED: Mapped(_C.ENTITY_MANAGEMENT, 12, _entity("model", "model")),
        _E.DROP_KEY_RECORDED: Mapped(_C.ACCOUNT_CHANGE, _OTHER, _account("person")),
        _E.WORKSPACE_BEGUN: Mapped(_C.DATASTORE_ACTIVITY, 3, _datastore("person")),
        _E.DROP_CHARGED: Mapped(_C.FILE_HOSTING_ACTIVITY, 2, _file("drop", "drop", "person")),
        _E.DROP_REVIEWED: Mapped(_C.ENTITY_MANAGEMENT, 3, _entity("drop", "drop", "reviewer")),
        _E.INTAKE_RECORDED: Mapped(_C.ENTITY_MANAGEMENT, 3, _entity("delivery", "delivery", "person")),
        _E.INTAKE_REVIEWED: Mapped(_C.ENTITY_MANAGEMENT, 3, _entity("delivery", "delivery", "reviewer")),
        _E.COPY_RECORDED: Mapped(_C.ENTITY_MANAGEMENT, 3, _entity("copy", "copy", "person")),
        _E.ASSESSMENT_RECORDED: Mapped(_C.ENTITY_MANAGEMENT, 3, _entity("assessment", "assessment", "person")),
    }
)
"""Every event of the closed schema; a test fails when one has no place here."""


class OcsfFormat:
    """Writes OCSF."""

    opening = b""

    def lines(self, records: tuple[Record, ...]) -> bytes:
        """Return one event a line."""
        return b"".join(json_bytes(ocsf_event(record)) + b"\n" for record in records)

    def body(self, records: tuple[Record, ...]) -> Body | None:
        """Nothing: collectors of OCSF read files, and send them their own way."""
        del records
        return None


def ocsf_event(record: Record) -> dict[str, Json]:
    """Return a record as an OCSF event."""
    mapped = MAPPED[record.event]
    facts = _Facts(record)
    members = mapped.fill(facts)
    metadata: dict[str, Json] = {
        "version": SCHEMA_VERSION,
        "product": {"name": _PRODUCT, "vendor_name": _PRODUCT, "version": __version__},
        "uid": f"{record.origin}#{record.index}",
        "sequence": record.index,
        "event_code": record.event.value,
        "log_name": record.origin,
    }
    if "ai_model" in members:
        metadata["profiles"] = ["ai_operation"]
    request = record.text("request")
    if request is not None:
        metadata["correlation_uid"] = request
    left: dict[str, Json] = {k: list(v) if isinstance(v, tuple) else v for k, v in facts.left().items()}
    failed = record.outcome is Outcome.REFUSED
    event: dict[str, Json] = {
        "category_uid": mapped.ocsf_class // 1000,
        "class_uid": int(mapped.ocsf_class),
        "activity_id": mapped.activity,
        "type_uid": mapped.ocsf_class * 100 + mapped.activity,
        "time": record.at * 1000,
        "severity_id": int(record.severity),
        "status_id": _FAILURE if failed else _SUCCESS,
        "metadata": metadata,
        "unmapped": {
            "facts": left,
            "leaf": record.leaf,
            "by": record.by,
            "seq": record.seq,
            "outcome": record.outcome.value,
        },
        **members,
    }
    if mapped.activity == _OTHER:
        event["activity_name"] = record.event.value
    reason = record.text("reason") or record.text("cause")
    if reason is not None:
        event["status_code"] = reason
    return event
