"""Running ``strongroom attestation`` as a person does, and appraisal policies that begin at the strictest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from strongroom.attestation.appraisal_policy import AppraisalPolicy
from strongroom.attestation.kinds import EvidenceKind
from strongroom.cli.main import main


def attestation(*arguments: str | Path) -> tuple[int, str]:
    """Run a subcommand; returns its exit code and what it wrote, to either stream."""
    ran = CliRunner().invoke(main, ["attestation", *map(str, arguments)])
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    return ran.exit_code, ran.output


def policy_file(folder: Path, kind: EvidenceKind, **changes: Any) -> Path:
    """Write the strictest policy of a kind with some of its rules changed; a mapping changes an object's members."""
    told: Any = AppraisalPolicy.strictest(kind).to_json()
    rules = told["kinds"][kind.value]
    for name, value in changes.items():
        assert name in rules, f"`{kind}` has no rule `{name}`"
        rules[name] = {**rules[name], **value} if isinstance(value, Mapping) else value
    path = folder / f"{kind}.policy.json"
    path.write_text(json.dumps(told, indent=2))
    return path
