"""Whenever a process is killed: no delivered key without its record, no grant that works twice, and a way back up."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from strongroom.access.request import Action
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError
from strongroom.core.events import EventName
from strongroom.core.fields import Fields
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.ipc.adapters.client import UnixClient
from strongroom.keys.recipient import RecipientKey
from strongroom.release.delivery import Delivery
from strongroom.release.dossier import Dossier
from support.attested import Attested, Sealed, envelope
from support.deployment import Deployment
from support.offline import releases, verified_entries

pytestmark = pytest.mark.integration

GRANTS = 3


@pytest.fixture(scope="module")
def attested(tmp_path_factory: pytest.TempPathFactory, tpm: SoftwareTPM) -> Iterator[Attested]:
    """As in other modules, but the keeper can be told where to die."""
    with Deployment.found(tmp_path_factory.mktemp("deployment") / "home") as deployment:
        deployment.keeper_module = "simulators.crashing_keeper"
        deployment.start("log")
        deployment.start("keeper")
        deployment.adopt_first()
        made = Attested(deployment, tpm)
        made.adopt_reference_values()
        made.enrol()
        made.measure()
        yield made


def restart(deployment: Deployment, *names: str) -> None:
    """Kill or reap, and start again, the log writer first."""
    for name in names:
        if name in deployment.processes:
            deployment.kill(name)
    for name in ("log", "keeper"):
        if name in names:
            deployment.start(name)


def dies(attested: Attested) -> None:
    """Wait until the keeper is dead, by its own hand."""
    assert attested.deployment.processes["keeper"].wait(60) == -signal.SIGKILL
    assert not (attested.deployment.home / "keeper" / "crash-at").exists()


@pytest.mark.parametrize(
    ("place", "recorded"),
    [("4.9", (0,)), ("5 queued", (0,)), ("5 sent", (0, 1)), ("5 answered", (1,)), ("5", (1,)), ("6", (1,))],
)
def test_a_keeper_killed_at_a_step(attested: Attested, sealed: Sealed, place: str, recorded: tuple[int, ...]) -> None:
    request, approvals = attested.approved(sealed)
    key, other = RecipientKey(), RecipientKey()
    (attested.deployment.home / "keeper" / "crash-at").write_text(place)
    with pytest.raises(StrongroomError):
        attested.release(request, approvals, sealed, key=key)
    dies(attested)
    restart(attested.deployment, "keeper")
    uses = releases(verified_entries(attested.deployment), request.digest)
    assert len(uses) in recorded
    if uses:
        # The record counts as a use, though nobody saw the key: only the same enclave may ask once more.
        assert uses == [key.digest]
        with pytest.raises(StrongroomError) as caught:
            attested.release(request, approvals, sealed, key=other)
        assert caught.value.reason == "grant-spent"
        delivery, data_key = attested.release(request, approvals, sealed, key=key)
        assert len(data_key.reveal(TOKEN)) == 32
        entries = verified_entries(attested.deployment)
        assert entries[delivery.log_index].event is EventName.REDELIVERED
        assert releases(entries, request.digest) == [key.digest]
    else:
        # Nothing was recorded, so nothing was used: any enclave may have it, and then no other.
        attested.release(request, approvals, sealed, key=other)
        with pytest.raises(StrongroomError) as caught:
            attested.release(request, approvals, sealed, key=key)
        assert caught.value.reason == "grant-spent"


def test_a_keeper_killed_twice_in_the_same_release(attested: Attested, sealed: Sealed) -> None:
    request, approvals = attested.approved(sealed)
    key = RecipientKey()
    for place in ("5", "6", "5 sent"):
        (attested.deployment.home / "keeper" / "crash-at").write_text(place)
        with pytest.raises(StrongroomError):
            attested.release(request, approvals, sealed, key=key)
        dies(attested)
        restart(attested.deployment, "keeper")
    delivery, _data_key = attested.release(request, approvals, sealed, key=key)
    assert delivery.use == 1
    assert releases(verified_entries(attested.deployment), request.digest) == [key.digest]


@pytest.mark.parametrize("place", ["5 queued", "5 answered"])
def test_a_keeper_killed_while_it_makes_a_data_key(attested: Attested, sealed: Sealed, place: str) -> None:
    recipient = RecipientKey()
    version = sealed.sealed.manifest.version + 1
    request = attested.deployment.request(Action.SEAL, version=version, recipient=recipient.digest)
    dossier = Dossier(request=request, recipient_key=recipient.public, wrapped=sealed.wrapped).to_json()
    (attested.deployment.home / "keeper" / "crash-at").write_text(place)
    with pytest.raises(StrongroomError):
        attested.deployment.call("seal", dossier=dossier)
    dies(attested)
    restart(attested.deployment, "keeper")
    if place == "5 answered":
        # The key died with the keeper. Its record stands, and the publisher has to ask anew.
        with pytest.raises(StrongroomError) as caught:
            attested.deployment.call("seal", dossier=dossier)
        assert caught.value.reason == "grant-spent"
        again = attested.deployment.request(Action.SEAL, version=version, recipient=recipient.digest)
        dossier = Dossier(request=again, recipient_key=recipient.public, wrapped=sealed.wrapped).to_json()
    assert "delivery" in attested.deployment.call("seal", dossier=dossier)


@pytest.mark.parametrize("place", ["5 queued", "5 sent", "5 answered"])
def test_a_freeze_that_was_cut_off_is_in_force_or_can_be_made_again(
    attested: Attested, sealed: Sealed, place: str
) -> None:
    deployment = attested.deployment
    freeze = deployment.request(Action.FREEZE)
    (deployment.home / "keeper" / "crash-at").write_text(place)
    with pytest.raises(StrongroomError):
        deployment.control(freeze)
    dies(attested)
    restart(deployment, "keeper")
    frozen = any(entry.event is EventName.MODEL_FROZEN for entry in verified_entries(deployment)[-2:])
    assert frozen is (deployment.call("status")["frozen"] == ["minilm"])
    assert frozen or place != "5 answered"
    if not frozen:
        deployment.control(freeze)
    request, approvals = attested.approved(sealed)
    with pytest.raises(StrongroomError) as caught:
        attested.release(request, approvals, sealed)
    assert caught.value.reason == "model-frozen"
    resume = deployment.request(Action.RESUME)
    deployment.control(resume, *(deployment.approve(resume, who) for who in ("sam", "rina")))


def test_a_log_writer_killed_before_it_took_the_record(attested: Attested, sealed: Sealed) -> None:
    request, approvals = attested.approved(sealed)
    key = RecipientKey()
    dossier = the_dossier(attested, sealed, request, approvals, key)
    log = attested.deployment.processes["log"]

    async def run() -> None:
        client = UnixClient(attested.deployment.home / "run" / "keeper.sock")
        log.send_signal(signal.SIGSTOP)
        release = asyncio.create_task(client.call("release", dossier=dossier.to_json()))
        await asyncio.sleep(0.2)
        # Not durable yet: nothing may have been answered.
        assert not release.done()
        log.send_signal(signal.SIGKILL)
        with pytest.raises(StrongroomError) as caught:
            await release
        assert caught.value.reason.startswith("log-failed.")
        # The keeper knows no longer what is durable. It stays locked, also for a request that it knows.
        with pytest.raises(StrongroomError) as caught:
            await client.call("release", dossier=dossier.to_json())
        assert caught.value.reason == "locked"
        await client.close()

    asyncio.run(run())
    restart(attested.deployment, "log", "keeper")
    assert releases(verified_entries(attested.deployment), request.digest) == []
    attested.release(request, approvals, sealed)


def the_dossier(
    attested: Attested, sealed: Sealed, request: Envelope, approvals: tuple[Envelope, ...], key: RecipientKey
) -> Dossier:
    testimony = attested.testimony(request, sealed, key)
    return Dossier(request=request, approvals=approvals, testimony=testimony, wrapped=sealed.wrapped)


@dataclass
class Grant:
    """A single-use grant that two enclaves fight for."""

    request: Envelope
    approvals: tuple[Envelope, ...]
    keys: list[RecipientKey]
    dossiers: list[Dossier]
    delivered: list[Delivery] = field(default_factory=list)


async def fight(deployment: Deployment, grants: list[Grant], kill: list[str], delay: float) -> None:
    """Release all at once over several connections; kill after ``delay`` seconds."""
    clients = [UnixClient(deployment.home / "run" / "keeper.sock") for _ in range(2)]

    async def one(grant: Grant, client: UnixClient, dossier: Dossier) -> None:
        try:
            answer: Fields = await client.call("release", dossier=dossier.to_json())
        except StrongroomError:
            return
        grant.delivered.append(Delivery.parse(envelope(answer.value("delivery")).payload))

    async def killer() -> None:
        await asyncio.sleep(delay)
        for name in kill:
            os.kill(deployment.processes[name].pid, signal.SIGKILL)

    pairs = [(grant, clients[n], dossier) for grant in grants for n, dossier in enumerate(grant.dossiers)]
    await asyncio.gather(killer(), *(one(*pair) for pair in pairs))
    for client in clients:
        await client.close()


def judge(attested: Attested, sealed: Sealed, grants: list[Grant]) -> None:
    """What must hold, whatever happened."""
    entries = verified_entries(attested.deployment)
    for grant in grants:
        used = releases(entries, grant.request.digest)
        assert len(used) <= 1
        for delivery in grant.delivered:
            record = entries[delivery.log_index]
            assert record.event in {EventName.RELEASED, EventName.REDELIVERED}
            assert record.digest("request") == grant.request.digest
            assert [delivery.recipient] == used
    lost = next((one for one in grants if releases(entries, one.request.digest) and not one.delivered), grants[0])
    used = releases(entries, lost.request.digest)
    for key in sorted(lost.keys, key=lambda one: [one.digest] == used):
        # The other one is tried first: it must be refused although the winner never saw its key.
        if used in ([], [key.digest]):
            attested.release(lost.request, lost.approvals, sealed, key=key)
            used = used or [key.digest]
        else:
            with pytest.raises(StrongroomError) as caught:
                attested.release(lost.request, lost.approvals, sealed, key=key)
            assert caught.value.reason == "grant-spent"
    assert releases(verified_entries(attested.deployment), lost.request.digest) == used


def contested(attested: Attested, sealed: Sealed) -> list[Grant]:
    """Make grants, and the evidence of two enclaves for each."""
    grants = []
    for _ in range(GRANTS):
        request, approvals = attested.approved(sealed)
        keys = [RecipientKey(), RecipientKey()]
        dossiers = [the_dossier(attested, sealed, request, approvals, key) for key in keys]
        grants.append(Grant(request, approvals, keys, dossiers))
    return grants


@pytest.mark.parametrize("most", [8, pytest.param(20, marks=pytest.mark.heavy)])
def test_processes_killed_at_random_moments_under_load(attested: Attested, sealed: Sealed, most: int) -> None:
    chance = random.Random(os.environ.get("STRONGROOM_SEED", "1"))  # noqa: S311 - makes a schedule, no key
    outcomes = {"delivered": 0, "lost": 0}
    grants = contested(attested, sealed)
    began, kills = time.monotonic(), 0
    asyncio.run(fight(attested.deployment, grants, [], 0))
    # How long an undisturbed fight takes here: kills fall within it, however slow the machine is.
    span = time.monotonic() - began
    judge(attested, sealed, grants)
    while kills < most and time.monotonic() - began < 60:
        kill = [["keeper"], ["keeper"], ["log"], ["log", "keeper"]][kills % 4]
        grants = contested(attested, sealed)
        asyncio.run(fight(attested.deployment, grants, kill, chance.uniform(0.2, 1.3) * span))
        restart(attested.deployment, *({"keeper"} | set(kill)))
        for grant in grants:
            outcomes["delivered" if grant.delivered else "lost"] += 1
        judge(attested, sealed, grants)
        kills += 1
    assert kills >= 5, "the machine was too slow to say anything"
    # Both must have happened, or the moments were chosen badly and the test shows nothing.
    assert all(outcomes.values()), outcomes
