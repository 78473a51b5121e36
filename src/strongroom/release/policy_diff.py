"""How one policy differs from another, in words, and whether the weights are guarded less by it. Pure.

Looser means easier to get, or harder to stop: a rule for freezing or revoking that asks for more is looser, not
tighter. Where neither can be said, a difference is marked as changed: who wants no looser policy has to look at it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.access.clearance import ANYONE
from strongroom.access.invariants import describe
from strongroom.access.policy import Caps, DeadMan, Factor, ModelTerms, Policy, Rule, Unit, Weights, Witnesses
from strongroom.access.quorum import fill
from strongroom.access.request import STOPS, Action
from strongroom.audit.cosignature import CosignerKey
from strongroom.audit.witness_policy import WitnessPolicy, WitnessPolicyError
from strongroom.core.ids import PersonId
from strongroom.framework.levels import SecurityLevel
from strongroom.release.documents import isolation_rank

MAX_COMPARED: Final = 14
"""Witnesses up to which two quorums are compared by every set of them: 16,384 sets."""


class Mark(StrEnum):
    """What a difference does to the protection of the weights."""

    LOOSER = "LOOSER"
    TIGHTER = "TIGHTER"
    CHANGED = "CHANGED"
    """Neither can be said."""
    NEW = "NEW"
    """A model that no policy spoke of: nothing that was guarded is guarded less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One difference, for a person."""

    mark: Mark
    text: str


def differences(before: Policy, after: Policy) -> tuple[Difference, ...]:
    """Return every difference in what the policy asks for, and whether the Cedar text is another."""
    found = [
        *_models(before, after),
        *_rules(before, after),
        *_caps(before.caps, after.caps),
        *_witnesses(before.witnesses, after.witnesses),
        *_dead_man(before.dead_man, after.dead_man),
    ]
    if before.cedar != after.cedar:
        found.append(Difference(mark=Mark.CHANGED, text="the Cedar policies"))
    return tuple(found)


def cedar_diff(before: Policy, after: Policy) -> tuple[str, ...]:
    """Return the unified diff of the Cedar texts; no line where they are equal."""
    old, new = before.cedar.splitlines(), after.cedar.splitlines()
    return tuple(difflib.unified_diff(old, new, f"epoch {before.epoch}", f"epoch {after.epoch}", lineterm=""))


def may_be_looser(found: tuple[Difference, ...]) -> bool:
    """Tell whether any difference loosens, or can't be told not to."""
    return any(one.mark in {Mark.LOOSER, Mark.CHANGED} for one in found)


# --- rules ------------------------------------------------------------------------------------------------------------


def _rules(before: Policy, after: Policy) -> Iterator[Difference]:
    old = {(rule.action, rule.level): rule for rule in before.rules}
    new = {(rule.action, rule.level): rule for rule in after.rules}
    for action, level in sorted({*old, *new}, key=lambda key: (list(Action).index(key[0]), key[1].rank)):
        was, becomes = old.get((action, level)), new.get((action, level))
        what = f"{action.value} at {level.value}"
        if was is None:
            yield _say(action, Mark.LOOSER, f"{what}: a rule, where nobody could")
        elif becomes is None:
            yield _say(action, Mark.TIGHTER, f"{what}: no rule any more, so that nobody can")
        else:
            for mark, text in _rule(was, becomes):
                yield _say(action, mark, f"{what}: {text}")


def _say(action: Action, mark: Mark, text: str) -> Difference:
    if action in STOPS:
        # Who may stop more easily could also hinder: that is for a person to judge.
        mark = {Mark.TIGHTER: Mark.LOOSER, Mark.LOOSER: Mark.CHANGED}.get(mark, mark)
    return Difference(mark=mark, text=text)


