"""Where people speak to the responder: what incidents there are, and what they do in them.

incidents     {}                       -> {incidents, broken}     as many as a frame holds
incident      {incident, after}        -> {entries, runs, further, drill, held}   up to 500 entries from number `after`
                                          on; with the last ones its runs, and the names of those that need a frame each
run           {incident, name}         -> {run}                   one of those
kept          {incident, name, after}  -> {data, size}            evidence, a draft, or words by their digest: half a
                                          MiB of it from byte `after` on, and how long all of it is
act           {envelope}               -> {entries}               what a person signed; how many entries there are now
answer        {incident, answer, after, size, part} -> {}         some bytes of an answer about exposure that the record
                                          names by its digest; kept once all of them are there
drill         {envelope}               -> {}                      a drill's token, signed by who may act in incidents

Who may knock is the kernel's word; what is done is the word of whoever signed it. Nothing here trusts a name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import Final

from strongroom.core.canonical import Json, encode
from strongroom.core.clock import Clock
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope
from strongroom.core.errors import ConflictError, NotFoundError
from strongroom.core.fields import Fields
from strongroom.ipc.frames import Call
from strongroom.responder.answers import Answers
from strongroom.responder.cases import MAX_ACTS, Case, regrade
from strongroom.responder.responding import Responding
from strongroom.response.acts import ACT_KNOWN, Act, ActKind, ActRefusedError, open_act, said_of
from strongroom.response.entries import Happened
from strongroom.response.executor import Answer, RunError, agree, answer
from strongroom.response.exposure import MAX_EXPOSURE
from strongroom.response.incident import Incident
from strongroom.response.run import Outcome, Pending, Run

PAGE: Final = 500
PART: Final = 1 << 19
"""Bytes of something kept, or to be kept, in one frame."""
MAX_LISTED: Final = 2000
LIST_ROOM: Final = 900_000
"""Bytes of a list of incidents."""
RUNS_ROOM: Final = 400_000
"""Characters of runs beside a page of entries: 500 of the longest take 514,000."""
MAX_OF_ONE: Final = 1024
"""Entries of one person in one incident: whoever fills it with notes leaves room for what others decide there."""
_ENTRIES: Final = {
    ActKind.TAKE: Happened.ROLE_TAKEN,
    ActKind.MOVE: Happened.PHASE_CHANGED,
    ActKind.GRADE: Happened.SEVERITY_CHANGED,
    ActKind.START: Happened.CLOCK_STARTED,
    ActKind.STOP: Happened.CLOCK_STOPPED,
    ActKind.EXPOSE: Happened.EXPOSURE_READ,
}
"""Acts whose facts are the entry's own."""
_WORDS: Final = {
    ActKind.NOTE: (Happened.NOTE_ADDED, "note"),
    ActKind.DRAFT: (Happened.REPORT_DRAFTED, "report"),
    ActKind.SENT: (Happened.REPORT_SENT, "report"),
    ActKind.CLOSE: (Happened.CLOSED, "lessons"),
}
"""Acts with words: what they become, and the fact that names the words' digest."""


