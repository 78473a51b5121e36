"""A request as a person reads it, made from its own bytes. Every member is shown: what isn't shown isn't agreed to."""

from __future__ import annotations

from collections.abc import Iterator

from strongroom.access.policy import Factor, NoRuleError, Policy, Rule
from strongroom.access.request import Action, Request
from strongroom.client.trust import Trust
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.personnel.roster import Person, Roster
from strongroom.release.documents import DocumentKind

Line = tuple[str, str]
"""A label, and what is said under it. Equal labels follow each other."""

_DOES = {
    Action.SEAL: "make a data key and hand it to the publisher",
    Action.OPEN_IN_ENCLAVE: "open the weights inside an enclave",
    Action.FREEZE: "stop every release of the model",
    Action.RESUME: "allow releases of the frozen model again",
    Action.REVOKE_GRANT: "end another request's grant for good",
    Action.REVOKE_PLATFORM: "never serve these platforms again",
}


def render(payload: bytes, trust: Trust, *, now: Instant) -> tuple[Line, ...]:
    """Return what a person must see before signing ``payload``.

    :raises MalformedError: the bytes aren't a request.
    :raises DeniedError: no roster or policy is in force.
    """
    request = Request.parse(payload)
    roster, policy = trust.require_documents()
    lines = (
        ("request", str(Digest.of(payload))),
        *_who(request, roster, now),
        *_what(request, policy),
        *_where(request, policy),
        *_limits(request, now),
        *_asked(request, roster, policy, now),
        *_context(request, trust),
    )
    return tuple((label, printable(value)) for label, value in lines)


def printable(text: str) -> str:
    """Escape what a terminal would act on or hide: control characters, and marks that reverse the order of text."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


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


def vetting_text(person: Person, now: Instant) -> str:
    """Say what a person's vetting is worth now."""
    until = format_instant(person.vetting.valid_until)
    if not person.active:
        return f"NOT ACTIVE, vetting tier {person.vetting.tier}"
    if not person.vetting.current(now):
        return f"vetting tier {person.vetting.tier}, LAPSED on {until}"
    return f"vetting tier {person.vetting.tier}, until {until} ({duration(person.vetting.valid_until - now)} left)"


def _who(request: Request, roster: Roster, now: Instant) -> Iterator[Line]:
    person = next((listed for listed in roster.people if listed.id == request.requester), None)
    if person is None:
        yield "who", f"{request.requester}, NOT IN THE ROSTER"
        return
    yield "who", f"{person.id} of {person.org}, roles {', '.join(sorted(person.roles)) or 'none'}"
    yield "who", vetting_text(person, now)


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
        yield "what", f"grant of request {request.target}"
    yield "why", f"{request.purpose.value}, ticket {request.ticket or 'none'}"
    yield "why", f"justification {request.justification or 'none'}"


def _where(request: Request, policy: Policy) -> Iterator[Line]:
    if request.image:
        yield "where", f"image {request.image}"
    if request.measurement:
        yield "where", f"measurement {request.measurement}"
    for platform in request.platforms:
        yield "where", f"platform {platform}"
    if request.action is Action.OPEN_IN_ENCLAVE:
        terms = next((terms for terms in policy.models if terms.model == request.model), None)
        yield "where", f"isolation at least {terms.least_isolation if terms else 'UNKNOWN'}"


def _limits(request: Request, now: Instant) -> Iterator[Line]:
    span = duration(request.expires - request.not_before)
    yield "how long", f"{format_instant(request.not_before)} to {format_instant(request.expires)} ({span})"
    if now >= request.expires:
        yield "how long", "EXPIRED"
    yield "how often", "once" if request.max_uses == 1 else f"up to {request.max_uses} times"


def _asked(request: Request, roster: Roster, policy: Policy, now: Instant) -> Iterator[Line]:
    try:
        rule = policy.rule(request.action, policy.terms(request.model).level)
    except NoRuleError as error:
        yield "who decides", f"NOBODY CAN: {error.message}"
        return
    if not rule.factors:
        yield "who decides", "nobody else: the rule asks for no approval"
    for factor in rule.factors:
        people = ", ".join(_eligible(factor, rule, request, roster, now)) or "NOBODY IN THE ROSTER"
        yield "who decides", f"{factor.count} with role {factor.role}: {people}"


def _eligible(factor: Factor, rule: Rule, request: Request, roster: Roster, now: Instant) -> list[str]:
    return [
        person.id
        for person in roster.people
        if factor.role in person.roles
        and person.active
        and person.vetting.current(now)
        and person.vetting.tier >= rule.approver_tier
        and person.id != request.requester
    ]


def _context(request: Request, trust: Trust) -> Iterator[Line]:
    for kind, named in ((DocumentKind.ROSTER, request.roster), (DocumentKind.POLICY, request.policy)):
        in_force = "in force" if trust.digests.get(kind) == named else "NOT IN FORCE"
        yield "made under", f"{kind.value} {named} ({in_force})"
    yield "made under", f"log of {request.log.size} entries, root {request.log.root}"
    here = "this one" if request.genesis == trust.genesis.digest else "ANOTHER ONE"
    yield "made under", f"deployment {request.genesis} ({here})"
    yield "nonce", request.nonce.hex()
