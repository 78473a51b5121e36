"""What root finds when it searches the running keeper for its keys: as docs/internals/keeper-walls.md says.

What is looked for is known here, because the test opens the keyring with the passphrase, as the keeper does.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.core.errors import UnavailableError
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.keeper.adapters.files import load_keyring
from strongroom.keys.hierarchy import Tree, data_purpose, epoch_purpose, kek_purpose, signing_purpose
from strongroom.keys.split_root import open_root
from strongroom.keys.wiring import key_provider
from strongroom.keys.wrapping import unwrap
from strongroom.walls.adapters.secret_memory import SecretMemoryKind, SecretPage
from support.attested import Attested, Sealed
from support.deployment import MODEL, PASSPHRASE, Deployment
from support.sealed import write_model
from support.watched_memory import Report, found, look

pytestmark = pytest.mark.integration
LONG_LIVED = ("root key", "epoch key", "signing seed")
KEYS = (*LONG_LIVED, "KEK", "data key")
STEPS = ("idle", "releasing", "idle again", "locked")
PATIENCE = 60.0


@dataclass
class Searched:
    """What was found at each step."""

    where: str
    steps: dict[str, Report] = field(default_factory=dict)

    def found(self, step: str) -> dict[str, int]:
        """Return in how many places /proc/PID/mem showed each thing; what it didn't show is left out."""
        names = {name for process in self.steps[step].values() for said in process.values() for name in said}
        counts = {name: found(self.steps[step], name, "proc_mem").get("proc_mem", 0) for name in (*KEYS, *names)}
        return {name: count for name, count in counts.items() if count}


def needles(deployment: Deployment, sealed: Sealed) -> dict[str, bytes]:
    """Open the keyring as the keeper does, and return every key in it."""
    keyring, genesis = load_keyring(deployment.home / "keeper"), deployment.genesis.digest
    wrapped = sealed.wrapped
    held = keyring.kek(wrapped.kek)
    assert held is not None
    with SecretBytes(bytearray(PASSPHRASE)) as passphrase:
        root = open_root(genesis, keyring.root(Tree.ESCROWED), lambda uri: key_provider(uri, passphrase=passphrase))
    with root:
        (first,) = keyring.epochs
        epoch = unwrap(root, first.wrapped, epoch_purpose(genesis, first.tree, first.epoch))
        seed = unwrap(root, keyring.signing, signing_purpose(genesis, keyring.generation, keyring.authority))
        kek = unwrap(epoch, held.wrapped, kek_purpose(genesis, held.epoch, held.model, held.kek))
        purpose = data_purpose(genesis, MODEL, 1, wrapped.data_key, wrapped.kek)
        data_key = unwrap(kek, wrapped.data, purpose)
        keys = {"root key": root, "epoch key": epoch, "signing seed": seed, "KEK": kek, "data key": data_key}
        return {"passphrase": PASSPHRASE, **{name: bytes(key.reveal(TOKEN)) for name, key in keys.items()}}


def wait_for(path: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < end, "the keeper never held a data key"
        time.sleep(0.02)


def searched(folder: Path, tpm: SoftwareTPM, where: str, *ways: str) -> Searched:
    """Run a keeper that keeps its keys ``where``, and search it at each step."""
    made = Searched(where)
    with Deployment.found(folder / "home") as deployment:
        own = deployment.home / "keeper"
        deployment.fresh, deployment.keeper_module = True, "simulators.held_keeper"
        if where:
            (own / "secrets").write_text(where)
        deployment.start("log")
        deployment.start("keeper")
        deployment.adopt_first()
        attested = Attested(deployment, tpm)
        attested.adopt_reference_values()
        attested.enrol()
        attested.measure()
        source = write_model(folder / "plain", {"model.bin": (0o644, os.urandom(4096))})
        sealed = attested.seal(source, folder / "sealed")
        wanted = needles(deployment, sealed)
        pid = deployment.processes["keeper"].pid

        def search(step: str) -> None:
            made.steps[step] = look([pid], wanted, *ways)

        search("idle")
        request, approvals = attested.approved(sealed)
        (own / "hold").touch()
        releasing = threading.Thread(target=attested.release, args=(request, approvals, sealed))
        releasing.start()
        wait_for(own / "holding")
        search("releasing")
        (own / "hold").unlink()
        releasing.join(PATIENCE)
        search("idle again")
        deployment.call("lock")
        search("locked")
    return made


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftwareTPM]:
    """A software TPM to release to."""
    if not SoftwareTPM.available():
        pytest.skip("swtpm isn't installed")
    with SoftwareTPM(tmp_path_factory.mktemp("t")) as started:
        yield started


