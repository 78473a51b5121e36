"""Incidents as the responder's desk shows them: for whoever asks it, on the command line or in a browser. Pure.

The desk isn't believed: a record is one chain from its opening, checked here, and it is the record of the incident that
was asked for.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Final, NoReturn, Protocol

from strongroom.core.canonical import Json
from strongroom.core.clock import LATEST, Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.envelope import Envelope
from strongroom.core.errors import NotFoundError, UnavailableError, UsageError
from strongroom.core.fields import Fields
from strongroom.core.ids import incident_name
from strongroom.responder.desk import MAX_LISTED, PAGE, PART, words_name
from strongroom.response.drills import DrillToken, telling
from strongroom.response.entries import IncidentEntry, Phase
from strongroom.response.executor import withheld
from strongroom.response.exposure import answer_name
from strongroom.response.grading import Certainty, Severity
from strongroom.response.incident import MAX_ENTRIES, BrokenRecordError, Incident, fold
from strongroom.response.run import MAX_RUN, Pending, Run, RunStatus
from strongroom.response.subjects import Subject

MAX_REMEMBERED: Final = 2 * MAX_ENTRIES
"""Entries of records that one reader remembers."""
AT_ONCE: Final = 2 * PAGE
"""Entries of a record that one reading takes where the rest may follow: some hundredths of a second of work."""
MAX_BRIEFS: Final = 500
"""Records, read to their ends, of which the little is remembered that a list shows: some twenty entries of each."""
MAX_RUNS: Final = 64
MIN_PREFIX: Final = 4
MAX_KEPT: Final = 1 << 20


class StillReadingError(UnavailableError):
    """A record is longer than one reading takes; it is read on, and is there in a moment."""

    code = "record-being-read"


class AskDesk(Protocol):
    """Asks the responder's desk something; see :mod:`strongroom.responder.desk` for what it answers.

    :raises UnavailableError: it doesn't answer. :raises StrongroomError: what it refused with.
    """

    def __call__(self, operation: str, /, **members: Json) -> Fields:
        """Ask."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An incident in the desk's list: the responder's word, until its record is read."""

    incident: str
    subject: str
    severity: Severity
    phase: Phase
    certainty: Certainty
    opened: Instant
    rule: str
    alerts: int
    drill: Digest | None
    entries: int
    running: bool

    @classmethod
    def read(cls, fields: Fields) -> Listed:
        """Read one row.

        :raises MalformedError: another form.
        """
        return cls(
            incident=fields.parsed("incident", incident_name),
            subject=str(fields.parsed("subject", Subject.parse)),
            severity=fields.parsed("severity", Severity),
            phase=fields.parsed("phase", Phase),
            certainty=fields.parsed("certainty", Certainty),
            opened=fields.integer("opened", most=LATEST),
            rule=fields.text("rule", max_length=96),
            alerts=fields.integer("alerts"),
            drill=fields.digest("drill") if fields.optional("drill") else None,
            entries=fields.integer("entries"),
            running=fields.boolean("running"),
        )

    @property
    def is_open(self) -> bool:
        """Whether it isn't closed."""
        return self.phase is not Phase.CLOSED

    def to_json(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {
            "incident": self.incident,
            "subject": self.subject,
            "severity": self.severity.value,
            "phase": self.phase.value,
            "certainty": self.certainty.value,
            "opened": format_instant(self.opened),
            "rule": self.rule,
            "alerts": self.alerts,
            "drill": None if self.drill is None else str(self.drill),
            "entries": self.entries,
            "running": self.running,
        }


class Waits(StrEnum):
    """What something that is open waits for."""

    ANSWER = "answer"
    """A person's answer to a question."""
    PEOPLE = "people"
    """The agreement of people to a command."""
    UNDER_WAY = "under way"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Something that is open in a run."""

    how: Waits
    pending: Pending
    run: Run


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An incident as the responder shows it; its entries are one chain, checked here."""

    incident: Incident
    entries: tuple[IncidentEntry, ...]
    runs: Mapping[str, Run]
    token: DrillToken | None
    held: bool

    @property
    def waits(self) -> tuple[Wait, ...]:
        """Everything that is open: commands, and what people are asked."""
        found = []
        for run in self.runs.values():
            held = {one.key for one in withheld(run)}
            for one in run.pending if run.status is RunStatus.RUNNING else ():
                asked = Waits.ANSWER if one.action is None else Waits.UNDER_WAY
                found.append(Wait(how=Waits.PEOPLE if one.key in held else asked, pending=one, run=run))
        return tuple(found)

    def find(self, text: str) -> Pending:
        """Return what waits: named by the beginning of its key, by its action, or by some words of its question.

        :raises NotFoundError: nothing. :raises UsageError: several, or too little text.
        """
        if len(text.strip()) < MIN_PREFIX:
            # An empty variable in a script mustn't agree to whatever happens to wait alone.
            raise UsageError(f"give at least {MIN_PREFIX} characters of a key, an action or a question")
        waiting = (one.pending for one in self.waits)
        found = [one for one in waiting if one.key.startswith(text) or text in (one.action or one.text)]
        if not found:
            raise NotFoundError("nothing like that waits", remedy="see what does: strongroom incident show")
        if len(found) > 1:
            raise UsageError(f"{len(found)} things like that wait", remedy="give a key: strongroom incident show")
        return found[0]


@dataclass(frozen=True, kw_only=True)
class Brief:
    """What is remembered of a record that was read to its end, also where all of it would take too much room."""

    size: int
    """How many entries it had."""
    last: Digest
    """The last one's."""
    token: DrillToken | None
    entries: tuple[IncidentEntry, ...]
    """Those that a drill is measured by."""

    def check_continued(self, entries: tuple[IncidentEntry, ...], *, whole: bool) -> None:
        """Check that a record that is read again is the one that was read.

        :param whole: these are all of its entries.
        :raises BrokenRecordError: it isn't.
        """
        same = entries[self.size - 1].digest == self.last if len(entries) >= self.size else not whole
        if not same:
            raise BrokenRecordError("the responder shows another record than it showed before")


@dataclass(frozen=True, kw_only=True)
class _Page:
    entries: tuple[IncidentEntry, ...]
    runs: Mapping[str, Run]
    further: tuple[str, ...]
    """Runs that need a frame each."""
    token: DrillToken | None
    held: bool


def _brief(shown: Shown) -> Brief:
    incident = shown.incident
    return Brief(size=incident.size, last=incident.last, token=shown.token, entries=telling(shown.entries))


def _require_named(name: str, data: bytes) -> None:
    """Check what is kept by its digest."""
    said = Digest.of(data)
    if name.startswith("words-") and name != words_name(said):
        raise BrokenRecordError("the responder shows other words than those that the record names")
    if name.startswith("exposure-") and name != answer_name(said):
        raise BrokenRecordError("the responder shows another answer about exposure than the record names")


def _check_fits(incident: Incident, page: _Page, runs: Mapping[str, Run]) -> None:
    if any(run.incident != incident.id for run in runs.values()):
        raise BrokenRecordError("the responder shows runs of another incident")
    # The token's signature was the responder's to check: here it only says what is practised, and on which stand-ins.
    if page.token is not None and (incident.drill is None or incident.subject not in page.token.subjects):
        raise BrokenRecordError("the responder shows the token of another drill")


class DeskReader:
    """Reads incidents from the responder's desk, and hands in what people sign.

    Records are remembered, as far as they were read: one that grew is read on from there, and one that no longer
    continues what was seen is refused. Of those for which there is no room, a :class:`Brief` is. Many threads may use
    one reader.

    :param seconds: how long reading for one page may take; a desk that answers each question at the last moment would
        hold whoever asks for hours. :param monotonic: tells the time for that.
    :param later: takes an incident's name, and what reads on in its record, where that is longer than one reading takes
        (:data:`AT_ONCE` entries). None: each record is read to its end.
    """

    def __init__(
        self,
        ask: AskDesk,
        *,
        seconds: float = math.inf,
        monotonic: Callable[[], float] = lambda: 0.0,
        later: Callable[[str, Callable[[], bool]], None] | None = None,
    ) -> None:
        self._ask = ask
        self._later = later
        self._seconds = seconds
        self._monotonic = monotonic
        self._read: OrderedDict[str, Shown] = OrderedDict()
        self._briefs: OrderedDict[str, Brief] = OrderedDict()
        self._lock = threading.Lock()

    def incidents(self) -> tuple[tuple[Listed, ...], Mapping[str, str]]:
        """Return the incidents, and those whose records can't be read, each with the code of why.

        Open ones come first, and the newest first among them.

        :raises MalformedError: the desk says something else.
        """
        with self._ask("incidents") as fields:
            listed = fields.objects("incidents", Listed.read, most=MAX_LISTED)
            with fields.child("broken") as child:
                broken = {name: child.text(name) for name in child.names(most=MAX_LISTED)}
        return listed, broken

    def find(self, text: str) -> str:
        """Return the id of the incident that begins so; the only one, whole or by a few characters.

        :raises NotFoundError: none. :raises UsageError: several, or too little text.
        """
        wanted = text if text.startswith("inc-") else f"inc-{text}"
        if len(wanted) < len("inc-") + MIN_PREFIX:
            raise UsageError(f"give at least {MIN_PREFIX} characters of the incident's id")
        listed, _broken = self.incidents()
        found = [row.incident for row in listed if row.incident.startswith(wanted)]
        if not found:
            raise NotFoundError("no incident's id begins like that", remedy="list them: strongroom incident ls")
        if len(found) > 1:
            raise UsageError(f"{len(found)} incidents' ids begin like that", remedy="give more characters")
        return found[0]

    def until(self) -> float:
        """Return when what is read from now on for one page has to be read."""
        return self._monotonic() + self._seconds

    def read(self, name: str, *, until: float | None = None) -> Shown:
        """Return an incident by its whole id, read page by page and checked to be one chain.

        :param until: when it has to be read; None: it is all that is read.
        :raises UnavailableError: the responder doesn't answer, or takes too long.
        :raises StillReadingError: its record is longer than what is read at once, and is read on.
        :raises NotFoundError: there is no such incident.
        :raises BrokenRecordError: the responder shows something else, or not what it showed before.
        """
        with self._lock:
            known, brief = self._read.get(name), self._briefs.get(name)
        incident, entries = (None, ()) if known is None else (known.incident, known.entries)
        begun, ends = len(entries), self.until() if until is None else until
        while True:
            self._hurry(ends)
            page = self._page(name, len(entries))
            # Refused by the record's own rules, also when it has no end.
            incident = fold(page.entries, before=incident)
            if incident.id != name:
                # Else a responder that lies could have somebody sign for an incident that they didn't ask for.
                raise BrokenRecordError(f"the responder shows another incident than `{name}`")
            entries += page.entries
            if brief is not None:
                brief.check_continued(entries, whole=len(page.entries) < PAGE)
            if len(page.entries) < PAGE:
                break
            if self._later is not None and len(entries) - begun >= AT_ONCE:
                self._put_off(incident, entries, page)
        runs = dict(page.runs)
        for one in page.further:
            self._hurry(ends)
            runs[one] = self._run(name, one)
        _check_fits(incident, page, runs)
        shown = Shown(incident=incident, entries=entries, runs=runs, token=page.token, held=page.held)
        self._remember(name, shown)
        self._remember_brief(name, shown)
        return shown

    def put_off(self, listed: Listed, room: int) -> bool:
        """Have a record read on beside, if more of it is new than there is room for; false: read it here.

        :param room: entries. A page of many incidents reads no more of all of them together than of one.
        """
        if self._later is None or self.new(listed) <= room:
            return False
        self._later(listed.incident, partial(self._read_on, listed.incident))
        return True

    def new(self, listed: Listed) -> int:
        """Return how many entries a record has, by the list, that aren't read yet."""
        brief = self.known(listed)
        return 0 if brief is not None and brief.size >= listed.entries else listed.entries - self.far(listed)

    def far(self, listed: Listed) -> int:
        """Return how many entries of a record, of those that the list told of, are read and remembered."""
        with self._lock:
            known = self._read.get(listed.incident)
        return 0 if known is None else min(listed.entries, known.incident.size)

    def known(self, listed: Listed) -> Brief | None:
        """Return what is remembered of a record since it was read to its end; it may have grown since."""
        with self._lock:
            return self._briefs.get(listed.incident)

    def _put_off(self, incident: Incident, entries: tuple[IncidentEntry, ...], page: _Page) -> NoReturn:
        """Remember a record as far as it was read, and have it read on."""
        _check_fits(incident, page, {})
        far = Shown(incident=incident, entries=entries, runs={}, token=page.token, held=page.held)
        self._remember(incident.id, far)
        if self._later is not None:
            self._later(incident.id, partial(self._read_on, incident.id))
        raise StillReadingError(
            f"{len(entries)} entries of the record of `{incident.id}` are read and checked, and it goes on",
            remedy="load the page again in a few seconds: it is read on meanwhile",
        )

    def _read_on(self, name: str) -> bool:
        """Read some more of a record; never more is left to whoever asked: it is put off again here."""
        with contextlib.suppress(StillReadingError):
            self.read(name)
        return False

    def brief(self, listed: Listed, *, until: float) -> Brief:
        """Return what a record comes to that has all entries that the list told of; it is read where it grew.

        :raises StrongroomError: as :meth:`read`.
        """
        known = self.known(listed)
        if known is None or known.size < listed.entries:
            known = _brief(self.read(listed.incident, until=until))
        return known

    def _page(self, name: str, after: int) -> _Page:
        with self._ask("incident", incident=name, after=after) as fields:
            page = fields.texts("entries", most=PAGE, max_length=16384)
            with fields.child("runs") as child:
                runs = {one: Run.parse(child.binary(one, max_length=MAX_RUN)) for one in child.names(most=MAX_RUNS)}
            drill = fields.binary("drill", max_length=16384) if fields.optional("drill") else None
            return _Page(
                entries=tuple(IncidentEntry.parse(from_base64(one)) for one in page),
                runs=runs,
                further=fields.texts("further", most=MAX_RUNS, max_length=64),
                token=None if drill is None else DrillToken.parse(drill),
                held=fields.boolean("held"),
            )

    def _run(self, incident: str, name: str) -> Run:
        with self._ask("run", incident=incident, name=name) as fields:
            return Run.parse(fields.binary("run", max_length=MAX_RUN))

    def _hurry(self, ends: float) -> None:
        if self._monotonic() > ends:
            raise UnavailableError("the responder takes too long", remedy="see how its host does")

    def kept(self, incident: str, name: str) -> bytes:
        """Return evidence, a draft, an answer or words that the responder keeps.

        :raises NotFoundError: nothing is kept under that name. :raises UnavailableError: it takes too long.
        :raises BrokenRecordError: the responder shows something else than what a digest names.
        """
        data, ends = bytearray(), self.until()
        while True:
            self._hurry(ends)
            with self._ask("kept", incident=incident, name=name, after=len(data)) as fields:
                part, size = fields.binary("data", max_length=PART), fields.integer("size", most=MAX_KEPT)
            data += part
            if len(data) == size:
                _require_named(name, bytes(data))
                return bytes(data)
            if not part or len(data) > size:
                raise BrokenRecordError("the responder shows something kept in parts that don't fit each other")

    def answer(self, incident: str, answer: Digest) -> bytes | None:
        """Return an answer about exposure, by its digest; None where it isn't kept.

        :raises BrokenRecordError: the responder shows another one.
        """
        try:
            return self.kept(incident, answer_name(answer))
        except NotFoundError:
            return None

    def hand_in_answer(self, incident: str, data: bytes) -> None:
        """Have an answer about exposure kept that the incident's record names.

        :raises StrongroomError: it isn't kept.
        """
        named, at = str(Digest.of(data)), 0
        while at < len(data):
            part = data[at : at + PART]
            self._ask("answer", incident=incident, answer=named, after=at, size=len(data), part=to_base64(part)).end()
            at += len(part)

    def words(self, incident: str, digest: Digest) -> bytes:
        """Return what a person wrote, by its digest.

        :raises NotFoundError: it isn't kept. :raises BrokenRecordError: the responder shows other words.
        """
        return self.kept(incident, words_name(digest))

    def hand_in(self, act: Envelope) -> int:
        """Hand in what a person signed; returns how many entries the record has then.

        :raises StrongroomError: it wasn't taken.
        """
        with self._ask("act", envelope=act.to_json()) as fields:
            return fields.integer("entries")

    def hold_drill(self, token: Envelope) -> None:
        """Have the responder hold the drill of a signed token: its incident opens when a rule alerts.

        :raises StrongroomError: it isn't held.
        """
        self._ask("drill", envelope=token.to_json()).end()

    def _remember_brief(self, name: str, shown: Shown) -> None:
        brief = _brief(shown)
        with self._lock:
            before = self._briefs.get(name)
            if before is None or before.size <= brief.size:
                self._briefs[name] = brief
            self._briefs.move_to_end(name)
            while len(self._briefs) > MAX_BRIEFS:
                self._briefs.popitem(last=False)

    def _remember(self, name: str, shown: Shown) -> None:
        with self._lock:
            before = self._read.get(name)
            # Two may have read at once: the longer reading stays.
            if before is None or before.incident.size <= shown.incident.size:
                # Without its runs, which nothing here counts: each may be as long as a frame.
                self._read[name] = replace(shown, runs={})
            self._read.move_to_end(name)
            while len(self._read) > 1 and sum(one.incident.size for one in self._read.values()) > MAX_REMEMBERED:
                self._read.popitem(last=False)
