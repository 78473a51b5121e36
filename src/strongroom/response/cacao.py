"""Playbooks: CACAO v2.0 (OASIS Committee Specification 01, 27 November 2023), read strictly.

Of the standard we take every kind of step, the manual command and one command of our own. Our command's parameters
stand in the step's extension, as the standard asks for: a command object has no room for them. What we don't take
(other commands, signatures and markings inside the document, authentication) is refused, never skipped: a step that is
skipped is a response that somebody believes was made. Signing is done around the document, by an envelope.

Loops exist only as `while-condition`: any other way back to a step refuses the playbook, so that every run ends.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from strongroom.core.canonical import encode, parse
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.response.actions import ActionName
from strongroom.response.conditions import Condition, read_condition, variable_of

MAX_PLAYBOOK: Final = 256 * 1024
MAX_STEPS: Final = 128
MAX_VARIABLES: Final = 32
MAX_BRANCHES: Final = 16
MAX_TEXT: Final = 2000
MAX_TIMEOUT: Final = 90 * 86400 * 1000
"""Milliseconds, as CACAO counts timeouts and delays: ninety days."""
EXTENSION: Final = "extension-definition--6f1a0a3b-9c52-4c0e-8d53-2b5c7f3f9a10"
"""The extension that says which of our actions a step asks for, and of what."""
COMMAND: Final = "strongroom"
_UUID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_STAMP: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")


class StepKind(StrEnum):
    """CACAO's kinds of workflow steps; each is also how its ids begin."""

    START = "start"
    END = "end"
    ACTION = "action"
    PLAYBOOK = "playbook-action"
    PARALLEL = "parallel"
    IF = "if-condition"
    WHILE = "while-condition"
    SWITCH = "switch-condition"


_KINDS: Final = "|".join(kind.value for kind in StepKind)
_STEP: Final = re.compile(rf"(?:{_KINDS})--{_UUID}")
_PLAYBOOK: Final = re.compile(rf"playbook--{_UUID}")
_IDENTITY: Final = re.compile(rf"identity--{_UUID}")
_AGENT: Final = re.compile(rf"(?:group|organization|individual)--{_UUID}")


class PlaybookError(MalformedError):
    """A playbook isn't one that can be run as its author meant it."""

    code = "response-playbook"


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What our own command asks for. ``subject`` is the variable that names it, e.g. ``__model__``."""

    action: ActionName
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manual:
    """What a person is asked to do. Its text is shown, and never run."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step. Which members mean something depends on the kind."""

    id: str
    kind: StepKind
    name: str = ""
    delay: int = 0
    """Milliseconds to wait before the step."""
    timeout: int = 0
    """Milliseconds after which an unanswered step has failed; 0: it waits for ever."""
    on_completion: str = ""
    on_success: str = ""
    on_failure: str = ""
    command: Act | Manual | None = None
    out: tuple[str, ...] = ()
    """Variables that an answer may set, without underscores."""
    condition: Condition | None = None
    on_true: str = ""
    on_false: str = ""
    switch: str = ""
    cases: tuple[tuple[str, str], ...] = ()
    branches: tuple[str, ...] = ()
    playbook: str = ""

    @property
    def ways(self) -> tuple[str, ...]:
        """All steps that may follow, branches included."""
        named = (self.on_completion, self.on_success, self.on_failure, self.on_true, self.on_false)
        return tuple(one for one in (*named, *self.branches, *(step for _case, step in self.cases)) if one)


@dataclass(frozen=True, kw_only=True)
class Playbook:
    """A playbook whose every path was checked."""

    id: str
    name: str
    description: str
    start: str
    exception: str
    variables: Mapping[str, str]
    """Name without underscores -> its first value."""
    external: frozenset[str]
    """Variables whose value comes from who starts the run."""
    steps: Mapping[str, Step]
    digest: Digest
    """Of the canonical form: what a run is bound to."""

    @property
    def acts(self) -> tuple[Act, ...]:
        """All commands of our own, in the order of the document."""
        return tuple(step.command for step in self.steps.values() if isinstance(step.command, Act))

    @property
    def in_order(self) -> tuple[Step, ...]:
        """All steps as they follow from the first, branches side by side; then those of the last resort."""
        todo, found = deque((self.start,)), dict[str, Step]()
        while todo:
            name = todo.popleft()
            if name not in found:
                found[name] = self.steps[name]
                todo.extend(found[name].ways)
        return (*found.values(), *(step for name, step in self.steps.items() if name not in found))


def read_playbook(data: bytes) -> Playbook:
    """Read a playbook's JSON text.

    :raises PlaybookError: a reference to nothing, a step that nobody reaches, a way back, a branch without an end.
    :raises MalformedError: not JSON, another version, or members that we don't take.
    """
    value = parse(data, max_bytes=MAX_PLAYBOOK)
    with Fields(value, "playbook") as fields:
        _head(fields)
        agents = _definitions(fields)
        variables, external = _variables(fields)
        playbook = Playbook(
            id=fields.parsed("id", _playbook_id),
            name=fields.text("name", max_length=96),
            description=fields.text("description", max_length=MAX_TEXT),
            start=fields.parsed("workflow_start", _step_id),
            exception=_optional_step(fields, "workflow_exception"),
            variables=variables,
            external=external,
            steps=_steps(fields, agents),
            digest=Digest.of(encode(value)),
        )
    _check(playbook)
    return playbook


