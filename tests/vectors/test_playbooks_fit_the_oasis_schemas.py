"""The shipped playbooks are valid by OASIS' own JSON schemas of CACAO v2.0."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

jsonschema = pytest.importorskip("jsonschema")
referencing = pytest.importorskip("referencing")
draft7 = pytest.importorskip("referencing.jsonschema").DRAFT7
BUNDLE = json.loads((Path(__file__).parent / "cacao-2.0.json").read_text(encoding="utf-8"))
PLAYBOOKS = {
    one.name: json.loads(one.read_text(encoding="utf-8"))
    for one in (files("strongroom.response") / "playbooks").iterdir()
    if one.name.endswith(".json")
}


def errors(playbook: Any) -> list[str]:
    resources = [
        (one["$id"], referencing.Resource.from_contents(one, default_specification=draft7)) for one in BUNDLE["schemas"]
    ]
    registry = referencing.Registry().with_resources(resources)
    top = next(one for one in BUNDLE["schemas"] if one["$id"].endswith("/playbook.json"))
    return [error.message for error in jsonschema.Draft7Validator(top, registry=registry).iter_errors(playbook)]


def test_the_schemas_are_the_published_ones() -> None:
    assert "Apache-2.0" in BUNDLE["provenance"]["licence"]
    assert len(BUNDLE["schemas"]) >= 40
    assert len(PLAYBOOKS) == 8


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_each_playbook_fits(name: str) -> None:
    assert errors(PLAYBOOKS[name]) == []


def test_the_schemas_refuse_what_is_wrong() -> None:
    for member, value in (("spec_version", "cacao-1.0"), ("id", "x"), ("severity", 101), ("workflow_start", "x")):
        assert errors({**PLAYBOOKS["insider.json"], member: value})
    workflow = {
        name: {key: value for key, value in step.items() if key != "agent"}
        for name, step in PLAYBOOKS["insider.json"]["workflow"].items()
    }
    assert errors({**PLAYBOOKS["insider.json"], "workflow": workflow})
