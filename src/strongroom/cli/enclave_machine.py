"""``strongroom enclave image run`` and ``serve``: a model in a measured machine, beside a command or behind the API."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from strongroom.cli.enclave_options import sealed_option
from strongroom.cli.enclave_order import machine_order
from strongroom.cli.gateway import GatewayOptions, gateway_options, serve_from
from strongroom.cli.grouped import grouped
from strongroom.cli.session import as_wallet, json_option, no_passphrase
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.api import BrokerApi
from strongroom.client.wiring import connect
from strongroom.core.errors import ExitCode
from strongroom.core.genesis import Genesis
from strongroom.enclave.agent.messages import Order
from strongroom.enclave.gateway.adapters.engines import VmHost
from strongroom.enclave.launch.relay import ReleasePort
from strongroom.enclave.vm.definition import VmImage
from strongroom.enclave.vm.machine import Accelerator
from strongroom.enclave.vm.wiring import VmLaunch, read_image, run

_FOLDER: Final = click.Path(path_type=Path, exists=True, file_okay=False)
_NOBODY: Final = 65534


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    """What is opened under which approved request, in the machine of which image, on which host."""

    folder: Path
    model: str
    sealed: Path
    request: str
    tpm: Path | None
    platform: str | None
    firmware: Path | None
    accelerator: str
    uid: int

    def launch(self) -> VmLaunch:
        """Return the launch of the machine."""
        return VmLaunch(
            image=read_image(self.folder),
            folder=self.folder.resolve(),
            sealed=self.sealed,
            tpm=self.tpm.resolve() if self.tpm else None,
            firmware=self.firmware.resolve() if self.firmware else None,
            accelerator=Accelerator(self.accelerator),
            uid=self.uid,
        )

    def order(self, genesis: Genesis, image: VmImage) -> Order:
        """Return what the machine is ordered to open."""
        return machine_order(genesis, image, self.model, self.sealed, self.request, platform=self.platform)


_machine_options: Final = grouped(
    _Machine,
    "machine",
    click.argument("folder", type=_FOLDER),
    click.argument("model"),
    sealed_option,
    click.option("--request", required=True, help="Digest of the approved request (sha256:...)."),
    click.option(
        "--tpm",
        type=click.Path(path_type=Path, exists=True),
        help="Control socket of a fresh swtpm, but for a chip's host.",
    ),
    click.option("--platform", help="What the host's chip was enrolled as, where one speaks for the machine."),
    click.option(
        "--firmware", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Firmware for a chip's host."
    ),
    click.option(
        "--accelerator",
        type=click.Choice([one.value for one in Accelerator]),
        default=Accelerator.KVM.value,
        show_default=True,
        help="What runs the machine's instructions; tcg works everywhere, slowly. sev-snp and tdx were never run.",
    ),
    click.option("--uid", type=click.IntRange(1), default=_NOBODY, show_default=True, help="QEMU's user, under root."),
)


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
        machine: _Machine,
        timeout: float,
        wallet: Path,
        as_json: bool,
    ) -> None:
        """Start the image in FOLDER, open MODEL in it, and run the image's own command beside the weights.

        The command's output comes out here; what Strongroom says goes to standard error. The exit code is the command's
        own, or Strongroom's when the release is refused or the lease ends.
        """
        own = WalletFolder(wallet, no_passphrase)
        launch = machine.launch()
        order = machine.order(own.genesis(), launch.image)
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
        machine: _Machine,
        gateway: GatewayOptions,
        wallet: Path,
    ) -> None:
        """Start the image in FOLDER, open MODEL in it, and answer the OpenAI API in front of it.

        The image's output must be metered (`enclave image build --engine`). As `enclave serve run`; and a meter inside
        the machine, which was measured, lets nothing out that the deployment's log doesn't vouch for.
        """
        own = WalletFolder(wallet, no_passphrase)
        launch = machine.launch()
        order = machine.order(own.genesis(), launch.image)
        serve_from(VmHost(launch, order), gateway, own, port)

    return serve_command
