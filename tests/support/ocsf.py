"""A strict checker of OCSF events against a cut of the compiled schema: what is unknown to it is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

SCHEMA = Path(__file__).resolve().parents[1] / "vectors" / "ocsf-1.8.0.json"
_PLAIN = {"string_t": str, "integer_t": int, "long_t": int, "boolean_t": bool, "float_t": float}


@cache
def schema() -> Mapping[str, Any]:
    """Return the cut schema."""
    loaded: Mapping[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return loaded


def check_event(event: Mapping[str, Any]) -> None:
    """Check an event.

    :raises AssertionError: it isn't one of its class.
    """
    rules = schema()["classes"][str(event["class_uid"])]
    assert event["category_uid"] == event["class_uid"] // 1000
    assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
    assert event["metadata"]["version"] == schema()["version"]
    _object(event, rules, frozenset(event["metadata"].get("profiles", ())), "event")


def _object(value: Mapping[str, Any], rules: Mapping[str, Any], profiles: frozenset[str], where: str) -> None:
    attributes = {
        name: one
        for name, one in rules["attributes"].items()
        if one.get("profile") is None or one["profile"] in profiles
    }
    assert value.keys() <= attributes.keys(), (where, "unknown", value.keys() - attributes.keys())
    wanted = {name for name, one in attributes.items() if one["requirement"] == "required"}
    assert wanted <= value.keys(), (where, "missing", wanted - value.keys())
    for kind, names in rules["constraints"].items():
        there = len([name for name in names if name in value])
        assert there >= 1 if kind == "at_least_one" else there == 1, (where, kind, names)
    for name, item in value.items():
        one = attributes[name]
        if one.get("is_array"):
            assert isinstance(item, list), (where, name)
        for part in item if one.get("is_array") else [item]:
            _value(part, one, profiles, f"{where}.{name}")


def _value(value: Any, rules: Mapping[str, Any], profiles: frozenset[str], where: str) -> None:
    kind = rules["type"]
    if kind in schema()["types"]:
        _plain(value, kind, where)
    elif kind == "object":
        assert isinstance(value, dict), where
    else:
        assert isinstance(value, dict), where
        _object(value, schema()["objects"][kind], profiles, where)
    if "enum" in rules:
        assert str(value) in rules["enum"], (where, value)


def _plain(value: Any, kind: str, where: str) -> None:
    told = schema()["types"][kind]
    base = kind
    while base not in _PLAIN:
        base = schema()["types"][base].get("type", "string_t")
    assert isinstance(value, _PLAIN[base]), (where, kind, value)
    assert base == "boolean_t" or not isinstance(value, bool), (where, value)
    if "regex" in told and isinstance(value, str):
        assert re.search(told["regex"], value), (where, value)
