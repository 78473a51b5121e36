"""Each command that a response gives to the deployment, done once to the real one, and looked at afterwards.

Broker, keeper, log writer and kernel are as they are; only the loop around the port is left out.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pytest_socket import socket_allow_hosts

from strongroom.access.request import Action, Purpose
from strongroom.client.service import Session
from strongroom.client.wiring import open_session
from strongroom.core.clock import SystemClock
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ModelId, PlatformId
from strongroom.core.secret import SecretBytes
from strongroom.enclave.gate.errors import GateFrozenError
from strongroom.enclave.gate.wiring import Gate
from strongroom.ipc.adapters.client import UnixClient
from strongroom.keys.recipient import RecipientKey
from strongroom.release.dossier import Dossier
from strongroom.responder.acting import Gate as GatePort
from strongroom.responder.acting import Stopped
from strongroom.responder.adapters.case_files import CaseFiles
from strongroom.responder.adapters.deployment import DeploymentPort
from strongroom.responder.adapters.gates import HeldGate
from strongroom.responder.adapters.known import KnownDeployment
from strongroom.responder.cases import Case
from strongroom.responder.evidence import Receipts
from strongroom.responder.ports import DONE, Told, awaits, refused
from strongroom.response.action_list import ACTIONS, brought_about
from strongroom.response.actions import ActionName, Command
from strongroom.response.grading import Certainty, Severity
from strongroom.response.incident import Alert
from strongroom.response.run import Outcome
from strongroom.response.subjects import Subject
from support.attested import Attested
from support.deployment import MODEL, Deployment
from support.gates import PEER, inside, listen, need_namespaces, say, settings, two_namespaces
from support.key_labs import machine
from support.responders import ResponderLab, responder_lab

pytestmark = pytest.mark.integration
HOLDER = "dana"
PERSON = f"person:{HOLDER}"
NO_PASSPHRASE: Callable[[], SecretBytes] = pytest.fail


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResponderLab]:
    folder = tmp_path_factory.mktemp("port")
    with responder_lab(folder, Deployment.found(folder / "home")) as made:
        yield made


class Nobody:
    """Nobody is told."""

    def tell(self, case: Case) -> None:
        del case

    def told(self, case: Case) -> bool | None:
        del case
        return None


class NoStops:
    """Freezes are another test's."""

    async def stop(self, model: ModelId) -> Stopped:
        raise AssertionError(model)

    async def stored(self, stopped: Stopped) -> None:
        raise AssertionError(stopped)


@dataclass
class Hand:
    """The real port, and an incident that it acts for."""

    port: DeploymentPort
    case: Case
    session: Session

    def command(self, action: ActionName, subject: str, key: str = "") -> Command:
        return Command(
            key=key or f"{action.value}-{subject.replace(':', '-')}",
            action=action,
            subject=Subject.parse(subject),
            parameters=ACTIONS[action].parameters,
        )

    async def do(self, action: ActionName, subject: str, key: str = "") -> Told:
        return await self.port.do(self.case, self.command(action, subject, key))

    async def holds(self, action: ActionName, subject: str) -> bool:
        return brought_about(action, await self.port.probe(self.case, self.command(action, subject)))

    async def falls(self, action: ActionName, subject: str) -> int:
        situation = await self.port.situation(self.case)
        return ACTIONS[action].falls(situation, Subject.parse(subject)).count


def acting(
    lab: ResponderLab,
    story: Callable[[Hand], Coroutine[Any, Any, None]],
    *,
    gates: dict[ModelId, list[GatePort]] | None = None,
    platforms: dict[str, list[PlatformId]] | None = None,
) -> None:
    """Run a story with the port in the warden's hand."""

    async def run() -> None:
        client = UnixClient(lab.deployment.home / "run" / "keeper.sock")
        with open_session(lab.wallet, passphrase=NO_PASSPHRASE) as session:
            known = KnownDeployment(session, client, [MODEL])
            await known.refresh()
            port = DeploymentPort(
                known,
                client,
                NoStops(),
                gates or {},
                Receipts(Nobody()),
                host="w1",
                platforms=platforms or {},
                clock=SystemClock(),
                own_record=dict,
            )
            now = int(time.time())
            signal = Alert(
                rule="decoy-shard-opened",
                certainty=Certainty.SURE,
                subject=Subject.parse(f"model:{MODEL}"),
                at=now,
                event=Digest.of(os.urandom(8)),
            )
            case = await Case.open(
                signal,
                Severity.CRITICAL,
                store=CaseFiles(lab.folder / "port-state"),
                clock=SystemClock(),
                by="machine:warden",
                token=None,
                began=0,
            )
            try:
                await story(Hand(port, case, session))
            finally:
                await client.close()

    asyncio.run(run())


def granted(lab: ResponderLab) -> None:
    """Have somebody be granted the sealing of the model."""
    recipient = RecipientKey()
    about = {"version": 1, "recipient": recipient.digest, "purpose": Purpose.PUBLISH}
    request = lab.deployment.request(Action.SEAL, by=HOLDER, **about)
    lab.deployment.call("grant", dossier=Dossier(request=request, recipient_key=recipient.public).to_json())


def revoked(lab: ResponderLab, grant: str) -> None:
    """Have a person revoke a grant."""
    lab.deployment.control(lab.deployment.request(Action.REVOKE_GRANT, target=Digest.parse(grant)))


def live(lab: ResponderLab) -> list[dict[str, Any]]:
    """Return the live grants, as the keeper says."""
    shown = lab.deployment.call("grants")["grants"]
    assert isinstance(shown, list)
    return [one for one in shown if isinstance(one, dict) and one["live"]]


