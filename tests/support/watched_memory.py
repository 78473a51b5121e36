"""What root reads of a process enclave from outside, step by step; the search itself is ``memory_reader.py``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from strongroom.core.canonical import Json
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.enclave.adapters.process_runner import ProcessRunner
from strongroom.enclave.metered import tokens_to_bytes
from strongroom.keys.recipient import encrypt_to
from strongroom.sealing import floe
from strongroom.sealing.adapters.directory import open_directory, seal_directory
from strongroom.sealing.write import SealedDirectory
from strongroom.walls.adapters.secret_memory import SecretMemoryKind
from support import attested
from support.enclave_lab import SUPPORT, lab_profile
from support.memory_reader import below
from support.sealed import content, seal_model, verified, write_model

AGENT = str(SUPPORT / "holding_agent.py")
READER = str(SUPPORT / "memory_reader.py")
WEIGHTS = 1 << 20
MASK = 0xAA  # as in the agent
SAMPLE = 48
"""Bytes of the weights that are looked for."""
HOLDS = """
import os, time
weights = open(os.environ["STRONGROOM_MODEL"] + "/model.bin", "rb").read()
open("/scratch/ready", "w").close()
time.sleep(300)
"""

Report = dict[str, dict[str, dict[str, list[str]] | str]]
"""Process -> way -> what was found, and where; or the errno."""


def look(pids: Sequence[int], needles: dict[str, bytes], *ways: str, swap: Path | None = None) -> Report:
    """Have another process search; without ``ways``, in all of them."""
    order = {
        "pids": [*pids],
        "needles": {name: needle.hex() for name, needle in needles.items()},
        "ways": [*ways],
        "swap": str(swap or ""),
    }
    ran = subprocess.run(
        [sys.executable, READER], input=json.dumps(order), capture_output=True, text=True, check=True, timeout=310
    )
    report: Report = json.loads(ran.stdout)
    return report


def found(report: Report, needle: str, *ways: str) -> dict[str, int]:
    """Return in how many places each way found ``needle``, over all processes; ways that found nothing are left out."""
    counts: dict[str, int] = {}
    for process in report.values():
        for name, said in process.items():
            if isinstance(said, dict) and (not ways or name in ways) and said.get(needle):
                counts[name] = counts.get(name, 0) + len(said[needle])
    return counts


def remember_data_keys(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return a list that gets the data key of whatever a test seals from here on."""
    keys: list[bytes] = []
    seal = seal_directory

    def sealed(*arguments: Any, data_key: SecretBytes, **members: Any) -> SealedDirectory:
        keys.append(bytes(data_key.reveal(TOKEN)))
        return seal(*arguments, data_key=data_key, **members)

    monkeypatch.setattr(attested, "seal_directory", sealed)
    return keys


def model_needles(plain: Path, key: bytes, prompt: Sequence[int]) -> dict[str, bytes]:
    """Return what to look for around a served model: its key, its weights, and a prompt in the forms that it has."""
    weights = (plain / "model.safetensors").read_bytes()
    middle = len(weights) // 2
    return {
        "data key": key,
        "weights": weights[middle : middle + SAMPLE],
        "prompt as it crosses": tokens_to_bytes(tuple(prompt)),
        "prompt as numbers": array("q", prompt).tobytes(),
    }


@dataclass
class Watched:
    """One run: what was found at each step, and of which processes."""

    kind: SecretMemoryKind
    needles: dict[str, bytes]
    steps: dict[str, Report] = field(default_factory=dict)
    pids: dict[str, list[int]] = field(default_factory=dict)


def derived_keys(folder: Path, key: bytes, sealed: SealedDirectory) -> dict[str, bytes]:
    """Return the keys that opening derives from the data key: with them its files open without it."""
    made: list[bytes] = []
    derive = floe._expand

    def recorded(key: memoryview, info: bytes, length: int) -> bytearray:
        out = derive(key, info, length)
        made.append(bytes(out))
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(floe, "_expand", recorded)
        with open_directory(folder, data_key=SecretBytes(bytearray(key)), manifest=verified(sealed)) as model:
            for file in model.files():
                for _ in model.chunks(file.name):
                    pass
    # A header's tag is derived as well, and stands in the file for everybody.
    public = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return {f"file key {number}": one for number, one in enumerate(dict.fromkeys(made)) if one not in public}


def watched_run(folder: Path, kind: SecretMemoryKind, *ways: str, swap: Path | None = None) -> Watched:
    """Open weights in an enclave and look into its processes at each step; with ``swap`` there too."""
    profile = lab_profile(folder)
    (folder / "code" / "holds.py").write_text(HOLDS)
    plain = content(WEIGHTS)
    key = os.urandom(32)
    source = write_model(folder / "plain", {"model.bin": (0o644, plain)})
    (folder / "sealed").rmdir()
    sealed = seal_model(source, folder / "sealed", data_key=SecretBytes(bytearray(key)))
    for path in (folder / "sealed", *(folder / "sealed").rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    middle = len(plain) // 2
    needles = {"data key": key, "weights": plain[middle : middle + SAMPLE]}
    needles |= derived_keys(folder / "sealed", key, sealed)
    made = Watched(kind, needles)
    with ProcessRunner().launch(profile, module=AGENT, inherited={}) as running:

        def step(name: str, answer: Json) -> dict[str, Json]:
            told = running.receive(timeout=60)
            assert isinstance(told, dict)
            assert told["step"] == name, told
            if name == "asking":
                seed = bytes(byte ^ MASK for byte in bytes.fromhex(str(told["masked"])))
                needles.update({"mlkem d": seed[:32], "mlkem z": seed[32:64], "x25519": seed[64:]})
            if name != "ended":
                made.pids[name] = below(running.pid)
                made.steps[name] = look(made.pids[name], needles, *ways, swap=swap)
                if name == "asking":
                    secret = SecretBytes(bytearray(key))
                    ciphertext = encrypt_to(from_base64(str(told["public"])), secret, b"context")
                    answer = {**answer, "ciphertext": to_base64(ciphertext)}  # type: ignore[dict-item]
                running.send(answer, timeout=60)
            return told

        order: Json = {
            "kind": kind,
            "manifest": sealed.envelope.to_json(),
            "sealed": str(folder / "sealed"),
            "command": [str(folder / "code" / "holds.py")],
        }
        step("asking", order)
        for name in ("holding", "opening", "running", "ended"):
            step(name, {})
        running.wait(timeout=60)
    return made
