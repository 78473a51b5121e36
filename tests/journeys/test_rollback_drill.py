"""The rollback drill: each store of a deployment is put back to an older state, alone and with all others.

Between the two states a grant was used up, a model frozen, and the key epoch rotated. Each rollback is refused with its
reason, or takes nothing back, or is named here as one that this machine can't see: then a witness or a client does.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from strongroom.access.request import Action, LogHead
from strongroom.audit.adapters.client import BlockingLogClient, LogClient
from strongroom.audit.note import VerifierKey
from strongroom.audit.succession import Succession
from strongroom.client.trust import LogRolledBackError, check_continues
from strongroom.core.envelope import Envelope, sign
from strongroom.keys.recipient import RecipientKey
from strongroom.release.key_orders import KEY_ORDER_TYPE, KeyAct, KeyOrder
from support.deployment import ROOTS, Deployment, ProcessRefusedError
from support.occupied import OTHER, Occupied, occupied
from support.witnesses import make_witness, running_witness

pytestmark = [pytest.mark.integration, pytest.mark.heavy]
FOLDERS = ("log", "keeper", "broker")


@dataclass(frozen=True)
class Drill:
    """A deployment that is down, its older and its present state, and what was done in between."""

    house: Occupied
    then: Path
    now: Path
    spent: Envelope
    seen: LogHead

    @property
    def home(self) -> Path:
        return self.house.deployment.home

    @contextmanager
    def put_back(self, *places: str) -> Iterator[Deployment]:
        """Put older copies of folders or files in their places; the present state comes back at the end."""
        for place in places:
            swap(self.then / place, self.home / place)
        try:
            yield self.house.deployment
        finally:
            self.house.deployment.close()
            for folder in FOLDERS:
                swap(self.now / folder, self.home / folder)

    def refused(self, name: str, *, code: str) -> None:
        """Start a process that must refuse."""
        with pytest.raises(ProcessRefusedError) as caught:
            self.house.deployment.start(name)
        assert f'"code": "{code}"' in caught.value.errors, caught.value.errors[-1000:]


def swap(copy: Path, place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place)
        shutil.copytree(copy, place)
        return
    for old in (place, *(place.with_name(place.name + suffix) for suffix in ("-wal", "-shm"))):
        old.unlink(missing_ok=True)
    shutil.copy2(copy, place)


def rotate_epoch(house: Occupied) -> None:
    now = int(time.time())
    order = KeyOrder(
        genesis=house.deployment.genesis.digest,
        act=KeyAct.ROTATE_EPOCH,
        subject=None,
        nonce=os.urandom(16),
        log=house.head(),
        issued=now,
        expires=now + 3600,
    )
    house.deployment.call("key-order", envelope=sign(KEY_ORDER_TYPE, order.to_bytes(), *ROOTS[:2]).to_json())


@pytest.fixture(scope="module")
def drill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    place = tmp_path_factory.mktemp("drill")
    key = RecipientKey()
    with occupied(place / "home") as house:
        home = house.deployment.home
        spent = house.ask_export(key)
        house.approve(spent)
        with house.all_down():
            for folder in FOLDERS:
                shutil.copytree(home / folder, place / "then" / folder)
        house.export(spent, key)
        house.post(f"requests/{house.ask(Action.FREEZE, model=OTHER).digest}/control")
        rotate_epoch(house)
        seen = house.head()
        house.running.stop()
        for name in ("keeper", "log"):
            house.deployment.stop(name)
        for folder in FOLDERS:
            shutil.copytree(home / folder, place / "now" / folder)
        yield Drill(house, place / "then", place / "now", spent, seen)


def spent_again(drill: Drill, code: str) -> None:
    """Start the broker as well, and try to use the grant a second time."""
    house = drill.house
    house._callers.clear()
    house.running.start()
    try:
        answer = house.try_export(drill.spent, RecipientKey())
        assert (answer.status >= 400, answer.json["code"]) == (True, code), answer.text
    finally:
        house.running.stop()


def test_an_older_broker_database_takes_nothing_back(drill: Drill) -> None:
    with drill.put_back("broker") as deployment:
        for name in ("log", "keeper"):
            deployment.start(name)
        assert deployment.call("status")["frozen"] == [OTHER]
        spent_again(drill, "grant-spent")


def test_an_older_log_store_is_refused_by_the_log_writer(drill: Drill) -> None:
    with drill.put_back("log/log.db"):
        drill.refused("log", code="log-store-damaged")


def test_an_older_log_is_refused_by_the_keeper_s_pins(drill: Drill) -> None:
    with drill.put_back("log") as deployment:
        deployment.start("log")
        drill.refused("keeper", code="rolled-back")


def test_an_older_keeper_s_folder_is_refused_by_the_log(drill: Drill) -> None:
    with drill.put_back("keeper") as deployment:
        deployment.start("log")
        drill.refused("keeper", code="keyring-rolled-back")


def test_an_older_keyring_is_refused_by_the_log(drill: Drill) -> None:
    with drill.put_back("keeper/keyring.json") as deployment:
        deployment.start("log")
        drill.refused("keeper", code="keyring-rolled-back")


def test_older_pins_take_nothing_back_while_the_log_is_whole(drill: Drill) -> None:
    with drill.put_back("keeper/pins.json") as deployment:
        for name in ("log", "keeper"):
            deployment.start(name)
        assert deployment.call("status")["frozen"] == [OTHER]


def test_an_older_log_with_older_pins_is_refused_by_the_keyring(drill: Drill) -> None:
    """As far as keys were rotated in between: a keyring that is ahead of the log by more than an act fits none."""
    with drill.put_back("log", "keeper/pins.json") as deployment:
        deployment.start("log")
        drill.refused("keeper", code="keyring-rolled-back")


def test_all_of_it_at_once_isn_t_seen_here_and_is_by_whoever_saw_the_log(drill: Drill) -> None:
    """Not seen by the machine: no TPM, no witness. The threat model says so."""
    with drill.put_back(*FOLDERS) as deployment:
        for name in ("log", "keeper"):
            deployment.start(name)
        assert deployment.call("status")["frozen"] == []
        log = Succession.of(deployment.genesis)
        with pytest.raises(LogRolledBackError):
            check_continues(drill.seen, deployment.head(), log, lambda _old, _new: ())
        # A requester who saw the longer log says so in the request, and the keeper refuses it.
        assert drill.seen.size > deployment.head().size


def test_all_of_it_at_once_is_refused_where_a_witness_saw_more(drill: Drill, tmp_path: Path) -> None:
    genesis, home = drill.house.deployment.genesis, drill.home
    key = VerifierKey(genesis.log_origin, genesis.log_key)
    folder = make_witness(tmp_path / "witness", str(key))
    with running_witness(folder) as witness:
        policy = f"{witness.policy()}quorum W\n"
        (home / "log" / "witnesses.policy").write_text(policy)
        deployment = drill.house.deployment
        with deployment:
            deployment.start("log", more=["--witness-seconds", "0.2"])
            asyncio.run(cosigned(home, drill.seen.size))
        with drill.put_back(*FOLDERS):
            (home / "log" / "witnesses.policy").write_text(policy)
            with pytest.raises(ProcessRefusedError) as caught:
                deployment.start("log")
            assert '"code": "log-rolled-back"' in caught.value.errors, caught.value.errors[-1500:]


async def cosigned(home: Path, size: int) -> None:
    """Wait until the witness cosigned so many entries."""
    async with asyncio.timeout(30), await LogClient.connect(home / "run" / "log.sock") as client:
        while True:
            note = await client.cosigned()
            if note is not None and int(note.split(b"\n")[1]) >= size:
                return
            await asyncio.sleep(0.1)


def test_what_is_there_now_starts_as_ever(drill: Drill) -> None:
    with drill.put_back() as deployment:
        for name in ("log", "keeper"):
            deployment.start(name)
        with BlockingLogClient(drill.home / "run" / "log.sock") as client:
            assert client.head().size > drill.seen.size
