"""What a client asks for and agrees to is bound to what it saw: documents, log, measurement, and to the rule."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.attester import APPRAISAL
from strongroom.access.decision import decide
from strongroom.access.engine import CedarEngine
from strongroom.access.facts import EnclaveFacts, Facts, PersonFacts
from strongroom.access.invariants import CUSTODIAN
from strongroom.access.policy import ModelTerms, NoRuleError, Rule
from strongroom.access.request import (
    APPROVAL_TYPE,
    DENIAL_TYPE,
    OPENS,
    REQUEST_TYPE,
    Action,
    LogHead,
    Purpose,
    Request,
)
from strongroom.attestation.measurement import launch_measurements
from strongroom.attestation.reference_values import ReferenceImage, ReferenceValues
from strongroom.audit.errors import ForkError
from strongroom.audit.succession import Succession
from strongroom.client import requests
from strongroom.client.default_policy import COURSE, EXPORTER, LEVELS, RESEARCH, RESPONDER, SECURITY, default_policy
from strongroom.client.requests import Asking, ForeignRequestError, StaleRequestError
from strongroom.client.state import ModelStatus
from strongroom.client.trust import LogWithheldError, Trust
from strongroom.client.wallet import EMPTY_LOG, Seen
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign, verify
from strongroom.core.errors import DeniedError, MalformedError, NotFoundError, UsageError
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ImageId, ModelId, PersonId, platform_id
from strongroom.core.signature import Ed25519Signer, SignatureError
from strongroom.framework.levels import SecurityLevel
from strongroom.personnel.roster import Person, Roster
from strongroom.release.documents import DocumentKind
from support.cosigners import LOG_COSIGNER

NOW = 1_795_471_717
DAY = 86400
MODEL = ModelId("minilm")
PLATFORM = platform_id("tpm-" + "5a" * 32)
IMAGE = ImageId("embedder")


def key(name: str) -> Ed25519Signer:
    return Ed25519Signer.from_seed(Digest.of(name.encode()).value)


GENESIS = Genesis(
    deployment="test",
    created=NOW,
    root_keys=(key("root").public_key,),
    root_threshold=1,
    keeper_key=key("keeper").public_key,
    log_origin="log",
    log_key=key("log").public_key,
    log_cosigner=LOG_COSIGNER,
)


def person(name: str, *roles: str, org: str = "research") -> Person:
    return Person(
        id=PersonId(name),
        org=org,
        active=name != "gone",
        roles=frozenset(roles),
        keys=(key(name).public_key,),
    )


PEOPLE = (
    person("dana", "publisher", "requester", "responder", EXPORTER),
    person("sam", SECURITY, org="security"),
    person("rina", RESEARCH, org="science"),
    person("remy", RESPONDER, org="security"),
    person("cora", CUSTODIAN, org="security"),
    person("gone", SECURITY, RESEARCH),
)


def image(revoked: bool = False) -> ReferenceImage:  # noqa: FBT001, FBT002 - a test's shorthand
    events = launch_measurements(
        interpreter=Digest.of(b"i"),
        files=Digest.of(b"f"),
        command=Digest.of(b"c"),
        sandbox=Digest.of(b"s"),
        genesis=GENESIS.digest,
    )
    return ReferenceImage.launched(IMAGE, events, revoked=revoked)


def trust(level: SecurityLevel = SecurityLevel.SL2, **changes: object) -> Trust:
    roster = Roster(genesis=GENESIS.digest, epoch=1, predecessor=None, people=PEOPLE)
    terms = (ModelTerms(model=MODEL, level=level, least_isolation="vm-simulated", export=True),)
    policy = replace(default_policy(GENESIS.digest), models=terms)
    values = ReferenceValues(
        genesis=GENESIS.digest, epoch=1, images=(image(),), anchors=(), appraisal=APPRAISAL, not_after=NOW + DAY
    )
    base = Trust(
        genesis=GENESIS,
        log=Succession.of(GENESIS),
        head=LogHead(size=9, root=Digest.of(b"root")),
        roster=roster,
        policy=policy,
        reference_values=values,
        digests={
            DocumentKind.ROSTER: Digest.of(roster.to_bytes()),
            DocumentKind.POLICY: Digest.of(policy.to_bytes()),
            DocumentKind.REFERENCE_VALUES: values.digest,
        },
        models={MODEL: ModelStatus(version=4, manifest=Digest.of(b"m"), data_key="k", frozen=False)},
        locked=False,
        cause="",
        seen=Seen(log=EMPTY_LOG),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def asking(window: int | None = None) -> Asking:
    return Asking(
        requester=PersonId("dana"),
        purpose=Purpose.EVALUATE,
        ticket="T-1",
        now=NOW,
        window=window,
        random_bytes=os.urandom,
    )


def to_open(view: Trust, why: Asking, uses: int = 1) -> Request:
    return requests.ask_to_open(view, why, model=MODEL, image=IMAGE, platforms=[PLATFORM], uses=uses)


Builder = Callable[[Trust, Asking], Request]
BUILDERS: dict[Action, Builder] = {
    Action.OPEN_IN_ENCLAVE: to_open,
    Action.BREAK_GLASS: lambda view, why: requests.ask_to_open(
        view, why, model=MODEL, image=IMAGE, platforms=[PLATFORM], uses=1, action=Action.BREAK_GLASS
    ),
    Action.EXPORT_PLAINTEXT: lambda view, why: requests.ask_to_export(
        view, why, model=MODEL, recipient=Digest.of(b"r")
    ),
    Action.SEAL: lambda view, why: requests.ask_to_seal(view, why, model=MODEL, recipient=Digest.of(b"r")),
    Action.FREEZE: lambda view, why: requests.ask_to_freeze(view, why, model=MODEL),
    Action.RESUME: lambda view, why: requests.ask_to_resume(view, why, model=MODEL),
    Action.ROTATE: lambda view, why: requests.ask_to_rotate(view, why, model=MODEL),
    Action.LIFT: lambda view, why: requests.ask_to_lift(view, why, model=MODEL, precaution=Digest.of(b"t")),
    Action.DESTROY: lambda view, why: requests.ask_to_destroy(view, why, model=MODEL),
    Action.REVOKE_GRANT: lambda view, why: requests.ask_to_revoke_grant(view, why, model=MODEL, target=Digest.of(b"t")),
    Action.REVOKE_PLATFORM: lambda view, why: requests.ask_to_revoke_platforms(
        view, why, model=MODEL, platforms=[PLATFORM]
    ),
}


def never(_old: int, _new: int) -> tuple[bytes, ...]:
    raise AssertionError("no proof is needed")


def asked(view: Trust, **changes: object) -> Envelope:
    request = replace(to_open(view, asking()), **changes)  # type: ignore[arg-type]
    return sign(REQUEST_TYPE, request.to_bytes(), key("dana"))


def approve(envelope: Envelope, view: Trust, by: str = "sam", now: int = NOW) -> Envelope:
    return requests.approve(envelope, view, key(by), person=PersonId(by), now=now, prove=never)


# --- asking -----------------------------------------------------------------------------------------------------------


def test_there_is_a_builder_for_every_action() -> None:
    assert set(BUILDERS) == set(Action)


@pytest.mark.parametrize("action", list(Action))
def test_every_request_is_bound_to_what_was_seen(action: Action) -> None:
    view = trust()
    one, two = (BUILDERS[action](view, asking()) for _ in range(2))
    assert Request.parse(one.to_bytes()) == one
    assert one.nonce != two.nonce
    assert (one.action, one.genesis, one.log) == (action, GENESIS.digest, view.head)
    assert one.roster == view.digests[DocumentKind.ROSTER]
    assert one.policy == view.digests[DocumentKind.POLICY]
    assert one.not_before <= NOW < one.expires


def test_opening_names_the_current_version_and_the_measurement_in_force() -> None:
    request = to_open(trust(), asking())
    assert (request.version, request.manifest) == (4, Digest.of(b"m"))
    assert request.measurement == image().measurement
    assert BUILDERS[Action.SEAL](trust(), asking()).version == 5


@given(window=st.integers(-DAY, 20 * DAY), uses=st.integers(-5, 3000))
def test_nothing_beyond_the_rule_is_asked(window: int, uses: int) -> None:
    view = trust()
    assert view.policy is not None
    rule = view.policy.rule(Action.OPEN_IN_ENCLAVE, SecurityLevel.SL2)
    try:
        request = to_open(view, asking(window), uses)
    except UsageError:
        assert not (requests.CLOCK_SLACK < window <= rule.max_window and 1 <= uses <= rule.max_uses)
    else:
        assert 0 < request.expires - request.not_before == window <= rule.max_window
        assert 1 <= request.max_uses == uses <= rule.max_uses


def test_what_is_not_in_force_is_not_asked_for() -> None:
    revoked = ReferenceValues(
        genesis=GENESIS.digest, epoch=1, images=(image(revoked=True),), anchors=(), appraisal=APPRAISAL, not_after=NOW
    )
    for view in (trust(reference_values=revoked), trust(reference_values=None), trust(models={})):
        with pytest.raises(NotFoundError):
            to_open(view, asking())
    with pytest.raises(DeniedError, match="in force"):
        to_open(trust(policy=None), asking())
    with pytest.raises(NoRuleError):
        BUILDERS[Action.EXPORT_PLAINTEXT](trust(SecurityLevel.SL5), asking())


def test_a_request_is_signed_by_a_key_that_the_roster_lists_under_its_requester() -> None:
    view = trust()
    request = to_open(view, asking())
    verify(requests.sign_request(request, key("dana"), view), REQUEST_TYPE, [key("dana").public_key], threshold=1)
    for other in ("sam", "mallory"):
        with pytest.raises(DeniedError) as caught:
            requests.sign_request(request, key(other), view)
        assert caught.value.reason == "not-in-roster"


# --- agreeing ---------------------------------------------------------------------------------------------------------


def test_an_approval_signs_the_same_bytes_in_a_domain_of_its_own() -> None:
    view = trust()
    envelope = asked(view)
    approval = approve(envelope, view)
    assert approval.payload == envelope.payload
    verify(approval, APPROVAL_TYPE, [key("sam").public_key], threshold=1)
    with pytest.raises(SignatureError):
        verify(replace(approval, kind=DENIAL_TYPE), DENIAL_TYPE, [key("sam").public_key], threshold=1)
    denial = requests.deny(envelope, view, key("sam"), person=PersonId("sam"))
    assert (denial.kind, denial.payload) == (DENIAL_TYPE, envelope.payload)


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"genesis": Digest.of(b"x")}, ForeignRequestError, "foreign-request"),
        ({"requester": PersonId("nobody")}, ForeignRequestError, "foreign-request"),
        ({"requester": PersonId("rina")}, SignatureError, "bad-signature"),
        ({"roster": Digest.of(b"x")}, StaleRequestError, "roster-changed"),
        ({"policy": Digest.of(b"x")}, StaleRequestError, "policy-changed"),
        ({"measurement": Digest.of(b"x")}, StaleRequestError, "measurement-changed"),
        ({"image": ImageId("unknown")}, NotFoundError, "not-found"),
        ({"not_before": NOW - 2, "expires": NOW}, StaleRequestError, "request-expired"),
        ({"log": LogHead(size=10, root=Digest.of(b"root"))}, LogWithheldError, "log-withheld"),
        ({"log": LogHead(size=9, root=Digest.of(b"x"))}, ForkError, "log-forked"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_nothing_is_signed_that_differs_from_what_was_seen(
    changes: dict[str, object], error: type[Exception], reason: str
) -> None:
    view = trust()
    with pytest.raises(error) as caught:
        approve(asked(view, **changes), view)
    assert getattr(caught.value, "reason", None) == reason


def test_only_people_of_the_roster_agree_and_not_to_their_own() -> None:
    view = trust()
    for name, reason in (("dana", "self-approval"), ("gone", "not-in-roster"), ("mallory", "not-in-roster")):
        with pytest.raises(DeniedError) as caught:
            approve(asked(view), view, by=name)
        assert caught.value.reason == reason
    with pytest.raises(DeniedError):
        requests.approve(asked(view), view, key("mallory"), person=PersonId("sam"), now=NOW, prove=never)


@given(data=st.data())
def test_no_changed_byte_of_a_request_is_approved(data: st.DataObject) -> None:
    view = trust()
    envelope = asked(view)
    payload = bytearray(envelope.payload)
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises((MalformedError, SignatureError, ForeignRequestError)):
        approve(replace(envelope, payload=bytes(payload)), view)


# --- the policy to begin with -----------------------------------------------------------------------------------------


def cleared(one: Person, rule: Rule) -> PersonFacts:
    """Return somebody whose vetting, training and key are good for the rule, and who approved just now."""
    return PersonFacts(
        id=one.id,
        org=one.org,
        roles=one.roles,
        active=one.active,
        employment="active",
        tier=max(rule.requester_tier, rule.approver_tier),
        vetted_until=NOW + DAY,
        copy_until=NOW + DAY,
        nda=rule.nda,
        courses=frozenset(rule.courses),
        hardware=rule.hardware,
        approved_at=NOW,
    )


def facts(rule: Rule, approvers: tuple[Person, ...]) -> Facts:
    view, action = trust(rule.level), rule.action
    assert view.policy is not None

    return Facts(
        now=NOW,
        request=BUILDERS[action](view, asking()),
        terms=view.policy.terms(MODEL),
        rule=rule,
        requester=cleared(PEOPLE[0], rule),
        approvers=tuple(cleared(one, rule) for one in approvers),
        repeated=frozenset(),
        recorded_at=NOW,
        # What waits from its grant was granted long enough ago.
        granted_at=NOW - rule.delay,
        denied=False,
        frozen=False,
        uses_left=1,
        enclave=EnclaveFacts(isolation=2, least_isolation=2, level_cap=5, measurement_current=True, platform_named=True)
        if action in OPENS
        else None,
    )


RULES = default_policy(GENESIS.digest).rules


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.level.value}-{rule.action.value}")
def test_each_default_rule_can_be_met_and_only_by_all_its_people(rule: Rule) -> None:
    engine = CedarEngine(default_policy(GENESIS.digest))
    needed = {factor.role for factor in rule.factors}
    everybody = tuple(one for one in PEOPLE[1:] if one.active and one.roles & needed)
    assert len(everybody) == rule.quorum
    assert decide(facts(rule, everybody), engine).allowed
    for one in everybody:
        rest = tuple(other for other in everybody if other is not one)
        assert not decide(facts(rule, rest), engine).allowed


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.level.value}-{rule.action.value}")
def test_what_a_default_rule_wants_of_people_each_of_them_must_bring(rule: Rule) -> None:
    engine = CedarEngine(default_policy(GENESIS.digest))
    needed = {factor.role for factor in rule.factors}
    good = facts(rule, tuple(one for one in PEOPLE[1:] if one.active and one.roles & needed))
    lacking: dict[str, bool] = {
        "hardware": rule.hardware and rule.action is not Action.FREEZE,
        "nda": rule.nda,
        "courses": bool(rule.courses),
        "tier": bool(rule.requester_tier),
    }
    without: dict[str, object] = {"hardware": False, "nda": False, "courses": frozenset(), "tier": 0}
    for name, wanted in lacking.items():
        requester = replace(good.requester, **{name: without[name]})  # type: ignore[arg-type]
        assert decide(replace(good, requester=requester), engine).allowed is not wanted
        for one in good.approvers if wanted and (name != "tier" or rule.approver_tier) else ():
            weaker = replace(one, **{name: without[name]})  # type: ignore[arg-type]
            others = tuple(weaker if other is one else other for other in good.approvers)
            assert not decide(replace(good, approvers=others), engine).allowed


def test_the_default_rules_ask_for_whom_they_should() -> None:
    people: dict[Action, list[int]] = {}
    for rule in RULES:
        people.setdefault(rule.action, []).append(rule.quorum)
    assert people == {
        Action.SEAL: [0, 0, 2, 2, 2],
        Action.OPEN_IN_ENCLAVE: [1, 2, 2, 2, 3],
        Action.BREAK_GLASS: [2, 2, 2, 2, 2],
        Action.FREEZE: [0, 0, 0, 0, 0],
        Action.RESUME: [2, 2, 2, 2, 2],
        Action.REVOKE_GRANT: [0, 0, 2, 2, 2],
        Action.REVOKE_PLATFORM: [0, 0, 2, 2, 2],
        Action.ROTATE: [0, 0, 2, 2, 2],
        Action.LIFT: [2, 2, 2, 2, 2],
        Action.DESTROY: [2, 2, 2, 3, 3],
        # At SL5 nothing is exported: there is no rule to meet.
        Action.EXPORT_PLAINTEXT: [2, 2, 2, 3],
    }
    with pytest.raises(NoRuleError):
        default_policy(GENESIS.digest).rule(Action.EXPORT_PLAINTEXT, SecurityLevel.SL5)
    strict = {rule.level for rule in RULES if rule.hardware}, {rule.level for rule in RULES if COURSE in rule.courses}
    assert strict == (set(LEVELS[2:]), set(LEVELS[2:]))
    assert {rule.level for rule in RULES if rule.nda} == set(LEVELS[1:])
