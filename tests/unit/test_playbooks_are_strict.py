"""Playbooks that can't be run as meant are refused whole: nothing in one is skipped."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from strongroom.core.errors import MalformedError
from strongroom.response.cacao import EXTENSION, MAX_PLAYBOOK, PlaybookError, read_playbook
from strongroom.response.conditions import read_condition
from strongroom.response.wiring import playbook_called, shipped_playbooks
from support.playbooks import AGENT, END, START, A, B, act, ask, document, sid

Doc = dict[str, Any]


def good() -> Doc:
    return document(
        {
            START: {"type": "start", "on_completion": A},
            A: ask(B),
            B: act(END),
            END: {"type": "end"},
        }
    )


def read(value: Doc) -> None:
    read_playbook(json.dumps(value).encode())


def test_a_good_one_is_read() -> None:
    read(good())


def _to(value: Doc, step: str, **members: Any) -> object:
    value["workflow"][step] |= members
    return value


def _drop(value: Doc, step: str, member: str) -> object:
    del value["workflow"][step][member]
    return value


WRONG: dict[str, Callable[[Doc], object]] = {
    "another version": lambda v: v.update(spec_version="cacao-1.1"),
    "another type": lambda v: v.update(type="playbook-template"),
    "an unknown member": lambda v: v.update(extra=1),
    "a signature inside": lambda v: v.update(signatures=[{}]),
    "a time without milliseconds": lambda v: v.update(created="2026-11-01T00:00:00Z"),
    "no start": lambda v: v.update(workflow_start=A),
    "a start elsewhere": lambda v: v.update(workflow_start=sid("start", 99)),
    "an exception that isn't there": lambda v: v.update(workflow_exception=sid("action", 99)),
    "a step to nowhere": lambda v: _to(v, A, on_completion=sid("action", 99)),
    "a step that nobody reaches": lambda v: v["workflow"].update({sid("end", 98): {"type": "end"}}),
    "a way back": lambda v: _to(v, B, on_completion=A),
    "a step after itself": lambda v: _to(v, B, on_completion=B),
    "a way to the start": lambda v: _to(v, B, on_completion=START),
    "a type that its id isn't": lambda v: _to(v, A, type="end"),
    "no way on": lambda v: _drop(v, A, "on_completion"),
    "two ways on": lambda v: _to(v, A, on_success=END),
    "only a failure's way": lambda v: (_drop(v, A, "on_completion"), _to(v, A, on_failure=END)),
    "an end that goes on": lambda v: _to(v, END, on_completion=A),
    "a start with success": lambda v: (_drop(v, START, "on_completion"), _to(v, START, on_success=A)),
    "no command": lambda v: _to(v, A, commands=[]),
    "two commands": lambda v: _to(v, A, commands=[{"type": "manual", "command": "x"}] * 2),
    "a shell": lambda v: _to(v, A, commands=[{"type": "bash", "command": "rm"}]),
    "an action without extension": lambda v: _drop(v, B, "step_extensions"),
    "a manual with extension": lambda v: _to(v, A, step_extensions=v["workflow"][B]["step_extensions"]),
    "an action of another's": lambda v: v["workflow"][B]["step_extensions"][EXTENSION].update(action="shred"),
    "a subject that isn't a variable": lambda v: v["workflow"][B]["step_extensions"][EXTENSION].update(subject="all"),
    "an undeclared subject": lambda v: v["workflow"][B]["step_extensions"][EXTENSION].update(subject="__x__:value"),
    "another extension": lambda v: v["workflow"][B]["step_extensions"].update({sid("extension-definition", 1): {}}),
    "an undeclared out": lambda v: _to(v, A, out_args=["__other__"]),
    "an agent that isn't defined": lambda v: _to(v, A, agent=AGENT.replace("01", "07")),
    "a timeout of no time": lambda v: _to(v, A, timeout=0),
    "a timeout of years": lambda v: _to(v, A, timeout=10**12),
    "a variable of another type": lambda v: v["playbook_variables"]["__said__"].update(type="integer"),
    "a variable in capitals": lambda v: v["playbook_variables"].update(__X__={"type": "string"}),
    "a constant": lambda v: v["playbook_variables"]["__said__"].update(constant=True),
    "no extension definition": lambda v: v.pop("extension_definitions"),
    "text that moves the cursor": lambda v: _to(v, A, commands=[{"type": "manual", "command": "a\x1b[2J"}]),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_is_wrong_refuses_the_whole(wrong: Callable[[Doc], object]) -> None:
    value = good()
    wrong(value)
    with pytest.raises(MalformedError):
        read(value)


def test_a_parallel_needs_two_branches_and_a_switch_a_case() -> None:
    both, switch = sid("parallel", 30), sid("switch-condition", 31)
    for step, made in (
        (both, {"type": "parallel", "next_steps": [A, A], "on_completion": END}),
        (switch, {"type": "switch-condition", "switch": "__said__:value", "cases": {}, "on_completion": END}),
        (switch, {"type": "switch-condition", "switch": "yes", "cases": {"a": A}, "on_completion": END}),
    ):
        value = good()
        value["workflow"][step] = made
        _to(value, START, on_completion=step)
        with pytest.raises(MalformedError):
            read(value)


def test_too_long_a_text_is_not_parsed() -> None:
    with pytest.raises(MalformedError):
        read_playbook(b" " * (MAX_PLAYBOOK + 1))


def test_shipped_playbooks_have_names_and_ids_of_their_own() -> None:
    books = shipped_playbooks().values()
    assert len({book.name for book in books}) == len(books) == 8
    for book in books:
        assert playbook_called(book.name) == book
        # A person is told when a step fails that nothing was planned for.
        assert book.exception


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(Exception, match="no such playbook") as caught:
        playbook_called("whatever")
    assert "insider" in getattr(caught.value, "remedy", "")


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("__a__:value = 'x'", True),
        ("__a__:value != 'x'", False),
        ("__a__:value = 'x' AND __n__:value >= 3", True),
        ("__a__:value = 'y' OR __n__:value < 4", True),
        ("__a__:value = 'y' AND __n__:value < 4", False),
        ("__n__:value = 3", True),
        ("__n__:value != 3", False),
        ("__n__:value > 3", False),
        ("__n__:value <= 3", True),
        ("__a__:value > 1", False),
        ("__missing__:value = ''", True),
        ("__a__:value = 'x AND y'", False),
    ],
)
def test_conditions_compare(text: str, holds: bool) -> None:  # noqa: FBT001 - a parameter of the table
    assert read_condition(text).holds({"a": "x", "n": "3"}) is holds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "true",
        "a = 'x'",
        "__a__ = 'x'",
        "__a__:value == 'x'",
        "__a__:value > 'x'",
        "__a__:value = 'x' AND __b__:value = 'y' OR __c__:value = 'z'",
        "__a__:value = 'it''s'",
        "__a__:value = 1 AND ",
        " AND ".join(["__a__:value = 1"] * 9),
        "__a__:value = __b__:value",
    ],
)
def test_other_conditions_are_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        read_condition(text)


def test_the_reader_names_its_error() -> None:
    value = good()
    _to(value, B, on_completion=A)
    with pytest.raises(PlaybookError, match="leads back to itself"):
        read(value)
