"""Who acts in incidents, and who may see them: the one rule, for the responder as for what shows incidents. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from strongroom.access.request import Action
from strongroom.client.trust import Trust
from strongroom.core.ids import PersonId
from strongroom.core.signature import PublicKey
from strongroom.personnel.roster import AUDITOR, PersonKind
from strongroom.release.heartbeat import RESPONDER


def who_may_act(trust: Trust | None) -> Mapping[PersonId, tuple[PublicKey, ...]]:
    """Return the keys of everybody who may act in incidents: responders and approvers of a resume, active people.

    Whoever is suspended is among them: who that is, is the keeper's to say.
    """
    if trust is None or trust.roster is None or trust.policy is None:
        return {}
    roles = {RESPONDER}
    for rule in trust.policy.rules:
        if rule.action is Action.RESUME:
            roles |= {factor.role for factor in rule.factors}
    return {
        one.id: one.keys
        for one in trust.roster.people
        # A detector's own key signs without anybody present: it never counts as a person.
        if one.kind is PersonKind.HUMAN and one.active and roles & one.roles
    }


def may_act(trust: Trust, person: PersonId) -> bool:
    """Tell whether a person may act in incidents now."""
    return person in who_may_act(trust) and person not in trust.suspended


def may_see(trust: Trust, person: PersonId) -> bool:
    """Tell whether incidents are shown to a person: to those who may act in them, and to auditors."""
    if may_act(trust, person):
        return True
    people = () if trust.roster is None else trust.roster.people
    human = (one for one in people if one.id == person and one.kind is PersonKind.HUMAN and one.active)
    auditor = any(AUDITOR in one.roles for one in human)
    return auditor and person not in trust.suspended
