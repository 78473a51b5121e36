"""Run every escape attempt once inside an enclave; prints one JSON object. ``escape_run.py FOLDER FACTS``."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

# Started by path, so that it runs as any user without the test runner's settings.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.enclave_lab import ATTEMPTS, lab_profile, run_inside


def main() -> None:
    os.umask(0o077)  # the narrowest there is: the view must not depend on the launcher's
    profile = lab_profile(Path(sys.argv[1]))
    outcome = run_inside(profile, ["python", ATTEMPTS, sys.argv[2], "[]"])
    print(json.dumps(dataclasses.asdict(outcome)))  # noqa: T201 - its only output


main()
