"""``strongroom enclave``: enrol a platform, measure an image, run a model where it can't leave."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.attestation.adapters.tpm_attester import TpmAttester
from strongroom.attestation.adapters.tpm_device import TpmDevice
from strongroom.attestation.chip_enrolment import EnrolmentBinding
from strongroom.attestation.platform_record import PLATFORM_TYPE, PlatformRecord
from strongroom.attestation.tpm.credential import Credential
from strongroom.cli.attestation_collect import CHIPS, Interface, chip_source
from strongroom.cli.enclave_gate import gate as gate_group
from strongroom.cli.enclave_image import image as image_group
from strongroom.cli.enclave_machine import run_in_machine, serve_in_machine
from strongroom.cli.enclave_options import (
    TPM_HELP,
    Opening,
    image_option,
    opening_options,
    sealed_option,
    show_measured,
)
from strongroom.cli.enclave_serve import serving
from strongroom.cli.enclave_workspace import workspace
from strongroom.cli.grant import revoke_platforms
from strongroom.cli.session import as_wallet, json_option, no_passphrase
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.api import BrokerApi
from strongroom.client.wiring import connect
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, verify
from strongroom.core.errors import ExitCode, PendingError, StrongroomError, UsageError
from strongroom.core.ids import PlatformId
from strongroom.enclave.launch.relay import Challenged, Opened, Released
from strongroom.enclave.launch.wiring import python_image, run, tpm_transport
from strongroom.release.lease import LeaseAsk, LeaseProof

_command = click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)


@click.group("enclave")
def enclave() -> None:
    """Enrol a platform, measure an image, run a model where its weights can't leave."""


@enclave.command("enrol")
@click.option("--tpm", help=TPM_HELP)
@click.option(
    "--chip",
    type=click.Choice([one.value for one in CHIPS]),
    help="Enrol this machine's confidential-computing chip instead, through this interface.",
)
@click.option(
    "--intermediate",
    "intermediates",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Vendor CA certificate (PEM or DER) between the TPM's own and the pinned root.",
)
@as_wallet
@json_option
def enrol(tpm: str | None, chip: str | None, intermediates: tuple[Path, ...], wallet: Path, *, as_json: bool) -> None:
    """Enrol this machine: its TPM, or its confidential-computing chip.

    Of a TPM: proof that its attestation key lives in a TPM that a pinned root vouches for. Of a chip: evidence over a
    challenge, genuine and as the appraisal policy wants it. An enrolled identity never changes.
    """
    if (tpm is None) == (chip is None):
        raise UsageError("a machine is enrolled by its TPM or by its chip", remedy="give --tpm or --chip")
    folder = WalletFolder(wallet, no_passphrase)
    record = _enrol_chip(Interface(chip), folder) if chip else _enrol_tpm(tpm or "", intermediates, folder)
    if as_json:
        click.echo(json.dumps({"platform": record.platform, "isolation": record.isolation.value}))
        return
    click.echo(f"Enrolled {record.platform}\n  isolation class  {record.isolation}")


def _enrol_tpm(tpm: str, intermediates: tuple[Path, ...], folder: WalletFolder) -> PlatformRecord:
    chain = [_certificate(path) for path in intermediates]
    with TpmDevice(tpm_transport(tpm)) as device, connect(folder) as transport:
        api = BrokerApi(transport)
        attester = TpmAttester(device)
        begun = api.enrol(attester.enrolment_request(chain).to_bytes())
        answer = attester.answer(Credential(begun.credential_blob, begun.encrypted_secret))
        return _record(api.finish_enrolment(begun.session, answer), folder)


def _enrol_chip(interface: Interface, folder: WalletFolder) -> PlatformRecord:
    source = chip_source(interface)
    kind = source.kind
    with connect(folder) as transport:
        api = BrokerApi(transport)
        begun = api.enrol_chip(kind)
        binding = EnrolmentBinding(genesis=folder.genesis().digest, session=begun.session, kind=kind, nonce=begun.nonce)
        evidence = source.statement(binding.item().values)
        return _record(api.finish_chip(begun.session, evidence.body), folder)


