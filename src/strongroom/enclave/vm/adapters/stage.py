"""Laying out the root file system in a folder: one Python, the packages that are named, Strongroom, and the command."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import Final

from strongroom.core import canonical
from strongroom.core.errors import UnavailableError, UsageError
from strongroom.enclave.sandbox import SandboxProfile
from strongroom.enclave.vm import layout

PACKAGES: Final = ("cryptography", "_cffi_backend", "cffi", "rfc8785")
"""What Strongroom's own code inside imports."""
_NATIVE: Final = Path("usr/lib/x86_64-linux-gnu")
_LOADER: Final = re.compile(r"ld-linux-[a-z0-9-]+\.so\.\d+")
_UNUSED: Final = frozenset(
    {
        "__pycache__",
        "site-packages",
        "test",
        "tests",
        "idlelib",
        "tkinter",
        "turtledemo",
        "ensurepip",
        "lib2to3",
        "pydoc_data",
    }
)
_OUTSIDE_ONLY: Final = frozenset({"cli", "broker", "client", "loaders", "torch", "personnel"})
"""Parts of Strongroom that never run inside."""


def stage(
    root: Path, *, code: Path | None, packages: Iterable[str], command: tuple[str, ...], profile: SandboxProfile
) -> Path:
    """Fill the empty folder ``root``; returns where its interpreter lies on this host.

    :raises UsageError: a package isn't installed here, or the code folder isn't one.
    :raises UnavailableError: a library that something is linked with isn't here.
    """
    if code is not None and not code.is_dir():
        raise UsageError(f"`{code}` isn't a folder")
    for name in layout.EMPTY_FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    paths = sysconfig.get_paths()
    _copy_tree(Path(paths["stdlib"]), root / _stdlib(), leaving_out=_UNUSED)
    site = root / _stdlib() / "site-packages"
    site.mkdir()
    wanted = sorted({*PACKAGES, *packages})
    for name in wanted:
        _copy_package(Path(paths["platlib"]), site, name)
    _copy_metadata(site, wanted)
    # Where this code itself lies: an editable installation has no copy among the packages.
    own = Path(__file__).resolve().parents[3]
    (site / own.name).mkdir()
    for path in sorted(own.iterdir()):
        if path.is_dir() and path.name not in _OUTSIDE_ONLY | _UNUSED:
            _copy_tree(path, site / own.name / path.name, leaving_out=_UNUSED)
        elif path.is_file():
            shutil.copyfile(path, site / own.name / path.name)
    if code is not None:
        _copy_tree(code, root / layout.CODE[1:], leaving_out=frozenset({"__pycache__"}))
    interpreter = root / layout.PYTHON[1:]
    interpreter.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(sys.executable).resolve(), interpreter)
    interpreter.chmod(0o755)
    for name, target in layout.LINKS:
        (root / name).symlink_to(target)
    (root / layout.PROFILE[1:]).write_bytes(profile.to_bytes())
    (root / layout.COMMAND[1:]).write_bytes(canonical.encode([*command]))
    _copy_libraries(root, [interpreter, *root.rglob("*.so")])
    _settle(root)
    return interpreter


def libraries_of(program: Path) -> dict[str, Path]:
    """Return the shared libraries that a program or library is linked with, all the way down: name to file.

    :raises UnavailableError: one isn't on this host.
    """
    told = subprocess.run(  # noqa: S603 - it starts the loader alone, over files of this host's own installation
        ["/usr/bin/ldd", str(program)], capture_output=True, text=True, check=False
    ).stdout
    found: dict[str, Path] = {}
    for line in told.splitlines():
        words = line.split()
        if "not found" in line:
            raise UnavailableError(f"`{program.name}` is linked with `{words[0]}`, which isn't on this host")
        if "=>" in words and len(words) > 2:
            found[words[0]] = Path(words[2]).resolve()
        elif words and words[0].startswith("/"):
            found[Path(words[0]).name] = Path(words[0]).resolve()
    return found


def _stdlib() -> Path:
    return Path("usr/lib") / f"python{sys.version_info.major}.{sys.version_info.minor}"


def _copy_tree(source: Path, target: Path, *, leaving_out: frozenset[str]) -> None:
    shutil.copytree(
        source,
        target,
        symlinks=False,
        dirs_exist_ok=True,
        ignore=lambda _folder, names: [name for name in names if name in leaving_out or name.startswith("config-")],
    )


def _copy_package(installed: Path, site: Path, name: str) -> None:
    found = [
        path
        for path in sorted(installed.iterdir())
        if path.name in {name, f"{name}.py", f"{name}.libs"} or path.name.startswith(f"{name}.cpython-")
    ]
    if not found:
        raise UsageError(f"the package `{name[:80]}` isn't installed here")
    for path in found:
        if path.is_dir():
            _copy_tree(path, site / path.name, leaving_out=_UNUSED)
        else:
            shutil.copyfile(path, site / path.name)


def _copy_metadata(site: Path, packages: Iterable[str]) -> None:
    """Copy what packages say of their version: some ask for it as they are imported. What pip noted beside it isn't."""
    of_package = packages_distributions()
    for name in sorted({one for package in packages for one in of_package.get(package, ())}):
        told = distribution(name)
        folder = site / f"{name.lower().replace('-', '_')}-{told.version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(told.read_text("METADATA") or "", encoding="utf-8")


def _copy_libraries(root: Path, programs: Iterable[Path]) -> None:
    for program in programs:
        for name, path in libraries_of(program).items():
            if path.is_relative_to(root):
                continue
            folder = Path("usr/lib64") if _LOADER.fullmatch(name) else _NATIVE
            target = root / folder / name
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
                target.chmod(0o755)


def _settle(root: Path) -> None:
    """Give every file one of two modes: what this host's umask, or an installer's, left is no part of the image."""
    for path in root.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    root.chmod(0o755)