# --- the document around the steps ------------------------------------------------------------------------------------


def _head(fields: Fields) -> None:
    fields.constant("type", "playbook")
    fields.constant("spec_version", "cacao-2.0")
    fields.parsed("created_by", _identity_id)
    for name in ("created", "modified"):
        fields.parsed(name, _stamp)
    for name in ("playbook_types", "playbook_activities", "labels"):
        if fields.optional(name):
            fields.texts(name, most=32, max_length=96)
    for name in ("priority", "severity", "impact"):
        if fields.optional(name):
            fields.integer(name, most=100)


def _definitions(fields: Fields) -> frozenset[str]:
    with fields.child("agent_definitions") as agents:
        names = agents.names(most=8)
        for name in names:
            _agent_id(name)
            with agents.child(name) as agent:
                agent.constant("type", name.partition("--")[0])
                agent.text("name", max_length=96)
    with fields.child("extension_definitions") as extensions, extensions.child(EXTENSION) as ours:
        ours.constant("type", "extension-definition")
        ours.text("name", max_length=96)
        ours.text("description", max_length=MAX_TEXT)
        ours.parsed("created_by", _identity_id)
        ours.text("schema", max_length=MAX_TEXT)
        ours.constant("version", "1.0.0")
    return frozenset(names)


def _variables(fields: Fields) -> tuple[Mapping[str, str], frozenset[str]]:
    values: dict[str, str] = {}
    external = set()
    with fields.child("playbook_variables") as variables:
        for written in variables.names(most=MAX_VARIABLES):
            name = variable_of(written)
            with variables.child(written) as one:
                one.constant("type", "string")
                one.text("description", max_length=MAX_TEXT)
                values[name] = one.text("value")
                if one.optional("external") and one.boolean("external"):
                    external.add(name)
    return MappingProxyType(values), frozenset(external)


def _steps(fields: Fields, agents: frozenset[str]) -> Mapping[str, Step]:
    steps = {}
    with fields.child("workflow") as workflow:
        for name in workflow.names(most=MAX_STEPS):
            _step_id(name)
            with workflow.child(name) as one:
                steps[name] = _step(name, one, agents)
    return MappingProxyType(steps)


def _step(name: str, fields: Fields, agents: frozenset[str]) -> Step:
    kind = StepKind(name.rpartition("--")[0])
    fields.constant("type", kind.value)
    common = _common(name, kind, fields)
    match kind:
        case StepKind.START | StepKind.END:
            return common
        case StepKind.ACTION:
            return _action(common, fields, agents)
        case StepKind.PLAYBOOK:
            return replace(common, playbook=fields.parsed("playbook_id", _playbook_id))
        case StepKind.PARALLEL:
            branches = fields.texts("next_steps", most=MAX_BRANCHES)
            return replace(common, branches=tuple(_step_id(one) for one in branches))
        case StepKind.IF | StepKind.WHILE:
            return replace(
                common,
                condition=read_condition(fields.text("condition", max_length=500)),
                on_true=_needed_step(fields, "on_true"),
                on_false=_optional_step(fields, "on_false") if kind is StepKind.IF else "",
            )
        case StepKind.SWITCH:
            return _switch(common, fields)


def _common(name: str, kind: StepKind, fields: Fields) -> Step:
    """Read what every kind of step has."""
    if fields.optional("description"):
        fields.text("description", max_length=MAX_TEXT)
    return Step(
        id=name,
        kind=kind,
        name=fields.text("name", max_length=200) if fields.optional("name") else "",
        delay=fields.integer("delay", least=1, most=MAX_TIMEOUT) if fields.optional("delay") else 0,
        timeout=fields.integer("timeout", least=1, most=MAX_TIMEOUT) if fields.optional("timeout") else 0,
        on_completion=_optional_step(fields, "on_completion"),
        on_success=_optional_step(fields, "on_success"),
        on_failure=_optional_step(fields, "on_failure"),
    )


def _action(common: Step, fields: Fields, agents: frozenset[str]) -> Step:
    if fields.text("agent") not in agents:
        raise PlaybookError(f"`{fields.where}` names an agent that isn't defined")
    act = _extension(fields) if fields.optional("step_extensions") else None
    commands = fields.objects("commands", _command, most=1)
    if len(commands) != 1:
        raise PlaybookError(f"`{fields.where}` must have one command: what several do together nobody can take back")
    text = commands[0]
    if (text is None) != (act is not None):
        raise PlaybookError(f"`{fields.where}`: a `{COMMAND}` command and its extension go together")
    out = fields.texts("out_args", most=MAX_VARIABLES) if fields.optional("out_args") else ()
    command = act if act is not None else Manual(text=text or "")
    return replace(common, command=command, out=tuple(variable_of(one) for one in out))


