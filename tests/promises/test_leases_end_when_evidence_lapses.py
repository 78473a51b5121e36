"""A lease never outlives what it was proved by: new evidence comes in time, is good by today's rules, or it ends."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.attester import attest_bytes
from strongroom.access.policy import Weights
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.attestation.errors import AttestationRefusedError
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.measurement import expected_pcr
from strongroom.attestation.transcript import Binding
from strongroom.audit.entries import read_entry
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import DeniedError
from strongroom.core.events import EventName
from strongroom.keeper.leases import Leases
from strongroom.keys.recipient import RecipientKey
from strongroom.release.delivery import Delivery, accept
from strongroom.release.lease import (
    LEASE_SECONDS,
    Lease,
    LeaseAsk,
    LeaseEndedError,
    LeaseProof,
    PlatformRestartedError,
    ReattestationDueError,
    accept_lease,
    evidence_due,
)
from support.deployment import MODEL
from support.enclave_lab import require_sandbox
from support.leased import LeaseLab, lease_lab
from support.room import Room
from support.snp_room import KIND, RULES, SnpRoom

# An event loop holds a socket pair of its own; the running enclave has a real keeper, broker and TPM simulator.
pytestmark = pytest.mark.integration
PERIOD = 6
HOUR = 3600


class Held:
    """A release in a room, as its agent holds it."""

    request: Envelope
    key: RecipientKey
    delivery: Delivery

    def __init__(self, room: Room) -> None:
        self.room = room
        self.leases = Leases(room.keeper, room.clock)
        self.serial = 0

    @classmethod
    async def made(cls, room: Room) -> Held:
        """Release once."""
        held = cls(await room.furnish())
        held.request = await room.ask()
        held.key = RecipientKey()
        released = await room.keeper.release(await room.dossier(held.request, held.key))
        held.delivery, data_key = accept(
            released.delivery, room.genesis, held.key, request=held.request.digest, model=MODEL, version=1
        )
        data_key.wipe()
        return held

    def prove(self, key: RecipientKey | None = None) -> LeaseProof:
        """Answer a fresh challenge."""
        told = self.room.testimony(self.request, key or self.key)
        return LeaseProof(challenge=told.challenge, evidence=told.evidence)

    def renew(self, proof: LeaseProof | None = None) -> Lease:
        """Renew, and check what comes as an agent does."""
        self.serial += 1
        nonce = self.serial.to_bytes(32, "big")
        ask = LeaseAsk(use=self.delivery.use, recipient=self.delivery.recipient, serial=self.serial, nonce=nonce)
        signed = self.leases.renew(self.request, ask, proof)
        platform = self.room.platform_id
        return accept_lease(signed, self.room.genesis, request=self.request.digest, platform=platform, ask=ask)

    def live_until(self, at: int) -> None:
        """Renew all the while, up to an instant, without evidence."""
        while self.room.clock.at + 20 <= at:
            self.room.clock.at += 20
            self.renew()
        self.room.clock.at = at

    def entries(self, event: EventName) -> int:
        """Count entries of the log."""
        return sum(read_entry(data).event is event for data in self.room.log.entries)


def play(story: Callable[[Held], Awaitable[None]], room: Callable[[], Room] = Room) -> None:
    async def run() -> None:
        await story(await Held.made(room()))

    asyncio.run(run())


def test_new_evidence_is_due_before_the_old_is_an_hour_old_and_keeps_the_lease() -> None:
    async def story(held: Held) -> None:
        began = held.room.clock.at
        held.live_until(began + HOUR - LEASE_SECONDS)
        assert held.renew().period == LEASE_SECONDS
        held.room.clock.at += 1
        with pytest.raises(ReattestationDueError) as caught:
            held.renew()
        assert caught.value.reason == "reattestation-due"
        assert held.entries(EventName.LEASE_ENDED) == 0
        assert held.renew(held.prove()).period == LEASE_SECONDS
        held.live_until(held.room.clock.at + HOUR - LEASE_SECONDS)
        held.renew()
        await asyncio.sleep(0.05)
        assert held.entries(EventName.LEASE_ATTESTED) == 1

    play(story)


def test_the_log_names_what_a_lease_rests_on_now_and_it_can_be_read_again() -> None:
    async def story(held: Held) -> None:
        proof = held.prove()
        held.renew(proof)
        await asyncio.sleep(0.05)
        entry = read_entry(held.room.log.entries[-1])
        assert entry.event is EventName.LEASE_ATTESTED
        assert entry.digest("evidence") == Digest.of(proof.evidence)
        kept = held.room.keeper.attested(entry.digest("attested"))
        assert kept is not None
        assert kept.evidence == proof.evidence
        assert Digest.of(kept.result.encode()) == entry.digest("result")

    play(story)


def test_after_a_restart_of_the_keeper_evidence_is_due_at_once() -> None:
    async def story(held: Held) -> None:
        held.renew()
        await held.room.restart()
        held.leases = Leases(held.room.keeper, held.room.clock)
        with pytest.raises(ReattestationDueError):
            held.renew()
        held.renew(held.prove())
        held.renew()

    play(story)


def test_a_lease_that_ran_out_takes_new_evidence_to_come_back() -> None:
    async def story(held: Held) -> None:
        held.room.clock.at += LEASE_SECONDS + 1
        with pytest.raises(ReattestationDueError):
            held.renew()

    play(story)


def test_a_shorter_period_shortens_the_lease_itself() -> None:
    async def story(held: Held) -> None:
        appraisal = replace(held.room.values.appraisal, reattest_seconds=60)
        held.room.keeper.lease_seconds = 300
        await held.room.next_values(appraisal=appraisal)
        assert held.renew(held.prove()).period == 60

    play(story)


def test_a_machine_that_was_started_anew_is_refused() -> None:
    async def story(held: Held) -> None:
        room, honest = held.room, held.room.evidence

        def restarted(binding: Binding, key: RecipientKey) -> Evidence:
            pcr = hashlib.sha256(expected_pcr(room.measurements)).digest()
            quote = attest_bytes(qualifying_data=binding.tpm2_qualifying_data, pcr_digest=pcr, resets=4)
            return room.platform.evidence(binding, room.measurements, quote=quote, recipient_key=key.public)

        room.evidence = restarted  # type: ignore[method-assign]
        with pytest.raises(PlatformRestartedError) as caught:
            held.renew(held.prove())
        assert caught.value.reason == "platform-restarted"
        room.evidence = honest  # type: ignore[method-assign]
        held.renew(held.prove())

    play(story)


def test_evidence_is_good_for_its_own_challenge_key_and_release_alone_and_once() -> None:
    async def story(held: Held) -> None:
        proof = held.prove()
        held.renew(proof)
        other = await held.room.ask()
        foreign = held.room.testimony(other, held.key)
        late = held.prove()
        for reason, wrong in (
            ("challenge-unknown", proof),
            ("other-recipient", held.prove(RecipientKey())),
            ("challenge-for-another", LeaseProof(challenge=foreign.challenge, evidence=foreign.evidence)),
            ("evidence-replayed", LeaseProof(challenge=held.prove().challenge, evidence=proof.evidence)),
        ):
            with pytest.raises(DeniedError) as caught:
                held.renew(wrong)
            assert caught.value.reason == reason
        held.room.clock.at += 301
        with pytest.raises(DeniedError):
            held.renew(late)
        assert held.entries(EventName.LEASE_ENDED) == 0

    play(story)


def test_evidence_is_judged_by_the_rules_of_the_moment() -> None:
    async def story(held: Held) -> None:
        room = held.room
        tightened = replace(room.values.appraisal, kinds={KIND: replace(RULES, vmpls=(1,))})
        await room.next_values(appraisal=tightened)
        held.renew()
        with pytest.raises(AttestationRefusedError) as caught:
            held.renew(held.prove())
        assert caught.value.reason == "unwanted-vmpl"

    play(story, SnpRoom)


def test_weights_that_become_production_leave_simulated_machines_at_once() -> None:
    async def story(held: Held) -> None:
        room = held.room
        held.renew()
        # Roots of trust aren't asked again: the signed policy alone says what the weights are worth.
        await room.next_policy(models=(replace(room.terms, weights=Weights.PRODUCTION),))
        for proof in (None, held.prove()):
            with pytest.raises(LeaseEndedError) as caught:
                held.renew(proof)
            assert caught.value.reason == "isolation-for-test-weights"

    play(story)


def test_a_chip_proves_itself_anew_too() -> None:
    async def story(held: Held) -> None:
        held.room.clock.at += HOUR
        with pytest.raises(ReattestationDueError):
            held.renew()
        held.renew(held.prove())

    play(story, SnpRoom)


@given(st.integers(0, 10_000), st.integers(5, HOUR), st.integers(60, HOUR))
def test_no_lease_outlives_what_it_rests_on(age: int, period: int, most: int) -> None:
    assert evidence_due(None, now=age, period=period, most=most)
    if not evidence_due(0, now=age, period=period, most=most):
        assert age + period <= most


# --- a command that runs ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, tpm: SoftwareTPM) -> Iterator[LeaseLab]:
    require_sandbox()
    with lease_lab(tmp_path_factory.mktemp("lab"), tpm, seconds=PERIOD) as made:
        yield made


def restart(lab: LeaseLab) -> None:
    lab.deployment.stop("keeper")
    lab.deployment.start("keeper", more=["--lease-seconds", str(PERIOD)])


def until(what: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.05)
    return False


def test_a_running_enclave_proves_itself_anew_and_runs_on(lab: LeaseLab) -> None:
    with lab.running() as run:
        restart(lab)
        assert until(lambda: bool(run.way.proofs), PERIOD)
        before, wrote = len(run.way.leases), len(run.output.data)
        assert until(lambda: len(run.way.leases) > before + 2, 2 * PERIOD)
        assert run.is_alive()
        assert len(run.output.data) > wrote


def test_a_running_enclave_whose_evidence_is_refused_ends_at_its_deadline(lab: LeaseLab, tmp_path: Path) -> None:
    del tmp_path
    with lab.running() as run:
        # Evidence of the same machine, and of another challenge: what a launcher could have kept.
        run.way.twist = lambda proof: replace(proof, evidence=proof.evidence.replace(b'"body":"', b'"body":"A', 1))
        restart(lab)
        ended = run.ended(within=4 * PERIOD)
        assert run.way.proofs
        assert ended.reason.startswith("lease-lost")
