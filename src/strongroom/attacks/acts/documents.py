"""Who wants other rules: one root holder, a stranger, an old version, another deployment's, another form."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from strongroom.access.policy import POLICY_TYPE, Policy
from strongroom.access.request import REQUEST_TYPE, Action
from strongroom.attacks.attack import attack
from strongroom.attacks.lab.cast import STRANGER
from strongroom.attacks.lab.scratch import Scratch
from strongroom.attacks.layers import Layer
from strongroom.attacks.trial import Trial
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, Signature, sign
from strongroom.core.ids import PersonId
from strongroom.personnel.roster import ROSTER_TYPE

ANYTHING: Final = '@id("everything")\npermit (principal, action, resource);\n'


def _next_policy(scratch: Scratch, **members: object) -> Policy:
    before = scratch.policy
    told: dict[str, object] = {"epoch": before.epoch + 1, "predecessor": Digest.of(before.to_bytes())}
    return replace(before, **(told | members))  # type: ignore[arg-type]  # names of its own


def _loosened(scratch: Scratch) -> Policy:
    """Return a next policy in which nobody needs to agree to anything but what always takes two."""
    rules = tuple(
        replace(rule, factors=()) if rule.action is Action.OPEN_IN_ENCLAVE else rule for rule in scratch.policy.rules
    )
    return _next_policy(scratch, rules=rules)


def _change_works(trial: Trial) -> None:
    """Have the root quorum adopt the same policy anew, as the next epoch."""
    scratch = trial.scratch
    with trial.honest("a next policy that two root holders signed is adopted"):
        made = _next_policy(scratch)
        scratch.adopt("policy", sign(POLICY_TYPE, made.to_bytes(), *scratch.cast.roots()))
        scratch.policy = made


@attack(
    vectors="HUM-5 HUM-2 BYP-1",
    capacity="OC3",
    measures="SL4-WMO-01 SL3-WAC-01",
    layer=Layer.DOCUMENTS,
    refusals="bad-signature",
)
def one_root_holder_loosens_the_policy(trial: Trial) -> None:
    """An executive who holds one root key lifts the quorum for opening a model."""
    _change_works(trial)
    scratch = trial.scratch
    envelope = sign(POLICY_TYPE, _loosened(scratch).to_bytes(), *scratch.cast.roots(1))
    trial.attempt("one root signature", lambda: scratch.adopt("policy", envelope))


@attack(
    vectors="HUM-5 CEC-4",
    capacity="OC3",
    measures="SL4-WMO-01",
    layer=Layer.DOCUMENTS,
    refusals="bad-signature",
)
def one_root_holder_signs_twice(trial: Trial) -> None:
    """One root key's signature stands twice under a loosened policy, then beside a stranger's."""
    _change_works(trial)
    scratch = trial.scratch
    once = sign(POLICY_TYPE, _loosened(scratch).to_bytes(), *scratch.cast.roots(1))
    twice = Envelope(once.kind, once.payload, (once.signatures[0], once.signatures[0]))
    trial.attempt("one signature, two times", lambda: scratch.adopt("policy", twice))
    stranger = once.signed_by(scratch.cast.signer(STRANGER))
    trial.attempt("beside a stranger's", lambda: scratch.adopt("policy", stranger))


@attack(
    vectors="ACS-1 CEC-4",
    capacity="OC3",
    measures="SL4-WMO-01",
    layer=Layer.DOCUMENTS,
    refusals="bad-signature",
)
def root_signature_forged(trial: Trial) -> None:
    """A second root holder's signature is made up under a policy that one signed."""
    _change_works(trial)
    scratch = trial.scratch
    once = sign(POLICY_TYPE, _loosened(scratch).to_bytes(), *scratch.cast.roots(1))
    name = scratch.cast.roots()[1].public_key.key_id
    forged = Envelope(once.kind, once.payload, (*once.signatures, Signature(name, bytes(64))))
    trial.attempt("64 zero bytes", lambda: scratch.adopt("policy", forged))


@attack(
    vectors="BYP-1 HUM-5",
    capacity="OC3",
    measures="SL4-WMO-01 SL2-WAC-01",
    layer=Layer.DOCUMENTS,
    refusals="policy-unsafe",
)
def cedar_that_permits_everything(trial: Trial) -> None:
    """Two root holders sign, by mistake or in concert, Cedar text that permits everything."""
    _change_works(trial)
    scratch = trial.scratch
    open_door = _next_policy(scratch, cedar=ANYTHING)
    envelope = sign(POLICY_TYPE, open_door.to_bytes(), *scratch.cast.roots())
    trial.attempt("`permit (principal, action, resource)`", lambda: scratch.adopt("policy", envelope))


