"""SigmaHQ's own regression cases, where a checkout is given: rules compiled, recorded attacks matched."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from strongroom.core.errors import StrongroomError
from strongroom.detection.adapters.sigma_rules import compile_rules
from strongroom.detection.matching import Predicate, Value, compile_expression
from strongroom.detection.wiring import linear_regex

TREES = ("rules", "rules-threat-hunting", "rules-emerging-threats")


def regression(checkout: Path) -> dict[str, Any]:
    """Return how many rules compile, how many recorded cases match, and what doesn't."""
    rules, refused = _compiled(checkout)
    matched, missed = 0, list[str]()
    for info in sorted((checkout / "regression_data").rglob("info.yml")):
        rule = rules.get(str(yaml.safe_load(info.read_text("utf-8"))["rule_metadata"][0]["id"]))
        for recorded in sorted(info.parent.glob("*.json")) if rule else ():
            if rule and any(rule(_low(event), event) for event in _events(recorded)):
                matched += 1
            else:
                missed.append(recorded.stem)
    return {"compiled": len(rules), "refused": refused, "matched": matched, "missed": missed}


def _compiled(checkout: Path) -> tuple[dict[str, Predicate], list[str]]:
    rules, refused = dict[str, Predicate](), list[str]()
    for path in sorted(path for tree in TREES for path in (checkout / tree).rglob("*.yml")):
        text = path.read_text("utf-8")
        try:
            (rule, *_more), _correlations = compile_rules([(path.name, text)])
            rules[str(yaml.safe_load(text)["id"])] = compile_expression(rule.expression, linear_regex)
        except (StrongroomError, ValueError):
            refused.append(path.stem)
    return rules, refused


def _events(path: Path) -> Iterator[Mapping[str, Value]]:
    text, decoder, at = path.read_text("utf-8-sig").strip(), json.JSONDecoder(), 0
    while at < len(text):
        found, at = decoder.raw_decode(text, at)
        while at < len(text) and text[at].isspace():
            at += 1
        for event in found if isinstance(found, list) else (found,):
            flat: dict[str, Value] = {}
            _flatten(event, flat)
            yield flat


def _flatten(event: Mapping[str, Any], flat: dict[str, Value]) -> None:
    for name, value in event.items():
        if isinstance(value, dict):
            _flatten(value, flat)
        else:
            flat[name] = tuple(map(str, value)) if isinstance(value, list) else value


def _low(event: Mapping[str, Value]) -> dict[str, Value]:
    return {name: _lower(value) for name, value in event.items()}


def _lower(value: Value) -> Value:
    if isinstance(value, tuple):
        return tuple(str(item).lower() for item in value)
    return value.lower() if isinstance(value, str) else value
