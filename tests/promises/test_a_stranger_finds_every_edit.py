"""With the tiles, the public key and one file, a stranger finds a single changed bit, wherever in the log it is."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import strongroom.audit
from strongroom.audit.cosignature import CosignatureKind, Cosigner, cosign_note
from strongroom.audit.merkle import leaf_hash
from strongroom.audit.tiles import Tile
from support.logs import AT, LOG_KEY
from support.published import files_of, key_file, publish, sign_head

SOURCE = Path(strongroom.audit.__file__).with_name("standalone_verifier.py")
SIZE = 20_000


def entry(index: int) -> bytes:
    return b'{"number":%d,"text":"%s"}' % (index, leaf_hash(b"%d" % index).hex().encode())


@dataclass
class Stranger:
    """An empty folder with a copy of the verifier, and a Python in which only `cryptography` can be imported."""

    folder: Path

    def verify(self, log: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Run it; returns the exit code and what it said."""
        run = (
            "import runpy, sys; packages, *sys.argv = sys.argv[1:]; sys.path.append(packages);"
            "runpy.run_path(sys.argv[0], run_name='__main__')"
        )
        command = [sys.executable, "-I", "-S", "-c", run, str(self.folder / "packages"), "verifier.py", str(log)]
        done = subprocess.run(
            [*command, "--json", *arguments], cwd=self.folder, capture_output=True, check=False, env={}
        )
        assert done.stderr == b"", done.stderr.decode()
        found: dict[str, Any] = json.loads(done.stdout)
        return done.returncode, found


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    folder = tmp_path_factory.mktemp("stranger")
    (folder / "verifier.py").write_bytes(SOURCE.read_bytes())
    (folder / "packages").mkdir()
    installed = Path(sysconfig.get_paths()["platlib"])
    for wanted in ("cryptography", "cffi", *(path.name for path in installed.glob("_cffi_backend*"))):
        (folder / "packages" / wanted).symlink_to(installed / wanted)
    key_file(folder)
    return Stranger(folder)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("log"), [entry(index) for index in range(SIZE)])


def damaged(place: Path, bit: int) -> Iterator[None]:
    good = place.read_bytes()
    data = bytearray(good)
    data[bit // 8] ^= 1 << bit % 8
    place.write_bytes(data)
    yield
    place.write_bytes(good)


def index_at(bundle: bytes, offset: int, first: int) -> int:
    """Return which entry of a bundle a byte belongs to."""
    at = 0
    while True:
        end = at + 2 + int.from_bytes(bundle[at : at + 2])
        if offset < end:
            return first
        at, first = end, first + 1


def key_of(stranger: Stranger) -> list[str]:
    return ["--key", str(stranger.folder / "log.key")]


def test_untouched_log_verifies_with_nothing_else_installed(stranger: Stranger, log: Path) -> None:
    code, found = stranger.verify(log, *key_of(stranger))
    assert (code, found["ok"], found["size"]) == (0, True, SIZE)


def test_its_interpreter_has_nothing_of_ours(stranger: Stranger) -> None:
    probe = "import sys; sys.path.append(sys.argv[1]); import cryptography; import strongroom"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", probe, str(stranger.folder / "packages")], capture_output=True, check=False
    )
    assert b"No module named 'strongroom'" in done.stderr


