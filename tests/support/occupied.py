"""The three real processes, people who act over HTTP, and an attacker who owns the broker's database.

Log writer, keeper and broker run as they are. What the attacker does is done to the files: rows written into the open
database, or whole folders put back as they were.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from simulators.attester import APPRAISAL, tpm_root
from strongroom.access.policy import POLICY_TYPE, Factor, ModelTerms, Weights
from strongroom.access.request import APPROVAL_TYPE, DENIAL_TYPE, REQUEST_TYPE, Action, LogHead, Purpose
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.attestation.adapters.tpm_attester import TpmAttester
from strongroom.attestation.adapters.tpm_device import TpmDevice
from strongroom.attestation.evidence import devices_digest
from strongroom.attestation.measurement import Measurement, launch_measurements
from strongroom.attestation.reference_values import REFERENCE_VALUES_TYPE, ReferenceImage, ReferenceValues
from strongroom.attestation.tpm.credential import Credential
from strongroom.attestation.transcript import Binding
from strongroom.audit.entries import Entry, read_entry
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.envelope import Envelope, sign
from strongroom.core.events import EventName
from strongroom.core.fields import Fields
from strongroom.core.ids import ImageId, ModelId, PersonId, PlatformId
from strongroom.core.secret import SecretBytes
from strongroom.keys.recipient import RecipientKey
from strongroom.personnel.roster import ROSTER_TYPE
from strongroom.release.delivery import Delivery, accept
from strongroom.release.lease import NONCE_BYTES
from strongroom.sealing.manifest import Manifest, ManifestObject, manifest_envelope
from strongroom.tpm.adapters.transport import DescriptorTransport
from support.brokers import Answer, Caller, RunningBroker
from support.deployment import DAY, LEVEL, MODEL, ROOTS, Deployment, bare_request, publisher, signer, vetted, vetting

OTHER = ModelId("other")
IMAGE = ImageId("embedder")
HANDED_OUT = frozenset({EventName.RELEASED, EventName.EXPORTED, EventName.REDELIVERED})
_INSERT = "INSERT INTO approvals (request, kind, envelope, created) VALUES (?, 'approve', ?, 1)"


@dataclass
class Occupied:
    """One deployment with two sealed models; its export rule takes two people, its opening rule too."""

    deployment: Deployment
    running: RunningBroker
    manifests: dict[ModelId, Digest] = field(default_factory=dict)
    _callers: dict[str, Caller] = field(default_factory=dict)

    # --- people, over HTTP ------------------------------------------------------------------------------------------

    def caller(self, name: str, *, enclave: bool = False) -> Caller:
        """Return the connection of a person or enclave, kept while the broker runs."""
        if name not in self._callers:
            self._callers[name] = self.running.caller(name, enclave=enclave)
        return self._callers[name]

    def admitted(self, name: str) -> None:
        """Wait until the door is open for somebody."""
        self._met(name, 200)

    def barred(self, name: str) -> None:
        """Wait until the door is shut for somebody who was suspended: a second at most, on a machine that is idle."""
        self._met(name, 403)

    def _met(self, name: str, status: int) -> None:
        end = time.monotonic() + 10
        while self.caller(name).get("/v1/genesis").status != status:
            assert time.monotonic() < end
            time.sleep(0.05)

    def post(self, path: str, body: Json = None, *, by: str = "dana") -> dict[str, Json]:
        """Post, and return what a good answer said."""
        return done(self.caller(by).post(f"/v1/{path}", body))

    def head(self) -> LogHead:
        """Return the log as a client sees it now."""
        return self.deployment.head()

    def ask(self, action: Action, *, by: str = "dana", **members: object) -> Envelope:
        """Make, sign and submit a request."""
        envelope = self.unsubmitted(action, by=by, **members)
        self.post("requests", {"request": envelope.to_json()}, by=by)
        return envelope

    def unsubmitted(self, action: Action, *, by: str = "dana", **members: object) -> Envelope:
        """Make and sign a request, and hand it in to nobody."""
        deployment = self.deployment
        base = bare_request(deployment.genesis.digest, deployment.roster, deployment.policy, self.head(), action, by=by)
        return sign(REQUEST_TYPE, replace(base, **members).to_bytes(), signer(by))  # type: ignore[arg-type]

    def ask_export(self, key: RecipientKey, *, by: str = "dana", **members: object) -> Envelope:
        """Ask for the data key of the current version, to be delivered to a recipient key."""
        told: dict[str, object] = {"version": 1, "manifest": self.manifests[MODEL], "recipient": key.digest}
        return self.ask(Action.EXPORT_PLAINTEXT, by=by, **(told | members))

    def approve(self, request: Envelope, *people: str) -> None:
        """Have people approve."""
        for name in people or ("sam", "rina"):
            approval = sign(APPROVAL_TYPE, request.payload, signer(name))
            self.post(f"requests/{request.digest}/approvals", {"envelope": approval.to_json()}, by=name)

    def deny(self, request: Envelope, by: str) -> None:
        """Have somebody deny."""
        denial = sign(DENIAL_TYPE, request.payload, signer(by))
        self.post(f"requests/{request.digest}/denials", {"envelope": denial.to_json()}, by=by)

    def try_export(self, request: Envelope, key: RecipientKey, *, by: str = "dana") -> Answer:
        """Ask for the delivery of an export."""
        body: Json = {"recipient_key": to_base64(key.public)}
        return self.caller(by).post(f"/v1/requests/{request.digest}/export", body)

    def export(self, request: Envelope, key: RecipientKey) -> None:
        """Export, and open what was delivered."""
        delivery, data_key = self.opened(self.try_export(request, key), request, key)
        data_key.wipe()
        assert delivery.action is Action.EXPORT_PLAINTEXT

    def opened(self, answer: Answer, request: Envelope, key: RecipientKey) -> tuple[Delivery, SecretBytes]:
        """Open a delivery as its recipient does."""
        with Fields(done(answer)["delivery"], "delivery") as fields:
            envelope = Envelope.read(fields)
        return accept(envelope, self.deployment.genesis, key, request=request.digest, model=MODEL, version=1)

    def vet(self, name: str, **members: object) -> None:
        """Have somebody's next vetting record recorded, through the broker."""
        deployment, now = self.deployment, int(time.time())
        serial = deployment.serials.get(name, 0) + 1
        record = vetting(deployment.genesis.digest, name, at=now, until=now + 30 * DAY, serial=serial, **members)
        self.post("statements/vetting", {"envelope": vetted(record).to_json()}, by="root-1")
        deployment.serials[name] = serial

    def freeze(self) -> None:
        """Have one person freeze the model."""
        self.post(f"requests/{self.ask(Action.FREEZE).digest}/control")

    def entries(self) -> list[Entry]:
        """Return the whole log."""
        found: list[Entry] = []
        caller = self.caller("root-1")
        while len(found) < self.head().size:
            some = done(caller.get(f"/v1/log/entries?start={len(found)}&count=256"))["entries"]
            assert isinstance(some, list)
            found += [read_entry(from_base64(str(one))) for one in some]
        return found

    def handed_out(self) -> int:
        """Return how often a data key was handed out, by the log."""
        return sum(entry.event in HANDED_OUT for entry in self.entries())

    # --- the attacker -------------------------------------------------------------------------------------------------

    def forge_row(self, request: Envelope, approval: Envelope) -> None:
        """Insert an approval into the open database."""
        self.execute(_INSERT, str(request.digest), approval.to_bytes().decode())

    def execute(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Run a statement on the open database; one that is to change something must."""
        with closing(sqlite3.connect(self.running.database, timeout=60)) as database, database:
            cursor = database.execute(statement, values)
            assert statement.startswith("SELECT") or cursor.rowcount > 0
            return cursor.fetchall()

    def copy_database(self, to: Path) -> None:
        """Take a whole copy of the open database."""
        with closing(sqlite3.connect(self.running.database)) as source, closing(sqlite3.connect(to)) as target:
            source.backup(target)

    def put_back_database(self, copy: Path) -> None:
        """Stop the broker, put a copy in the database's place, and start again."""
        with self.broker_down():
            for suffix in ("-wal", "-shm"):
                self.running.database.with_name(self.running.database.name + suffix).unlink(missing_ok=True)
            shutil.copy(copy, self.running.database)

    @contextmanager
    def broker_down(self) -> Iterator[None]:
        """Stop the broker for a while."""
        self._callers.clear()
        self.running.stop()
        yield
        self.running.start()

    @contextmanager
    def all_down(self) -> Iterator[None]:
        """Stop all three processes for a while."""
        with self.broker_down():
            for name in ("keeper", "log"):
                self.deployment.stop(name)
            yield
            for name in ("log", "keeper"):
                self.deployment.start(name)

    # --- founding -----------------------------------------------------------------------------------------------------

    def furnish(self) -> None:
        """Adopt the documents, vet everybody, and seal version 1 of both models, all through the broker."""
        deployment = self.deployment
        two = (Factor(role="approver-security", count=1), Factor(role="approver-research", count=1))
        rules = deployment.policy.rules
        deployment.policy = replace(
            deployment.policy,
            rules=(*rules, replace(rules[0], action=Action.EXPORT_PLAINTEXT, requester_role="requester", factors=two)),
        )
        roster = sign(ROSTER_TYPE, deployment.roster.to_bytes(), *ROOTS[:2])
        self.post("documents/roster", {"envelope": roster.to_json()}, by="root-0")
        self.post("documents/policy", {"envelope": self.policy_envelope().to_json()}, by="root-0")
        for person in deployment.roster.people:
            self.vet(person.id)
        for model in (MODEL, OTHER):
            self._seal(model)

    def policy_envelope(self) -> Envelope:
        """Return the policy in force, as the root quorum signed it."""
        return sign(POLICY_TYPE, self.deployment.policy.to_bytes(), *ROOTS[:2])

    def adopt_policy(self, **members: object) -> None:
        """Have the next policy adopted, with members changed."""
        before = self.deployment.policy
        told: dict[str, object] = {"epoch": before.epoch + 1, "predecessor": Digest.of(before.to_bytes())}
        self.deployment.policy = replace(before, **(told | members))  # type: ignore[arg-type]
        self.post("documents/policy", {"envelope": self.policy_envelope().to_json()}, by="root-0")

    def _seal(self, model: ModelId) -> None:
        key = RecipientKey()
        asked = self.ask(Action.SEAL, model=model, version=1, recipient=key.digest, purpose=Purpose.PUBLISH)
        body: Json = {"recipient_key": to_base64(key.public)}
        with Fields(self.post(f"requests/{asked.digest}/seal", body)["delivery"], "delivery") as fields:
            envelope = Envelope.read(fields)
        genesis = self.deployment.genesis
        delivery, data_key = accept(envelope, genesis, key, request=asked.digest, model=model, version=1)
        data_key.wipe()
        parts = [
            ManifestObject(object_id=bytes([n]) * 16, size=1 << 20, header=Digest.of(b"h"), root=Digest.of(b"r"))
            for n in range(2)
        ]
        manifest = Manifest(
            genesis=genesis.digest,
            model=model,
            version=1,
            predecessor=None,
            data_key_id=delivery.data_key,
            commitment=bytes(32),
            publisher=PersonId("dana"),
            index=parts[0],
            objects=(parts[1],),
        )
        signed = manifest_envelope(manifest, publisher("dana"))
        self.post("manifests", {"manifest": signed.to_json(), "request": str(asked.digest)})
        self.manifests[model] = manifest.digest


class Machine:
    """An enclave on an enrolled platform with a software TPM, that speaks to the broker."""

    def __init__(self, occupied: Occupied, tpm: SoftwareTPM) -> None:
        self._occupied = occupied
        self._tpm = tpm
        made = {name: Digest.of(name.encode()) for name in ("interpreter", "files", "command", "sandbox")}
        genesis = occupied.deployment.genesis.digest
        self.measurements: tuple[Measurement, ...] = launch_measurements(genesis=genesis, **made)
        self.platform = PlatformId("")

    def prepare(self) -> None:
        """Have the reference values adopted, the platform enrolled, and measure."""
        occupied = self._occupied
        values = ReferenceValues(
            genesis=occupied.deployment.genesis.digest,
            epoch=1,
            images=(ReferenceImage.launched(IMAGE, self.measurements),),
            anchors=(tpm_root(self._tpm.root_certificate),),
            appraisal=APPRAISAL,
            not_after=int(time.time()) + 90 * DAY,
            predecessor=None,
        )
        envelope = sign(REFERENCE_VALUES_TYPE, values.to_bytes(), *ROOTS[:2])
        occupied.post("documents/reference-values", {"envelope": envelope.to_json()}, by="root-0")
        with self._device() as device:
            attester = TpmAttester(device)
            request = attester.enrolment_request(self._tpm.intermediates)
            begun = self._post("enrolments", {"enrolment": to_base64(request.to_bytes())})
            blob, secret = (from_base64(str(begun[name])) for name in ("credential_blob", "encrypted_secret"))
            answer = attester.answer(Credential(blob, secret))
            self._post(f"enrolments/{begun['session']}", {"answer": to_base64(answer)})
            self.platform = PlatformId(str(begun["platform"]))
        self._tpm.power_cycle()
        with self._device() as device:
            device.startup()
            TpmAttester(device).measure(self.measurements)

    def ask(self, **members: object) -> Envelope:
        """Ask to open the model on this platform."""
        told: dict[str, object] = {
            "version": 1,
            "manifest": self._occupied.manifests[MODEL],
            "image": IMAGE,
            "measurement": ReferenceImage.launched(IMAGE, self.measurements).measurement,
            "platforms": (self.platform,),
        }
        return self._occupied.ask(Action.OPEN_IN_ENCLAVE, **(told | members))  # type: ignore[arg-type]  # none is `by`

    def try_open(self, request: Envelope, key: RecipientKey) -> Answer:
        """Answer a fresh challenge with evidence, and ask for the data key."""
        occupied, path = self._occupied, f"requests/{request.digest}"
        told = self._post(f"{path}/challenges", {"platform": self.platform})
        binding = Binding(
            genesis=occupied.deployment.genesis.digest,
            challenge=str(told["challenge"]),
            nonce=from_base64(str(told["nonce"])),
            request=request.digest,
            model=MODEL,
            version=1,
            manifest=occupied.manifests[MODEL],
            recipient_key=key.digest,
            devices=devices_digest(()),
        )
        with self._device() as device:
            evidence = TpmAttester(device).attest(
                binding=binding, measurements=self.measurements, recipient_key=key.public
            )
        body: Json = {
            "challenge": binding.challenge,
            "platform": self.platform,
            "evidence": to_base64(evidence),
        }
        return occupied.caller("gpu-1", enclave=True).post(f"/v1/{path}/release", body)

    def open(self, request: Envelope) -> Delivery:
        """Open the model."""
        key = RecipientKey()
        delivery, data_key = self._occupied.opened(self.try_open(request, key), request, key)
        data_key.wipe()
        return delivery

    def try_renew(self, delivery: Delivery, serial: int) -> Answer:
        """Ask for the next lease of what was opened."""
        body: Json = {
            "use": delivery.use,
            "recipient": str(delivery.recipient),
            "serial": serial,
            "nonce": to_base64(os.urandom(NONCE_BYTES)),
        }
        caller = self._occupied.caller("gpu-1", enclave=True)
        return caller.post(f"/v1/requests/{delivery.request}/leases", body)

    def _post(self, path: str, body: Json) -> dict[str, Json]:
        return done(self._occupied.caller("gpu-1", enclave=True).post(f"/v1/{path}", body))

    def _device(self) -> TpmDevice:
        return TpmDevice(DescriptorTransport.unix(self._tpm.socket_path))


def done(answer: Answer) -> dict[str, Json]:
    """Return what a good answer said."""
    assert answer.status == 200, answer.text
    return answer.json


@contextmanager
def occupied(
    home: Path, *, keeper_module: str = "strongroom.keeper.wiring", also: Sequence[ModelTerms] = ()
) -> Iterator[Occupied]:
    """Found a deployment at ``home``, run its three processes, and furnish it. ``also``: models that aren't sealed."""
    terms = [
        *also,
        *(
            ModelTerms(model=one, level=LEVEL, least_isolation="vm-simulated", weights=Weights.TEST, export=True)
            for one in (MODEL, OTHER)
        ),
    ]
    with Deployment.found(home, models=terms) as founded:
        founded.keeper_module = keeper_module
        founded.start("log")
        founded.start("keeper")
        running = RunningBroker(founded.home, founded.genesis, None)  # type: ignore[arg-type]  # the real one runs
        running.start()
        try:
            made = Occupied(founded, running)
            made.furnish()
            yield made
        finally:
            if running.process is not None:
                running.stop()
