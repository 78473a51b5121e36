"""A model directory seals and opens to the same files; what doesn't fit its manifest is refused by name."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError, UsageError
from strongroom.sealing.adapters.directory import (
    inspect_directory,
    open_directory,
    read_envelope,
    verify_directory,
    write_file,
)
from strongroom.sealing.adapters.files import folder, regular_file
from strongroom.sealing.errors import (
    CiphertextMismatchError,
    ExtendedError,
    HeaderMismatchError,
    IncompleteSealError,
    MissingObjectError,
    NoSuchFileError,
    NotSealedError,
    OlderVersionError,
    OtherManifestError,
    OtherModelObjectError,
    OtherObjectError,
    SealedIndexError,
    SegmentTamperedError,
    SpecialFileError,
    SymlinkError,
    TruncatedError,
    UnexpectedObjectError,
    WrongDataKeyError,
)
from strongroom.sealing.header import HEADER_LENGTH
from strongroom.sealing.manifest import ManifestExpectation, VerifiedManifest, manifest_envelope, verify_manifest
from strongroom.sealing.model import OpenedModel
from strongroom.sealing.plan import Part
from strongroom.sealing.write import SealedDirectory
from support.sealed import (
    FILES,
    GENESIS,
    MODEL,
    ROOM,
    SIGNER,
    CountedRandom,
    content,
    data_key,
    seal_model,
    verified,
    write_model,
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SealedDirectory]:
    root = tmp_path_factory.mktemp("model")
    sealed = seal_model(write_model(root / "plain"), root / "atlas.sealed")
    return root / "atlas.sealed", sealed


@pytest.fixture
def place(original: tuple[Path, SealedDirectory], tmp_path: Path) -> Path:
    return Path(shutil.copytree(original[0], tmp_path / "atlas.sealed"))


@pytest.fixture
def manifest(original: tuple[Path, SealedDirectory]) -> VerifiedManifest:
    return verified(original[1])


def _opened(place: Path, manifest: VerifiedManifest) -> OpenedModel:
    return open_directory(place, data_key=data_key(), manifest=manifest)


def _read(place: Path, manifest: VerifiedManifest) -> dict[str, tuple[int, bytes]]:
    with _opened(place, manifest) as model:
        return {
            file.name: (file.mode, b"".join(bytes(chunk) for chunk in model.chunks(file.name)))
            for file in model.files()
        }


def _largest(place: Path) -> Path:
    return max((place / "objects").iterdir(), key=lambda path: path.stat().st_size)


def test_the_same_files_come_back(place: Path, manifest: VerifiedManifest) -> None:
    assert _read(place, manifest) == FILES
    with _opened(place, manifest) as model:
        assert {file.name: file.size for file in model.files()} == {
            name: len(data) for name, (_, data) in FILES.items()
        }
        for name, (_mode, data) in FILES.items():
            buffer = bytearray(len(data))
            model.read_parts_of_whole(name, [Part(0, memoryview(buffer))])
            assert buffer == data
        part = bytearray(1000)
        model.reader("model.safetensors").read_into(65000, memoryview(part))
        assert part == FILES["model.safetensors"][1][65000:66000]
        for missing in (
            lambda: next(model.chunks("absent")),
            lambda: model.reader("absent"),
            lambda: model.read_parts_of_whole("absent", []),
        ):
            with pytest.raises(NoSuchFileError):
                missing()


def test_files_are_written_to_a_memory_file(place: Path, manifest: VerifiedManifest) -> None:
    done: list[int] = []
    with _opened(place, manifest) as model:
        fd = os.memfd_create("weights")
        write_file(model, "model.safetensors", fd, progress=done.append)
        data = FILES["model.safetensors"][1]
        assert os.pread(fd, len(data) + 1, 0) == data
        assert sum(done) == len(data)
        with pytest.raises(UsageError):
            write_file(model, "config.json", fd)
        os.close(fd)
        reading, writing = os.pipe()
        with pytest.raises(UsageError):
            write_file(model, "config.json", writing)
        os.close(reading)
        os.close(writing)


def test_no_name_and_no_plaintext_shows(place: Path) -> None:
    seen = b"".join(path.read_bytes() for path in place.rglob("*") if path.is_file())
    names = " ".join(str(path.relative_to(place)) for path in place.rglob("*"))
    for name, (_mode, data) in FILES.items():
        assert name.encode() not in seen
        assert name not in names
        assert len(data) < 20 or data[:20] not in seen


def test_progress_counts_plaintext(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    seal_model(write_model(tmp_path / "m"), tmp_path / "m.sealed", progress=lambda *step: steps.append(step))
    total = sum(len(data) for _mode, data in FILES.values())
    assert steps[-1] == (total, total)
    assert steps == sorted(steps)


def test_sealing_is_deterministic_given_its_randomness(place: Path, tmp_path: Path) -> None:
    seal_model(write_model(tmp_path / "m"), tmp_path / "again.sealed", threads=3)
    for path in place.rglob("*"):
        # The manifest's signature differs each time: ML-DSA takes randomness of its own.
        if path.is_file() and path.name != "manifest.json":
            assert (tmp_path / "again.sealed" / path.relative_to(place)).read_bytes() == path.read_bytes()
    assert read_envelope(tmp_path / "again.sealed").payload == read_envelope(place).payload


def test_two_versions_share_no_ciphertext(tmp_path: Path) -> None:
    first = seal_model(write_model(tmp_path / "m"), tmp_path / "1.sealed")
    second = seal_model(
        tmp_path / "m",
        tmp_path / "2.sealed",
        version=2,
        predecessor=first.manifest.digest,
        data_key=data_key(8),
        random_bytes=CountedRandom(b"two"),
    )
    assert second.manifest.predecessor == first.manifest.digest
    assert second.manifest.commitment != first.manifest.commitment
    assert not {o.root for o in first.manifest.objects} & {o.root for o in second.manifest.objects}


@pytest.mark.parametrize(
    ("where", "error"), [(HEADER_LENGTH + 70000, SegmentTamperedError), (100, HeaderMismatchError), (0, NotSealedError)]
)
def test_altered_object_is_refused_and_named(
    place: Path, manifest: VerifiedManifest, where: int, error: type[StrongroomError]
) -> None:
    path = _largest(place)
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    if where == 100:  # padding that isn't zero is refused as a form; a changed IV as another header
        data[where] ^= 1
        data[4040] ^= 1
    path.write_bytes(data)
    with pytest.raises(error, match=path.name):
        _read(place, manifest)


def test_no_altered_byte_is_handed_out_and_whole_reads_give_nothing(place: Path, manifest: VerifiedManifest) -> None:
    """Chunks come one after another, so the genuine ones before the altered one do come; nothing else does."""
    path = _largest(place)
    data = bytearray(path.read_bytes())
    data[HEADER_LENGTH + 2 * 65536 + 99] ^= 1
    path.write_bytes(data)
    with _opened(place, manifest) as model:
        chunks: list[int] = []
        with pytest.raises(SegmentTamperedError, match="segment 2"):
            chunks.extend(len(chunk) for chunk in model.chunks("model.safetensors"))
        assert chunks == [ROOM, ROOM]
        fd = os.memfd_create("weights")
        with pytest.raises(SegmentTamperedError):
            write_file(model, "model.safetensors", fd)
        assert os.fstat(fd).st_size == 0
        os.close(fd)
        buffer = bytearray(b"\xaa" * len(FILES["model.safetensors"][1]))
        with pytest.raises(SegmentTamperedError):
            model.read_parts_of_whole("model.safetensors", [Part(0, memoryview(buffer))])
        assert not any(buffer)
        buffer = bytearray(b"\xaa" * len(FILES["model.safetensors"][1]))
        with pytest.raises(SegmentTamperedError):
            model.reader("model.safetensors").read_into(0, memoryview(buffer))
        assert not any(buffer)


def test_shorter_and_longer_objects_are_refused(place: Path, manifest: VerifiedManifest) -> None:
    path = _largest(place)
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(TruncatedError, match=path.name):
        _opened(place, manifest)
    path.write_bytes(data + b"\0")
    with pytest.raises(ExtendedError, match=path.name):
        _opened(place, manifest)


def test_missing_and_extra_objects_are_refused(place: Path, manifest: VerifiedManifest) -> None:
    extra = place / "objects" / ("0" * 32 + ".sealed")
    extra.write_bytes(b"")
    with pytest.raises(UnexpectedObjectError, match=extra.name):
        _opened(place, manifest)
    extra.unlink()
    (place / "model.safetensors").write_bytes(b"plaintext beside the sealed objects")
    with pytest.raises(UnexpectedObjectError):
        _opened(place, manifest)
    (place / "model.safetensors").unlink()
    gone = _largest(place)
    gone.unlink()
    with pytest.raises(MissingObjectError, match=gone.name):
        _opened(place, manifest)


def test_plaintext_in_the_place_of_an_object_is_refused(place: Path, manifest: VerifiedManifest) -> None:
    path = _largest(place)
    path.write_bytes(content(path.stat().st_size))
    with pytest.raises(NotSealedError, match=path.name):
        _opened(place, manifest)


def test_swapped_objects_are_refused(place: Path, manifest: VerifiedManifest, tmp_path: Path) -> None:
    first, second = sorted((place / "objects").iterdir(), key=lambda path: path.stat().st_size)[:2]
    if first.stat().st_size != second.stat().st_size:
        write_model(tmp_path / "m", {"a": (0o644, b"12"), "b": (0o644, b"34")})
        sealed = seal_model(tmp_path / "m", tmp_path / "m.sealed")
        place, manifest = tmp_path / "m.sealed", verified(sealed)
        first, second = (place / "objects").iterdir()
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    with pytest.raises(OtherObjectError):
        _opened(place, manifest)


def test_an_object_of_another_version_is_refused(place: Path, manifest: VerifiedManifest, tmp_path: Path) -> None:
    seal_model(
        write_model(tmp_path / "m"), tmp_path / "2.sealed", version=2, predecessor=manifest.digest, data_key=data_key(8)
    )
    # The same randomness gave the same object names: only what the prelude binds tells them apart.
    path = _largest(place)
    shutil.copy(tmp_path / "2.sealed" / "objects" / path.name, path)
    with pytest.raises(OtherModelObjectError, match=path.name):
        _opened(place, manifest)


def test_an_older_version_under_the_same_name_is_refused(place: Path, manifest: VerifiedManifest) -> None:
    expect = ManifestExpectation(genesis=GENESIS, model=MODEL, version=2, digest=Digest.of(b"version 2"))
    with pytest.raises(OlderVersionError):
        verify_manifest(read_envelope(place), SIGNER.public_key, expect=expect)
    newer = VerifiedManifest(replace(manifest, version=2, predecessor=manifest.digest))
    with pytest.raises(OtherManifestError):
        _opened(place, newer)


def test_wrong_key_is_refused(place: Path, manifest: VerifiedManifest) -> None:
    with pytest.raises(WrongDataKeyError):
        open_directory(place, data_key=data_key(8), manifest=manifest)


def test_symbolic_links_are_not_followed(place: Path, manifest: VerifiedManifest, tmp_path: Path) -> None:
    link = tmp_path / "link.sealed"
    link.symlink_to(place)
    with pytest.raises(SymlinkError):
        _opened(link, manifest)
    path = _largest(place)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SymlinkError):
        _opened(place, manifest)


def test_a_link_put_there_after_the_listing_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("real/file")
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    with folder(tmp_path) as fd:
        for name in ("link", "folder/file", "loop"):
            with pytest.raises(SymlinkError), regular_file(name, within=fd):
                pass
        for name in ("pipe", "real"):
            with pytest.raises(SpecialFileError), regular_file(name, within=fd):
                pass


def test_an_absurd_index_is_refused_before_it_is_read(place: Path, manifest: VerifiedManifest) -> None:
    huge = VerifiedManifest(replace(manifest, index=replace(manifest.index, size=1 << 40)))
    (place / "manifest.json").write_bytes(manifest_envelope(huge, SIGNER).to_bytes())
    os.truncate(place / "index.sealed", 1 << 40)
    with pytest.raises(SealedIndexError):
        _opened(place, huge)


def test_a_directory_without_a_manifest_is_incomplete(place: Path, manifest: VerifiedManifest) -> None:
    (place / "manifest.json").unlink()
    for call in (lambda: _opened(place, manifest), lambda: read_envelope(place), lambda: inspect_directory(place)):
        with pytest.raises(IncompleteSealError):
            call()


def test_a_huge_manifest_is_not_read_whole(place: Path) -> None:
    with (place / "manifest.json").open("wb") as file:
        file.truncate(1 << 34)
    with pytest.raises(StrongroomError, match="at most"):
        read_envelope(place)


def test_inspection_needs_no_key_and_tells_no_name(place: Path, manifest: VerifiedManifest) -> None:
    facts = inspect_directory(place)
    assert facts.manifest == manifest
    assert facts.signed_by == (SIGNER.public_key.key_id,)
    assert len(facts.headers) == len(FILES) + 1
    assert not any(name in repr(facts) for name in FILES if name != "empty")


def test_ciphertext_is_verified_without_the_key(place: Path, manifest: VerifiedManifest) -> None:
    steps: list[tuple[int, int]] = []
    verify_directory(place, manifest, progress=lambda *step: steps.append(step))
    assert steps[-1] == (manifest.size, manifest.size)
    path = _largest(place)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CiphertextMismatchError, match=path.name):
        verify_directory(place, manifest)


def test_another_holder_of_the_data_key_cannot_forge(place: Path, manifest: VerifiedManifest, tmp_path: Path) -> None:
    # Same key, ids and IV give the same headers; only bodies differ, and they are authentic.
    forged = {name: (mode ^ 0o001, bytes(len(data))) for name, (mode, data) in FILES.items()}
    seal_model(write_model(tmp_path / "m", forged), tmp_path / "forged.sealed")
    path = _largest(place)
    genuine = path.read_bytes()
    shutil.copy(tmp_path / "forged.sealed" / "objects" / path.name, path)
    whole = len(FILES["model.safetensors"][1])
    with _opened(place, manifest) as model:
        seen: list[int] = []
        with pytest.raises(CiphertextMismatchError, match=path.name):
            seen.extend(len(chunk) for chunk in model.chunks("model.safetensors"))
        assert sum(seen) < whole
        buffer = bytearray(b"\xaa" * whole)
        with pytest.raises(CiphertextMismatchError, match=path.name):
            model.read_parts_of_whole("model.safetensors", [Part(0, memoryview(buffer))])
        assert not any(buffer)
        fd = os.memfd_create("weights")
        with pytest.raises(CiphertextMismatchError):
            write_file(model, "model.safetensors", fd)
        assert os.fstat(fd).st_size == 0
        os.close(fd)
    path.write_bytes(genuine)
    shutil.copy(tmp_path / "forged.sealed" / "index.sealed", place / "index.sealed")
    with pytest.raises(CiphertextMismatchError, match="index"):
        _opened(place, manifest)


def test_the_envelope_on_disk_is_the_one_returned(original: tuple[Path, SealedDirectory]) -> None:
    place, sealed = original
    assert read_envelope(place) == sealed.envelope
    assert verified(sealed) == sealed.manifest
