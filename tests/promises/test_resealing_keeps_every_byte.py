"""A sealed directory sealed anew holds the same files under another key; nothing forged is ever taken over.

Interrupted anywhere it goes on, and until the new version is whole there is nothing at its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from strongroom.core.errors import UsageError
from strongroom.core.ids import PersonId
from strongroom.sealing.adapters.directory import open_directory, verify_directory
from strongroom.sealing.adapters.publish import partial_of
from strongroom.sealing.adapters.reseal import reseal_directory
from strongroom.sealing.canary import Canary
from strongroom.sealing.errors import CiphertextMismatchError, SealedObjectError, WrongDataKeyError
from strongroom.sealing.floe import Floe
from strongroom.sealing.header import HEADER_LENGTH, SealedHeader
from strongroom.sealing.manifest import object_name
from strongroom.sealing.model import OpenedModel
from strongroom.sealing.write import SealedDirectory, VersionFacts
from support.sealed import (
    FILES,
    GENESIS,
    MODEL,
    ROOM,
    SEGMENT,
    SIGNER,
    CountedRandom,
    content,
    data_key,
    seal_model,
    verified,
    write_model,
)

NEW = 9
"""The byte of the new data key."""
LARGE = {"a.bin": (0o600, content(5 * ROOM + 3, b"a")), "b.bin": (0o644, content(2 * ROOM, b"b"))}


class _PowerCutError(Exception):
    """Ends a seal in the middle."""


class _CutAt(CountedRandom):
    """Random bytes that end at a call."""

    def __init__(self, call: int) -> None:
        super().__init__(b"first")
        self._call = call

    def __call__(self, count: int) -> bytes:
        if self.calls == self._call:
            raise _PowerCutError
        return super().__call__(count)


@contextmanager
def opened(place: Path, sealed: SealedDirectory, key: int = 7) -> Iterator[OpenedModel]:
    with open_directory(place, data_key=data_key(key), manifest=verified(sealed), threads=2) as model:
        yield model


def resealed(place: Path, before: SealedDirectory, **changes: Any) -> SealedDirectory:
    """Seal what is at ``m.sealed`` anew, at ``n.sealed``."""
    facts = VersionFacts(
        model=MODEL,
        version=2,
        predecessor=before.manifest.digest,
        genesis=GENESIS,
        data_key_id="atlas-2",
        publisher=PersonId("dana"),
    )
    arguments: dict[str, Any] = {
        "facts": facts,
        "data_key": data_key(NEW),
        "signer": SIGNER,
        "random_bytes": CountedRandom(b"new"),
        "segment_bits": 16,
        "threads": 2,
    }
    with opened(place / "m.sealed", before) as model:
        return reseal_directory(model, changes.pop("out", place / "n.sealed"), **(arguments | changes))


def plain(place: Path, sealed: SealedDirectory, key: int) -> dict[str, tuple[int, bytes]]:
    verify_directory(place, verified(sealed))
    with opened(place, sealed, key) as model:
        return {file.name: (file.mode, b"".join(map(bytes, model.chunks(file.name)))) for file in model.files()}


def test_all_files_their_modes_and_canaries_come_along(tmp_path: Path) -> None:
    canaries = (Canary.of_vector("one", (1, 2), (0.5, 0.25), tolerance=10),)
    before = seal_model(write_model(tmp_path / "m"), tmp_path / "m.sealed", canaries=canaries)
    after = resealed(tmp_path, before)
    assert plain(tmp_path / "n.sealed", after, NEW) == FILES
    with opened(tmp_path / "n.sealed", after, NEW) as model:
        assert model.canaries == canaries
    assert (after.manifest.version, after.manifest.predecessor) == (2, before.manifest.digest)
    # The old data key opens the new version no more than a stranger's.
    with pytest.raises(WrongDataKeyError), opened(tmp_path / "n.sealed", after, 7):
        pass
    assert plain(tmp_path / "m.sealed", before, 7) == FILES


@pytest.mark.parametrize("call", range(19))
def test_it_goes_on_wherever_it_was_cut(tmp_path: Path, call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = seal_model(write_model(tmp_path / "m", LARGE), tmp_path / "m.sealed")
    whole = 6 + 2 + 1
    encrypted: list[int] = []
    real = Floe.encrypt_segment

    def counted(self: Floe, *args: Any, **kwargs: Any) -> None:
        encrypted.append(kwargs["position"])
        real(self, *args, **kwargs)

    monkeypatch.setattr(Floe, "encrypt_segment", counted)
    random = _CutAt(call)
    try:
        resealed(tmp_path, before, random_bytes=random)
    except _PowerCutError:
        assert not (tmp_path / "n.sealed").exists()
        assert not any(b"weights" in path.read_bytes() for path in tmp_path.rglob("*.partial/**/*") if path.is_file())
        first = len(encrypted)
        after = resealed(tmp_path, before, random_bytes=CountedRandom(b"again"))
        # What was finished isn't made again; of a file that wasn't, its last segment and the ones behind it.
        assert len(encrypted) - first <= whole
        assert len(encrypted) <= whole + 2 * 3
    else:
        raise AssertionError("the cut never came")
    assert plain(tmp_path / "n.sealed", after, NEW) == LARGE
    assert not partial_of(tmp_path / "n.sealed").exists()


def _object(place: Path, sealed: SealedDirectory, name: str) -> Path:
    with opened(place, sealed) as model:
        return place / object_name(model.file(name).object_id)


@pytest.mark.parametrize("position", [0, 2, 5])
def test_changed_ciphertext_is_never_sealed_anew(tmp_path: Path, position: int) -> None:
    before = seal_model(write_model(tmp_path / "m", LARGE), tmp_path / "m.sealed")
    path = _object(tmp_path / "m.sealed", before, "a.bin")
    data = bytearray(path.read_bytes())
    data[HEADER_LENGTH + position * SEGMENT + 100 if position < 5 else -1] ^= 1
    path.write_bytes(data)
    with pytest.raises(SealedObjectError):
        resealed(tmp_path, before)
    assert not (tmp_path / "n.sealed").exists()


def test_what_another_holder_of_the_data_key_made_is_never_sealed_anew(tmp_path: Path) -> None:
    before = seal_model(write_model(tmp_path / "m", LARGE), tmp_path / "m.sealed")
    path = _object(tmp_path / "m.sealed", before, "a.bin")
    data = bytearray(path.read_bytes())
    header = SealedHeader.parse(bytes(data[:HEADER_LENGTH]))
    floe = Floe.resume(data_key(), header.prelude.to_bytes(), header.floe, header.prelude.parameters)
    segment = memoryview(data)[HEADER_LENGTH + SEGMENT : HEADER_LENGTH + 2 * SEGMENT]
    floe.encrypt_segment(segment, memoryview(bytearray(b"\x66" * ROOM)), position=1, nonce=bytes(12), final=False)
    segment.release()
    path.write_bytes(data)
    with pytest.raises(CiphertextMismatchError):
        resealed(tmp_path, before)
    assert not (tmp_path / "n.sealed").exists()


def test_the_old_data_key_and_a_place_inside_are_refused(tmp_path: Path) -> None:
    before = seal_model(write_model(tmp_path / "m", LARGE), tmp_path / "m.sealed")
    with pytest.raises(UsageError):
        resealed(tmp_path, before, data_key=data_key(7))
    with pytest.raises(UsageError):
        resealed(tmp_path, before, out=tmp_path / "m.sealed" / "n.sealed")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "m.sealed"]


def test_a_begun_sealing_of_another_version_isnt_gone_on_with(tmp_path: Path) -> None:
    before = seal_model(write_model(tmp_path / "m", LARGE), tmp_path / "m.sealed")
    with pytest.raises(_PowerCutError):
        resealed(tmp_path, before, random_bytes=_CutAt(9))
    # Files of the same names and sizes, and other bytes.
    others = {name: (mode, content(len(data), b"other")) for name, (mode, data) in LARGE.items()}
    again = seal_model(write_model(tmp_path / "o", others), tmp_path / "m.sealed", replace=True, data_key_id="atlas-x")
    facts = replace(
        VersionFacts(
            model=MODEL,
            version=2,
            predecessor=before.manifest.digest,
            genesis=GENESIS,
            data_key_id="atlas-2",
            publisher=PersonId("dana"),
        )
    )
    after = resealed(tmp_path, again, facts=facts)
    assert plain(tmp_path / "n.sealed", after, NEW) == others
