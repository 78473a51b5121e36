"""From the identity provider's click to the end of an enclave, the whole way: SCIM, broker, keeper, push, agent.

Real processes, a real TPM simulator, TLS. How long it took is printed, and not judged: the machine is shared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.broker.people.adapters.files import TokenFile
from strongroom.broker.people.tokens import ScimTokens
from strongroom.client.adapters.http import one_sided_tls
from strongroom.core.envelope import sign
from strongroom.core.errors import StrongroomError
from strongroom.personnel.roster import ROSTER_TYPE
from support.deployment import ROOTS
from support.enclave_lab import require_sandbox
from support.leased import LeaseLab, lease_lab
from support.people import PATCH, USER

pytestmark = pytest.mark.integration
PERIOD = 30
SCIM = {"content-type": "application/scim+json"}


def token_at(home: Path) -> str:
    """Make a provider's token where the broker will look for it."""
    made = ""

    def add(known: ScimTokens) -> ScimTokens:
        nonlocal made
        changed, made = known.adding("provider", b"t" * 32, at=int(time.time()), expires=None)
        return changed

    (home / "broker").mkdir(parents=True, exist_ok=True)
    TokenFile(home / "broker").change(add)
    return made


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LeaseLab, httpx2.Client]]:
    require_sandbox()
    if not SoftwareTPM.available():
        pytest.skip("no software TPM: install swtpm and swtpm-tools")
    folder = tmp_path_factory.mktemp("lab")
    token = token_at(folder / "home")
    with (
        SoftwareTPM(tmp_path_factory.mktemp("tpm")) as tpm,
        lease_lab(folder, tpm, seconds=PERIOD, more=["--identity-port", "0"]) as made,
        httpx2.Client(
            base_url=f"https://127.0.0.1:{made.broker.identity_port}",
            verify=one_sided_tls(authority=made.deployment.home / "broker" / "ca" / "ca.pem"),
            headers={"authorization": f"Bearer {token}"},
            trust_env=False,
            timeout=30,
        ) as provider,
    ):
        roster = sign(ROSTER_TYPE, made.deployment.roster.to_bytes(), *ROOTS[:2])
        assert made.broker.caller().post("/v1/documents/roster", {"envelope": roster.to_json()}).status == 200
        yield made, provider


def user(provider: httpx2.Client, name: str) -> str:
    """Create a user as a provider does; returns the id."""
    body = {"schemas": [USER], "userName": f"{name}@example.org", "active": True}
    answer = provider.post("/scim/v2/Users", json=body, headers=SCIM)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def deactivate(provider: httpx2.Client, who: str) -> Callable[[], Any]:
    """Return what a provider does when somebody was deactivated."""
    change = {"schemas": [PATCH], "Operations": [{"op": "replace", "value": {"active": False}}]}
    return lambda: provider.patch(f"/scim/v2/Users/{who}", json=change, headers=SCIM)


@pytest.mark.parametrize("name", ["dana", "rina"])
def test_a_deactivation_ends_the_running_command_and_refuses_the_next_release(
    lab: tuple[LeaseLab, httpx2.Client], name: str
) -> None:
    here, provider = lab
    act = deactivate(provider, user(provider, name))
    with here.running() as run:
        time.sleep(0.2)
        began = time.monotonic()
        answer = act()
        answered = time.monotonic()
        # Before any renewal is due: it was told.
        ended = run.ended(within=PERIOD / 3)
    assert answer.status_code in {200, 204}, answer.text
    role = "requester" if name == "dana" else "approver"
    assert ended.reason == f"lease-ended:{role}-inactive"
    print(  # noqa: T201 - the numbers are what this is for
        f"\na deactivated {role}: provider answered after {(answered - began) * 1000:.0f} ms, command's last output"
        f" after {(ended.output.last - began) * 1000:.0f} ms, launcher told after {(ended.at - began) * 1000:.0f} ms"
    )
    with pytest.raises(StrongroomError) as caught:
        here.approved()
    assert caught.value.reason in {"person-inactive", "approver-inactive"}
    here.deployment.vet(name)