class Desk:
    """Answers people.

    :param refresh: looks again at who is in the roster, and who is suspended; an act waits for it, and a drill too.
    :param hold: holds the drill of a token; raises as :meth:`strongroom.responder.drilling.Drills.hold` does.
    """

    def __init__(
        self,
        responding: Responding,
        clock: Clock,
        refresh: Callable[[], Awaitable[object]],
        hold: Callable[[Envelope], None],
    ) -> None:
        self._responding = responding
        self._clock = clock
        self._refresh = refresh
        self._hold = hold
        self._answers = Answers()
        self._taking: set[asyncio.Task[None]] = set()
        self._serves = {
            "incidents": self._incidents,
            "incident": self._incident,
            "run": self._run,
            "kept": self._kept,
            "act": self._act,
            "answer": self._answer,
            "drill": self._drill,
        }

    async def serve(self, call: Call, _uid: int) -> dict[str, Json]:
        """Answer one call.

        :raises StrongroomError: it isn't answered; nothing was done.
        """
        serves = self._serves.get(call.operation)
        if serves is None:
            raise NotFoundError(f"the responder has no operation `{call.operation}`")
        return await serves(call.fields)

    async def _incidents(self, fields: Fields) -> dict[str, Json]:
        fields.end()
        # Open ones first: however many closed ones there are, the list never leaves out what goes on for them.
        cases = sorted(
            self._responding.cases.values(),
            key=lambda case: (not case.incident.is_open, -case.incident.opened, case.id),
        )
        listed = _fitting((row(case.incident, running=case.running) for case in cases), LIST_ROOM * 3 // 4)
        broken = [*self._responding.broken.items()]
        shown = len(_fitting(([name, why] for name, why in broken), LIST_ROOM // 4))
        return {"incidents": listed, "broken": dict[str, Json](broken[:shown])}

    async def _incident(self, fields: Fields) -> dict[str, Json]:
        case = self._case(fields.text("incident", max_length=64))
        after = fields.integer("after")
        fields.end()
        page = case.entries[after : after + PAGE]
        runs: dict[str, Json] = {}
        further: list[Json] = []
        room = RUNS_ROOM
        # Whoever reads on gets them with the end.
        for name, run in case.runs.items() if len(page) < PAGE else ():
            text = to_base64(run.to_bytes())
            if len(text) > room:
                further.append(name)
            else:
                runs[name], room = text, room - len(text)
        return {
            "entries": [to_base64(entry.to_bytes()) for entry in page],
            "runs": runs,
            "further": further,
            "drill": None if case.token is None else to_base64(case.token.to_bytes()),
            "held": case.held,
        }

    async def _run(self, fields: Fields) -> dict[str, Json]:
        case, name = self._case(fields.text("incident", max_length=64)), fields.text("name", max_length=64)
        fields.end()
        run = case.runs.get(name)
        if run is None:
            raise NotFoundError("the incident has no such run")
        return {"run": to_base64(run.to_bytes())}

    async def _kept(self, fields: Fields) -> dict[str, Json]:
        case, name = self._case(fields.text("incident", max_length=64)), fields.text("name", max_length=160)
        after = fields.integer("after")
        fields.end()
        data = await case.kept(name)
        if data is None:
            raise NotFoundError("nothing is kept under that name")
        return {"data": to_base64(data[after : after + PART]), "size": len(data)}

    async def _answer(self, fields: Fields) -> dict[str, Json]:
        case, answer = self._case(fields.text("incident", max_length=64)), fields.digest("answer")
        after, size = fields.integer("after"), fields.integer("size", least=1, most=MAX_EXPOSURE)
        part = fields.binary("part", max_length=PART)
        fields.end()
        await self._answers.take(case, answer, part, after=after, size=size)
        return {}

    async def _act(self, fields: Fields) -> dict[str, Json]:
        envelope = await self._signed(fields)
        deployment = self._responding.deployment
        act = open_act(envelope, deployment.keys, genesis=deployment.genesis, now=self._clock.now())
        case = self._case(act.incident)
        taking = asyncio.create_task(self._take(case, act, envelope))
        self._taking.add(taking)
        taking.add_done_callback(self._taking.discard)
        # Whoever asked may leave. An entry that is on the disk and isn't known here would get another of its number.
        await asyncio.shield(taking)
        return {"entries": case.incident.size}

    async def _drill(self, fields: Fields) -> dict[str, Json]:
        self._hold(await self._signed(fields))
        return {}

    async def _signed(self, fields: Fields) -> Envelope:
        with fields.child("envelope") as child:
            envelope = Envelope.read(child)
        fields.end()
        # Somebody who was suspended a minute ago must not agree to anything now.
        await self._refresh()
        return envelope

    # --- acts ---------------------------------------------------------------------------------------------------------

    async def _take(self, case: Case, act: Act, envelope: Envelope) -> None:
        async with case.lock:
            await self._taken(case, act, envelope)
        self._responding.wake(case)

    async def _taken(self, case: Case, act: Act, envelope: Envelope) -> None:
        if envelope.digest in case.acts:
            raise ActRefusedError("the act was taken already", reason=ACT_KNOWN)
        if len(case.acts) >= MAX_ACTS:
            raise ConflictError(f"`{case.id}` has taken {MAX_ACTS} acts", reason="too-many-acts")
        if not case.incident.is_open:
            raise ConflictError(f"`{case.id}` is closed", reason="response-record")
        does = {ActKind.AGREE: self._agree, ActKind.RESOLVE: self._resolve}.get(act.kind, self._enter)
        # Each keeps the act before its effect: were we killed in between, it would be signed again, not taken twice.
        await does(case, act, envelope)

    async def _agree(self, case: Case, act: Act, envelope: Envelope) -> None:
        name, run, waits = _waiting(case, act.text("key"))
        if waits.action is None:
            raise RunError("a question is answered; only a command is agreed to")
        _require_same(act, waits)
        after = agree(run, waits.key, act.person, self._clock.now())
        if after == run:
            # One person twice is one person; and takes no room twice.
            return
        await case.keep_act(envelope)
        await case.save(name, after)

    async def _resolve(self, case: Case, act: Act, envelope: Envelope) -> None:
        name, run, waits = _waiting(case, act.text("key"))
        if waits.action is not None:
            raise RunError("a command is agreed to; only what a person is asked is answered by a person")
        _require_same(act, waits)
        given = Answer(key=waits.key, outcome=Outcome(act.text("outcome")), found=act.found, by=act.person)
        after = answer(run, self._responding.library, given, self._clock.now())
        await case.keep_act(envelope)
        await self._responding.save(case, name, after)

    async def _enter(self, case: Case, act: Act, envelope: Envelope) -> None:
        happened, facts, words = _entry_of(act)
        by = f"person:{act.person}"
        if sum(entry.by == by for entry in case.entries) >= MAX_OF_ONE:
            raise ConflictError(f"`{act.person}` has made {MAX_OF_ONE} entries in `{case.id}`", reason="too-many-acts")
        # Judged before anything of it is kept: a refused act leaves nothing behind.
        case.incident.apply(case.incident.next(happened, by, self._clock.now(), facts))
        if words is not None:
            await case.keep(words_name(Digest.of(words)), words)
        await case.keep_act(envelope)
        await case.note(happened, facts, by=by)
        if act.kind is ActKind.EXPOSE:
            await regrade(case, self._responding.deployment.level(case.incident.subject))

    def _case(self, name: str) -> Case:
        case = self._responding.cases.get(name)
        if case is None:
            raise NotFoundError("there is no such incident", remedy="list them: strongroom incident ls")
        return case


def _fitting(values: Iterable[Json], room: int) -> list[Json]:
    """Return as many of the values, from the first on, as a list may show and so many bytes hold."""
    found: list[Json] = []
    for value in islice(values, MAX_LISTED):
        room -= len(encode(value)) + 1
        if room < 0:
            break
        found.append(value)
    return found


def words_name(digest: Digest) -> str:
    """Return the name under which words are kept."""
    return f"words-{digest.value.hex()}"


def _entry_of(act: Act) -> tuple[Happened, dict[str, str | int], bytes | None]:
    happened = _ENTRIES.get(act.kind)
    if happened is not None:
        return happened, dict(act.facts), None
    happened, fact = _WORDS[act.kind]
    words = act.text("words").encode()
    facts: dict[str, str | int] = {fact: str(Digest.of(words))}
    if "clock" in act.facts:
        facts["clock"] = act.text("clock")
    return happened, facts, words


def _require_same(act: Act, waits: Pending) -> None:
    if any(act.facts.get(name) != value for name, value in said_of(waits).items()):
        raise ActRefusedError(
            "the person signed for something else than what waits under that key",
            reason="act-differs",
            remedy="see what waits, and sign again",
        )


def _waiting(case: Case, key: str) -> tuple[str, Run, Pending]:
    found = next(
        ((name, run, one) for name, run in case.runs.items() for one in run.pending if one.key == key),
        None,
    )
    if found is None:
        raise RunError("nothing of this key waits for anybody", remedy="see what does: strongroom incident show")
    return found


def row(incident: Incident, *, running: bool) -> dict[str, Json]:
    """Return what the list says of an incident; :class:`strongroom.responder.reading.Listed` reads it."""
    return {
        "incident": incident.id,
        "subject": str(incident.subject),
        "severity": incident.severity.value,
        "phase": incident.phase.value,
        "certainty": incident.certainty.value,
        "opened": incident.opened,
        "rule": incident.rules[0],
        "alerts": incident.alerts,
        "drill": None if incident.drill is None else str(incident.drill),
        "entries": incident.size,
        "running": running,
    }
