"""Fuzz one target, guided by coverage: ``python tests/fuzz/targets/run.py NAME --seconds N --corpus DIR``.

Needs ``atheris`` (``make test-all`` installs it). The corpus grows in its folder and can be given again. What breaks a
target is printed with its traceback, and written beside the corpus as ``crash-...``, ``timeout-...`` or ``oom-...``.
"""

from __future__ import annotations

import argparse
import os
import sys
from hashlib import sha256
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import atheris

PACKAGES: Final = "STRONGROOM_FUZZED_PACKAGES"
"""Set by this program for itself: what is instrumented has to be known before it is imported."""

with atheris.instrument_imports(include=os.environ.get(PACKAGES, "none.of.ours").split(",")):
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
    if PACKAGES not in os.environ:
        os.environ[PACKAGES] = ",".join(target.packages)
        os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606 - this very program, once more
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
