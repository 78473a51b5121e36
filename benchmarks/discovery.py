"""What a search for copies finds in a large tree, and what it costs beside reading the same files.

A tree of many files is written: texts, random bytes, pictures of noise, weights of other models of the same
architecture, and copies of one model as they are left lying (renamed, in shards, cast, in archives, one tensor alone,
with noise, in eight bits). A search of the tree is timed as a user runs it, and so is reading all of the files; the
median of each, files in the page cache. Last: how long a lookup takes in a catalogue of 100,000 tensors, and how near
blocks of nothing in common come.

    python benchmarks/discovery.py [--files 100000] [--others 40] [--rounds 3] [--tensors 100000]

The last line is JSON. The tree takes about 1 GB and is removed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
import pytest

from strongroom.core.ids import ModelId
from strongroom.core.secret import SecretBytes
from strongroom.intake.copies.catalogue import Index, KnownModel, KnownTensor
from strongroom.intake.copies.fingerprints import BLOCK, KEY_BYTES, SKETCH_BYTES, Sketcher, distances
from support.copies import HOST, opened_lab
from support.planted import HIDDEN, PLANTED, small_model

STRONGROOM = Path(sys.executable).parent / "strongroom"
LAYERS = 8
A_FOLDER = 500


def fill(tree: Path, files: int, others: int) -> tuple[set[str], set[str]]:
    """Write the tree; returns the paths of the copies that must be found, and of those that the docs say aren't."""
    draw = np.random.default_rng(1)
    text = b"the quick brown fox jumps over the lazy dog, and then again\n"
    for place in range(files):
        path = tree / f"d{place // A_FOLDER:04}" / f"{place % A_FOLDER:03}.{('txt', 'bin', 'dat', 'log')[place % 4]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = int(min(draw.lognormal(8.5, 1.5), 4 << 20))
        path.write_bytes(draw.bytes(size) if place % 4 == 1 else text * (1 + size // len(text)))
    names = [*PLANTED]
    for seed in range(others):
        name = names[seed % len(names)]
        _write(tree / f"others{seed}" / name, PLANTED[name](small_model(1000 + seed, layers=LAYERS)))
    ours = small_model(1, layers=LAYERS)
    planted = {
        _write(tree / f"d{7 * place:04}" / name, make(ours)) for place, (name, make) in enumerate(PLANTED.items())
    }
    hidden = {_write(tree / "hidden" / name, make(ours)) for name, make in HIDDEN.items()}
    return planted, hidden


def _write(path: Path, data: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def timed(command: list[str]) -> tuple[tuple[float, float], str]:
    """Run a program; returns its seconds, those of processors that it took, and what it printed."""
    began, before = time.perf_counter(), os.times()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - began, os.times()
    assert done.returncode in {0, 1}, done.stderr
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return (seconds, spent), done.stdout


def lookups(tensors: int) -> dict[str, Any]:
    """Look one tensor's sketches up among many, and measure how near strangers come."""
    draw = np.random.default_rng(2)
    each = 8
    sketches = draw.integers(0, 256, (tensors * each, SKETCH_BYTES), dtype="u1")
    known = [
        KnownTensor(name=f"t{place}", blocks=each, sketches=sketches[place * each : (place + 1) * each].tobytes())
        for place in range(tensors)
    ]
    index = Index([KnownModel(model=ModelId("atlas"), version=1, tensors=tuple(known))])
    wanted = np.unpackbits(sketches[-each:], axis=1)
    asked = np.packbits(wanted ^ (draw.random(wanted.shape) < 0.1), axis=1)
    took = []
    for _ in range(50):
        began = time.perf_counter()
        found = list(index.near(asked))
        took.append(time.perf_counter() - began)
    assert {one.tensor for one in found} == {tensors - 1}
    sketcher = Sketcher(SecretBytes(bytearray(os.urandom(KEY_BYTES))))
    apart = distances(
        sketcher.sketch(draw.normal(0, 1, (5000, BLOCK)).astype("f4")),
        sketcher.sketch(draw.normal(0, 1, (5000, BLOCK)).astype("f4")),
    )
    return {
        "catalogue_tensors": tensors,
        "lookup_ms": round(1000 * statistics.median(took), 3),
        "strangers_bits_mean": round(float(apart.mean()), 2),
        "strangers_bits_deviation": round(float(apart.std()), 2),
        "strangers_bits_least": int(apart.min()),
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--others", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tensors", type=int, default=100_000)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
        opened_lab(Path(folder), patch) as lab,
    ):
        sketched = lab.fingerprint(small_model(1, layers=LAYERS))
        planted, hidden = fill(lab.tree, given.files, given.others)
        whose = ["--registrar", lab.registrar, "--identity", str(lab.identity), "--register", str(lab.register)]
        scan = [str(STRONGROOM), "scan", str(lab.tree), "--host", HOST, *whose, "--json"]
        read = ["sh", "-c", f"find {lab.tree} -type f -print0 | xargs -0 cat > /dev/null"]
        seconds: dict[str, list[tuple[float, float]]] = {"read": [], "scan": []}
        found: dict[str, Any] = {}
        for _ in range(given.rounds):
            seconds["read"].append(timed(read)[0])
            took, said = timed(scan)
            seconds["scan"].append(took)
            found = json.loads(said)
        paths = {one["path"] for one in found["findings"]}
        size = sum(path.stat().st_size for path in lab.tree.rglob("*") if path.is_file())
    medians = {name: statistics.median(wall for wall, _spent in values) for name, values in seconds.items()}
    spent = {name: statistics.median(spent for _wall, spent in values) for name, values in seconds.items()}
    result = {
        "files": found["files"],
        "megabytes": round(size / 1e6),
        "planted": len(planted),
        "found": len(paths & planted),
        "found_of_those_not_promised": len(paths & hidden),
        "false_positives": len(paths - planted - hidden),
        "weights_of_others": found["weights_of_others"],
        "sketch_bytes": sketched["bytes"],
        "read_seconds": round(medians["read"], 2),
        "scan_seconds": round(medians["scan"], 2),
        "scan_to_read": round(medians["scan"] / medians["read"], 2),
        "read_processor_seconds": round(spent["read"], 2),
        "scan_processor_seconds": round(spent["scan"], 2),
        "processor_scan_to_read": round(spent["scan"] / spent["read"], 2),
        **lookups(given.tensors),
    }
    for name, value in result.items():
        print(f"{name:<28} {value}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
