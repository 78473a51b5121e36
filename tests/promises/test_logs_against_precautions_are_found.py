"""A keeper that lies about precautions, or how many agreed, is found by who verifies: by the log or what was signed."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from strongroom.access.request import Action
from strongroom.audit import standalone_verifier
from strongroom.audit.entries import read_entry
from strongroom.audit.facts import Fact
from strongroom.audit.note import VerifierKey
from strongroom.cli.main import main
from strongroom.core.clock import format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId, PersonId
from strongroom.intake.copies.register import Ending
from strongroom.keys.recipient import RecipientKey
from strongroom.release.chronicle import UnfoundedError
from strongroom.release.dossier import Dossier
from strongroom.release.errors import LedgerError
from strongroom.release.precautions import DAY, Precaution, PrecautionKind
from strongroom.release.retrial import Retrial, Verdict
from strongroom.release.statements import StatementKind
from support.deployment import MODEL
from support.lying import lie
from support.precaution_statements import ESCROW_FACTS, said, take
from support.published import publish
from support.retold import codes, retell
from support.room import Room
from support.stories import hire, run, someone

pytestmark = pytest.mark.integration
APPROVER, SAMPLING, HOLD = PrecautionKind
Story = Callable[[Room], Awaitable[None]]


async def told(room: Room, envelope: Envelope, **facts: Fact) -> None:
    """Record a precaution as taken, whoever signed it and whatever it says, with facts of the entry changed."""
    made = Precaution.parse(envelope.payload)
    room.documents.save(StatementKind.PRECAUTION.value, envelope.digest, envelope.to_bytes())
    true: dict[str, Fact] = {
        "kind": made.kind.value,
        "subject": made.subject,
        "cause": made.cause.value,
        "incident": made.incident,
        "until": None if made.until is None else format_instant(made.until),
        "person": "dana",
        "statement": envelope.digest,
    }
    await lie(room.keeper, EventName.PRECAUTION_TAKEN, true | facts)


async def used_again(room: Room) -> None:
    """Record that a grant of before is used once more, by as many people as before, under the policy in force."""
    last, policy = room.log.last(EventName.RELEASED), Digest.of(room.policy.to_bytes())
    await lie(room.keeper, EventName.RELEASED, {**last.facts, "use": last.integer("use") + 1, "policy": policy})


async def lifted(room: Room, name: Digest, *people: str) -> None:
    """Record that a precaution was lifted at dana's request, after these people agreed."""
    request = await room.submit(Action.LIFT, target=name)
    await room.approvals(request, *people)
    facts: dict[str, Fact] = {"request": request.digest, "model": MODEL, "precaution": name}
    await lie(room.keeper, EventName.PRECAUTION_LIFTED, facts)


# --- each lie, and what it is found by --------------------------------------------------------------------------------


async def released_by_too_few(room: Room) -> None:
    await room.release(await room.ask(max_uses=3))
    await take(room)
    await used_again(room)


async def released_against_a_stricter_rule(room: Room) -> None:
    await room.release(await room.ask(max_uses=3))
    rule = next(one for one in room.policy.rules if one.action is Action.OPEN_IN_ENCLAVE)
    others = tuple(one for one in room.policy.rules if one is not rule)
    await room.next_policy(rules=(*others, replace(rule, factors=(replace(rule.factors[0], count=3),))))
    await used_again(room)


async def released_without_a_rule(room: Room) -> None:
    await room.release(await room.ask(max_uses=3))
    await room.next_policy(rules=tuple(one for one in room.policy.rules if one.action is not Action.OPEN_IN_ENCLAVE))
    await used_again(room)


async def released_as_if_nothing_were_asked(room: Room) -> None:
    await room.release(await room.ask(max_uses=2))
    await take(room, SAMPLING)
    await used_again(room)


async def redelivered_as_if_nothing_were_asked(room: Room) -> None:
    await room.release(await room.ask())
    await take(room, SAMPLING)
    await lie(room.keeper, EventName.REDELIVERED, redelivery_facts(room))


async def proved_anew_as_if_nothing_were_asked(room: Room) -> None:
    await room.release(await room.ask())
    await take(room, SAMPLING)
    await lie(room.keeper, EventName.LEASE_ATTESTED, lease_facts(room))


async def released_with_a_word_that_nobody_knows(room: Room) -> None:
    await room.release(await room.ask())
    await lie(room.keeper, EventName.LEASE_ATTESTED, {**lease_facts(room), "sampling": "half"})


