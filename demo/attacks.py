"""The refusals: each is a real attempt with the real commands, or on the real files and rows."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from preparing import CLEARED, vet
from stage import Outcome, Stage, UnexpectedError
from strongroom.access.request import APPROVAL_TYPE
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.attestation.adapters.tpm_attester import TpmAttester
from strongroom.attestation.adapters.tpm_device import TpmDevice
from strongroom.attestation.evidence import devices_digest
from strongroom.attestation.measurement import MeasuredName, Measurement
from strongroom.attestation.transcript import Binding
from strongroom.cli.session import no_passphrase
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.api import BrokerApi
from strongroom.client.wiring import connect
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, Signature
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ModelId, PlatformId
from strongroom.keys.recipient import RecipientKey
from strongroom.sealing.adapters.directory import read_envelope
from strongroom.sealing.manifest import read_manifest
from strongroom.tpm.adapters.transport import DescriptorTransport

DENIED, PENDING, TAMPERED = 3, 4, 6


class Attacks:
    """Everything that is tried against one running deployment."""

    def __init__(self, stage: Stage, tpm: SoftwareTPM, *, sealed: Path, model: str, image: str, script: Path) -> None:
        self._stage = stage
        self._tpm = tpm
        self._sealed = sealed
        self._model = model
        self._image = image
        self._script = script
        self.approved = ""
        """A request that two people approved."""

    # --- the honest moves, which the attempts vary -----------------------------------------------------------

    def request(self, *, uses: int = 1, window: str = "1h") -> str:
        """Dana asks to open the model; returns the request's digest."""
        told = self._stage.ok(
            "request",
            "create",
            "--model",
            self._model,
            "--image",
            self._image,
            "--purpose",
            "evaluate",
            "--ticket",
            "DEMO-1",
            "--uses",
            str(uses),
            "--for",
            window,
            "--json",
            who="dana",
        ).told
        return str(told["request"])

    def approve(self, request: str, *people: str) -> None:
        """People approve a request."""
        for name in people:
            self._stage.ok("approve", request, "--yes", who=name)

    def enclave(self, request: str, *, script: Path | None = None, sealed: Path | None = None) -> Outcome:
        """Power the platform anew and launch the enclave."""
        self._tpm.power_cycle()
        return self._stage.run(
            "enclave",
            "run",
            self._model,
            "--sealed",
            sealed or self._sealed,
            "--image",
            self._image,
            "--request",
            request,
            "--tpm",
            f"unix:{self._tpm.socket_path}",
            "--",
            script or self._script,
            who="enclave-host",
        )

    # --- people ----------------------------------------------------------------------------------------------

    def people(self) -> None:
        """Too few, the wrong ones, and one person twice."""
        stage = self._stage
        request = self.request()
        stage.refused("no approval", self.enclave(request), PENDING, "quorum-not-met")
        outcome = stage.run("approve", request, "--yes", who="dana")
        stage.refused("self-approval", outcome, DENIED, "self-approval")
        self.approve(request, "noor")
        with self._rows() as rows:
            rows.execute(
                "INSERT INTO approvals (request, kind, envelope, created) "
                "SELECT request, kind, envelope, created + 1 FROM approvals WHERE request = ?",
                (request,),
            )
        stage.refused("one person twice, with two roles", self.enclave(request), DENIED, "one-person-twice")

    def vetting(self) -> None:
        """One officer alone clears somebody; an approver's vetting lapses after the approval."""
        stage = self._stage
        file = stage.scratch / "alone.vetting"
        stage.ok("people", "vet", "dana", file, *CLEARED, who="vera", quiet=True)
        stage.ok("people", "sign", file, "--yes", who="vera", quiet=True)
        stage.refused(
            "vetting by one officer", stage.run("people", "hand-in", file, who="vera"), DENIED, "officers-missing"
        )
        lapsed = ("--screened-on", "2020-01-01T00:00:00Z", "--until", "2020-06-01T00:00:00Z")
        vet(stage, ("rina",), (*CLEARED, *lapsed))
        stage.refused("lapsed vetting", self.enclave(self.approved), DENIED, "approver-vetting-lapsed")
        vet(stage, ("rina",), CLEARED)

    def leaver(self, adopt: Callable[[str, Path], None]) -> None:
        """An approver leaves, is listed as active again, and comes back by two officers' word: and agrees anew."""
        stage = self._stage
        for standing, what in (("--inactive", "an approver who left"), ("--active", "one listed as active again")):
            draft = stage.scratch / "roster-next.json"
            draft.unlink(missing_ok=True)
            stage.ok("people", "roster", "new", draft, "--next", who="root-1", quiet=True)
            stage.ok("people", "roster", "set", draft, "--id", "rina", standing)
            adopt("roster", draft)
            stage.refused(what, self.enclave(self.approved), DENIED, "approver-inactive")
        vet(stage, ("rina",), CLEARED)
        stage.refused("an approval from before", self.enclave(self.approved), DENIED, "approver-approval-not-recorded")
        self.approved = self.request(uses=50)
        self.approve(self.approved, "sam", "rina")

    # --- the enclave -----------------------------------------------------------------------------------------

    def attestation(self) -> None:
        """Another program than the measured one; evidence from yesterday."""
        stage = self._stage
        other = stage.scratch / "other" / "embed.py"
        other.parent.mkdir()
        other.write_text(self._script.read_text() + "\n# one more line\n")
        outcome = self.enclave(self.approved, script=other)
        stage.refused("unknown measurement", outcome, DENIED, "unwanted-command")
        stage.note("replayed evidence", self._replay(), DENIED)

    def _replay(self) -> str:
        host = WalletFolder(self._stage.wallet("enclave-host"), no_passphrase)
        genesis, request = host.genesis(), Digest.parse(self.approved)
        manifest = read_manifest(read_envelope(self._sealed))
        entry = json.loads((self._stage.scratch / "image.json").read_text())
        (measured,) = entry["measured"]["tpm2"]
        measurements = tuple(Measurement(name, Digest.parse(measured[name])) for name in MeasuredName)
        key = RecipientKey()
        self._tpm.power_cycle()
        device = TpmDevice(DescriptorTransport.unix(self._tpm.socket_path))
        with device, connect(host) as transport:
            api = BrokerApi(transport)
            attester = TpmAttester(device)
            attester.measure(measurements)
            with device.attestation_key() as attestation_key:
                platform = PlatformId("tpm-" + attestation_key.public.name[2:].hex())
            first = api.challenge(request, platform)
            binding = Binding(
                genesis=genesis.digest,
                challenge=first.challenge,
                nonce=first.nonce,
                request=request,
                model=ModelId(self._model),
                version=manifest.version,
                manifest=manifest.digest,
                recipient_key=key.digest,
                devices=devices_digest(()),
            )
            evidence = attester.attest(binding=binding, measurements=measurements, recipient_key=key.public)
            second = api.challenge(request, platform)
            try:
                api.release(request, challenge=second.challenge, platform=platform, evidence=evidence)
            except StrongroomError as error:
                if error.reason == "evidence-replayed":
                    return error.reason
                raise
        raise UnexpectedError("evidence for one challenge answered another")

    # --- sealed files ----------------------------------------------------------------------------------------

    def sealed_files(self, plain: Path) -> None:
        """A flipped byte, a missing end, and plaintext in place of sealed."""
        largest = max((self._sealed / "objects").iterdir(), key=lambda path: path.stat().st_size)
        whole = largest.read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        for what, damaged, reason in (
            ("a flipped byte", bytes(flipped), "segment-tampered"),
            ("truncation", whole[: len(whole) // 2], "sealed-truncated"),
            ("plaintext in place of sealed", (plain / "model.safetensors").read_bytes(), "not-sealed"),
        ):
            largest.write_bytes(damaged)
            self._stage.refused(what, self.enclave(self.approved), TAMPERED, reason)
        largest.write_bytes(whole)

    def versions(self, seal: Callable[[str], Path]) -> None:
        """An older version, by its own approved request and under the name of the newer one."""
        old, before = self._sealed, self.approved
        self._stage.say("A second version is sealed; the first one is over")
        self._sealed = seal("minilm-2.sealed")
        outcome = self.enclave(before, sealed=old)
        self._stage.refused("an older version, by its old approval", outcome, DENIED, "version-not-current")

    # --- the database ----------------------------------------------------------------------------------------

    def database(self, seal: Callable[[Path], Path]) -> None:
        """Rows written by somebody who owns the database."""
        stage = self._stage
        request = self.request(uses=5)
        self.approve(request, "sam")
        stage.refused("a forged approval row", self._with_forged_approval(request), DENIED, "approval-forged")
        other = stage.scratch / "other-model"
        other.mkdir()
        (other / "weights.bin").write_bytes(os.urandom(100_000))
        seal(other)
        self.approve(request, "rina")
        with self._swapped_keys():
            stage.refused("a wrapped key of another model", self.enclave(request), DENIED, "wrapped-key-refused")
        self.approved = request

    def _with_forged_approval(self, request: str) -> Outcome:
        host = WalletFolder(self._stage.wallet("rina"), no_passphrase)
        with self._rows() as rows:
            (stored,) = rows.execute("SELECT envelope FROM requests WHERE digest = ?", (request,)).fetchone()
            payload = Envelope.parse(stored.encode()).payload
            forged = Envelope(APPROVAL_TYPE, payload, (Signature(host.identity.key.key_id, os.urandom(64)),))
            rows.execute(
                "INSERT INTO approvals (request, kind, envelope, created) VALUES (?, 'approve', ?, 1)",
                (request, forged.to_bytes().decode()),
            )
        outcome = self.enclave(request)
        with self._rows() as rows:
            rows.execute("DELETE FROM approvals WHERE request = ? AND created = 1", (request,))
        return outcome

    @contextmanager
    def _swapped_keys(self) -> Iterator[None]:
        def swap() -> None:
            with self._rows() as rows:
                found = rows.execute(
                    "SELECT data_key, body FROM wrapped_keys WHERE model IN (?, 'other') ORDER BY model, version DESC",
                    (self._model,),
                ).fetchall()
                ours = next(row for row in found if row[0] == self._key_of(rows))
                theirs = next(row for row in found if row[0] == self._key_of(rows, "other"))
                rows.execute("UPDATE wrapped_keys SET body = ? WHERE data_key = ?", (theirs[1], ours[0]))
                rows.execute("UPDATE wrapped_keys SET body = ? WHERE data_key = ?", (ours[1], theirs[0]))

        swap()
        yield
        swap()

    def _key_of(self, rows: sqlite3.Connection, model: str = "") -> str:
        query = "SELECT data_key FROM wrapped_keys WHERE model = ? ORDER BY version DESC LIMIT 1"
        (name,) = rows.execute(query, (model or self._model,)).fetchone()
        return str(name)

    @contextmanager
    def _rows(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._stage.home / "broker" / "broker.db", timeout=10)
        try:
            with connection:
                yield connection
        finally:
            connection.close()

    # --- freeze and log --------------------------------------------------------------------------------------

    def freeze(self) -> None:
        """One person freezes; the approved request is worth nothing until two resume."""
        stage = self._stage
        stage.say("One person freezes the model")
        stage.ok("freeze", self._model, who="dana")
        stage.refused("a frozen model", self.enclave(self.approved), DENIED, "model-frozen")
        asked = stage.run("resume", self._model, "--json", who="dana")
        resume = str(asked.told["request"])
        stage.refused(
            "resuming alone",
            stage.run("resume", "--request", resume, who="dana"),
            PENDING,
            "quorum-not-met",
        )

    def copy_log(self) -> None:
        """Somebody who owns the log's disk takes a copy, for later."""
        self._stage.stop()
        shutil.copytree(self._stage.home / "log", self._stage.scratch / "log-then")
        self._stage.start()

    def log_rolled_back(self) -> None:
        """The log is cut back to an older copy, and the deployment is to go on from there."""
        stage = self._stage
        log, now = stage.home / "log", stage.scratch / "log-now"
        log.rename(now)
        shutil.copytree(stage.scratch / "log-then", log)
        outcome = stage.start_refused()
        stage.refused("log truncated, then continued", outcome, TAMPERED, "rolled-back")
        shutil.rmtree(log)
        now.rename(log)
