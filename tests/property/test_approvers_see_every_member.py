"""No member of a request can change without a change in what its approvers are shown."""

from __future__ import annotations

from dataclasses import fields, replace

from hypothesis import given
from hypothesis import strategies as st

from simulators.attester import APPRAISAL
from strongroom.access.policy import ModelTerms
from strongroom.access.request import Action, LogHead, Purpose, Request
from strongroom.attestation.measurement import launch_measurements
from strongroom.attestation.reference_values import ReferenceImage, ReferenceValues
from strongroom.audit.succession import Succession
from strongroom.client.default_policy import default_policy
from strongroom.client.render import as_text, duration, render
from strongroom.client.state import PersonStanding
from strongroom.client.trust import Trust
from strongroom.client.wallet import EMPTY_LOG, Seen
from strongroom.core.digest import Digest
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ImageId, ModelId, PersonId, platform_id
from strongroom.core.printable import printable
from strongroom.core.signature import Ed25519Signer
from strongroom.framework.levels import SecurityLevel
from strongroom.personnel.roster import Person, PersonKind, Roster
from strongroom.release.documents import DocumentKind
from support.cosigners import LOG_COSIGNER

NOW = 1_795_471_717
DAY = 86400
KEY = Ed25519Signer.from_seed(b"R" * 32).public_key
GENESIS = Genesis(
    deployment="test",
    created=NOW,
    root_keys=(KEY,),
    root_threshold=1,
    keeper_key=KEY,
    log_origin="log",
    log_key=KEY,
    log_cosigner=LOG_COSIGNER,
)


def person(name: str, *roles: str, active: bool = True, sponsor: str | None = None) -> Person:
    return Person(
        id=PersonId(name),
        kind=PersonKind.HUMAN if sponsor is None else PersonKind.AGENT,
        sponsor=None if sponsor is None else PersonId(sponsor),
        org="research",
        active=active,
        roles=frozenset(roles),
        keys=(Ed25519Signer.from_seed(Digest.of(name.encode()).value).public_key,),
    )


def standing(one: Person, **members: object) -> PersonStanding:
    base = PersonStanding(
        person=one.id,
        kind=one.kind.value,
        unit=one.org,
        roles=tuple(sorted(one.roles)),
        active=one.active,
        suspended=False,
        tier=3,
        vetted_until=NOW + 30 * DAY,
        serial=1,
        hardware_keys=0,
    )
    return replace(base, **members)  # type: ignore[arg-type]


PEOPLE = (
    person("dana", "requester", "approver-research"),
    person("erin", "requester"),
    person("sam", "approver-security"),
    person("rina", "approver-research"),
    person("late", "approver-research"),
    person("gone", "approver-research", active=False),
    person("low", "approver-research"),
    person("new", "approver-research"),
    person("fell", "approver-research"),
    person("robin", "requester", "approver-research", sponsor="erin"),
)
OTHERWISE: dict[str, dict[str, object]] = {
    "late": {"vetted_until": NOW - 1},
    "low": {"tier": 0},
    "new": {"vetted_until": None, "tier": 0, "serial": 0},
    "fell": {"active": False, "suspended": True},
}
STANDING = {one.id: standing(one, **OTHERWISE.get(one.id, {})) for one in PEOPLE}
TERMS = (
    ModelTerms(model=ModelId("minilm"), level=SecurityLevel.SL2, least_isolation="vm-simulated"),
    ModelTerms(model=ModelId("atlas"), level=SecurityLevel.SL3, least_isolation="cvm"),
)
ROSTER = Roster(genesis=GENESIS.digest, epoch=1, predecessor=None, people=PEOPLE)
POLICY = replace(default_policy(GENESIS.digest), models=TERMS)
IMAGE = ReferenceImage.launched(
    ImageId("embedder"),
    launch_measurements(
        interpreter=Digest.of(b"i"),
        files=Digest.of(b"f"),
        command=Digest.of(b"c"),
        sandbox=Digest.of(b"s"),
        genesis=GENESIS.digest,
    ),
)
VALUES = ReferenceValues(
    genesis=GENESIS.digest, epoch=1, images=(IMAGE,), anchors=(), appraisal=APPRAISAL, not_after=NOW + DAY
)
TRUST = Trust(
    genesis=GENESIS,
    log=Succession.of(GENESIS),
    head=LogHead(size=9, root=Digest.of(b"root")),
    roster=ROSTER,
    policy=POLICY,
    reference_values=VALUES,
    digests={
        DocumentKind.ROSTER: Digest.of(ROSTER.to_bytes()),
        DocumentKind.POLICY: Digest.of(POLICY.to_bytes()),
        DocumentKind.REFERENCE_VALUES: VALUES.digest,
    },
    models={},
    locked=False,
    cause="",
    seen=Seen(log=EMPTY_LOG),
)

