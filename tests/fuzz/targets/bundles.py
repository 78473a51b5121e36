"""Targets of what an auditor is sent: a bundle's zip. Whoever sends it chose every byte."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from fuzz.targets.target import Target
from strongroom.client.adapters.bundle_file import pack, unpack

_FILES: Final = {"genesis.json": b"{}", "log/checkpoint": b"a note", "log/tile/0/000": bytes(64)}


def read_bundle(data: bytes) -> None:
    """Lay the files down in a folder of their own; nothing may lie beside it afterwards."""
    with tempfile.TemporaryDirectory() as place:
        file, folder = Path(place) / "bundle.zip", Path(place) / "laid"
        file.write_bytes(data)
        folder.mkdir()
        try:
            unpack(file, folder)
        finally:
            if {path.name for path in Path(place).iterdir()} != {"bundle.zip", "laid"} or any(
                path.is_symlink() for path in folder.rglob("*")
            ):
                raise AssertionError


def _packed() -> bytes:
    with tempfile.TemporaryDirectory() as place:
        gathered = Path(place) / "gathered"
        for name, text in _FILES.items():
            (gathered / name).parent.mkdir(parents=True, exist_ok=True)
            (gathered / name).write_bytes(text)
        pack(gathered, {"assessment.json": b"{}"}, Path(place) / "bundle.zip")
        return (Path(place) / "bundle.zip").read_bytes()


def _climbing() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as bundle:
        for name in ("genesis.json", "log/../../genesis.json", "/genesis.json", "log/checkpoint/x", "log/checkpoint"):
            bundle.writestr(name, b"{}")
    return made.getvalue()


BUNDLES: Final[Mapping[str, Target]] = MappingProxyType(
    {"audit-bundle": Target(read=read_bundle, seeds=lambda: (_packed(), _climbing()))}
)
