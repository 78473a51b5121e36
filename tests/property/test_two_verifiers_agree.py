"""Two implementations that share no code say the same of any log: sound, or wrong in the same way at the same index."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from strongroom.audit import standalone_verifier
from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.adapters.workers import workers
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.cosignature import CosignatureKind, Cosigner, cosign_note
from strongroom.audit.errors import LogError, MissingRowsError
from strongroom.audit.spans import BUNDLES
from strongroom.audit.verify import SeenRoot, verify_log
from strongroom.audit.witness_policy import WitnessPolicy, check_note
from strongroom.core.errors import StrongroomError
from support.examples import examples
from support.logs import AT, LOG_KEY, LOG_SIGNER, ORIGIN
from support.published import key_file, publish, sign_head

SIZE = 1100  # four full bundles and a partial one, two levels
ENTRIES = [b"entry %d " % n * (n % 7) for n in range(SIZE)]
WITNESSES = (
    Cosigner.from_seed("a.example", CosignatureKind.ED25519, b"a" * 32),
    Cosigner.from_seed("b.example", CosignatureKind.ML_DSA_44, b"b" * 32),
    Cosigner.from_seed("c.example", CosignatureKind.ED25519, b"c" * 32),
)
NOTE = sign_head(ENTRIES, SIZE)
EARLIER = (0, 1, 255, 256, 257, 512, 700, 1024, 1099, 1100)
KEPT = {size: sign_head(ENTRIES, size) for size in EARLIER}
POLICY = (
    f"log {LOG_KEY}\n"
    + "".join(f"witness {name} {one.key}\n" for name, one in zip("abc", WITNESSES, strict=True))
    + "group two 2 a b c\nquorum two\n"
)
Found = tuple[str, int | None]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("agree")
    publish(folder / "log", ENTRIES, NOTE)
    key_file(folder)
    (folder / "policy").write_text(POLICY)
    return folder


def files(log: Path) -> list[Path]:
    return sorted(path for path in log.rglob("*") if path.is_file())


def ours(place: Path, previous: list[Path], *, policy: bool) -> Found:
    source = FolderSource(place / "log")
    try:
        seen = [SeenRoot.kept(path.read_bytes(), LOG_KEY) for path in previous]
        verify_log(source, LOG_KEY, entries=None, seen=seen)
        if policy:
            parsed = WitnessPolicy.parse((place / "policy").read_bytes())
            check_note(source.read("checkpoint") or b"", parsed, now=AT, log=LOG_KEY)
    except StrongroomError as error:
        return error.reason, error.index if isinstance(error, LogError) else None
    return "ok", None


def theirs(place: Path, previous: list[Path], *, policy: bool) -> Found:
    arguments = [str(place / "log"), "--key", str(place / "log.key"), "--jobs", "1", "--json"]
    arguments += ["--policy", str(place / "policy")] if policy else []
    for path in previous:
        arguments += ["--previous", str(path)]
    with redirect_stdout(io.StringIO()) as output:
        standalone_verifier.main(arguments)
    said: dict[str, Any] = json.loads(output.getvalue())
    return ("ok", None) if said["ok"] else (said["code"], said["index"])


def flip(place: Path, at: int) -> None:
    data = bytearray(place.read_bytes())
    if data:
        data[at // 8 % len(data)] ^= 1 << at % 8
    place.write_bytes(data)


def cut(place: Path, at: int) -> None:
    data = place.read_bytes()
    place.write_bytes(data[: at % max(1, len(data))])


def grow(place: Path, at: int) -> None:
    data = place.read_bytes()
    place.write_bytes(data + data[: at % 80])


def remove(place: Path, _at: int) -> None:
    place.unlink()


def swap(place: Path, at: int) -> None:
    other = sorted(place.parent.iterdir())
    chosen = other[at % len(other)]
    if chosen.is_file() and place.is_file():
        mine, yours = place.read_bytes(), chosen.read_bytes()
        place.write_bytes(yours)
        chosen.write_bytes(mine)


DAMAGES: list[Callable[[Path, int], None]] = [flip, cut, grow, remove, swap]


@contextmanager
def restored(log: Path) -> Iterator[None]:
    before = {path: path.read_bytes() for path in files(log)}
    try:
        yield
    finally:
        shutil.rmtree(log)
        for path, data in before.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


@settings(max_examples=examples(80))
@given(
    st.lists(st.tuples(st.integers(0, 99), st.sampled_from(range(len(DAMAGES))), st.integers(0, 2**20)), max_size=3),
    st.lists(st.sampled_from(EARLIER), max_size=2),
)
@example([], [0, 1100])
def test_damaged_files(place: Path, damages: list[tuple[int, int, int]], kept: list[int]) -> None:
    log = place / "log"
    previous = []
    for size in kept:
        previous.append(place / f"kept.{size}")
        previous[-1].write_bytes(KEPT[size])
    with restored(log):
        for which, how, at in damages:
            there = files(log)
            DAMAGES[how](there[which % len(there)], at)
        if not (log / "checkpoint").exists():
            return  # a wrong call, not a wrong log: each says so in its own words
        found = ours(place, previous, policy=False)
        assert theirs(place, previous, policy=False) == found
        if not damages:
            assert found == ("ok", None)


@settings(max_examples=examples(40))
@given(
    st.integers(1, SIZE), st.sets(st.integers(0, SIZE - 1), max_size=3), st.lists(st.sampled_from(EARLIER), max_size=3)
)
def test_histories_rewritten_under_the_logs_own_key(
    tmp_path_factory: pytest.TempPathFactory,
    size: int,
    edited: set[int],
    kept: list[int],
) -> None:
    folder = tmp_path_factory.mktemp("rewritten")
    entries = [b"forged" if n in edited else entry for n, entry in enumerate(ENTRIES[:size])]
    publish(folder / "log", entries)
    key_file(folder)
    previous = []
    for one in kept:
        previous.append(folder / f"kept.{one}")
        previous[-1].write_bytes(KEPT[one])
    found = ours(folder, previous, policy=False)
    assert theirs(folder, previous, policy=False) == found
    visible = any(one > size or any(n < one for n in edited) for one in kept)
    assert (found[0] != "ok") is visible


@settings(max_examples=examples(60))
@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from([AT - 5, AT, AT + 10**9])), max_size=4),
    st.one_of(st.none(), st.integers(0, 2**16)),
)
def test_cosigned_checkpoints(place: Path, cosigned: list[tuple[int, int]], bit: int | None) -> None:
    checkpoint = place / "log" / "checkpoint"
    note = NOTE
    for which, at in cosigned:
        # 2026 is behind both clocks, 2058 before both.
        note = cosign_note(note, WITNESSES[which], at)
    try:
        checkpoint.write_bytes(note)
        if bit is not None:
            flip(checkpoint, bit)
        found = ours(place, [], policy=True)
        assert theirs(place, [], policy=True) == found
    finally:
        checkpoint.write_bytes(NOTE)


def test_logs_of_several_spans(tmp_path: Path) -> None:
    size = BUNDLES * 256 + 300
    publish(tmp_path / "log", [b"%d" % n for n in range(size)])
    key_file(tmp_path)
    assert ours(tmp_path, [], policy=False) == ("ok", None)
    flip(next(path for path in files(tmp_path / "log" / "tile" / "entries") if path.name == "064"), 8 * 100)
    found = ours(tmp_path, [], policy=False)
    assert found[0] == "log-entry-edited"
    assert theirs(tmp_path, [], policy=False) == found


@pytest.mark.parametrize("size", [10**18, 2**40, 100_000])
def test_a_size_that_is_only_claimed_keeps_nobody_busy(tmp_path: Path, size: int) -> None:
    publish(tmp_path / "log", ENTRIES[:600], Checkpoint(ORIGIN, size, b"\x01" * 32).sign(LOG_SIGNER))
    key_file(tmp_path)
    found = ours(tmp_path, [], policy=False)
    # The partial bundle of the true size is no bundle of the claimed one.
    assert found == ("log-rows-missing", 512)
    assert theirs(tmp_path, [], policy=False) == found
    with workers(2) as spread, pytest.raises(MissingRowsError):
        verify_log(FolderSource(tmp_path / "log"), LOG_KEY, entries=None, spread=spread)


NAMES = st.sampled_from(["a", "b", "c", "g", "h", "none"])
LINES = st.one_of(
    st.builds("witness {} {}".format, NAMES, st.sampled_from([str(one.key) for one in WITNESSES])),
    st.builds("group {} {} {}".format, NAMES, st.sampled_from(["any", "all", "1", "2", "3", "0", "01", "x"]), NAMES),
    st.builds("group {} {} {} {}".format, NAMES, st.sampled_from(["any", "all", "2", "1"]), NAMES, NAMES),
    st.builds("quorum {}".format, NAMES),
    st.sampled_from([f"log {LOG_KEY}", f"log {WITNESSES[1].key}", f"log {WITNESSES[0].key}", "log", "# x", "", "\t"]),
    st.text(alphabet=" \tlogquorumwitness#+é\x00\r\x7f", max_size=12),
)


@settings(max_examples=examples(300))
@given(st.lists(LINES, max_size=7), st.lists(LINES, max_size=2), st.sampled_from(["\n", ""]))
@example(
    [f"witness {n} {one.key}" for n, one in zip("abc", WITNESSES, strict=True)], ["group g 2 a b", "quorum g"], "\n"
)
def test_policies(drawn: list[str], more: list[str], end: str) -> None:
    data = ("\n".join([*drawn, *more]) + end).encode()
    try:
        mine: WitnessPolicy | None = WitnessPolicy.parse(data)
    except StrongroomError:
        mine = None
    try:
        other: standalone_verifier.Policy | None = standalone_verifier.Policy.parse(data)
    except standalone_verifier.Refused:
        other = None
    assert (mine is None) is (other is None)
    if mine is not None and other is not None:
        names = [witness.name for witness in mine.witnesses]
        for size in range(len(names) + 1):
            for some in combinations(names, size):
                assert mine.met_by(some) is other.met(some)