def _command(fields: Fields) -> str | None:
    kind = fields.text("type")
    if fields.optional("playbook_activity"):
        fields.text("playbook_activity")
    if fields.optional("description"):
        fields.text("description", max_length=MAX_TEXT)
    if kind == COMMAND:
        return None
    if kind != "manual":
        raise PlaybookError(f"`{fields.where}`: only `manual` and `{COMMAND}` commands are taken")
    return fields.text("command", max_length=MAX_TEXT)


def _extension(fields: Fields) -> Act:
    with fields.child("step_extensions") as extensions, extensions.child(EXTENSION) as ours:
        subject = ours.text("subject")
        if not subject.endswith(":value"):
            raise PlaybookError(f"`{ours.where}.subject` must be a variable's value")
        return Act(action=ours.parsed("action", ActionName), subject=variable_of(subject.removesuffix(":value")))


def _switch(common: Step, fields: Fields) -> Step:
    switch = fields.text("switch")
    if not switch.endswith(":value"):
        raise PlaybookError(f"`{fields.where}.switch` must be a variable's value")
    with fields.child("cases") as cases:
        found = tuple((case, _needed_step(cases, case)) for case in cases.names(most=MAX_BRANCHES))
    return replace(common, switch=variable_of(switch.removesuffix(":value")), cases=found)


# --- what no step can know alone --------------------------------------------------------------------------------------


def _check(playbook: Playbook) -> None:
    steps = playbook.steps
    if playbook.start not in steps or steps[playbook.start].kind is not StepKind.START:
        raise PlaybookError("the playbook's `workflow_start` isn't a start step of its own")
    if playbook.exception and playbook.exception not in steps:
        raise PlaybookError("the playbook's `workflow_exception` isn't a step of its own")
    for step in steps.values():
        _check_step(step, playbook)
    reached = _walk(steps, [playbook.start, *([playbook.exception] if playbook.exception else [])])
    if missing := next((name for name in steps if name not in reached), None):
        raise PlaybookError(f"no path leads to step `{missing}`")


def _check_step(step: Step, playbook: Playbook) -> None:
    if any(name not in playbook.steps for name in step.ways):
        raise PlaybookError(f"step `{step.id}` leads to a step that isn't there")
    if any(playbook.steps[name].kind is StepKind.START for name in step.ways):
        raise PlaybookError(f"step `{step.id}` leads to a start step")
    after = bool(step.on_completion), bool(step.on_success), bool(step.on_failure)
    allowed = {
        StepKind.END: {(False, False, False)},
        StepKind.START: {(True, False, False)},
    }.get(step.kind, {(True, False, False), (False, True, False), (False, True, True)})
    if after not in allowed:
        raise PlaybookError(
            f"step `{step.id}`: it goes on by `on_completion` alone, or by `on_success` and `on_failure`"
        )
    if step.kind is StepKind.PARALLEL and len(set(step.branches)) < 2:
        raise PlaybookError(f"step `{step.id}` needs two branches or more")
    if step.kind is StepKind.SWITCH and not step.cases:
        raise PlaybookError(f"step `{step.id}` has no case")
    if undeclared := next((name for name in _used(step) if name not in playbook.variables), None):
        raise PlaybookError(f"step `{step.id}` uses `{undeclared}`, which isn't a variable of the playbook")


def _used(step: Step) -> tuple[str, ...]:
    subject = (step.command.subject,) if isinstance(step.command, Act) else ()
    switch = (step.switch,) if step.switch else ()
    return (*subject, *switch, *step.out, *(step.condition.variables if step.condition else ()))


def _walk(steps: Mapping[str, Step], begin: Sequence[str]) -> frozenset[str]:
    """Return what is reached, by a depth-first walk; a step met on its own path is a way back."""
    done: set[str] = set()
    path: list[str] = []
    todo: list[tuple[str, bool]] = [(name, False) for name in begin]
    while todo:
        name, leaving = todo.pop()
        if leaving:
            path.pop()
            done.add(name)
        elif name in path:
            raise PlaybookError(f"step `{name}` leads back to itself: loops are written as `while-condition`")
        elif name not in done:
            path.append(name)
            todo.append((name, True))
            todo += [(way, False) for way in steps[name].ways]
    return frozenset(done)


@dataclass(frozen=True, slots=True)
class _Form:
    """Takes text of one form, as it is."""

    pattern: re.Pattern[str]
    what: str

    def __call__(self, text: str) -> str:
        if not self.pattern.fullmatch(text):
            raise MalformedError(f"{self.what} isn't of its form")
        return text


_step_id: Final = _Form(_STEP, "a step's id")
_playbook_id: Final = _Form(_PLAYBOOK, "a playbook's id")
_identity_id: Final = _Form(_IDENTITY, "an identity's id")
_agent_id: Final = _Form(_AGENT, "an agent's id")
_stamp: Final = _Form(_STAMP, "a time with milliseconds")


def _needed_step(fields: Fields, name: str) -> str:
    return fields.parsed(name, _step_id)


def _optional_step(fields: Fields, name: str) -> str:
    return _needed_step(fields, name) if fields.optional(name) else ""