def _record(envelope: Envelope, folder: WalletFolder) -> PlatformRecord:
    """Read a platform's record, which the keeper of this deployment signed."""
    verify(envelope, PLATFORM_TYPE, [folder.genesis().keeper_key], threshold=1)
    return PlatformRecord.parse(envelope.payload)


@enclave.command("measure")
@image_option
@sealed_option
@as_wallet
@_command
def measure(image: str, sealed: Path, wallet: Path, command: tuple[str, ...]) -> None:
    """Measure an image on this machine and print its entry for the reference values.

    COMMAND is the absolute path of a Python script and its arguments.
    """
    show_measured(wallet, image, lambda name: python_image(name, command, sealed))


@enclave.command("run")
@opening_options
@click.option("--timeout", default=3600.0, show_default=True, help="Seconds that the command may run.")
@as_wallet
@json_option
@_command
def run_command(
    opening: Opening,
    timeout: float,
    wallet: Path,
    command: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Open MODEL in a process enclave and run COMMAND beside it.

    The command sees the opened model at STRONGROOM_MODEL, has no network and writes to memory only. Its output comes
    out here; what Strongroom says goes to standard error. The exit code is the command's own, or Strongroom's when the
    release is refused. The release is a lease: when it stops to hold, or no renewal comes in time, the command is ended
    and the exit code is 3.
    """
    folder = WalletFolder(wallet, no_passphrase)
    launch = opening.launch(folder.genesis(), lambda name, sealed: python_image(name, command, sealed))
    with connect(folder) as transport:
        status = run(
            launch,
            _Broker(BrokerApi(transport)),
            opened=lambda facts: _tell(facts, as_json=as_json),
            out=sys.stdout.buffer,
            err=sys.stderr.buffer,
            seconds=timeout,
        )
    sys.stdout.flush()
    raise SystemExit(status.code if status.code is not None else int(ExitCode.FAILED))


class _Broker:
    """The broker's API as the launcher's port."""

    def __init__(self, api: BrokerApi) -> None:
        self._api = api

    def challenge(self, request: Digest, platform: PlatformId) -> Challenged:
        """Ask for a challenge."""
        told = self._api.challenge(request, platform)
        return Challenged(told.challenge, told.nonce)

    def release(self, request: Digest, platform: PlatformId, challenge: str, evidence: bytes) -> Released:
        """Hand in the evidence."""
        try:
            told = self._api.release(request, challenge=challenge, platform=platform, evidence=evidence)
        except StrongroomError as error:
            if error.reason == "quorum-not-met":
                raise PendingError(error.message, remedy=error.remedy, reason=error.reason) from None
            raise
        return Released(told.delivery, told.result)

    def renew(self, request: Digest, ask: LeaseAsk, proof: LeaseProof | None) -> Envelope:
        """Have the release judged again."""
        return self._api.renew_lease(request, ask, proof)

    def lease_end(self, request: Digest, use: int, *, wait: int) -> str:
        """Wait for the lease's end."""
        return self._api.lease_end(request, use, wait=wait)


def _tell(facts: Opened, *, as_json: bool) -> None:
    if as_json:
        told = {
            "opened": facts.files,
            "bytes": facts.bytes,
            "canaries": facts.canaries,
            "log_index": facts.log_index,
            "use": facts.use,
            "result": facts.result,
        }
        click.echo(json.dumps(told), err=True)
        return
    click.echo(
        f"released: {facts.files} files, {facts.bytes:,} bytes opened in memory; "
        f"log entry {facts.log_index}, use {facts.use}",
        err=True,
    )


def _certificate(path: Path) -> bytes:
    data = path.read_bytes()
    try:
        loaded = x509.load_pem_x509_certificate(data) if b"-----BEGIN" in data else x509.load_der_x509_certificate(data)
    except ValueError:
        raise UsageError(f"`{path}` isn't a certificate") from None
    return loaded.public_bytes(Encoding.DER)


enclave.add_command(revoke_platforms)
enclave.add_command(serving(_Broker))
enclave.add_command(workspace(_Broker, _tell))
enclave.add_command(image_group)
enclave.add_command(gate_group)
image_group.add_command(run_in_machine(_Broker, _tell))
image_group.add_command(serve_in_machine(_Broker))
