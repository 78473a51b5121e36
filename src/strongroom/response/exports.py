"""An incident in other systems' forms: STIX 2.1, an OCSF Detection Finding, PagerDuty, Alertmanager, a plain webhook.

Values only: who delivers them signs them and adds what is secret (a routing key). Names of people and hosts stand in
what stays inside (OCSF, webhooks); what is made to be shared (STIX) has none, and is marked TLP:AMBER+STRICT.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

from strongroom import __version__
from strongroom.core.canonical import Json, decode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.stable_uuid import stable_uuid
from strongroom.response.clocks import running
from strongroom.response.entries import MAX_ENTRY, IncidentEntry, Phase
from strongroom.response.grading import Certainty, Severity
from strongroom.response.incident import Incident

_PRODUCT: Final = "Strongroom"
OCSF_VERSION: Final = "1.8.0"
_FINDING_CLASS: Final = 2004
_SEVERITIES: Final = {Severity.LOW: 2, Severity.MEDIUM: 3, Severity.HIGH: 4, Severity.CRITICAL: 5}
_CONFIDENCE: Final = {Certainty.HINT: 1, Certainty.LIKELY: 2, Certainty.SURE: 3}
_STIX_CONFIDENCE: Final = {Certainty.HINT: 30, Certainty.LIKELY: 70, Certainty.SURE: 95}
"""STIX 2.1 Appendix A, "None / Low / Med / High": the middle of low, the top of medium, and high."""
TLP_AMBER_STRICT: Final = "marking-definition--939a9414-2ddd-4d32-a0cd-375ea402b003"
"""OASIS' own marking object for TLP 2.0 AMBER+STRICT."""
_TLP2: Final = "extension-definition--60a3c5c5-0d10-413e-aab3-9e08dde9e88d"
"""OASIS' extension for TLP 2.0."""
_TLP_MADE: Final = "2022-10-01T00:00:00.000Z"

MAX_TOLD: Final = 100
"""Pieces of evidence and actions that a message names, the newest; it counts all. Receivers refuse longer messages, of
the longest incidents first: PagerDuty takes 512 KB."""


class News(StrEnum):
    """What a message is about."""

    OPENED = "opened"
    CHANGED = "changed"
    CLOSED = "closed"


def news_of(incident: Incident) -> News:
    """Return what is to be told of an incident as it stands."""
    if not incident.is_open:
        return News.CLOSED
    return News.OPENED if incident.size == 1 else News.CHANGED


def title(incident: Incident) -> str:
    """Return one line that says what it is; a drill says so first."""
    drill = "DRILL: " if incident.shadow else ""
    return f"{drill}{incident.severity.value} incident about {incident.subject}: {incident.rules[0]}"


class Form(StrEnum):
    """Whose form an incident is exported in."""

    STIX = "stix"
    OCSF = "ocsf"
    PAGERDUTY = "pagerduty"
    ALERTMANAGER = "alertmanager"
    WEBHOOK = "webhook"
    RECORD = "record"
    """The record itself, entry by entry."""


def exported(form: Form, incident: Incident, entries: Sequence[IncidentEntry], *, now: Instant) -> Json:
    """Return an incident in a form, JSON. STIX names nobody."""
    match form:
        case Form.STIX:
            return stix_bundle(incident, entries, now=now)
        case Form.OCSF:
            return ocsf_finding(incident, now=now)
        case Form.PAGERDUTY:
            return pagerduty_event(incident, source="strongroom")
        case Form.ALERTMANAGER:
            return alertmanager_body([incident], receiver="strongroom", url=f"strongroom:{incident.id}")
        case Form.WEBHOOK:
            return webhook_body(incident, now=now)
        case Form.RECORD:
            return [decode(entry.to_bytes(), max_bytes=MAX_ENTRY) for entry in entries]


# --- STIX 2.1 ---------------------------------------------------------------------------------------------------------


