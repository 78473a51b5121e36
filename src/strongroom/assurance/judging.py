"""From observations and statements to one finding for each measure. Pure; born not assessed.

1 observed   a check decides: all it asks for holds (met), a vital part doesn't (not met), another doesn't (partly),
             something couldn't be seen (not assessed)
2 bounded    a check whose threshold was loosened says `partly` at best
3 attested   what a check can't see, a person attests; until then the measure is `partly`. A measure that software
             can't see is attested as a whole
4 taken out  by two attestors: an alternative that reaches the same goal, or a measure that doesn't apply. Where a
             check saw that it isn't so, it applies, and only an alternative helps; what was seen is told beside it
5 covered    a lower rung of a ladder that only people can attest is covered by a higher one that is met
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from strongroom.assurance.checks.every import CHECKS
from strongroom.assurance.checks.registry import Check
from strongroom.assurance.findings import MAX_WHY, Basis, Finding, NextStep, State
from strongroom.assurance.observations import Observation
from strongroom.assurance.seen import Part, Seen, evidence
from strongroom.assurance.statements import Attested, Claim
from strongroom.assurance.thresholds import Thresholds
from strongroom.core.clock import Instant
from strongroom.framework.catalogue import Catalogue
from strongroom.framework.ids import MeasureId
from strongroom.framework.measures import Measure

_TOLD: Final = 4
"""Of whom something isn't true: named up to here, then counted."""
_LOOKING: Final[Mapping[str, str]] = {
    "host.": "strongroom assess --home HOME",
    "keys.": "strongroom assess --home HOME",
    "access.login": "strongroom assess --home HOME",
    "sealing.": "strongroom assess --sealed FOLDER",
    "copies.": "strongroom assess --register FOLDER --registrar KEY",
    "detection.responder": "strongroom assess --responder FILE --responder-state FOLDER",
    "code.": "strongroom assess --provenance FILE --key KEY --sbom FILE",
    "attacks.": "strongroom attack run",
}
"""Whose observations are missing because nobody asked for them, and how to ask."""
_ATTEST: Final = "strongroom assess statement sign"
_SAY_EFFORT: Final = 2
_DO_EFFORT: Final = 4


def judge(
    observations: Iterable[Observation],
    statements: Iterable[Attested],
    catalogue: Catalogue,
    *,
    limits: Thresholds,
    now: Instant,
) -> Mapping[MeasureId, Finding]:
    """Return a finding for every measure of the framework, in its order.

    :param statements: whose signatures were verified, and which are in force.
    """
    looks = evidence(observations, limits, now)
    said = {(one.statement.measure, one.statement.claim): one for one in statements}
    found = {
        measure.id: _finding(measure, Seen(looks, limits), said, limits) for measure in catalogue.measures.values()
    }
    return {measure: _covered(finding, found, catalogue) for measure, finding in found.items()}


def _finding(
    measure: Measure, seen: Seen, said: Mapping[tuple[MeasureId, Claim], Attested], limits: Thresholds
) -> Finding:
    word, check = said.get((measure.id, Claim.MET)), CHECKS.get(measure.id)
    parts = () if check is None else tuple(check.decide(seen))
    taken_out = _taken_out(measure, said, parts, seen)
    if taken_out is not None:
        return taken_out
    if check is None:
        return _attested(measure, word)
    state, why = _decide(parts)
    if (measure.id, Claim.NOT_APPLICABLE) in said:
        why = f"{why}; two attestors say that it doesn't apply, which is outweighed by what was seen"
    basis = Basis.AUTOMATIC if any(part.holds is not None for part in parts) else Basis.NOTHING
    loosened = sorted(seen.limits_used & limits.loosened)
    if state is State.MET and loosened:
        state, why = State.PARTLY, f"only under loosened thresholds: {', '.join(loosened)}"
    statement = None
    step = _next(parts, check)
    if state is State.MET and check.left:
        if word is None:
            state, why = State.PARTLY, f"seen: {why}; to be attested: {check.left}"
            step = f"have an attestor say: {check.left}", _ATTEST, _SAY_EFFORT
        else:
            statement, basis, why = word.digest, Basis.BOTH, f"{why}; attested: {check.left}"
    return Finding(
        measure=measure.id,
        state=state,
        basis=basis,
        why=_cut(why),
        observations=tuple(seen.used),
        statement=statement,
        step=None if state.holds else _step(measure, *step),
    )


