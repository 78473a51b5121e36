"""What an engine says to a mistake in a policy or in its input: shown by making it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import cedarpy
import regopy  # type: ignore[import-untyped]
from benchmarks.access_parts.drawn import document
from benchmarks.access_parts.engines import MATCHERS, REGO, Casbin, Rego

from strongroom.access.engine import DEFAULT_CEDAR, SCHEMA_TEXT, CedarEngine, _entities, _request
from strongroom.access.facts import Facts
from strongroom.core.canonical import Json
from strongroom.core.errors import StrongroomError
from support.facts import good, policy


def shown() -> Iterator[tuple[str, tuple[str, str, str]]]:
    """Yield each mistake and what came of it: in Cedar as we use it, in Casbin, in Rego."""
    bad = replace(good(), requester=replace(good().requester, conflict=True))
    yield (
        "the policy says `conflikt`; the requester has a conflict",
        (
            _said(lambda: CedarEngine(policy(_spelt(DEFAULT_CEDAR))).allows(bad) is not None),
            _casbin({action: _spelt(text) for action, text in MATCHERS.items()}, document(bad)),
            _rego(_spelt(REGO), document(bad)),
        ),
    )
    yield (
        "the input lacks `conflict`",
        (
            _cedar(lambda principal: principal.pop("conflict")),
            _casbin(MATCHERS, _without("conflict")),
            _rego(REGO, _without("conflict")),
        ),
    )
    text = _with_tier("0")
    yield (
        "the requester's tier is the text `0`, 2 is wanted",
        (_cedar(lambda principal: principal.update(tier="0")), _casbin(MATCHERS, text), _rego(REGO, text)),
    )


def _spelt(text: str) -> str:
    return text.replace("principal.conflict", "principal.conflikt").replace("sub.conflict", "sub.conflikt")


def _principal(given: dict[str, Json]) -> dict[str, Json]:
    found = given["principal"]
    assert isinstance(found, dict)
    return found


def _without(name: str) -> dict[str, Json]:
    given = document(good())
    del _principal(given)[name]
    return given


def _with_tier(tier: str) -> dict[str, Json]:
    given = document(good())
    _principal(given)["tier"] = tier
    return given


def _said(ask: Callable[[], bool]) -> str:
    try:
        return "ALLOWED" if ask() else "denied"
    except StrongroomError as error:
        return f"refused at load ({error.code})"
    except Exception as error:  # noqa: BLE001 - whatever a library raises is what is shown
        return f"raised {type(error).__name__}"


def _cedar(change: Callable[[dict[str, Any]], object]) -> str:
    facts: Facts = good()

    def ask() -> bool:
        schema = cedarpy.Schema.from_str(SCHEMA_TEXT)
        entities: Any = _entities(facts)
        change(next(one["attrs"] for one in entities if one["uid"]["id"] == facts.requester.id))
        slice_ = cedarpy.Entities.from_json_str(json.dumps(entities), schema)
        result = cedarpy.is_authorized(_request(facts), cedarpy.PolicySet.from_str(DEFAULT_CEDAR), slice_, schema)
        return result.decision is cedarpy.Decision.Allow

    return _said(ask)


def _casbin(matchers: dict[str, str], given: dict[str, Json]) -> str:
    return _said(lambda: (engine := Casbin(matchers)).ask(engine.of(given)))


def _rego(text: str, given: dict[str, Json]) -> str:
    return _said(lambda: Rego(text).ask(regopy.Input(given)))
