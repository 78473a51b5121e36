"""The API's page names every route and no other; the OpenAPI document is 3.1, whole, and holds no example value."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from strongroom.broker.app import PREFIX, make_api, openapi
from strongroom.core.errors import StrongroomError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "spec" / "http-api.md"
ROUTE = re.compile(r"^\| (GET|POST) \| `(/v1/[^`]*)`", re.MULTILINE)


def served() -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, item in openapi()["paths"].items() for method in item}


def test_the_page_lists_what_is_served() -> None:
    listed = ROUTE.findall(PAGE.read_text(encoding="utf-8"))
    assert len(listed) == len(set(listed))
    # Queries are shown behind the path, which OpenAPI lists apart.
    assert {(method, path.partition("?")[0]) for method, path in listed} == served()


def test_the_page_lists_every_status_that_an_error_may_have() -> None:
    text = PAGE.read_text(encoding="utf-8")
    waiting: list[type[StrongroomError]] = [StrongroomError]
    for kind in waiting:
        waiting.extend(kind.__subclasses__())
    statuses = {kind.http_status for kind in waiting if kind.__module__.startswith("strongroom.")}
    assert {int(found) for found in re.findall(r"^\| ([45]\d\d) \|", text, re.MULTILINE)} >= statuses


def test_the_document_is_openapi_3_1_and_whole() -> None:
    document = openapi()
    assert document["openapi"].startswith("3.1.")
    schemas = document["components"]["schemas"]
    references = set(re.findall(r'"\$ref": "#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references == schemas.keys() & references
    assert not {"HTTPValidationError", "ValidationError"} & schemas.keys()
    for path, item in document["paths"].items():
        assert path.startswith(PREFIX + "/")
        for operation in item.values():
            assert operation["description"]
            assert "application/problem+json" in operation["responses"]["default"]["content"]
            assert "$ref" in json.dumps(operation["responses"]["200"])


def test_the_document_shows_no_values() -> None:
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            assert not {"example", "examples"} & value.keys()
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(openapi())


def test_bodies_take_no_unknown_members() -> None:
    schemas = openapi()["components"]["schemas"]
    assert schemas
    assert all(schema.get("additionalProperties") is False for name, schema in schemas.items() if "enum" not in schema)


def test_nothing_but_the_api_is_served() -> None:
    api = make_api()
    assert (api.docs_url, api.redoc_url, api.openapi_url) == (None, None, None)