def test_live_grants_are_people_s_to_revoke(lab: ResponderLab) -> None:
    granted(lab)
    assert len(live(lab)) == 1

    async def story(hand: Hand) -> None:
        about = f"model:{MODEL}"
        size = (await asyncio.to_thread(lab.deployment.head)).size
        assert await hand.falls(ActionName.REVOKE_GRANTS, about) == 1
        assert await hand.do(ActionName.REVOKE_GRANTS, about) == awaits("people-revoke-them")
        assert not await hand.holds(ActionName.REVOKE_GRANTS, about)
        # An agent may not revoke: nothing is asked in its name that nobody could carry out.
        assert (await asyncio.to_thread(lab.deployment.head)).size == size
        (grant,) = await asyncio.to_thread(live, lab)
        await asyncio.to_thread(revoked, lab, str(grant["grant"]))
        assert await hand.do(ActionName.REVOKE_GRANTS, about) == DONE
        assert await hand.holds(ActionName.REVOKE_GRANTS, about)

    acting(lab, story)


def test_a_host_s_platforms_are_people_s_to_revoke_and_the_keeper_says_so(lab: ResponderLab) -> None:
    made = Attested(lab.deployment, machine())
    made.adopt_reference_values()
    made.enrol()

    async def story(hand: Hand) -> None:
        revoke = ActionName.REVOKE_ATTESTATION
        assert await hand.do(revoke, "host:w2") == refused("host-unknown")
        assert await hand.do(revoke, "host:w1") == awaits("people-revoke-its-platforms")
        assert not await hand.holds(revoke, "host:w1")
        request = await asyncio.to_thread(
            lambda: lab.deployment.request(Action.REVOKE_PLATFORM, platforms=(made.platform,))
        )
        await asyncio.to_thread(lab.deployment.control, request)
        # The broker goes on showing the platform's record.
        assert await hand.do(revoke, "host:w1") == DONE
        assert await hand.holds(revoke, "host:w1")

    acting(lab, story, platforms={"w1": [made.platform]})


def test_a_person_is_suspended_with_what_they_hold_and_the_responder_never(lab: ResponderLab) -> None:
    granted(lab)

    async def story(hand: Hand) -> None:
        assert await hand.do(ActionName.QUARANTINE_PERSON, "person:warden") == Told(Outcome.REFUSED, "own-account")
        assert (await hand.do(ActionName.REVOKE_SESSIONS, PERSON)).outcome is None
        assert await hand.do(ActionName.QUARANTINE_PERSON, PERSON) == DONE
        for action in (
            ActionName.QUARANTINE_PERSON,
            ActionName.REVOKE_SESSIONS,
            ActionName.EXPIRE_LEASES,
            ActionName.REVOKE_GRANTS,
        ):
            assert await hand.holds(action, PERSON), action
        assert await hand.do(ActionName.REVOKE_SESSIONS, PERSON) == DONE
        size = (await asyncio.to_thread(lab.deployment.head)).size
        # Sent again after a kill: it is done, and nothing stands in the log twice.
        assert await hand.do(ActionName.QUARANTINE_PERSON, PERSON) == DONE
        assert (await asyncio.to_thread(lab.deployment.head)).size == size
        # Whom nobody knows isn't called suspended.
        with pytest.raises(StrongroomError):
            await hand.do(ActionName.QUARANTINE_PERSON, "person:nobody")
        assert not await hand.holds(ActionName.QUARANTINE_PERSON, "person:nobody")
        # What lets go waits for officers, whatever anybody agreed to.
        assert (await hand.do(ActionName.RELEASE_PERSON, PERSON)).outcome is None

    acting(lab, story)
    assert live(lab) == []


def test_evidence_says_what_the_keeper_says(lab: ResponderLab) -> None:
    async def story(hand: Hand) -> None:
        about = f"model:{MODEL}"
        assert await hand.do(ActionName.SNAPSHOT_EVIDENCE, about, "e") == DONE
        kept = await hand.case.kept("evidence-e.json")
        assert kept is not None
        assert b'"suspended":["dana"]' in kept
        assert b"lacking" not in kept

    acting(lab, story)


def test_egress_is_shut_and_the_mark_holds(lab: ResponderLab) -> None:
    need_namespaces()
    socket_allow_hosts(["127.0.0.1", PEER, "169.254.77.2"], allow_unix_socket=True)
    made, state = settings("port"), lab.folder / "gates"

    with two_namespaces(made):
        gate = Gate(made, state)
        gate.open()
        held = HeldGate(Gate(made, state))

        async def story(hand: Hand) -> None:
            about = f"model:{MODEL}"
            assert not await hand.holds(ActionName.ZERO_EGRESS, about)
            for _ in range(2):
                assert await hand.do(ActionName.ZERO_EGRESS, about) == DONE
                assert await hand.holds(ActionName.ZERO_EGRESS, about)
            assert await hand.holds(ActionName.QUARANTINE_HOST, "host:w1")
            assert await hand.do(ActionName.QUARANTINE_HOST, "host:w2") == Told(Outcome.REFUSED, "another-host")
            assert (await hand.do(ActionName.RESTORE_EGRESS, about)).outcome is None

        try:
            with inside(made.world, listen) as listener:
                inside(made.enclave, say)
                assert listener.recv(16) == b"x"
                acting(lab, story, gates={ModelId(MODEL): [held]})
                inside(made.enclave, say)
                with pytest.raises(TimeoutError):
                    listener.recv(16)
            with pytest.raises(GateFrozenError):
                gate.open()
        finally:
            held.close()
