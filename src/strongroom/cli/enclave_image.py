"""``strongroom enclave image``: build a virtual machine's image, predict what it measures, show how it is started."""

from __future__ import annotations

import json
import shlex
from pathlib import Path, PurePath
from typing import Final

import click

from strongroom.cli.files import read_file
from strongroom.cli.output import show
from strongroom.cli.session import as_wallet, json_option, no_passphrase
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.core.canonical import Json, decode
from strongroom.core.errors import UsageError
from strongroom.core.ids import image_id
from strongroom.enclave.engine.builtin import BuiltIn
from strongroom.enclave.metered import OUTPUT
from strongroom.enclave.vm.definition import LEAST_MEMORY, MAX_CPUS, MAX_MEMORY, VmImage
from strongroom.enclave.vm.firmware_table import MAX_FIRMWARE
from strongroom.enclave.vm.machine import Accelerator, Places, arguments
from strongroom.enclave.vm.prediction import reference_image
from strongroom.enclave.vm.tdx_digest import mrtd
from strongroom.enclave.vm.wiring import Recipe, build, predict_image, predict_snp_image, read_image

_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_FOLDER: Final = click.Path(path_type=Path, exists=True, file_okay=False)
_folder: Final = click.argument("folder", type=_FOLDER)
_KERNEL_PREFIX: Final = "vmlinuz-"
_FIRMWARE: Final = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
_VARIABLES: Final = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")


@click.group("image")
def image() -> None:
    """Images of virtual machines: built from files, predicted from files."""


@image.command("build")
@click.option("--image", "name", required=True, help="The image's name in the reference values.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New folder for the image's files.")
@click.option("--code", type=_FOLDER, help="Folder with the command's script, and what it imports.")
@click.option(
    "--engine",
    type=click.Choice([one.value for one in BuiltIn]),
    help="Run an engine of Strongroom's instead of a command; it serves with `enclave image serve`.",
)
@click.option("--metered", is_flag=True, help="The command speaks the metered channel, and can say nothing else.")
@click.option("--package", "packages", multiple=True, help="A further package of this Python that the script imports.")
@click.option("--kernel", type=_FILE, required=True, help="The guest's kernel, e.g. /boot/vmlinuz-...-cloud-amd64.")
@click.option("--modules", type=_FOLDER, help="Its modules; by default /lib/modules/ and the kernel's version.")
@click.option("--firmware", type=_FILE, default=_FIRMWARE, show_default=True, help="UEFI firmware (OVMF) code.")
@click.option("--variables", type=_FILE, default=_VARIABLES, show_default=True, help="Its variables.")
@click.option("--memory", type=click.IntRange(LEAST_MEMORY, MAX_MEMORY), required=True, help="Memory, MiB.")
@click.option("--cpus", type=click.IntRange(1, MAX_CPUS), default=1, show_default=True, help="Processors.")
@click.option(
    "--deployment",
    type=_FOLDER,
    help="A wallet: the machine takes orders of its deployment only. Confidential hosts need an image so built.",
)
@click.option("--room", type=click.IntRange(1), required=True, help="Memory for the opened weights, MiB.")
@json_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def build_command(
    *,
    name: str,
    out: Path,
    code: Path | None,
    engine: str | None,
    metered: bool,
    packages: tuple[str, ...],
    kernel: Path,
    modules: Path | None,
    firmware: Path,
    variables: Path,
    memory: int,
    cpus: int,
    deployment: Path | None,
    room: int,
    command: tuple[str, ...],
    as_json: bool,
) -> None:
    """Build an image into a new folder. Two builds from the same files give the same bytes.

    COMMAND is the path of a Python script below the code folder, and its arguments; with --engine there is none.
    """
    if (engine is None) == (code is None) or bool(command) == (engine is not None):
        raise UsageError("an image runs a command from a code folder, or an engine", remedy="give --code, or --engine")
    chosen = BuiltIn(engine) if engine else None
    recipe = Recipe(
        image=image_id(name),
        code=code,
        command=chosen.command if chosen else command,
        environment=(OUTPUT,) if chosen or metered else (),
        packages=(*packages, *(chosen.packages if chosen else ())),
        kernel=kernel,
        modules=modules or _modules(kernel),
        firmware=firmware,
        variables=variables,
        memory_mib=memory,
        cpus=cpus,
        model_bytes=room << 20,
        genesis=WalletFolder(deployment, no_passphrase).genesis().digest if deployment else None,
    )
    made = build(recipe, out)
    told: Json = {"image": made.image, "digest": str(made.digest), "folder": str(out)}
    text = f"{out}: {made.digest}; next: strongroom enclave image predict {shlex.quote(str(out))}"
    show(told, text, as_json=as_json)


