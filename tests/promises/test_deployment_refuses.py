"""The whole deployment, by its commands: who must not get the weights doesn't, and nothing secret is left behind.

The attempts are those of the demonstration, with a command that needs no machine learning library.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from attacks import Attacks
from preparing import IMAGE, MODEL, attest, found_deployment, seal, sign_and_adopt
from stage import PASSPHRASE, Outcome, Stage, free_port
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from support.forked import completed
from support.plaintext import Plaintext, files_below
from support.slim import slim_installation

pytestmark = pytest.mark.integration
SCRIPT = """
import hashlib, os
folder = os.environ["STRONGROOM_MODEL"]
for name in sorted(os.listdir(folder)):
    with open(os.path.join(folder, name), "rb") as file:
        print(name, hashlib.sha256(file.read()).hexdigest())
"""


class ForkingStage(Stage):
    """Has its commands run in forked processes, but for those that measure the installation that they run in."""

    def ended(self, words: Sequence[str], environment: Mapping[str, str], descriptors: Sequence[int]) -> Outcome:
        """Run a command to its end."""
        if words[0] == "enclave":
            return super().ended(words, environment, descriptors)
        done = completed("strongroom.cli.main", *words, env=environment, pass_fds=descriptors)
        return Outcome(done.returncode, done.stdout, done.stderr)


@dataclass
class Scene:
    """A running deployment with an approved request, and what was sealed into it."""

    stage: Stage
    attacks: Attacks
    plain: Path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Found, seal, attest, approve."""
    if not SoftwareTPM.available():
        pytest.skip("no software TPM: install swtpm and swtpm-tools")
    folder = tmp_path_factory.mktemp("d")
    plain = folder / "plain"
    plain.mkdir()
    (plain / "config.json").write_text('{"made": "for a test"}')
    (plain / "model.safetensors").write_bytes(os.urandom(8_000_000))
    (folder / "inside").mkdir()
    script = folder / "inside" / "digests.py"
    script.write_text(SCRIPT)
    scratch = folder / "s"
    scratch.mkdir()
    # Each launch measures the whole installation: this one is as small as one can be.
    stage = ForkingStage(scratch, port=free_port(), program=slim_installation(folder / "slim"))
    try:
        with SoftwareTPM(folder / "tpm") as tpm:
            found_deployment(stage)
            sealed = seal(stage, plain, MODEL, "minilm-1.sealed")
            attest(stage, tpm, sealed, script)
            attacks = Attacks(stage, tpm, sealed=sealed, model=MODEL, image=IMAGE, script=script)
            attacks.approved = attacks.request(uses=50)
            attacks.approve(attacks.approved, "sam", "rina")
            yield Scene(stage, attacks, plain)
    finally:
        stage.stop()


def test_the_approved_enclave_sees_the_model(scene: Scene) -> None:
    outcome = scene.attacks.enclave(scene.attacks.approved)
    assert outcome.code == 0, outcome.err
    assert "model.safetensors" in outcome.out


def test_no_secret_in_arguments_or_environments(scene: Scene) -> None:
    passphrase = PASSPHRASE.strip()
    seen = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            arguments = (folder / "cmdline").read_bytes()
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue  # it ended, or isn't ours to look at
        if str(scene.stage.scratch).encode() in arguments:
            seen += 1
            assert passphrase not in arguments
            assert passphrase not in environment
    assert seen >= 4  # up, log writer, keeper, broker


def test_too_few_the_wrong_ones_and_one_person_twice(scene: Scene) -> None:
    scene.attacks.people()


# These two are refused by the keeper in `test_people_lose_and_regain_access.py`, too; here it is by the commands.
@pytest.mark.heavy
def test_one_officer_alone_and_lapsed_vetting(scene: Scene) -> None:
    scene.attacks.vetting()


@pytest.mark.heavy
def test_an_approver_who_left_and_one_who_is_only_listed_again(scene: Scene) -> None:
    scene.attacks.leaver(lambda kind, file: sign_and_adopt(scene.stage, kind, file))


def test_another_program_and_replayed_evidence(scene: Scene) -> None:
    scene.attacks.attestation()


def test_damaged_cut_and_plain_files(scene: Scene) -> None:
    scene.attacks.sealed_files(scene.plain)


def test_an_older_version(scene: Scene) -> None:
    scene.attacks.copy_log()
    scene.attacks.versions(lambda name: seal(scene.stage, scene.plain, MODEL, name))


def test_rows_written_by_the_owner_of_the_database(scene: Scene) -> None:
    scene.attacks.database(lambda source: seal(scene.stage, source, "other", "other-1.sealed"))


def test_a_frozen_model(scene: Scene) -> None:
    scene.attacks.freeze()


def test_the_record_verifies_offline_and_a_rolled_back_log_is_refused(scene: Scene) -> None:
    scene.stage.stop()
    home = scene.stage.home
    verified = scene.stage.ok(
        "audit",
        "verify",
        "--log",
        home / "log" / "public",
        "--key",
        home / "log.pub",
        "--genesis",
        home / "genesis.json",
    )
    assert re.search(r"\d+ entries", verified.out), verified.out
    scene.attacks.log_rolled_back()


def test_no_plaintext_in_anything_that_was_written(scene: Scene) -> None:
    weights = Plaintext((scene.plain / "model.safetensors").read_bytes())
    marked = scene.stage.scratch / "marked"
    marked.write_bytes(os.urandom(999) + (scene.plain / "model.safetensors").read_bytes()[1001:1101])
    assert weights.found_in(marked) is not None, "the search can't find what is there"
    marked.unlink()
    searched = [path for path in files_below(scene.stage.scratch) if weights.found_in(path) is None]
    assert searched == list(files_below(scene.stage.scratch))
    assert any(path.name == "broker.db" for path in searched)
    assert any(path.suffix == ".sealed" for path in searched)
    assert not [path for path in files_below(scene.stage.scratch) if path.name.startswith("core")]


def test_no_signing_key_or_passphrase_in_logs_or_databases(scene: Scene) -> None:
    secrets = [PASSPHRASE.strip()]
    for wallet in (scene.stage.scratch / "wallets").iterdir():
        lines = (wallet / "signing.key").read_text().splitlines()
        secrets.append(lines[1].encode())
    for path in files_below(scene.stage.home):
        data = path.read_bytes()
        assert not [secret for secret in secrets if secret in data], path
    shutil.rmtree(scene.stage.scratch / "log-then")
