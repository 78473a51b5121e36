"""A statement counts if attestors of today signed it, for this deployment, for now; and it outweighs nothing seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.assurance.assessment import Assessment, UnfoundedAssessmentError, assess
from strongroom.assurance.errors import StatementInvalidError
from strongroom.assurance.findings import Basis, State
from strongroom.assurance.judging import judge
from strongroom.assurance.plan import PLAN_TYPE, verify_plan
from strongroom.assurance.statements import LONGEST, STATEMENT_TYPE, Claim, Statement, verify_statement
from strongroom.assurance.thresholds import Thresholds
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, payload_type, sign
from strongroom.core.errors import MalformedError
from strongroom.core.ids import PersonId
from strongroom.core.signature import SignatureError
from strongroom.framework.catalogue import load
from strongroom.framework.ids import MeasureId
from strongroom.framework.levels import SecurityLevel
from support.assessing import DAY, GENESIS, NOW, World, plan, statement, suite
from support.deployment import signer

ATTESTORS = {signer(name).public_key.key_id: (PersonId(name), signer(name).public_key) for name in ("sam", "rina")}
SAID = statement(MeasureId("SL1-STC-01")).statement


def checked(said: Statement, *by: str, kind: str = STATEMENT_TYPE) -> object:
    """Sign a statement and check it."""
    envelope = sign(kind, said.to_bytes(), *(signer(name) for name in by))
    return verify_statement(envelope, ATTESTORS, genesis=GENESIS, now=NOW)


def refused(said: Statement, *by: str) -> str:
    """Return why a statement doesn't count."""
    with pytest.raises(StatementInvalidError) as caught:
        checked(said, *by)
    return caught.value.reason


def test_what_an_attestor_signed_counts() -> None:
    assert checked(SAID, "sam")


def test_who_isnt_an_attestor_attests_nothing() -> None:
    assert refused(SAID, "dana") == "not-an-attestor"
    assert refused(SAID, "sam", "dana") == "not-an-attestor"


def test_nobody_attests_in_anothers_name() -> None:
    assert refused(SAID, "rina") == "statement-signers-missing"


def test_one_person_is_never_two() -> None:
    for claim in (Claim.ALTERNATIVE, Claim.NOT_APPLICABLE):
        said = replace(SAID, claim=claim)
        assert refused(said, "sam") == "statement-signers-missing"
        twice = sign(STATEMENT_TYPE, said.to_bytes(), signer("sam"))
        envelope = Envelope(twice.kind, twice.payload, twice.signatures * 2)
        with pytest.raises(StatementInvalidError):
            verify_statement(envelope, ATTESTORS, genesis=GENESIS, now=NOW)
        assert checked(said, "sam", "rina")


def test_a_statement_ends_and_doesnt_begin_early() -> None:
    assert refused(replace(SAID, at=NOW - 9 * DAY, expires=NOW), "sam") == "statement-expired"
    assert refused(replace(SAID, at=NOW + 1, expires=NOW + DAY), "sam") == "statement-expired"
    with pytest.raises(MalformedError):
        replace(SAID, expires=SAID.at + LONGEST + 1)


def test_a_statement_is_of_one_deployment_and_one_kind() -> None:
    assert refused(replace(SAID, genesis=Digest.of(b"another")), "sam") == "statement-elsewhere"
    with pytest.raises(SignatureError):
        checked(SAID, "sam", kind=payload_type("security-plan.v1"))


@pytest.mark.parametrize(
    ("by", "genesis", "reason"),
    [
        (("sam",), GENESIS, "plan-signers-missing"),
        (("sam", "sam"), GENESIS, "plan-signers-missing"),
        (("sam", "dana"), GENESIS, "not-an-attestor"),
        (("sam", "rina"), Digest.of(b"another"), "statement-elsewhere"),
    ],
)
def test_a_plan_counts_by_two_attestors_of_its_deployment(by: tuple[str, ...], genesis: Digest, reason: str) -> None:
    envelope = sign(PLAN_TYPE, plan().to_bytes(), *(signer(name) for name in ("sam", "rina")))
    assert verify_plan(envelope, ATTESTORS, genesis=GENESIS) == plan()
    with pytest.raises(StatementInvalidError) as caught:
        verify_plan(sign(PLAN_TYPE, plan().to_bytes(), *map(signer, by)), ATTESTORS, genesis=genesis)
    assert caught.value.reason == reason


