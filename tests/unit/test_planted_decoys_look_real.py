"""A planted decoy is sealed as the real thing is, has its sizes, and opens for nobody; the list is kept elsewhere."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from strongroom.cli.main import main
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.wallet import Wallet
from strongroom.core.encoding import from_base64
from strongroom.core.errors import ExitCode
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.secret import SecretBytes
from strongroom.keys.wrapping import new_key
from strongroom.responder.adapters.record_file import RecordFile
from strongroom.responder.decoys import MAX_MODELS, Decoys
from strongroom.responder.planting import wiring
from strongroom.responder.wiring import change_decoys
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


@pytest.mark.integration  # an event loop holds a socket pair of its own
def test_an_older_list_isn_t_signed_anew_and_a_clock_that_fell_stops_no_planting(place: Path) -> None:
    async def guarded(serial: int) -> None:
        record = RecordFile(place / "state")
        await record.append({"guarded": serial})
        record.close()

    def serial() -> int:
        return int(json.loads(from_base64(json.loads(file.read_bytes())["payload"]))["serial"])

    file = place / "state" / "decoys.json"
    assert run(place, "credential", str(place / "first"), "--model", "atlas").exit_code == 0
    older = file.read_bytes()
    assert run(place, "credential", str(place / "second"), "--model", "atlas").exit_code == 0
    asyncio.run(guarded(serial()))
    file.write_bytes(older)
    refused = run(place, "credential", str(place / "third"), "--model", "atlas")
    assert refused.exit_code != 0
    assert "decoys-rolled-back" in f"{refused.output}{refused.exception}{getattr(refused.exception, 'reason', '')}"
    assert file.read_bytes() == older
    # The newest was signed while the machine's clock was a century ahead, and is gone.
    file.unlink()
    asyncio.run(guarded(5_000_000_000))
    assert run(place, "credential", str(place / "fourth"), "--model", "atlas").exit_code == 0
    assert serial() == 5_000_000_001


def test_a_decoy_is_rotated_and_both_are_guarded_until_the_old_one_is_gone(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, like = place / "weights" / "other", place / "weights" / "newer", str(place / "weights" / "real")
    assert run(place, "plant", str(old), "--like", like).exit_code == 0
    assert run(place, "credential", str(place / "keys"), "--model", "atlas").exit_code == 0
    # A directory needs one that it looks like; a credential has none.
    assert run(place, "rotate", str(old), str(new)).exit_code != 0
    assert run(place, "rotate", str(place / "keys"), str(place / "keys-2"), "--like", like).exit_code != 0
    assert run(place, "rotate", like, str(new), "--like", like).exit_code != 0

    def crashes(*_words: object) -> None:
        raise SystemExit(9)

    with monkeypatch.context() as patch:
        patch.setattr(wiring, "remove", crashes)
        assert run(place, "rotate", str(old), str(new), "--like", like).exit_code == 9
    listed = {Path(one["path"]).parents for one in json.loads(run(place, "ls").output)["decoys"]}
    assert all(any(folder in parents for parents in listed) for folder in (old, new))
    assert run(place, "credential", str(place / "keys-3"), "--model", "atlas").exit_code == 0
    done = run(place, "rotate", str(place / "keys"), str(place / "keys-2"))
    assert done.exit_code == 0, done.output
    assert not (place / "keys").exists()
    assert (place / "keys-2").read_text() != (place / "keys-3").read_text()


def test_a_decoy_model_is_listed_and_taken_away(place: Path) -> None:
    assert run(place, "credential", str(place / "keys"), "--model", "atlas").exit_code == 0
    assert run(place, "model", "atlas-next", "--for", "atlas").exit_code == 0
    assert run(place, "model", "atlas-next", "--for", "atlas").exit_code != 0
    assert run(place, "model", "atlas", "--for", "atlas").exit_code != 0
    assert run(place, "model", "atlas-next").exit_code != 0
    # Decoys come and go; the models on the list stay.
    assert run(place, "rm", str(place / "keys")).exit_code == 0
    (listed,) = json.loads(run(place, "ls").output)["models"]
    assert (listed["name"], listed["model"]) == ("atlas-next", "atlas")
    assert run(place, "model", "atlas-next", "--remove").exit_code == 0
    assert run(place, "model", "atlas-next", "--remove").exit_code != 0
    assert json.loads(run(place, "ls").output)["models"] == []


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2Jb", "a\udcffb"])
def test_what_could_not_be_read_back_is_planted_nowhere(name: str, place: Path) -> None:
    assert run(place, "credential", str(place / "keys"), "--model", "atlas").exit_code == 0
    refused = run(place, "credential", str(place / name), "--model", "atlas")
    assert refused.exit_code == ExitCode.USAGE
    assert "printable" in refused.output
    # Nobody would guard it; and the list is still one that commands can change.
    assert not (place / name).exists()
    assert run(place, "rm", str(place / "keys")).exit_code == 0


def test_a_list_takes_no_more_than_can_be_read_back(place: Path) -> None:
    for number in range(MAX_MODELS):
        assert run(place, "model", f"m{number}", "--for", "atlas").exit_code == 0
    assert run(place, "model", "one-more", "--for", "atlas").exit_code != 0
    assert run(place, "model", "m0", "--remove").exit_code == 0
    assert run(place, "model", "one-more", "--for", "atlas").exit_code == 0


def test_a_decoy_that_was_deleted_by_hand_is_listed_once(place: Path) -> None:
    assert run(place, "credential", str(place / "keys"), "--model", "atlas").exit_code == 0
    (place / "keys").unlink()
    assert run(place, "credential", str(place / "keys"), "--model", "atlas").exit_code != 0
    assert not (place / "keys").exists()
    assert run(place, "rm", str(place / "keys")).exit_code == 0


def test_two_who_plant_at_once_wait_for_each_other(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, held = change_decoys, list[bool]()

    def changed(state: Path, wallet: Wallet) -> Decoys:
        held.append(is_held(state / wiring.LOCK))
        return whole(state, wallet)

    monkeypatch.setattr(wiring, "change_decoys", changed)
    real = str(place / "weights" / "real")
    for words in (
        ["credential", str(place / "keys"), "--model", "atlas"],
        ["plant", str(place / "weights" / "other"), "--like", real],
        ["model", "next", "--for", "atlas"],
        ["model", "next", "--remove"],
        ["rm", str(place / "keys")],
    ):
        assert run(place, *words).exit_code == 0
    assert held == [True] * 5
    assert not is_held(place / "state" / wiring.LOCK)


def is_held(lock: Path) -> bool:
    """Tell whether somebody else would wait."""
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
