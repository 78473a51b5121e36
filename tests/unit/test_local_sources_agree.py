"""However a sealed object is read from local storage, its bytes are the same; and only a file of our own is mapped."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from strongroom.sealing.adapters import sources
from strongroom.sealing.adapters.directory import open_directory
from strongroom.sealing.adapters.local_store import local_store
from strongroom.sealing.adapters.memory import plaintext_buffer
from strongroom.sealing.adapters.sources import (
    DirectSource,
    FileSource,
    MappedSource,
    cached_share,
    private_source,
    shared_source,
)
from strongroom.sealing.errors import TruncatedError
from strongroom.sealing.source import BytesSource, PositionalSource, exactly
from support.sealed import FILES, content, data_key, seal_model, verified, write_model

PAGE = 4096
TAILS = (-1, 0, 1, 31, 32, 33, 511, 512, 513, 2048, PAGE - 32, PAGE - 1)
LARGE = (3 << 20) + 77
"""Large enough for direct reads."""


@contextmanager
def _opened(path: Path, flags: int = 0) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | flags)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _opened_direct(path: Path) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        os.preadv(fd, [plaintext_buffer(PAGE)], 0)
    except OSError as error:
        pytest.skip(f"no direct reads on the file system of `{path}`: {error.strerror}")
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param == "disk":
        yield tmp_path
        return
    if not os.access("/dev/shm", os.W_OK):  # noqa: S108 - a folder of its own in it
        pytest.skip("no file system in memory at /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as made:
        yield Path(made)


def _agree(source: PositionalSource, data: bytes, seed: int) -> None:
    choose = random.Random(seed)  # noqa: S311 - places, not secrets
    assert source.size == len(data)
    places = [(0, len(data)), (0, len(data) + 5000), (max(0, len(data) - 1), 1), (len(data), 10)]
    for _ in range(40):
        offset = choose.choice([choose.randrange(len(data) + 1), choose.randrange(len(data) // PAGE + 1) * PAGE])
        places.append((offset, choose.choice([1, 32, PAGE, choose.randrange(1, len(data) + PAGE)])))
    for offset, length in places:
        assert source.piece(offset, length) == data[offset : offset + length], (offset, length)


@pytest.mark.parametrize("pages", [1, 2, 37])
@pytest.mark.parametrize("tail", TAILS)
def test_any_range_is_the_same_whatever_the_tail(folder: Path, pages: int, tail: int) -> None:
    data = content(pages * PAGE + tail)
    path = folder / "object"
    path.write_bytes(data)
    with _opened(path) as fd:
        for source in (FileSource(fd), MappedSource(fd), private_source(fd), shared_source(fd), BytesSource(data)):
            _agree(source, data, pages + tail)
    with _opened_direct(path) as fd:
        _agree(DirectSource(fd), data, pages + tail)


def _evicted(path: Path) -> None:
    with _opened(path) as fd:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        if cached_share(fd) > 0.5:
            pytest.skip("the page cache keeps the file, or the kernel doesn't tell")


def test_what_is_cached_decides_how_it_is_read(tmp_path: Path) -> None:
    data = content(LARGE)
    path = tmp_path / "object"
    path.write_bytes(data)
    with _opened_direct(path):
        pass
    _evicted(path)
    with _opened(path) as fd:
        cold = shared_source(fd)
        assert isinstance(cold, DirectSource)
        _agree(cold, data, 1)
    with _opened(path) as fd:
        assert isinstance(private_source(fd), DirectSource)
    path.read_bytes()
    with _opened(path) as fd:
        warm, private = shared_source(fd), private_source(fd)
        assert isinstance(warm, MappedSource)
        assert isinstance(private, FileSource)
        _agree(warm, data, 2)
        _agree(private, data, 3)


def _refuses(_fd: int, command: int, *_flags: int) -> int:
    if command == fcntl.F_SETFL and _flags[0] & os.O_DIRECT:
        raise OSError(errno.EINVAL, "no direct reads")
    return 0


@pytest.mark.parametrize("when", ["when asked", "when read"])
def test_without_direct_reads_the_page_cache_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    data = content(LARGE)
    path = tmp_path / "object"
    path.write_bytes(data)
    monkeypatch.setattr(sources, "cached_share", lambda _fd: 0.0)
    if when == "when asked":
        monkeypatch.setattr(fcntl, "fcntl", _refuses)
    else:
        real = os.preadv

        def refuses(fd: int, buffers: list[memoryview], offset: int) -> int:
            if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT:
                raise OSError(errno.EINVAL, "not in blocks of 4,096")
            return real(fd, buffers, offset)

        monkeypatch.setattr(os, "preadv", refuses)
    for opening in (private_source, shared_source):
        with _opened(path) as fd:
            source = opening(fd)
            assert not isinstance(source, DirectSource)
            _agree(source, data, 4)


@pytest.mark.parametrize("mode", [0o664, 0o622, 0o646, 0o666, 0o602])
def test_a_file_that_others_can_write_is_never_mapped(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "object"
    path.write_bytes(content(10_000))
    path.chmod(0o644)
    with _opened(path) as fd:
        assert isinstance(shared_source(fd), MappedSource)
    path.chmod(mode)
    with _opened(path) as fd:
        assert type(shared_source(fd)) is FileSource


def test_a_file_of_somebody_else_is_never_mapped(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("giving a file away takes root")
    path = tmp_path / "object"
    path.write_bytes(content(10_000))
    os.chown(path, 12345, -1)
    with _opened(path) as fd:
        assert type(shared_source(fd)) is FileSource


def test_a_file_on_a_file_system_that_others_change_is_never_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "object"
    path.write_bytes(content(10_000))
    monkeypatch.setattr(sources, "_LOCAL_KINDS", frozenset({0x6969}))
    with _opened(path) as fd:
        assert type(shared_source(fd)) is FileSource


def test_private_pieces_are_copies(tmp_path: Path) -> None:
    path = tmp_path / "object"
    path.write_bytes(bytes(10_000))
    with _opened(path) as fd:
        piece = private_source(fd).piece(0, 5000)
        path.write_bytes(b"\xff" * 10_000)
        assert not any(piece)


@pytest.mark.parametrize("kind", [FileSource, DirectSource])
def test_a_file_that_shrinks_while_it_is_read_is_truncated(
    tmp_path: Path, kind: Callable[[int], PositionalSource]
) -> None:
    path = tmp_path / "object"
    path.write_bytes(content(5 * PAGE))
    opening = _opened_direct if kind is DirectSource else _opened
    with opening(path) as fd:
        source = kind(fd)
        os.truncate(path, PAGE + 10)
        with pytest.raises(TruncatedError, match="objects/x"):
            exactly(source, PAGE, PAGE, object_name="objects/x")


SHRINKS = """
    import os, sys
    from pathlib import Path
    from strongroom.core.errors import StrongroomError
    from strongroom.sealing.adapters.directory import open_directory
    from strongroom.sealing.adapters.sources import MappedSource
    from support.sealed import data_key, seal_model, verified, write_model, content

    root = Path(sys.argv[1])
    sealed = seal_model(write_model(root / "m", {"a": (0o644, content(300_000))}), root / "m.sealed")
    with open_directory(root / "m.sealed", data_key=data_key(), manifest=verified(sealed)) as model:
        reader = model.reader("a")
        assert isinstance(reader._source, MappedSource)
        os.truncate(next((root / "m.sealed" / "objects").iterdir()), 100_000)
        buffer = bytearray(b"x" * 100_000)
        try:
            reader.read_into(150_000, memoryview(buffer))
        except StrongroomError as error:
            assert not any(buffer)
            print(error.code)