def _rule(was: Rule, becomes: Rule) -> Iterator[tuple[Mark, str]]:
    if was.requester_role != becomes.requester_role:
        yield Mark.CHANGED, f"asked by `{becomes.requester_role}`, was `{was.requester_role}`"
    if was.factors != becomes.factors:
        mark = _compared(was.factors, becomes.factors)
        if mark is not None:
            yield mark, f"approved by {_people(becomes.factors)}, was {_people(was.factors)}"
    # What grows with the protection, then what shrinks with it.
    yield from _number("requester's tier", was.requester_tier, becomes.requester_tier)
    yield from _number("approvers' tier", was.approver_tier, becomes.approver_tier)
    yield from _number("cooling-off, in seconds", was.delay, becomes.delay)
    yield from _number("security keys", was.hardware, becomes.hardware)
    yield from _number("non-disclosure agreement", was.nda, becomes.nda)
    yield from _number("longest window, in seconds", -was.max_window, -becomes.max_window)
    yield from _number("most uses", -was.max_uses, -becomes.max_uses)
    yield from _number("an approval's life, in seconds", -was.approval_life, -becomes.approval_life)
    for course in sorted({*becomes.courses} - {*was.courses}):
        yield Mark.TIGHTER, f"wants the course `{course}`"
    for course in sorted({*was.courses} - {*becomes.courses}):
        yield Mark.LOOSER, f"wants the course `{course}` no more"


def _number(name: str, was: int, becomes: int) -> Iterator[tuple[Mark, str]]:
    """Yield a difference in what guards the more the larger it is; limits are handed in as negative numbers."""
    if was != becomes:
        yield Mark.TIGHTER if becomes > was else Mark.LOOSER, f"{name} {_shown(becomes)}, was {_shown(was)}"


def _shown(value: int) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(abs(value))


def _people(factors: tuple[Factor, ...]) -> str:
    return " and ".join(f"{factor.count} x {describe(factor)}" for factor in factors) or "nobody else"


def _compared(was: tuple[Factor, ...], becomes: tuple[Factor, ...]) -> Mark | None:
    """Compare who must agree; None when the same people do, however it is written."""
    tighter, looser = _covers(becomes, was), _covers(was, becomes)
    if tighter and looser:
        return None
    if tighter:
        return Mark.TIGHTER
    return Mark.LOOSER if looser else Mark.CHANGED


def _covers(strict: tuple[Factor, ...], lax: tuple[Factor, ...]) -> bool:
    """Tell whether whoever fills ``strict`` fills ``lax`` too: each place of it is met by a different strict place."""
    places = [factor for factor in strict for _ in range(factor.count)]
    stands_for = {PersonId(f"{number:04}"): place for number, place in enumerate(places)}
    return fill(lax, stands_for, lambda who, factor: _as_strict(stands_for[who], factor)) is not None


def _as_strict(place: Factor, wanted: Factor) -> bool:
    return wanted.role in {place.role, ANYONE} and wanted.unit in {place.unit, Unit.ANY}


# --- models and caps --------------------------------------------------------------------------------------------------


def _models(before: Policy, after: Policy) -> Iterator[Difference]:
    old = {terms.model: terms for terms in before.models}
    new = {terms.model: terms for terms in after.models}
    for model in sorted({*old, *new}):
        was, becomes = old.get(model), new.get(model)
        if was is None:
            level = "" if becomes is None else f" at {becomes.level.value}"
            yield Difference(mark=Mark.NEW, text=f"model `{model}`{level}")
        elif becomes is None:
            # Whoever can open it now can't then; nor can anybody freeze it, which nothing needs that isn't released.
            yield Difference(mark=Mark.TIGHTER, text=f"model `{model}` is taken out: nothing of it is released")
        else:
            yield from (Difference(mark=mark, text=f"model `{model}`: {text}") for mark, text in _terms(was, becomes))


def _terms(was: ModelTerms, becomes: ModelTerms) -> Iterator[tuple[Mark, str]]:
    if was.level is not becomes.level:
        mark = Mark.TIGHTER if becomes.level.rank > was.level.rank else Mark.LOOSER
        yield mark, f"{becomes.level.value}, was {was.level.value}"
    if was.least_isolation != becomes.least_isolation:
        up = isolation_rank(becomes.least_isolation) > isolation_rank(was.least_isolation)
        text = f"isolation at least `{becomes.least_isolation}`, was `{was.least_isolation}`"
        yield Mark.TIGHTER if up else Mark.LOOSER, text
    if was.weights is not becomes.weights:
        mark = Mark.LOOSER if becomes.weights is Weights.TEST else Mark.TIGHTER
        yield mark, f"`{becomes.weights.value}` weights, were `{was.weights.value}`"
    if was.export is not becomes.export:
        yield (Mark.LOOSER, "may be exported") if becomes.export else (Mark.TIGHTER, "may be exported no more")
    if was.recoverable is not becomes.recoverable:
        # Fewer can open it then, from the next rotation of its KEK on; what it costs is said where keys are listed.
        yield (Mark.LOOSER, "is in escrow") if becomes.recoverable else (Mark.TIGHTER, "is in no escrow: IRRECOVERABLE")
    if was.copy_of != becomes.copy_of:
        named = f"a marked copy of `{becomes.copy_of}`" if becomes.copy_of else "no marked copy any more"
        yield Mark.CHANGED, f"{named}, was {f'one of `{was.copy_of}`' if was.copy_of else 'none'}"
    if was.owner != becomes.owner:
        yield Mark.CHANGED, f"owned by `{becomes.owner}`, was `{was.owner}`"
    if was.collection != becomes.collection:
        yield Mark.CHANGED, f"in the collection `{becomes.collection}`, was `{was.collection}`"


