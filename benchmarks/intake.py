"""Who lets which pickle in, and what judging a checkpoint costs, or taking it in.

The samples of tests/support/pickle_corpus.py are shown to `strongroom intake check`, picklescan and modelscan, each in
an environment of its own; nobody loads one. Then a signed checkpoint in shards is judged by `intake check`, and taken
in by `intake receive` (hashed, encrypted, written and synced, signature and formats from the copy, five records at a
keeper in this process), beside sha256sum and model-signing's own verifier: three rounds in turn, the median of each;
files are in the page cache. `receive` runs in this process: no interpreter is started in its time, as in the others'.

    python benchmarks/intake.py [--megabytes N] [--table docs/internals/intake-scanners.md] [--only-speed]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from simulators.deployment_in_memory import InMemoryDeployment
from strongroom.client import wiring
from strongroom.core.clock import SystemClock
from strongroom.core.safetensors_header import make_header
from support.clocks import FixedClock
from support.pickle_corpus import corpus
from support.place import Place

PICKLESCAN: Final = "picklescan==1.0.5"
MODELSCAN: Final = "modelscan==0.8.8"
MODEL_SIGNING: Final = ("model-signing==1.1.1", "pyopenssl")
"""pyopenssl is imported there and not declared."""
SHARDS: Final = 8
ROUNDS: Final = 3
STRONGROOM: Final = str(Path(sys.executable).parent / "strongroom")
CHECK: Final = "strongroom intake check"
RECEIVE: Final = "strongroom intake receive"
BEGIN, END = "<!-- samples -->", "<!-- end of samples -->"


def environment(folder: Path, *packages: str) -> Path:
    """Make an environment with packages; returns where its programs are."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin" / "pip", "install", "--quiet", *packages], check=True)
    return folder / "bin"


