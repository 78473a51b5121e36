"""Egress policies as root holders make them, and how far a model's odometer stands as the log proves it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from strongroom.audit.facts import Fact
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.errors import ExitCode
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId
from strongroom.egress.mirror import Mirror
from strongroom.egress.odometer import Block
from strongroom.egress.policy import EgressPolicy
from strongroom.release.metering import Metered, odometer_facts
from support.egress import LOTS, policy
from support.logs import sample_facts
from support.lying import gullible
from support.place import Place

pytestmark = pytest.mark.integration
ATLAS = policy(ModelId("atlas"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with Place.opened(tmp_path, monkeypatch, SystemClock()) as made:
        yield made


def written(place: Place, rules: EgressPolicy) -> str:
    path = place.folder / f"{rules.model}.json"
    path.write_text(json.dumps(rules.to_json(), indent=2))
    return str(path)


def proposed(place: Place, *arguments: str) -> tuple[str, dict[str, Any]]:
    out = str(place.folder / "egress.json")
    told = place.json("egress", "propose", *arguments, "--out", out, by="root-0")
    assert isinstance(told, dict)
    return out, told


def in_force(place: Place, file: str) -> None:
    for holder in ("root-0", "root-1"):
        place.json("sign", "egress", file, "--yes", by=holder)
    place.json("adopt", "egress", file, by="root-0")


def spend(place: Place, bits: int) -> None:
    """Release the model and let its odometer go on."""
    # Nobody asked for this release: only what its meter says is looked at.
    keeper, request = gullible(place.deployment.keeper), Digest.of(b"request")
    facts: dict[str, Fact] = {**sample_facts(EventName.RELEASED), "request": request, "use": 1, "model": "atlas"}
    place.deployment._run(keeper.record_pinned(EventName.RELEASED, facts))
    mirror, metered = Mirror(ATLAS.model), Metered(request=request, use=1, model=ATLAS.model)
    limit, now = ATLAS.lifetime_bits, place.deployment.clock.now()
    opened = mirror.open(epoch=1, limit=limit, day=LOTS, seen=None, now=now)
    block = Block(model=ATLAS.model, run=1, through=bits, settled=0, tokens=0, verified=0)
    entry = mirror.after(opened).advance(block, epoch=1, limit=limit, day=LOTS, now=now)
    for one in (opened, entry):
        told = odometer_facts(metered, one, ATLAS.digest)
        place.deployment._run(keeper.record_pinned(EventName.ODOMETER_ADVANCED, told))


def test_policies_are_proposed_signed_by_two_and_come_into_force(place: Place) -> None:
    refused = place.run("egress", "show", "atlas", by="dana")
    assert "egress-policy-missing" in refused.output or "no egress policy" in refused.output
    out, told = proposed(place, written(place, ATLAS), "--first")
    assert (told["epoch"], told["models"]) == (1, ["atlas"])
    assert [one["looser"] for one in told["changes"]] == [False]
    text = place.run("sign", "egress", out, by="root-0", text="n\n").output
    for part in ("egress, epoch 1", "model atlas: 1,000,000 parameters", "its life ends at 200,000 bits", "workspace"):
        assert part in text
    in_force(place, out)
    shown = place.json("egress", "show", "atlas", by="dana")
    assert isinstance(shown, dict)
    assert (shown["policy"]["model"], shown["spent"], shown["log_index"]) == ("atlas", 0, None)
    assert place.json("status", by="dana")["documents"]["egress"]["epoch"] == 1


def test_what_lets_more_out_is_marked_before_it_is_signed(place: Place) -> None:
    in_force(place, proposed(place, written(place, ATLAS), "--first")[0])
    looser = replace(ATLAS, lifetime_permille=600, quota_holders=1)
    out, told = proposed(place, written(place, looser))
    assert sorted(one["looser"] for one in told["changes"]) == [False, True]
    text = place.run("sign", "egress", out, by="root-0", text="n\n").output
    assert "LOOSER   model `atlas`: lifetime_permille 600, was 500" in text
    assert "tighter  model `atlas`: quota_holders 1, was 50" in text
    in_force(place, out)
    out, told = proposed(place, "--remove", "atlas")
    assert (told["models"], [one["looser"] for one in told["changes"]]) == ([], [True])
    for arguments in (("--remove", "boreas"), (), (written(place, replace(ATLAS, model_day_bits=2000)),)):
        assert place.run("egress", "propose", *arguments, "--out", out, by="root-0").exit_code != 0
    # One of epoch 2 again doesn't follow the one in force.
    again, _told = proposed(place, written(place, looser))
    value = json.loads(Path(again).read_bytes())
    Path(again).write_text(json.dumps({**value, "epoch": 2}))
    assert place.run("sign", "egress", again, "--yes", by="root-0").exit_code != 0


def test_a_model_that_was_taken_out_comes_back_marked_as_looser(place: Place) -> None:
    in_force(place, proposed(place, written(place, ATLAS), "--first")[0])
    spend(place, 1000)
    in_force(place, proposed(place, "--remove", "atlas")[0])
    out, _told = proposed(place, written(place, replace(ATLAS, lifetime_permille=900)))
    text = place.run("sign", "egress", out, by="root-0", text="n\n").output
    assert "LOOSER   model `atlas` is new, which had an odometer already" in text
    # What never had one is neither, and isn't called tighter.
    out, _told = proposed(place, written(place, replace(ATLAS, model=ModelId("boreas"))))
    assert "new      model `boreas` is new" in place.run("sign", "egress", out, by="root-0", text="n\n").output


def test_what_is_spent_is_proven_by_the_log(place: Place) -> None:
    in_force(place, proposed(place, written(place, ATLAS), "--first")[0])
    spend(place, 120_000)
    text = place.run("egress", "show", "atlas", by="dana").output
    for part in (
        "120,000 of 200,000 bits are spent (60.0 %)",
        "left     80,000 bits, 8,000 tokens",
        "warning  500 of 1,000 of the model's life are passed",
    ):
        assert part in text, text
    deployment = place.deployment

    def forged(path: str, answer: Json) -> Json:
        if path == "/v1/log/entries" and isinstance(answer, dict) and isinstance(answer["entries"], list):
            good = from_base64(str(answer["entries"][0]))
            return {**answer, "entries": [to_base64(good.replace(b'"total":120000', b'"total":20000'))]}
        return answer

    def older(path: str, answer: Json) -> Json:
        if path == "/v1/egress/atlas" and isinstance(answer, dict) and isinstance(answer["index"], int):
            return {**answer, "index": answer["index"] - 1, "total": 0}
        return answer

    def elsewhere(path: str, answer: Json) -> Json:
        if path == "/v1/log/entries" and isinstance(answer, dict):
            return {**answer, "entries": [to_base64(deployment.log.entries[2])]}
        return answer

    deployment.forge = forged
    assert place.run("egress", "show", "atlas", by="dana").exit_code == ExitCode.TAMPERED
    deployment.forge = elsewhere
    assert place.run("egress", "show", "atlas", by="dana").exit_code == ExitCode.TAMPERED
    # An older entry is genuine: that it is the newest is the server's word, and the page says so.
    deployment.forge = older
    assert "0 of 200,000 bits" in place.run("egress", "show", "atlas", by="dana").output
