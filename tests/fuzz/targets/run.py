"""Fuzz one target, guided by coverage: ``python tests/fuzz/targets/run.py NAME --seconds N --corpus DIR``.

Needs ``atheris`` (``make test-all`` installs it). The corpus grows in its folder and can be given again. What breaks a
target is printed with its traceback, and written beside the corpus as ``crash-...``, ``timeout-...`` or ``oom-...``.
"""

from __future__ import annotations

import argparse
import sys
from hashlib import sha256
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import atheris

with atheris.instrument_imports(include=["strongroom.attestation", "strongroom.core"]):
    from fuzz.targets.targets import TARGETS

MEMORY_MB: Final = 1024
INPUT_SECONDS: Final = 10


def main() -> None:
    """Fuzz until the time is over or something breaks."""
    parser = argparse.ArgumentParser(description="fuzz one target")
    parser.add_argument("name", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, required=True, help="a folder; made if it isn't there")
    parser.add_argument(
        "--findings", type=Path, help="where to write what breaks the target; beside the corpus if left out"
    )
    options = parser.parse_args()
    target = TARGETS[options.name]
    options.corpus.mkdir(parents=True, exist_ok=True)
    findings = options.findings or options.corpus.parent
    findings.mkdir(parents=True, exist_ok=True)
    # Made here, because it is this process's makers that the target believes.
    for seed in target.seeds():
        (options.corpus / sha256(seed).hexdigest()).write_bytes(seed)
    arguments = [
        sys.argv[0],
        str(options.corpus),
        f"-max_total_time={options.seconds}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-max_len={target.longest}",
        f"-timeout={INPUT_SECONDS}",
        f"-artifact_prefix={findings}/",
        "-print_final_stats=1",
    ]
    atheris.Setup(arguments, target, enable_python_coverage=True)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
