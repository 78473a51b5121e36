"""A seal that a kill, a power cut or a full disk interrupted goes on where it was; nothing half-made is believed.

Until the new version is whole, the old one is whole in its place, whenever the process dies.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from strongroom.core.ids import PersonId
from strongroom.core.secret import SecretBytes
from strongroom.sealing.adapters.directory import open_directory, read_envelope, verify_directory
from strongroom.sealing.adapters.publish import partial_of
from strongroom.sealing.errors import NoSpaceError
from strongroom.sealing.floe import Floe
from strongroom.sealing.header import HEADER_LENGTH
from strongroom.sealing.journal import JOURNAL_NAME
from strongroom.sealing.write import SealedDirectory
from support.sealed import (
    FILES,
    ROOM,
    SEGMENT,
    CountedRandom,
    content,
    data_key,
    seal_model,
    verified,
    write_model,
)

KILLS = 50
SEED = 20
LARGE = content(12 * ROOM + 5, b"large")
MODEL_FILES = {"a.bin": (0o644, content(2 * ROOM + 9, b"a")), "b.bin": (0o644, LARGE), "c.json": (0o600, b"{}")}
SEGMENTS = 3 + 13 + 1 + 1
"""Of the three files, and of the index."""


class _PowerCutError(Exception):
    """Ends a seal in the middle."""


class _CutAt(CountedRandom):
    """Random bytes that end at a call."""

    def __init__(self, call: int, seed: bytes = b"first") -> None:
        super().__init__(seed)
        self._call = call

    def __call__(self, count: int) -> bytes:
        if self.calls == self._call:
            raise _PowerCutError
        return super().__call__(count)


@pytest.fixture
def encrypted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Positions of the segments that were encrypted; tests clear it."""
    positions: list[int] = []
    real = Floe.encrypt_segment

    def counted(self: Floe, *args: Any, **kwargs: Any) -> None:
        positions.append(kwargs["position"])
        real(self, *args, **kwargs)

    monkeypatch.setattr(Floe, "encrypt_segment", counted)
    return positions


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "m", MODEL_FILES)


def _cut(model: Path, call: int, **changes: Any) -> None:
    with pytest.raises(_PowerCutError):
        seal_model(model, model.parent / "m.sealed", random_bytes=_CutAt(call), threads=2, **changes)
    assert not (model.parent / "m.sealed").exists()


def _again(model: Path, **changes: Any) -> SealedDirectory:
    return seal_model(model, model.parent / "m.sealed", random_bytes=CountedRandom(b"again"), threads=2, **changes)


def _opens_as(model: Path, sealed: SealedDirectory, key: SecretBytes | None = None) -> bool:
    """Tell whether every byte verifies, what opens is what lies in ``model`` now, and nothing is left over."""
    place, manifest = model.parent / "m.sealed", verified(sealed)
    verify_directory(place, manifest)
    with open_directory(place, data_key=key or data_key(), manifest=manifest) as opened:
        found = {file.name: b"".join(map(bytes, opened.chunks(file.name))) for file in opened.files()}
    return (
        found == {path.name: path.read_bytes() for path in model.iterdir()}
        and not partial_of(place).exists()
        and len(list((place / "objects").iterdir())) == len(found)
    )


def _largest(model: Path) -> Path:
    return max((partial_of(model.parent / "m.sealed") / "objects").iterdir(), key=lambda path: path.stat().st_size)


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory where there is one: what a kill leaves is the same there, and writing takes no time."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as made:  # noqa: S108 - a name of its own
        yield Path(made)


