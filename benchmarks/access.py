"""What access decisions cost: Cedar and the invariants, other policy engines on the same facts, approvals, releases.

Figures are microseconds of processor time of the one thread that works, so that other programs on the machine disturb
them least: the median of five rounds, and the best. p50 and p99 are of single calls, by the wall clock. The engines are
first asked about random facts; they must all say the same before anything is timed.

    python benchmarks/access.py [--facts N] [--releases N]
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import structlog
from benchmarks.access_parts import crowd, flaws, room_release, voices
from benchmarks.access_parts.clockwork import ROUNDS, Timing, tell, timed
from benchmarks.access_parts.drawn import changing, crowded, drawn
from benchmarks.access_parts.engines import Casbin, Cedar, Engine, Ours, Rego

from strongroom.access.decision import decide
from strongroom.access.engine import DEFAULT_CEDAR, CedarEngine
from strongroom.access.facts import Facts
from strongroom.access.invariants import broken, quorum
from strongroom.access.policy import Factor
from strongroom.access.quorum import fill
from strongroom.access.weighing import weighed
from strongroom.core.ids import PersonId
from support.facts import good, policy

CALLS: Final = 1000
SLICES: Final = 600
"""More than the engine keeps: each call in a round then has entities that must be read anew."""
PLACES: Final = (3, 8, 16)
APPROVERS: Final = 32
SECONDS: Final = 0.5
TRIES: Final = 12
TWO_RULES: Final = ("enclave-attested", "quorum-exports")
AGAIN: Final = "CedarEngine.allows, the same people again"
Rows = list[tuple[str, Timing]]


def decisions() -> Rows:
    """Time Cedar and the whole decision."""
    engine, facts = CedarEngine(policy()), good()
    cold, many = changing(SLICES), changing(1, APPROVERS)
    return [
        (AGAIN, timed(engine.allows, [facts], calls=CALLS)),
        ("CedarEngine.allows, people changed each time", timed(engine.allows, cold, calls=SLICES)),
        ("CedarEngine.allows, 32 approvers, again", timed(engine.allows, many, calls=CALLS)),
        ("the invariants alone", timed(lambda f: list(broken(f)), [facts], calls=CALLS)),
        ("decide(): both judges", timed(lambda f: decide(f, engine), [facts], calls=CALLS)),
        ("decide(), people changed each time", timed(lambda f: decide(f, engine), cold, calls=SLICES)),
        ("decide(), 32 approvers, again", timed(lambda f: decide(f, engine), many, calls=CALLS)),
        ("what was weighed, in words", timed(weighed, [facts], calls=CALLS)),
        ("what was weighed, 32 approvers", timed(weighed, many, calls=CALLS // 10)),
        ("facts to canonical bytes", timed(lambda f: f.to_bytes(), [facts], calls=CALLS)),
    ]


def agreement(engines: list[Engine], count: int) -> dict[str, int]:
    """Ask every engine about random facts; ends the program unless all say the same."""
    allowed = agreed = 0
    for facts in drawn(count):
        said = {engine.name: engine.ask(engine.ready(facts)) for engine in engines}
        allowed += said[engines[0].name]
        agreed += len(set(said.values())) == 1
    print(f"\nThe same rules in {len(engines)} forms: {agreed} of {count} random facts agreed on, {allowed} allowed.")
    if agreed != count:
        sys.exit("the engines don't say the same: nothing is compared")
    return {"facts": count, "agreed": agreed, "allowed": allowed}


def two_rules() -> str:
    """Return the two policies of the default set that the others were given."""
    texts = DEFAULT_CEDAR.split("@id(")
    return "".join("@id(" + text for text in texts if text.startswith(tuple(f'"{name}"' for name in TWO_RULES)))


def engines_side_by_side(count: int) -> tuple[Rows, dict[str, int]]:
    """Time each engine on input that is ready, and from facts, on facts that reach the end of the rule."""
    cedar, casbin, rego = Cedar(), Casbin(), Rego()
    few = Cedar(two_rules())
    few.name = "cedar (cedarpy), these two rules alone"
    engines: list[Engine] = [Ours(), cedar, few, casbin, rego]
    told = agreement(engines, count)
    facts = [replace(one, review_overdue=False) for one in changing(100)]
    rows: Rows = []
    for engine in engines[1:]:
        given: list[Any] = [engine.ready(one) for one in facts]
        rows.append((f"{engine.name}: input ready", timed(engine.ask, given, calls=CALLS // 2)))
    for engine in engines:
        rows.append((f"{engine.name}: from facts", timed(_from_facts(engine), facts, calls=CALLS // 2)))
    return rows, told


def _from_facts(engine: Engine) -> Callable[[Facts], bool]:
    return lambda facts: engine.ask(engine.ready(facts))


def matching() -> Rows:
    """Time the match of distinct people to places."""
    rows: Rows = []
    for places in PLACES:
        wanted = tuple(Factor(role="red" if n % 2 else "green", count=1) for n in range(places))
        people = [PersonId(f"p{n:02}") for n in range(APPROVERS)]

        roles = {who: "red" if number % 2 else "green" for number, who in enumerate(people)}

        def fits(who: PersonId, factor: Factor, roles: dict[PersonId, str] = roles) -> bool:
            return roles[who] == factor.role

        rows.append(
            (
                f"{places:>2} places, {APPROVERS} approvers: the match alone",
                timed(lambda f, p=people, w=fits: fill(f, p, w), [wanted], calls=CALLS // 2),  # type: ignore[misc]
            )
        )
        rows.append(
            (
                f"{places:>2} places, {APPROVERS} approvers: quorum(), everybody's standing too",
                timed(quorum, [crowded(APPROVERS, places)], calls=CALLS // 2),
            )
        )
    return rows


def crowds() -> Iterator[tuple[str, dict[str, float]]]:
    """Yield decisions per second of one and two processes, and of two threads.

    Of some tries, the one that had the most of the processors counts: the others say how busy the machine was.
    """
    for name, processes, threads in (("1 process", 1, 1), ("2 processes", 2, 1), ("1 process, 2 threads", 1, 2)):
        tries = [crowd.measured(processes, threads, SECONDS) for _ in range(TRIES)]
        best = max(tries, key=lambda one: one["cpu"])
        yield name, {key: round(value, 2) for key, value in best.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="what access decisions cost")
    parser.add_argument("--facts", type=int, default=4000, help="random facts that the engines are compared on")
    parser.add_argument("--releases", type=int, default=100, help="releases a round (at most 900)")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    result: dict[str, Any] = {"benchmark": "access"}
    # What the imports brought isn't looked through again at each collection: a keeper doesn't have it either.
    gc.collect()
    gc.freeze()

    def section(name: str, title: str, rows: Rows) -> dict[str, Timing]:
        tell(title, rows)
        result[name] = {row.strip(): took.to_json() for row, took in rows}
        return dict(rows)

    decided = section("decisions", "Decisions at SL3, two factors, two approvers", decisions())
    rows, result["agreement"] = engines_side_by_side(options.facts)
    peers = section("engines", "The rules for opening and for export in other engines, one process", rows)
    print("\nMistakes, and what came of them:")
    print(f"  {'':<58}{'cedar':<34}{'casbin':<33}rego")
    for mistake, (cedar, casbin, rego) in flaws.shown():
        print(f"  {mistake:<58}{cedar:<34}{casbin:<33}{rego}")
    section("voices", "Approvals and enrolments", list(voices.rows()))
    print("\nAssertions that we refuse:")
    for what, ours, theirs in voices.differences():
        print(f"  {what:<58}ours: {ours:<12}fido2: {theirs}")
    section("matching", "Distinct people for places", matching())
    print(f"\nSeveral deciders for {SECONDS} s each (decisions a second; processor seconds had in each second)")
    result["crowds"] = dict(crowds())
    for name, one in result["crowds"].items():
        each = one["per_second"] / one["cpu"]
        print(f"  {name:<58}{one['per_second']:>9,.0f}{one['cpu']:>9.2f}   {each:>7,.0f} a processor second")
    releases = room_release.released(min(options.releases, 900), ROUNDS)
    section("release", "A whole release in one process, log in memory", [("release", releases)])
    result["release_parts"] = room_release.parts(min(options.releases, 900))
    for part, spent in result["release_parts"].items():
        print(f"    {part:<56}{spent:>18,.1f}")
    base = peers["cedar (cedarpy): input ready"].median
    result["ratios"] = {
        "casbin_to_cedar": round(peers["casbin: input ready"].median / base, 2),
        "rego_to_cedar": round(peers["rego (regopy): input ready"].median / base, 2),
        "ours_to_cedar": round(peers["strongroom (CedarEngine.allows): from facts"].median / base, 2),
        "decide_to_allows": round(decided["decide(): both judges"].median / decided[AGAIN].median, 2),
    }
    result["cores"], result["load"] = os.cpu_count(), round(os.getloadavg()[0], 1)
    print(f"\n{result['cores']} cores, load {result['load']}; {ROUNDS} rounds.")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
