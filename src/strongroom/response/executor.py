"""The executor of playbooks: a pure step machine. A run and an answer in, the next run and its commands out.

How it is used, so that a kill at any moment neither loses nor repeats anything:

1. ``begin``, ``answer``, ``agree`` or ``tick`` returns the next run; ``hold`` keeps back what the budget of automatic
   containment doesn't allow.
2. Its bytes are put on disk, durably.
3. The commands of ``due`` are sent, each with its key. A port that sees a key again returns what it did the first time.
4. Each answer goes to ``answer``, and so on from 1.

After a crash the run is read from disk and ``due`` names the commands that had no answer yet: they are sent again under
the same keys. Keys come from the thread's path and the count of its steps, so they don't depend on which answer came
first.

Branches (of `parallel`, `if-condition`, `while-condition`, `switch-condition` and of a playbook called by another) are
threads below the step's own; each runs to its `end` step, then the step goes on. A failed step goes to `on_failure`; a
step that goes on by `on_completion` alone goes on, and is listed among the failures; else the playbook's
`workflow_exception` takes over, or the thread breaks, which fails its parent's step in turn. Nothing fails in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from strongroom.core.clock import Instant
from strongroom.core.errors import ConflictError, DeniedError, MalformedError, NotFoundError
from strongroom.core.ids import person_id
from strongroom.response.action_list import ACTIONS
from strongroom.response.actions import ActionName, AuthorityError, Command, Mandate, key_of, require_authority
from strongroom.response.cacao import Act, Manual, Playbook, Step, StepKind
from strongroom.response.grading import Certainty
from strongroom.response.run import (
    LONG,
    MAX_THREADS,
    MAX_VALUE,
    MAX_VARIABLES,
    Answered,
    Doing,
    Outcome,
    Pending,
    Run,
    RunStatus,
    Terms,
    Thread,
)
from strongroom.response.subjects import Subject

MAX_ROUNDS: Final = 100
"""How often one loop goes around before it counts as failed."""
MAX_STEPS: Final = 2000
"""How many steps a run comes to before it is stopped."""
MAX_DEPTH: Final = 8
"""How deep branches and called playbooks lie within each other."""
UNAGREED_SECONDS: Final = 86400
"""How long a command waits for people's agreement at least, however short its own time is."""
_ENDED: Final = frozenset({Doing.DONE, Doing.BROKEN})

Library = Mapping[str, Playbook]
"""Playbooks by their ids."""


class RunError(ConflictError):
    """A run can't go on as asked: another playbook's text, a command that it never gave, or an answer that can't be."""

    code = "response-run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a command went, and what it found out. ``found`` may set the step's own out-variables only."""

    key: str
    outcome: Outcome
    found: Mapping[str, str] = field(default_factory=dict)
    by: str = ""
    """Who answered what a person was asked; empty for a port."""


def begin(
    library: Library,
    playbook: str,
    *,
    incident: str,
    variables: Mapping[str, str],
    terms: Terms,
    now: Instant,
    before: int = 0,
) -> Run:
    """Begin a run.

    :param playbook: the playbook's id.
    :param variables: values for its external variables; all of them, and no others.
    :param before: how many runs the incident had before: two that begin in one second are two.
    :raises NotFoundError: no such playbook.
    :raises RunError: a variable is missing, or isn't one that may be given.
    """
    book = _book(library, playbook)
    if set(variables) != book.external or not all(map(_keepable, variables.values())):
        raise RunError(f"playbook `{book.name}` is begun with exactly its external variables, each a short text")
    books = _followed(library, playbook)
    first = Thread(id="r", parent="", playbook=playbook, step=book.start, since=now)
    values = {variable: value for name in books for variable, value in library[name].variables.items()}
    if len(values) > MAX_VARIABLES:
        raise RunError(f"playbook `{book.name}` and what it calls have more than {MAX_VARIABLES} variables")
    run = Run(
        id=key_of(incident, playbook, now, before),
        incident=incident,
        books={name: library[name].digest for name in books},
        terms=terms,
        variables={**values, **variables},
        threads=(first,),
    )
    return _settle(run, library, now)


def due(run: Run) -> tuple[Command | Pending, ...]:
    """Return what is to be sent now: commands that may be done, in order of their waves, and what people are asked.

    A command that needs more people's agreement isn't among them: see :func:`withheld`.
    """
    if run.status is not RunStatus.RUNNING:
        return ()
    acts = [one for one in run.pending if one.action is not None and _may(run, one)]
    acts.sort(key=lambda one: (ACTIONS[_named(one)].wave, one.key))
    manual = [one for one in run.pending if one.action is None]
    return (*(command_of(one) for one in acts), *manual)


