"""How fresh the witnesses' word on the log must be before anything new is let out. Pure.

Someone who controls the log writer, or puts an old disk under all of a deployment, could show the keeper a log in which
a freeze or a spent use never happened. A quorum of witnesses that saw this log a few minutes ago can't be shown two.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from strongroom.access.policy import Policy
from strongroom.audit.cosignature import CosignerKey
from strongroom.audit.errors import CosignatureOtherLogError, ForkError, LogRolledBackError, QuorumMissingError
from strongroom.audit.note import Note
from strongroom.audit.succession import Succession
from strongroom.audit.witness_policy import WitnessPolicy, check_note
from strongroom.core.clock import Instant, format_instant
from strongroom.core.errors import MalformedError, UnavailableError
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId
from strongroom.framework.levels import SecurityLevel
from strongroom.release.ledger import Ledger


class WitnessTermsError(MalformedError):
    """The policy's section on witnesses doesn't name a quorum of witnesses of this deployment's log."""

    code = "policy-witnesses"


class WitnessQuorumStaleError(UnavailableError):
    """No checkpoint that a quorum of witnesses cosigned is young enough. Nothing was decided, nothing is recorded."""

    code = "witness-quorum-stale"


@dataclass(frozen=True, slots=True)
class WitnessTerms:
    """The policy's section, read: whose word counts, and how old it may be."""

    policy: WitnessPolicy
    access: Policy

    def level(self, model: ModelId | None) -> SecurityLevel:
        """Return a model's level; for none, or one that the policy doesn't name, the one that asks for most."""
        levels = {terms.model: terms.level for terms in self.access.models}
        strictest = min(
            levels.values(), key=lambda level: (self.max_age(level), -level.rank), default=self.access.level
        )
        return strictest if model is None else levels.get(model, strictest)

    def max_age(self, level: SecurityLevel) -> int:
        """Return how many seconds old the quorum's word may be for a model of a level."""
        section = self.access.witnesses
        return section.max_age(level) if section else 0


def witness_terms(policy: Policy, genesis: Genesis) -> WitnessTerms | None:
    """Read a policy's section on witnesses; None where it has none.

    :raises WitnessPolicyError: its text isn't a trust policy.
    :raises WitnessTermsError: it asks for no witness, takes the log for its own, or names another log's key.
    """
    if policy.witnesses is None:
        return None
    read = WitnessPolicy.parse(policy.witnesses.policy.encode("utf-8", "surrogatepass"))
    if read.quorum is None:
        raise WitnessTermsError(
            "the policy's witnesses are no quorum of anybody", remedy="leave the section out, or name a quorum"
        )
    own = {genesis.log_key.raw, genesis.log_cosigner}
    for key in read.logs:
        raw = key.raw if isinstance(key, CosignerKey) else key.public_key.raw
        if key.name != genesis.log_origin or raw not in own:
            raise WitnessTermsError("the policy's witnesses are of another log than this deployment's")
    _require_others(read, own)
    return WitnessTerms(read, policy)


def _require_others(policy: WitnessPolicy, own: Collection[bytes]) -> None:
    """Check that no witness has a key of the log's own.

    :raises WitnessTermsError: one has.
    """
    if any(witness.key.raw in own for witness in policy.witnesses):
        # It cosigns whatever it publishes: its own word would count as somebody else's.
        raise WitnessTermsError(
            "the policy takes the log for a witness of itself", remedy="name witnesses that others run"
        )


def quorum_seen(note: bytes | None, terms: WitnessTerms, log: Succession, ledger: Ledger, now: Instant) -> Instant:
    """Return since when a quorum's word is on a checkpoint of the very log that was replayed.

    :param note: what the log writer says was cosigned; it isn't believed. It may be of any shard.
    :raises WitnessQuorumStaleError: there is none, or no quorum.
    :raises LogRolledBackError: the log's key signed more than was replayed. :raises ForkError: or something else.
    :raises WitnessTermsError: a witness has the key of one of the log's later shards.
    :raises StrongroomError: as :func:`strongroom.audit.witness_policy.check_note`.
    """
    if note is None:
        raise _stale("no quorum of witnesses cosigned the log yet")
    Note.parse(note)
    # The genesis knows the first shard's keys alone.
    _require_others(terms.policy, {raw for shard in log.shards for raw in (shard.key.raw, shard.cosigner) if raw})
    if not log.knows(note):
        raise CosignatureOtherLogError("the checkpoint is of a log that isn't among the trusted ones")
    try:
        head = log.read(note)
        seen = check_note(note, terms.policy, now=now, log=head.shard.verifier)
    except QuorumMissingError as error:
        raise _stale(error.message) from None
    if head.size > ledger.size:
        raise LogRolledBackError(
            f"witnesses saw {head.size} entries of the log, of which only {ledger.size} are left",
            index=ledger.size,
            remedy="the log was rolled back: treat this as an incident; nothing is released",
        )
    # Of an empty tree nothing is said: what was before it is another shard's.
    if head.checkpoint.size and head.root != ledger.root_at(head.size):
        raise ForkError(
            f"witnesses saw another log of {head.size} entries than the keeper",
            remedy="the log was forked: treat this as an incident; nothing is released",
        )
    return seen.quorum_at or 0


def require_fresh(seen: Instant, terms: WitnessTerms, level: SecurityLevel, now: Instant) -> None:
    """Check that a quorum's word is young enough for a model of a level.

    :raises WitnessQuorumStaleError: it is older.
    """
    most = terms.max_age(level)
    if now - seen > most:
        raise _stale(
            f"a quorum of witnesses last saw the log at {format_instant(seen)}; at {level.value} that counts for"
            f" {most} seconds"
        )


def _stale(message: str) -> WitnessQuorumStaleError:
    return WitnessQuorumStaleError(
        message,
        remedy="see that the witnesses answer the log writer, and that all clocks are right; freezing works meanwhile",
    )
