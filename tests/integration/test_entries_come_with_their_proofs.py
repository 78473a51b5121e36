"""Entries wherever they stand, in one call of the broker: each with the path that proves it, and never too many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from strongroom.audit.errors import ProofError
from strongroom.audit.merkle import leaf_hash, tree_root, verify_inclusion
from strongroom.core.encoding import from_base64
from support.brokers import RunningBroker, broker_beside
from support.deployment import Deployment

pytestmark = pytest.mark.integration
MOST = 32


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    with Deployment.found(tmp_path_factory.mktemp("home")) as founded:
        founded.start("log")
        founded.start("keeper")
        founded.adopt_first()
        broker = broker_beside(founded.home, founded.genesis)
        yield broker
        assert broker.stop() == 0


def get(running: RunningBroker, query: str) -> Any:
    told = running.caller("dana").get(f"/v1/log/{query}")
    assert told.status == 200, told.text
    return told.json


def test_each_entry_is_the_logged_one_and_its_path_proves_it(running: RunningBroker) -> None:
    logged = [from_base64(one) for one in get(running, "entries?start=0&count=256")["entries"]]
    size, asked = len(logged), [*range(len(logged) - 1, -1, -2)]
    told = get(running, f"proof/entries?at={','.join(map(str, asked))}&size={size}")["entries"]
    assert [from_base64(one["entry"]) for one in told] == [logged[place] for place in asked]
    for place, one in zip(asked, told, strict=True):
        alone = get(running, f"proof/inclusion?index={place}&size={size}")
        assert (one["proof"], from_base64(alone["leaf"])) == (alone["proof"], leaf_hash(logged[place]))


def test_a_path_that_is_shown_for_another_entry_proves_nothing(running: RunningBroker) -> None:
    first, second = get(running, "proof/entries?at=0,1&size=2")["entries"]
    leaves = [leaf_hash(from_base64(one["entry"])) for one in (first, second)]
    root = tree_root(leaves)
    path = tuple(from_base64(one) for one in first["proof"])
    verify_inclusion(index=0, size=2, leaf=leaves[0], proof=path, root=root)
    with pytest.raises(ProofError):
        verify_inclusion(index=0, size=2, leaf=leaves[1], proof=path, root=root)


@pytest.mark.parametrize(
    ("query", "answered"),
    [
        (f"at={','.join(['0'] * MOST)}&size=1", True),
        (f"at={','.join(['0'] * (MOST + 1))}&size=1", False),
        ("at=&size=1", False),
        ("at=1,,2&size=9", False),
        ("at=-1&size=1", False),
        ("at=0&size=999999", False),
        ("at=0,5&size=5", False),
    ],
)
def test_no_more_is_answered_than_may_be_asked(running: RunningBroker, query: str, *, answered: bool) -> None:
    told = running.caller("dana").get(f"/v1/log/proof/entries?{query}")
    assert told.status < 500
    assert (told.status == 200) is answered, told.text