def redelivery_facts(room: Room) -> dict[str, Fact]:
    """What the log would say of the newest release, made again."""
    last, index = room.log.last(EventName.RELEASED), len(room.log.entries) - 1
    while read_entry(room.log.entries[index]) != last:
        index -= 1
    names = ("request", "use", "recipient", "evidence", "result", "attested", "sampling")
    return {**{name: last.facts[name] for name in names}, "released": index}


def lease_facts(room: Room) -> dict[str, Fact]:
    """What the log would say of the newest release's lease with the same evidence."""
    last = room.log.last(EventName.RELEASED)
    names = ("request", "use", "isolation", "evidence", "result", "attested", "reference_values")
    return {name: last.facts[name] for name in (*names, "appraisal_policy", "collateral", "sampling")}


async def lifted_by_one(room: Room) -> None:
    await lifted(room, await take(room, HOLD), "sam")


async def lifted_by_the_taker_alone(room: Room) -> None:
    name = await take(room, HOLD)
    request = await room.submit(Action.LIFT, target=name)
    await room.keeper.record(
        EventName.REFUSED, {"request": request.digest, "step": "4.9", "reason": "quorum-not-met", "decision": None}
    )
    facts: dict[str, Fact] = {"request": request.digest, "model": MODEL, "precaution": name}
    await lie(room.keeper, EventName.PRECAUTION_LIFTED, facts)


async def of_another_deployment(room: Room) -> None:
    await told(room, said(room, HOLD, genesis=Digest.of(b"another")))


async def with_a_forged_subject(room: Room) -> None:
    await told(room, said(room, APPROVER), subject="rina")


async def about_nobody_known(room: Room) -> None:
    await told(room, said(room, APPROVER, subject="nobody"))


async def signed_by_no_responder(room: Room) -> None:
    await told(room, said(room, HOLD, by="sam"), person="sam")


async def signed_by_another(room: Room) -> None:
    await told(room, said(room, HOLD, by="sam"))


async def said_twice(room: Room) -> None:
    envelope = said(room, HOLD)
    await room.people.state(StatementKind.PRECAUTION, envelope)
    request = await room.submit(Action.LIFT, target=envelope.digest)
    await room.keeper.control(Dossier(request=request, approvals=await room.approvals(request)))
    await told(room, envelope)


async def kept_back(room: Room) -> None:
    envelope = said(room, HOLD)
    room.clock.at = room.clock.now() + 2 * 3600
    await told(room, envelope)


async def copy_destroyed(room: Room) -> None:
    await take(room, HOLD)
    await lie(room.keeper, EventName.COPY_RECORDED, copy_facts(room, "added"))
    await lie(room.keeper, EventName.COPY_RECORDED, copy_facts(room, Ending.DESTROYED.value))


async def copy_dated_back_and_no_word_of_the_hold(room: Room) -> None:
    await copy_dated_back(room, None)


async def copy_dated_back_and_another_hold_named(room: Room) -> None:
    await copy_dated_back(room, Digest.of(b"another hold"))


async def copy_ended_and_a_hold_that_isnt_there(room: Room) -> None:
    await lie(room.keeper, EventName.COPY_RECORDED, copy_facts(room, "added"))
    ended = copy_facts(room, Ending.DESTROYED.value)
    await lie(room.keeper, EventName.COPY_RECORDED, {**ended, "hold": Digest.of(b"a hold")})


async def copy_dated_back(room: Room, told: Digest | None) -> Digest:
    """Record that a copy ended a second before a hold began that stands, and that it did or didn't."""
    await lie(room.keeper, EventName.COPY_RECORDED, copy_facts(room, "added"))
    before = copy_facts(room, Ending.DESTROYED.value)
    room.clock.at = room.clock.now() + 1
    name = await take(room, HOLD)
    await lie(room.keeper, EventName.COPY_RECORDED, {**before, "hold": told})
    return name


async def data_key_given_up(room: Room) -> None:
    rotated = await room.submit(Action.ROTATE)
    keys = room.keeper.journal.ledger.keys
    active = keys.active(ModelId(MODEL))
    assert active is not None
    draft: dict[str, Fact] = {
        "request": rotated.digest, "use": 1, "model": MODEL, "version": 2, "data_key": "draft", "kek": active.kek,
        "recipient": Digest.of(b"recipient"),
    }  # fmt: skip
    await lie(room.keeper, EventName.DATA_KEY_CREATED, draft)
    await take(room, HOLD)
    facts: dict[str, Fact] = {
        "request": rotated.digest, "model": MODEL, "kek": "new", "previous": active.kek, "epoch": active.epoch,
    }  # fmt: skip
    await lie(room.keeper, EventName.KEK_ROTATED, facts)
    await lie(room.keeper, EventName.KEK_RETIRED, {"model": MODEL, "kek": active.kek, "lost": ("draft",)})