def _caps(was: Caps, becomes: Caps) -> Iterator[Difference]:
    named = (
        ("output-limited", was.output, becomes.output),
        ("isolated", was.isolated, becomes.isolated),
        ("copy", was.copy, becomes.copy),
    )
    for name, old, new in named:
        for mark, text in _number(f"most people with {name} access", -old, -new):
            yield Difference(mark=mark, text=text)


# --- witnesses --------------------------------------------------------------------------------------------------------


def _witnesses(was: Witnesses | None, becomes: Witnesses | None) -> Iterator[Difference]:
    if was is None and becomes is not None:
        yield Difference(mark=Mark.TIGHTER, text="witnesses must have seen the log lately")
    elif was is not None and becomes is None:
        yield Difference(mark=Mark.LOOSER, text="no witness has to have seen the log any more")
    elif was is not None and becomes is not None:
        mark = _quorums(was.policy, becomes.policy)
        if mark is not None:
            yield Difference(mark=mark, text="which witnesses are a quorum")
        for level in SecurityLevel:
            # Told for each level: a shorter age may hide a longer one elsewhere.
            name = f"age of the witnesses' word at {level.value}, in seconds"
            for mark, text in _number(name, -was.max_age(level), -becomes.max_age(level)):
                yield Difference(mark=mark, text=text)


def _dead_man(was: DeadMan | None, becomes: DeadMan | None) -> Iterator[Difference]:
    if was is None and becomes is not None:
        yield Difference(mark=Mark.TIGHTER, text="responders must have been heard lately")
    elif was is not None and becomes is None:
        yield Difference(mark=Mark.LOOSER, text="no responder has to have been heard any more")
    elif was is not None and becomes is not None:
        for name in sorted({*was.responders} - {*becomes.responders}):
            yield Difference(mark=Mark.LOOSER, text=f"responder `{name}` doesn't have to be heard any more")
        for name in sorted({*becomes.responders} - {*was.responders}):
            yield Difference(mark=Mark.TIGHTER, text=f"responder `{name}` must have been heard lately")
        numbers = -was.max_age_seconds, -becomes.max_age_seconds
        for mark, text in _number("age of a responder's heartbeat, in seconds", *numbers):
            yield Difference(mark=mark, text=text)


def _quorums(was: str, becomes: str) -> Mark | None:
    """Compare two quorums by who satisfies them; None when the same sets of keys do, whatever they are called."""
    if was == becomes:
        return None
    try:
        old, new = (WitnessPolicy.parse(text.encode("utf-8", "surrogatepass")) for text in (was, becomes))
    except WitnessPolicyError:
        return Mark.CHANGED
    keys = sorted({witness.key for policy in (old, new) for witness in policy.witnesses}, key=str)
    if len(keys) > MAX_COMPARED:
        return Mark.CHANGED
    tighter = looser = False
    for bits in range(1 << len(keys)):
        signed = {key for place, key in enumerate(keys) if bits >> place & 1}
        before, after = _satisfied(old, signed), _satisfied(new, signed)
        tighter, looser = tighter or (before and not after), looser or (after and not before)
    if not tighter and not looser:
        return None
    if tighter and looser:
        return Mark.CHANGED
    return Mark.LOOSER if looser else Mark.TIGHTER


def _satisfied(policy: WitnessPolicy, signed: set[CosignerKey]) -> bool:
    return policy.met_by({witness.name for witness in policy.witnesses if witness.key in signed})