def ended(*command: str | Path) -> tuple[int, str]:
    """Run a program; returns its exit code, and all that it said."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout + done.stderr


def by_strongroom(file: Path) -> str:
    """Let the gate judge one file."""
    code, said = ended(STRONGROOM, "intake", "check", file.parent, "--json")
    return "let in" if code == 0 else f"refused: {json.loads(said)['code'].removeprefix('intake-')}"


def by_picklescan(programs: Path, file: Path) -> str:
    """Exit codes: 0 nothing found, 1 dangerous, 2 error."""
    code, _said = ended(programs / "picklescan", "--path", file)
    return {0: "let in", 1: "flagged"}.get(code, f"error (exit {code})")


def by_modelscan(programs: Path, file: Path) -> str:
    """Exit codes: 0 nothing found, 1 found, 2 error, 3 nothing was scanned."""
    code, said = ended(programs / "modelscan", "-p", file, "--show-skipped")
    if code == 3 or (code == 0 and "No files were scanned" in said):
        return "skipped"
    return {0: "let in", 1: "flagged"}.get(code, f"error (exit {code})")


def samples(place: Path) -> list[tuple[str, str, str, str, str]]:
    """Show every sample to every scanner."""
    picklescan = environment(place / "picklescan", PICKLESCAN)
    modelscan = environment(place / "modelscan", MODELSCAN)
    rows = []
    for sample in corpus():
        folder = place / "samples" / sample.name
        folder.mkdir(parents=True)
        file = folder / sample.name
        file.write_bytes(sample.data)
        kind = "benign" if sample.benign else "dangerous"
        rows.append(
            (sample.name, kind, by_strongroom(file), by_picklescan(picklescan, file), by_modelscan(modelscan, file))
        )
        print(*rows[-1], sep=" | ", flush=True)
    return rows


def markdown(rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table."""
    head = ("Sample", "Is", "`strongroom intake check`", PICKLESCAN.replace("==", " "), MODELSCAN.replace("==", " "))
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def checkpoint(folder: Path, megabytes: int) -> None:
    """Write shards of zeros but for their first bytes; to hash them takes as long as any others."""
    folder.mkdir()
    each = megabytes // SHARDS << 20
    head, _names = make_header([("weights", "U8", (each,), each)], None)
    piece = bytes(1 << 20)
    for shard in range(SHARDS):
        with (folder / f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors").open("wb") as file:
            file.write(head + shard.to_bytes(8, "little"))
            for _ in range(each >> 20):
                file.write(piece[: min(len(piece), each + len(head) - file.tell())])


def speed(place: Path, megabytes: int) -> dict[str, float]:
    """Judge a signed checkpoint; returns the median seconds of each."""
    signing = environment(place / "model-signing", *MODEL_SIGNING)
    model, signature, private, public = (place / name for name in ("model", "model.sig", "key.pem", "public.pem"))
    checkpoint(model, megabytes)
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private], check=True)
    subprocess.run(["openssl", "ec", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    sign = ("sign", "key", model, "--private_key", private, "--signature", signature)
    subprocess.run([signing / "model_signing", *map(str, sign)], check=True, capture_output=True)
    verify = [signing / "model_signing", "verify", "key", model, "--public_key", public, "--signature", signature]
    trusted = [*map(str, (model, "--signature", signature, "--key", public))]
    with gate(place) as receive:
        return in_turn(
            {
                "sha256sum": program("sha256sum", *map(str, sorted(model.iterdir()))),
                "model-signing verify": program(*map(str, verify)),
                CHECK: program(STRONGROOM, "intake", "check", *trusted),
                RECEIVE: lambda: receive(trusted),
            }
        )


@contextmanager
def gate(place: Path) -> Iterator[Callable[[list[str]], None]]:
    """Give what takes a folder in, at a deployment in this process."""
    deployment = InMemoryDeployment(FixedClock(SystemClock().now()))
    connect, wiring.connect = wiring.connect, lambda _wallet: deployment  # type: ignore[assignment,return-value]
    deployment.adopt_first()
    people = Place(place, deployment)

    def receive(trusted: list[str]) -> None:
        into = place / "taken-in"
        done = people.run("intake", "receive", *trusted, "--model", "minilm", "--into", str(into), by="dana")
        if done.exit_code:
            raise SystemExit(done.output)
        shutil.rmtree(into)

    try:
        yield receive
    finally:
        wiring.connect = connect
        deployment.close()


def program(*command: str) -> Callable[[], None]:
    """Return what runs a program."""

    def run() -> None:
        subprocess.run(command, check=True, capture_output=True)

    return run


def in_turn(contenders: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Run all in each round, and return the median seconds of each."""
    took: dict[str, list[float]] = {name: [] for name in contenders}
    for _round in range(ROUNDS):
        for name, run in contenders.items():
            began = time.perf_counter()
            run()
            took[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in took.items()}


def main() -> None:
    """Run both parts; the last line is JSON."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--megabytes", type=int, default=2048)
    asked.add_argument("--table", type=Path)
    asked.add_argument("--only-speed", action="store_true", help="show the samples to nobody")
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [] if options.only_speed else samples(Path(folder))
        took = speed(Path(folder), options.megabytes)
    if options.table:
        page = options.table.read_text()
        begin, end = page.index(BEGIN) + len(BEGIN), page.index(END)
        options.table.write_text(f"{page[:begin]}\n{markdown(rows)}\n{page[end:]}")
    for name, seconds in took.items():
        print(f"{name}: {seconds:.2f} s, {options.megabytes / 1024 / seconds:.2f} GiB/s")
    passed = {
        name: sum(row[1] == "dangerous" and row[column] in {"let in", "skipped"} for row in rows)
        for column, name in ((2, "strongroom"), (3, "picklescan"), (4, "modelscan"))
    }
    told: dict[str, object] = {"seconds": took} | ({} if options.only_speed else {"dangerous_let_in": passed})
    for ours in (CHECK, RECEIVE):
        told[f"speed of {ours} relative to"] = {
            name: round(seconds / took[ours], 2) for name, seconds in took.items() if name != ours
        }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
