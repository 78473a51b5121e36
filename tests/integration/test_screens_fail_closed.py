"""Screens: the worst word counts, what can't be judged doesn't pass, and nothing goes out before it was judged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest
from structlog.testing import capture_logs

from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ModelId
from strongroom.enclave.gateway.adapters.screening import Screening
from strongroom.enclave.gateway.adapters.suspension_file import SuspensionFolder
from strongroom.enclave.gateway.screens import (
    ALLOWED,
    MAX_SCREENED,
    Category,
    ContentBlockedError,
    Direction,
    Passage,
    Ruling,
    ScreenUnavailableError,
    Verdict,
)
from strongroom.enclave.gateway.suspension import BlockLimit, CredentialSuspendedError
from support.clocks import FixedClock
from support.logs import AT

pytestmark = pytest.mark.integration
BOTH: Final = frozenset(Direction)
SECRET: Final = "the words that were blocked"
Judge = Callable[[Passage], Awaitable[Verdict]]


class Double:
    """A screen that says what a function says."""

    def __init__(
        self, judge: Callable[[str], Verdict], name: str = "double", looks: frozenset[Direction] = BOTH
    ) -> None:
        self.name, self.directions, self._judge = name, looks, judge
        self.seen: list[str] = []
        self.closed = False

    async def judge(self, passage: Passage) -> Verdict:
        self.seen.append(passage.text)
        await asyncio.sleep(0)
        return self._judge(passage.text)

    async def close(self) -> None:
        self.closed = True


def on(word: str, ruling: Ruling = Ruling.BLOCK, category: Category = Category.JAILBREAK) -> Callable[[str], Verdict]:
    return lambda text: Verdict(ruling, category) if word in text else ALLOWED


def fails(_text: str) -> Verdict:
    raise ScreenUnavailableError("gone")


def breaks(_text: str) -> Verdict:
    raise ZeroDivisionError


def screening(folder: Path, *screens: Double, **changes: Any) -> Screening:
    made: dict[str, Any] = {"limit": BlockLimit(blocks=3, seconds=60), "window": 8, "overlap": 4}
    return Screening(screens, SuspensionFolder(folder, ModelId("atlas")), FixedClock(AT), **(made | changes))


def admit(made: Screening, text: str = SECRET, principal: str = "dana") -> None:
    asyncio.run(made.admit(principal, text))


def test_requests_that_were_sent_all_at_once_are_no_way_around_a_suspension(tmp_path: Path) -> None:
    class Slow(Double):
        async def judge(self, passage: Passage) -> Verdict:
            if passage.text == "fine":
                await blocked.wait()
            return await super().judge(passage)

    blocked = asyncio.Event()
    made = screening(tmp_path, Slow(on("bad")), limit=BlockLimit(blocks=1, seconds=60))

    async def both() -> None:
        waits = asyncio.create_task(made.admit("dana", "fine"))
        await asyncio.sleep(0)
        with pytest.raises(ContentBlockedError):
            await made.admit("dana", "bad")
        blocked.set()
        with pytest.raises(CredentialSuspendedError):
            await waits

    asyncio.run(both())


def test_all_must_allow(tmp_path: Path) -> None:
    first, second = Double(on("bad")), Double(on("worse"))
    made = screening(tmp_path, first, second)
    admit(made, "fine")
    assert first.seen == second.seen == ["fine"]
    for text in ("bad", "worse"):
        with pytest.raises(ContentBlockedError) as caught:
            admit(made, text)
        assert caught.value.reason == "content-blocked.jailbreak"
        assert caught.value.http_status == 403


@pytest.mark.parametrize("broken", [fails, breaks])
def test_one_that_fails_blocks_and_is_held_against_nobody(tmp_path: Path, broken: Callable[[str], Verdict]) -> None:
    made = screening(tmp_path, Double(broken), Double(lambda _text: ALLOWED))
    for _ in range(9):
        with pytest.raises(ScreenUnavailableError) as caught:
            admit(made)
        assert caught.value.http_status == 503
    assert not (tmp_path / "atlas.suspensions").exists()


def test_a_block_counts_also_where_another_screen_fails(tmp_path: Path) -> None:
    made = screening(tmp_path, Double(fails), Double(on("bad")))
    for _ in range(3):
        with pytest.raises(ContentBlockedError):
            admit(made, "bad")
    with pytest.raises(CredentialSuspendedError):
        admit(made, "fine")


def test_what_is_flagged_passes_and_is_counted_and_the_text_is_written_nowhere(tmp_path: Path) -> None:
    made = screening(tmp_path, Double(on("words", Ruling.FLAG, Category.EXTRACTION), "guard"))
    with capture_logs() as logs:
        admit(made)
    assert made.counts == {("guard", Direction.INPUT, Ruling.FLAG): 1}
    (told,) = logs
    assert (told["screen"], told["ruling"], told["category"], told["principal"]) == (
        "guard",
        "flag",
        "extraction",
        "dana",
    )
    blocking = screening(tmp_path, Double(on("words")), limit=BlockLimit(blocks=1, seconds=1))
    with capture_logs() as logs, pytest.raises(ContentBlockedError) as caught:
        admit(blocking)
    kept = (tmp_path / "atlas.suspensions" / "dana.json").read_text()
    for place in (json.dumps(logs), kept, str(caught.value), caught.value.remedy):
        assert SECRET not in place
    assert "credential suspended" in {one["event"] for one in logs}


def test_suspended_is_refused_before_any_screen_is_asked_and_without_any(tmp_path: Path) -> None:
    screen = Double(on("bad"))
    made = screening(tmp_path, screen)
    for _ in range(3):
        with pytest.raises(ContentBlockedError):
            admit(made, "bad")
    for again in (made, screening(tmp_path, screen), screening(tmp_path)):
        with pytest.raises(CredentialSuspendedError) as caught:
            admit(again, "fine")
        assert (caught.value.code, caught.value.http_status) == ("credential-suspended", 403)
        admit(again, "fine", "kim")
    assert screen.seen == ["bad"] * 3 + ["fine"] * 2


def test_a_passage_that_is_too_long_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(ScreenUnavailableError):
        admit(screening(tmp_path, Double(lambda _text: ALLOWED)), "x" * (MAX_SCREENED + 1))
    admit(screening(tmp_path, Double(fails, looks=frozenset({Direction.OUTPUT}))), "x" * (MAX_SCREENED + 1))


async def streamed(made: Screening, pieces: list[str], principal: str = "dana") -> str:
    """Return what goes out; what was blocked ends it."""
    output, said = made.output(principal), ""
    try:
        for piece in pieces:
            said += await output.push(piece)
        said += await output.finish()
    except StrongroomError:
        return said + "!"
    return said


def test_output_waits_for_its_window_and_a_block_ends_it(tmp_path: Path) -> None:
    made = screening(tmp_path, Double(on("bomb"), looks=frozenset({Direction.OUTPUT})))
    assert asyncio.run(streamed(made, ["a quiet ", "answer"])) == "a quiet answer"
    # The word is split over two windows: the second one is judged with the end of the first.
    assert asyncio.run(streamed(made, ["here: bo", "mb, and more", "more"])) == "here: bo!"
    assert asyncio.run(streamed(made, ["bomb"])) == "!"
    # Three blocks: dana's other answers end too, at the next window.
    assert asyncio.run(streamed(made, ["bomb"])) == "!"
    assert asyncio.run(streamed(made, ["a quiet ", "answer"])) == "!"
    assert asyncio.run(streamed(made, ["a quiet ", "answer"], "kim")) == "a quiet answer"


def test_without_a_screen_for_it_output_is_not_held_back(tmp_path: Path) -> None:
    made = screening(tmp_path, Double(fails, looks=frozenset({Direction.INPUT})))

    async def first() -> str:
        return await made.output("dana").push("a")

    assert asyncio.run(first()) == "a"


def test_closing_ends_each_screen(tmp_path: Path) -> None:
    screens = [Double(fails), Double(fails)]
    asyncio.run(screening(tmp_path, *screens).close())
    assert [screen.closed for screen in screens] == [True, True]
