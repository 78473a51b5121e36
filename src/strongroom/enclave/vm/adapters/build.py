"""Making an image's files. The same inputs give the same bytes: names sorted, times zero, numbers and salt fixed."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.attestation.measurement import command_digest
from strongroom.core.digest import Digest
from strongroom.core.errors import UnavailableError, UsageError
from strongroom.core.ids import ImageId
from strongroom.enclave.vm import layout
from strongroom.enclave.vm.adapters.stage import libraries_of, stage
from strongroom.enclave.vm.archive import Entry, archive
from strongroom.enclave.vm.definition import COMMAND_LINE, RootDisk, VmImage, pinned
from strongroom.enclave.vm.prediction import IDENTIFIER, Artefacts
from strongroom.enclave.vm.verity import hash_tree

DEFINITION: Final = "image.json"
FIRMWARE: Final = "firmware.fd"
VARIABLES: Final = "variables.fd"
KERNEL: Final = "kernel"
INITRAMFS: Final = "initramfs"
ROOT: Final = "root.disk"
_SALT: Final = hashlib.sha256(b"strongroom/vm-root/v1").digest()
"""One for all images: it keeps a tree from being that of another use, and makes a rebuild comparable."""
_BUSYBOX: Final = ("/usr/bin/busybox", "/bin/busybox")
_VERITYSETUP: Final = ("/usr/sbin/veritysetup", "/sbin/veritysetup")
_SQUASH_SECONDS: Final = 1800


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What an image is built from."""

    image: ImageId
    code: Path | None
    """The folder of the command's script; None where the command is a module of what is in the image anyway."""
    command: tuple[str, ...]
    """The script's path below that folder, or ``python -m MODULE``; then its arguments."""
    environment: tuple[tuple[str, str], ...] = ()
    """Added to the command's. :data:`~strongroom.enclave.metered.OUTPUT` makes the metered channel its only output."""
    packages: tuple[str, ...] = ()
    """Further packages of this Python that the script imports."""
    kernel: Path
    modules: Path
    """The kernel's module folder, e.g. ``/lib/modules/6.12...-cloud-amd64``."""
    firmware: Path
    variables: Path
    memory_mib: int
    cpus: int
    model_bytes: int
    genesis: Digest | None = None
    """The one deployment whose orders the machine takes. Where a chip measures, nothing else binds it to one."""


def build(recipe: Recipe, folder: Path) -> VmImage:
    """Build into the new folder ``folder``, and return the definition, which is written beside the files.

    :raises UsageError: the folder is there already, or an input isn't as needed.
    :raises UnavailableError: a program or library that building takes isn't on this host.
    """
    command = _command(recipe)
    folder.mkdir(mode=0o755)
    profile = layout.guest_profile(model_bytes=recipe.model_bytes, environment=recipe.environment)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        root = Path(work) / "root"
        root.mkdir()
        interpreter = stage(root, code=recipe.code, packages=recipe.packages, command=command, profile=profile)
        measured = Digest.of(interpreter.read_bytes())
        disk = _root_disk(root, folder / ROOT)
    initramfs = gzip.compress(archive(_initial(recipe.modules)), compresslevel=9, mtime=0)
    (folder / INITRAMFS).write_bytes(initramfs)
    for source, name in ((recipe.kernel, KERNEL), (recipe.firmware, FIRMWARE), (recipe.variables, VARIABLES)):
        if not source.is_file():
            raise UsageError(f"there is no file `{source}`")
        shutil.copyfile(source, folder / name)
    image = VmImage(
        image=recipe.image,
        firmware=Digest.of((folder / FIRMWARE).read_bytes()),
        kernel=Digest.of((folder / KERNEL).read_bytes()),
        initramfs=Digest.of(initramfs),
        initramfs_bytes=len(initramfs),
        root=disk,
        command_line_template=COMMAND_LINE if recipe.genesis is None else pinned(COMMAND_LINE, recipe.genesis),
        memory_mib=recipe.memory_mib,
        cpus=recipe.cpus,
        interpreter=measured,
        command=command,
        environment=command_digest(command, dict(profile.environment)),
        sandbox=profile.digest,
    )
    (folder / DEFINITION).write_bytes(image.to_bytes())
    return image


def _command(recipe: Recipe) -> tuple[str, ...]:
    if recipe.code is None:
        if recipe.command[:2] != ("python", "-m") or len(recipe.command) <= len(("python", "-m")):
            raise UsageError("without a code folder the command is `python -m MODULE`")
        return recipe.command
    script = recipe.code / recipe.command[0] if recipe.command else recipe.code
    if not script.is_file() or not script.resolve().is_relative_to(recipe.code.resolve()):
        raise UsageError("the command begins with the path of a script below the code folder")
    return (f"{layout.CODE}/{recipe.command[0]}", *recipe.command[1:])


