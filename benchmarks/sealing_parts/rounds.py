"""Round by round: each sample is one process of one variant, waited for until the machine is quiet."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.sealing_parts import machine

ROOT: Final = Path(__file__).resolve().parents[2]
_ONE_WAIT_S: Final = 5.0
_SAMPLE_LIMIT_S: Final = 180


@dataclass(frozen=True, slots=True)
class Job:
    """What one variant does in each process."""

    variant: str
    worker: str
    python: Path
    cases: tuple[str, ...]
    rounds: int
    """A side show has fewer."""


@dataclass(frozen=True, slots=True)
class Figure:
    """Samples of one case of one variant."""

    samples: tuple[dict[str, Any], ...]
    error: str | None

    def median(self, measure: str) -> float | None:
        """Return the median, if there is one."""
        return statistics.median(sample[measure] for sample in self.samples) if self.samples else None

    def shown(self, measure: str, unit: float = 1, digits: int = 3) -> str:
        """Return the median, and in brackets the least and the most."""
        if not self.samples:
            return "-" if self.error is None else "fails"
        values = [sample[measure] / unit for sample in self.samples]
        return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}-{max(values):.{digits}f}]"


NOTHING: Final = Figure((), None)


@dataclass(slots=True)
class Quiet:
    """How quiet the machine was. Waiting and trying again are bounded; what was not quiet is counted and told."""

    waiting_left_s: float = 60.0
    tries_left: int = 10
    samples: int = 0
    thrown_away: int = 0
    disturbed: int = 0
    others: list[float] = field(default_factory=list)

    def wait(self) -> None:
        """Wait a while for the others to stop."""
        if self.waiting_left_s > 0:
            self.waiting_left_s -= machine.wait_for_quiet(min(_ONE_WAIT_S, self.waiting_left_s))

    def again(self, watch: machine.Stopwatch) -> bool:
        """Judge a sample; returns whether it's thrown away."""
        share, quiet = watch.others(), watch.quiet()
        if not quiet and self.tries_left:
            self.tries_left -= 1
            self.thrown_away += 1
            return True
        self.samples += 1
        self.disturbed += not quiet
        self.others.append(share)
        return False

    def told(self) -> str:
        """Return a line about it."""
        share = statistics.mean(self.others) if self.others else 0
        line = f"{self.samples} samples, {self.thrown_away} more thrown away; others used {share:.0%} of the cores"
        if self.disturbed:
            return f"NOT IDLE: {line}, and more than 12% in {self.disturbed} samples. Don't trust these figures."
        return f"Idle: {line}, and never more than 12%."


@dataclass(slots=True)
class Runner:
    """Runs jobs on one model."""

    model: Path
    work: Path
    quiet: Quiet

    def run(self, jobs: list[Job]) -> dict[tuple[str, str], Figure]:
        """Return the figures by variant and case."""
        samples: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        errors: dict[tuple[str, str], str] = {}
        for turn in range(max(job.rounds for job in jobs)):
            # The order turns, so that none always runs after the same other.
            shift = turn % len(jobs)
            for job in jobs[shift:] + jobs[:shift]:
                cases = [case for case in job.cases if (job.variant, case) not in errors]
                if turn >= job.rounds or not cases:
                    continue
                for case, found in self._sample(job, cases).items():
                    if "error" in found:
                        errors[job.variant, case] = found["error"]
                    else:
                        samples[job.variant, case].append(found)
        keys = {(job.variant, case) for job in jobs for case in job.cases}
        figures = {key: Figure(tuple(samples[key]), errors.get(key)) for key in keys}
        _compare_sums(figures)
        return figures

    def _sample(self, job: Job, cases: list[str]) -> dict[str, dict[str, Any]]:
        while True:
            self._make_room()
            self.quiet.wait()
            watch = machine.Stopwatch.start()
            found = self._process(job, cases)
            if not self.quiet.again(watch):
                return found

    def _process(self, job: Job, cases: list[str]) -> dict[str, dict[str, Any]]:
        command = [str(job.python), "-m", f"benchmarks.sealing_parts.{job.worker}"]
        command += [job.variant, str(self.model), str(self.work), ",".join(cases)]
        environment = {**os.environ, **machine.HOT_HEAP}
        began = time.monotonic()
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=_SAMPLE_LIMIT_S
            )
        except subprocess.TimeoutExpired:
            return {case: {"error": f"took more than {_SAMPLE_LIMIT_S} s"} for case in cases}
        _progress(f"{self.model.stem} {job.variant} {','.join(cases)}: {time.monotonic() - began:.1f} s")
        try:
            found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            said = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
            return {case: {"error": said[:200]} for case in cases}
        return found

    def _make_room(self) -> None:
        """Keep the page cache from filling memory: to reclaim it would be part of somebody's time."""
        if machine.free_memory() < 4 * self.model.stat().st_size:
            machine.evict([file for file in self.work.rglob("*") if file.is_file()])


def _compare_sums(figures: dict[tuple[str, str], Figure]) -> None:
    """Check that all variants delivered the same bytes, of all tensors or of the one."""
    for alone in (False, True):
        by_sum: dict[int, set[str]] = defaultdict(set)
        for (variant, case), figure in figures.items():
            if case != "seal" and case.startswith("one") == alone:
                for sample in figure.samples:
                    by_sum[sample["checksum"]].add(f"{variant} {case}")
        if len(by_sum) > 1:
            raise RuntimeError(f"variants delivered different bytes: {[sorted(found) for found in by_sum.values()]}")


def _progress(line: str) -> None:
    if os.environ.get("PROGRESS"):
        print(line, flush=True)
