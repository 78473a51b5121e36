"""Vetting that ends and access that nobody uses: the same lists for the command line, Today and People."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from strongroom.audit.adapters.index import SqliteIndex
from strongroom.audit.facts import Fact
from strongroom.client import reviews
from strongroom.client.reviews import DAY, SOON, UNUSED
from strongroom.client.state import CapUse, PersonStanding
from strongroom.client.told import GrantShown, RequestPage
from strongroom.console.growing import OneStep
from strongroom.console.log_reader import LogReader, Opened
from strongroom.console.routes import people, today
from strongroom.console.visits import Visit
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId, PersonId
from support.log_views import MemoryView, log_of
from support.logs import AT

NOW = AT + 1_000_000


def one(name: str, until: int | None, *, active: bool = True, suspended: bool = False) -> PersonStanding:
    return PersonStanding(
        person=PersonId(name), kind="human", unit="research", roles=("requester",), active=active, suspended=suspended,
        tier=3, vetted_until=until, serial=1, hardware_keys=1,
    )  # fmt: skip


def grant(name: str, issued: int, *, used: int | None = None, live: bool = True) -> GrantShown:
    return GrantShown(
        grant=Digest.of(name.encode()), requester=PersonId("dana"), model=ModelId("atlas-7b"), access="read",
        issued=issued, expires=NOW + DAY, uses=3, last_used=used, live=live,
    )  # fmt: skip


PEOPLE = (
    one("later", NOW + SOON + 1),
    one("at-the-end", NOW + SOON),
    one("tomorrow", NOW + DAY),
    one("over", NOW),
    one("never", None),
    one("left", NOW + DAY, active=False),
    one("suspended", NOW + 2 * DAY, suspended=True),
)
GRANTS = (
    grant("used", NOW - 90 * DAY, used=NOW - UNUSED + 1),
    grant("idle", NOW - 90 * DAY, used=NOW - UNUSED),
    grant("never-used", NOW - 60 * DAY),
    grant("new", NOW - DAY),
    grant("ended", NOW - 90 * DAY, live=False),
)


def test_vetting_is_told_of_once_whether_it_ends_or_is_over() -> None:
    ending, over = reviews.ending(PEOPLE, NOW), reviews.uncleared(PEOPLE, NOW)
    assert [found.person for found in ending] == ["tomorrow", "suspended", "at-the-end"]
    assert [found.person for found in over] == ["never", "over"]
    assert not {found.person for found in ending} & {found.person for found in over}


def test_access_is_due_that_nobody_used_for_that_long() -> None:
    assert reviews.unused(GRANTS, NOW) == [GRANTS[2], GRANTS[1]]
    assert [found.grant for found in reviews.unused(GRANTS, NOW, seconds=0)] == [
        GRANTS[index].grant for index in (2, 1, 0, 3)
    ]


@pytest.fixture
def visit(tmp_path: Path) -> Iterator[Visit]:
    """Visit a deployment that says just that."""
    reviewed: dict[str, Fact] = {"reviewer": "vera", "kept": 3}
    view = MemoryView(log_of([(EventName.ACCESS_REVIEWED, 1, reviewed), (EventName.BREAK_GLASS_REVIEWED, 1, {})]))
    api = SimpleNamespace(
        people=lambda: (PEOPLE, (CapUse(access="read", people=9, cap=10),)), grants=lambda: GRANTS,
        requests_page=lambda **_asked: RequestPage(requests=(), next=""),
    )  # fmt: skip
    trust = SimpleNamespace(
        models={}, waiting=(), suspended=(), egress=None, policy=None, roster=None, precautions=(),
        head=SimpleNamespace(size=len(view.log), root=Digest.of(b"root")),
    )  # fmt: skip
    with closing(SqliteIndex(tmp_path / "index")) as index:
        made = Visit(
            me=cast("Any", SimpleNamespace(person=PersonId("dana"), session=SimpleNamespace(api=api))), origin="",
            now=NOW, random_bytes=bytes, reader=LogReader(index), verified=cast("Any", trust),
        )  # fmt: skip
        made.opened = Opened(cast("Any", view), view.head(), OneStep(index))
        yield made


def test_people_lists_vetting_and_access_that_are_due(visit: Visit) -> None:
    told = cast("Any", people.people(visit).data)
    assert [row["person"] for row in told["ending"]] == ["tomorrow", "suspended", "at-the-end"]
    assert (told["ending_count"], told["soon_days"], told["unused_days"]) == (3, 30, 30)
    assert told["uncleared"] == ["never", "over"]
    assert [(row["grant"], row["used"]) for row in told["unused"]] == [
        (str(GRANTS[2].grant), False),
        (str(GRANTS[1].grant), True),
    ]
    assert told["unused_count"] == 2
    assert [(row["reviewer"], row["kept"]) for row in told["reviewed"]] == [("vera", 3)]
    assert len(told["break_glass"]) == 1


def test_today_lists_the_same_vetting(visit: Visit) -> None:
    told = cast("Any", today.today(visit).data)
    assert told["vetting_ending"] == cast("Any", people.people(visit).data)["ending"]
    assert len(told["vetting_ending"]) == 3
