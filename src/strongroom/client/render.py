"""A request as a person reads it, made from its own bytes. Every member is shown: what isn't shown isn't agreed to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from strongroom.access.facts import WAITS_AGREED, delay_of
from strongroom.access.invariants import describe
from strongroom.access.policy import Factor, NoRuleError, Policy, Rule, Unit, Weights
from strongroom.access.request import OPENS, Action, Request
from strongroom.client.state import PersonStanding
from strongroom.client.trust import Trust
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.ids import PersonId
from strongroom.core.printable import printable
from strongroom.personnel.roster import PersonKind, Roster
from strongroom.release.documents import DocumentKind

Standings = Mapping[PersonId, PersonStanding]
"""Who is vetted how today, as the keeper says it through a server that isn't believed."""
Line = tuple[str, str]
"""A label, and what is said under it. Equal labels follow each other."""

_DAY = 86400
_YEAR = 365 * _DAY
_DOES = {
    Action.SEAL: "make a data key and hand it to the publisher",
    Action.OPEN_IN_ENCLAVE: "open the weights inside an enclave",
    Action.BREAK_GLASS: "open the weights inside an enclave NOW, in an emergency; it is reviewed afterwards",
    Action.EXPORT_PLAINTEXT: "HAND THE DATA KEY TO A PERSON, who can then copy the weights",
    Action.FREEZE: "stop every release of the model",
    Action.RESUME: "allow releases of the frozen model again",
    Action.REVOKE_GRANT: "end another request's grant for good",
    Action.REVOKE_PLATFORM: "never serve these platforms again",
    Action.LIFT: "end a precaution that a responder took: what it held back or had watched goes on as before",
    Action.ROTATE: "give the model a new key-encryption key; its weights and data keys stay",
    Action.DESTROY: "DESTROY THE KEYS OF EVERY VERSION FOR GOOD: nobody can open the model again",
}


def render(payload: bytes, trust: Trust, standing: Standings, *, now: Instant) -> tuple[Line, ...]:
    """Return what a person must see before signing ``payload``.

    :raises MalformedError: the bytes aren't a request.
    :raises DeniedError: no roster or policy is in force.
    """
    request = Request.parse(payload)
    roster, policy = trust.require_documents()
    lines = (
        ("request", str(Digest.of(payload))),
        *_who(request, roster, standing, now),
        *_what(request, policy),
        *_where(request, policy),
        *_limits(request, now),
        *_asked(request, roster, policy, standing, now),
        *_context(request, trust),
    )
    return tuple((label, printable(value)) for label, value in lines)


def as_text(lines: tuple[Line, ...]) -> str:
    """Lay lines out in two columns."""
    width = max((len(label) for label, _ in lines), default=0)
    text = []
    before = ""
    for label, value in lines:
        text.append(f"{'' if label == before else label:<{width}}  {value}")
        before = label
    return "\n".join(text)


def duration(seconds: int) -> str:
    """Write a span of time for a person, in its two largest units: ``3 d 4 h``, ``25 min``."""
    sign, left = ("-", -seconds) if seconds < 0 else ("", seconds)
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    parts = []
    for name, size in units:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {name}")
    return sign + (" ".join(parts[:2]) or "0 s")


def lasting(seconds: int) -> str:
    """Write a long time, rounded down to a tenth of a year (from two on), a day, or an hour (below two days)."""
    if seconds >= 2 * _YEAR:
        unit, name = _YEAR, "years"
    else:
        unit, name = (_DAY, "days") if seconds >= 2 * _DAY else (3600, "hours")
    tenths = seconds * 10 // unit
    return f"{tenths // 10:,}.{tenths % 10} {name}"


def waits_from(action: Action) -> str:
    """Say from when on an action's delay runs."""
    return "its quorum agreed" if action in WAITS_AGREED else "it was recorded"


def vetting_text(known: PersonStanding | None, now: Instant) -> str:
    """Say what a person's vetting is worth now, as the keeper says it."""
    if known is None or known.vetted_until is None:
        return "NO VETTING RECORD"
    until = format_instant(known.vetted_until)
    if known.suspended:
        return f"SUSPENDED, vetting tier {known.tier}"
    if not known.active:
        return f"NOT ACTIVE, vetting tier {known.tier}"
    if now >= known.vetted_until:
        return f"vetting tier {known.tier}, LAPSED on {until}"
    return f"vetting tier {known.tier}, until {until} ({duration(known.vetted_until - now)} left)"


