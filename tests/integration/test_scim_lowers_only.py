"""An identity provider's SCIM calls suspend people before they are answered, and bring nobody back.

The real application, database and keys; the keeper's side is played by :mod:`support.people`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from strongroom.broker.people.records import RecordKind
from strongroom.broker.people.wiring import open_directory
from strongroom.core.extras import MissingExtraError
from support.people import GROUP, PATCH, PERSON, USER, Lab, lab

pytestmark = pytest.mark.integration


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path, members_group="Strongroom people") as made:
        yield made


# --- what suspends ----------------------------------------------------------------------------------------------------


def test_a_deactivated_user_is_suspended(here: Lab) -> None:
    user = here.user("dana")
    assert here.suspended == []
    assert here.deactivate(user).status == 204
    assert here.suspended == [("dana", "deactivated")]


@pytest.mark.parametrize("value", [False, "False", "false"])
@pytest.mark.parametrize("op", ["replace", "Replace"])
def test_every_spelling_of_a_deactivation_works(here: Lab, op: str, value: object) -> None:
    user = here.user("dana", active=True)
    assert here.patch(f"/Users/{user}", {"op": op, "value": {"active": value}}).status == 204
    assert here.suspended == [("dana", "deactivated")]


def test_a_replaced_user_is_suspended(here: Lab) -> None:
    user = here.user("dana")
    body = {"schemas": [USER], "userName": "dana", "active": False}
    assert here.scim("PUT", f"/Users/{user}", body).status == 200
    assert here.suspended == [("dana", "deactivated")]


def test_a_deleted_user_is_suspended_and_their_record_destroyed(here: Lab) -> None:
    user = here.user("dana")
    assert here.scim("DELETE", f"/Users/{user}").status == 204
    assert here.suspended == [("dana", "left")]
    assert here.scim("GET", f"/Users/{user}").status == 404
    assert not list((here.folder / "people-keys").glob(f"{user}*"))


def test_a_user_born_inactive_is_suspended(here: Lab) -> None:
    here.user("dana", active=False)
    assert here.suspended == [("dana", "deactivated")]


@pytest.mark.parametrize("employment", ["leave", "notice", "left", "Left"])
def test_an_employment_other_than_active_suspends(here: Lab, employment: str) -> None:
    user = here.user("dana", active=True)
    change = {"op": "add", "path": f"{PERSON}:employment", "value": employment}
    assert here.patch(f"/Users/{user}", change).status == 204
    assert here.suspended == [("dana", employment.lower())]


def test_an_unknown_employment_is_no_employment(here: Lab) -> None:
    here.user("dana", active=True, **{PERSON: {"employment": "retired"}})
    assert here.suspended == [("dana", "deactivated")]


def test_who_leaves_the_group_of_members_is_suspended(here: Lab) -> None:
    dana, sam, rina = (here.user(name) for name in ("dana", "sam", "rina"))
    body = {
        "schemas": [GROUP],
        "displayName": "Strongroom people",
        "members": [{"value": user} for user in (dana, sam, rina)],
    }
    group = here.scim("POST", "/Groups", body).json["id"]
    gone = {"op": "remove", "path": f'members[value eq "{dana}"]'}
    assert here.patch(f"/Groups/{group}", gone).status == 204
    assert here.suspended == [("dana", "removed-from-members")]
    # As Entra writes it, with the member as a value; and a rename, after which nobody is a member.
    assert here.patch(f"/Groups/{group}", {"op": "Remove", "path": "members", "value": [{"value": sam}]}).status == 204
    assert here.patch(f"/Groups/{group}", {"op": "replace", "path": "displayName", "value": "others"}).status == 204
    assert here.suspended[1:] == [("sam", "removed-from-members"), ("rina", "removed-from-members")]


def test_a_deleted_group_of_members_suspends_everybody_in_it(here: Lab) -> None:
    dana = here.user("dana")
    body = {"schemas": [GROUP], "displayName": "strongroom PEOPLE", "members": [{"value": dana}]}
    group = here.scim("POST", "/Groups", body).json["id"]
    assert here.scim("DELETE", f"/Groups/{group}").status == 204
    assert here.suspended == [("dana", "removed-from-members")]


def test_other_groups_suspend_nobody(here: Lab) -> None:
    dana = here.user("dana")
    body = {"schemas": [GROUP], "displayName": "football", "members": [{"value": dana}]}
    group = here.scim("POST", "/Groups", body).json["id"]
    assert here.scim("DELETE", f"/Groups/{group}").status == 204
    assert here.suspended == []


def test_a_bulk_request_suspends_too(here: Lab) -> None:
    dana, sam = here.user("dana"), here.user("sam")
    off = {"schemas": [PATCH], "Operations": [{"op": "replace", "path": "active", "value": False}]}
    operations = [
        {"method": "PATCH", "path": f"/Users/{dana}", "data": off},
        {"method": "DELETE", "path": f"/Users/{sam}"},
    ]
    schema = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"
    answer = here.scim("POST", "/Bulk", {"schemas": [schema], "Operations": operations})
    assert answer.status == 200
    assert here.suspended == [("dana", "deactivated"), ("sam", "left")]


# --- what doesn't raise -----------------------------------------------------------------------------------------------


def test_nothing_brings_anybody_back(here: Lab) -> None:
    user = here.user("dana")
    here.deactivate(user)
    # Everything that a provider can do afterwards: the only effect there is is another suspension.
    assert here.patch(f"/Users/{user}", {"op": "replace", "path": "active", "value": True}).status == 204
    assert here.scim("DELETE", f"/Users/{user}").status == 204
    here.user("dana", active=True, **{PERSON: {"personId": "dana", "employment": "active"}})
    assert here.suspended == [("dana", "deactivated"), ("dana", "left")]
    assert here.scim("GET", "/Users").json["totalResults"] == 1


# --- before the answer, or not at all ---------------------------------------------------------------------------------


def test_without_the_keeper_nothing_is_done_and_the_provider_asks_again(here: Lab) -> None:
    user = here.user("dana", active=True)
    before = here.scim("GET", f"/Users/{user}").json
    here.keeper_up = False
    assert here.deactivate(user).status == 503
    assert here.scim("DELETE", f"/Users/{user}").status == 503
    assert here.scim("POST", "/Users", {"schemas": [USER], "userName": "sam", "active": False}).status == 503
    assert here.scim("GET", f"/Users/{user}").json == before
    here.keeper_up = True
    assert here.deactivate(user).status == 204
    assert here.suspended == [("dana", "deactivated")]


def test_a_store_that_hides_the_roster_keeps_no_leaver_in(here: Lab) -> None:
    user = here.user("dana", active=True)
    here.roster_shown = False
    assert here.scim("POST", "/Users", {"schemas": [USER], "userName": "rina"}).status == 503
    assert here.deactivate(user).status == 204
    assert here.scim("POST", "/Users", {"schemas": [USER], "userName": "sam@x.org", "active": False}).status == 201
    assert here.suspended == [("dana", "deactivated"), ("sam", "deactivated")]


def test_the_record_still_says_active_while_the_keeper_suspends(here: Lab) -> None:
    user = here.user("dana", active=True)
    directory, store, _keys = open_directory(here.home)
    seen: list[str] = []

    def look() -> None:
        _total, records = directory.page(RecordKind.USER, offset=0, limit=None)
        seen.extend(record.resource for record in records)

    here.before_suspend = look
    here.deactivate(user)
    store.close()
    assert ['"active":true' in text for text in seen] == [True]


def test_a_lowering_is_carried_out_even_when_the_record_says_so_already(here: Lab) -> None:
    user = here.user("dana")
    here.deactivate(user)
    here.suspended.clear()
    # A row put back to an older state must not make the provider's call a call about nothing.
    assert here.deactivate(user).status == 204
    assert here.suspended == [("dana", "deactivated")]


def test_a_taken_name_is_refused_before_anybody_is_suspended(here: Lab) -> None:
    here.user("dana@example.org")
    answer = here.scim("POST", "/Users", {"schemas": [USER], "userName": "DANA@example.org", "active": False})
    assert (answer.status, answer.json["scimType"]) == (409, "uniqueness")
    assert here.suspended == []


def test_a_stale_version_is_refused_before_anybody_is_suspended(here: Lab) -> None:
    user = here.user("dana")
    version = here.scim("GET", f"/Users/{user}").headers["etag"]
    assert here.patch(f"/Users/{user}", {"op": "add", "path": "title", "value": "x"}).status == 204
    off = {"op": "replace", "path": "active", "value": False}
    assert here.patch(f"/Users/{user}", off, if_match=version).status == 412
    assert here.suspended == []
    assert here.patch(f"/Users/{user}", off, if_match="*").status == 204


def test_changes_at_once_are_all_kept(here: Lab) -> None:
    user = here.user("dana")
    emails = [f"a{number}@example.org" for number in range(20)]

    async def add(email: str) -> int:
        body = {
            "schemas": [PATCH],
            "Operations": [{"op": "add", "path": "emails", "value": [{"value": email, "type": email[:3]}]}],
        }
        return (await here.scim_async("PATCH", f"/Users/{user}", body)).status

    async def all_at_once() -> list[int]:
        return await asyncio.gather(*(add(email) for email in emails))

    assert here.runner.run(all_at_once()) == [204] * 20
    kept = {email["value"] for email in here.scim("GET", f"/Users/{user}").json["emails"]}
    assert kept == set(emails)


# --- who is meant -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "user",
    [
        {"userName": "x9@example.org", PERSON: {"personId": "dana"}},
        {"userName": "x9@example.org", "externalId": "dana"},
        {"userName": "dana"},
        {"userName": "Dana@Example.org", "externalId": "00u8c1"},
    ],
)
def test_the_first_name_that_the_roster_knows_is_meant(here: Lab, user: dict[str, object]) -> None:
    assert here.scim("POST", "/Users", {"schemas": [USER], "active": False, **user}).status == 201
    assert here.suspended == [("dana", "deactivated")]


def test_a_renamed_user_still_stands_for_the_same_person(here: Lab) -> None:
    user = here.user("dana@example.org")
    assert here.patch(f"/Users/{user}", {"op": "replace", "path": "userName", "value": "d.new@x.org"}).status == 204
    here.deactivate(user)
    assert here.suspended == [("dana", "deactivated")]


def test_a_user_given_to_somebody_else_leaves_nobody_behind(here: Lab) -> None:
    user = here.user("dana@example.org")
    assert here.patch(f"/Users/{user}", {"op": "replace", "path": "userName", "value": "sam@x.org"}).status == 204
    here.deactivate(user)
    assert here.suspended == [("dana", "deactivated"), ("sam", "deactivated")]


def test_a_user_without_a_person_is_stored_and_reported(here: Lab) -> None:
    with capture_logs() as logs:
        user = here.user("stranger@example.org", active=False)
    assert here.suspended == []
    assert [entry["source"] for entry in logs if entry["event"] == "no person"] == [user]
    assert here.scim("GET", f"/Users/{user}").status == 200


def test_somebody_who_is_not_in_the_roster_now_is_suspended_all_the_same(here: Lab) -> None:
    here.remembered.add("olga")
    here.user("olga@example.org", active=False)
    assert here.suspended == [("olga", "deactivated")]


# --- what is told, and to whom ----------------------------------------------------------------------------------------


def test_the_case_reference_is_kept_and_never_given_back(here: Lab) -> None:
    user = here.user("dana", **{PERSON: {"personId": "dana", "caseRef": "HR-4711"}})
    answers = [
        here.scim("GET", f"/Users/{user}"),
        here.scim("GET", f"/Users/{user}?attributes={PERSON}:caseRef"),
        here.scim("GET", '/Users?filter=userName%20eq%20"dana"'),
        here.scim("GET", "/Schemas"),
        here.scim("PUT", f"/Users/{user}", {"schemas": [USER], "userName": "dana", PERSON: {"caseRef": "HR-4711"}}),
    ]
    assert not any(b"4711" in answer.body or b"caseRef" in answer.body for answer in answers)
    directory, store, _keys = open_directory(here.home)
    record = directory.get(RecordKind.USER, user)
    store.close()
    assert record is not None
    assert json.loads(record.resource)[PERSON]["caseRef"] == "HR-4711"


def test_a_password_is_never_stored(here: Lab) -> None:
    user = here.user("dana", password="hunter2-hunter2")
    directory, store, _keys = open_directory(here.home)
    record = directory.get(RecordKind.USER, user)
    store.close()
    assert record is not None
    assert "hunter2" not in record.resource


@pytest.mark.parametrize("given", [None, "Bearer wrong", "Basic dG9rZW4=", "Bearer", "bearer  ", "Bearer " + "x" * 500])
def test_without_a_token_nothing_is_read_or_told(here: Lab, given: str | None) -> None:
    user = here.user("dana")
    for method, path in (("GET", f"/Users/{user}"), ("GET", "/ServiceProviderConfig"), ("DELETE", f"/Users/{user}")):
        answer = here.scim(method, path, authorization=given or "")
        assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="strongroom"')
    assert here.suspended == []


def test_answers_and_logs_repeat_nothing_that_was_sent(here: Lab) -> None:
    secret = "Zx9-secret-name"
    with capture_logs() as logs:
        answers = [
            here.scim("GET", f"/Users/{secret}"),
            here.scim("GET", f'/Users?filter=nonsense%20{secret}%20"'),
            here.scim("POST", "/Users", {"schemas": [USER], "userName": {"x": secret}}),
            here.scim("POST", "/Users", f'{{"userName": {secret}'.encode()),
            here.scim("POST", "/Users", {"schemas": [USER], "userName": secret, "active": secret}),
            here.scim("PATCH", "/Users/x", {"schemas": [PATCH], "Operations": [{"op": secret}]}),
            here.scim("PUT", f"/Nothing/{secret}", {}),
        ]
    assert [answer.status >= 400 for answer in answers] == [True] * len(answers)
    assert not any(secret in answer.body.decode() for answer in answers)
    assert secret not in repr(logs)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"x" * (256 * 1024 + 1), 413),
        (b'{"schemas": [], "userName": "a", "userName": "b"}', 400),
        (b"[" * 100_000, 400),
        (b'{"a":' * 40 + b"1" + b"}" * 40, 400),
        (b"\xff\xfe", 400),
    ],
)
def test_bodies_too_large_or_of_two_meanings_are_refused(here: Lab, body: bytes, status: int) -> None:
    assert here.scim("POST", "/Users", body).status == status


@pytest.mark.parametrize(
    "path",
    ["/Users?" + "a" * 3000, "/Users?" + "&".join(f"a{n}=1" for n in range(40)), "/Users?filter=" + "(" * 1500],
)
def test_addresses_too_long_are_refused(here: Lab, path: str) -> None:
    assert here.scim("GET", path).status == 400


def test_without_the_library_the_start_says_what_to_install(here: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("strongroom.broker.people.scim_")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "scim2_models", None)
    with pytest.raises(MissingExtraError) as refused:
        here.open()
    assert refused.value.remedy == "pip install 'strongroom[scim]'"


def test_addresses_come_from_the_callers_host_only_when_it_is_one(here: Lab) -> None:
    user = here.user("dana")
    location = here.scim("GET", f"/Users/{user}").json["meta"]["location"]
    assert location == f"https://127.0.0.1:8444/scim/v2/Users/{user}"
    assert here.scim("GET", f"/Users/{user}", host="evil.example/?x=").status == 400