async def share_destroyed(room: Room) -> None:
    await lie(room.keeper, EventName.ESCROW_ADOPTED, ESCROW_FACTS)
    await take(room, HOLD)
    answered: dict[str, Fact] = {"custodian": "sam", "generation": 1, "statement": Digest.of(b"gone")}
    await lie(room.keeper, EventName.ESCROW_ANSWERED, answered)


def copy_facts(room: Room, state: str) -> dict[str, Fact]:
    now = room.clock.now()
    return {
        "copy": "1" * 32,
        "model": ModelId(MODEL),
        "version": 1,
        "kind": "exported",
        "place": Digest.of(b"place"),
        "state": state,
        "made": format_instant(now),
        "due": format_instant(now + 100),
        "expires": format_instant(now + 1000),
        "hold": None,
        "statement": Digest.of(state.encode()),
        "person": PersonId("dana"),
    }


@pytest.mark.parametrize(
    ("story", "code"),
    [
        (released_by_too_few, "act-below-quorum"),
        (released_against_a_stricter_rule, "act-below-quorum"),
        (released_without_a_rule, "act-without-rule"),
        (released_as_if_nothing_were_asked, "sampling-understated"),
        (redelivered_as_if_nothing_were_asked, "sampling-understated"),
        (proved_anew_as_if_nothing_were_asked, "sampling-understated"),
        (released_with_a_word_that_nobody_knows, "sampling-understated"),
        (lifted_by_one, "act-without-approval"),
        (lifted_by_the_taker_alone, "act-without-approval"),
        (of_another_deployment, "exhibit-contradicts-log"),
        (with_a_forged_subject, "exhibit-contradicts-log"),
        (about_nobody_known, "precaution-subject-unknown"),
        (signed_by_no_responder, "statement-by-another"),
        (signed_by_another, "bad-signature"),
        (said_twice, "statement-twice"),
        (kept_back, "precaution-not-current"),
        (copy_destroyed, "act-against-hold"),
        (copy_dated_back_and_no_word_of_the_hold, "hold-not-told"),
        (copy_dated_back_and_another_hold_named, "hold-not-told"),
        (copy_ended_and_a_hold_that_isnt_there, "hold-not-told"),
        (data_key_given_up, "act-against-hold"),
        (share_destroyed, "act-against-hold"),
    ],
)
def test_it_is_found(story: Story, code: str) -> None:
    async def whole(room: Room) -> None:
        await story(room)
        found = codes(retell(room))
        assert code in found

    run(whole)


@pytest.mark.parametrize(
    ("event", "facts"), [(EventName.REDELIVERED, redelivery_facts), (EventName.LEASE_ATTESTED, lease_facts)]
)
def test_an_entry_that_says_less_than_is_owed_isnt_recorded(
    event: EventName, facts: Callable[[Room], dict[str, Fact]]
) -> None:
    async def story(room: Room) -> None:
        await room.release(await room.ask())
        owed = facts(room)
        await take(room, SAMPLING)
        with pytest.raises(UnfoundedError) as caught:
            await room.keeper.record(event, owed)
        assert caught.value.reason == "sampling-understated"
        await room.keeper.record(event, {**owed, "sampling": "whole"})
        assert retell(room).findings == ()

    run(story)


def test_a_registrars_word_of_before_a_hold_is_disputed_and_blames_nobody() -> None:
    async def story(room: Room) -> None:
        name = await take(room, HOLD)
        request = await room.submit(Action.LIFT, target=name)
        await room.keeper.control(Dossier(request=request, approvals=await room.approvals(request)))
        room.clock.at = room.clock.now() + 1
        # As the keeper would record it: the name of the hold is known before.
        await lie(room.keeper, EventName.COPY_RECORDED, copy_facts(room, "added"))
        before = copy_facts(room, Ending.RETURNED.value)
        room.clock.at = room.clock.now() + 1
        hold = await take(room, HOLD)
        await room.keeper.record(EventName.COPY_RECORDED, {**before, "hold": hold})
        # By the log alone as well: no object is handed in.
        for verdict in (retell(room), from_the_log_alone(room)):
            assert verdict.findings == ()
            ((index, message),) = verdict.disputes
            assert index == len(room.log.entries) - 1
            assert all(word in message for word in ("`dana`", "returned", str(before["made"]), str(hold)))

    run(story)