def test_a_changed_word_is_noticed() -> None:
    envelope = sign(STATEMENT_TYPE, SAID.to_bytes(), signer("sam"))
    changed = Envelope(envelope.kind, envelope.payload.replace(b"it is so", b"it is no"), envelope.signatures)
    with pytest.raises(SignatureError):
        verify_statement(changed, ATTESTORS, genesis=GENESIS, now=NOW)


def test_no_word_outweighs_what_was_seen(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.rules(hardware=False)
    measure = MeasureId("SL2-WAC-01")
    assert world.findings()[measure].state is State.NOT_MET


def test_an_alternative_is_recorded_as_one(tmp_path: Path) -> None:
    world, measure = World(tmp_path), MeasureId("SL2-WAC-01")
    world.rules(hardware=False)
    words = (statement(measure, Claim.ALTERNATIVE, text="people are let in by a guard"),)
    finding = judge(world.observations(), words, load(), limits=Thresholds(), now=NOW)[measure]
    assert (finding.state, finding.basis) == (State.MET, Basis.ATTESTED)
    assert finding.alternative == "people are let in by a guard"
    assert "sam and rina" in finding.why


def test_what_was_seen_to_apply_isnt_called_away(tmp_path: Path) -> None:
    world, measure = World(tmp_path), MeasureId("SL2-WAC-01")
    words = (statement(measure, Claim.NOT_APPLICABLE),)
    assert judge((), words, load(), limits=Thresholds(), now=NOW)[measure].state is State.NOT_APPLICABLE
    world.rules(hardware=False)
    finding = judge(world.observations(), words, load(), limits=Thresholds(), now=NOW)[measure]
    assert finding.state is State.NOT_MET
    assert "outweighed" in finding.why
    # Something else may serve instead; what was seen is told beside it, and named.
    words = (statement(measure, Claim.ALTERNATIVE, text="a guard"),)
    finding = judge(world.observations(), words, load(), limits=Thresholds(), now=NOW)[measure]
    assert finding.state is State.MET
    assert "not so: every rule asks for security keys" in finding.why
    assert finding.observations


def test_a_rung_is_covered_by_a_higher_one_unless_that_was_talked_away() -> None:
    low, high = MeasureId("SL1-WPH-01"), MeasureId("SL3-WPH-01")
    found = judge((), (statement(high),), load(), limits=Thresholds(), now=NOW)
    assert found[low].state is State.MET
    assert high in found[low].why
    found = judge((), (statement(high, Claim.ALTERNATIVE),), load(), limits=Thresholds(), now=NOW)
    assert found[low].state is State.NOT_ASSESSED


def assessed(world: World, *words: object) -> Assessment:
    """Assess a world."""
    return assess(
        world.observations(),
        words,  # type: ignore[arg-type]
        load(),
        genesis=GENESIS,
        deployment="test",
        goal=SecurityLevel.SL3,
        limits=world.limits,
        version="1",
        now=NOW,
        attacks=world.run,
    )


def test_an_assessment_says_no_more_than_its_observations_carry(tmp_path: Path) -> None:
    made = assessed(World(tmp_path), statement(MeasureId("SL1-STC-01")))
    made.check(load())
    assert Assessment.parse(made.to_bytes()) == made
    name = MeasureId("SL1-NAC-05")
    raised = {**made.findings, name: replace(made.findings[name], state=State.MET)}
    expired = statement(MeasureId("SL1-STC-01"), at=NOW - 2 * DAY, expires=NOW - DAY)
    alone = replace(statement(MeasureId("SL1-STC-01"), Claim.ALTERNATIVE), signers=(PersonId("sam"),))
    for false in (
        replace(made, findings=raised),
        replace(made, held=SecurityLevel.SL1),
        replace(made, observations=made.observations[1:]),
        replace(made, limits=Thresholds(backup_days=1)),
        replace(made, at=NOW + 40 * DAY),
        replace(made, statements=(expired,)),
        replace(made, statements=(alone,)),
        replace(made, attacks=None),
        replace(made, attacks=replace(suite(), results=())),
    ):
        with pytest.raises(UnfoundedAssessmentError):
            false.check(load())


def test_no_assessment_holds_what_nobody_awards_to_themselves(tmp_path: Path) -> None:
    made = assessed(World(tmp_path), statement(MeasureId("SL1-STC-01")))
    with pytest.raises(MalformedError, match="SL4"):
        Assessment.parse(replace(made, held=SecurityLevel.SL5).to_bytes())
