"""Requests: the queue, one request with everything that speaks for and against it, and making a new one.

What is signed is the request's own bytes, shown here and hashed in the browser. An approval from here is the same
object that ``strongroom approve`` makes, checked by the same steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from strongroom.access.policy import NoRuleError
from strongroom.access.request import APPROVAL_TYPE, DENIAL_TYPE, REQUEST_TYPE, Action, Purpose, Request
from strongroom.client import requests as client
from strongroom.client.render import render
from strongroom.client.service import Review
from strongroom.client.told import ListedRequest
from strongroom.console.browser_wallet import ASSERTION_FIELDS, read_assertion
from strongroom.console.door import Draft
from strongroom.console.errors import FormError
from strongroom.console.forms import need_fields
from strongroom.console.signing_in import to_sign
from strongroom.console.taken_away import liftable, liftable_through, one_more_of, told
from strongroom.console.visits import GoTo, Page, Visit, require_signable, signable
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.core.ids import ModelId, image_id, model_id

COUNT: Final = 50
CONTROLS: Final = (
    Action.FREEZE,
    Action.RESUME,
    Action.ROTATE,
    Action.REVOKE_GRANT,
    Action.REVOKE_PLATFORM,
    Action.LIFT,
)
"""Actions that are carried out here once they are allowed. Destruction isn't: it is ordered on the command line."""
ASKED: Final = (Action.OPEN_IN_ENCLAVE, Action.FREEZE, Action.RESUME, Action.ROTATE, Action.LIFT)
"""Actions that can be asked for here."""
MAX_TICKET: Final = 64
_WHY: Final[Mapping[str, Purpose]] = {
    Action.FREEZE.value: Purpose.INCIDENT_RESPONSE,
    Action.RESUME.value: Purpose.MAINTENANCE,
    Action.ROTATE.value: Purpose.MAINTENANCE,
    Action.LIFT.value: Purpose.MAINTENANCE,
}
"""The purpose that a form begins with, as the command's does. What opens weights has none: people choose it."""
_PLAIN: Final = {
    Action.FREEZE: client.ask_to_freeze,
    Action.RESUME: client.ask_to_resume,
    Action.ROTATE: client.ask_to_rotate,
}


def requests(visit: Visit) -> Page:
    """Show the queue, newest first."""
    state = visit.query.get("state", "open")
    if state not in {"open", "all"}:
        raise FormError("requests are `open` or `all`")
    page = visit.session.api.requests_page(state=state, limit=COUNT, cursor=visit.query.get("cursor", ""))
    rows: list[Json] = [
        {
            "digest": str(one.digest),
            "action": one.action,
            "model": one.model,
            "requester": one.requester,
            "created": format_instant(one.created),
            "expires": None if one.expires is None else format_instant(one.expires),
            "approvals": one.approvals,
            "denials": one.denials,
            "needed": _needed(visit, one),
            "one_more": one_more_of(visit.trust, one.requester, one.action, visit.now) is not None,
        }
        for one in page.requests
    ]
    return Page("requests.html", "Requests", {"requests": rows, "state": state, "next": page.next})


def request(visit: Visit) -> Page:
    """Show one request: its bytes, who spoke, how the keeper judges it now, and what this person may do."""
    review = visit.session.review(visit.digest("digest"))
    explanation = visit.session.api.explain(review.digest)
    approved, bad = client.voices(review.file, APPROVAL_TYPE, review.trust)
    denied, also_bad = client.voices(review.file, DENIAL_TYPE, review.trust)
    data: dict[str, Json] = {
        "digest": str(review.digest),
        "hex": review.digest.value.hex(),
        "action": review.request.action.value,
        "model": review.request.model,
        "requester": review.request.requester,
        "expires": format_instant(review.request.expires),
        "one_more": told(one_more_of(review.trust, review.request.requester, review.request.action, visit.now)),
        "open": visit.now < review.request.expires,
        "lines": [[label, text] for label, text in review.lines],
        "approved_by": [*approved],
        "denied_by": [*denied],
        "unverified": bad + also_bad,
        "allowed": explanation.allowed,
        "checks": [
            {"step": one.step, "name": one.name, "passed": one.passed, "found": one.found, "remedy": one.remedy}
            for one in explanation.checks
        ],
        "others": [[reason, remedy] for reason, remedy in explanation.others],
        "grant": None
        if explanation.grant is None
        else {
            "issued": format_instant(explanation.grant.issued),
            "expires": format_instant(explanation.grant.expires),
            "uses": explanation.grant.uses,
            "used": explanation.grant.used,
            "ended": explanation.grant.ended,
        },
        **_may(visit, review, {*approved}, {*denied}, allowed=explanation.allowed),
    }
    return Page("request.html", f"{review.request.action.value} {review.request.model}", data)


