"""A sealed directory appears whole or not at all: refused sources, full disks and killed processes leave nothing."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.core.errors import StrongroomError, UsageError
from strongroom.sealing.adapters.directory import SealedDirectory, open_directory, read_envelope
from strongroom.sealing.errors import (
    DestinationExistsError,
    NameCollisionError,
    NoSpaceError,
    NothingToSealError,
    SourceChangedError,
    SpecialFileError,
    SymlinkError,
    TooManyFilesError,
    UnsafeNameError,
)
from support.sealed import FILES, ROOM, CountedRandom, content, data_key, seal_model, verified, write_model


def _nothing_but(folder: Path, *names: str) -> bool:
    return sorted(path.name for path in folder.iterdir()) == sorted(names)


def _link_to_file(folder: Path) -> None:
    (folder / "weights.bin").symlink_to("config.json")


def _link_to_folder(folder: Path) -> None:
    (folder / "sub").symlink_to("1_Pooling")


def _dangling(folder: Path) -> None:
    (folder / "weights.bin").symlink_to("nowhere")


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def _socket(folder: Path) -> None:
    here = Path.cwd()
    os.chdir(folder)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("s")
    os.chdir(here)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (_link_to_file, SymlinkError),
        (_link_to_folder, SymlinkError),
        (_dangling, SymlinkError),
        (_pipe, SpecialFileError),
        (lambda folder: (folder / "CONFIG.json").write_bytes(b""), NameCollisionError),
        (lambda folder: (folder / "a\\b").write_bytes(b""), UnsafeNameError),
        (lambda folder: (folder / "a\nb").write_bytes(b""), UnsafeNameError),
        (lambda folder: (folder / "end. ").write_bytes(b""), UnsafeNameError),
        (lambda folder: Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).write_bytes(b""), UnsafeNameError),
        (lambda folder: (folder / "/".join("d" * 17)).mkdir(parents=True), UnsafeNameError),
    ],
)
def test_a_source_that_is_not_plain_files_is_refused(
    tmp_path: Path, change: Callable[[Path], object], error: type[StrongroomError]
) -> None:
    change(write_model(tmp_path / "m"))
    with pytest.raises(error):
        seal_model(tmp_path / "m", tmp_path / "m.sealed")
    assert _nothing_but(tmp_path, "m")


def test_an_empty_source_and_one_with_too_many_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m" / "sub").mkdir(parents=True)
    with pytest.raises(NothingToSealError):
        seal_model(tmp_path / "m", tmp_path / "m.sealed")
    for number in range(1025):
        (tmp_path / "m" / str(number)).touch()
    with pytest.raises(TooManyFilesError):
        seal_model(tmp_path / "m", tmp_path / "m.sealed")
    assert _nothing_but(tmp_path, "m")


def test_a_linked_source_and_a_destination_inside_are_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "m")
    (tmp_path / "link").symlink_to("m")
    with pytest.raises(SymlinkError):
        seal_model(tmp_path / "link", tmp_path / "m.sealed")
    with pytest.raises(UsageError):
        seal_model(tmp_path / "m", tmp_path / "m" / "m.sealed")


def test_a_source_that_changes_is_refused(tmp_path: Path) -> None:
    def grow(_done: int, _total: int) -> None:
        with (tmp_path / "m" / "model.safetensors").open("ab") as file:
            file.write(b"more")

    def add(_done: int, _total: int) -> None:
        (tmp_path / "m" / "new").touch()

    for change in (grow, add):
        with pytest.raises(SourceChangedError):
            seal_model(write_model(tmp_path / "m"), tmp_path / "m.sealed", progress=change)
        assert _nothing_but(tmp_path, "m")


def test_an_existing_directory_is_replaced_only_when_asked(tmp_path: Path) -> None:
    first = seal_model(write_model(tmp_path / "m"), tmp_path / "m.sealed")
    with pytest.raises(DestinationExistsError):
        seal_model(tmp_path / "m", tmp_path / "m.sealed", random_bytes=CountedRandom(b"2"))
    assert read_envelope(tmp_path / "m.sealed") == first.envelope
    second = seal_model(
        tmp_path / "m",
        tmp_path / "m.sealed",
        version=2,
        predecessor=first.manifest.digest,
        random_bytes=CountedRandom(b"2"),
        replace=True,
    )
    assert read_envelope(tmp_path / "m.sealed") == second.envelope
    assert _nothing_but(tmp_path, "m", "m.sealed")


def test_a_full_disk_leaves_nothing_and_says_what_to_free(tmp_path: Path) -> None:
    first = seal_model(write_model(tmp_path / "m"), tmp_path / "m.sealed")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * ROOM, hard))
    try:
        with pytest.raises(NoSpaceError) as caught:
            seal_model(
                tmp_path / "m", tmp_path / "m.sealed", replace=True, version=2, predecessor=first.manifest.digest
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(tmp_path) in caught.value.remedy
    assert "free" in caught.value.remedy
    assert _nothing_but(tmp_path, "m", "m.sealed")
    assert read_envelope(tmp_path / "m.sealed") == first.envelope


def test_too_little_room_is_told_before_anything_is_written(tmp_path: Path) -> None:
    write_model(tmp_path / "m")
    with (tmp_path / "m" / "huge.bin").open("wb") as file:
        file.truncate(1 << 43)
    with pytest.raises(NoSpaceError, match="nothing was written") as caught:
        seal_model(tmp_path / "m", tmp_path / "m.sealed")
    assert "free at least" in caught.value.remedy
    assert _nothing_but(tmp_path, "m")


KILLED = """
import os, signal, sys
from pathlib import Path
from support.sealed import CountedRandom, seal_model
from strongroom.core.digest import Digest

