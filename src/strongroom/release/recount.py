"""Before step 5: what the judges allowed is counted again, from signatures, the log and signed records alone. Pure.

The invariants and Cedar both believe the facts that step 4 gathered about people. One fault there would pass both. So
nothing of those facts is believed here: who asked and agreed is read from what they signed and from the log, who is
cleared from the records that officers signed, how much may be asked for from the policy. It asks for less than the
judges do, and never allows what they refuse (RAND SL3-OOP-01: a layer holds even if the others fall).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from strongroom.access.invariants import ALWAYS_TWO, QUORUM_FLOOR
from strongroom.access.policy import NoRuleError, Rule
from strongroom.access.request import APPROVAL_TYPE, REQUEST_TYPE, Action, Request
from strongroom.core.clock import Instant
from strongroom.core.envelope import Envelope, verify
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import PersonId
from strongroom.core.signature import PublicKey
from strongroom.personnel.roster import Person, PersonKind
from strongroom.release.documents import Documents
from strongroom.release.dossier import Dossier
from strongroom.release.ledger import Ledger
from strongroom.release.ledger_parts import Version
from strongroom.release.people import record_in_force
from strongroom.release.steps import ReleaseRefusedError, Step

_KEPT: Final = 1024
_ONLY_STOP: Final = frozenset({"freeze", "revoke-grant", "revoke-platform"})
"""Said once more, and not taken from the judges."""


def require_recounted(
    dossier: Dossier, request: Request, version: Version | None, *, documents: Documents, ledger: Ledger, now: Instant
) -> None:
    """Return when signatures, log and signed records bear out what the judges allowed.

    :param request: what the dossier's request says. ``version``: the one whose key would be opened; None where none is.
    :raises ReleaseRefusedError: they don't; the judges of step 4 failed.
    """
    if documents.policy is None or documents.roster is None:
        raise _refused("no-documents", "no policy or no roster is in force")
    asks = next((person for person in documents.roster.people if person.id == request.requester), None)
    try:
        rule = documents.policy.rule(request.action, documents.policy.terms(request.model).level)
    except NoRuleError as error:
        raise _refused(error.reason, error.message) from None
    _require_bounds(request, rule)
    if asks is None or not _signed(dossier.request, REQUEST_TYPE, asks.keys):
        raise _refused("recount-not-signed", f"`{request.requester}` didn't sign the request")
    if not _cleared(request.requester, documents, ledger, now):
        raise _refused("recount-not-cleared", f"no signed record clears `{request.requester}` now")
    said = ledger.approvals.get(dossier.request.digest, {}).keys() - {request.requester}
    agreed = [
        person
        for person in documents.roster.people
        if person.id in said and _counts(person, dossier) and _cleared(person.id, documents, ledger, now)
    ]
    wanted = people_wanted(request.action, request.requester, rule, ledger, now)
    if len(agreed) < wanted:
        raise _refused("recount-short", f"by the log {len(agreed)} cleared people agreed, of {wanted} that must")
    if request.action is Action.DESTROY and any(
        kind.value == "hold" and subject in {None, request.model} for kind, subject in ledger.precautions.known
    ):
        raise _refused("recount-held", "by the log a hold stands on what would be destroyed")
    if version is not None and (request.version, request.manifest) != (version.version, version.manifest):
        raise _refused("recount-other-version", "people agreed on another version than the one that would be opened")


def people_wanted(action: Action, requester: PersonId, rule: Rule, ledger: Ledger, now: Instant) -> int:
    """Return how many must have agreed, by the rule, the floor and the precautions that the log holds."""
    # Summed here, and not by the rule: the judges' count is what this one stands behind.
    wanted = sum(factor.count for factor in rule.factors)
    if action in ALWAYS_TWO:
        wanted = max(wanted, QUORUM_FLOOR)
    if action.value not in _ONLY_STOP and any(
        kind.value == "approver" and subject == requester and now < (one.until or 0)
        for (kind, subject), one in ledger.precautions.known.items()
    ):
        wanted += 1
    return wanted


def _require_bounds(request: Request, rule: Rule) -> None:
    if request.max_uses > rule.max_uses or request.expires - request.not_before > rule.max_window:
        raise _refused("recount-beyond-rule", "the request asks for more uses, or a longer window, than its rule has")


def _counts(person: Person, dossier: Dossier) -> bool:
    return (
        person.active
        and person.kind is PersonKind.HUMAN
        and any(
            approval.payload == dossier.request.payload and _signed(approval, APPROVAL_TYPE, person.keys)
            for approval in dossier.approvals
        )
    )


def _cleared(person: PersonId, documents: Documents, ledger: Ledger, now: Instant) -> bool:
    record = record_in_force(person, documents, ledger)
    return record is not None and now < record.cleared_until and person not in ledger.suspended


# It depends on bytes and keys alone; a grant of many uses shows the same ones each time.
@lru_cache(maxsize=_KEPT)
def _signed(envelope: Envelope, kind: str, keys: tuple[PublicKey, ...]) -> bool:
    try:
        verify(envelope, kind, keys, threshold=1)
    except StrongroomError:
        return False
    return True


def _refused(reason: str, message: str) -> ReleaseRefusedError:
    return ReleaseRefusedError(
        Step.RECORD, reason, message, remedy="treat this as an incident: the judges of step 4 allowed it"
    )
