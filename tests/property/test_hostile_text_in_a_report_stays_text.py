"""Whatever stands in an assessment, a report shows it as text: no markup, no formula, no other structure."""

from __future__ import annotations

import csv
import io
import json
from functools import cache
from typing import Any

import yaml
from hypothesis import Phase, given, settings

from strongroom.assurance.reports.forms import FORMS
from strongroom.framework.catalogue import load
from support.reported import HOSTILE, shape, with_text


def keys(value: Any) -> Any:
    """Return a document's structure without its texts."""
    if isinstance(value, dict):
        return {name: keys(inner) for name, inner in value.items()}
    return [keys(one) for one in value] if isinstance(value, list) else type(value)


def made(text: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name in ("html", "csv", "oscal", "ciso", "mappings"):
        found.update(FORMS[name].writer()(with_text(text), load()))
    return found


def read(library: bytes) -> Any:
    """Read YAML, by the C parser where there is one."""
    return yaml.load(library, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe


@cache
def plain() -> dict[str, bytes]:
    """Return the reports with harmless text."""
    return made("plain")


@settings(max_examples=5, deadline=None, phases=(Phase.generate,))
@given(HOSTILE)
def test_every_report_keeps_its_structure(text: str) -> None:
    found = made(text)
    assert found.keys() == plain().keys()
    assert shape(found["assessment.html"]) == shape(plain()["assessment.html"])
    for name in found:
        if name.endswith(".json"):
            assert keys(json.loads(found[name])) == keys(json.loads(plain()[name])), name
        if name.endswith(".csv"):
            rows = list(csv.reader(io.StringIO(found[name].decode())))
            assert {len(row) for row in rows} == {len(rows[0])}
            assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)
    assert keys(read(found["ciso-assistant.yaml"])) == keys(read(plain()["ciso-assistant.yaml"]))
