"""Step 4.4: may a request be carried out, by the precautions that stand? And may one be taken about somebody? Pure."""

from __future__ import annotations

from strongroom.access.invariants import Reason
from strongroom.access.policy import Policy
from strongroom.access.request import Action, Request
from strongroom.core.clock import Instant
from strongroom.core.ids import ModelId
from strongroom.personnel.roster import Roster
from strongroom.release.ledger import Ledger
from strongroom.release.precaution_ledger import Standing
from strongroom.release.precautions import LIFTED, PrecautionKind
from strongroom.release.statements import StatementRefusedError
from strongroom.release.steps import ReleaseRefusedError, Step


def require_precautions(request: Request, policy: Policy | None, ledger: Ledger, now: Instant) -> None:
    """Refuse a destruction that a hold is against, and to lift what doesn't stand.

    :raises ReleaseRefusedError: one of these.
    """
    if request.action is Action.DESTROY:
        _not_held(request, ledger)
    elif request.action is Action.LIFT:
        _liftable(request, policy, ledger, now)


def require_shares_free(hold: Standing | None) -> None:
    """Refuse to give up a share of an old root key while a hold stands: it opens keys of every model.

    :param hold: one that stands, whichever. :raises StatementRefusedError: one does.
    """
    if hold is not None:
        raise StatementRefusedError(
            "a hold stands: shares of old root keys open old key packages, and are kept",
            reason="share-held",
            remedy=f"have people lift it first: strongroom precaution lift {hold.name}",
        )


def subject_known(kind: PrecautionKind, subject: str | None, roster: Roster, policy: Policy | None) -> bool:
    """Tell whether the documents in force know whom a precaution is about; else the ledger would grow by any name."""
    if kind is PrecautionKind.APPROVER:
        return any(person.id == subject for person in roster.people)
    models = policy.models if policy else ()
    return subject is None or any(terms.model == subject for terms in models)


def _not_held(request: Request, ledger: Ledger) -> None:
    hold = ledger.precautions.hold(request.model)
    if hold is not None:
        raise ReleaseRefusedError(
            Step.STANDING,
            Reason.HELD.value,
            f"a hold stands: nothing of {f'`{hold.subject}`' if hold.subject else 'this deployment'} is destroyed",
            remedy=f"have people lift it first: strongroom precaution lift {hold.name}",
        )


def _liftable(request: Request, policy: Policy | None, ledger: Ledger, now: Instant) -> None:
    found = None if request.target is None else ledger.precautions.named(request.target, now)
    if found is None or found.kind not in LIFTED or policy is None:
        raise ReleaseRefusedError(
            Step.STANDING,
            "no-such-precaution",
            "no precaution of this name stands that people lift",
            remedy="see what stands: strongroom precaution ls",
        )
    if not lifted_through(found, request.model, policy):
        raise ReleaseRefusedError(
            Step.STANDING,
            "precaution-of-another",
            f"the precaution is about {f'`{found.subject}`' if found.subject else 'the whole deployment'}",
            remedy="ask about that model" if found.subject else f"name a model at {policy.level.value}",
        )


def lifted_through(found: Standing, model: ModelId, policy: Policy) -> bool:
    """Tell whether a request about a model may lift a precaution: one of its own, or one on everything.

    :raises NoRuleError: the policy doesn't name the model.
    """
    if found.subject is not None:
        return found.subject == model
    # A hold on everything is lifted by those who may lift one on the most guarded model, not on the least.
    return policy.terms(model).level is policy.level