def stix_bundle(incident: Incident, entries: Sequence[IncidentEntry], *, now: Instant) -> dict[str, Json]:
    """Return a STIX 2.1 bundle: the incident, what was done as courses of action, and the record as a report.

    Ids come from the incident's, so that the same incident told again is a new version of the same objects. Neither
    people nor hosts nor models are named.
    """
    maker = _stix("identity", incident, "maker", incident.opened, now)
    maker |= {"name": _PRODUCT, "identity_class": "system"}
    case = _stix("incident", incident, "case", incident.opened, now)
    case |= {
        "name": f"{incident.severity.value} incident about a {incident.subject.kind.value}",
        "created_by_ref": maker["id"],
        "confidence": _STIX_CONFIDENCE[incident.certainty],
        "labels": [incident.phase.value, *(["drill"] if incident.shadow else [])],
    }
    done = sorted({one.action for one in incident.doings.values() if one.done is not None})
    courses = []
    for action in done:
        course = _stix("course-of-action", incident, action.value, incident.opened, now)
        courses.append(course | {"name": action.value, "created_by_ref": maker["id"]})
    report = _stix("report", incident, "record", incident.opened, now)
    report |= {
        "name": f"record of {incident.id}",
        "description": f"{len(entries)} entries; the last one's digest is {incident.last}",
        "created_by_ref": maker["id"],
        "published": _stamp(now),
        "object_refs": [case["id"], *(course["id"] for course in courses)],
        "report_types": ["threat-report"],
    }
    objects: list[Json] = [_amber(), maker, case, *courses, report]
    return {"type": "bundle", "id": f"bundle--{stable_uuid(incident.id, 'bundle', str(now))}", "objects": objects}


def _stix(kind: str, incident: Incident, part: str, created: Instant, modified: Instant) -> dict[str, Json]:
    return {
        "type": kind,
        "spec_version": "2.1",
        "id": f"{kind}--{stable_uuid(incident.id, kind, part)}",
        "created": _stamp(created),
        "modified": _stamp(max(created, modified)),
        "object_marking_refs": [TLP_AMBER_STRICT],
    }


def _amber() -> dict[str, Json]:
    return {
        "type": "marking-definition",
        "spec_version": "2.1",
        "id": TLP_AMBER_STRICT,
        "created": _TLP_MADE,
        "name": "TLP:AMBER+STRICT",
        "extensions": {_TLP2: {"extension_type": "property-extension", "tlp_2_0": "amber+strict"}},
    }


def _stamp(at: Instant) -> str:
    return format_instant(at).removesuffix("Z") + ".000Z"


# --- OCSF -------------------------------------------------------------------------------------------------------------


def ocsf_finding(incident: Incident, *, now: Instant) -> dict[str, Json]:
    """Return an OCSF 1.8.0 Detection Finding (class 2004) of the incident as it stands."""
    activity = {News.OPENED: 1, News.CHANGED: 2, News.CLOSED: 3}[news_of(incident)]
    status = 4 if not incident.is_open else (1 if incident.phase is Phase.DETECTED else 2)
    return {
        "activity_id": activity,
        "category_uid": _FINDING_CLASS // 1000,
        "class_uid": _FINDING_CLASS,
        "type_uid": _FINDING_CLASS * 100 + activity,
        "time": now * 1000,
        "severity_id": _SEVERITIES[incident.severity],
        "confidence_id": _CONFIDENCE[incident.certainty],
        "status_id": status,
        "metadata": {
            "version": OCSF_VERSION,
            "product": {"name": _PRODUCT, "vendor_name": _PRODUCT, "version": __version__},
            "uid": f"{incident.id}#{incident.size}",
            "sequence": incident.size,
            "correlation_uid": incident.id,
            "event_code": news_of(incident).value,
        },
        "finding_info": {
            "title": title(incident),
            "uid": incident.id,
            "created_time": incident.opened * 1000,
            "last_seen_time": incident.last_alert * 1000,
            "types": list[Json](incident.rules),
        },
        "unmapped": _facts(incident),
    }


# --- messages ---------------------------------------------------------------------------------------------------------


