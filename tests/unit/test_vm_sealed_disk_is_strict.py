"""The disk with the sealed files comes from the host: plain files with plain names within bounds, or nothing."""

from __future__ import annotations

import contextlib
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import ConflictError, MalformedError, StrongroomError, UsageError
from strongroom.enclave.vm.adapters.sealed_disk import read_disk, write_disk
from strongroom.enclave.vm.sealed_disk import BLOCK, padding, read_header, write_header

FILES = {"manifest.json": b"{}", "objects/0001.sealed": bytes(range(256)) * 9, "empty": b""}


def sealed(folder: Path) -> Path:
    for name, data in FILES.items():
        path = folder / "sealed" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder / "sealed"


def test_files_arrive_as_they_were(tmp_path: Path) -> None:
    disk, inside = tmp_path / "disk", tmp_path / "inside"
    inside.mkdir()
    write_disk(sealed(tmp_path), disk)
    assert disk.stat().st_size % 4096 == 0
    assert read_disk(disk, inside, most=1 << 20) == len(FILES)
    assert {p.relative_to(inside).as_posix(): p.read_bytes() for p in inside.rglob("*") if p.is_file()} == FILES


def test_other_programs_read_it_too(tmp_path: Path) -> None:
    write_disk(sealed(tmp_path), tmp_path / "disk")
    with tarfile.open(tmp_path / "disk") as archive:
        read = {one.name: archive.extractfile(one) for one in archive}
        assert {name: file.read() for name, file in read.items() if file} == FILES


def tar(*members: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, *, size: int = 0, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.size, made.linkname = kind, size, target
    return made


@pytest.mark.parametrize(
    "data",
    [
        tar(member("../etc/passwd")),
        tar(member("/etc/passwd")),
        tar(member("a/./b")),
        tar(member("a", tarfile.SYMTYPE, target="/")),
        tar(member("a", tarfile.LNKTYPE, target="b")),
        tar(member("a", tarfile.DIRTYPE)),
        tar(member("a", tarfile.CHRTYPE)),
        tar(member("a", tarfile.FIFOTYPE)),
        tar(member("a", size=5000))[:1024],
        tar(member("a", size=2 << 20)),
        b"hsqs" + bytes(8188),
        b"x",
    ],
)
def test_anything_but_plain_files_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "disk").write_bytes(data)
    (tmp_path / "inside").mkdir()
    with pytest.raises(MalformedError):
        read_disk(tmp_path / "disk", tmp_path / "inside", most=1 << 20)
    assert not (tmp_path / "etc").exists()


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(tar(member("a"), member("a")))
    (tmp_path / "inside").mkdir()
    with pytest.raises(ConflictError):
        read_disk(tmp_path / "disk", tmp_path / "inside", most=1 << 20)


def test_a_link_in_the_sealed_directory_is_not_followed(tmp_path: Path) -> None:
    folder = sealed(tmp_path)
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(UsageError):
        write_disk(folder, tmp_path / "disk")


@given(block=st.binary(min_size=BLOCK, max_size=BLOCK) | st.binary(max_size=BLOCK))
def test_reading_a_header_is_total(block: bytes) -> None:
    with contextlib.suppress(StrongroomError):
        read_header(block)


@given(
    name=st.from_regex(r"[a-z0-9.]{1,20}(/[a-z0-9_]{1,20}){0,3}", fullmatch=True).filter(
        lambda text: not {".", ".."} & set(text.split("/"))
    ),
    size=st.integers(0, 8**11 - 1),
)
def test_a_header_is_read_as_written(name: str, size: int) -> None:
    assert read_header(write_header(name, size)) == (name, size)
    assert (size + padding(size)) % BLOCK == 0


@given(at=st.integers(0, 262), value=st.integers(0, 255))
def test_a_changed_header_is_refused_or_says_the_same(at: int, value: int) -> None:
    block = bytearray(write_header("objects/0001", 1234))
    block[at] = value
    with contextlib.suppress(MalformedError):
        assert read_header(bytes(block)) == ("objects/0001", 1234)
