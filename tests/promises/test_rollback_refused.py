"""What was seen once can't be made unseen: an older log, document, clock or pin is refused at start.

What is NOT detected is tested as well, so that nobody hopes for it: see the last tests.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from simulators.attester import NOW
from strongroom.access.request import Action
from strongroom.audit.entries import make_entry, read_entry
from strongroom.audit.facts import Fact, Producer
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import DeniedError, MalformedError, StrongroomError, TamperedError
from strongroom.core.events import EventName
from strongroom.keeper.adoption import adopt
from strongroom.keeper.journal import LogEquivocationError
from strongroom.keeper.pins import Pins, RolledBackError
from strongroom.keys.adapters.local import WrongPassphraseError
from strongroom.keys.recipient import RecipientKey
from strongroom.keys.wrapping import WrapError
from strongroom.personnel.roster import ROSTER_TYPE
from strongroom.release.documents import DocumentKind, StaleDocumentError
from strongroom.release.dossier import Dossier
from strongroom.release.errors import LedgerError
from support.deployment import MODEL, ROOTS, Deployment, ProcessRefusedError, signer
from support.room import Room, found_room, unlocked

pytestmark = pytest.mark.integration


# --- the real processes -----------------------------------------------------------------------------------------------


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with Deployment.found(tmp_path / "home") as made:
        made.start("log")
        made.start("keeper")
        made.adopt_first()
        yield made


def stop(deployment: Deployment) -> None:
    for name in ("keeper", "log"):
        deployment.stop(name)


def refused(deployment: Deployment, name: str) -> str:
    """Start a process that must refuse; return the code that it gave."""
    with pytest.raises(ProcessRefusedError) as caught:
        deployment.start(name)
    assert caught.value.code == 6, caught.value.errors
    return caught.value.errors.splitlines()[-1]


def test_an_older_copy_of_the_log_is_refused(deployment: Deployment, tmp_path: Path) -> None:
    stop(deployment)
    log = deployment.home / "log"
    shutil.copytree(log, tmp_path / "older")
    deployment.start("log")
    deployment.start("keeper")
    deployment.control(deployment.request(Action.FREEZE))
    stop(deployment)
    shutil.rmtree(log)
    shutil.copytree(tmp_path / "older", log)
    # The log writer has nothing to compare with: its own folder is consistent. The keeper has its pins.
    deployment.start("log")
    assert '"code": "rolled-back"' in refused(deployment, "keeper")


def test_an_older_copy_of_the_store_alone_is_refused_by_the_log_writer(deployment: Deployment, tmp_path: Path) -> None:
    stop(deployment)
    log = deployment.home / "log"
    shutil.copy(log / "log.db", tmp_path / "log.db")
    deployment.start("log")
    deployment.start("keeper")
    stop(deployment)
    for file in log.glob("log.db*"):
        file.unlink()
    shutil.copy(tmp_path / "log.db", log / "log.db")
    assert "fewer than were signed" in refused(deployment, "log")


def test_the_pins_of_an_older_state_are_no_way_back_for_the_log(deployment: Deployment) -> None:
    pins = deployment.home / "keeper" / "pins.json"
    older = pins.read_bytes()
    deployment.control(deployment.request(Action.FREEZE))
    stop(deployment)
    pins.write_bytes(older)
    deployment.start("log")
    deployment.start("keeper")
    # The log is whole, so nothing is lost by older pins: the freeze is replayed from it.
    assert deployment.call("status")["frozen"] == [MODEL]
    assert Pins.parse(pins.read_bytes()).log_size > Pins.parse(older).log_size


@pytest.mark.parametrize("how", ["deleted", "emptied", "of another deployment", "readable by others"])
def test_pins_that_were_taken_away_are_refused(deployment: Deployment, how: str) -> None:
    pins = deployment.home / "keeper" / "pins.json"
    stop(deployment)
    before = Pins.parse(pins.read_bytes())
    if how == "deleted":
        pins.unlink()
    elif how == "emptied":
        pins.write_bytes(b"")
    elif how == "of another deployment":
        pins.write_bytes(replace(before, genesis=Digest.of(b"other"), log_size=0).to_bytes())
    else:
        pins.chmod(0o644)
    deployment.start("log")
    with pytest.raises(ProcessRefusedError) as caught:
        deployment.start("keeper")
    codes = {"emptied": "malformed", "readable by others": "usage"}
    assert f'"code": "{codes.get(how, "rolled-back")}"' in caught.value.errors


@pytest.mark.parametrize("process", ["keeper", "log"])
def test_a_genesis_that_was_replaced_is_refused(deployment: Deployment, process: str) -> None:
    stop(deployment)
    # Root keys of the attacker's own; everything else as it was.
    ours = [signer(f"evil-{n}").public_key for n in range(3)]
    evil = replace(deployment.genesis, root_keys=tuple(ours))
    if process == "keeper":
        deployment.start("log")
    (deployment.home / "genesis.json").write_bytes(evil.to_bytes())
    code = {"keeper": "genesis-changed", "log": "log-genesis-mismatch"}[process]
    assert f'"code": "{code}"' in refused(deployment, process)


def test_the_keyring_of_another_deployment_is_refused(deployment: Deployment, tmp_path: Path) -> None:
    stop(deployment)
    # The same passphrase, as in a copied setup; every wrap names its genesis.
    Deployment.found(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "keeper" / "keyring.json", deployment.home / "keeper" / "keyring.json")
    deployment.start("log")
    with pytest.raises(ProcessRefusedError) as caught:
        deployment.start("keeper")
    assert '"code": "wrong-passphrase"' in caught.value.errors


# --- a keeper in this process: what the processes can't be brought to do by files alone -------------------------------


def test_a_key_of_another_deployment_doesn_t_open() -> None:
    one, other = found_room(), found_room()
    swapped = replace(one, keyring=replace(one.keyring, roots=other.keyring.roots))
    with pytest.raises(WrongPassphraseError):
        unlocked(swapped)
    with pytest.raises(WrapError):
        unlocked(replace(one, keyring=replace(one.keyring, epochs=other.keyring.epochs)))
    with pytest.raises(WrapError):
        unlocked(replace(one, keyring=replace(one.keyring, signing=other.keyring.signing)))


def ruined(ruin: Callable[[Room], None], error: type[StrongroomError]) -> StrongroomError:
    """Freeze the model, ruin the log as the holder of its key could, and start again."""

    async def run() -> StrongroomError:
        room = await Room().furnish()
        resume = await room.submit(Action.RESUME)
        await room.keeper.control(Dossier(request=await room.submit(Action.FREEZE)))
        await room.keeper.control(Dossier(request=resume, approvals=await room.approvals(resume)))
        await room.keeper.control(Dossier(request=await room.submit(Action.FREEZE)))
        assert room.keeper.journal.ledger.frozen == {MODEL}
        ruin(room)
        with pytest.raises(error) as caught:
            await room.restart()
        return caught.value

    return asyncio.run(run())


def events(room: Room, event: EventName) -> list[int]:
    return [n for n, data in enumerate(room.log.entries) if read_entry(data).event is event]


def unpinned(room: Room) -> None:
    """Let the attacker have the pins of just before, too: the log must not need them to be believed wrong."""
    room.pins.history[:] = room.pins.history[:-1]


def cut(room: Room) -> None:
    del room.log.entries[events(room, EventName.MODEL_FROZEN)[-1] :]


def cut_and_continued(room: Room) -> None:
    entries = list(room.log.entries)
    last = events(room, EventName.MODEL_FROZEN)[-1]
    # The freeze is left out; what comes next is genuine, and the log is as long as it was.
    room.log.entries[:] = [*entries[:last], *entries[1:][: len(entries) - last]]


def swapped_order(room: Room) -> None:
    at = events(room, EventName.MODEL_FROZEN)[-1]
    entries = room.log.entries
    entries[at], entries[at - 1] = entries[at - 1], entries[at]


def test_a_log_that_was_cut_short_is_rolled_back() -> None:
    assert ruined(cut, RolledBackError).reason == "rolled-back"


@pytest.mark.parametrize("ruin", [cut_and_continued, swapped_order])
@pytest.mark.parametrize("pinned", [True, False])
def test_a_log_that_was_rewritten_is_refused(ruin: Callable[[Room], None], pinned: bool) -> None:  # noqa: FBT001 - pytest passes it
    def both(room: Room) -> None:
        ruin(room)
        if not pinned:
            unpinned(room)

    ruined(both, TamperedError)


def test_a_log_that_doesn_t_show_its_entries_is_refused() -> None:
    def hide(room: Room) -> None:
        async def head() -> tuple[int, bytes | None]:
            return len(room.log.entries) + 1, room.log.sign()

        room.log.head = head  # type: ignore[method-assign]

    ruined(hide, LogEquivocationError)


def forged(event: EventName, by: str, **facts: Fact) -> Callable[[Room], None]:
    def ruin(room: Room) -> None:
        seq = room.keeper.journal.ledger.keeper_seq
        entry = make_entry(event, at=NOW, by=Producer.KEEPER, seq=seq, facts=facts, signer=signer(by))
        room.log.entries.append(entry)

    return ruin


@pytest.mark.parametrize("by", ["log", "dana", "root-0"])
def test_a_resumption_that_the_keeper_didn_t_sign_is_refused(by: str) -> None:
    ruin = forged(EventName.MODEL_RESUMED, by, model=MODEL, request=Digest.of(b"invented"))
    assert ruined(ruin, TamperedError).reason == "log-entry-forged"


def test_an_old_resumption_that_the_keeper_did_sign_isn_t_taken_again() -> None:
    def ruin(room: Room) -> None:
        # Appended behind all that was pinned, under a good checkpoint by the log's key: only its number is old.
        room.log.entries.append(room.log.entries[events(room, EventName.MODEL_RESUMED)[0]])

    ruined(ruin, LedgerError)


def test_a_log_isn_t_opened_twice_nor_for_another_genesis() -> None:
    def again(room: Room) -> None:
        room.log.entries.append(room.log.entries[0])

    def other(room: Room) -> None:
        facts: dict[str, Fact] = {"genesis": Digest.of(b"other")}
        made = make_entry(EventName.LOG_OPENED, at=NOW, by=Producer.LOG, seq=0, facts=facts, signer=None)
        room.log.entries[0] = made

    for ruin in (again, other):
        ruined(ruin, LogEquivocationError)


@pytest.mark.parametrize("back", [1, 3600, 10 * 86400])
def test_a_clock_that_was_moved_back_is_refused_at_start(back: int) -> None:
    async def run() -> None:
        room = await Room().furnish()
        room.clock.at += 100
        room.keeper.pin()
        room.clock.at -= back
        with pytest.raises(RolledBackError, match=f"{back} seconds behind"):
            await room.restart()

    asyncio.run(run())


def test_a_clock_that_is_moved_back_while_the_keeper_runs_stops_it_and_lowers_no_pin() -> None:
    async def run() -> None:
        room = await Room().furnish()
        request = await room.ask()
        dossier = await room.dossier(request, RecipientKey())
        room.clock.at += 500
        room.keeper.pin()
        # No entry was written since: only the pinned time tells that the clock went back.
        room.clock.at -= 400
        room.keeper.pin()
        newest = room.pins.load()
        assert newest is not None
        assert newest.latest == NOW + 500
        with pytest.raises(DeniedError) as caught:
            await room.keeper.release(dossier)
        assert caught.value.reason == "clock-behind"
        with pytest.raises(RolledBackError):
            await room.restart()

    asyncio.run(run())


def kept_roster(room: Room) -> tuple[str, Digest]:
    assert room.keeper.documents.roster_digest is not None
    return "roster", room.keeper.documents.roster_digest


async def second_roster(room: Room) -> Envelope:
    """Adopt a roster in which rina left; return the first one, as signed."""
    first = room.roster
    people = tuple(replace(one, active=one.id != "rina") for one in first.people)
    await room.adopt_roster(replace(first, epoch=2, predecessor=Digest.of(first.to_bytes()), people=people))
    return sign(ROSTER_TYPE, first.to_bytes(), *ROOTS[:2])


def test_a_kept_document_replaced_by_an_older_signed_one_is_refused() -> None:
    async def run() -> None:
        room = await Room().furnish()
        first = await second_roster(room)
        room.documents.kept[kept_roster(room)] = first.to_bytes()
        with pytest.raises(StaleDocumentError):
            await room.restart()

    asyncio.run(run())


def test_a_kept_document_replaced_by_a_newer_one_that_nobody_adopted_is_refused() -> None:
    async def run() -> None:
        room = await Room().furnish()
        before = room.roster
        after = replace(before, epoch=2, predecessor=Digest.of(before.to_bytes()))
        room.documents.kept[kept_roster(room)] = sign(ROSTER_TYPE, after.to_bytes(), *ROOTS[:2]).to_bytes()
        with pytest.raises(StaleDocumentError):
            await room.restart()

    asyncio.run(run())


def test_a_kept_document_that_too_few_signed_or_that_was_changed_is_refused() -> None:
    async def run() -> None:
        room = await Room().furnish()
        place, roster = kept_roster(room), room.roster.to_bytes()
        good = room.documents.kept[place]
        for bad in (sign(ROSTER_TYPE, roster, ROOTS[0]).to_bytes(), good[:-1], good.replace(b"roster", b"policy")):
            room.documents.kept[place] = bad
            with pytest.raises((TamperedError, MalformedError)):
                await room.restart()
        room.documents.kept[place] = good
        await room.restart()

    asyncio.run(run())


def test_a_kept_document_that_is_gone_releases_nothing_until_it_is_handed_in_again() -> None:
    async def run() -> None:
        room = await Room().furnish()
        roster = sign(ROSTER_TYPE, room.roster.to_bytes(), *ROOTS[:2])
        request = await room.ask()
        del room.documents.kept[kept_roster(room)]
        await room.restart()
        with pytest.raises(StrongroomError) as caught:
            await room.release(request)
        assert caught.value.reason == "no-documents"
        size = room.keeper.journal.ledger.size
        await adopt(room.keeper, room.clock, DocumentKind.ROSTER, roster)
        assert room.keeper.journal.ledger.size == size
        await room.release(request)

    asyncio.run(run())


# --- what isn't detected, in an embedded deployment without TPM counter or witness ------------------------------------


def test_log_and_pins_rolled_back_together_go_unseen() -> None:
    # The whole disk of the past, keeper's folder included: only a witness, a TPM counter or what the clients saw last
    # would tell. The threat model says so; a request that names a newer log is refused, which is that last defence.
    async def run() -> None:
        room = await Room().furnish()
        size, pins = len(room.log.entries), len(room.pins.history)
        freezing = await room.submit(Action.FREEZE)
        newer = await room.ask()
        await room.keeper.control(Dossier(request=freezing))
        del room.log.entries[size:]
        del room.pins.history[pins:]
        await room.restart()
        assert room.keeper.journal.ledger.frozen == set()
        # Its maker saw a longer log than this one now is.
        assert room.keeper.explain(Dossier(request=newer)).refusal is not None

    asyncio.run(run())


def test_entries_after_the_last_pin_can_be_cut_off_by_whoever_holds_the_log_s_key() -> None:
    # Releases are pinned each second. Within it, a release record that was delivered can be made to vanish: the grant
    # works once more. Control acts are pinned before anybody is told, so a freeze can't vanish that way.
    async def run() -> None:
        room = await Room().furnish()
        request = await room.ask()
        room.keeper.pin()
        await room.release(request)
        room.log.entries.pop()
        await room.restart()
        assert room.keeper.journal.ledger.times_used(request.digest) == 0

    asyncio.run(run())