root, at = Path(sys.argv[1]), int(sys.argv[2])
real = CountedRandom(b"second")

def random_bytes(count):
    if real.calls == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(count)

seal_model(root / "m", root / "m.sealed", replace=True, version=2, predecessor=Digest.of(b"first"),
           random_bytes=random_bytes)
"""


@pytest.mark.parametrize("at", [1, 7, 12])
def test_a_killed_seal_leaves_the_old_version_whole(tmp_path: Path, at: int) -> None:
    sealed = seal_model(write_model(tmp_path / "m"), tmp_path / "m.sealed")
    tests = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), str(at)],
        env=os.environ | {"PYTHONPATH": f"{tests}:{tests.parent / 'src'}"},
        check=False,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = [path for path in tmp_path.iterdir() if path.name.startswith(".m.sealed.partial-")]
    assert len(left) == 1
    assert not (left[0] / "manifest.json").exists()
    with open_directory(tmp_path / "m.sealed", data_key=data_key(), manifest=verified(sealed)) as model:
        for name, (_mode, data) in FILES.items():
            assert b"".join(bytes(chunk) for chunk in model.read_file(name)) == data
    seal_model(
        tmp_path / "m",
        tmp_path / "m.sealed",
        replace=True,
        version=2,
        predecessor=sealed.manifest.digest,
        random_bytes=CountedRandom(b"third"),
    )
    assert _nothing_but(tmp_path, "m", "m.sealed")


def test_two_seals_at_once_do_not_sweep_each_other(tmp_path: Path) -> None:
    write_model(tmp_path / "m", {"a": (0o644, content(ROOM))})
    inner: list[SealedDirectory] = []

    def other(_done: int, _total: int) -> None:
        if not inner:
            inner.append(seal_model(tmp_path / "m", tmp_path / "m.sealed", random_bytes=CountedRandom(b"inner")))

    with pytest.raises(DestinationExistsError):
        seal_model(tmp_path / "m", tmp_path / "m.sealed", progress=other)
    assert read_envelope(tmp_path / "m.sealed") == inner[0].envelope
    assert _nothing_but(tmp_path, "m", "m.sealed")
