"""Who may look at incidents in this console, and what of them may be signed here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from strongroom.console.errors import NoPageError, NotByConsoleError, NotShownError
from strongroom.console.visits import HIGHEST, Visit
from strongroom.console.visits import signable as model_signable
from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError, NotFoundError, UnavailableError
from strongroom.core.ids import incident_name, model_id
from strongroom.responder.people import may_see
from strongroom.responder.reading import DeskReader, Shown
from strongroom.response.subjects import Subject, SubjectKind

_NONE: Final = "no incident is called so"


def require_may_see(visit: Visit) -> None:
    """Check that incidents are shown to this person.

    :raises NotShownError: they aren't.
    """
    if not may_see(visit.trust, visit.me.person):
        raise NotShownError(
            "incidents are shown to people who may act in them, and to auditors",
            remedy="ask somebody with the role `responder` what concerns you",
        )


def by_desk(
    visit: Visit, empty: Mapping[str, Json], read: Callable[[Visit, DeskReader], Mapping[str, Json]]
) -> dict[str, Json]:
    """Return the facts of a page that is shown without a responder too: then, or while it is silent, ``empty``.

    :raises NotShownError: incidents aren't shown to this person.
    """
    require_may_see(visit)
    data: dict[str, Json] = {"served": visit.beside.incidents is not None, "why": "", **empty}
    if visit.beside.incidents is not None:
        try:
            data |= read(visit, visit.beside.incidents)
        except UnavailableError as error:
            data["why"] = error.message
    return data


def reader_of(visit: Visit) -> DeskReader:
    """Return what reads incidents for this person.

    :raises NotShownError: they aren't shown to this person. :raises NoPageError: no responder was given.
    """
    require_may_see(visit)
    if visit.beside.incidents is None:
        raise NoPageError("this console was given no responder", remedy="strongroom console serve --responder SOCKET")
    return visit.beside.incidents


def shown_of(visit: Visit) -> Shown:
    """Return the incident that the address names.

    :raises NotShownError: incidents aren't shown to this person. :raises NoPageError: there is no such incident.
    :raises UnavailableError: the responder doesn't answer. :raises BrokenRecordError: it shows something else.
    """
    reader = reader_of(visit)
    try:
        name = incident_name(visit.path["incident"])
    except MalformedError:
        raise NoPageError(_NONE) from None
    try:
        return reader.read(name)
    except NotFoundError:
        raise NoPageError(_NONE) from None


def signable(visit: Visit, subject: Subject) -> bool:
    """Tell whether acts about a subject are signed here: not where a model of SL4 or above may be concerned.

    A drill's stand-in is nobody's model. What isn't about one model may be about each.
    """
    if subject.shadow:
        return True
    if subject.kind is SubjectKind.MODEL:
        try:
            return model_signable(visit.trust, model_id(subject.name))
        except MalformedError:
            return False
    policy = visit.trust.policy
    return policy is not None and all(terms.level.rank <= HIGHEST.rank for terms in policy.models)


def require_signable(visit: Visit, subject: Subject) -> None:
    """Check that acts about a subject are signed here.

    :raises NotByConsoleError: they aren't.
    """
    if not signable(visit, subject):
        raise NotByConsoleError.of(subject)