def _decide(parts: tuple[Part, ...]) -> tuple[State, str]:
    wrong = [part for part in parts if part.holds is False]
    unseen = [part for part in parts if part.holds is None]
    if wrong:
        vital = any(part.vital for part in wrong)
        return State.NOT_MET if vital else State.PARTLY, f"not so: {_told(wrong)}"
    if unseen or not parts:
        return State.NOT_ASSESSED, f"not seen: {_told(unseen)}"
    return State.MET, "; ".join(part.words for part in parts)


def _told(parts: Iterable[Part]) -> str:
    return "; ".join(dict.fromkeys(f"{part.words}{_of(part.told)}" for part in parts))


def _of(told: tuple[str, ...]) -> str:
    more = len(told) - _TOLD
    return f" ({', '.join(told[:_TOLD])}{f' and {more} more' if more > 0 else ''})" if told else ""


def _next(parts: tuple[Part, ...], check: Check) -> tuple[str, str, int]:
    """Return what to do: to look first, where nothing but that is missing."""
    unseen = [part for part in parts if part.holds is None]
    if unseen and all(part.holds is not False for part in parts) and not all(part.looked for part in unseen):
        name = next(part.collector for part in unseen if not part.looked)
        how = next((how for prefix, how in _LOOKING.items() if name.startswith(prefix)), None)
        if how is not None:
            return f"let it be looked at: {how}", how, 1
    return check.step, check.command, check.effort


def _taken_out(
    measure: Measure, said: Mapping[tuple[MeasureId, Claim], Attested], parts: tuple[Part, ...], seen: Seen
) -> Finding | None:
    wrong = [part for part in parts if part.holds is False]
    for claim, state in ((Claim.NOT_APPLICABLE, State.NOT_APPLICABLE), (Claim.ALTERNATIVE, State.MET)):
        word = said.get((measure.id, claim))
        if word is not None and not (wrong and claim is Claim.NOT_APPLICABLE):
            alternative = word.statement.text if claim is Claim.ALTERNATIVE else ""
            who = " and ".join(word.signers)
            what = "something else reaches the same goal" if alternative else f"doesn't apply: {word.statement.text}"
            return Finding(
                measure=measure.id,
                state=state,
                basis=Basis.ATTESTED,
                why=_cut(f"by the word of {who}: {what}{f'; seen: not so: {_told(wrong)}' if wrong else ''}"),
                observations=tuple(seen.used),
                statement=word.digest,
                alternative=alternative,
            )
    return None


def _attested(measure: Measure, word: Attested | None) -> Finding:
    if word is None:
        return Finding(
            measure=measure.id,
            state=State.NOT_ASSESSED,
            basis=Basis.NOTHING,
            why="software can't see it, and nobody attested it",
            step=_step(measure, "do what it asks, and have an attestor say so", _ATTEST, _DO_EFFORT),
        )
    return Finding(
        measure=measure.id,
        state=State.MET,
        basis=Basis.ATTESTED,
        why=_cut(f"by the word of {' and '.join(word.signers)}, for {word.statement.scope}"),
        statement=word.digest,
    )


def _covered(finding: Finding, found: Mapping[MeasureId, Finding], catalogue: Catalogue) -> Finding:
    ladder = catalogue.measures[finding.measure].ladder
    if finding.state is not State.NOT_ASSESSED or not ladder or finding.measure in CHECKS:
        return finding
    rungs = catalogue.ladders[ladder]
    for higher in rungs[rungs.index(finding.measure) + 1 :]:
        above = found[higher]
        # Not a rung that was talked away: it says nothing of this one.
        if above.state is State.MET and not above.alternative:
            return Finding(
                measure=finding.measure,
                state=State.MET,
                basis=above.basis,
                why=f"covered by {higher}, which asks for more and is met",
                observations=above.observations,
                statement=above.statement,
            )
    return finding


def _step(measure: Measure, text: str, command: str, effort: int) -> NextStep:
    return NextStep(text=text, command=command, unlocks=measure.level, effort=effort)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_WHY else f"{text[: MAX_WHY - 1]}…"
