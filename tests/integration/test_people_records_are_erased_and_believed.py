"""Records of people: unreadable once their key is gone, in every old copy too; refused when somebody changed a row."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from strongroom.broker.people.errors import RecordRefusedError
from strongroom.broker.people.records import Lookup, LookupName, RecordKind
from strongroom.broker.people.wiring import open_directory
from strongroom.cli.people_import import erase_record, scim_token, unmatched
from strongroom.core.errors import NotFoundError, UsageError
from strongroom.core.ids import PersonId
from support.people import GROUP, PERSON, Lab, lab

pytestmark = pytest.mark.integration


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


def execute(here: Lab, statement: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(here.database)) as database, database:
        return database.execute(statement, values).fetchall()


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file())


# --- at rest ----------------------------------------------------------------------------------------------------------


def test_the_database_holds_nothing_readable(here: Lab) -> None:
    mail = [{"value": "dana.secret@example.org"}]
    here.user("dana", displayName="Dana Example", emails=mail, **{PERSON: {"caseRef": "HR-4711"}})
    data = everything_in(here.folder)
    for text in (b"dana", b"Dana", b"Example", b"4711", b"secret@"):
        assert text not in data.replace(b"example.org/ssf", b"")


def test_keys_and_database_are_for_this_user_alone(here: Lab) -> None:
    user = here.user("dana")
    keys = here.folder / "people-keys"
    for path in (keys / f"{user}.key", keys / "lookup.key", here.database, here.folder / "scim-tokens.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    (keys / f"{user}.key").chmod(0o640)
    assert here.scim("GET", f"/Users/{user}").status == 503


def test_each_record_has_a_key_of_its_own(here: Lab) -> None:
    users = [here.user(name) for name in ("dana", "sam")]
    keys = {(here.folder / "people-keys" / f"{user}.key").read_bytes() for user in users}
    assert len(keys) == 2


# --- erasure ----------------------------------------------------------------------------------------------------------


def test_an_erased_person_is_unreadable_also_in_an_old_copy(here: Lab, tmp_path: Path) -> None:
    dana, sam = here.user("dana@example.org", displayName="Dana Example"), here.user("sam")
    here.apps.close()
    copy = tmp_path / "backup.db"
    shutil.copy(here.database, copy)
    result = CliRunner().invoke(erase_record, ["--home", str(here.home), "--person", "dana", "--yes"])
    assert result.exit_code == 0, result.output
    assert not (here.folder / "people-keys" / f"{dana}.key").exists()
    # The old copy comes back, with the keys that are left.
    for suffix in ("-wal", "-shm"):
        Path(f"{here.database}{suffix}").unlink(missing_ok=True)
    shutil.copy(copy, here.database)
    here.open()
    assert here.scim("GET", f"/Users/{dana}").status == 404
    assert here.scim("GET", f"/Users/{sam}").status == 200
    assert [user["id"] for user in here.scim("GET", "/Users").json["Resources"]] == [sam]
    # The name that the unreadable row held is free again.
    assert here.user("dana@example.org") != dana


def test_a_running_broker_forgets_who_is_erased(here: Lab) -> None:
    dana = here.user("dana")
    assert CliRunner().invoke(erase_record, ["--home", str(here.home), "--person", "dana", "--yes"]).exit_code == 0
    assert here.scim("GET", f"/Users/{dana}").status == 404
    assert here.scim("GET", '/Users?filter=userName%20eq%20"dana"').json["totalResults"] == 0
    assert here.user("dana")


def test_an_erased_persons_name_is_gone_from_groups_too(here: Lab) -> None:
    dana, sam = here.user("dana"), here.user("sam")
    members = [{"value": dana, "display": "Dana Example"}, {"value": sam, "display": "Sam Example"}]
    body = {"schemas": [GROUP], "displayName": "all", "members": members}
    group = here.scim("POST", "/Groups", body).json["id"]
    assert here.scim("GET", f"/Groups/{group}").json["members"][0]["display"] == "Dana Example"
    assert CliRunner().invoke(erase_record, ["--home", str(here.home), "--person", "dana", "--yes"]).exit_code == 0
    shown = here.scim("GET", f"/Groups/{group}").json["members"]
    assert [(member["value"], member.get("display")) for member in shown] == [(dana, None), (sam, "Sam Example")]


def test_erasing_nobody_says_so(here: Lab) -> None:
    here.user("sam")
    result = CliRunner().invoke(erase_record, ["--home", str(here.home), "--person", "dana", "--yes"])
    assert isinstance(result.exception, NotFoundError)


# --- hostile rows -----------------------------------------------------------------------------------------------------


def test_a_changed_row_is_refused(here: Lab) -> None:
    user = here.user("dana")
    [(body,)] = execute(here, "SELECT body FROM records WHERE id = ?", user)
    assert isinstance(body, bytes)
    for place in (0, len(body) // 2, len(body) - 1):
        changed = bytearray(body)
        changed[place] ^= 1
        execute(here, "UPDATE records SET body = ? WHERE id = ?", bytes(changed), user)
        assert here.scim("GET", f"/Users/{user}").status == 500
        assert here.deactivate(user).status == 500
    assert here.suspended == []


@pytest.mark.parametrize("value", [b"", b"short", "text", 7])
def test_a_row_of_another_type_is_refused(here: Lab, value: object) -> None:
    user = here.user("dana")
    execute(here, "UPDATE records SET body = ? WHERE id = ?", value, user)
    assert here.scim("GET", f"/Users/{user}").status == 500


def test_rows_swapped_between_people_are_refused(here: Lab) -> None:
    dana, sam = here.user("dana"), here.user("sam")
    bodies = {name: execute(here, "SELECT body FROM records WHERE id = ?", name)[0][0] for name in (dana, sam)}
    execute(here, "UPDATE records SET body = ? WHERE id = ?", bodies[sam], dana)
    assert here.scim("GET", f"/Users/{dana}").status == 500
    # With the key swapped as well, the row is still bound to the id that it was made under.
    keys = here.folder / "people-keys"
    shutil.copy(keys / f"{sam}.key", keys / f"{dana}.key")
    assert here.scim("GET", f"/Users/{dana}").status == 500
    assert here.scim("GET", f"/Users/{sam}").status == 200


def test_a_user_can_not_be_made_a_group(here: Lab) -> None:
    user = here.user("dana")
    execute(here, "UPDATE records SET kind = 'group' WHERE id = ?", user)
    assert here.scim("GET", f"/Groups/{user}").status == 500
    assert here.scim("GET", f"/Users/{user}").status == 404


def test_a_look_up_filed_under_another_name_finds_nobody(here: Lab) -> None:
    dana, sam = here.user("dana"), here.user("sam")
    execute(here, "DELETE FROM uniques WHERE record = ?", sam)
    execute(here, "UPDATE uniques SET record = ? WHERE record = ?", sam, dana)
    assert here.scim("GET", '/Users?filter=userName%20eq%20"dana"').json["totalResults"] == 0
    execute(here, "UPDATE OR IGNORE lookups SET record = ? WHERE record = ?", sam, dana)
    directory, store, _keys = open_directory(here.home)
    assert directory.find(RecordKind.USER, Lookup(LookupName.PERSON, "dana")) == []
    # Erasing a person never takes somebody else whose row was filed under them.
    assert directory.erase(PersonId("dana")) == []
    store.close()
    assert here.scim("GET", f"/Users/{sam}").status == 200


def test_an_id_names_no_file_elsewhere(here: Lab) -> None:
    here.user("dana")
    for path in ("/Users/..%2flookup", "/Users/../lookup", "/Users/lookup"):
        assert here.scim("GET", path).status == 404
    execute(here, "INSERT INTO records VALUES ('../../idp', 'user', x'00')")
    execute(here, "INSERT INTO records VALUES ('lookup', 'user', x'00')")
    assert here.scim("GET", "/Users").json["Resources"][0]["userName"] == "dana"


def test_a_database_of_another_version_is_refused(here: Lab) -> None:
    here.apps.close()
    execute(here, "PRAGMA user_version = 7")
    with pytest.raises(RecordRefusedError):
        here.open()


# --- commands ---------------------------------------------------------------------------------------------------------


def test_unmatched_users_are_listed(here: Lab) -> None:
    here.user("dana")
    stranger = here.user("stranger@example.org")
    result = CliRunner().invoke(unmatched, ["--home", str(here.home)])
    assert result.output.splitlines()[1:] == [f"{stranger}  stranger@example.org"]


def test_a_token_is_shown_once_and_opens_nothing_once_removed(here: Lab) -> None:
    made = CliRunner().invoke(scim_token, ["--home", str(here.home), "--name", "okta"])
    token = made.output.splitlines()[0]
    assert token not in (here.folder / "scim-tokens.json").read_text()
    assert here.scim("GET", "/Users", authorization=f"Bearer {token}").status == 200
    again = CliRunner().invoke(scim_token, ["--home", str(here.home), "--name", "okta"])
    assert isinstance(again.exception, UsageError)
    assert CliRunner().invoke(scim_token, ["--home", str(here.home), "--name", "okta", "--remove"]).exit_code == 0
    assert here.scim("GET", "/Users", authorization=f"Bearer {token}").status == 401


def test_a_token_can_be_made_before_the_first_start(tmp_path: Path) -> None:
    assert CliRunner().invoke(scim_token, ["--home", str(tmp_path)]).exit_code == 0
    assert stat.S_IMODE((tmp_path / "broker").stat().st_mode) == 0o700


def test_a_token_ends_with_its_time(here: Lab) -> None:
    here.clock.at = 2_000_000_000
    CliRunner().invoke(scim_token, ["--home", str(here.home), "--name", "brief", "--days", "1"])
    # Made by the machine's own clock, days before the broker's.
    made = CliRunner().invoke(scim_token, ["--home", str(here.home), "--name", "brief-2", "--days", "1"])
    token = made.output.splitlines()[0]
    assert here.scim("GET", "/Users", authorization=f"Bearer {token}").status == 401


def test_token_files_that_others_can_write_are_refused(here: Lab) -> None:
    (here.folder / "scim-tokens.json").chmod(0o620)
    assert here.scim("GET", "/Users").status == 400
