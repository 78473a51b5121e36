"""``strongroom attestation policy``: where an appraisal policy starts."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from strongroom.attestation.appraisal_policy import MAX_POLICY, AppraisalPolicy
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.registry import VERIFIERS
from strongroom.cli.files import read_file
from strongroom.cli.output import show
from strongroom.core.canonical import parse
from strongroom.core.fields import Fields

STRICTEST: Final = "strictest"


@click.command("policy")
@click.option(
    "--kind",
    "kinds",
    type=click.Choice([kind.value for kind in VERIFIERS]),
    multiple=True,
    help="A kind of evidence to take; may be given again. All of them, if left out.",
)
def policy(kinds: tuple[str, ...]) -> None:
    """Print the strictest appraisal policy, as JSON to start from.

    Every rule is there and none has a default. Where only you can know what is wanted, the list is empty, and an empty
    list takes nothing: write in your chips, instances or keys, or the word `any`.
    """
    named = tuple(map(EvidenceKind, kinds)) or tuple(VERIFIERS)
    show(AppraisalPolicy.strictest(*named).to_json(), "", as_json=True)


def read_policy(named: str, kinds: tuple[EvidenceKind, ...]) -> AppraisalPolicy:
    """Return the policy that a caller names: the word `strictest`, for ``kinds``, or a JSON file in any spelling.

    :raises UsageError: there is no such file.
    :raises MalformedError: the file isn't an appraisal policy.
    """
    if named == STRICTEST:
        return AppraisalPolicy.strictest(*kinds)
    return read_policy_file(Path(named))


def read_policy_file(path: Path) -> AppraisalPolicy:
    """Return the policy in a JSON file in any spelling; raises as :func:`read_policy` does."""
    with Fields(parse(read_file(path, most=MAX_POLICY), max_bytes=MAX_POLICY), path.name) as fields:
        return AppraisalPolicy.read(fields)
