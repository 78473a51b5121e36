"""People sign bytes that their own client parsed, never a digest that somebody hands them.

In February 2025 the signers of a multi-signature wallet were shown one thing by a changed page and had their hardware
keys sign another. Here whatever reaches a security key is computed from bytes that were parsed, checked and shown.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from simulators.security_key import SoftwareSecurityKey
from strongroom.access.request import APPROVAL_TYPE, DENIAL_TYPE, REQUEST_TYPE, Action, Purpose, Request
from strongroom.audit.succession import Succession
from strongroom.client import requests
from strongroom.client.adapters.security_key import SecurityKeySigner
from strongroom.client.default_policy import default_policy
from strongroom.client.trust import Trust
from strongroom.client.wallet import EMPTY_LOG, SecurityKeys, Seen
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, pae, sign, verify
from strongroom.core.errors import StrongroomError
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.signature import Ed25519Signer, Signer
from strongroom.core.webauthn import Assertion
from strongroom.personnel.roster import Person, Roster
from strongroom.release.documents import DocumentKind
from support.cosigners import LOG_COSIGNER
from support.security_keys import Ports, pin_of

SRC = Path(__file__).resolve().parents[2] / "src" / "strongroom"
AT = 1_795_471_717
DANA, SAM = PersonId("dana"), PersonId("sam")
REQUESTER = Ed25519Signer.from_seed(b"d" * 32)
ROOT = Ed25519Signer.from_seed(b"R" * 32).public_key
GENESIS = Genesis(
    deployment="test",
    created=AT,
    root_keys=(ROOT,),
    root_threshold=1,
    keeper_key=ROOT,
    log_origin="strongroom/test",
    log_key=ROOT,
    log_cosigner=LOG_COSIGNER,
)
POLICY = default_policy(GENESIS.digest)


class Approver:
    """An approver with two security keys, one of them plugged in, and what they believe of the deployment."""

    def __init__(self, ports: Ports) -> None:
        self.ports = ports
        self.keys: SecurityKeys = ports.enrol(person=SAM, genesis=GENESIS.digest)[1]
        self.device = ports.devices["first"]
        people = (
            Person(id=DANA, org="research", active=True, roles=frozenset(), keys=(REQUESTER.public_key,)),
            Person(id=SAM, org="security", active=True, roles=frozenset(), keys=tuple(k.key for k in self.keys.keys)),
        )
        roster = Roster(genesis=GENESIS.digest, epoch=1, predecessor=None, people=people)
        self.trust = Trust(
            genesis=GENESIS,
            log=Succession.of(GENESIS),
            head=EMPTY_LOG,
            roster=roster,
            policy=POLICY,
            reference_values=None,
            digests={
                DocumentKind.ROSTER: Digest.of(roster.to_bytes()),
                DocumentKind.POLICY: Digest.of(POLICY.to_bytes()),
            },
            models={},
            locked=False,
            cause="",
            seen=Seen(),
        )

    @property
    def signer(self) -> Signer:
        """The key that is plugged in."""
        return SecurityKeySigner(self.keys, pin_of(self.device.pin))

    def request(self, **changes: object) -> Envelope:
        """Return a request of another person to resume a model."""
        request = Request(
            genesis=GENESIS.digest,
            action=Action.RESUME,
            requester=DANA,
            model=ModelId("atlas"),
            version=0,
            manifest=None,
            purpose=next(iter(Purpose)),
            ticket="T-1",
            justification=None,
            image=None,
            measurement=None,
            platforms=(),
            recipient=None,
            target=None,
            not_before=AT - 60,
            expires=AT + 3600,
            max_uses=1,
            nonce=bytes(16),
            roster=self.trust.digests[DocumentKind.ROSTER],
            policy=self.trust.digests[DocumentKind.POLICY],
            log=EMPTY_LOG,
        )
        return sign(REQUEST_TYPE, replace(request, **changes).to_bytes(), REQUESTER)  # type: ignore[arg-type]

    def approve(self, envelope: Envelope) -> Envelope:
        """Approve as ``strongroom approve`` does."""
        return requests.approve(envelope, self.trust, self.signer, person=SAM, now=AT, prove=lambda _old, _new: ())


@pytest.fixture
def approver(monkeypatch: pytest.MonkeyPatch) -> Approver:
    return Approver(Ports(monkeypatch, {"first": SoftwareSecurityKey(), "second": SoftwareSecurityKey()}))


def challenge(envelope: Envelope) -> bytes:
    """Return what the security key was asked to sign."""
    client_data = json.loads(Assertion.parse(envelope.signatures[0].value).client_data)
    return base64.urlsafe_b64decode(client_data["challenge"] + "=")


def test_an_approval_is_over_the_parsed_bytes_themselves(approver: Approver) -> None:
    request = approver.request()
    approval = approver.approve(request)
    assert approval.payload == request.payload
    assert challenge(approval) == hashlib.sha256(pae(APPROVAL_TYPE, Request.parse(request.payload).to_bytes())).digest()
    assert verify(approval, APPROVAL_TYPE, [k.key for k in approver.keys.keys], threshold=1)


def test_either_key_approves_and_counts_as_the_same_person(approver: Approver) -> None:
    request = approver.request()
    first = approver.approve(request)
    del approver.ports.devices["first"]
    second = approver.approve(request)
    ids = [envelope.signatures[0].key_id for envelope in (first, second)]
    assert ids == [one.key.key_id for one in approver.keys.keys]
    roster, _policy = approver.trust.require_documents()
    assert {roster.holder(key_id)[0].id for key_id in ids} == {SAM}


def test_a_denial_is_over_the_same_bytes_and_is_no_approval(approver: Approver) -> None:
    request = approver.request()
    denial = requests.deny(request, approver.trust, approver.signer, person=SAM)
    assert challenge(denial) == hashlib.sha256(pae(DENIAL_TYPE, request.payload)).digest()
    turned = Envelope(APPROVAL_TYPE, denial.payload, denial.signatures)
    with pytest.raises(StrongroomError):
        verify(turned, APPROVAL_TYPE, [k.key for k in approver.keys.keys], threshold=1)


def test_another_request_than_the_one_shown_is_not_signed(approver: Approver) -> None:
    shown, slipped = approver.request(), approver.request(model=ModelId("another"), ticket="T-2")
    before = approver.device.counter
    with pytest.raises(requests.ForeignRequestError):
        requests.read_request(slipped, approver.trust, wanted=shown.digest)
    # The requester's signature is for the other bytes.
    forged = Envelope(REQUEST_TYPE, slipped.payload, shown.signatures)
    for attempt in (approver.approve, lambda e: requests.deny(e, approver.trust, approver.signer, person=SAM)):
        with pytest.raises(StrongroomError):
            attempt(forged)
    assert approver.device.counter == before, "the security key was never asked"


@pytest.mark.parametrize("payload", [b"", bytes(32), b"\x00" * 64, b"sha256:" + b"0" * 64, b"{}"])
def test_bytes_that_are_no_request_are_not_signed(approver: Approver, payload: bytes) -> None:
    before = approver.device.counter
    envelope = sign(REQUEST_TYPE, payload, REQUESTER)
    for attempt in (approver.approve, lambda e: requests.deny(e, approver.trust, approver.signer, person=SAM)):
        with pytest.raises(StrongroomError):
            attempt(envelope)
    assert approver.device.counter == before


def calls(path: Path) -> set[str]:
    """Return the names of everything that a module calls."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Attribute(attr=name):
                    found.add(f".{name}")
                case ast.Name(id=name):
                    found.add(name)
    return found


def test_a_person_s_key_is_reached_through_an_envelope_alone() -> None:
    # `Envelope.signed_by` computes what is signed from type and payload; no other place calls a signer.
    signing = {
        str(path.relative_to(SRC))
        for folder in ("client", "cli", "loaders", "release", "access", "personnel", "core")
        for path in (SRC / folder).rglob("*.py")
        if ".sign" in calls(path)
    }
    assert signing <= {
        "core/envelope.py",
        "core/signature.py",
        "client/adapters/session_files.py",  # a certificate request, with its own key
    }


def test_only_the_signer_itself_makes_a_challenge() -> None:
    making = {str(path.relative_to(SRC)) for path in SRC.rglob("*.py") if "challenge_of" in calls(path)}
    assert making == {"core/webauthn.py", "client/adapters/security_key.py"}
    tree = ast.parse((SRC / "client" / "adapters" / "security_key.py").read_text(encoding="utf-8"))
    given = [
        ast.unparse(node.args[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "challenge_of"
    ]
    assert given == ["message"], "what is hashed is the message that the signer was handed"
