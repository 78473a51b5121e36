"""Whatever a holder of a token sends is answered: done or refused, never a fault of the server's, never slow."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.people import GROUP, PATCH, PERSON, USER, Lab, lab

pytestmark = pytest.mark.integration
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([USER, PERSON]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)
NAMES = ["userName", "active", "emails", "members", "meta", "id", "externalId", "password", PERSON, "displayName"]
RESOURCES = st.builds(
    lambda schema, more: {"schemas": [schema], "userName": "x", "displayName": "x", **more},
    st.sampled_from([USER, GROUP, PERSON, PATCH]),
    st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4),
)
PATHS = st.sampled_from(
    ["active", "emails", 'emails[type eq "work"].value', "members", f"{PERSON}:employment", PERSON, "id", "x.y.z", "a["]
)
OPERATIONS = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "Replace", "x"])},
    optional={"path": PATHS | st.text(max_size=20), "value": JSON},
)
WORDS = ["userName", "eq", "co", "pr", "and", "or", "not", "(", ")", '"x"', "emails[", "]", "true", ".", "active", "\\"]
FILTERS = st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=30).map(" ".join)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("home")) as made:
        for name in ("dana", "sam", "rina"):
            made.user(name, emails=[{"value": f"{name}@example.org", "type": "work"}])
        yield made


def answered(here: Lab, method: str, path: str, body: Any = None) -> None:
    began = time.monotonic()
    status = here.scim(method, path, body).status
    assert status < 500 or status == 501, status
    # Long before its reader would give up.
    assert time.monotonic() - began < 20


@given(method=st.sampled_from(["POST", "PUT"]), resource=RESOURCES | JSON, group=st.booleans())
def test_any_resource_is_answered(here: Lab, method: str, resource: Any, group: bool) -> None:  # noqa: FBT001
    kind = "Groups" if group else "Users"
    found = here.scim("GET", f"/{kind}").json["Resources"]
    path = f"/{kind}" if method == "POST" or not found else f"/{kind}/{found[0]['id']}"
    answered(here, method, path, json.dumps(resource).encode())


@given(operations=st.lists(OPERATIONS, max_size=3))
def test_any_patch_is_answered(here: Lab, operations: list[Any]) -> None:
    user = here.scim("GET", "/Users").json["Resources"][0]["id"]
    answered(here, "PATCH", f"/Users/{user}", {"schemas": [PATCH], "Operations": operations})


@given(text=FILTERS)
def test_any_filter_is_answered(here: Lab, text: str) -> None:
    answered(here, "GET", f"/Users?filter={quote(text)}")
    schema = "urn:ietf:params:scim:api:messages:2.0:SearchRequest"
    answered(here, "POST", "/.search", {"schemas": [schema], "filter": text, "sortBy": text})


@given(data=st.binary(max_size=200))
def test_any_bytes_are_answered(here: Lab, data: bytes) -> None:
    for path in ("/Users", "/Bulk", "/Groups/.search", "/Me"):
        answered(here, "POST", path, data)


@pytest.mark.parametrize("text", ["(" * 600, "not (" * 300 + "active pr" + ")" * 300, 'userName eq "' + "x" * 1500])
def test_a_filter_made_to_be_slow_is_not(here: Lab, text: str) -> None:
    answered(here, "GET", f"/Users?filter={quote(text)}"[:2000])
    schema = "urn:ietf:params:scim:api:messages:2.0:SearchRequest"
    answered(here, "POST", "/.search", {"schemas": [schema], "filter": text})
