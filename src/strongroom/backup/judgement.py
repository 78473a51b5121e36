"""May this log be the one that a deployment goes on with? Pure; refuses, never warns.

A restored deployment that begins behind what somebody saw has forgotten denials, freezes and used grants. So the log
must reach, and agree with, everything that anybody is known to have seen: the backup's own position, what the root
holders signed in their order, what signed requests name, kept checkpoints, and what witnesses cosigned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from strongroom.audit.succession import Succession
from strongroom.audit.witness_policy import WitnessPolicy
from strongroom.backup.errors import RestoreRefusedError
from strongroom.core.errors import MalformedError, TamperedError
from strongroom.release.ledger import Ledger

_NEWER = "give a newer copy of the log (--log); going on behind what was seen would forget what was taken away"
_INCIDENT = "treat this as an incident: somebody showed two different logs"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenHead:
    """A head of the log that somebody saw: size over all shards, root of its newest tree. ``by`` says who, in words."""

    size: int
    root: bytes
    by: str


def seen_checkpoint(note: bytes, succession: Succession, by: str) -> SeenHead:
    """Return what a signed checkpoint says was seen.

    :param succession: the shards of the log that is about to be restored.
    :raises RestoreRefusedError: of a shard that this log doesn't have: it is behind. Or not signed by this log.
    """
    try:
        head = succession.read(note)
    except (MalformedError, TamperedError) as error:
        raise RestoreRefusedError(
            f"{by} is of no shard that this log has: {error.message}", reason="seen-unknown", remedy=_NEWER
        ) from None
    return SeenHead(size=head.size, root=head.root, by=by)


def require_reaches(ledger: Ledger, seen: Iterable[SeenHead]) -> None:
    """Check a log, replayed, against everything that was seen.

    :raises RestoreRefusedError: it is shorter than somebody saw (``log-behind``), or another log (``log-forked``).
    """
    for one in sorted(seen, key=lambda one: -one.size):
        if one.size > ledger.size:
            raise RestoreRefusedError(
                f"the log has {ledger.size} entries; {one.by} has seen {one.size}", reason="log-behind", remedy=_NEWER
            )
        if one.size and ledger.root_at(one.size) != one.root:
            raise RestoreRefusedError(
                f"the log's first {one.size} entries aren't those that {one.by} has seen",
                reason="log-forked",
                remedy=_INCIDENT,
            )


def require_witnesses(policy: WitnessPolicy, told: Mapping[str, SeenHead]) -> None:
    """Check that enough witnesses answered; what they saw is for :func:`require_reaches`.

    :param told: name in the policy -> the head that this witness cosigned last.
    :raises RestoreRefusedError: too few answered to make the policy's quorum (``witnesses-silent``).
    """
    if policy.quorum is not None and not policy.met_by(told.keys()):
        asked = len(policy.witnesses)
        raise RestoreRefusedError(
            f"{len(told)} of {asked} witnesses said what they cosigned last; that is no quorum",
            reason="witnesses-silent",
            remedy="bring the witnesses up, or the network to them: without them nobody knows whether the log is whole",
        )
