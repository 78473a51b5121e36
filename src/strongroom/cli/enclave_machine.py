"""``strongroom enclave image run`` and ``serve``: a model in a measured machine, beside a command or behind the API."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from strongroom.cli.enclave_order import machine_order
from strongroom.cli.gateway import GatewayOptions, gateway_options, serve_from
from strongroom.cli.session import as_wallet, json_option, no_passphrase
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.api import BrokerApi
from strongroom.client.wiring import connect
from strongroom.core.errors import ExitCode
from strongroom.enclave.gateway.adapters.engines import VmHost
from strongroom.enclave.launch.relay import ReleasePort
from strongroom.enclave.vm.machine import Accelerator
from strongroom.enclave.vm.wiring import VmLaunch, read_image, run

_FOLDER: Final = click.Path(path_type=Path, exists=True, file_okay=False)
_NOBODY: Final = 65534
_folder = click.argument("folder", type=_FOLDER)
_model = click.argument("model")
_sealed = click.option("--sealed", type=_FOLDER, required=True, help="Sealed directory.")
_request = click.option("--request", "request_text", required=True, help="Digest of the approved request (sha256:...).")
_tpm = click.option(
    "--tpm",
    type=click.Path(path_type=Path, exists=True),
    help="Control socket of a fresh swtpm, but for a chip's host.",
)
_platform = click.option("--platform", help="What the host's chip was enrolled as, where one speaks for the machine.")
_firmware = click.option(
    "--firmware", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Firmware for a chip's host."
)
_accelerator = click.option(
    "--accelerator",
    type=click.Choice([one.value for one in Accelerator]),
    default=Accelerator.KVM.value,
    show_default=True,
    help="What runs the machine's instructions; tcg works everywhere, slowly. sev-snp and tdx were never run.",
)
_uid = click.option(
    "--uid", type=click.IntRange(1), default=_NOBODY, show_default=True, help="QEMU's user, under root."
)


def _machine_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (_uid, _accelerator, _firmware, _platform, _tpm, _request, _sealed, _model, _folder):
        command = option(command)
    return command


def run_in_machine(port: Callable[[BrokerApi], ReleasePort], tell: Callable[..., None]) -> click.Command:
    """Return the command.

    :param port: makes the launcher's port out of the broker's API. :param tell: says what was opened.
    """

    @click.command("run")
    @_machine_options
    @click.option("--timeout", default=3600.0, show_default=True, help="Seconds that the command may run.")
    @as_wallet
    @json_option
    def run_command(
        *,
        folder: Path,
        model: str,
        sealed: Path,
        request_text: str,
        tpm: Path | None,
        platform: str | None,
        firmware: Path | None,
        accelerator: str,
        uid: int,
        timeout: float,
        wallet: Path,
        as_json: bool,
    ) -> None:
        """Start the image in FOLDER, open MODEL in it, and run the image's own command beside the weights.

        The command's output comes out here; what Strongroom says goes to standard error. The exit code is the command's
        own, or Strongroom's when the release is refused or the lease ends.
        """
        own = WalletFolder(wallet, no_passphrase)
        launch = _launch(folder, sealed, tpm, firmware, accelerator, uid)
        order = machine_order(own.genesis(), launch.image, model, sealed, request_text, platform=platform)
        with connect(own) as transport:
            status = run(
                launch,
                order,
                port(BrokerApi(transport)),
                opened=lambda facts: tell(facts, as_json=as_json),
                out=sys.stdout.buffer,
                err=sys.stderr.buffer,
                seconds=timeout,
            )
        sys.stdout.flush()
        raise SystemExit(status.code if status.code is not None else int(ExitCode.FAILED))

    return run_command


def serve_in_machine(port: Callable[[BrokerApi], ReleasePort]) -> click.Command:
    """Return the command. ``port`` makes the launcher's port out of the broker's API."""

    @click.command("serve")
    @_machine_options
    @gateway_options
    @as_wallet
    def serve_command(
        *,
        folder: Path,
        model: str,
        sealed: Path,
        request_text: str,
        tpm: Path | None,
        platform: str | None,
        firmware: Path | None,
        accelerator: str,
        uid: int,
        gateway: GatewayOptions,
        wallet: Path,
    ) -> None:
        """Start the image in FOLDER, open MODEL in it, and answer the OpenAI API in front of it.

        The image's output must be metered (`enclave image build --engine`). As `enclave serve run`; and a meter inside
        the machine, which was measured, lets nothing out that the deployment's log doesn't vouch for.
        """
        own = WalletFolder(wallet, no_passphrase)
        launch = _launch(folder, sealed, tpm, firmware, accelerator, uid)
        order = machine_order(own.genesis(), launch.image, model, sealed, request_text, platform=platform)
        serve_from(VmHost(launch, order), gateway, own, port)

    return serve_command


def _launch(
    folder: Path, sealed: Path, tpm: Path | None, firmware: Path | None, accelerator: str, uid: int
) -> VmLaunch:
    return VmLaunch(
        image=read_image(folder),
        folder=folder.resolve(),
        sealed=sealed,
        tpm=tpm.resolve() if tpm else None,
        firmware=firmware.resolve() if firmware else None,
        accelerator=Accelerator(accelerator),
        uid=uid,
    )