digests = st.binary(min_size=1, max_size=8).map(Digest.of)
platforms = st.binary(min_size=32, max_size=32).map(lambda raw: platform_id(f"tpm-{raw.hex()}"))
MEMBERS: dict[str, st.SearchStrategy[object]] = {
    "genesis": digests,
    "requester": st.sampled_from(["dana", "erin", "sam", "nobody"]).map(PersonId),
    "model": st.sampled_from(["minilm", "atlas", "unknown"]).map(ModelId),
    "version": st.integers(1, 1_000_000),
    "manifest": digests,
    "purpose": st.sampled_from(Purpose),
    "ticket": st.text(st.characters(min_codepoint=32, max_codepoint=0x2100, exclude_characters="\x7f"), max_size=20),
    "justification": st.none() | digests,
    "image": st.sampled_from(["embedder", "other"]).map(ImageId),
    "measurement": digests,
    "platforms": st.lists(platforms, min_size=1, max_size=3, unique=True).map(tuple),
    "not_before": st.integers(NOW - DAY, NOW),
    "expires": st.integers(NOW + 1, NOW + 7 * DAY),
    "max_uses": st.integers(1, 1000),
    "nonce": st.binary(min_size=16, max_size=16),
    "roster": digests,
    "policy": digests,
    "log": st.builds(LogHead, size=st.integers(0, 1000), root=digests),
}
FIXED = {"action", "recipient", "target"}

requests = st.fixed_dictionaries(MEMBERS).map(
    lambda members: Request(action=Action.OPEN_IN_ENCLAVE, recipient=None, target=None, **members)  # type: ignore[arg-type]
)


def shown(request: Request) -> str:
    return as_text(render(request.to_bytes(), TRUST, STANDING, now=NOW))


def without_digest(text: str) -> str:
    """Drop the line with the request's own digest: it changes with anything and tells a person nothing."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("request "))


def test_every_member_of_a_request_is_drawn() -> None:
    assert {field.name for field in fields(Request)} == MEMBERS.keys() | FIXED


@given(request=requests, data=st.data())
def test_no_member_changes_unseen(request: Request, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(MEMBERS)))
    other = replace(request, **{name: data.draw(MEMBERS[name])})  # type: ignore[arg-type]
    assert (without_digest(shown(request)) == without_digest(shown(other))) is (request == other)


@given(request=requests)
def test_what_is_shown_cannot_move_a_terminal(request: Request) -> None:
    assert all(line.isprintable() for line in shown(request).splitlines())


def test_text_that_runs_backwards_is_shown_as_what_it_is() -> None:
    assert printable("a\u202eb\x1b[2J\x9bm") == "a\\u202eb\\x1b[2J\\x9bm"


def ask(**changes: object) -> Request:
    base = Request(
        genesis=GENESIS.digest,
        action=Action.OPEN_IN_ENCLAVE,
        requester=PersonId("dana"),
        model=ModelId("minilm"),
        version=1,
        manifest=Digest.of(b"m"),
        purpose=Purpose.SERVE,
        ticket="T-1",
        justification=None,
        image=ImageId("embedder"),
        measurement=Digest.of(b"x"),
        platforms=(platform_id("tpm-" + "5a" * 32),),
        recipient=None,
        target=None,
        not_before=NOW,
        expires=NOW + DAY,
        max_uses=3,
        nonce=bytes(16),
        roster=TRUST.digests[DocumentKind.ROSTER],
        policy=TRUST.digests[DocumentKind.POLICY],
        log=TRUST.head,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_an_approver_reads_who_what_why_where_how_long_and_how_often() -> None:
    text = shown(ask())
    for said in (
        "dana of research, roles approver-research, requester",
        "vetting tier 3",
        "30 d left",
        "open-in-enclave",
        "model minilm, version 1, SL2",
        "serve, ticket T-1",
        "image embedder",
        "platform tpm-5a5a",
        "isolation at least vm-simulated",
        "(1 d)",
        "up to 3 times",
        "1 x `approver-security`: sam",
        # Not the requester nor an agent, nor people who left, fell, were never vetted, whose vetting lapsed, or whose
        # tier is too low.
        "1 x `approver-research`: rina\n",
        "(in force)",
        "(this one)",
    ):
        assert said in text


def test_what_is_wrong_stands_out() -> None:
    assert "NOT IN THE ROSTER" in shown(ask(requester=PersonId("nobody")))
    assert "LAPSED" in shown(ask(requester=PersonId("late")))
    assert "NOT ACTIVE" in shown(ask(requester=PersonId("gone")))
    assert "NO VETTING RECORD" in shown(ask(requester=PersonId("new")))
    assert "SUSPENDED" in shown(ask(requester=PersonId("fell")))
    assert "AN AI AGENT on the account of erin" in shown(ask(requester=PersonId("robin")))
    # Whoever the server says nothing of isn't made out to be cleared.
    assert "NO VETTING RECORD" in as_text(render(ask().to_bytes(), TRUST, {}, now=NOW))
    assert "NOT IN FORCE" in shown(ask(policy=Digest.of(b"old")))
    assert "ANOTHER ONE" in shown(ask(genesis=Digest.of(b"other")))
    assert "EXPIRED" in shown(ask(not_before=NOW - DAY, expires=NOW))
    assert "NOBODY CAN" in shown(ask(model=ModelId("unknown")))


def test_spans_of_time_are_readable() -> None:
    assert [duration(n) for n in (0, 59, 3600, 90061, -60)] == ["0 s", "59 s", "1 h", "1 d 1 h", "-1 min"]