def test_killed_at_any_moment_the_old_version_is_whole_and_the_next_call_goes_on(memory: Path) -> None:
    tests = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, tests / "support" / "killed_seals.py", memory, str(SEED), str(KILLS)],
        env=os.environ | {"PYTHONPATH": f"{tests}:{tests.parent / 'src'}"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    seen = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(seen) == KILLS
    for one in seen:
        # The first call was killed; one that went on from there may have come to its end before its moment.
        assert one["ends"][0] == -9, (one, done.stderr)
        assert set(one["ends"]) <= {-9, 0}, (one, done.stderr)
        assert one["whole"], one
        assert one["left"] == [], one
    went_on = [one for one in seen if one["again"] < one["total"]]
    assert len(went_on) > KILLS // 2
    # Late kills lose next to nothing.
    assert min(one["again"] for one in seen) <= 2


@pytest.mark.parametrize("call", [2, 5, 9, 12, 14, 20, 25])
def test_segments_that_are_there_are_not_made_again(model: Path, encrypted: list[int], call: int) -> None:
    _cut(model, call)
    assert _largest(model).exists()
    before = len(encrypted)
    encrypted.clear()
    sealed = _again(model)
    assert _opens_as(model, sealed)
    # At most the last segment of an object is made twice.
    assert len(encrypted) <= SEGMENTS - before + 1


def _zero(path: Path, begin: int, end: int) -> None:
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(bytes(end - begin))


@pytest.mark.parametrize(
    ("begin", "end", "kept"),
    [
        (HEADER_LENGTH + 3 * SEGMENT + 100, HEADER_LENGTH + 3 * SEGMENT + 600, 3),
        (HEADER_LENGTH + 2 * SEGMENT, HEADER_LENGTH + 8 * SEGMENT, 2),
        (HEADER_LENGTH, HEADER_LENGTH + 8 * SEGMENT, 0),
        (4022, HEADER_LENGTH, None),
        (0, HEADER_LENGTH + 8 * SEGMENT, None),
    ],
)
def test_zeros_that_a_power_cut_left_are_not_believed(
    model: Path, encrypted: list[int], begin: int, end: int, kept: int | None
) -> None:
    _cut(model, 18)
    made = max(encrypted) + 1
    assert made >= 6
    _zero(_largest(model), begin, end)
    encrypted.clear()
    assert _opens_as(model, _again(model))
    first = 0 if kept is None else kept
    assert sorted(encrypted) == sorted([*range(first, 13), 0, 0])


@pytest.mark.parametrize("change", [lambda size: size // 2, lambda size: size + SEGMENT, lambda _size: 0])
def test_a_finished_object_of_another_length_is_made_again(model: Path, change: Callable[[int], int]) -> None:
    _cut(model, 20)
    for path in (partial_of(model.parent / "m.sealed") / "objects").iterdir():
        os.truncate(path, change(path.stat().st_size))
    assert _opens_as(model, _again(model))


def test_objects_that_vanished_are_made_again(model: Path) -> None:
    _cut(model, 25)
    for path in (partial_of(model.parent / "m.sealed") / "objects").iterdir():
        path.unlink()
    assert _opens_as(model, _again(model))


def test_a_torn_journal_is_read_up_to_where_it_is_whole(tmp_path: Path, encrypted: list[int]) -> None:
    model = write_model(tmp_path / "m", {"a": (0o644, b"1"), "b": (0o644, b"22"), "c": (0o644, b"")})
    _cut(model, 12)
    place = tmp_path / "m.sealed"
    saved = Path(shutil.copytree(partial_of(place), tmp_path / "saved"))
    size = (saved / JOURNAL_NAME).stat().st_size
    made = []
    for cut in range(0, size + 1, max(1, size // 40)):
        shutil.copytree(saved, partial_of(place), dirs_exist_ok=True)
        os.truncate(partial_of(place) / JOURNAL_NAME, cut)
        encrypted.clear()
        assert _opens_as(model, _again(model)), cut
        made.append(len(encrypted))
        shutil.rmtree(place)
    assert made == sorted(made, reverse=True)
    assert made[0] == 4
    assert made[-1] < 4


@pytest.mark.parametrize("at", [0, 3, 20, -1])
def test_an_altered_journal_ends_where_it_was_altered(model: Path, at: int) -> None:
    _cut(model, 20)
    journal = partial_of(model.parent / "m.sealed") / JOURNAL_NAME
    data = bytearray(journal.read_bytes())
    data[at] ^= 1
    journal.write_bytes(data)
    assert _opens_as(model, _again(model))


def test_names_do_not_show_in_the_journal(model: Path) -> None:
    _cut(model, 25)
    journal = (partial_of(model.parent / "m.sealed") / JOURNAL_NAME).read_bytes()
    assert journal
    assert not any(name.encode() in journal for name in MODEL_FILES)


@pytest.mark.parametrize(
    "change", [{"data_key": data_key(8)}, {"data_key_id": "atlas-1b"}, {"publisher": PersonId("erin")}]
)
def test_what_another_key_or_version_left_is_not_gone_on_with(
    model: Path, encrypted: list[int], change: dict[str, Any]
) -> None:
    _cut(model, 25)
    encrypted.clear()
    sealed = _again(model, **change)
    assert len(encrypted) == SEGMENTS
    assert _opens_as(model, sealed, change.get("data_key"))


def test_a_seal_under_another_segment_length_goes_on_too(model: Path) -> None:
    _cut(model, 14)
    assert _opens_as(model, _again(model, segment_bits=17))


def _rewritten(model: Path) -> None:
    (model / "b.bin").write_bytes(content(len(LARGE), b"changed"))


def _rewritten_with_its_old_time(model: Path) -> None:
    before = (model / "b.bin").stat()
    _rewritten(model)
    os.utime(model / "b.bin", ns=(before.st_atime_ns, before.st_mtime_ns))


def _longer(model: Path) -> None:
    with (model / "b.bin").open("ab") as file:
        file.write(b"more")


def _renamed(model: Path) -> None:
    (model / "a.bin").rename(model / "z.bin")


def _added_and_removed(model: Path) -> None:
    (model / "new").write_bytes(b"new")
    (model / "a.bin").unlink()


def _exchanged(model: Path) -> None:
    (model / "a.bin").rename(model / "other")
    (model / "b.bin").rename(model / "a.bin")
    (model / "other").rename(model / "b.bin")


@pytest.mark.parametrize(
    "change", [_rewritten, _rewritten_with_its_old_time, _longer, _renamed, _added_and_removed, _exchanged]
)
@pytest.mark.parametrize("call", [14, 25])
def test_a_source_that_changed_in_between_is_sealed_as_it_is_now(
    model: Path, call: int, change: Callable[[Path], object]
) -> None:
    _cut(model, call)
    change(model)
    assert _opens_as(model, _again(model))


def test_a_cut_while_the_documents_are_written_costs_nothing(model: Path, encrypted: list[int]) -> None:
    class Cut:
        """A signer that is called when everything but the manifest is there, and dies."""

        def __getattr__(self, _name: str) -> Any:
            raise _PowerCutError

    with pytest.raises(_PowerCutError):
        seal_model(model, model.parent / "m.sealed", signer=Cut())
    partial = partial_of(model.parent / "m.sealed")
    assert (partial / "index.sealed").exists()
    (partial / "manifest.json").write_bytes(b"torn")
    encrypted.clear()
    assert _opens_as(model, _again(model))
    assert len(encrypted) == 1


def test_a_file_size_limit_is_told_and_the_next_call_goes_on(model: Path, encrypted: list[int]) -> None:
    old = seal_model(write_model(model.parent / "old"), model.parent / "m.sealed")
    new = {"replace": True, "version": 2, "predecessor": old.manifest.digest, "data_key": data_key(8)}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HEADER_LENGTH + 6 * SEGMENT, hard))
    try:
        with pytest.raises(NoSpaceError) as caught:
            seal_model(model, model.parent / "m.sealed", random_bytes=CountedRandom(b"limited"), **new)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "limit" in caught.value.remedy
    assert str(model.parent) in caught.value.remedy
    assert read_envelope(model.parent / "m.sealed") == old.envelope
    encrypted.clear()
    sealed = _again(model, **new)
    assert len(encrypted) <= SEGMENTS - 3 - 6
    assert _opens_as(model, sealed, data_key(8))


DISK = 6 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "strongroom-test", place], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"a full disk takes a small tmpfs, and it can't be mounted: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def _fill(disk: Path, *, leave: int = 0) -> None:
    room = os.statvfs(disk)
    with (disk / "filler").open("ab") as file:
        file.write(bytes(max(0, room.f_bavail * room.f_frsize - leave)))


@pytest.mark.parametrize("when", [0.02, 0.4, 0.8, 1.0])
def test_a_disk_that_fills_up_keeps_the_old_version_and_the_next_call_goes_on(
    disk: Path, tmp_path: Path, encrypted: list[int], when: float
) -> None:
    old = seal_model(write_model(tmp_path / "old"), disk / "m.sealed")
    model = write_model(disk / "m", MODEL_FILES)
    new = {"replace": True, "version": 2, "predecessor": old.manifest.digest, "data_key": data_key(8)}

    def fill(done: int, total: int) -> None:
        if done >= when * total:
            _fill(disk)

    encrypted.clear()
    with pytest.raises(NoSpaceError) as caught:
        seal_model(model, disk / "m.sealed", random_bytes=CountedRandom(b"full"), progress=fill, threads=1, **new)
    assert "free" in caught.value.remedy
    assert str(disk) in caught.value.remedy
    assert read_envelope(disk / "m.sealed") == old.envelope
    with open_directory(disk / "m.sealed", data_key=data_key(), manifest=verified(old)) as opened:
        assert {file.name: b"".join(map(bytes, opened.chunks(file.name))) for file in opened.files()} == {
            name: data for name, (_mode, data) in FILES.items()
        }
    first = len(encrypted)
    encrypted.clear()
    (disk / "filler").unlink()
    sealed = _again(model, **new)
    assert len(encrypted) < SEGMENTS or when < 0.1
    # What was encrypted when the disk was full already, eight segments at most, wasn't written.
    assert len(encrypted) <= SEGMENTS - first + 10
    assert _opens_as(model, sealed, data_key(8))


def test_too_small_a_disk_is_told_at_once_with_the_bytes_to_free(disk: Path, encrypted: list[int]) -> None:
    model = write_model(disk / "m", MODEL_FILES)
    _fill(disk, leave=300_000)
    with pytest.raises(NoSpaceError, match="are free") as caught:
        seal_model(model, disk / "m.sealed")
    assert "free at least" in caught.value.remedy
    assert encrypted == []
    assert not partial_of(disk / "m.sealed").exists()
    (disk / "filler").unlink()
    assert _opens_as(model, _again(model))