def _may(visit: Visit, review: Review, approved: set[str], denied: set[str], *, allowed: bool) -> dict[str, Json]:
    """Return what this person may do with a request, with the bytes to sign; and why not."""
    here = signable(review.trust, review.request.model)
    why_not = ""
    try:
        visit.session.check_approvable(review)
    except StrongroomError as error:
        why_not = error.message
    if not why_not and visit.me.person in approved:
        why_not = "you approved it"
    payload = review.envelope.payload
    control = review.request.action in CONTROLS and allowed and review.request.requester == visit.me.person
    return {
        "signable": here,
        "approve": _signing(visit, APPROVAL_TYPE, payload) if here and not why_not else None,
        "not_approvable": why_not,
        "deny": _signing(visit, DENIAL_TYPE, payload) if here and visit.me.person not in denied else None,
        "carry_out": control,
    }


def _signing(visit: Visit, payload_type: str, payload: bytes) -> Json:
    keys = visit.me.keys.keys
    return to_sign(payload_type, payload, keys[0].key.credential.rp_id, [one.credential_id for one in keys])


def approve(visit: Visit) -> GoTo:
    """Hand in an approval that the person's key signed over the request's bytes."""
    need_fields(visit.form, ASSERTION_FIELDS)
    review = visit.session.review(visit.digest("digest"))
    require_signable(review.trust, review.request.model)
    visit.session.approve_signed(review, read_assertion(visit.form, visit.me.keys, visit.origin))
    return GoTo(f"/requests/{review.digest.value.hex()}")


def deny(visit: Visit) -> GoTo:
    """Hand in a denial that the person's key signed over the request's bytes."""
    need_fields(visit.form, ASSERTION_FIELDS)
    review = visit.session.review(visit.digest("digest"))
    require_signable(review.trust, review.request.model)
    visit.session.deny_signed(review, read_assertion(visit.form, visit.me.keys, visit.origin))
    return GoTo(f"/requests/{review.digest.value.hex()}")


def carry_out(visit: Visit) -> GoTo:
    """Carry out a request that is allowed now."""
    need_fields(visit.form, ())
    digest = visit.digest("digest")
    visit.session.control(digest, *CONTROLS)
    return GoTo(f"/requests/{digest.value.hex()}")


def new(visit: Visit) -> Page:
    """Show the form of a new request."""
    trust = visit.trust
    values = trust.reference_values
    records = client.known_platforms(trust.genesis, visit.session.api.platforms())
    action = visit.query.get("action", Action.OPEN_IN_ENCLAVE.value)
    # Who comes here from an incident acts on it.
    why = Purpose.INCIDENT_RESPONSE if visit.query.get("ticket") else _WHY.get(action)
    data: dict[str, Json] = {
        "actions": [action.value for action in ASKED],
        "action": action,
        "models": [name for name in sorted(trust.models) if signable(trust, name)],
        "model": visit.query.get("model", ""),
        "purposes": [purpose.value for purpose in Purpose],
        "purpose": "" if why is None else why.value,
        "ticket": visit.query.get("ticket", "")[:MAX_TICKET],
        "images": [one.image for one in (values.images if values is not None else ()) if not one.revoked],
        "platforms": [one.platform for one in records],
        "precautions": [told(one) for one in liftable(trust, visit.now)],
        "precaution": visit.query.get("precaution", ""),
    }
    return Page("request-new.html", "New request", data)


