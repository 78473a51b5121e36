"""Twenty-one pickles of the kinds that scanners are measured by. Written opcode by opcode, and never loaded by anybody.

What they would call is harmless (`true`, an empty text, a name that doesn't exist); what matters is that loading one
would call it. The same bytes are shown to other scanners by ``benchmarks/intake.py``.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """A file, and whether it is to be let in."""

    name: str
    data: bytes
    benign: bool = False


def calling(module: str, name: str, *arguments: str) -> bytes:
    """Return a pickle (protocol 2) that would call a global with texts."""
    texts = b"".join(b"X" + struct.pack("<I", len(text)) + text.encode() for text in arguments)
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + texts + b"tR."


def checkpoint(data: bytes) -> bytes:
    """Return a zip laid out as a checkpoint, around a pickle."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in (("data.pkl", data), ("version", b"3\n"), ("byteorder", b"little")):
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)
    return made.getvalue()


_CALLS = {
    "os-system": ("os", "system", "true"),
    "posix-system": ("posix", "system", "true"),
    "builtins-eval": ("builtins", "eval", "0"),
    "subprocess-popen": ("subprocess", "Popen", "true"),
    "runpy-run-path": ("runpy", "run_path", "/nonexistent"),
    "importlib-import-module": ("importlib", "import_module", "nonexistent"),
    "pkgutil-resolve-name": ("pkgutil", "resolve_name", "nonexistent:nothing"),
    "pip-main": ("pip", "main", "--version"),
    "ctypes-cdll": ("ctypes", "CDLL", "/nonexistent"),
    "cprofile-run": ("cProfile", "run", "0"),
    "marshal-loads": ("marshal", "loads", ""),
    "torch-load": ("torch", "load", "/nonexistent"),
    "logging-config": ("logging.config", "fileConfig", "/nonexistent"),
    "vendor-function": ("acme_models.registry", "restore", "atlas"),
}


def corpus() -> tuple[Sample, ...]:
    """Return the samples, always the same."""
    os_system = calling(*_CALLS["os-system"])
    return (
        *(Sample(f"{name}.pkl", calling(*call)) for name, call in _CALLS.items()),
        Sample("checkpoint.pt", checkpoint(os_system)),
        Sample("checkpoint-renamed.bin", checkpoint(os_system)),
        Sample("pickle-named.txt", os_system),
        Sample("trailing-garbage.pkl", os_system + b"garbage"),
        Sample("missing-stop.pkl", os_system[:-1]),
        Sample("benign-dict.pkl", pickle.dumps({"step": 3, "loss": 0.5, "name": "atlas"}, 2), benign=True),
        Sample("benign-ordered-dict.pkl", pickle.dumps(OrderedDict(a=1, b=[2, 3]), 2), benign=True),
    )
