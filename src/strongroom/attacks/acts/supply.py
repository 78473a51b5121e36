"""What a supplier delivers: files that run something when they are loaded, lie about themselves, or hide."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from strongroom.attacks.attack import attack
from strongroom.attacks.layers import Layer
from strongroom.attacks.trial import Trial
from strongroom.intake.adapters.delivered_folder import open_delivery
from strongroom.intake.formats.identify import check_delivery

HARMLESS: Final = pickle.dumps({"step": 3, "loss": 0.5}, 2)


def _calls(module: str, name: str, argument: str) -> bytes:
    """Return a pickle that calls a function when it is loaded. Written opcode by opcode, and loaded by nobody."""
    text = argument.encode()
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(X" + struct.pack("<I", len(text)) + text + b"tR."


def _checkpoint(data: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in (("data.pkl", data), ("version", b"3\n"), ("byteorder", b"little")):
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)
    return made.getvalue()


def _safetensors(header: object, data: bytes = bytes(16)) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _tensor(begin: int, end: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": [4], "data_offsets": [begin, end]}


def _judged(folder: Path) -> int:
    """Judge a delivery as `strongroom intake check` does; returns how many files were let in."""
    with open_delivery(folder) as delivered:
        found = check_delivery(delivered.sources)
        for one in delivered.files:
            one.check_unchanged()
    return len(found)


def _delivered(trial: Trial, *deliveries: tuple[str, Callable[[Path], object]]) -> None:
    def lay(change: Callable[[Path], object]) -> Path:
        folder = trial.lab.folder("delivery")
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(_safetensors({"w": _tensor(0, 16)}))
        (folder / "state.pkl").write_bytes(HARMLESS)
        change(folder)
        return folder

    with trial.honest("a harmless delivery is let in"):
        _judged(lay(lambda _folder: None))
    for what, change in deliveries:
        folder = lay(change)
        trial.attempt(what, lambda f=folder: _judged(f))  # type: ignore[misc]
    trial.finding("whoever takes it in is told the file and the rule")


def _file(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(data)


def _version_control(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_bytes(b"")


@attack(
    vectors="AIS-2 SUP-2",
    capacity="OC2",
    measures="SL3-WPI-02 SL4-NSC-02",
    layer=Layer.INTAKE,
    refusals="intake-pickle-global",
)
def poisoned_pickle(trial: Trial) -> None:
    """A supplier's pickles call the system, evaluate text, and reach a function by way of harmless modules."""
    _delivered(
        trial,
        *(
            (f"{module}.{name}", _file("weights.pkl", _calls(module, name, argument)))
            for module, name, argument in (
                ("os", "system", "true"),
                ("builtins", "eval", "0"),
                ("subprocess", "Popen", "true"),
                ("runpy", "run_path", "/nonexistent"),
                ("torch", "load", "/nonexistent"),
                ("logging.config", "fileConfig", "/nonexistent"),
                ("pkgutil", "resolve_name", "nonexistent:nothing"),
            )
        ),
    )


@attack(
    vectors="AIS-2 SUP-2",
    capacity="OC2",
    measures="SL3-WPI-02 SL4-NSC-02",
    layer=Layer.INTAKE,
    refusals="intake-pickle-global intake-name-and-content",
)
def poisoned_checkpoint_in_disguise(trial: Trial) -> None:
    """A checkpoint that runs code is renamed, wrapped and damaged so that scanners look past it."""
    call = _calls("os", "system", "true")
    _delivered(
        trial,
        ("a zipped checkpoint", _file("model.pt", _checkpoint(call))),
        ("under another name", _file("model.bin", _checkpoint(call))),
        ("as a text", _file("notes.txt", call)),
        ("with something behind it", _file("model.pkl", call + b"garbage")),
        ("without an end", _file("model.pkl", call[:-1])),
    )


@attack(
    vectors="AIS-1",
    capacity="OC2",
    measures="SL3-ART-08 SL3-WPI-02",
    layer=Layer.INTAKE,
    refusals="intake-safetensors intake-gguf",
)
def header_that_breaks_a_loader(trial: Trial) -> None:
    """Headers of the kind that overflow parsers: offsets past the end, overlaps, lengths and counts that lie."""
    _delivered(
        trial,
        ("an offset past the end", _file("a.safetensors", _safetensors({"w": _tensor(0, 1 << 40)}))),
        ("two tensors in one place", _file("a.safetensors", _safetensors({"w": _tensor(0, 16), "v": _tensor(0, 16)}))),
        ("a header longer than the file", _file("a.safetensors", struct.pack("<Q", 1 << 60) + b"{}")),
        ("a negative offset", _file("a.safetensors", _safetensors({"w": _tensor(-16, 0)}))),
        ("a count of tensors that lies", _file("a.gguf", b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0))),
        ("a count of keys that lies", _file("a.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60))),
    )


@attack(
    vectors="SUP-2 AIS-2",
    capacity="OC2",
    measures="SL4-NSC-02 SL3-WPI-02",
    layer=Layer.INTAKE,
    refusals="intake-link intake-hidden-file intake-ignored-path intake-executable intake-remote-code",
)
def delivery_that_hides_something(trial: Trial) -> None:
    """A delivery holds what nobody looks at: links out of it, hidden files, programs, code for a loader to fetch."""
    remote = b'{"auto_map": {"AutoModel": "evil--modeling.Model"}}'
    _delivered(
        trial,
        ("a link to another file", lambda folder: (folder / "extra.json").symlink_to("/etc/passwd")),
        ("a second name of a file", lambda folder: (folder / "extra.json").hardlink_to(folder / "config.json")),
        ("a hidden file", _file(".hidden.json", b"{}")),
        ("what signers leave out", _version_control),
        ("a program", _file("model.safetensors", b"\x7fELF" + bytes(64))),
        ("code to be fetched", _file("config.json", remote)),
    )


@attack(
    vectors="SUP-2",
    capacity="OC2",
    measures="SL4-NSC-02 SL3-WPI-02",
    layer=Layer.INTAKE,
    refusals="intake-special-file intake-link",
)
def delivery_that_never_ends(trial: Trial) -> None:
    """A delivery holds a pipe that never ends and a link to the host's device."""
    _delivered(
        trial,
        ("a pipe", lambda folder: os.mkfifo(folder / "weights.bin")),
        ("a link to a device", lambda folder: (folder / "weights.bin").symlink_to("/dev/zero")),
    )
