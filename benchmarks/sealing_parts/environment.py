"""What the peers need, installed in sight: Python packages into an environment of their own, Debian's with apt-get."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

_TORCH: Final = "torch==2.13.0"
_PACKAGES: Final = (
    "cryptotensors==0.2.3",
    "numpy==2.4.6",
    "packaging==26.4",
    "safetensors==0.8.0",
    "tensorizer==2.12.1",
)
_DEBIAN: Final = {"age": "age", "gocryptfs": "gocryptfs", "fusermount": "fuse3", "openssl": "openssl"}
"""Which package brings which program."""


def peers_python(folder: Path) -> Path:
    """Return the interpreter of the peers' environment, which is made if it isn't there yet."""
    place = folder / "peers"
    python, stamp = place / "bin" / "python", place / "installed"
    wanted = "\n".join((_TORCH, *_PACKAGES))
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        print(f"peers: making {place} with {', '.join((_TORCH, *_PACKAGES))}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        install = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        # As in the Makefile: plain torch brings several gigabytes for CUDA, an index with CPU builds avoids them.
        index = ["-i", os.environ["TORCH_INDEX"]] if os.environ.get("TORCH_INDEX") else []
        subprocess.run([*install, *index, _TORCH], check=True)
        subprocess.run([*install, *_PACKAGES], check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return python


def missing_programs() -> dict[str, str]:
    """Install what is missing; returns the variants that can't run here, each with the reason."""
    packages = sorted({package for program, package in _DEBIAN.items() if not shutil.which(program)})
    if not _has_sodium():
        packages.append("libsodium23")
    if packages:
        _install(packages)
    reasons = {program: "not installed" for program in ("age", "gocryptfs", "openssl") if not shutil.which(program)}
    if not _has_sodium():
        reasons["tensorizer"] = "libsodium is not installed"
    if "gocryptfs" not in reasons and not (shutil.which("fusermount") and os.access("/dev/fuse", os.R_OK | os.W_OK)):
        reasons["gocryptfs"] = "no mounts here: /dev/fuse can't be opened, or there is no fusermount"
    return reasons


def _has_sodium() -> bool:
    # By the name that Debian gives it: looking it up otherwise needs a compiler.
    try:
        ctypes.CDLL("libsodium.so.23")
    except OSError:
        return False
    return True


def _install(packages: list[str]) -> None:
    as_root = [] if os.getuid() == 0 else ["sudo", "-n"]
    if not shutil.which("apt-get") or (as_root and not shutil.which("sudo")):
        print(f"peers: going on without {', '.join(packages)}: install them your distribution's way", flush=True)
        return
    print(f"peers: installing {', '.join(packages)} with apt-get", flush=True)
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    for command in (["apt-get", "update", "-qq"], ["env", "DEBIAN_FRONTEND=noninteractive", *install]):
        if subprocess.run([*as_root, *command], stdout=subprocess.DEVNULL, check=False).returncode:
            print(f"peers: apt-get failed; going on without what is missing of {', '.join(packages)}", flush=True)
            return