def withheld(run: Run) -> tuple[Pending, ...]:
    """Return the commands that wait for people's agreement."""
    return tuple(one for one in run.pending if one.action is not None and not _may(run, one))


def agree(run: Run, key: str, person: str, now: Instant) -> Run:
    """Return the run with one person's agreement to a command. The caller has checked the person's signature.

    A command's time begins once enough agreed: it can't be late before it may be sent.

    :raises DeniedError: the person isn't one of those who may.
    :raises RunError: the command isn't one that waits.
    """
    if person not in run.terms.eligible:
        raise DeniedError(f"`{person}` isn't one of those who may agree", reason="response-not-eligible")
    found = _pending(run, key)
    if found is None:
        raise RunError("no command of this key waits for anybody")
    agreed = replace(found, agreed=found.agreed | {person})
    if found.deadline is not None and not _may(run, found) and _may(run, agreed):
        agreed = replace(agreed, since=now, deadline=now + found.deadline - found.since)
    return replace(run, pending=tuple(agreed if one.key == key else one for one in run.pending))


def hold(run: Run, key: str) -> Run:
    """Return the run with a command that doesn't begin by itself, because :mod:`~strongroom.response.limits` says so.

    :raises RunError: the command isn't one that waits.
    """
    found = _pending(run, key)
    if found is None:
        raise RunError("no command of this key waits for anybody")
    held = replace(found, held=True)
    return replace(run, pending=tuple(held if one.key == key else one for one in run.pending))


def supersede(run: Run) -> Run:
    """Return the run ended, because a surer signal began its playbook anew: nothing of it is sent any more."""
    threads = tuple(replace(one, doing=Doing.BROKEN) if one.doing not in _ENDED else one for one in run.threads)
    return replace(run, status=RunStatus.SUPERSEDED, pending=(), threads=threads)


def answer(run: Run, library: Library, told: Answer, now: Instant) -> Run:
    """Return the run after a command's answer. An answer that was given before changes nothing.

    :raises RunError: the run never gave such a command, or the answer sets what it may not.
    :raises AuthorityError: the command was withheld: it can't have been done.
    """
    if any(one.key == told.key for one in run.answered):
        return run
    found = _pending(run, told.key)
    if found is None:
        raise RunError("the run never gave a command of this key")
    if told.outcome is Outcome.DONE and found.action is not None and not _may(run, found):
        raise AuthorityError(f"`{found.action}` was withheld, so nobody can have done it")
    if (found.action is None) and told.outcome is Outcome.DONE and not _names_a_person(told.by):
        raise RunError("what a person is asked to do is answered in a person's name")
    thread = _thread(run, found.thread)
    step = _step(library, thread)
    if not set(told.found) <= set(step.out) or not all(map(_keepable, told.found.values())):
        raise RunError(f"an answer to `{step.name or step.id}` sets what isn't the step's to set")
    noted = Answered(key=found.key, step=step.id, outcome=told.outcome, by=told.by, at=now)
    run = replace(
        run,
        variables={**run.variables, **told.found},
        pending=tuple(one for one in run.pending if one.key != found.key),
        answered=(*run.answered, noted),
    )
    moved = _after(run, library, thread, failed=told.outcome is not Outcome.DONE, now=now)
    return _settle(moved, library, now)


def tick(run: Run, library: Library, now: Instant) -> Run:
    """Return the run at a time: what waited too long has failed, and delays that are over have ended."""
    for one in sorted(run.pending, key=lambda one: one.key):
        if one.deadline is not None and now >= _ends(run, one):
            run = answer(run, library, Answer(key=one.key, outcome=Outcome.TIMED_OUT), now)
    return _settle(run, library, now)


def _ends(run: Run, pending: Pending) -> Instant:
    """Return when a pending command has failed by its time; one that waits for people has a day at least."""
    deadline = pending.deadline or 0
    if pending.action is None or _may(run, pending):
        return deadline
    return max(deadline, pending.since + UNAGREED_SECONDS)


# --- looking up -------------------------------------------------------------------------------------------------------


def _book(library: Library, name: str) -> Playbook:
    book = library.get(name)
    if book is None:
        raise NotFoundError("no such playbook is known", remedy="see which there are: playbooks are named by their ids")
    return book


