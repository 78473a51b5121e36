"""A breach at one gateway freezes the model for everybody until its quorum resumes it; no file is removed by hand."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.access.request import Action
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.audit.errors import EntryForgedError
from strongroom.core.envelope import Envelope
from strongroom.core.errors import DeniedError, StrongroomError, TamperedError, UnavailableError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId
from strongroom.egress.odometer import Block
from strongroom.enclave.gateway.adapters.broker_odometer import BrokerOdometer
from strongroom.enclave.gateway.adapters.governor_folder import GovernorFolder
from strongroom.enclave.gateway.errors import ChannelBreachError, EgressPolicyStaleError, FrozenBeforeError
from strongroom.enclave.gateway.odometer import last_resumption
from strongroom.enclave.metered import OPENING, Code, Frame, Orders
from strongroom.release.lease import LeaseEndedError
from strongroom.release.metering import OdometerForgedError
from support.deployment import MODEL
from support.gateways import gateway, honest, roomy
from support.metered_lab import MeteredLab, metered_lab, software_tpm

pytestmark = pytest.mark.integration
THIS = ModelId(MODEL)
POLICY = replace(roomy(), model=THIS)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeteredLab]:
    if not SoftwareTPM.available():
        pytest.skip("no software TPM: install swtpm and swtpm-tools")
    folder = tmp_path_factory.mktemp("lab")
    with software_tpm(folder) as tpm, metered_lab(folder, tpm, POLICY) as made:
        yield made


def taken_over(channel: socket.socket) -> None:
    """Be ready, and answer for somebody who didn't ask."""
    channel.sendall(Frame(OPENING, Code.READY).to_bytes())
    orders = Orders()
    while data := channel.recv(65536):
        for order in orders.feed(data):
            channel.sendall(Frame(order.answer + 1, Code.TOKEN, 7).to_bytes())


def test_it_is_reported_at_once_and_lifted_by_the_quorum(tmp_path: Path, lab: MeteredLab) -> None:
    (access, _key, _request), (other, _k, _r) = lab.released(), lab.released()
    # An older resumption, genuine as it is, must not lift what comes after it.
    lab.deployment.control(lab.deployment.request(Action.FREEZE))
    lab.resume()
    with access.connected() as api:
        with pytest.raises(LeaseEndedError), access.odometer() as odometer:
            odometer.open(None)
        (access, _key, _request), (other, _k, _r) = lab.released(), lab.released()
        with access.odometer() as odometer, gateway(tmp_path, taken_over, POLICY, odometer=odometer) as live:
            live.complete()
            assert live.stopped.wait(60)
        assert isinstance(live.error, ChannelBreachError)
        (breach,) = lab.entries(EventName.EGRESS_BREACHED)
        assert breach.text("cause") == "channel-breach.no-demand"
        assert breach.text("request") == str(access.metered.request)
        # Every other release of the model has ended, and there are no new ones.
        with other.odometer() as theirs, pytest.raises(LeaseEndedError):
            theirs.open(None)
        with pytest.raises(DeniedError, match="frozen"):
            lab.released()
        folder = GovernorFolder(live.state, THIS)

        def resumption() -> int | None:
            return last_resumption(api, access.genesis, THIS)

        assert resumption() is not None
        with pytest.raises(FrozenBeforeError):
            folder.check_resumed(resumption)
        again = lab_odometer_is_not_asked()
        with gateway(tmp_path, honest(), POLICY, odometer=again) as live:
            assert isinstance(live.error, FrozenBeforeError)
        lab.resume()
        folder.check_resumed(resumption)
        assert not (live.state / f"{MODEL}.frozen.json").exists()
    access = lab.released()[0]
    with access.odometer() as odometer, gateway(tmp_path, honest(), POLICY, odometer=odometer) as live:
        assert live.complete().status_code == 200


def lab_odometer_is_not_asked() -> BrokerOdometer:
    return None  # type: ignore[return-value]  # a model that was frozen before is refused before anybody is asked


def test_what_the_server_says_is_not_believed(lab: MeteredLab) -> None:
    access = lab.released()[0]
    with access.connected() as api:
        good = api.open_odometer(access.delivery, None)

        class Lying:
            """A broker that answers with other entries than the keeper's for this release."""

            def __init__(self, answer: bytes) -> None:
                self.answer = answer

            def odometer(self, model: ModelId) -> object:
                return api.odometer(model)

            def entries(self, start: int, count: int) -> tuple[bytes, ...]:
                return api.entries(start, count)

            def open_odometer(self, _delivery: Envelope, _seen: bytes | None) -> bytes:
                return self.answer

            def advance_odometer(self, _delivery: Envelope, _block: Block) -> bytes:
                return self.answer

            def report_breach(self, _delivery: Envelope, _cause: str) -> None:
                raise UnavailableError("nobody is told")

        theirs = api.open_odometer(lab.released()[0].delivery, None)
        for answer, error in (
            (good.replace(b'"total":', b'"total":9'), EntryForgedError),
            (good.replace(b'"recent":', b'"recent":9'), EntryForgedError),
            (theirs, OdometerForgedError),
            (api.entries(3, 1)[0], OdometerForgedError),
            (b"{}", StrongroomError),
        ):
            pauses: list[float] = []
            one = BrokerOdometer(Lying(answer), access.genesis, access.metered, access.delivery, pause=pauses.append)  # type: ignore[arg-type]
            with pytest.raises(error):
                one.open(None)
            with pytest.raises(error):
                one.advance(Block(model=THIS, run=1, through=1, settled=0, tokens=0, verified=0))
            with pytest.raises(UnavailableError):
                one.breach("no-demand")
            assert len(pauses) > 2


def test_an_older_policy_that_is_shown_isn_t_served_under(tmp_path: Path, lab: MeteredLab) -> None:
    access = lab.released()[0]
    older = replace(POLICY, lifetime_permille=900)
    with access.odometer() as odometer, gateway(tmp_path, honest(), older, odometer=odometer) as live:
        assert isinstance(live.error, EgressPolicyStaleError)
    assert not isinstance(live.error, TamperedError)


def test_a_person_s_certificate_moves_no_odometer(lab: MeteredLab) -> None:
    access = lab.released()[0]
    body = {"delivery": access.delivery.to_json(), "seen": None}
    assert lab.broker.caller("dana").post("/v1/egress/runs", body).status == 403
    assert lab.broker.caller("host", enclave=True).post("/v1/egress/runs", {**body, "more": 1}).status == 400
    assert lab.broker.caller("host", enclave=True).post("/v1/egress/runs", body).status == 200
    told = lab.broker.caller("dana").get(f"/v1/egress/{MODEL}").json
    assert told["frozen"] is False
    assert lab.broker.caller("dana").get("/v1/egress/nothing-like-it").json["run"] == 0