def ask(visit: Visit) -> GoTo:
    """Build the request that the form describes, and show it to be signed."""
    need_fields(visit.form, ("action", "model", "purpose", "ticket", "image", "platform", "precaution", "hours"))
    form, trust = visit.form, visit.trust
    if len(form["ticket"]) > MAX_TICKET:
        raise FormError(f"a ticket's name has at most {MAX_TICKET} characters")
    try:
        action, purpose, model = Action(form["action"]), Purpose(form["purpose"]), model_id(form["model"])
    except (ValueError, MalformedError):
        raise FormError("action, purpose and model are chosen from the lists") from None
    require_signable(trust, model)
    asking = client.Asking(
        requester=visit.me.person,
        purpose=purpose,
        ticket=form["ticket"],
        now=visit.now,
        window=_window(form["hours"]),
        justification=None,
        random_bytes=visit.random_bytes,
    )
    made = _made(visit, action, model, asking, form)
    return GoTo(f"/drafts/{visit.me.put_draft(Draft(REQUEST_TYPE, made.to_bytes()))}")


def _made(visit: Visit, action: Action, model: ModelId, asking: client.Asking, form: Mapping[str, str]) -> Request:
    trust = visit.trust
    if action is Action.OPEN_IN_ENCLAVE:
        platforms = visit.session.platform((form["platform"],) if form["platform"] else ())
        return client.ask_to_open(
            trust, asking, model=model, image=image_id(form["image"]), platforms=platforms, uses=1
        )
    if action is Action.LIFT:
        named = next((one for one in liftable(trust, visit.now) if str(one.name) == form["precaution"]), None)
        if named is None:
            raise FormError("precautions are chosen from the list")
        if named not in liftable_through(trust, model, visit.now):
            raise FormError(
                f"that precaution is about {f'`{named.subject}`' if named.subject else 'the whole deployment'}",
                remedy="choose that model" if named.subject else "choose a model of the policy's highest level",
            )
        return client.ask_to_lift(trust, asking, model=model, precaution=named.name)
    if action not in _PLAIN:
        raise FormError("that action is asked for on the command line", remedy="strongroom request create")
    return _PLAIN[action](trust, asking, model=model)


def _window(hours: str) -> int | None:
    if not hours:
        return None
    if not (hours.isascii() and hours.isdigit() and len(hours) <= 4):
        raise FormError("hours are a whole number")
    return int(hours) * 3600


def draft(visit: Visit) -> Page:
    """Show a request that waits for its requester's signature."""
    made = _draft(visit)
    payload = made.to_bytes()
    lines = render(payload, visit.trust, visit.session.standings(), now=visit.now)
    data: dict[str, Json] = {
        "digest": str(Digest.of(payload)),
        "hex": visit.path["digest"],
        "lines": [[label, text] for label, text in lines],
        "sign": _signing(visit, REQUEST_TYPE, payload),
    }
    return Page("draft.html", "Sign the request", data)


def submit(visit: Visit) -> GoTo:
    """Have a signed request recorded; one that needs nobody else is carried out at once."""
    need_fields(visit.form, ASSERTION_FIELDS)
    made = _draft(visit)
    trust = visit.trust
    require_signable(trust, made.model)
    envelope, _recorded = visit.session.submit_signed(
        made, trust, read_assertion(visit.form, visit.me.keys, visit.origin)
    )
    visit.me.drafts.pop(visit.path["digest"], None)
    if made.action in CONTROLS and not visit.session.approvals_needed(made, trust):
        visit.session.control(envelope.digest, made.action)
    return GoTo(f"/requests/{envelope.digest.value.hex()}")


def _draft(visit: Visit) -> Request:
    return Request.parse(visit.me.draft(visit.path["digest"], REQUEST_TYPE))


def _needed(visit: Visit, listed: ListedRequest) -> int | None:
    """Return how many must agree: as the rule says, and one more where a precaution asks for that."""
    policy = visit.trust.policy
    if policy is None:
        return None
    try:
        rule = policy.rule(Action(listed.action), policy.terms(model_id(listed.model)).level)
    except (NoRuleError, ValueError, MalformedError):
        return None
    more = one_more_of(visit.trust, listed.requester, listed.action, visit.now) is not None
    return rule.quorum + (1 if more else 0)