@pytest.mark.parametrize("seed", range(4))
def test_a_bit_of_an_entry(stranger: Stranger, log: Path, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - where to look, not a secret
    place = rng.choice(sorted((log / "tile" / "entries").rglob("[0-9][0-9][0-9]")))
    bit = rng.randrange(8 * place.stat().st_size)
    first = 256 * Tile.parse(str(place.relative_to(log))).index
    wanted = index_at(place.read_bytes(), bit // 8, first)
    for _ in damaged(place, bit):
        code, found = stranger.verify(log, *key_of(stranger))
        assert code == 6
        # A bit of a length moves the borders of all entries behind it: then the bundle doesn't fit together.
        assert found["code"] in {"log-entry-edited", "log-rows-missing"}
        assert first <= found["index"] <= first + 256
        if found["code"] == "log-entry-edited":
            assert found["index"] <= wanted


@pytest.mark.parametrize("level", ["0", "1"])
def test_a_bit_of_a_hash_tile(stranger: Stranger, log: Path, level: str) -> None:
    rng = random.Random(level)  # noqa: S311 - where to look, not a secret
    place = rng.choice([path for path in sorted((log / "tile" / level).rglob("*")) if path.is_file()])
    bit = rng.randrange(8 * place.stat().st_size)
    for _ in damaged(place, bit):
        code, found = stranger.verify(log, *key_of(stranger))
        assert (code, found["code"]) == (6, "log-tile-damaged")
        tile = Tile.parse(str(place.relative_to(log)))
        assert found["index"] == (256 * tile.index + bit // 8 // 32) << 8 * int(level)


def test_bits_of_the_checkpoint(stranger: Stranger, log: Path) -> None:
    place = log / "checkpoint"
    for bit in range(0, 8 * place.stat().st_size, 211):
        for _ in damaged(place, bit):
            code, found = stranger.verify(log, *key_of(stranger), "--jobs", "1")
            assert code == 6
            assert found["code"] in {"malformed", "log-checkpoint-forged", "log-key-wrong"}


def test_history_rewritten_under_the_logs_own_key(stranger: Stranger, tmp_path: Path) -> None:
    entries = [entry(index) for index in range(700)]
    kept = stranger.folder / "kept"
    kept.write_bytes(sign_head(entries, 500))
    entries[300] = b"another"
    rewritten = publish(tmp_path / "rewritten", entries)
    assert stranger.verify(rewritten, *key_of(stranger))[0] == 0  # sound in itself: only who kept something can tell
    code, found = stranger.verify(rewritten, *key_of(stranger), "--previous", str(kept))
    assert (code, found["code"]) == (6, "log-forked")
    shorter = publish(tmp_path / "shorter", [entry(index) for index in range(400)])
    code, found = stranger.verify(shorter, *key_of(stranger), "--previous", str(kept))
    assert (code, found["code"], found["index"]) == (6, "log-rows-missing", 400)


def test_a_quorum_of_both_kinds_of_witness(stranger: Stranger, tmp_path: Path) -> None:
    entries = [entry(index) for index in range(300)]
    old = Cosigner.from_seed("old.example/w", CosignatureKind.ED25519, b"o" * 32)
    new = Cosigner.from_seed("new.example/w", CosignatureKind.ML_DSA_44, b"n" * 32)
    note = sign_head(entries, 300)
    policy = stranger.folder / "policy"
    policy.write_text(
        f"log {LOG_KEY}\nwitness old {old.key}\nwitness new {new.key}\ngroup both all old new\nquorum both\n"
    )
    both = publish(tmp_path / "both", entries, cosign_note(cosign_note(note, old, AT - 10**8), new, AT - 10**8))
    code, found = stranger.verify(both, "--policy", str(policy))
    assert (code, sorted(found["cosigned"])) == (0, ["new", "old"])
    (both / "checkpoint").write_bytes(cosign_note(note, old, AT - 10**8))
    code, found = stranger.verify(both, "--policy", str(policy))
    assert (code, found["code"]) == (6, "witness-quorum-missing")
    forged = cosign_note(cosign_note(sign_head(entries, 299), old, AT), new, AT)
    lines = forged.rpartition(b"\n\n")[2].split(b"\n", 1)[1]
    (both / "checkpoint").write_bytes(note + lines)
    code, found = stranger.verify(both, "--policy", str(policy))
    assert (code, found["code"]) == (6, "cosignature-forged")


@pytest.mark.heavy
def test_one_bit_in_a_million_entries(stranger: Stranger, tmp_path: Path) -> None:
    size, log = 1_000_000, tmp_path / "million"
    for path, data in files_of(entry(index) for index in range(size)):
        (log / path).parent.mkdir(parents=True, exist_ok=True)
        (log / path).write_bytes(data)
    (log / "checkpoint").write_bytes(sign_head((entry(index) for index in range(size)), size))
    assert stranger.verify(log, *key_of(stranger))[0] == 0
    place = log / Tile(None, 3001).path
    for _ in damaged(place, 8 * 20 + 3):
        code, found = stranger.verify(log, *key_of(stranger))
        assert (code, found["code"], found["index"]) == (6, "log-entry-edited", 3001 * 256)
    for _ in damaged(log / Tile(2, 0, size >> 16).path, 300):
        code, found = stranger.verify(log, *key_of(stranger))
        assert (code, found["code"], found["index"]) == (6, "log-tile-damaged", 1 << 16)
