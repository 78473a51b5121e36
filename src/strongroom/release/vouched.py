"""An assessment by what a verified log says of it: nothing in it is believed for its own sake.

1 named    the log holds an entry with its digest, which the retrial found signed by an assessor of the time
2 founded  its findings follow from its observations, its level from its findings
3 placed   the root that it says it read is the log's own, at that size
4 said     each statement that it counts is there, signed by attestors of the roster of the time
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from strongroom.assurance.assessment import Assessment
from strongroom.assurance.statements import ATTESTOR, Attested, verify_statement
from strongroom.audit.entries import Entry
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import TamperedError
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.core.ids import KeyId, PersonId
from strongroom.core.signature import PublicKey
from strongroom.framework.catalogue import Catalogue
from strongroom.personnel.roster import Roster


class AssessmentNotVouchedError(TamperedError):
    """A bundle's assessment isn't the one that the log vouches for, or rests on what isn't there."""

    code = "assessment-not-vouched"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """What the log shows.

    :ivar index: of the entry. ``person``: who had it recorded. ``statements``: how many were verified.
    """

    index: int
    person: PersonId
    statements: int


def names(entry: Entry, assessment: Assessment) -> bool:
    """Tell whether an entry records the assessment."""
    return entry.event is EventName.ASSESSMENT_RECORDED and entry.digest("assessment") == assessment.digest


def vouch(
    assessment: Assessment,
    entry: Entry,
    index: int,
    *,
    roster: Roster | None,
    root: bytes | None,
    statements: Mapping[Digest, Envelope],
    genesis: Genesis,
    catalogue: Catalogue,
) -> Vouched:
    """Check an assessment that an entry names, all of it.

    :param roster: in force at the entry. ``root``: of the log at the size that the assessment names, 32 bytes.
    :param statements: by the digest of what was signed.
    :raises UnfoundedAssessmentError: it says more than its observations carry.
    :raises AssessmentNotVouchedError: the log says otherwise, or a statement isn't there.
    :raises StrongroomError: a statement isn't signed as it has to be.
    """
    held = 0 if assessment.held is None else assessment.held.rank
    if assessment.genesis != genesis.digest:
        raise AssessmentNotVouchedError("the assessment is of another deployment", reason="assessment-elsewhere")
    if (entry.integer("held"), entry.integer("goal")) != (held, assessment.goal.rank):
        raise AssessmentNotVouchedError("the log has another level for this assessment", reason="assessment-level")
    if assessment.log_root is not None and (root is None or assessment.log_root.value != root):
        raise AssessmentNotVouchedError("the assessment read another log than this", reason="assessment-log")
    assessment.check(catalogue)
    if roster is None:
        # Without it nobody's signature is judged, the assessor's as little as an attestor's.
        raise AssessmentNotVouchedError("the roster of that time isn't there", reason="roster-missing")
    attestors = _attestors(roster)
    for counted in assessment.statements:
        _said(counted, statements.get(counted.digest), attestors, genesis, assessment)
    return Vouched(index=index, person=PersonId(entry.text("person")), statements=len(assessment.statements))


def _said(
    counted: Attested,
    envelope: Envelope | None,
    attestors: Mapping[KeyId, tuple[PersonId, PublicKey]],
    genesis: Genesis,
    assessment: Assessment,
) -> None:
    name = counted.statement.measure
    if envelope is None:
        raise AssessmentNotVouchedError(f"the statement on `{name}` isn't there", reason="statement-missing")
    found = verify_statement(envelope, attestors, genesis=genesis.digest, now=assessment.at)
    if found != counted:
        raise AssessmentNotVouchedError(f"the statement on `{name}` says something else", reason="statement-other")


def _attestors(roster: Roster) -> Mapping[KeyId, tuple[PersonId, PublicKey]]:
    return {
        key.key_id: (person.id, key)
        for person in roster.people
        if person.active and ATTESTOR in person.roles
        for key in person.keys
    }