def pagerduty_event(incident: Incident, *, source: str) -> dict[str, Json]:
    """Return a body for PagerDuty's Events API v2, but for ``routing_key``, which whoever delivers it adds.

    :param source: the deployment's name. The incident's id keeps repetitions together (``dedup_key``).
    """
    if not incident.is_open:
        return {"event_action": "resolve", "dedup_key": incident.id}
    severities = {Severity.LOW: "info", Severity.MEDIUM: "warning", Severity.HIGH: "error"}
    return {
        "event_action": "trigger",
        "dedup_key": incident.id,
        "payload": {
            "summary": title(incident)[:1024],
            "source": source,
            "severity": severities.get(incident.severity, "critical"),
            "timestamp": format_instant(incident.opened),
            "component": str(incident.subject),
            "group": incident.subject.kind.value,
            "class": incident.rules[0],
            "custom_details": _facts(incident),
        },
    }


def alertmanager_body(incidents: Iterable[Incident], *, receiver: str, url: str) -> dict[str, Json]:
    """Return a body as Alertmanager sends to webhooks (version 4), for receivers that understand those.

    :param url: where a person looks; it is put out as it is given.
    """
    alerts: list[Json] = []
    firing = False
    for incident in incidents:
        firing = firing or incident.is_open
        alerts.append(
            {
                "status": "firing" if incident.is_open else "resolved",
                "labels": _labels(incident),
                "annotations": {"summary": title(incident)},
                "startsAt": format_instant(incident.opened),
                "endsAt": "0001-01-01T00:00:00Z" if incident.closed is None else format_instant(incident.closed),
                "generatorURL": url,
                "fingerprint": incident.id.removeprefix("inc-")[:16],
            }
        )
    return {
        "version": "4",
        "groupKey": '{}:{alertname="StrongroomIncident"}',
        "truncatedAlerts": 0,
        "status": "firing" if firing else "resolved",
        "receiver": receiver,
        "groupLabels": {"alertname": "StrongroomIncident"},
        "commonLabels": {"alertname": "StrongroomIncident"},
        "commonAnnotations": {},
        "externalURL": url,
        "alerts": alerts,
    }


def _labels(incident: Incident) -> dict[str, Json]:
    return {
        "alertname": "StrongroomIncident",
        "severity": incident.severity.value,
        "incident": incident.id,
        "subject": str(incident.subject),
        "drill": "true" if incident.shadow else "false",
    }


def webhook_body(incident: Incident, *, now: Instant) -> dict[str, Json]:
    """Return the body of our own webhooks, in the envelope of Standard Webhooks: ``type``, ``timestamp``, ``data``."""
    return {
        "type": f"incident.{news_of(incident).value}",
        "timestamp": format_instant(now),
        "data": {"incident": incident.id, "title": title(incident), **_facts(incident)},
    }


def _facts(incident: Incident) -> dict[str, Json]:
    return {
        "subject": str(incident.subject),
        "phase": incident.phase.value,
        "function": incident.phase.function.value,
        "severity": incident.severity.value,
        "certainty": incident.certainty.value,
        "drill": incident.shadow,
        "alerts": incident.alerts,
        "rules": list[Json](incident.rules),
        "evidence": [str(digest) for digest in incident.evidence[-MAX_TOLD:]],
        "exposures": [{"model": name, **read.to_json()} for name, read in incident.exposures.items()],
        "unread": dict[str, Json]([*incident.unread.items()][-MAX_TOLD:]),
        "actions": {
            key: {
                "action": one.action.value,
                "subject": str(one.subject),
                "failed": one.failed,
                "verified": one.verified is not None,
                "undone": one.undone is not None,
            }
            for key, one in [*incident.doings.items()][-MAX_TOLD:]
        },
        "counted": {
            "evidence": len(incident.evidence),
            "actions": len(incident.doings),
            "unread": len(incident.unread),
        },
        "roles": {role.value: person for role, person in incident.roles.items()},
        "clocks": {one.duty.id: format_instant(one.due) for one in running(incident)},
        "record": str(incident.last),
        "entries": incident.size,
    }
