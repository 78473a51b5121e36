"""A planted decoy is sealed as the real thing is, has its sizes, and opens for nobody; the list is kept elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from strongroom.cli.main import main
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.secret import SecretBytes
from strongroom.keys.wrapping import new_key
from strongroom.sealing.adapters.directory import inspect_directory, read_envelope, seal_directory
from strongroom.sealing.manifest import read_manifest
from strongroom.sealing.write import VersionFacts
from support.deployment import publisher
from support.room import found_room

SIZES = (0, 1, 5000, 300_000)


def nobody() -> SecretBytes:
    raise AssertionError("the wallet has no passphrase")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a sealed directory, and the wallet of a responder."""
    genesis = found_room().genesis
    source = tmp_path / "plain"
    source.mkdir()
    for number, size in enumerate(SIZES):
        (source / f"shard-{number}").write_bytes(os.urandom(size))
    facts = VersionFacts(
        genesis=genesis.digest,
        model=ModelId("atlas"),
        version=1,
        predecessor=None,
        data_key_id="ab" * 16,
        publisher=PersonId("dana"),
    )
    (tmp_path / "weights").mkdir()
    with new_key(os.urandom) as key:
        seal_directory(
            source,
            tmp_path / "weights" / "real",
            facts=facts,
            data_key=key,
            signer=publisher("dana"),
            random_bytes=os.urandom,
        )
    for file in (tmp_path / "weights").rglob("*"):
        os.utime(file, (1_600_000_000, 1_600_000_000))
    WalletFolder.create(tmp_path / "wallet", PersonId("warden"), os.urandom, passphrase=None)
    WalletFolder(tmp_path / "wallet", nobody).bind("https://127.0.0.1:1", genesis, b"")
    return tmp_path


def run(place: Path, *words: str) -> Result:
    more = ["--state", str(place / "state"), "--as", str(place / "wallet"), "--json"]
    return CliRunner().invoke(main, ["decoy", *words, *more])


def test_a_decoy_has_the_form_the_sizes_and_the_times_of_the_real_one(place: Path) -> None:
    real, made = place / "weights" / "real", place / "weights" / "other"
    done = run(place, "plant", str(made), "--like", str(real))
    assert done.exit_code == 0, done.output
    inspect_directory(made)
    sizes = [sorted(file.stat().st_size for file in (path / "objects").iterdir()) for path in (real, made)]
    assert sizes[0] == sizes[1]
    assert {file.name for file in real.iterdir()} == {file.name for file in made.iterdir()}
    assert {file.name for file in (real / "objects").iterdir()}.isdisjoint(
        file.name for file in (made / "objects").iterdir()
    )
    one, other = (read_manifest(read_envelope(path)) for path in (real, made))
    assert (one.model, one.version, one.publisher, len(one.data_key_id)) == (
        other.model,
        other.version,
        other.publisher,
        len(other.data_key_id),
    )
    assert one.data_key_id != other.data_key_id
    for file in made.rglob("*"):
        if file.is_file():
            assert abs(file.stat().st_mtime - 1_600_000_000) <= 3600
    planted = json.loads(done.output)["decoys"]
    assert {Path(decoy["path"]).name for decoy in planted} == {
        "index.sealed",
        *(file.name for file in (made / "objects").iterdir()),
    }
    # Nothing beside the decoys says that they are some.
    assert {file.name for file in (place / "weights").iterdir()} == {"real", "other"}


def test_a_decoy_is_listed_and_taken_away(place: Path) -> None:
    made = place / "weights" / "other"
    assert run(place, "plant", str(made), "--like", str(place / "weights" / "real")).exit_code == 0
    assert run(place, "credential", str(place / "keys"), "--model", "atlas").exit_code == 0
    assert "aws_secret_access_key" in (place / "keys").read_text()
    assert len(json.loads(run(place, "ls").output)["decoys"]) == len(SIZES) + 2
    assert run(place, "plant", str(made), "--like", str(place / "weights" / "real")).exit_code != 0
    assert run(place, "rm", str(place / "weights" / "real")).exit_code != 0
    assert (place / "weights" / "real").exists()
    assert run(place, "rm", str(made)).exit_code == 0
    assert not made.exists()
    assert [decoy["kind"] for decoy in json.loads(run(place, "ls").output)["decoys"]] == ["credential"]


def test_a_list_of_somebody_else_s_is_refused(place: Path) -> None:
    assert run(place, "credential", str(place / "keys"), "--model", "atlas").exit_code == 0
    file = place / "state" / "decoys.json"
    assert file.stat().st_mode & 0o077 == 0
    changed = json.loads(file.read_bytes())
    changed["signatures"][0]["sig"] = changed["signatures"][0]["sig"][::-1]
    file.write_text(json.dumps(changed, separators=(",", ":"), sort_keys=True))
    assert run(place, "ls").exit_code != 0
