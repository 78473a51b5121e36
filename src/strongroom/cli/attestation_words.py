"""What ``strongroom attestation verify`` tells a person: each statement, what failed first, then the verdict."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from typing import Final

from strongroom.attestation.claims import Claim
from strongroom.attestation.errors import CollateralExpiredError, CollateralMissingError
from strongroom.attestation.isolation import IsolationClass, caps
from strongroom.attestation.recorded import FRESH_CLAIM, Recorded
from strongroom.attestation.results import Status, SubmoduleResult
from strongroom.core.clock import format_instant

_NARROWEST: Final = 80
_WIDEST: Final = 120
_LABEL: Final = 10


def statement_lines(one: Recorded) -> Iterator[str]:
    """Tell one statement."""
    result = one.result
    word = "GENUINE, WANTED" if result.status is Status.WANTED else _status(result)
    yield f"{result.name}  {result.kind}  {word}"
    for claim in _other_than_fresh(result):
        yield from _lines("failed", f"{claim.name}: seen {claim.seen or 'nothing'}; wanted {_wanted(claim)}")
    passed = [claim.name for claim in result.claims if claim.ok]
    if passed:
        yield from _lines("passed", f"{len(passed)}: {', '.join(passed)}")
    if result.status is not Status.ERROR:
        yield from _proven_lines(one)


def class_line(isolation: IsolationClass) -> str:
    """Say the class and what it can support."""
    if isolation.simulated:
        return line("class", f"{isolation}: SIMULATED, for tests; it proves nothing about a machine")
    if isolation in {IsolationClass.NONE, IsolationClass.PROCESS}:
        return line("class", f"{isolation}: this attests no machine; up to {caps(isolation)}, which asks for none")
    return line("class", f"{isolation}: can support models up to {caps(isolation)}")


def refused_class_line(isolation: IsolationClass) -> str:
    """Say the class of evidence that was refused: what it would be good for doesn't count."""
    return line("class", f"{isolation} by its kind; refused, it supports no model")


def line(label: str, text: str) -> str:
    """Lay out one entry of the heading or the verdict."""
    indent = " " * (_LABEL + 2)
    return textwrap.fill(
        _plain(text), _width(), initial_indent=f"{label:<{_LABEL}}  ", subsequent_indent=indent, break_on_hyphens=False
    )


def _proven_lines(one: Recorded) -> Iterator[str]:
    result = one.result
    for name, value in result.details.items():
        yield from _lines("told", f"{name}: {value or 'none'}")
    if result.hardware_id:
        yield from _lines("hardware", result.hardware_id.hex())
    for name, value in result.measurements.items():
        if value.strip("0"):
            yield from _lines("measured", f"{name}: {value}")
    if zeros := [name for name, value in result.measurements.items() if value and not value.strip("0")]:
        yield from _lines("all zero", ", ".join(zeros))
    for slot, data in one.committed.items():
        if data:
            yield from _lines("committed", f"{slot}: {data.hex()}")
    if result.endorsed_until is not None:
        yield from _lines("until", f"{format_instant(result.endorsed_until)}, when the first endorsement ends")


def _status(result: SubmoduleResult) -> str:
    if result.status is Status.ERROR:
        # Without what its maker publishes, genuine evidence and forged can't be told apart: neither is said.
        unknown = result.reason in {CollateralMissingError.code, CollateralExpiredError.code}
        return f"{'NOT PROVEN' if unknown else 'NOT GENUINE'} [{result.reason}]"
    failed = _other_than_fresh(result)
    if not failed:
        return "GENUINE, NOT BOUND TO A CHALLENGE"
    return f"GENUINE, REFUSED [unwanted-{failed[0].name}]"


def _other_than_fresh(result: SubmoduleResult) -> list[Claim]:
    # That no challenge was compared is what the caller asked for, and is said once, in the verdict.
    return [claim for claim in result.failed if claim.name != FRESH_CLAIM]


def _wanted(claim: Claim) -> str:
    return "nothing: the policy's list is empty" if claim.wanted == "nothing" else claim.wanted


def _lines(label: str, text: str) -> Iterator[str]:
    indent = " " * (_LABEL + 4)
    yield from textwrap.wrap(
        _plain(text),
        _width(),
        initial_indent=f"  {label:<{_LABEL}}  ",
        subsequent_indent=indent,
        break_on_hyphens=False,
    ) or [f"  {label}"]


def _plain(text: str) -> str:
    # What evidence says is anybody's text: no control character of it reaches the terminal.
    return "".join(character if character.isprintable() else "?" for character in text)


def _width() -> int:
    return min(max(shutil.get_terminal_size((100, 24)).columns, _NARROWEST), _WIDEST)
