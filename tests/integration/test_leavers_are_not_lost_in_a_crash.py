"""Killed at the worst moment, the broker loses nobody: whom a provider let go is suspended, or it was never answered.

The process kills itself with SIGKILL between the keeper's record and its own, or between its own and the answer.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import httpx2
import pytest

from strongroom.broker.people.records import RecordKind
from strongroom.broker.people.wiring import open_directory
from support.people import PATCH, RISC, SET_TYPE, USER, Lab, claims, signed
from support.people_server import PeopleServer, people_server, prepared

pytestmark = pytest.mark.integration
OFF = {"schemas": [PATCH], "Operations": [{"op": "replace", "path": "active", "value": False}]}


@pytest.fixture
def made(tmp_path: Path) -> Lab:
    return prepared(tmp_path)


def create(made: Lab) -> str:
    with people_server(made) as server, server.client() as client:
        answer = client.post("/Users", json={"schemas": [USER], "userName": "dana", "active": True})
        assert answer.status_code == 201
        found = answer.json()["id"]
    assert isinstance(found, str)
    return found


def died(server: PeopleServer) -> None:
    assert server.process.wait(20) == -signal.SIGKILL


@pytest.mark.parametrize("moment", ["after-suspend", "after-store"])
def test_a_deactivation_that_met_a_crash_is_sent_again_and_done(made: Lab, moment: str) -> None:
    user = create(made)
    with people_server(made, dies=moment) as server, server.client() as client:
        with pytest.raises(httpx2.HTTPError):
            client.patch(f"/Users/{user}", json=OFF)
        died(server)
        # Suspended already, in each case: that came first.
        assert server.suspended == ["dana deactivated"]
    with people_server(made) as server, server.client() as client:
        shown = client.get(f"/Users/{user}").json()["active"]
        assert shown is (moment == "after-suspend")
        assert client.patch(f"/Users/{user}", json=OFF).status_code == 204
        assert client.get(f"/Users/{user}").json()["active"] is False
        assert set(server.suspended) == {"dana deactivated"}


def test_a_deletion_that_met_a_crash_is_sent_again_and_done(made: Lab) -> None:
    user = create(made)
    with people_server(made, dies="after-suspend") as server, server.client() as client:
        with pytest.raises(httpx2.HTTPError):
            client.delete(f"/Users/{user}")
        died(server)
    with people_server(made) as server, server.client() as client:
        assert client.get(f"/Users/{user}").status_code == 200
        assert client.delete(f"/Users/{user}").status_code == 204
        assert set(server.suspended) == {"dana left"}


def test_a_record_whose_key_went_first_is_gone_and_its_name_is_free(made: Lab) -> None:
    user = create(made)
    # What a crash between the two steps of a deletion leaves behind.
    (made.folder / "people-keys" / f"{user}.key").unlink()
    with people_server(made) as server, server.client() as client:
        assert client.get(f"/Users/{user}").status_code == 404
        assert client.post("/Users", json={"schemas": [USER], "userName": "dana"}).status_code == 201


def test_a_key_without_a_record_hinders_nobody(made: Lab) -> None:
    with people_server(made, dies="after-store") as server, server.client() as client:
        with pytest.raises(httpx2.HTTPError):
            client.post("/Users", json={"schemas": [USER], "userName": "dana"})
        died(server)
    with people_server(made) as server, server.client() as client:
        # It was stored and never answered: the provider finds it, as it looks before it creates again.
        assert client.post("/Users", json={"schemas": [USER], "userName": "dana"}).status_code == 409
        assert client.get('/Users?filter=userName eq "dana"').json()["totalResults"] == 1
    directory, store, _keys = open_directory(made.home)
    assert directory.page(RecordKind.USER, offset=0, limit=None)[0] == 1
    store.close()


@pytest.mark.parametrize("moment", ["after-suspend", "after-store"])
def test_an_event_that_met_a_crash_is_sent_again_and_done(made: Lab, moment: str) -> None:
    token = signed(claims(f"{RISC}account-disabled", iat=int(time.time())))
    with people_server(made, dies=moment) as server, server.client("/ssf") as client:
        with pytest.raises(httpx2.HTTPError):
            client.post("/events", content=token, headers={"content-type": SET_TYPE})
        died(server)
        assert server.suspended == ["dana deactivated"]
    with people_server(made) as server, server.client("/ssf") as client:
        answers = [client.post("/events", content=token, headers={"content-type": SET_TYPE}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [202, 202]
        # Noted before the crash, it isn't acted upon again; else once more, which the keeper takes for nothing new.
        assert len(server.suspended) == (2 if moment == "after-suspend" else 1)
