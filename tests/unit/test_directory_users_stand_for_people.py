"""Which person a directory's user stands for, and which of a user's states end access: by the names, in one order."""

from __future__ import annotations

from typing import Any

import pytest

from strongroom.broker.people.matching import candidates, fold
from strongroom.broker.people.records import Lookup, LookupName, RecordKind
from strongroom.broker.people.scim_users import PERSON_SCHEMA, is_group, lookups_of, lowered, members_of, names_of
from strongroom.personnel.lifecycle import Employment, SuspensionCause


def test_the_names_are_tried_in_one_order() -> None:
    user = {"userName": "Dana.User@example.org", "externalId": "dana-ext", PERSON_SCHEMA: {"personId": "dana"}}
    assert names_of(user) == ("dana", "dana-ext", "dana.user")


@pytest.mark.parametrize(
    ("user_name", "found"),
    [
        ("dana", ("dana",)),
        ("DANA", ("dana",)),
        ("dana@example.org", ("dana",)),
        ("dana@example@org", ("dana",)),
        ("@example.org", ()),
        ("da na@example.org", ()),
        ("../dana@example.org", ()),
        ("", ()),
        ("x" * 65 + "@example.org", ()),
    ],
)
def test_what_is_no_persons_id_is_left_out(user_name: str, found: tuple[str, ...]) -> None:
    assert candidates(person=None, user_name=user_name) == found


def test_names_are_folded_alike_wherever_accents_stand() -> None:
    assert fold("JOSE\u0301") == fold("jos\u00e9") == "jos\u00e9"


@pytest.mark.parametrize(
    ("user", "cause"),
    [
        ({}, None),
        ({"active": True}, None),
        ({"active": None}, None),
        ({"active": False}, SuspensionCause.DEACTIVATED),
        ({"active": True, PERSON_SCHEMA: {"employment": "active"}}, None),
        ({"active": True, PERSON_SCHEMA: {"employment": "LEAVE"}}, SuspensionCause.LEAVE),
        ({"active": True, PERSON_SCHEMA: {"employment": "notice"}}, SuspensionCause.NOTICE),
        ({"active": False, PERSON_SCHEMA: {"employment": "left"}}, SuspensionCause.LEFT),
        ({"active": False, PERSON_SCHEMA: {"employment": "active"}}, SuspensionCause.DEACTIVATED),
        ({"active": True, PERSON_SCHEMA: {"employment": "furlough"}}, SuspensionCause.DEACTIVATED),
        ({"active": True, PERSON_SCHEMA: "x"}, None),
    ],
)
def test_each_state_ends_access_or_does_not(user: dict[str, Any], cause: SuspensionCause | None) -> None:
    assert lowered(user) is cause


def test_every_employment_but_active_has_a_cause() -> None:
    assert {kind for kind in Employment if kind.cause is None} == {Employment.ACTIVE}
    assert len({kind.cause for kind in Employment}) == len(Employment)


def test_a_group_is_the_configured_one_by_any_of_its_names() -> None:
    group = {"id": "7f", "externalId": "ext", "displayName": "Members"}
    assert [is_group(group, name) for name in ("7f", "EXT", "members", "other", None)] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert members_of({"members": [{"value": "a"}, {"value": "a"}, {"display": "x"}, "y"]}) == {"a"}
    assert members_of({}) == frozenset()


def test_records_are_filed_under_what_providers_ask_for() -> None:
    user = {"userName": "Dana@X.org", "externalId": "E1", "emails": [{"value": "D@X.org"}, {"type": "work"}]}
    assert set(lookups_of(RecordKind.USER, user)) == {
        Lookup(LookupName.USER_NAME, "dana@x.org"),
        Lookup(LookupName.EXTERNAL_ID, "E1"),
        Lookup(LookupName.EMAIL, "d@x.org"),
        Lookup(LookupName.PERSON, "dana"),
        Lookup(LookupName.PERSON, "e1"),
    }
    assert lookups_of(RecordKind.GROUP, {"displayName": "All"}) == (Lookup(LookupName.DISPLAY_NAME, "all"),)
