"""Reading ``tests/vectors/sealed``: good directories, and cases that are edits of them, each with its outcomes."""

from __future__ import annotations

import json
import zlib
from base64 import b64decode
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "vectors" / "sealed"
_HEADER = 4096


def load() -> dict[str, Any]:
    """Return the parsed ``cases.json``."""
    cases: dict[str, Any] = json.loads((FOLDER / "cases.json").read_text(encoding="utf-8"))
    return cases


def directory(name: str) -> dict[str, bytes]:
    """Return a good directory's files by their names."""
    root = FOLDER / name
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def files_of(case: dict[str, Any]) -> dict[str, bytes]:
    """Return a case's directory with its edits made."""
    files = directory(case["directory"])
    for edit in case["edits"]:
        _edit(files, edit)
    return files


def written(files: dict[str, bytes], place: Path) -> Path:
    """Write files below ``place``."""
    for name, data in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return place


def _edit(files: dict[str, bytes], edit: dict[str, Any]) -> None:
    name: str = edit["file"]
    match edit["op"]:
        case "xor":
            data, mask, at = bytearray(files[name]), bytes.fromhex(edit["hex"]), edit["at"]
            for number, byte in enumerate(mask):
                data[at + number] ^= byte
            files[name] = bytes(data)
        case "put":
            data, value, at = bytearray(files[name]), bytes.fromhex(edit["hex"]), edit["at"]
            data[at : at + len(value)] = value
            files[name] = bytes(data)
        case "truncate":
            files[name] = files[name][: edit["size"]]
        case "append":
            files[name] += bytes.fromhex(edit["hex"])
        case "segments":
            length, data = edit["length"], bytearray(files[name])
            segments = [data[at : at + length] for at in range(_HEADER, len(data), length)]
            files[name] = bytes(data[:_HEADER] + b"".join(segments[number] for number in edit["order"]))
        case "write":
            files[name] = zlib.decompress(b64decode(edit["zlib"]))
        case "remove":
            del files[name]
        case "copy":
            files[name] = directory(edit["from"][0])[edit["from"][1]]
        case other:
            raise AssertionError(other)
