"""Other verifiers in Python, in an interpreter of their own: reads a job in JSON, prints figures in JSON.

What isn't installed there is left out. Each peer is called as its own documentation says, offline, with its input in
the form that it takes; that it accepts the evidence is checked before it is timed.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import io
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.access_parts.clockwork import timed

Call = Callable[[bytes], object]


def tinfoil_sev(job: dict[str, str]) -> tuple[bytes, Call]:
    """AMD: signature, chain to its own copy of Genoa's root, report policy; the certificate is handed in."""
    verify = importlib.import_module("tinfoil.attestation.attestation_sev")
    options = importlib.import_module("tinfoil.attestation.validate_sev").ValidationOptions(
        guest_policy=verify.default_validation_options.guest_policy
    )
    vcek = base64.b64decode(job["vcek"])

    def act(document: bytes) -> object:
        return verify.verify_sev_report(
            document.decode(), is_compressed=False, validation_options=options, vcek_der=vcek
        )

    return job["report"].encode(), act


def tinfoil_tdx(job: dict[str, str]) -> tuple[bytes, Call]:
    """Intel: signatures, chain, attributes. TCB and revocation it only judges by what it fetches, at today's date."""
    parse = importlib.import_module("tinfoil.attestation.abi_tdx").parse_quote
    verify = importlib.import_module("tinfoil.attestation.verify_tdx").verify_tdx_quote
    policy = importlib.import_module("tinfoil.attestation.validate_tdx")
    usual = importlib.import_module("tinfoil.attestation.attestation_tdx")
    options = policy.PolicyOptions(
        header=policy.HeaderOptions(),
        td_quote_body=policy.TdQuoteBodyOptions(td_attributes=usual.EXPECTED_TD_ATTRIBUTES, xfam=usual.EXPECTED_XFAM),
    )

    def act(quote: bytes) -> object:
        parsed = parse(quote)
        verify(parsed, quote)
        return policy.validate_tdx_policy(parsed, options)

    return base64.b64decode(job["quote"]), act


def epsilon_nitro(job: dict[str, str]) -> tuple[bytes, Call]:
    """AWS: chain and signature. It has no way to judge as of another date than today, so expiry is switched off."""
    verify = importlib.import_module("epsilon_verifier.verifier").verify_attestation

    def act(document: bytes) -> object:
        found = verify(document.decode(), aws_root_cert_path=job["root"], allow_expired=True)
        if not found.valid:
            raise ValueError(found.error)
        return found

    return job["document"].encode(), act


PEERS: dict[str, tuple[str, Callable[[dict[str, Any]], tuple[bytes, Call]]]] = {
    "tinfoil, SEV-SNP": ("tinfoil", tinfoil_sev),
    "tinfoil, TDX": ("tinfoil", tinfoil_tdx),
    "epsilon-attestation-verifier, Nitro": ("epsilon-attestation-verifier", epsilon_nitro),
}


def measured(jobs: dict[str, dict[str, str]], calls: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each peer's figures, and what it says of the same kind of evidence under debug."""
    for name, (package, ready) in PEERS.items():
        try:
            found: dict[str, Any] = {"package": f"{package} {version(package)}"}
        except PackageNotFoundError:
            continue
        if name not in jobs:
            continue
        given, act = ready(jobs[name])
        try:
            act(given)
        except Exception as error:  # noqa: BLE001 - whatever a peer raises is its refusal
            yield name, found | {"refused": f"{type(error).__name__}: {error}"[:200]}
            continue
        found["timing"] = timed(act, [given], calls=calls).to_json()
        if "debug" in jobs[name]:
            found["debug"] = _said(act, base64.b64decode(jobs[name]["debug"]))
        yield name, found


def _said(act: Call, given: bytes) -> str:
    try:
        act(given)
    except Exception as error:  # noqa: BLE001 - as above
        return f"refused: {error}"[:120]
    return "accepted"


def main() -> None:
    """Read the job, measure, print."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    job = json.loads(sys.stdin.read())
    # A peer that prints would print into our JSON.
    with contextlib.redirect_stdout(io.StringIO()):
        found = dict(measured(job["jobs"], job["calls"]))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