def from_the_log_alone(room: Room) -> Verdict:
    """Judge a room's log without anything that it names."""
    retrial = Retrial(room.genesis, None)
    for index, data in enumerate(room.log.entries):
        retrial.take(index, read_entry(data), bytes(32))
    return retrial.verdict()


def test_one_whose_end_is_past_or_too_far_is_no_entry_that_any_log_can_hold() -> None:
    async def story(room: Room) -> None:
        now = room.clock.now()
        for until in (now, now - 60, now + 7 * DAY + 1):
            with pytest.raises(LedgerError, match="unknown form"):
                await told(room, said(room), until=format_instant(until))
        assert not room.keeper.journal.ledger.precautions.standing(now)

    run(story)


def test_an_honest_log_with_all_of_it_is_found_good() -> None:
    """What was said before a hold began, and a loss, are told while it stands; two lift, whoever took it."""

    async def story(room: Room) -> None:
        await hire(room, someone("tess", "responder"))
        await room.vet("tess")
        name = await take(room, HOLD, by="tess")
        request = await room.submit(Action.LIFT, target=name, by="tess")
        await room.keeper.control(Dossier(request=request, approvals=await room.approvals(request)))
        await take(room, SAMPLING)
        await lie(room.keeper, EventName.COPY_RECORDED, copy_facts(room, "added"))
        before = copy_facts(room, Ending.DESTROYED.value)
        room.clock.at = room.clock.now() + 1
        hold = await take(room, HOLD)
        await room.keeper.record(EventName.COPY_RECORDED, {**before, "hold": hold})
        # What is opened while all answers are to be replayed says so, again and again.
        key, asked = RecipientKey(), await room.ask()
        for event in (EventName.RELEASED, EventName.REDELIVERED):
            await room.keeper.release(await room.dossier(asked, key))
            assert room.log.last().event is event
            assert room.log.last().text("sampling") == "whole"
        assert retell(room).findings == ()

    run(story)


# --- the commands -----------------------------------------------------------------------------------------------------


def published(room: Room, home: Path, note: bytes | None = None) -> bytes:
    """Publish a room's log, and what whoever verifies it needs; returns the checkpoint."""
    note = note or room.log.sign()
    publish(home / "public", room.log.entries, note)
    (home / "genesis.json").write_bytes(room.genesis.to_bytes())
    (home / "log.pub").write_text(f"{VerifierKey(room.genesis.log_origin, room.genesis.log_key)}\n")
    return note


def test_the_command_finds_it_and_the_single_file_says_only_that_nothing_was_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def story(room: Room) -> None:
        await lifted_by_one(room)
        published(room, tmp_path)

    run(story)
    public, genesis, key = tmp_path / "public", tmp_path / "genesis.json", tmp_path / "log.pub"
    done = CliRunner().invoke(
        main, ["audit", "verify", "--log", str(public), "--key", str(key), "--genesis", str(genesis), "--json"]
    )
    assert done.exit_code == 6, done.output
    assert "act-without-approval" in done.output
    # It claims nothing about what entries mean: the log's own key signed every one of them.
    assert standalone_verifier.main([str(public), "--key", str(key), "--jobs", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_both_find_a_precaution_that_was_changed_or_left_out(tmp_path: Path) -> None:
    async def story(room: Room) -> None:
        await take(room, HOLD)
        note = published(room, tmp_path)
        bundle = next(path for path in (tmp_path / "public").rglob("*.p/*") if "entries" in path.parts)
        data = bundle.read_bytes()
        assert b'"kind":"hold"' in data
        bundle.write_bytes(data.replace(b'"subject":"minilm"', b'"subject":"others"'))
        assert _verdicts(tmp_path) == (6, 6)
        room.log.entries.pop()
        published(room, tmp_path, note)
        assert all(_verdicts(tmp_path))

    run(story)


def _verdicts(home: Path) -> tuple[int, int]:
    public, genesis, key = str(home / "public"), str(home / "genesis.json"), str(home / "log.pub")
    ours = CliRunner().invoke(main, ["audit", "verify", "--log", public, "--key", key, "--genesis", genesis])
    return ours.exit_code, standalone_verifier.main([public, "--key", key, "--jobs", "1"])
