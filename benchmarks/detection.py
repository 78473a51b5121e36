"""What detection costs, beside sigma-rule-matcher in an environment of its own and SQL over batches in SQLite.

All see the same rules and events and must count the same hits. Then twelve thefts in a simulated fleet: when each is
found and what had left by then; and SigmaHQ's regression cases, where a checkout is given.

    python benchmarks/detection.py [--events N] [--sigma-hq CHECKOUT] [--no-matcher]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.detection_parts import drawn, sql
from benchmarks.detection_parts.drawn import Event
from benchmarks.detection_parts.sigma_hq import regression

from simulators.fleet import THEFTS, Theft
from strongroom.detection.adapters.sigma_rules import compile_rules
from strongroom.detection.detector import Alert
from strongroom.detection.engine import Engine
from strongroom.detection.pack import Pack
from strongroom.detection.rules import Certainty
from strongroom.detection.wiring import linear_regex
from support.fleet_watch import PLANTED, at, doubted, found_by, stolen_by, told

ROUNDS: Final = 5
COUNTS: Final = (50, 100, 500)
FEW: Final = 400
"""Events for sigma-rule-matcher: it is slow, and its rate doesn't depend on how many there are."""
SEED: Final = 7
MATCHER: Final = "sigma-rule-matcher==0.1.0"


def pack_of(texts: Sequence[str]) -> Pack:
    """Compile rules."""
    rules, _none = compile_rules([(str(number), text) for number, text in enumerate(texts)])
    return Pack(name="drawn", rules=rules)


def ours(pack: Pack, events: Sequence[Event]) -> tuple[float, int]:
    """Return the best seconds of some rounds, and hits."""
    best, hits = float("inf"), 0
    for _round in range(ROUNDS):
        engine = Engine(pack, regex=linear_regex)
        began = time.perf_counter()
        hits = sum(len(engine.observe(event, now)) for now, event in enumerate(events))
        best = min(best, time.perf_counter() - began)
    return best, hits


def latency(pack: Pack, events: Sequence[Event]) -> dict[str, float]:
    """Return microseconds of single events."""
    engine, taken = Engine(pack, regex=linear_regex), []
    for now, event in enumerate(events):
        began = time.perf_counter_ns()
        engine.observe(event, now)
        taken.append(time.perf_counter_ns() - began)
    taken.sort()
    return {f"p{part}": round(taken[int(len(taken) * part / 100)] / 1000, 1) for part in (50, 99)}


def matcher_environment(folder: Path) -> Path:
    """Make an environment with sigma-rule-matcher; returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    quiet = ["--quiet", "--disable-pip-version-check"]
    subprocess.run([python, "-m", "pip", "install", *quiet, MATCHER], check=True, stderr=subprocess.DEVNULL)
    return python


def theirs(python: Path, texts: Sequence[str], events: Sequence[Event]) -> tuple[float, int]:
    """Return seconds and hits of sigma-rule-matcher."""
    script = Path(__file__).parent / "detection_parts" / "matcher.py"
    given = json.dumps({"rules": list(texts), "events": list(events)})
    done = subprocess.run([python, script], input=given, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    return float(answer["seconds"]), int(answer["hits"])


def rates(count: int, events: Sequence[Event], python: Path | None) -> dict[str, float]:
    """Return events a second of all, having checked that they count the same hits."""
    texts = drawn.rules(count)
    pack = pack_of(texts)
    seconds, hits = ours(pack, events)
    sql_seconds, sql_hits = sql.matched(pack, events)
    assert hits == sql_hits, (hits, sql_hits)
    found = {"ours": len(events) / seconds, "sqlite": len(events) / sql_seconds}
    if python is not None:
        few = events[:FEW]
        matcher_seconds, matcher_hits = theirs(python, texts, few)
        assert matcher_hits == ours(pack, few)[1], matcher_hits
        found["matcher"] = len(few) / matcher_seconds
    return found


def theft(story: Theft, quiet: Sequence[Alert]) -> tuple[str, float, int]:
    """Return which rule found a theft first, after how many hours, and how many bytes had left."""
    first = min(found_by(story, SEED, quiet), key=lambda alert: alert.at)
    begun = min(map(at, story.happenings(PLANTED)))
    return first.rule, (first.at - begun) / 3600, stolen_by(story, first.at)


def main() -> None:
    """Run, print a table, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--sigma-hq", type=Path, help="a checkout of SigmaHQ's rules")
    parser.add_argument("--no-matcher", action="store_true", help="leave sigma-rule-matcher out")
    options = parser.parse_args()
    result: dict[str, Any] = {"ratios": {}}
    events = list(drawn.events(options.events))
    with tempfile.TemporaryDirectory() as folder:
        python = None if options.no_matcher else matcher_environment(Path(folder) / "matcher")
        print(f"{'rules':>6}{'ours':>12}{'matcher':>12}{'SQLite':>12}   events a second; ratios")
        for count in COUNTS:
            found = rates(count, events, python)
            result[str(count)] = {name: round(rate) for name, rate in found.items()}
            for name in found.keys() - {"ours"}:
                result["ratios"][f"ours_to_{name}_{count}"] = round(found["ours"] / found[name], 1)
            shown = "".join(
                f"{format(round(found[n]), ',') if n in found else '-':>12}" for n in ("ours", "matcher", "sqlite")
            )
            ratios = ", ".join(f"{n} {found['ours'] / found[n]:.1f}" for n in ("matcher", "sqlite") if n in found)
            print(f"{count:>6}{shown}   {ratios}")
    result["latency_us_at_100"] = latency(pack_of(drawn.rules(100)), events)
    print(f"one event at 100 rules: {result['latency_us_at_100']} microseconds")
    quiet = told(SEED)
    loud = [alert for alert in quiet if alert.about.certainty is not Certainty.HINT]
    result["quiet_days"] = {
        "alarms_a_day": round(len(loud) / 30, 2),
        "sure": sum(a.about.certainty is Certainty.SURE for a in quiet),
    }
    print(f"\n30 quiet days: {len(loud)} alarms, {result['quiet_days']['sure']} of a kind that acts by itself")
    doubts = doubted(SEED, quiet)
    result["one_approver_more"] = {"asked": doubts.asked, "requests": doubts.requests, "met": doubts.met}
    print(
        f"one approver more: asked {doubts.asked} times, of {doubts.people} people;"
        f" {doubts.met} of {doubts.requests} requests met it"
    )
    for story in THEFTS:
        rule, hours, stolen = theft(story, quiet)
        print(f"  {story.name:<14}{rule:<32}{hours:>7.1f} h{stolen:>18,} bytes")
    if options.sigma_hq:
        result["sigma_hq"] = regression(options.sigma_hq)
        cases = result["sigma_hq"]
        total = cases["matched"] + len(cases["missed"])
        print(
            f"\nSigmaHQ: {cases['compiled']} rules compile, {len(cases['refused'])} don't;"
            f" {cases['matched']} of {total} cases match"
        )
    result["cores"], result["load"] = os.cpu_count(), round(os.getloadavg()[0], 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