def _who(request: Request, roster: Roster, standing: Standings, now: Instant) -> Iterator[Line]:
    person = next((listed for listed in roster.people if listed.id == request.requester), None)
    if person is None:
        yield "who", f"{request.requester}, NOT IN THE ROSTER"
        return
    kind = "" if person.kind is PersonKind.HUMAN else f", AN AI AGENT on the account of {person.sponsor}"
    yield "who", f"{person.id} of {person.org}, roles {', '.join(sorted(person.roles)) or 'none'}{kind}"
    yield "who", vetting_text(standing.get(person.id), now) if person.active else "NOT ACTIVE"


def _what(request: Request, policy: Policy) -> Iterator[Line]:
    yield "what", f"{request.action.value}: {_DOES[request.action]}"
    level = next((terms.level.value for terms in policy.models if terms.model == request.model), "UNKNOWN LEVEL")
    version = f", version {request.version}" if request.version else ""
    yield "what", f"model {request.model}{version}, {level}"
    if request.manifest:
        yield "what", f"manifest {request.manifest}"
    if request.recipient:
        yield "what", f"to recipient key {request.recipient}"
    if request.target:
        named = "precaution" if request.action is Action.LIFT else "grant of request"
        yield "what", f"{named} {request.target}"
    yield "why", f"{request.purpose.value}, ticket {request.ticket or 'none'}"
    yield "why", f"justification {request.justification or 'none'}"


def _where(request: Request, policy: Policy) -> Iterator[Line]:
    if request.image:
        yield "where", f"image {request.image}"
    if request.measurement:
        yield "where", f"measurement {request.measurement}"
    for platform in request.platforms:
        yield "where", f"platform {platform}"
    if request.action in OPENS:
        terms = next((terms for terms in policy.models if terms.model == request.model), None)
        yield "where", f"isolation at least {terms.least_isolation if terms else 'UNKNOWN'}"
        if terms and terms.weights is Weights.TEST:
            yield "where", "TEST WEIGHTS: simulated evidence will do, and no level is vouched for"


def _limits(request: Request, now: Instant) -> Iterator[Line]:
    span = duration(request.expires - request.not_before)
    yield "how long", f"{format_instant(request.not_before)} to {format_instant(request.expires)} ({span})"
    if now >= request.expires:
        yield "how long", "EXPIRED"
    yield "how often", "once" if request.max_uses == 1 else f"up to {request.max_uses} times"


def _asked(request: Request, roster: Roster, policy: Policy, standing: Standings, now: Instant) -> Iterator[Line]:
    try:
        terms = policy.terms(request.model)
        rule = policy.rule(request.action, terms.level)
    except NoRuleError as error:
        yield "who decides", f"NOBODY CAN: {error.message}"
        return
    if not rule.factors:
        yield "who decides", "nobody else: the rule asks for no approval"
    for factor in rule.factors:
        people = ", ".join(_eligible(factor, rule, request, roster, terms.owner, standing, now))
        yield "who decides", f"{factor.count} x {describe(factor)}: {people or 'NOBODY IN THE ROSTER'}"
    if delay := delay_of(rule, terms.level):
        yield "who decides", f"at the earliest {duration(delay)} after {waits_from(rule.action)}"


def _eligible(
    factor: Factor, rule: Rule, request: Request, roster: Roster, owner: str, standing: Standings, now: Instant
) -> Iterator[str]:
    units = {person.id: person.org for person in roster.people}
    for person in roster.people:
        known = standing.get(person.id)
        if person.id == request.requester or factor.role not in person.roles or person.kind is not PersonKind.HUMAN:
            continue
        unit_fits = {
            Unit.ANY: True,
            Unit.OWNER: bool(owner) and person.org == owner,
            Unit.OTHER: person.org != units.get(request.requester),
        }[factor.unit]
        if unit_fits and person.active and known and known.cleared(now) and known.tier >= rule.approver_tier:
            yield person.id


def _context(request: Request, trust: Trust) -> Iterator[Line]:
    for kind, named in ((DocumentKind.ROSTER, request.roster), (DocumentKind.POLICY, request.policy)):
        in_force = "in force" if trust.digests.get(kind) == named else "NOT IN FORCE"
        yield "made under", f"{kind.value} {named} ({in_force})"
    yield "made under", f"log of {request.log.size} entries, root {request.log.root}"
    here = "this one" if request.genesis == trust.genesis.digest else "ANOTHER ONE"
    yield "made under", f"deployment {request.genesis} ({here})"
    yield "nonce", request.nonce.hex()
