"""Asks peers that are installed in another interpreter to verify the same real evidence."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from benchmarks.attestation_parts.ours import Work

from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.recorded import read_file
from strongroom.attestation.sev_snp.body import read_body
from strongroom.attestation.sev_snp.certificate_table import VCEK, CertificateTable
from support.vectors import vectors_root

WORKER: Final = Path(__file__).with_name("peer_worker.py")
SECONDS: Final = 600


def asked(python: str, works: Iterable[Work], calls: int) -> dict[str, Any]:
    """Return each peer's figures by its name; empty where there is no real evidence."""
    vectors = vectors_root() / "attestation"
    if not vectors.is_dir():
        return {}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ran = subprocess.run(
        [python, str(WORKER)],
        input=json.dumps({"jobs": _jobs(list(works), vectors), "calls": calls}),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=environment,
        check=False,
    )
    if ran.returncode:
        raise SystemExit(f"the peers' interpreter failed:\n{ran.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def _jobs(works: list[Work], vectors: Path) -> dict[str, dict[str, str]]:
    genoa = next(one for one in works if one.kind is EvidenceKind.SEV_SNP and "Genoa" in one.name)
    report, table = read_body(genoa.body)
    quote = next(one for one in works if one.kind is EvidenceKind.TDX)
    document = next(one for one in works if one.kind is EvidenceKind.NITRO)
    debug = read_file((vectors / "nitro" / "nitro-2025-debug.bin").read_bytes()).items[0].body
    return {
        "tinfoil, SEV-SNP": {
            "report": _text(report),
            "vcek": _text(CertificateTable.parse(table).certificates(VCEK)[0]),
        },
        "tinfoil, TDX": {
            "quote": _text(quote.body),
            "debug": _text((vectors / "tdx" / "tdx-v4-debug.quote").read_bytes()),
        },
        "epsilon-attestation-verifier, Nitro": {
            "document": _text(document.body),
            "debug": _text(_text(debug).encode()),
            "root": str(vectors / "nitro" / "aws-nitro-root-g1.pem"),
        },
    }


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