@attack(
    vectors="BYP-1 CEC-4",
    capacity="OC3",
    measures="SL2-WMO-01",
    layer=Layer.DOCUMENTS,
    refusals="stale-document",
)
def older_policy_comes_back(trial: Trial) -> None:
    """A policy that was in force once, genuinely signed, is handed in again; and one that skips an epoch."""
    scratch = trial.scratch
    old = sign(POLICY_TYPE, _loosened(scratch).to_bytes(), *scratch.cast.roots())
    _change_works(trial)
    trial.attempt("signed for an epoch that is taken", lambda: scratch.adopt("policy", old))
    skipping = _next_policy(scratch, epoch=scratch.policy.epoch + 2)
    envelope = sign(POLICY_TYPE, skipping.to_bytes(), *scratch.cast.roots())
    trial.attempt("an epoch ahead", lambda: scratch.adopt("policy", envelope))


@attack(
    vectors="CEC-4",
    capacity="OC3",
    measures="SL4-WMO-01",
    layer=Layer.DOCUMENTS,
    refusals="malformed",
)
def policy_of_another_deployment(trial: Trial) -> None:
    """A policy that the same root holders signed for another deployment is handed in here."""
    _change_works(trial)
    scratch = trial.scratch
    foreign = _next_policy(scratch, genesis=Digest.of(b"another deployment"))
    envelope = sign(POLICY_TYPE, foreign.to_bytes(), *scratch.cast.roots())
    trial.attempt("their own signatures", lambda: scratch.adopt("policy", envelope))


@attack(
    vectors="CEC-4",
    capacity="OC4",
    measures="SL4-WMO-01 SL3-WAC-01",
    layer=Layer.DOCUMENTS,
    refusals="bad-signature",
)
def roster_with_a_new_approver(trial: Trial) -> None:
    """An administrator adds an approver of their own to the roster, with one root holder's signature."""
    scratch = trial.scratch
    _change_works(trial)
    stranger = replace(
        scratch.roster.people[2],
        id=PersonId("agent-of-theirs"),
        keys=(scratch.cast.signer(STRANGER).public_key,),
    )
    made = replace(
        scratch.roster,
        epoch=scratch.roster.epoch + 1,
        predecessor=Digest.of(scratch.roster.to_bytes()),
        people=(*scratch.roster.people, stranger),
    )
    envelope = sign(ROSTER_TYPE, made.to_bytes(), *scratch.cast.roots(1))
    trial.attempt("one root signature", lambda: scratch.adopt("roster", envelope))


@attack(
    vectors="ACS-1 ACS-3",
    capacity="OC3",
    measures="SL2-WAC-01",
    layer=Layer.DOOR,
    refusals="not-theirs",
)
def signature_of_one_kind_for_another(trial: Trial) -> None:
    """A signature over one kind of document is shown for another kind, and for an older form that never was."""
    scratch = trial.scratch
    with trial.honest("the same bytes are taken as what they were signed for"):
        scratch.ask(Action.ROTATE)
    good = scratch.unsubmitted(Action.FREEZE)
    as_policy = sign(POLICY_TYPE, good.payload, scratch.cast.signer("dana"))
    relabelled = Envelope(REQUEST_TYPE, as_policy.payload, as_policy.signatures)
    trial.attempt("a signature as a policy", lambda: scratch.post("requests", {"request": relabelled.to_json()}))
    older = sign(REQUEST_TYPE.replace("v1", "v0"), good.payload, scratch.cast.signer("dana"))
    older = Envelope(REQUEST_TYPE, older.payload, older.signatures)
    trial.attempt("version 0", lambda: scratch.post("requests", {"request": older.to_json()}))


@attack(
    vectors="ACS-3",
    capacity="OC3",
    measures="SL2-ASD-01 SL3-ART-03",
    layer=Layer.DOCUMENTS,
    refusals="malformed usage",
)
def malformed_input_to_the_keeper(trial: Trial) -> None:
    """Whoever controls the broker feeds the keeper's parser what no honest broker sends; then it must still serve."""
    scratch = trial.scratch
    with trial.honest("the keeper serves"):
        scratch.call("status")
    good = scratch.unsubmitted(Action.FREEZE).to_json()
    assert isinstance(good, dict)  # noqa: S101 - an envelope is an object
    for what, operation, members in (
        ("an operation that isn't there", "release-everything", {}),
        ("a member too many", "submit", {"request": {**good, "admin": True}}),
        ("another type", "submit", {"request": [good]}),
        ("no request", "export", {"dossier": {}}),
        ("a number for a digest", "decision", {"digest": 7}),
        ("half a megabyte of text", "submit", {"request": {**good, "payload": "A" * 500_000}}),
    ):
        trial.attempt(what, lambda o=operation, m=members: scratch.call(o, **m))  # type: ignore[misc]
    scratch.call("status")
