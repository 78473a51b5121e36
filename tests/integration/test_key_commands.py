"""Keys, typed as people type it: how old they are, a model's rotation, and an order of the root quorum."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from simulators.deployment_in_memory import InMemoryDeployment
from strongroom.core.clock import SystemClock
from strongroom.core.errors import ExitCode
from strongroom.keys.periods import PERIODS, Layer
from support.clocks import FixedClock
from support.place import Place

pytestmark = pytest.mark.integration
DAY = 86_400


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A deployment with everything in force and one sealed model."""
    with Place.opened(tmp_path, monkeypatch) as made:
        made.seal()
        yield made


def later(place: Place, seconds: int) -> None:
    clock = place.deployment.clock
    assert isinstance(clock, FixedClock)
    clock.at += seconds


def states(place: Place) -> list[tuple[str, str, int]]:
    return [(one["model"], one["state"], one["data_keys"]) for one in place.json("key", "ls", by="dana")["keks"]]


def test_keys_are_listed_with_their_states_and_what_is_due(place: Place) -> None:
    told = place.json("key", "ls", by="dana")
    assert (told["generation"], [one["epoch"] for one in told["epochs"]], told["due"]) == (1, [1], [])
    assert states(place) == [("minilm", "active", 1)]
    later(place, PERIODS[Layer.KEK] + DAY)
    lines = place.run("key", "ls", by="dana").output.splitlines()
    assert lines[0].startswith("root key  generation 1, 366 days old")
    assert "due       the KEK of `minilm` is due: strongroom key rotate minilm" in lines
    assert "due       epoch 1 is due: strongroom key order rotate-epoch" in lines


def test_a_models_key_is_rotated_by_who_may(place: Place) -> None:
    refused = place.run("key", "rotate", "minilm", by="rina")
    assert refused.exit_code == ExitCode.DENIED, refused.output
    done = place.json("key", "rotate", "minilm", "--ticket", "T-9", by="dana")
    assert states(place) == [("minilm", "deactivated", 1), ("minilm", "active", 0)]
    assert place.json("key", "rotate", "--request", done["request"], by="dana", code=ExitCode.DENIED)
    (due,) = place.json("key", "ls", by="dana")["due"]
    assert due == "1 data keys of `minilm` aren't known to be moved from its KEK before"
    assert place.run("key", "rotate", by="dana").exit_code == ExitCode.USAGE


def test_a_model_that_nobody_can_recover_is_named_everywhere(place: Place) -> None:
    policy = place.deployment.policy
    place.deployment.next_policy(
        replace(policy, models=tuple(replace(one, recoverable=False) for one in policy.models))
    )
    told = place.json("key", "ls", by="dana")
    # The policy alone moves no key.
    assert told["irrecoverable"] == []
    (move,) = told["moves"]
    assert move.endswith("still in escrow, against the policy: strongroom key rotate minilm")
    place.json("key", "rotate", "minilm", "--ticket", "T-9", by="dana")
    told = place.json("key", "ls", by="dana")
    assert (told["irrecoverable"], told["closed"], told["lost"], told["moves"]) == (["minilm"], [], [], [])
    assert [one["escrowed"] for one in told["epochs"]] == [True, False]
    lines = place.run("status", by="dana").output
    assert "IRRECOVERABLE     minilm" in lines
    assert "WITHOUT ESCROW" in place.run("key", "ls", by="dana").output


def test_an_order_is_written_signed_by_two_and_carried_out_once(place: Place) -> None:
    file = str(place.folder / "order.json")
    place.json("key", "order", "rotate-epoch", "--out", file, by="dana")
    early = place.run("key", "carry-out", file, by="dana")
    assert early.exit_code == ExitCode.TAMPERED, early.output
    assert place.json("key", "sign-order", file, "--yes", by="root-0")["signatures"] == 1
    shown = place.run("key", "sign-order", file, by="root-1", text="y\n").output
    for text in ("rotate-epoch", "make new epoch keys", str(place.deployment.genesis.digest), "2 of the 2"):
        assert text in shown
    assert place.run("key", "sign-order", file, "--yes", by="dana").exit_code == ExitCode.DENIED
    index = place.json("key", "carry-out", file, by="dana")["log_index"]
    assert index == place.deployment.keeper.journal.ledger.size - 2
    told = place.json("key", "ls", by="dana")
    assert [(one["epoch"], one["state"]) for one in told["epochs"]] == [(1, "destroyed"), (2, "active")]
    assert place.json("key", "carry-out", file, by="dana", code=ExitCode.DENIED)["code"] == "order-used"
    place.seal(name="sealed-2")
    assert states(place) == [("minilm", "active", 2)]


@pytest.mark.parametrize("days", ["0", "8"])
def test_no_order_is_good_for_longer_than_a_week(place: Place, days: str) -> None:
    result = place.run("key", "order", "rotate-root", "--days", days, "--out", "x.json", by="dana")
    assert result.exit_code == ExitCode.USAGE


def test_a_root_holder_of_another_deployment_signs_no_order(place: Place) -> None:
    file = place.folder / "order.json"
    place.json("key", "order", "rotate-epoch", "--out", str(file), by="dana")
    other = InMemoryDeployment(FixedClock(SystemClock().now()))
    try:
        wallet = other.wallet(place.folder / "elsewhere", "root-0")
        result = place.run("key", "sign-order", str(file), "--yes", "--offline", "--as", str(wallet))
        assert result.exit_code == ExitCode.TAMPERED, result.output
    finally:
        other.close()
    assert json.loads(file.read_text())["signatures"] == []
