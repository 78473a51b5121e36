"""Targets that read what an auditor is handed: notes and policies in the single file, objects that a log names."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from fuzz.targets.target import Target
from strongroom.audit import standalone_verifier
from strongroom.audit.cosignature import CosignatureKind, Cosigner, cosign_note
from strongroom.audit.entries import read_entry
from strongroom.core.digest import Digest
from strongroom.core.errors import TamperedError
from strongroom.core.events import EventName
from strongroom.release.exhibits import Exhibits, Kind, Scales
from strongroom.release.ledger import Ledger
from support.logs import AT, GENESIS, LOG_KEY, sample_entry
from support.published import sign_head

_WITNESSES: Final = (
    Cosigner.from_seed("a.example", CosignatureKind.ED25519, b"a" * 32),
    Cosigner.from_seed("b.example", CosignatureKind.ML_DSA_44, b"b" * 32),
)
_POLICY: Final = (
    f"# two\nlog {LOG_KEY} https://log.example\nwitness a {_WITNESSES[0].key}\nwitness b {_WITNESSES[1].key}\n"
    "group both all a b\nquorum both\n"
).encode()
_NAMING: Final = (
    EventName.REQUEST_CREATED,
    EventName.REQUEST_APPROVED,
    EventName.REQUEST_DENIED,
    EventName.ROSTER_ADOPTED,
    EventName.POLICY_ADOPTED,
    EventName.REFERENCE_VALUES_ADOPTED,
    EventName.EGRESS_POLICIES_ADOPTED,
    EventName.PLATFORM_ENROLLED,
    EventName.VERSION_REGISTERED,
    EventName.PERSON_SUSPENDED,
    EventName.RELEASED,
    EventName.KEYS_ENROLLED,
)


def _as_ours(read: object, data: bytes) -> None:
    """The single file has an error of its own; here it stands for ours."""
    try:
        read(data)  # type: ignore[operator]
    except standalone_verifier.Refused as refused:
        raise TamperedError(refused.message, reason=refused.code) from None


def _note(data: bytes) -> None:
    policy = standalone_verifier.Policy.parse(_POLICY)
    _as_ours(lambda note: standalone_verifier.verify_note(note, policy.logs, policy), data)


def _policy(data: bytes) -> None:
    _as_ours(standalone_verifier.Policy.parse, data)


class _One:
    """Hands in the same bytes for everything."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def find(self, _kind: Kind, _digest: Digest) -> bytes | None:
        return self._data


def _exhibits(data: bytes) -> None:
    for seq, event in enumerate(_NAMING):
        handed_in: Exhibits = _One(data)
        assert Scales(GENESIS, handed_in, Ledger()).weigh(1, read_entry(sample_entry(event, seq)))


AUDITS: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "standalone-note": Target(
            read=_note, seeds=lambda: [cosign_note(sign_head([b"x"], 1), one, AT) for one in _WITNESSES], changes=200
        ),
        "standalone-policy": Target(read=_policy, seeds=lambda: [_POLICY]),
        "audit-exhibits": Target(
            read=_exhibits,
            seeds=lambda: [b'{"payload":"e30=","payloadType":"application/vnd.strongroom.request.v1","signatures":[]}'],
            changes=40,
        ),
    }
)
