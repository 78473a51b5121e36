"""The sealed-weights format beside plain safetensors and its peers, on the same files in one run.

Each sample is a process of its own; variants take turns, round by round; medians are printed. A load is timed from
opening to tensors of which every byte was read. *Hot*: page cache warm, and heap memory that was touched before.
*Fresh*: page cache warm, new memory. *Cold*: the file is on the disk only, which is checked. *Existing*: into tensors
that are there already. *Mapped*: plain tensors over the page cache, which nothing that decrypts can offer.

    python benchmarks/sealing.py [--rounds N] [--small] [--only MODEL ...]

The first run installs the peers into build/bench, and keeps the models there (4 GB; 20 GB more while it runs).
ROUNDS in the environment is another way to say --rounds; PROGRESS=1 shows each sample.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.sealing_parts import environment, machine, models, report
from benchmarks.sealing_parts.rounds import ROOT, Job, Quiet, Runner

BUILD: Final = ROOT / "build" / "bench"
DISK_NEEDED: Final = 25_000_000_000
SMALL: Final = 0.05
LOADS: Final[tuple[str, ...]] = ("fresh", "hot", "existing", "cold", "one", "one_cold")
TITLES: Final = {
    "llm": "A language model: 191 tensors",
    "small64k": "16,384 tensors of 64 KiB",
    "small10k": "10,000 tensors, 1 GB",
    "real": "all-MiniLM-L6-v2, a real model",
}


def jobs(model: str, peers: Path, *, rounds: int) -> tuple[list[Job], list[Job]]:
    """Return who seals, and who loads, this model. The last file that was sealed is the one that is loaded."""
    main, few = Path(sys.executable), min(3, rounds)
    loads = {"llm": LOADS, "real": LOADS[:4], "small64k": LOADS[1:3], "small10k": LOADS[1:2]}[model]

    def plain(*cases: str, rounds: int = rounds) -> Job:
        return Job("plain", "plain", main, cases, rounds)

    def ours(*cases: str, variant: str = "strongroom", rounds: int = rounds) -> Job:
        return Job(variant, "ours", main, cases, rounds)

    def peer(variant: str, *cases: str, rounds: int = rounds) -> Job:
        return Job(variant, "peer_worker", peers, cases, rounds)

    if model in {"small10k", "small64k"}:
        rounds = few if model == "small10k" else rounds
        sealing = [ours("seal", rounds=1), peer("cryptotensors", "seal", rounds=1)]
    else:
        seals = rounds if model == "llm" else few
        sealing = [
            ours("seal", rounds=seals),
            peer("cryptotensors", "seal", rounds=seals),
            plain("seal", rounds=seals),
        ]
    loading = [
        plain("touch", *loads, rounds=rounds),
        ours(*loads, rounds=rounds),
        peer("cryptotensors", *loads, rounds=rounds),
    ]
    if model != "small10k":
        sealing.append(peer("tensorizer", "seal", rounds=1))
        loading.append(peer("tensorizer", *loads[:3], rounds=rounds if model == "llm" else few))
    if model == "llm":
        # It writes where ours does, so it must not be the last that seals.
        sealing.append(ours("seal", variant="undigested", rounds=min(few, rounds - 1)))
        loading.append(ours("hot", variant="strongroom-whole", rounds=few))
        loading.append(ours("one", "one_cold", variant="strongroom-opened", rounds=few))
        for name in ("tensorizer-plain", "age", "openssl", "gocryptfs"):
            sealing.append(peer(name, "seal", rounds=1))
            loading.append(peer(name, "hot", rounds=min(2, few)))
    return sealing, loading


def file_of(model: str, scale: float) -> Path:
    """Return the plain file, which is made if it isn't there yet."""
    if model == "real":
        return models.real()
    file = BUILD / "models" / str(scale) / f"{model}.safetensors"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        print(f"making {file}", flush=True)
        command = [sys.executable, "-m", "benchmarks.sealing_parts.models", model, str(file), str(scale)]
        subprocess.run(command, cwd=ROOT, check=True)
    return file


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="sealed weights beside plain safetensors and the peers")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS", "5")), help="5; fewer prove nothing")
    parser.add_argument("--small", action="store_true", help="models of a twentieth, to try the benchmark itself")
    parser.add_argument("--only", nargs="*", choices=list(TITLES), default=list(TITLES), help="these models")
    options = parser.parse_args()
    scale = SMALL if options.small else 1.0
    BUILD.mkdir(parents=True, exist_ok=True)
    if not options.small and shutil.disk_usage(BUILD).free < DISK_NEEDED:
        sys.exit(f"{BUILD} needs {DISK_NEEDED / 1e9:.0f} GB of free disk")
    peers = environment.peers_python(BUILD)
    missing = environment.missing_programs()
    began, quiet, figures = time.monotonic(), Quiet(), report.Figures()
    for model in options.only:
        file, work = file_of(model, scale), BUILD / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        runner = Runner(file, work, quiet)
        sealing, loading = (
            [job for job in these if job.variant.removesuffix("-plain") not in missing]
            for these in jobs(model, peers, rounds=options.rounds)
        )
        figures[model] = runner.run(sealing)
        unsealed = {variant for (variant, _), figure in figures[model].items() if figure.error is not None}
        figures[model] |= runner.run([job for job in loading if job.variant not in unsealed])
        shutil.rmtree(work)
        if model == "llm":
            speeds = sorted(machine.disk_speed(file) / 1e9 for _ in range(3))
            print(f"\nthe disk: {speeds[1]:.2f} GB/s [{speeds[0]:.2f}-{speeds[2]:.2f}] to reads past the page cache")
        report.tell_model(f"{TITLES[model]}: {file.stat().st_size / 1e6:.0f} MB", figures[model])
    print()
    for name, reason in missing.items():
        print(f"not measured: {name}: {reason}")
    goals = report.tell_goals(figures)
    took = time.monotonic() - began
    print(f"\n{quiet.told()}")
    print(f"{os.cpu_count()} cores; {options.rounds} rounds, at most 3 where no goal asks; {took / 60:.1f} minutes.")
    if options.small:
        print("Small models: these figures say nothing about the goals.")
    print(
        json.dumps(
            {
                "benchmark": "sealing",
                "small": options.small,
                "rounds": options.rounds,
                "idle": quiet.disturbed == 0,
                "goals": goals,
                "medians": report.medians(figures),
                "cores": os.cpu_count(),
            }
        )
    )


if __name__ == "__main__":
    main()
