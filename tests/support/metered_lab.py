"""A model that was released, and the deployment's log as its odometer: keeper, log writer, broker and TPM as they are.

Only the enclave is missing: its side of the release is spoken by hand, and the test chooses what plays its engine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from strongroom.access.request import Action
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.audit.entries import Entry
from strongroom.client.adapters.http import HttpTransport, mutual_tls
from strongroom.client.api import BrokerApi
from strongroom.core.canonical import Json
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.egress.policies import EgressPolicies
from strongroom.egress.policy import EgressPolicy
from strongroom.enclave.gateway.adapters.broker_odometer import BrokerOdometer
from strongroom.keys.recipient import RecipientKey
from strongroom.release.delivery import Delivery
from strongroom.release.dossier import Dossier
from strongroom.release.lease import LeaseAsk
from strongroom.release.metering import Metered
from support.attested import Attested, Sealed, envelope
from support.brokers import RunningBroker, broker_beside
from support.deployment import MODEL, Deployment
from support.metered import policies, signed
from support.offline import verified_entries

LEASE_SECONDS = 600


@dataclass(frozen=True)
class Access:
    """Everything that a governor's process takes to reach its odometer; it can be handed to another process."""

    url: str
    authority: Path
    certificate: Path
    key: Path
    genesis: Genesis
    metered: Metered
    delivery: Envelope

    @contextmanager
    def connected(self) -> Iterator[BrokerApi]:
        """Connect to the broker as an enclave's host."""
        context = mutual_tls(authority=self.authority, certificate=self.certificate, key=self.key)
        with HttpTransport(self.url, context) as transport:
            yield BrokerApi(transport)

    @contextmanager
    def odometer(self) -> Iterator[BrokerOdometer]:
        """Connect, and return the odometer as a gateway has it."""
        with self.connected() as api:
            yield BrokerOdometer(api, self.genesis, self.metered, self.delivery)


class MeteredLab:
    """The deployment. `document` are its egress policies in force."""

    def __init__(self, attested: Attested, sealed: Sealed, broker: RunningBroker, document: EgressPolicies) -> None:
        self.attested, self.sealed, self.broker, self.document = attested, sealed, broker, document
        self._certificate = self.deployment.home / "host.pem", self.deployment.home / "host.key"
        issued = broker.authority().issue_enclave("host", at=int(time.time()), life=timedelta(hours=1))
        issued.save(*self._certificate)
        self._renewals = 0

    @property
    def deployment(self) -> Deployment:
        """The deployment."""
        return self.attested.deployment

    def released(self) -> tuple[Access, RecipientKey, Envelope]:
        """Release once; returns what its governor takes, the recipient key, and the request."""
        request, approvals = self.attested.approved(self.sealed)
        self.broker.caller().post("/v1/requests", {"request": request.to_json()})
        key = RecipientKey()
        dossier = Dossier(
            request=request,
            approvals=approvals,
            testimony=self.attested.testimony(request, self.sealed, key),
            wrapped=self.sealed.wrapped,
        )
        delivery = envelope(self.deployment.call("release", dossier=dossier.to_json())["delivery"])
        return self.access(delivery), key, request

    def access(self, delivery: Envelope) -> Access:
        """Return what a governor takes that holds a delivery."""
        told = Delivery.parse(delivery.payload)
        return Access(
            url=f"https://127.0.0.1:{self.broker.port}",
            authority=self.deployment.home / "broker" / "ca" / "ca.pem",
            certificate=self._certificate[0],
            key=self._certificate[1],
            genesis=self.deployment.genesis,
            metered=Metered(request=told.request, use=told.use, model=told.model),
            delivery=delivery,
        )

    def renew(self, access: Access, key: RecipientKey, request: Envelope) -> None:
        """Renew a release's lease with new evidence, as its agent does."""
        self._renewals += 1
        ask = LeaseAsk(use=access.metered.use, recipient=key.digest, serial=self._renewals, nonce=os.urandom(32))
        shown = self.attested.testimony(request, self.sealed, key)
        proof: Json = {"challenge": shown.challenge, "evidence": to_base64(shown.evidence)}
        self.deployment.call("renew", request=request.to_json(), proof=proof, **ask.to_json())

    def adopt(self, *listed: EgressPolicy) -> None:
        """Adopt the next egress policies."""
        document = policies(self.deployment.genesis, *listed, before=self.document)
        self.deployment.adopt("egress", signed(document))
        self.document = document

    def resume(self) -> None:
        """Have the model's quorum resume it."""
        request = self.deployment.request(Action.RESUME)
        self.deployment.control(request, *(self.deployment.approve(request, who) for who in ("sam", "rina")))

    def spent(self) -> int:
        """Return the odometer's total, as the keeper says."""
        total = self.deployment.call("odometer", model=MODEL)["total"]
        assert isinstance(total, int)
        return total

    def entries(self, event: EventName) -> list[Entry]:
        """Return every entry of an event in the log, the whole log verified."""
        return [entry for entry in verified_entries(self.deployment) if entry.event is event]


@contextmanager
def metered_lab(
    folder: Path, tpm: SoftwareTPM, *listed: EgressPolicy, more: Sequence[str] = ()
) -> Iterator[MeteredLab]:
    """Found, start, seal, enrol, measure, and adopt egress policies."""
    with Deployment.found(folder / "home") as deployment, ExitStack() as stack:
        deployment.start("log")
        deployment.start("keeper", more=["--lease-seconds", str(LEASE_SECONDS)])
        deployment.adopt_first()
        document = policies(deployment.genesis, *listed)
        deployment.adopt("egress", signed(document))
        attested = Attested(deployment, tpm)
        attested.adopt_reference_values()
        attested.enrol()
        plain = folder / "plain"
        plain.mkdir()
        (plain / "config.json").write_text("{}")
        sealed = attested.seal(plain, folder / "model.sealed")
        attested.measure()
        broker = broker_beside(deployment.home, deployment.genesis, *more)
        stack.callback(broker.stop)
        yield MeteredLab(attested, sealed, broker, document)


@contextmanager
def software_tpm(folder: Path) -> Iterator[SoftwareTPM]:
    """Run a software TPM."""
    (folder / "tpm").mkdir()
    with SoftwareTPM(folder / "tpm") as made:
        yield made