def require_root(where: str) -> None:
    """Skip where nobody could look, or where there is nothing of this kind to look at."""
    if os.geteuid() != 0:
        pytest.skip("only root reads a process that is not dumpable")
    if not where:
        try:
            SecretPage(32, kind=SecretMemoryKind.UNMAPPED).wipe()
        except UnavailableError as error:
            pytest.skip(error.message)


@pytest.fixture(
    scope="module",
    params=["", pytest.param("locked", marks=pytest.mark.heavy), "heap"],
    ids=["memfd-secret", "locked", "heap"],
)
def keeper(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tpm: SoftwareTPM) -> Searched:
    """Search one keeper of each kind."""
    require_root(request.param)
    made = searched(tmp_path_factory.mktemp("searched"), tpm, request.param, "proc_mem", "process_vm")
    if folder := os.environ.get("STRONGROOM_SEARCHED"):
        told = {step: made.found(step) for step in STEPS}
        Path(folder, f"{made.where or 'memfd-secret'}.json").write_text(json.dumps(told, indent=1))
    return made


def test_every_step_was_searched_in_each_way(keeper: Searched) -> None:
    assert tuple(keeper.steps) == STEPS
    for report in keeper.steps.values():
        for said in report.values():
            assert [name for name, one in said.items() if isinstance(one, str)] == [], said


def test_long_lived_keys_are_in_one_place_or_in_none(keeper: Searched) -> None:
    # One: where they are kept, and no copy that a library or an earlier release left behind.
    count = 1 if keeper.where else 0
    for step in ("idle", "releasing", "idle again"):
        assert {name: keeper.found(step).get(name, 0) for name in LONG_LIVED} == dict.fromkeys(LONG_LIVED, count), step


def test_a_models_keys_are_there_for_one_release_and_gone_after_it(keeper: Searched) -> None:
    count = 1 if keeper.where else 0
    assert {name: keeper.found("releasing").get(name, 0) for name in ("KEK", "data key")} == {
        "KEK": count,
        "data key": count,
    }
    for step in ("idle", "idle again"):
        assert not {"KEK", "data key"} & keeper.found(step).keys(), step


def test_nothing_is_left_once_it_is_locked_and_the_passphrase_never_is(keeper: Searched) -> None:
    assert keeper.found("locked") == {}
    for step in STEPS:
        assert "passphrase" not in keeper.found(step)


@pytest.mark.heavy
@pytest.mark.parametrize("where", ["", "locked"], ids=["memfd-secret", "locked"])
def test_every_other_way_shows_no_more(tmp_path: Path, tpm: SoftwareTPM, where: str) -> None:
    require_root(where)
    if shutil.which("gcore") is None:
        pytest.skip("no `gcore` here: install gdb")
    ways = ("proc_mem", "ptrace", "map_files", "descriptors", "taken_descriptors", "environment", "gcore")
    made = searched(tmp_path, tpm, where, *ways)
    for step, report in made.steps.items():
        for name in KEYS:
            seen = found(report, name)
            # A place that is locked is left out of the dump that a crash makes; a debugger reads what root reads.
            assert set(seen) <= {"proc_mem", "ptrace", "gcore"}, (step, name)
            if where:
                continue
            # Of hidden memory a debugger sees what the processor holds of it: a vector register keeps the last key
            # that went through it, until another value does.
            assert set(seen) <= {"gcore"}, (step, name)
            (process,) = report.values()
            said = process["gcore"]
            assert isinstance(said, dict)
            assert set(said.get(name, [])) <= {"registers"}, (step, name)