def _followed(library: Library, playbook: str) -> tuple[str, ...]:
    """Return a playbook and all that it calls; one that calls itself, however far around, is refused."""
    found: list[str] = []
    todo: list[tuple[str, tuple[str, ...]]] = [(playbook, (playbook,))]
    while todo:
        name, path = todo.pop()
        found.append(name)
        for step in _book(library, name).steps.values():
            if step.kind is StepKind.PLAYBOOK:
                if step.playbook in path:
                    raise RunError(f"playbook `{library[name].name}` calls itself")
                todo.append((step.playbook, (*path, step.playbook)))
    return tuple(dict.fromkeys(found))


def _step(library: Library, thread: Thread) -> Step:
    found = _book(library, thread.playbook).steps.get(thread.step)
    if found is None:
        raise RunError("a thread of the run stands at a step that its playbook doesn't have")
    return found


def _thread(run: Run, name: str) -> Thread:
    return next(thread for thread in run.threads if thread.id == name)


def _pending(run: Run, key: str) -> Pending | None:
    return next((one for one in run.pending if one.key == key), None)


def _named(pending: Pending) -> ActionName:
    if pending.action is None:
        raise RunError("what a person is asked to do isn't an action")
    return pending.action


def _may(run: Run, pending: Pending) -> bool:
    # What is held back needs whoever an unsure signal would need: one person.
    certainty = Certainty.LIKELY if pending.held else run.terms.certainty
    mandate = Mandate(certainty=certainty, people=pending.agreed, quorum=run.terms.quorum)
    try:
        require_authority(ACTIONS[_named(pending)], mandate)
    except AuthorityError:
        return False
    return True


def command_of(pending: Pending) -> Command:
    """Return the command that waits.

    :raises RunError: it is a question to people.
    """
    action = ACTIONS[_named(pending)]
    if pending.subject is None:
        raise RunError(f"`{action.name}` has no subject")
    return Command(key=pending.key, action=action.name, subject=pending.subject, parameters=action.parameters)


def _put(run: Run, thread: Thread) -> Run:
    return replace(run, threads=tuple(thread if one.id == thread.id else one for one in run.threads))


# --- moving -----------------------------------------------------------------------------------------------------------


def _settle(run: Run, library: Library, now: Instant) -> Run:
    """Move every thread as far as it goes without an answer."""
    for name, digest in run.books.items():
        if _book(library, name).digest != digest:
            raise RunError(
                f"playbook `{library[name].name}` isn't the text that this run began with",
                remedy="carry the run on with the text it began with, or end it and begin a new one",
            )
    while run.status is RunStatus.RUNNING:
        thread = next((one for one in run.threads if _movable(run, library, one, now)), None)
        if thread is None:
            return run
        if _is_too_long(run) or len(run.threads) > MAX_THREADS - 2 * len(_step(library, thread).ways):
            return _stopped(run, thread)
        run = _move(run, library, thread, now)
    return run


