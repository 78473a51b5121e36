"""The events that rules may be about, beside the log's own, and the fields that each one has.

A closed list: a rule about an event or a field that nobody sends would never match, and nobody would notice. Every
event also has ``event``, ``at`` (RFC 3339), ``source`` (which sensor said it) and, where one is concerned, ``host``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

COMMON: Final = frozenset({"event", "at", "source", "host"})


VOCABULARY: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        # A machine's own sensors: file opens, processes, devices, measurements.
        "host:process:started": frozenset({"role", "exe", "parent", "uid", "listed", "enclave", "sandboxed"}),
        "host:file:opened": frozenset({"path", "exe", "uid", "kind", "decoy", "broker"}),
        "host:decoy:gone": frozenset({"path", "model"}),
        "host:reading:counted": frozenset({"person", "bytes"}),
        "host:library:loaded": frozenset({"exe", "library", "listed", "enclave"}),
        "host:syscall:denied": frozenset({"exe", "syscall", "enclave", "sandboxed"}),
        "host:device:added": frozenset({"kind", "device", "isolated"}),
        "host:link:changed": frozenset({"interface", "state", "planned"}),
        "host:login:opened": frozenset({"person", "method", "role", "badged"}),
        "host:patch:overdue": frozenset({"advisory", "exploited", "days", "patched_upstream", "holds_grant"}),
        "host:chassis:opened": frozenset({"planned"}),
        "host:measurement:changed": frozenset({"register", "expected", "seen", "component"}),
        "host:file:changed": frozenset({"path", "expected", "seen"}),
        "host:heartbeat:lost": frozenset({"asset", "seconds", "away"}),
        "host:clock:jumped": frozenset({"seconds"}),
        # The identity provider, by its security events or its log.
        "identity:login:failed": frozenset({"person", "client", "cause"}),
        "identity:login:opened": frozenset({"person", "client", "device", "device_days"}),
        "identity:factor:reset": frozenset({"person", "by"}),
        "identity:device:enrolled": frozenset({"person", "device"}),
        "identity:role:granted": frozenset({"person", "role", "by", "ticket"}),
        "identity:credential:used": frozenset({"credential", "decoy", "client"}),
        # The gateway in front of an enclave.
        "gateway:request:refused": frozenset({"principal", "code", "parameter", "model", "times"}),
        "gateway:prompt:repeated": frozenset({"principal", "model", "times"}),
        "gateway:usage:counted": frozenset({"principal", "model", "tokens"}),
        "gateway:conservation:broken": frozenset({"model", "bytes"}),
        "gateway:outputs:drifted": frozenset({"principal", "model", "score"}),
        # The search for copies, and the register of those that should be there.
        "scanner:copy:found": frozenset({"path", "model", "registered", "encrypted", "world_readable"}),
        "register:copy:troubled": frozenset({"copy", "model", "place", "holder", "cause"}),
        # An assessment that is kept fresh: a measure that held, and doesn't any more.
        "assessor:measure:lost": frozenset({"measure", "was", "state", "level"}),
        # The intake gate, builds and vendors' accounts.
        "supply:artifact:refused": frozenset({"artifact", "cause", "kind"}),
        "supply:build:differs": frozenset({"component", "expected", "seen"}),
        "supply:vendor:active": frozenset({"vendor", "account", "in_window"}),
        # Badges, alarms, duress codes: only where a feed exists.
        "facility:badge:missing": frozenset({"person", "site"}),
        "facility:alarm:raised": frozenset({"site", "kind"}),
        "facility:quorum:lost": frozenset({"site", "left"}),
        "facility:module:tampered": frozenset({"device", "cause"}),
        # The detector itself: silence, invariants, statistics.
        "detector:key:used": frozenset({"key", "state", "listed", "decoy"}),
        "detector:algorithm:refused": frozenset({"component", "algorithm"}),
        "detector:nonce:repeated": frozenset({"component"}),
        "detector:invariant:broken": frozenset({"invariant", "request", "model"}),
        "detector:policy:differs": frozenset({"component", "expected", "seen"}),
        "detector:person:unusual": frozenset({"person", "test", "score", "measure"}),
        "detector:pair:concentrated": frozenset({"requester", "approver", "share"}),
        "detector:conflict:declared": frozenset({"person", "request", "model"}),
        "detector:sensor:silent": frozenset({"sensor", "seconds"}),
        "detector:log:broken": frozenset({"cause"}),
        "detector:decoy:named": frozenset({"decoy_model", "entry", "person", "index"}),
        "detector:state:evicted": frozenset({"count", "rule"}),
        "detector:pack:loaded": frozenset({"pack", "expected"}),
    }
)
"""Fields of each event, without the common ones."""
JUDGED: Final = frozenset(
    {
        *(event for event in VOCABULARY if event.startswith("detector:")),
        "gateway:conservation:broken",
        "host:decoy:gone",
    }
)
"""What only the product itself can know, of its own keys, log, meters and decoys: no feed may say it."""
FLAGS: Final = frozenset(
    {
        *("away", "badged", "broker", "decoy", "enclave", "encrypted", "exploited", "holds_grant", "in_window"),
        *("isolated", "listed", "patched_upstream", "planned", "registered", "sandboxed", "world_readable"),
    }
)
"""Fields that are true or false."""
COUNTS: Final = frozenset({"bytes", "days", "device_days", "left", "seconds", "times", "tokens", "uid"})
"""Fields that are whole numbers."""
SCORES: Final = frozenset({"score"})
"""Fields that are numbers. All others of an event that a feed may tell are text."""


def fields_of(event: str) -> frozenset[str] | None:
    """Return all fields of an event of the vocabulary; None if it isn't one."""
    own = VOCABULARY.get(event)
    return None if own is None else own | COMMON