"""


def test_a_file_that_shrinks_under_a_mapped_reader_is_an_error_and_no_signal(tmp_path: Path) -> None:
    tests = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SHRINKS), tmp_path],
        env=os.environ | {"PYTHONPATH": f"{tests}:{tests.parent / 'src'}"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert done.stdout.strip() in {"storage", "sealed-truncated"}


def test_a_kernel_that_cannot_fault_pages_ahead_gets_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "object"
    path.write_bytes(content(10_000))
    monkeypatch.setattr(sources, "_POPULATE_READ", 9999)
    with _opened(path) as fd:
        assert type(shared_source(fd)) is FileSource


def test_a_cold_model_opens_as_a_warm_one(tmp_path: Path) -> None:
    data = content(LARGE)
    sealed = seal_model(write_model(tmp_path / "m", {"a": (0o644, data)}), tmp_path / "m.sealed", segment_bits=20)
    path = next((tmp_path / "m.sealed" / "objects").iterdir())
    for cold in (True, False):
        if cold:
            _evicted(path)
        with open_directory(tmp_path / "m.sealed", data_key=data_key(), manifest=verified(sealed)) as model:
            buffer = bytearray(LARGE)
            model.reader("a").read_into(0, memoryview(buffer))
            assert buffer == data
        path.read_bytes()


def test_closing_lets_go_of_a_mapping_so_that_the_kernel_can(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content(1 << 20))
    path.chmod(0o600)
    with local_store(tmp_path) as store, store.shared_source("file") as source:
        if not isinstance(source, MappedSource):
            pytest.skip("files aren't mapped on this file system")
        held = source.piece(0, 4096)
    with pytest.raises(OSError, match="descriptor"):
        source.piece(0, 1)
    assert bytes(held) == content(1 << 20)[:4096]
    held.release()
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_a_forked_child_makes_threads_of_its_own(tmp_path: Path) -> None:
    place = tmp_path / "atlas.sealed"
    manifest = verified(seal_model(write_model(tmp_path / "m"), place))

    def read() -> bytes:
        with open_directory(place, data_key=data_key(), manifest=manifest) as model:
            buffer = bytearray(len(FILES["model.safetensors"][1]))
            model.reader("model.safetensors").read_into(0, memoryview(buffer))
            return bytes(buffer)

    assert read() == FILES["model.safetensors"][1]
    child = os.fork()
    if child == 0:
        # Without threads of its own it would wait for ever for those of its parent.
        os._exit(0 if read() == FILES["model.safetensors"][1] else 1)
    assert os.waitpid(child, 0)[1] == 0
