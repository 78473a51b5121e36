"""What verifying evidence costs: each kind, by our verifiers and by others on the same bytes.

Figures are microseconds of processor time of the one thread that works: the median of five rounds, and the best. p50
and p99 are of single calls, by the wall clock. Real evidence is judged as of its own time, by a policy that its machine
meets; simulators' evidence by the strictest policy.

    python benchmarks/attestation.py [--calls N] [--peers PYTHON]

``--peers`` names an interpreter with peers installed, in an environment of their own:
``pip install tinfoil epsilon-attestation-verifier``.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.access_parts.clockwork import ROUNDS, Timing, tell, timed
from benchmarks.attestation_parts import intel_library, peers, swtpm
from benchmarks.attestation_parts.ours import Work, real, simulated

from strongroom.attestation.kinds import EvidenceKind

Rows = list[tuple[str, Timing]]
INTEL: Final = (EvidenceKind.TDX, EvidenceKind.SGX)
BARE: Final = "signatures and chain, no collateral"
GENOA: Final = "sev-snp, Genoa, report version 3"
NITRO: Final = "nitro"


def whole(works: Iterable[Work], calls: int) -> Rows:
    """Time parse, genuine and judge together, and parsing alone."""
    rows: Rows = []
    for work in works:
        rows.append((work.name, timed(work.judge, [work.body], calls=calls)))
        rows.append(("    parse alone", timed(work.parse, [work.body], calls=calls)))
    return rows


def intel(works: Iterable[Work], calls: int) -> Rows:
    """Time Intel's quotes by the library alone, and by ours without collateral."""
    rows: Rows = []
    for work in works:
        if work.kind in INTEL:
            library = intel_library.verifying(work)
            rows.append((f"dcap_qvl.verify, {work.kind}", timed(library, [work.body], calls=calls)))
            rows.append((f"ours, {work.kind}: all of it", timed(work.judge, [work.body], calls=calls)))
            name = f"ours, {work.kind}: {BARE}"
            rows.append((name, timed(work.without_collateral, [work.body], calls=calls)))
    return rows


def ratios(rows: dict[str, Timing], told: dict[str, Any]) -> dict[str, float]:
    """Return ours to theirs, by the best rounds, where the same evidence was verified; below 1, ours is faster."""
    found = {
        f"{kind}_to_dcap_qvl": rows[f"ours, {kind}: all of it"].least / rows[f"dcap_qvl.verify, {kind}"].least
        for kind in INTEL
        if f"dcap_qvl.verify, {kind}" in rows
    }
    pairs = (
        ("sev_snp_to_tinfoil", GENOA, "tinfoil, SEV-SNP"),
        ("tdx_signatures_to_tinfoil", f"ours, {EvidenceKind.TDX}: {BARE}", "tinfoil, TDX"),
        ("nitro_to_epsilon", NITRO, "epsilon-attestation-verifier, Nitro"),
    )
    for name, row, peer in pairs:
        if "timing" in told.get(peer, {}):
            found[name] = rows[row].least / told[peer]["timing"]["us_least"]
    return {name: round(value, 2) for name, value in found.items()}


def tell_peers(told: dict[str, Any]) -> None:
    """Print what others took, and what each said of evidence under debug."""
    if not told:
        print("\nNo peers: they verify real evidence, in the interpreter that --peers names.")
        return
    print("\nPeers, on the same real evidence (CPU us)")
    for name, one in told.items():
        took = one.get("timing")
        said = f"{took['us']:>9,.1f}" if took else f"   {one['refused']}"
        print(f"  {name:<40}{one['package']:<40}{said}   debug: {one.get('debug', 'not tried')}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="what verifying evidence costs")
    parser.add_argument("--calls", type=int, default=100, help="verifications a round")
    parser.add_argument("--peers", help="an interpreter that has tinfoil or epsilon-attestation-verifier installed")
    options = parser.parse_args()
    result: dict[str, Any] = {"benchmark": "attestation", "dcap_qvl": intel_library.VERSION}
    warnings.simplefilter("ignore")
    real_works, simulated_works = list(real()), list(simulated())
    gc.collect()
    gc.freeze()

    def section(name: str, title: str, rows: Rows) -> dict[str, Timing]:
        tell(title, rows)
        result[name] = {row.strip(): took.to_json() for row, took in rows if not row.startswith(" ")}
        return dict(rows)

    if not real_works:
        print("No real evidence beside the checkout, nor where STRONGROOM_VECTORS says: simulators' alone.")
    section("real", "Real evidence: parse, genuine, judge", whole(real_works, options.calls))
    section("simulated", "Simulated evidence: parse, genuine, judge", whole(simulated_works, options.calls))
    section("swtpm", "A software TPM", swtpm.quote_and_verify(max(options.calls // 5, 5)))
    # Again, right before the peers: so that both had the same machine, whatever else ran on it.
    beside = intel(real_works or simulated_works, options.calls)
    beside += [
        (work.name, timed(work.judge, [work.body], calls=options.calls))
        for work in real_works
        if work.name in {GENOA, NITRO}
    ]
    rows = section("beside", "Beside others", beside)
    told = peers.asked(options.peers, real_works, options.calls) if options.peers else {}
    result["peers"] = told
    tell_peers(told)
    result["dcap_qvl_of_debug"] = intel_library.says_of_debug()
    print(f"\nA TDX domain under debug, by dcap_qvl.verify: {result['dcap_qvl_of_debug']}")
    result["ratios"] = ratios(rows, told)
    result["cores"], result["load"] = os.cpu_count(), round(os.getloadavg()[0], 1)
    print(f"\n{result['cores']} cores, load {result['load']}; {ROUNDS} rounds of {options.calls}.")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
