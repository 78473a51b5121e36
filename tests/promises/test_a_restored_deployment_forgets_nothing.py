"""A deployment that is put back from a backup opens its models again, and has forgotten nothing that was taken away.

The processes are real. The backup is older than the log: between the two a grant was used up, one was denied, and a
model was frozen.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from strongroom.access.request import REQUEST_TYPE, Action, LogHead
from strongroom.audit.adapters.client import LogClient
from strongroom.audit.entries import Entry
from strongroom.audit.errors import ForkError
from strongroom.audit.succession import Succession
from strongroom.backup.adapters.log_copy import published_log
from strongroom.backup.adapters.reading import open_backup, verify_backup
from strongroom.backup.contents import Section
from strongroom.cli.restoring import Asked, put_back
from strongroom.client.trust import LogRolledBackError, check_continues
from strongroom.core.digest import Digest
from strongroom.core.envelope import sign
from strongroom.core.errors import ConflictError, StrongroomError
from strongroom.core.events import EventName
from strongroom.keys.recipient import RecipientKey
from strongroom.release.key_orders import KEY_ORDER_TYPE, KeyAct, KeyOrder
from strongroom.release.precautions import PrecautionKind
from support.backups import OPERATOR, STRANGER
from support.deployment import ROOTS, Deployment, bare_request, signer
from support.occupied import OTHER, Occupied, occupied
from support.precautions import take
from support.restored import Safe, back_up, carried_away, occupied_again

pytestmark = pytest.mark.integration


@pytest.fixture
def lost(tmp_path: Path) -> Iterator[Occupied]:
    """A deployment whose machine will be lost."""
    with occupied(tmp_path / "home") as made:
        yield made


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Occupied]:
    """A deployment that goes on."""
    with occupied(tmp_path_factory.mktemp("house") / "home") as made:
        yield made


def events(entries: list[Entry], event: EventName) -> list[Entry]:
    return [entry for entry in entries if entry.event is event]


def lose_the_machine(house: Occupied) -> None:
    house.running.stop()
    for name in ("keeper", "log"):
        house.deployment.kill(name)


def prover(deployment: Deployment) -> Callable[[int, int], tuple[bytes, ...]]:
    """Return how consistency proofs are had from a running log."""

    async def prove(old: int, new: int) -> tuple[bytes, ...]:
        async with await LogClient.connect(deployment.home / "run" / "log.sock") as client:
            return await client.prove_consistency(old, new)

    return lambda old, new: asyncio.run(prove(old, new))


def test_models_open_again_and_nothing_that_was_taken_away_comes_back(lost: Occupied, tmp_path: Path) -> None:
    keys = [RecipientKey() for _ in range(6)]
    used_before, used_after, denied, kept = (lost.ask_export(key) for key in keys[:4])
    for request in (used_before, used_after, denied, kept):
        lost.approve(request)
    lost.export(used_before, keys[0])
    made = back_up(lost.deployment, tmp_path / "backup")
    assert [entry.digest("backup") for entry in events(lost.entries(), EventName.BACKUP_MADE)] == [made.digest]
    genesis, sections = verify_backup(open_backup(tmp_path / "backup"), OPERATOR)
    assert (genesis, sections) == (lost.deployment.genesis, (Section.RECORDS,))
    lost.export(used_after, keys[1])
    lost.deny(denied, "rina")
    lost.post(f"requests/{lost.ask(Action.FREEZE, model=OTHER).digest}/control")
    take(lost, PrecautionKind.HOLD, None, seconds=None)
    held = lost.deployment.call("status")["precautions"]
    safe = carried_away(lost.deployment, tmp_path / "backup", tmp_path / "log")
    before = lost.entries()
    lose_the_machine(lost)

    deployment, told = safe.restored(tmp_path / "again")
    assert told.newer > 0
    assert (told.lost, told.missing) == ((), ())
    assert set(told.asked) == {"the backup", "whoever signed the order"}
    assert sum(told.dropped.values()) == 0
    assert told.numbers["holds"] == 1
    with occupied_again(lost, deployment) as again:
        entries = again.entries()
        assert entries[: len(before)] == before
        restored = events(entries, EventName.DEPLOYMENT_RESTORED)
        assert [entry.digest("backup") for entry in restored] == [made.digest]
        rotated = events(entries, EventName.EPOCH_ROTATED)
        assert [entry.digest("authority") for entry in rotated] == [restored[0].digest("order")]
        again.export(kept, keys[3])
        for request in (used_before, used_after):
            answer = again.try_export(request, RecipientKey())
            assert answer.status >= 400, answer.text
        assert again.try_export(denied, keys[2]).json["code"] == "request-denied"
        assert len(events(again.entries(), EventName.EXPORTED)) == 3
        assert again.deployment.call("status")["frozen"] == [OTHER]
        assert again.deployment.call("status")["precautions"] == held
        # What is new works too: a fresh grant, and a restart.
        fresh = again.ask_export(keys[5])
        again.approve(fresh)
        again.export(fresh, keys[5])
        with again.all_down():
            pass
        assert len(events(again.entries(), EventName.DEPLOYMENT_RESTORED)) == 1
        assert not (deployment.home / "keeper" / "restored.json").exists()
        seen = again.head()
    # The old machine is started again: nothing on its disk can know. Whoever saw its successor knows.
    old, log = lost.deployment, Succession.of(lost.deployment.genesis)
    for name in ("log", "keeper"):
        old.start(name)
    with pytest.raises(LogRolledBackError):
        check_continues(seen, old.head(), log, prover(old))
    while old.head().size < seen.size:
        old.call("submit", request=lost.unsubmitted(Action.REVOKE_GRANT, target=kept.digest).to_json())
    with pytest.raises(ForkError):
        check_continues(seen, old.head(), log, prover(old))


def test_a_backup_of_before_its_keys_were_rotated_isnt_taken_for_whole(lost: Occupied, tmp_path: Path) -> None:
    back_up(lost.deployment, tmp_path / "backup")
    lost.post(f"requests/{lost.ask(Action.ROTATE, model=OTHER).digest}/control")
    until = time.monotonic() + 120
    while not events(lost.entries(), EventName.KEK_RETIRED) and time.monotonic() < until:
        time.sleep(0.1)
    safe = carried_away(lost.deployment, tmp_path / "backup", tmp_path / "log")
    lose_the_machine(lost)
    with pytest.raises(StrongroomError) as caught:
        safe.restored(tmp_path / "again")
    assert caught.value.reason == "backup-behind-keys"
    _deployment, told = safe.restored(tmp_path / "again", without=frozenset({OTHER}))
    assert told.lost == (OTHER,)


def test_a_restore_that_would_forget_or_wasn_t_ordered_is_refused(house: Occupied, tmp_path: Path) -> None:
    request = house.ask_export(RecipientKey())
    house.approve(request)
    back_up(house.deployment, tmp_path / "backup")
    early = carried_away(house.deployment, tmp_path / "backup", tmp_path / "early")
    house.post(f"requests/{house.ask(Action.FREEZE).digest}/control")
    safe = carried_away(house.deployment, tmp_path / "backup", tmp_path / "log")
    home, seen = tmp_path / "again", (safe.log / "checkpoint").read_bytes()
    other = LogHead(size=safe.head.size, root=Digest.of(b"another log"))
    behind = early.log

    refused(early.asked(home, order=safe.order()), "log-behind", "whoever signed the order")
    refused(early.asked(home, seen=(("alice.checkpoint", seen),)), "log-behind", "alice.checkpoint")
    refused(safe.asked(home, order=safe.order(log=other)), "log-forked")
    refused(safe.asked(home, log=published_log(str(tmp_path))), "log-missing")
    refused(safe.asked(home, log=None), "log-behind", "whoever signed the order")
    refused(safe.asked(home, identities=(STRANGER,)), "other-recipient")
    refused(safe.asked(home, identities=(OPERATOR,)), "log-key-missing")
    refused(safe.asked(home, identities=(OPERATOR,), log_key=bytes(32)), "log-key-missing")
    # Orders: of another backup, another act, too few, out of time, another deployment's.
    refused(safe.asked(home, order=safe.order(subject=Digest.of(b"another"))), "other-order")
    refused(safe.asked(home, order=safe.order(genesis=Digest.of(b"another"))), "other-deployment")
    refused(safe.asked(home, at=int(time.time()) + 8 * 86_400), "order-expired")
    rotation = KeyOrder.parse(safe.order().payload)
    rotation = replace(rotation, act=KeyAct.ROTATE_EPOCH, subject=None)
    refused(safe.asked(home, order=sign(KEY_ORDER_TYPE, rotation.to_bytes(), *ROOTS[:2])), "other-order")
    one = sign(KEY_ORDER_TYPE, safe.order().payload, ROOTS[0])
    with pytest.raises(StrongroomError):
        safe.restored(home, order=one)
    # One byte of the backup: it isn't the one that was ordered.
    data = bytearray(safe.backup.read_bytes())
    data[-1] ^= 1
    (tmp_path / "changed").write_bytes(data)
    with pytest.raises(StrongroomError):
        safe.restored(home, backup=open_backup(tmp_path / "changed"))
    # The log shows fewer entries than its checkpoint signs.
    shutil.copy(behind / "checkpoint", tmp_path / "kept")
    shutil.copy(safe.log / "checkpoint", behind / "checkpoint")
    with pytest.raises(StrongroomError):
        early.restored(home)
    assert not home.exists()
    home.mkdir()
    with pytest.raises(ConflictError):
        safe.restored(home)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def refused(asked: Asked, reason: str, said: str = "") -> None:
    with pytest.raises(StrongroomError) as caught:
        put_back(asked)
    assert caught.value.reason == reason, caught.value.diagnosis()
    assert said in caught.value.message
    assert not asked.home.exists()


def test_a_signed_request_that_saw_more_than_the_log_holds_a_restore_up(house: Occupied, tmp_path: Path) -> None:
    early = carried_away(house.deployment, tmp_path / "backup", tmp_path / "early")
    deployment = house.deployment
    base = bare_request(
        deployment.genesis.digest, deployment.roster, deployment.policy, house.head(), Action.FREEZE, by="dana"
    )
    more = LogHead(size=house.head().size + 5, root=Digest.of(b"what dana saw"))
    true = sign(REQUEST_TYPE, replace(base, log=more).to_bytes(), signer("dana"))
    forged = sign(REQUEST_TYPE, replace(base, log=more, ticket="T-2").to_bytes(), signer("mallory"))
    for envelope in (forged, true):
        house.execute(
            "INSERT INTO requests (digest, action, model, requester, created, envelope) VALUES (?,?,?,?,?,?)",
            *(str(envelope.digest), "freeze", "minilm", "dana", 1, envelope.to_bytes().decode()),
        )
    back_up(house.deployment, tmp_path / "backup")
    now = carried_away(house.deployment, tmp_path / "backup", tmp_path / "log")
    refused(now.asked(tmp_path / "again"), "log-behind", "a request of `dana`")
    # Anybody can write a row; only what one of the people signed counts. Such rows are dropped, and counted.
    house.execute("DELETE FROM requests WHERE digest = ?", str(true.digest))
    # A version that nobody registered has no digest, and no text stands for that.
    unknown = ("minilm", 99, "None", forged.to_bytes().decode())
    house.execute("INSERT INTO manifests (model, version, digest, envelope) VALUES (?,?,?,?)", *unknown)
    (tmp_path / "backup").unlink()
    back_up(house.deployment, tmp_path / "backup")
    house.execute("DELETE FROM requests WHERE digest = ?", str(forged.digest))
    house.execute("DELETE FROM manifests WHERE digest = ?", "None")
    after = carried_away(house.deployment, tmp_path / "backup", tmp_path / "later")
    _deployment, told = after.restored(tmp_path / "again")
    assert (told.dropped["requests"], told.dropped["manifests"]) == (1, 1)
    assert early.head.size < after.head.size


def dies_at(step: str) -> Callable[[str], None]:
    """Return what ends this process at a step, as `kill -9` does."""

    def reached(at: str) -> None:
        if at == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return reached


def in_a_process_that_dies(work: Callable[[], object]) -> None:
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(77)
    _pid, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"it didn't reach the step: {status}"


def test_a_backup_that_is_killed_leaves_nothing_that_looks_like_one(house: Occupied, tmp_path: Path) -> None:
    for step in ("begun", "database", "log", "files", "written", "recorded", "named"):
        target = tmp_path / f"backup-{step}"
        in_a_process_that_dies(partial(back_up, house.deployment, target, dies_at(step)))
        assert target.exists() is (step == "named")
        if step != "named":
            back_up(house.deployment, target)
        verify_backup(open_backup(target), OPERATOR)
        if step != "named":
            assert [path for path in tmp_path.iterdir() if path.name.startswith(f".{target.name}")] == []
    digests = {entry.digest("backup") for entry in events(house.entries(), EventName.BACKUP_MADE)}
    assert {open_backup(path).digest() for path in tmp_path.glob("backup-*")} <= digests


def test_a_restore_that_is_killed_is_no_deployment_and_can_be_done_again(house: Occupied, tmp_path: Path) -> None:
    back_up(house.deployment, tmp_path / "backup")
    safe: Safe = carried_away(house.deployment, tmp_path / "backup", tmp_path / "log")
    steps = ("begun", "taken out", "judged", "log filled", "keeper's files", "rows")
    for step in steps:
        home = tmp_path / "again"
        in_a_process_that_dies(partial(put_back, safe.asked(home), dies_at(step)))
        assert not home.exists()
    deployment, _told = safe.restored(tmp_path / "again")
    with deployment:
        deployment.start("log")
        deployment.start("keeper")
        assert deployment.head().size > safe.head.size
