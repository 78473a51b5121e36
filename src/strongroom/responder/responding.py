"""From an alert to an incident, a playbook, and what is done: the loop around the response's pure parts.

An alert opens an incident or joins one; evidence is kept; how bad it is is graded; the playbook that its rule names is
begun. What a run asks for next goes to a port, and what came of it into the record and back into the run. A command's
proposal is in the record, and its run on the disk, before it is sent; so after a kill the same commands are sent again
under the same keys, and no port does a key twice.

What had no time to wait (the freeze, the shut gates) was done before any of this began: see
:mod:`~strongroom.responder.acting`. Nothing here can hold it up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from strongroom.core.clock import Clock
from strongroom.core.digest import Digest
from strongroom.core.errors import (
    ConflictError,
    DeniedError,
    MalformedError,
    StrongroomError,
    UnavailableError,
    UsageError,
)
from strongroom.responder.acting import Outcome as Acted
from strongroom.responder.cases import Case, CaseStore, Cause
from strongroom.responder.noting import Noting
from strongroom.responder.ports import Deployment, Notes, Port, Telling, Told, refused
from strongroom.responder.signalling import Signalled, model_of, signalled, surer
from strongroom.responder.waiting import Lines, Waiting
from strongroom.response.action_list import ACTIONS, CONTAINMENT, brought_about, dry_run
from strongroom.response.actions import ActionName, ActionRefusedError, Authority, Command
from strongroom.response.cacao import Playbook
from strongroom.response.drills import DrillToken, keep_apart
from strongroom.response.entries import Happened, Phase
from strongroom.response.executor import Answer, Library, answer, begin, command_of, due, hold, supersede, tick
from strongroom.response.grading import Severity, grade
from strongroom.response.incident import Alert, add_alert, file_under, incident_id
from strongroom.response.limits import Budget, Signal, judge
from strongroom.response.run import Outcome, Run, RunStatus
from strongroom.response.subjects import EVERYTHING

POLL_SECONDS: Final = 2.0
MAX_OPEN: Final = 256
"""Open incidents; beyond that, alerts go to the incident about the whole deployment, where a person looks."""
MAX_ALERTS: Final = 1000
"""Alerts of one incident that have entries of their own: a flood must not fill the record that people need."""
MAX_RUNS: Final = 16


class Responding:
    """Everything that goes on after an alert was told.

    :param library: playbooks by their ids.
    :param record: the responder's own record, whose alerts are put into incidents.
    :param real: does commands on the deployment. :param shadow: does those of drills, on their stand-ins.
    :param ticks: nanoseconds of the monotonic clock.
    :param failed: hears of what the loop couldn't do, and will try again.
    """

    def __init__(
        self,
        store: CaseStore,
        library: Library,
        deployment: Deployment,
        *,
        real: Port,
        shadow: Port,
        telling: Telling,
        notes: Notes,
        record: Lines,
        clock: Clock,
        ticks: Callable[[], int],
        by: str,
        host: str,
        failed: Callable[[str, StrongroomError], None],
    ) -> None:
        self._store = store
        self.library = library
        self.deployment = deployment
        self._ports = {False: real, True: shadow}
        self._noting = Noting(notes, telling, clock, failed)
        self.clock = clock
        self._ticks = ticks
        self._by = by
        self._host = host
        self._failed = failed
        self.cases: dict[str, Case] = {}
        self.broken: dict[str, str] = {}
        """Incidents whose records can't be read, or aren't what the log says; and the code of why."""
        self._drills: dict[Digest, DrillToken] = {}
        self._budget = Budget()
        self._spending = asyncio.Lock()
        self._waiting = Waiting(store, record, failed)
        self._came = asyncio.Event()
        self._working: dict[str, asyncio.Task[None]] = {}

    # --- what comes in ------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Read what the last run of this process left; call it once, before :meth:`serve`."""
        found, broken = self._store.load()
        self.broken = dict(broken)
        for stored in found:
            try:
                case = Case.read(stored, store=self._store, clock=self.clock, by=self._by)
            except StrongroomError as error:
                # One spoilt record mustn't keep a responder from guarding. It is shown, and left as it is.
                self.broken[stored.entries[0].incident if stored.entries else "?"] = error.reason
                continue
            self.cases[case.id] = case
            if case.token is not None and case.incident.drill is not None:
                self._drills[case.incident.drill] = case.token
        saved = self._store.budget()
        try:
            self._budget = Budget() if saved is None else Budget.parse(saved)
        except MalformedError as error:
            self._failed("budget", error)
        self._waiting.load(self._host)

    def hold_to(self, incident: str, entries: int, last: str) -> None:
        """Compare a record with what the deployment's log says of it: a chain doesn't show that its end was cut off."""
        case = self.cases.get(incident)
        if incident in self.broken or (
            case is not None and len(case.entries) >= entries > 0 and str(case.entries[entries - 1].digest) == last
        ):
            return
        self.broken[incident] = "record-behind-log"
        self._failed(incident, UnavailableError("its record isn't what the log says", reason="record-behind-log"))

    @property
    def used(self) -> frozenset[Digest]:
        """Drill tokens that were used before."""
        return frozenset(self._drills)

    def practise(self, digest: Digest, token: DrillToken) -> None:
        """Know a drill whose token was verified: its synthetic event carries its digest."""
        self._drills[digest] = token

    def hear(self, acted: Acted, *, drill: Digest | None = None) -> None:
        """Take an alert, once what is done at once was begun. Returns without waiting.

        :param drill: the verified token whose event it was; None for everything real, whatever the event says.
        """
        token = None if drill is None else self._drills.get(drill)
        known = (drill is None) is (token is None)
        book = None if token is None else self._book(token.playbook)
        heard = signalled(acted, drill, token, book, now=self.clock.now(), host=self._host) if known else None
        if heard is None:
            self._waiting.pass_over(acted.line)
            return
        self._waiting.add(heard)
        self._came.set()

    async def serve(self) -> None:
        """Go on with every incident, until it is cancelled."""
        try:
            # Before anything goes on: what a run came to since would look like what an alert heard again began.
            await self.file()
            for case in self.cases.values():
                self._begin_work(case)
            while True:
                await self.file()
                await self._noting.keep(self.cases)
                self._revive()
                self._came.clear()
                try:
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._came.wait()
                except TimeoutError:
                    continue
        finally:
            tasks = [*self._working.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def file(self) -> None:
        """Put every waiting alert into an incident; what the disk refuses stays and is tried again."""
        while (signalled := self._waiting.first) is not None:
            try:
                case = await self._put(signalled)
                await self._waiting.done(signalled)
            except UnavailableError as error:
                self._failed("file", error)
                self._waiting.doubt(signalled)
                return
            if case is not None:
                self._begin_work(case)

    # --- incidents ----------------------------------------------------------------------------------------------------

    async def _put(self, signalled: Signalled) -> Case | None:
        """Put an alert into its incident, and begin the playbook; None where it can't become one, ever.

        :raises UnavailableError: the disk refused.
        """
        case = None
        try:
            case = self._known(signalled) or await self._filed(signalled)
            if case.incident.is_open:
                await self._begin_playbook(case, signalled)
        except UnavailableError:
            raise
        except StrongroomError as error:
            # The responder's own record has it. An incident that is open is gone on with, also without the playbook.
            self._failed("file", error)
        return case

    def _known(self, signalled: Signalled) -> Case | None:
        """Return the incident that an alert is in already, as far as is known: before a kill, or the disk refused."""
        if not signalled.again or signalled.line is None:
            return None
        return next((case for case in self.cases.values() if case.has(signalled.alert.event)), None)

    async def _filed(self, signalled: Signalled) -> Case:
        alert = signalled.alert
        if alert.drill is None and self._crowded(alert):
            alert = replace(alert, subject=EVERYTHING)
        found = file_under(alert, (case.incident for case in self.cases.values()))
        if found is not None:
            case = self.cases[found.id]
            await self._join(case, alert, signalled)
            return case
        if incident_id(alert) in self.cases or incident_id(alert) in self.broken:
            raise ConflictError("the alert belongs to an incident that is over", reason="response-record")
        case = await Case.open(
            alert,
            self._severity(alert),
            store=self._store,
            clock=self.clock,
            by=self._by,
            token=signalled.token,
            began=signalled.began,
        )
        self.cases[case.id] = case
        return case

    def _crowded(self, alert: Alert) -> bool:
        # Drills aren't counted: whoever holds many must not have what is real lumped together.
        live = [case.incident for case in self.cases.values() if case.incident.is_open and case.token is None]
        return len(live) >= MAX_OPEN and file_under(alert, live) is None

    async def _join(self, case: Case, alert: Alert, signalled: Signalled) -> None:
        incident = case.incident
        news = alert.rule not in incident.rules
        if news or incident.alerts < MAX_ALERTS:
            await case.add(lambda now: add_alert(now, alert, by=self._by, at=max(alert.at, now.last_alert)))
        severity = self._severity(alert)
        if severity.rank > case.incident.severity.rank:
            await case.note(Happened.SEVERITY_CHANGED, {"severity": severity.value, "cause": "alert"})
        if not case.running:
            case.began = signalled.began

    def _severity(self, alert: Alert) -> Severity:
        return grade(alert.certainty, exposed_bits=0, theft_bits=0, level=self.deployment.level(alert.subject))

    def _book(self, name: str) -> Playbook | None:
        return next((book for book in self.library.values() if book.name == name), None)

    async def _begin_playbook(self, case: Case, signalled: Signalled) -> None:
        book = self._book(signalled.playbook)
        if book is None or (case.token is not None and book.name != case.token.playbook):
            return
        if signalled.again and signalled.line and signalled.alert.event in {one.event for one in case.causes.values()}:
            return
        mine = {
            name: run for name, run in case.runs.items() if book.id in run.books and run.status is RunStatus.RUNNING
        }
        undone = any(one.undone is not None for one in case.incident.doings.values())
        weaker = {name: run for name, run in mine.items() if surer(signalled.alert.certainty, run.terms.certainty)}
        if len(case.runs) >= MAX_RUNS or (mine and not weaker and not undone):
            # It is under way already. Once something was let go again, a new alert begins anew.
            return
        run = begin(
            self.library,
            book.id,
            incident=case.id,
            variables={name: signalled.named.get(name, "") for name in book.external},
            terms=self.deployment.terms(signalled.alert.certainty, model_of(signalled)),
            now=self.clock.now(),
            before=len(case.runs),
        )
        async with case.lock:
            for name, before in weaker.items():
                # What a weaker signal asked people about, this one answers: it isn't asked twice.
                await self._give_over(case, name, before)
            name = f"run-{len(case.runs):03}"
            case.causes[name] = Cause(source=signalled.source, event=signalled.alert.event)
            try:
                await self.save(case, name, run)
            except UnavailableError:
                # Else the alert, when it is put here again, would look like one whose playbook is under way.
                del case.causes[name]
                raise

    async def _give_over(self, case: Case, name: str, run: Run) -> None:
        for one in run.pending:
            if one.action is not None and one.subject is not None:
                await self._fail(case, command_of(one), "superseded")
        await case.save(name, supersede(run))

    def _judged(self, case: Case, run: Run, source: str) -> tuple[Run, Budget]:
        """Hold back what doesn't begin by itself. A drill harms nobody: it is judged, and spends nothing."""
        spent = Budget() if case.token is not None else self._budget
        for one in run.pending:
            if one.action is None or one.subject is None or one.key in case.judged:
                continue
            signal = Signal(source=source, certainty=run.terms.certainty, subject=one.subject)
            verdict, spent = judge(spent, signal, (one.action,), self.clock.now())
            if verdict.waits:
                run = hold(run, one.key)
        return run, self._budget if case.token is not None else spent

    # --- the work of one incident -------------------------------------------------------------------------------------

    def _begin_work(self, case: Case) -> None:
        case.wake.set()
        task = self._working.get(case.id)
        if case.incident.is_open and (task is None or task.done()):
            self._working[case.id] = asyncio.get_running_loop().create_task(self._work(case))

    def _revive(self) -> None:
        """Go on with an incident whose work ended by an error that nobody foresaw: it isn't left lying."""
        for name, task in tuple(self._working.items()):
            error = task.exception() if task.done() and not task.cancelled() else None
            if error is not None:
                self._failed(f"incident {name}", UnavailableError(f"its work ended: {type(error).__name__}"))
                self._begin_work(self.cases[name])

    def wake(self, case: Case) -> None:
        """Have an incident looked at again at once: a person did something."""
        self._begin_work(case)
        self._came.set()

    async def _work(self, case: Case) -> None:
        while case.incident.is_open:
            case.wake.clear()
            try:
                await self._keep_first_evidence(case)
                for name in [name for name, run in case.runs.items() if run.status is RunStatus.RUNNING]:
                    await self.advance(case, name)
                await self._contained(case)
            except StrongroomError as error:
                self._failed(f"incident {case.id}", error)
            if not case.running and case.incident.evidence:
                return
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await case.wake.wait()
            except TimeoutError:
                continue

    async def _keep_first_evidence(self, case: Case) -> None:
        """Keep what is known before anything else changes it; what stops bytes was done already."""
        if case.incident.evidence:
            return
        key = f"first-{case.id[4:]}"
        snapshot = Command(key=key, action=ActionName.SNAPSHOT_EVIDENCE, subject=case.incident.subject)
        try:
            await self._ports[case.incident.shadow].do(case, snapshot)
        except StrongroomError as error:
            # It is tried again; meanwhile nothing that stops bytes waits for it.
            self._failed("evidence", error)

    async def advance(self, case: Case, name: str) -> None:
        """Go on with one run as far as it goes without anybody."""
        while True:
            async with case.lock:
                run = await self._ticked(case, name)
            commands = [one for one in due(run) if isinstance(one, Command)]
            # All at once, begun in the order of their waves: no wave waits for another.
            told = await asyncio.gather(*(self._sent(case, run, one) for one in commands))
            moved = False
            async with case.lock:
                for command, how in zip(commands, told, strict=True):
                    if how.outcome is None or case.runs[name].status is not RunStatus.RUNNING:
                        continue
                    given = Answer(key=command.key, outcome=how.outcome)
                    after = answer(case.runs[name], self.library, given, self.clock.now())
                    await self.save(case, name, after)
                    moved = True
            if not moved:
                return

    async def _ticked(self, case: Case, name: str) -> Run:
        before = case.runs[name]
        run = tick(before, self.library, self.clock.now())
        left = {one.key for one in run.pending}
        for one in before.pending:
            if one.key not in left and one.action is not None and one.subject is not None:
                await self._fail(case, command_of(one), Outcome.TIMED_OUT.value)
        await self.save(case, name, run)
        return case.runs[name]

    async def save(self, case: Case, name: str, run: Run) -> None:
        """Put a run's next state on the disk, what doesn't begin by itself held back; the case's lock is held."""
        async with self._spending:
            run, budget = self._judged(case, run, case.causes[name].source)
            if budget != self._budget:
                await asyncio.to_thread(self._store.save_budget, budget.to_bytes())
                self._budget = budget
        await case.save(name, run)
        # Not before: what the disk refused is judged again, or it would begin without being held back.
        case.judged.update(one.key for one in run.pending)

    async def _sent(self, case: Case, run: Run, command: Command) -> Told:
        try:
            return await self._do(case, run, command)
        except DeniedError as error:
            # Also what crosses the line between a drill and the real thing: asking again changes nothing.
            await self._fail(case, command, error.reason)
            return refused(error.reason)
        except StrongroomError as error:
            # Whether it happened is unknown: the same key again is the same command.
            self._failed(f"{command.action.value} of {command.subject}", error)
            return Told(None, error.reason)

    async def _do(self, case: Case, run: Run, command: Command) -> Told:
        if command.key not in case.incident.doings:
            await case.note(Happened.ACTION_PROPOSED, _told(command))
        keep_apart(command, case.token)
        port = self._ports[case.incident.shadow]
        if case.incident.doings[command.key].falls is None and not await self._tried(case, port, command):
            await self._fail(case, command, "precondition")
            return refused("precondition")
        told = await port.do(case, command)
        if told.outcome is None:
            return told
        if told.outcome is not Outcome.DONE:
            await self._fail(case, command, told.reason or told.outcome.value)
            return told
        if case.incident.doings[command.key].done is None:
            await case.note(Happened.ACTION_DONE, {**_told(command), "micros": self._micros(case)})
        return await self._verified(case, run, command, await port.probe(case, command))

    async def _tried(self, case: Case, port: Port, command: Command) -> bool:
        """Enter what would fall; false where the action can't be done as things stand.

        Asked once: what waits for people is done when they did it, and its precondition is gone then.
        """
        situation = await port.situation(case)
        try:
            falls = dry_run(command.action, command.subject, situation).count
        except (ActionRefusedError, UsageError):
            return False
        await case.note(Happened.ACTION_TRIED, {**_told(command), "falls": falls})
        return True

    async def _verified(self, case: Case, run: Run, command: Command, seen: str) -> Told:
        doing = case.incident.doings[command.key]
        if doing.verified is None and not doing.failed:
            if not brought_about(command.action, seen):
                await self._fail(case, command, "not-verified")
                return Told(Outcome.FAILED, "not-verified")
            facts = {**_told(command), "answer": seen, "micros": self._micros(case)}
            await case.note(Happened.ACTION_VERIFIED, facts)
        if case.incident.doings[command.key].failed:
            return Told(Outcome.FAILED, "not-verified")
        await self._undone(case, run, command)
        return Told(Outcome.DONE)

    async def _undone(self, case: Case, run: Run, command: Command) -> None:
        """Enter what a command that lets go undid."""
        if ACTIONS[command.action].authority is not Authority.QUORUM:
            return
        pending = next((one for one in run.pending if one.key == command.key), None)
        people = 0 if pending is None else len(pending.agreed)
        for key, one in case.incident.doings.items():
            if ACTIONS[one.action].inverse is not command.action:
                continue
            if one.subject == command.subject and one.done is not None and one.undone is None:
                facts = {"action": one.action.value, "subject": str(one.subject), "key": key}
                await case.note(Happened.ACTION_UNDONE, {**facts, "undone": command.key, "people": people})

    async def _fail(self, case: Case, command: Command, cause: str) -> None:
        doing = case.incident.doings.get(command.key)
        if doing is not None and not doing.failed and doing.verified is None:
            await case.note(Happened.ACTION_FAILED, {**_told(command), "cause": cause})

    def _micros(self, case: Case) -> int:
        if case.began:
            return max(0, self._ticks() - case.began) // 1000
        return max(0, self.clock.now() - case.incident.opened) * 1_000_000

    async def _contained(self, case: Case) -> None:
        stops = [one for one in case.incident.doings.values() if one.action in CONTAINMENT and one.undone is None]
        held = bool(stops) and any(one.verified is not None for one in stops)
        open_ = any(one.verified is None and not one.failed for one in stops)
        if held and not open_ and case.incident.phase in {Phase.DETECTED, Phase.DECLARED}:
            await case.note(Happened.PHASE_CHANGED, {"phase": Phase.CONTAINED.value})


def _told(command: Command) -> dict[str, str | int]:
    return {"action": command.action.value, "subject": str(command.subject), "key": command.key}