def _is_too_long(run: Run) -> bool:
    # A short one can't be: a step asks 2,000 characters at most.
    return run.size > MAX_STEPS or (run.size > LONG // 16_384 and len(run.to_bytes()) > LONG)


def _stopped(run: Run, thread: Thread) -> Run:
    return replace(run, status=RunStatus.FAILED, failures=(*run.failures, thread.step))


def _movable(run: Run, library: Library, thread: Thread, now: Instant) -> bool:
    match thread.doing:
        case Doing.MOVING:
            return True
        case Doing.DELAY:
            return now >= thread.since + _seconds(_step(library, thread).delay)
        case Doing.BRANCHES:
            return all(one.doing in _ENDED for one in run.threads if one.parent == thread.id)
        case _:
            return False


def _move(run: Run, library: Library, thread: Thread, now: Instant) -> Run:
    step = _step(library, thread)
    if thread.doing is Doing.BRANCHES:
        return _joined(run, library, thread, now)
    if thread.doing is Doing.MOVING and step.delay:
        return _put(run, replace(thread, doing=Doing.DELAY, since=now))
    thread = replace(thread, doing=Doing.MOVING, visits=thread.visits + 1, since=now)
    match step.kind:
        case StepKind.END:
            return _ended(run, replace(thread, doing=Doing.DONE))
        case StepKind.START:
            return _put(run, replace(thread, step=step.on_completion))
        case StepKind.ACTION:
            return _asked(run, library, thread, step, now)
        case _:
            return _branched(run, library, thread, step, now)


def _asked(run: Run, library: Library, thread: Thread, step: Step, now: Instant) -> Run:
    deadline = now + _seconds(step.timeout) if step.timeout else None
    key = key_of(run.id, thread.id, thread.visits, step.id)
    text = step.command.text if isinstance(step.command, Manual) else step.name
    action = subject = None
    if isinstance(step.command, Act):
        action = step.command.action
        try:
            subject = Subject.parse(run.variables.get(step.command.subject, ""))
        except MalformedError:
            # Without a subject nothing can be done: the step has failed, and what its author said of that happens.
            return _after(run, library, thread, failed=True, now=now)
    asked = Pending(key=key, thread=thread.id, action=action, subject=subject, text=text, since=now, deadline=deadline)
    return replace(_put(run, replace(thread, doing=Doing.ANSWER)), pending=(*run.pending, asked))


def _branched(run: Run, library: Library, thread: Thread, step: Step, now: Instant) -> Run:
    begins = _begins(run, library, thread, step)
    if step.kind is StepKind.WHILE and begins:
        thread = replace(thread, rounds=thread.rounds + 1)
    if begins and (thread.rounds > MAX_ROUNDS or thread.id.count("/") >= MAX_DEPTH):
        return _after(run, library, thread, failed=True, now=now)
    if not begins:
        return _after(run, library, thread, failed=False, now=now)
    below = tuple(
        Thread(id=f"{thread.id}/{thread.visits}.{i}", parent=thread.id, playbook=book, step=name, since=now)
        for i, (book, name) in enumerate(begins)
    )
    run = _put(run, replace(thread, doing=Doing.BRANCHES))
    return replace(run, threads=(*run.threads, *below))


def _begins(run: Run, library: Library, thread: Thread, step: Step) -> tuple[tuple[str, str], ...]:
    """Return where the branches of a step begin: playbook and step of each; none if it has nothing to do."""
    names: tuple[str, ...] = ()
    match step.kind:
        case StepKind.PLAYBOOK:
            return ((step.playbook, _book(library, step.playbook).start),)
        case StepKind.PARALLEL:
            names = step.branches
        case StepKind.SWITCH:
            cases = dict(step.cases)
            found = cases.get(run.variables.get(step.switch, ""), cases.get("default", ""))
            names = (found,) if found else ()
        case _:
            holds = step.condition is not None and step.condition.holds(run.variables)
            found = step.on_true if holds else step.on_false
            names = (found,) if found else ()
    return tuple((thread.playbook, name) for name in names)


def _joined(run: Run, library: Library, thread: Thread, now: Instant) -> Run:
    below = [one for one in run.threads if one.parent == thread.id]
    failed = any(one.doing is Doing.BROKEN for one in below)
    # What has ended below counts towards the run's length, and is let go of.
    gone = {one.id for one in below}
    thread = replace(thread, visits=thread.visits + sum(one.visits for one in below))
    run = _put(replace(run, threads=tuple(one for one in run.threads if one.id not in gone)), thread)
    if _step(library, thread).kind is StepKind.WHILE and not failed:
        return _put(run, replace(thread, doing=Doing.MOVING))
    return _after(run, library, thread, failed=failed, now=now)


def _after(run: Run, library: Library, thread: Thread, *, failed: bool, now: Instant) -> Run:
    """Go on from a step that is over, by what its author said of success and failure."""
    step = _step(library, thread)
    if failed:
        run = replace(run, failures=(*run.failures, step.id))
    following = step.on_completion or (step.on_failure if failed else step.on_success)
    book = _book(library, thread.playbook)
    thread = replace(thread, rounds=0, since=now)
    if following:
        return _put(run, replace(thread, doing=Doing.MOVING, step=following))
    if book.exception and not _excepted(book, step.id):
        return _put(run, replace(thread, doing=Doing.MOVING, step=book.exception))
    return _ended(run, replace(thread, doing=Doing.BROKEN))


def _excepted(book: Playbook, step: str) -> bool:
    """Return whether a step belongs to what the playbook does about exceptions: it isn't begun again from there."""
    seen, todo = set[str](), [book.exception]
    while todo:
        name = todo.pop()
        if name == step:
            return True
        if name not in seen:
            seen.add(name)
            todo += book.steps[name].ways
    return False


def _ended(run: Run, thread: Thread) -> Run:
    run = _put(run, thread)
    if thread.parent:
        return run
    return replace(run, status=RunStatus.ENDED if thread.doing is Doing.DONE else RunStatus.FAILED)


def _names_a_person(text: str) -> bool:
    try:
        person_id(text)
    except MalformedError:
        return False
    return True


def _keepable(value: str) -> bool:
    # What couldn't be read back from disk would leave a run that nobody can carry on.
    return len(value) <= MAX_VALUE and value.isprintable()


def _seconds(milliseconds: int) -> int:
    return -(-milliseconds // 1000)
