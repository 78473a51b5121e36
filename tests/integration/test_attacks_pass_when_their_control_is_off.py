"""An attack that is blocked whatever is turned off proves nothing: with its control off, each of these gets through."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.assurance.attack_results import AttackResult, Outcome
from strongroom.attacks.acts import copies, decoys, files
from strongroom.attacks.attack import chosen, registered
from strongroom.attacks.lab import guarded
from strongroom.attacks.lab.cast import MODEL, Cast
from strongroom.attacks.lab.lab import Lab, open_lab
from strongroom.attacks.lab.marker import SCRATCH_TYPE, mark_scratch, need_scratch
from strongroom.attacks.lab.weakened import SWITCHES, turn_off
from strongroom.attacks.layers import BEHIND, Layer
from strongroom.attacks.suite import attacked, layer_trial, run
from strongroom.attacks.traces import Traces
from strongroom.core.envelope import sign
from strongroom.core.errors import UsageError
from strongroom.detection.adapters.fanotify import GuardUnavailableError
from strongroom.keys.recipient import RecipientKey
from support.forked_lab import forked_processes

pytestmark = pytest.mark.integration
MARK = "scratch-copy.json"


@pytest.fixture(scope="module", autouse=True)
def forking() -> Iterator[None]:
    with forked_processes():
        yield


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with open_lab() as made:
        yield made


def outcome(lab: Lab, name: str) -> Outcome:
    (one,) = chosen([name])
    return attacked(one, lab, Traces(lab)).outcome


def without(names: list[str], *layers: Layer) -> dict[str, AttackResult]:
    return {one.attack: one for one in run(chosen(names), without=frozenset(layers))}


STOLEN = "approval-by-a-stolen-key-slipped-past-the-log"


def test_two_layers_off_a_third_stops_a_quorum_of_none_and_a_stolen_keys_approval() -> None:
    found = without(
        ["nobody-agreed", "outside-its-window", STOLEN], Layer.INVARIANTS, Layer.APPROVALS_RECORDED, Layer.RECOUNT
    )
    assert {one.outcome for one in found.values()} == {Outcome.BLOCKED}
    assert found["nobody-agreed"].refusal == found[STOLEN].refusal == "act-without-approval"
    assert found["outside-its-window"].refusal == "policy-refuses"


def test_all_off_they_pass() -> None:
    off = (Layer.INVARIANTS, Layer.APPROVALS_RECORDED, Layer.RECOUNT, Layer.JOURNAL)
    for one in without(["nobody-agreed", STOLEN], *off).values():
        assert one.outcome is Outcome.UNBLOCKED, one.detail


MANIFESTS = ("manifest-signed-by-somebody-else", "signature-stripped-to-one-algorithm", "genuine-manifest-out-of-place")


def test_wrong_manifests_pass_when_nobody_verifies(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MANIFESTS:
        assert outcome(lab, name) is Outcome.BLOCKED
    monkeypatch.setattr(files, "verify_manifest", lambda *_given, **_named: None)
    for name in MANIFESTS:
        assert outcome(lab, name) is Outcome.UNBLOCKED


def test_changed_weights_pass_when_nobody_authenticates(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_opens", lambda *_given, **_named: 1)
    for name in ("changed-weights", "swapped-shards", "plaintext-in-place-of-sealed"):
        assert outcome(lab, name) is Outcome.UNBLOCKED


def test_a_stolen_disk_is_open_when_the_weights_lie_in_the_clear(lab: Lab) -> None:
    assert outcome(lab, "stolen-disk") is Outcome.BLOCKED
    stray = lab.scratch.home / "model.safetensors"
    stray.write_bytes((lab.scratch.versions[MODEL].plain / "model.safetensors").read_bytes())
    assert outcome(lab, "stolen-disk") is Outcome.UNBLOCKED
    stray.unlink()


def test_a_changed_backup_passes_when_nobody_verifies(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcome(lab, "backup-changed-in-its-store") is Outcome.BLOCKED
    monkeypatch.setattr(copies, "open_backup", lambda path: path)
    monkeypatch.setattr(copies, "verify_backup", lambda _opened, _identity: None)
    assert outcome(lab, "backup-changed-in-its-store") is Outcome.UNBLOCKED


def test_a_decoy_opens_when_nobody_guards_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = chosen(["opened-decoy"])
    found = attacked(one, lab, Traces(lab))
    if found.outcome is Outcome.NOT_RUN:
        pytest.skip(found.detail)
    assert (found.outcome, found.refusal) == (Outcome.BLOCKED, "EPERM"), found.detail
    assert found.signal == "finding: the guard told its responder, which froze the model"

    @contextlib.contextmanager
    def unguarded(_scratch: object, folder: Path) -> Iterator[tuple[Path, ...]]:
        (folder / "decoy").write_bytes(b"noise")
        yield (folder / "decoy",)

    monkeypatch.setattr(decoys, "guarded", unguarded)
    monkeypatch.setattr(guarded, "_FREEZE_SECONDS", 0.1)
    found = attacked(one, lab, Traces(lab))
    assert (found.outcome, found.signal[:8]) == (Outcome.UNBLOCKED, ""), found


def test_where_files_cant_be_guarded_it_isnt_run_and_says_why(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_paths: object) -> None:
        raise GuardUnavailableError("files can't be guarded: operation not permitted")

    monkeypatch.setattr(guarded, "FileGuard", refused)
    (one,) = chosen(["opened-decoy"])
    found = attacked(one, lab, Traces(lab))
    assert found.outcome is Outcome.NOT_RUN
    assert found.detail == "files can't be guarded: operation not permitted: it needs root, and Linux with fanotify"


def test_open_files_are_found_open(lab: Lab) -> None:
    names = ("keepers-files-by-another-user", "keepers-socket-by-another-user")
    if outcome(lab, names[0]) is Outcome.NOT_RUN:
        pytest.skip("it needs root, to play another user of this machine")
    home = lab.scratch.home
    opened = [home, home / "run", home / "run" / "keeper.sock", home / "run" / "log.sock"]
    opened += [home / "keeper", home / "log", home / "broker", home / "broker" / "ca"]
    opened += [home / "keeper/keyring.json", home / "log/log.key", home / "broker/ca/ca.key", home / "broker/broker.db"]
    modes = {path: path.stat().st_mode for path in opened}
    try:
        for path in opened:
            path.chmod(0o777)
        for name in names:
            assert outcome(lab, name) is Outcome.UNBLOCKED
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    for name in names:
        assert outcome(lab, name) is Outcome.BLOCKED


def test_layers_and_clocks_are_changed_in_scratch_copies_only(lab: Lab, tmp_path: Path) -> None:
    cast = Cast()
    home = lab.scratch.home
    need_scratch(home)
    genesis = lab.scratch.genesis
    for name in ("genesis.json", MARK):
        (tmp_path / name).write_bytes((home / name).read_bytes())
    roots = lab.scratch.cast.roots()
    need_scratch(tmp_path)
    other = replace(genesis, deployment="another", root_keys=tuple(one.public_key for one in cast.roots(3)))
    right = (tmp_path / MARK).read_bytes()

    def one_root() -> None:
        mark_scratch(tmp_path, genesis, roots[:1])

    def strangers() -> None:
        mark_scratch(tmp_path, genesis, cast.roots())

    def another_deployment() -> None:
        # The statement of a scratch copy, carried over to a deployment with the same name.
        (tmp_path / MARK).write_bytes(right)
        (tmp_path / "genesis.json").write_bytes(replace(other, deployment=genesis.deployment).to_bytes())

    def of_another_kind() -> None:
        (tmp_path / "genesis.json").write_bytes(genesis.to_bytes())
        signed = sign(SCRATCH_TYPE, b"something else", *roots)
        (tmp_path / MARK).write_bytes(signed.to_bytes())

    for change in (one_root, strangers, (tmp_path / MARK).unlink, another_deployment, of_another_kind):
        change()
        with pytest.raises(UsageError, match="scratch copies only"):
            turn_off([Layer.VETTING], tmp_path)
    for module, argument in (("weakened", "vetting"), ("moved_clock", "0")):
        command = [sys.executable, "-m", f"strongroom.attacks.lab.{module}", argument, "strongroom.keeper.wiring"]
        done = subprocess.run([*command, "--home", str(tmp_path)], check=False, capture_output=True, text=True)
        assert (done.returncode != 0, "scratch copies only" in done.stderr) == (True, True)


def test_an_honest_act_leaves_no_trace_that_counts() -> None:
    with open_lab() as lab:
        assert lab.scratch.serves
        traces = Traces(lab)
        traces.mark()
        lab.scratch.vet("rina")
        lab.scratch.ask_export(RecipientKey())
        assert traces.found() == ()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    # A socket's path has about a hundred characters.
    with tempfile.TemporaryDirectory(prefix="sr-") as folder:
        yield Path(folder)


def test_a_suite_that_is_stopped_or_killed_leaves_no_process(short_folder: Path) -> None:
    program = (
        "from strongroom.cli.main import main\n"
        "main(['attack', 'run', '--only', 'replayed-evidence', '--only', 'nobody-agreed'])\n"
    )
    environment = {**os.environ, "TMPDIR": str(short_folder)}
    for number in (signal.SIGTERM, signal.SIGKILL):
        running = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.DEVNULL)
        until(lambda: len(belonging_to(short_folder)) >= 3)
        running.send_signal(number)
        running.wait(60)
        until(lambda: not belonging_to(short_folder))
        # Who is killed can't clear its folder away.
        assert any(short_folder.iterdir()) is (number is signal.SIGKILL)


def belonging_to(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and str(folder).encode() in (entry / "cmdline").read_bytes():
                found.append(entry.name)
    return found


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.heavy
@pytest.mark.parametrize("layer", [layer for layer in SWITCHES if layer not in BEHIND])
def test_without_any_one_layer_others_stop_all_that_it_stops(layer: Layer) -> None:
    found = layer_trial(layer, registered())
    assert found.stopped
    assert found.passed == ()