@image.command("predict")
@_folder
@click.option(
    "--sev-snp-firmware",
    "firmware",
    multiple=True,
    type=_FILE,
    help="Predict for SEV-SNP too, with this firmware (edk2, AmdSev). Such a machine was never started.",
)
@as_wallet
def predict_command(folder: Path, firmware: tuple[Path, ...], wallet: Path) -> None:
    """Check an image's files, and print its entry for the reference values, for `strongroom measurements propose`.

    Nothing is started: what a TPM will hold is computed from the files, and from the wallet's genesis.
    """
    genesis = WalletFolder(wallet, no_passphrase).genesis()
    made, prediction = predict_image(folder, genesis.digest)
    snp = [predict_snp_image(folder, path.read_bytes()) for path in firmware]
    click.echo(json.dumps(reference_image(made, prediction, snp=snp).to_json(), indent=2))


@image.command("mrtd")
@click.argument("firmware", type=_FILE)
@json_option
def mrtd_command(firmware: Path, *, as_json: bool) -> None:
    """Compute what a TDX machine is measured as that starts with FIRMWARE, before its first instruction.

    That is the firmware alone. Kernel, command line and root are in registers that aren't predicted, so nothing that
    could be listed is printed. Such a machine was never started.
    """
    value = mrtd(read_file(firmware, most=MAX_FIRMWARE)).hex()
    show({"mrtd": value}, value, as_json=as_json)


@image.command("show")
@_folder
@click.option(
    "--on", "host", type=click.Choice([one.value for one in Accelerator]), help="Print how it is started there."
)
@json_option
def show_command(folder: Path, host: str | None, *, as_json: bool) -> None:
    """Show an image's definition, or the words that start it. For `sev-snp` and `tdx` they were never run."""
    made = read_image(folder)
    if host is not None:
        words = _words(made, folder, Accelerator(host))
        show([*words], shlex.join(words), as_json=as_json)
        return
    rows = [
        f"{made.image}  {made.digest}",
        f"  memory        {made.memory_mib} MiB, {made.cpus} processors",
        f"  command       {shlex.join(made.command)}",
        f"  command line  {made.command_line}",
        f"  kernel        {made.kernel}",
        f"  initramfs     {made.initramfs}",
        f"  firmware      {made.firmware}",
        f"  root hash     {made.root.root_hash}",
        f"  sandbox       {made.sandbox}",
    ]
    show(decode(made.to_bytes()), rows, as_json=as_json)


def _modules(kernel: Path) -> Path:
    name = kernel.resolve().name
    found = Path("/lib/modules") / name.removeprefix(_KERNEL_PREFIX)
    if not name.startswith(_KERNEL_PREFIX) or not found.is_dir():
        raise UsageError(f"there is no module folder for `{name}`", remedy="name it with --modules")
    return found


def _words(made: VmImage, folder: Path, host: Accelerator) -> tuple[str, ...]:
    # What differs from start to start is named as it would lie beside the image.
    places = Places(
        firmware=folder / "firmware.fd",
        variables=PurePath("variables.fd"),
        kernel=folder / "kernel",
        initramfs=folder / "initramfs",
        root=folder / "root.disk",
        sealed=PurePath("sealed.disk"),
        tpm=PurePath("tpm.sock"),
        port=3,
    )
    return arguments(made, places, host)
