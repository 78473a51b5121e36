"""Several readers of one memory: none waits for another's broker, and what was seen only moves forward."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from strongroom.access.request import LogHead
from strongroom.client import service
from strongroom.client.service import Session
from strongroom.client.trust import Trust
from strongroom.client.wallet import MOST_LOOKS, Seen, SeenDocument, advance
from strongroom.core.digest import Digest
from strongroom.core.errors import UnavailableError
from strongroom.release.documents import DocumentKind


def seen_at(size: int) -> Seen:
    return Seen(log=LogHead(size=size, root=Digest.of(b"root %d" % size)))


class Memory:
    """A wallet's memory in memory; it writes down whatever was remembered."""

    def __init__(self) -> None:
        self.lock, self.known, self.history = threading.Lock(), seen_at(1), list[int]()

    def seen(self) -> Seen:
        return self.known

    def remember(self, seen: Seen) -> None:
        assert self.lock.locked()
        self.known = seen
        self.history.append(seen.log.size)

    def exclusive(self) -> AbstractContextManager[Any]:
        return self.lock


def wallet(memory: Memory) -> Any:
    return cast("Any", memory)


def test_only_who_saw_what_is_remembered_moves_it() -> None:
    memory = Memory()
    assert advance(wallet(memory), seen_at(1), seen_at(5))
    assert not advance(wallet(memory), seen_at(1), seen_at(3))
    assert memory.known == seen_at(5)


def test_who_saw_the_same_needs_not_look_again() -> None:
    memory = Memory()
    assert advance(wallet(memory), seen_at(1), seen_at(5))
    assert advance(wallet(memory), seen_at(1), seen_at(5))
    assert memory.history == [5]


class Broker:
    """Answers with a log of some size; what happens before the answer is a test's to say."""

    def __init__(self, memory: Memory, sizes: list[int]) -> None:
        self.sizes, self.meanwhile, self.memory = sizes, list[Any](), memory

    def state(self) -> int:
        size = self.sizes.pop(0)
        if self.meanwhile:
            self.meanwhile.pop(0)()
        return size

    def session(self, monkeypatch: pytest.MonkeyPatch) -> Session:
        def verified(_log: object, before: Seen, size: int, _prove: object) -> Any:
            # Checked against what was remembered before the state was asked for.
            assert size >= before.log.size
            return SimpleNamespace(seen=seen_at(size))

        monkeypatch.setattr(service, "verify_state", verified)
        api = SimpleNamespace(state=self.state, consistency=None, seams=None)
        made = Session(cast("Any", api), wallet(self.memory), cast("Any", None))
        made._log = cast("Any", object())
        return made


def seen_of(trust: Trust) -> int:
    return trust.seen.log.size


def test_who_was_overtaken_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory()
    broker = Broker(memory, [3, 9])
    broker.meanwhile = [lambda: advance(wallet(memory), seen_at(1), seen_at(7))]
    assert seen_of(broker.session(monkeypatch).refresh()) == 9
    assert memory.history == [7, 9]


def test_who_is_always_overtaken_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory()
    broker = Broker(memory, [*range(2, 2 + 2 * MOST_LOOKS, 2)])

    def others(size: int) -> Any:
        return lambda: advance(wallet(memory), memory.known, seen_at(size))

    broker.meanwhile = [others(size + 1) for size in broker.sizes]
    with pytest.raises(UnavailableError):
        broker.session(monkeypatch).refresh()
    assert memory.history == sorted(memory.history)


def test_a_broker_that_hangs_for_one_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, hanging, let_go = Memory(), threading.Event(), threading.Event()
    slow = Broker(memory, [5])

    def hang() -> None:
        hanging.set()
        assert let_go.wait(20)

    slow.meanwhile = [hang]
    slow.sizes += [8]
    one = slow.session(monkeypatch)
    thread = threading.Thread(target=one.refresh)
    thread.start()
    assert hanging.wait(20)
    # Meanwhile somebody else looks, and is answered.
    assert seen_of(Broker(memory, [7]).session(monkeypatch).refresh()) == 7
    let_go.set()
    thread.join(20)
    assert memory.history == [7, 8]


def test_documents_move_with_the_log() -> None:
    memory = Memory()
    roster = {DocumentKind.ROSTER: SeenDocument(epoch=2, digest=Digest.of(b"roster"))}
    newer = replace(seen_at(1), documents=roster)
    assert advance(wallet(memory), seen_at(1), newer)
    assert memory.known == newer
    # Of the same log, and older documents: who saw those has to look again.
    assert not advance(wallet(memory), seen_at(1), seen_at(5))
    assert memory.known == newer
