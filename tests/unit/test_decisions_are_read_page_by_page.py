"""Kept decisions are read whole and each once, or it is said why not: also while new ones push old ones out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from strongroom.client.api import BrokerApi
from strongroom.client.decisions import MAX_TRIES, kept_decisions
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.errors import ConflictError, MalformedError, NotFoundError
from strongroom.release.decided import DecisionNotKeptError
from support.room import MemoryDecisions

PAGE = 3


def record(number: int) -> bytes:
    return b'{"number":%d}' % number


@dataclass
class Broker:
    """Shows kept decisions, three in an answer; behind answer ``n`` the ring loses its oldest ``turns[n]``."""

    decisions: MemoryDecisions = field(default_factory=lambda: MemoryDecisions([record(n) for n in range(10)]))
    turns: dict[int, int] = field(default_factory=dict)
    asked: int = 0

    def call(
        self, _method: str, _path: str, *, body: Json = None, query: Mapping[str, str | int] | None = None
    ) -> Json:
        assert body is None
        assert query is not None
        before = Digest.parse(str(query["before"])) if "before" in query else None
        page = self.decisions.newest(min(PAGE, int(query["count"])), before)
        for _ in range(self.turns.get(self.asked, 0)):
            self.decisions.kept.pop(0)
            self.decisions.append(record(100 + self.asked))
        self.asked += 1
        return {"decisions": [to_base64(one) for one in page]}


@pytest.mark.parametrize("count", [1, PAGE, PAGE + 1, 9, 10])
def test_as_many_as_were_asked_for_are_shown(count: int) -> None:
    assert kept_decisions(BrokerApi(Broker()), count) == tuple(record(n) for n in range(10 - count, 10))


def test_fewer_are_all_that_are_kept() -> None:
    assert kept_decisions(BrokerApi(Broker()), 500) == tuple(record(n) for n in range(10))


def test_what_is_written_meanwhile_is_shown_twice_nowhere() -> None:
    broker = Broker(turns={0: 1})
    assert kept_decisions(BrokerApi(broker), 500) == tuple(record(n) for n in range(1, 10))


def test_a_ring_that_turned_past_the_last_page_is_read_anew() -> None:
    # Behind the second answer the last three are let go that it showed, and those before them.
    broker = Broker(turns={1: 8})
    found = kept_decisions(BrokerApi(broker), 500)
    assert found == tuple(dict.fromkeys(broker.decisions.kept))
    assert record(9) in found


def test_a_ring_that_turns_again_and_again_is_told_of() -> None:
    broker = Broker(turns=dict.fromkeys(range(2 * MAX_TRIES), 10))
    with pytest.raises(ConflictError) as caught:
        kept_decisions(BrokerApi(broker), 500)
    assert caught.value.reason == "decisions-turned"
    assert broker.asked == MAX_TRIES


def test_another_answer_that_nothing_is_there_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_arguments: object, **_more: object) -> Json:
        raise NotFoundError("there is nothing at this address")

    monkeypatch.setattr(Broker, "call", gone)
    with pytest.raises(NotFoundError) as caught:
        kept_decisions(BrokerApi(Broker()), 500)
    assert not isinstance(caught.value, DecisionNotKeptError)


def test_a_server_that_shows_one_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Broker, "call", lambda *_arguments, **_more: {"decisions": [to_base64(record(1))]})
    with pytest.raises(MalformedError, match="twice"):
        kept_decisions(BrokerApi(Broker()), 2)