def read_image(folder: Path) -> VmImage:
    """Read a built image's definition.

    :raises UsageError: there is none. :raises MalformedError: it isn't one.
    """
    path = folder / DEFINITION
    if not path.is_file():
        raise UsageError(f"`{folder}` holds no image", remedy="build one: strongroom enclave image build")
    return VmImage.parse(path.read_bytes())


def read_artefacts(folder: Path) -> Artefacts:
    """Read a built image's files, whole.

    :raises UsageError: one is missing.
    """
    try:
        return Artefacts(
            firmware=(folder / FIRMWARE).read_bytes(),
            kernel=(folder / KERNEL).read_bytes(),
            initramfs=(folder / INITRAMFS).read_bytes(),
            root=(folder / ROOT).read_bytes(),
        )
    except FileNotFoundError as error:
        raise UsageError(f"the image has no file `{Path(str(error.filename)).name}`") from None


def _root_disk(root: Path, path: Path) -> RootDisk:
    words = ["mksquashfs", str(root), str(path), "-noappend", "-quiet", "-no-progress", "-no-xattrs", "-all-root"]
    words += ["-all-time", "0", "-mkfs-time", "0", "-comp", "zstd", "-Xcompression-level", "12", "-processors", "1"]
    environment = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    try:
        done = subprocess.run(  # noqa: S603 - words of our own, no shell
            words, capture_output=True, check=False, timeout=_SQUASH_SECONDS, env=environment
        )
    except FileNotFoundError:
        raise _not_here("mksquashfs", "squashfs-tools") from None
    if done.returncode:
        raise UnavailableError(f"mksquashfs failed: {done.stderr.decode(errors='replace')[-200:]}")
    data = path.read_bytes()
    tree = hash_tree(data, salt=_SALT, identifier=IDENTIFIER)
    with path.open("ab") as disk:
        disk.write(tree.appended)
    return RootDisk(
        data_bytes=tree.data_bytes,
        root_hash=tree.root.hex(),
        salt=_SALT.hex(),
        file=Digest.of(data + tree.appended),
    )


def _initial(modules: Path) -> list[Entry]:
    busybox, veritysetup = _program(_BUSYBOX, "busybox-static"), _program(_VERITYSETUP, "cryptsetup-bin")
    if libraries_of(busybox):
        raise UnavailableError("busybox isn't a static one here", remedy="apt-get install busybox-static")
    files = {"bin/busybox": busybox, "bin/veritysetup": veritysetup}
    for name, path in libraries_of(veritysetup).items():
        folder = "lib64" if name.startswith("ld-linux") else "lib/x86_64-linux-gnu"
        files[f"{folder}/{name}"] = path
    loaded = _in_order(modules, (*layout.MODULES, *layout.CHIP_MODULES))
    # The module's own name; the folder that it lies in, and how it is packed, are the distribution's business.
    names = [path.name.removesuffix(".xz") for path in loaded]
    always = len(_in_order(modules, layout.MODULES))
    entries = [Entry.file(name, path.read_bytes(), mode=0o755) for name, path in files.items()]
    entries += [
        Entry.file(f"modules/{name}", _unpacked(path), mode=0o644) for name, path in zip(names, loaded, strict=True)
    ]
    for listing, part in (("order", names[:always]), ("chips", names[always:])):
        entries.append(Entry.file(f"modules/{listing}", "".join(f"{name}\n" for name in part).encode(), mode=0o644))
    entries.append(Entry.file("init", layout.INIT.encode(), mode=0o755))
    folders = {"dev", "proc", "sys", "newroot", "run"}
    for entry in entries:
        folders |= {str(one) for one in Path(entry.path).parents if str(one) != "."}
    return [*(Entry.folder(name) for name in sorted(folders)), *entries]


def _in_order(modules: Path, wanted: Iterable[str]) -> list[Path]:
    """Return the modules' files, each after those that it depends on. What is built in isn't there, and left out."""
    listing = modules / "modules.dep"
    if not listing.is_file():
        raise UsageError(f"`{modules}` isn't a kernel's module folder", remedy="install the guest's kernel package")
    needs: dict[str, tuple[str, ...]] = {}
    for line in listing.read_text(encoding="utf-8").splitlines():
        path, _, rest = line.partition(":")
        needs[path] = tuple(rest.split())
    order: list[str] = []
    for name in wanted:
        found = [path for path in needs if Path(path).name.split(".")[0].replace("_", "-") == name.replace("_", "-")]
        # modules.dep lists what must be there first from right to left.
        for path in (*(other for one in found for other in reversed(needs[one])), *found):
            if path not in order:
                order.append(path)
    return [modules / path for path in order]


def _unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def _program(places: Iterable[str], package: str) -> Path:
    for place in places:
        if Path(place).is_file():
            return Path(place).resolve()
    raise _not_here(Path(next(iter(places))).name, package)


def _not_here(program: str, package: str) -> UnavailableError:
    return UnavailableError(f"`{program}` isn't on this host", remedy=f"apt-get install {package}")
