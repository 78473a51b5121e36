"""Broker, keeper and log writer as they are: what an identity provider sends ends a person's access, on the log."""

from __future__ import annotations

import json
import ssl
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner

from strongroom.cli.people import people
from strongroom.client.adapters.http import one_sided_tls
from strongroom.core.envelope import sign
from strongroom.personnel.roster import ROSTER_TYPE
from support.brokers import RunningBroker, broker_beside
from support.deployment import ROOTS, Deployment
from support.people import AUDIENCE, EC, ISSUER, PATCH, RISC, SET_TYPE, USER, claims, signed

pytestmark = pytest.mark.integration
OFF = {"schemas": [PATCH], "Operations": [{"op": "replace", "path": "active", "value": False}]}


@dataclass
class Site:
    """A running deployment, and how a provider calls it."""

    founded: Deployment
    running: RunningBroker
    url: str
    token: str

    def context(self) -> ssl.SSLContext:
        return one_sided_tls(authority=self.founded.home / "broker" / "ca" / "ca.pem")

    def client(self) -> httpx2.Client:
        return httpx2.Client(
            base_url=self.url,
            verify=self.context(),
            headers={"authorization": f"Bearer {self.token}"},
            trust_env=False,
            timeout=30,
        )

    def suspended(self) -> list[Any]:
        found = self.founded.call("status")["suspended"]
        assert isinstance(found, list)
        return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Deployment.found(tmp_path_factory.mktemp("home")) as founded:
        folder = founded.home / "broker"
        folder.mkdir(mode=0o700, exist_ok=True)
        made = CliRunner().invoke(people, ["scim-token", "--home", str(founded.home)])
        (folder / "idp.jwks.json").write_text(json.dumps({"keys": [EC.as_dict(private=False)]}))
        sender = f'[[transmitter]]\nissuer = "{ISSUER}"\njwks = "idp.jwks.json"\n'
        (folder / "ssf.toml").write_text(f'audience = "{AUDIENCE}"\n{sender}')
        founded.start("log")
        founded.start("keeper")
        running = broker_beside(founded.home, founded.genesis, "--identity-port", "0")
        envelope = sign(ROSTER_TYPE, founded.roster.to_bytes(), *ROOTS[:2])
        answer = running.caller("root-0").post("/v1/documents/roster", {"envelope": envelope.to_json()})
        assert answer.status == 200, answer.text
        url = f"https://127.0.0.1:{running.identity_port}"
        yield Site(founded, running, url, made.output.splitlines()[0])
        assert running.stop() == 0


def test_scim_events_and_a_file_suspend_on_the_log(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with site.client() as client:
        assert client.get("/scim/v2/Users", headers={"authorization": "Bearer x"}).status_code == 401
        user = client.post("/scim/v2/Users", json={"schemas": [USER], "userName": "dana@example.org", "active": True})
        began = time.monotonic()
        assert client.patch(f"/scim/v2/Users/{user.json()['id']}", json=OFF).status_code == 204
        took = time.monotonic() - began
        assert site.suspended() == ["dana"]
        subject = {"format": "email", "email": "sam@example.org"}
        token = signed(claims(f"{RISC}account-disabled", iat=int(time.time()), sub_id=subject))
        for _ in range(2):
            answer = client.post("/ssf/events", content=token, headers={"content-type": SET_TYPE})
            assert answer.status_code == 202, answer.text
        assert site.suspended() == ["dana", "sam"]
    file = tmp_path / "people.csv"
    file.write_text("person,employment,unit\nrina,left,research\ndana,active,research\n")
    command = ["import", str(file), "--home", str(site.founded.home), "--url", site.url, "--apply", "--json"]
    result = CliRunner().invoke(people, command)
    assert result.exit_code == 0, result.output
    assert {change["person"]: change["kind"] for change in json.loads(result.output)["changes"]} == {
        "rina": "lower",
        "dana": "not-raised",
    }
    assert site.suspended() == ["dana", "rina", "sam"]
    with capsys.disabled():
        sys.stdout.write(f"\n  deactivated by SCIM: answered, and on the log, {took * 1000:.1f} ms later\n")


def test_a_stopped_keeper_makes_providers_ask_again(site: Site) -> None:
    with site.client() as client:
        body = {"schemas": [USER], "userName": "both", "active": True}
        user = client.post("/scim/v2/Users", json=body).json()["id"]
        site.founded.stop("keeper")
        try:
            assert client.patch(f"/scim/v2/Users/{user}", json=OFF).status_code == 503
            token = signed(claims(f"{RISC}account-disabled", iat=int(time.time()), jti="two"))
            answer = client.post("/ssf/events", content=token, headers={"content-type": SET_TYPE})
            assert answer.status_code == 503
        finally:
            site.founded.start("keeper")
        assert client.get(f"/scim/v2/Users/{user}").json()["active"] is True
        assert client.patch(f"/scim/v2/Users/{user}", json=OFF).status_code == 204
    assert "both" in site.suspended()


def test_many_deactivations_are_measured(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    with site.client() as client:
        took = []
        for number in range(20):
            body = {"schemas": [USER], "userName": f"p{number}", "active": True}
            user = client.post("/scim/v2/Users", json=body).json()["id"]
            began = time.monotonic()
            assert client.patch(f"/scim/v2/Users/{user}", json=OFF).status_code == 204
            took.append(time.monotonic() - began)
    with capsys.disabled():
        sys.stdout.write(f"\n  deactivated over TLS, nobody of the roster: {statistics.median(took) * 1000:.1f} ms\n")
