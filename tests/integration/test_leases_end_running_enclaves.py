"""A release can be ended while its enclave runs: what it rests on falls, or nobody renews it, and the command is gone.

Real processes, a real TPM simulator, the real broker between them. How long it took is printed, and not judged: the
machine is shared. What is judged is that it ended, by which reason, and for a lost lease that it ended by itself.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.access.request import Action
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from support.enclave_lab import require_sandbox
from support.leased import Ended, LeaseLab, Run, lease_lab

pytestmark = pytest.mark.integration
PERIOD = 5


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftwareTPM]:
    if not SoftwareTPM.available():
        pytest.skip("no software TPM: install swtpm and swtpm-tools")
    with SoftwareTPM(tmp_path_factory.mktemp("tpm")) as made:
        yield made


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, tpm: SoftwareTPM) -> Iterator[LeaseLab]:
    require_sandbox()
    with lease_lab(tmp_path_factory.mktemp("lab"), tpm, seconds=PERIOD) as made:
        yield made


def gone(script: str, *, within: float = 2) -> bool:
    until = time.monotonic() + within
    while time.monotonic() < until:
        if not any(script.encode() in words for words in commands()):
            return True
        time.sleep(0.01)
    return False


def commands() -> Iterator[bytes]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield (entry / "cmdline").read_bytes()
            except OSError:
                continue


def tell(what: str, run: Run, ended: Ended, since: float) -> None:
    output = (ended.output.last - since) * 1000
    told = (ended.at - since) * 1000
    print(f"\n{what}: last output after {output:.0f} ms, launcher told after {told:.0f} ms")  # noqa: T201 - the numbers
    assert gone(run._launch.image.command[0])


def test_the_command_runs_on_while_its_lease_is_renewed(lab: LeaseLab) -> None:
    with lab.running() as run:
        time.sleep(2 * PERIOD + 1)
        assert run.is_alive()
        assert len(run.way.leases) >= 3
        before = len(run.output.data)
        time.sleep(0.5)
        assert len(run.output.data) > before


def freeze(lab: LeaseLab, _run: Run) -> Callable[[], None]:
    request = lab.deployment.request(Action.FREEZE)
    return lambda: lab.deployment.control(request)


def revoke(lab: LeaseLab, run: Run) -> Callable[[], None]:
    request = lab.deployment.request(Action.REVOKE_GRANT, target=run.way.request.digest)
    return lambda: lab.deployment.control(request)


def deny(lab: LeaseLab, run: Run) -> Callable[[], None]:
    return lambda: lab.deployment.deny(run.way.request, "both")


def dismiss(lab: LeaseLab, _run: Run) -> Callable[[], None]:
    return lambda: lab.deployment.change_roster(lambda one: replace(one, active=one.id != "sam"))


def suspend(lab: LeaseLab, _run: Run) -> Callable[[], None]:
    def act() -> None:
        lab.deployment.call("suspend", person="rina", cause="deactivated")

    return act


ENDS = {
    "a revoked grant": (revoke, "lease-ended:grant-revoked"),
    "a denial": (deny, "lease-ended:request-denied"),
    "an approver who left": (dismiss, "lease-ended:approver-inactive"),
    "a suspended approver": (suspend, "lease-ended:approver-inactive"),
    "a freeze": (freeze, "lease-ended:model-frozen"),
}


@pytest.mark.parametrize("what", ENDS)
def test_what_falls_ends_the_running_command(lab: LeaseLab, what: str) -> None:
    prepare, reason = ENDS[what]
    with lab.running() as run:
        act = prepare(lab, run)
        time.sleep(0.2)
        began = time.monotonic()
        act()
        tell(what, run, ended := run.ended(within=3 * PERIOD), began)
    assert ended.reason == reason
    mend(lab, what)


def mend(lab: LeaseLab, what: str) -> None:
    if what == "a freeze":
        request = lab.deployment.request(Action.RESUME)
        lab.deployment.control(request, *(lab.deployment.approve(request, who) for who in ("sam", "rina")))
    if what == "an approver who left":
        lab.deployment.change_roster(lambda one: replace(one, active=True))
        lab.deployment.vet("sam")
    if what == "a suspended approver":
        lab.deployment.vet("rina")


def test_without_the_word_the_next_renewal_ends_it(lab: LeaseLab) -> None:
    with lab.running() as run:
        run.way.deaf = True
        act = freeze(lab, run)
        began = time.monotonic()
        act()
        tell("a freeze that nobody tells of", run, ended := run.ended(within=3 * PERIOD), began)
    mend(lab, "a freeze")
    assert ended.reason == "lease-ended:model-frozen"


def test_a_launcher_that_is_cut_off_loses_the_lease_within_one_period(lab: LeaseLab) -> None:
    with lab.running() as run:
        run.way.cut = True
        began = time.monotonic()
        tell("a launcher that is cut off", run, ended := run.ended(within=4 * PERIOD), began)
    assert ended.reason == "lease-lost:lease-lost"


def test_a_lease_from_before_prolongs_nothing(lab: LeaseLab) -> None:
    with lab.running() as run:
        run.way.deaf = True
        while not run.way.leases:
            time.sleep(0.05)
        run.way.replay = True
        began = time.monotonic()
        tell("a lease that is played again", run, ended := run.ended(within=4 * PERIOD), began)
    assert ended.reason == "lease-lost:lease-lost"


def test_a_launcher_that_is_stopped_holds_up_no_deadline(lab: LeaseLab) -> None:
    with lab.apart() as launcher:
        assert not gone(lab.image.command[0], within=0.2)
        os.kill(launcher.pid, signal.SIGSTOP)
        began = time.monotonic()
        assert gone(lab.image.command[0], within=4 * PERIOD)
        print(f"\na launcher that is stopped: gone after {time.monotonic() - began:.1f} s")  # noqa: T201 - the number


def test_the_end_of_a_lease_is_known_to_who_asks_later(lab: LeaseLab) -> None:
    with lab.running() as run:
        revoke(lab, run)()
        run.ended(within=3 * PERIOD)
    told = lab.deployment.call("ended", request=str(run.way.request.digest), use=1, wait=0)
    assert told == {"reason": "grant-revoked"}


def test_only_enclaves_ask_about_leases_and_only_about_releases_that_are_in_the_log(lab: LeaseLab) -> None:
    path = f"/v1/requests/{Digest.of(b'no request')}/leases"
    ask: Json = {"use": 1, "recipient": str(Digest.of(b"key")), "serial": 1, "nonce": to_base64(bytes(32))}
    person, enclave = lab.broker.caller(), lab.broker.caller("host", enclave=True)
    assert person.get(f"{path}/1").json["code"] == "other-party"
    assert person.post(path, ask).json["code"] == "other-party"
    assert enclave.get(f"{path}/1?wait=25").json["code"] == "lease-unknown"
    assert enclave.post(path, ask).status == 404
    for wrong in (f"{path}/0", f"{path}/1?wait=26", f"{path}/1?wait=-1"):
        assert enclave.get(wrong).status == 400
