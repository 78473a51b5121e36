"""The holes that were found in other formats for protected weights, each tried against ours, by every way in.

Who has them is in the research on the format (sealed-format.md, sections 1 and 6):

- rollback to an old checkpoint: all of them;
- plaintext in the place of ciphertext, loaded without complaint: cryptotensors 0.2.3;
- a whole file of another model under the same key: tensorizer, cryptotensors, age, gocryptfs, Tink's streaming AEAD;
- chunks reordered, repeated or cut off: tensorizer; cut off on a block's boundary, or blanked with zeros: gocryptfs;
- a header that is parsed before it is authentic: cryptotensors (verified over a re-serialised JSON), tensorizer;
- parts of two genuine packages put together: sidecar and manifest formats without a signed list;
- a cipher chosen by the file: formats that negotiate;
- key material stripped or exchanged to make a reader fall back: cryptotensors (`__encryption__` absent means plain);
- one ciphertext that opens under two keys: formats on plain AES-GCM (CVE-2020-8897).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ModelId
from strongroom.sealing.adapters.directory import open_directory, read_envelope, verify_directory
from strongroom.sealing.errors import (
    CiphertextMismatchError,
    ExtendedError,
    HeaderMismatchError,
    HeaderTamperedError,
    IncompleteSealError,
    MissingObjectError,
    NotSealedError,
    OlderVersionError,
    OtherManifestError,
    OtherModelError,
    OtherModelObjectError,
    OtherObjectError,
    RecipientsTamperedError,
    SealedFormatError,
    SealedIndexError,
    SealedObjectError,
    SegmentDuplicatedError,
    SegmentReorderedError,
    SegmentTamperedError,
    SuiteRefusedError,
    TruncatedError,
    UnexpectedObjectError,
    WrongDataKeyError,
    WrongSignerError,
)
from strongroom.sealing.header import HEADER_LENGTH
from strongroom.sealing.manifest import (
    Manifest,
    ManifestExpectation,
    ManifestObject,
    VerifiedManifest,
    manifest_envelope,
    verify_manifest,
)
from strongroom.sealing.model import OpenedModel
from strongroom.sealing.prelude import key_commitment
from strongroom.sealing.recipients import RECIPIENTS_NAME, Recipients, Stanza, StanzaKind
from strongroom.sealing.spread import Engine
from support.sealed import (
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
from support.sealed_entries import WAYS, WHOLE_WAYS, MemoryStore

WEIGHTS = content(4 * ROOM, b"holes")
FILES = {"config.json": (0o644, b"{}"), "model.bin": (0o644, WEIGHTS), "tail.bin": (0o644, content(ROOM + 100, b"t"))}
STANZAS = tuple(
    Stanza(kind=StanzaKind.HPKE_MLKEM768_X25519, recipient=Digest.of(b"recipient %d" % one), ciphertext=b"c" * 1168)
    for one in (1, 2)
)

pytestmark = pytest.mark.parametrize("way", WAYS)


@dataclass(frozen=True)
class Sealed:
    place: Path
    manifest: VerifiedManifest

    def copy(self, to: Path) -> Sealed:
        return replace(self, place=Path(shutil.copytree(self.place, to)))

    def object_of(self, plain_size: int) -> Path:
        """Return the object that holds the file of that size."""
        for path in (self.place / "objects").iterdir():
            size = path.stat().st_size - HEADER_LENGTH
            if size - 32 * -(-size // SEGMENT) == plain_size:
                return path
        raise AssertionError(plain_size)

    @property
    def weights(self) -> Path:
        return self.object_of(len(WEIGHTS))

    def read(self, way: str, name: str = "model.bin") -> bytes:
        with open_directory(self.place, data_key=data_key(), manifest=self.manifest, threads=2) as model:
            return WAYS[way](model, name)

    def resigned(self, **changes: Any) -> Sealed:
        """Let the publisher sign another manifest: what is refused even then doesn't rest on the signature."""
        manifest = replace(self.manifest, **changes)
        (self.place / "manifest.json").write_bytes(manifest_envelope(manifest, SIGNER).to_bytes())
        return Sealed(self.place, VerifiedManifest(manifest))


def _sealed(root: Path, name: str, seed: bytes, **changes: Any) -> Sealed:
    if not (root / "plain").exists():
        write_model(root / "plain", FILES)
    place = root / f"{name}.sealed"
    sealed = seal_model(root / "plain", place, random_bytes=CountedRandom(seed), stanzas=STANZAS, **changes)
    return Sealed(place, verified(sealed))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("holes")


@pytest.fixture(scope="module")
def genuine(root: Path) -> Sealed:
    return _sealed(root, "genuine", b"1")


@pytest.fixture
def one(genuine: Sealed, tmp_path: Path) -> Sealed:
    return genuine.copy(tmp_path / "one.sealed")


@pytest.fixture(scope="module")
def second_version(root: Path, genuine: Sealed) -> Sealed:
    return _sealed(root, "second", b"2", version=2, predecessor=genuine.manifest.digest)


@pytest.fixture(scope="module")
def other_model(root: Path) -> Sealed:
    # The same key and random bytes: names, ids and IVs are the same, and only what is bound tells them apart.
    return _sealed(root, "boreas", b"1", model=ModelId("boreas"))


def test_the_genuine_one_opens(one: Sealed, way: str) -> None:
    for name, (_mode, data) in FILES.items():
        assert one.read(way, name) == data


def test_rollback_to_an_old_version(one: Sealed, second_version: Sealed, way: str) -> None:
    expect = ManifestExpectation(genesis=GENESIS, model=MODEL, version=2, digest=second_version.manifest.digest)
    with pytest.raises(OlderVersionError):
        verify_manifest(read_envelope(one.place), SIGNER.public_key, expect=expect)
    # The old directory under the new manifest, which the caller has from the log.
    old = replace(one, manifest=second_version.manifest)
    with pytest.raises(OtherManifestError):
        old.read(way)
    with pytest.raises(OtherManifestError):
        verify_directory(old.place, old.manifest)
    # The old objects beside the new manifest.
    shutil.copy(second_version.place / "manifest.json", one.place)
    with pytest.raises(StrongroomError):
        old.read(way)


def test_a_second_manifest_of_the_same_version(one: Sealed, root: Path, way: str) -> None:
    other = _sealed(root, f"again-{way}", b"another")
    expect = ManifestExpectation(genesis=GENESIS, model=MODEL, version=1, digest=one.manifest.digest)
    with pytest.raises(OtherManifestError):
        verify_manifest(read_envelope(other.place), SIGNER.public_key, expect=expect)
    with pytest.raises(OtherManifestError):
        replace(other, manifest=one.manifest).read(way)


@pytest.mark.parametrize("plain", [WEIGHTS, content(100), b"", b"\x10\0\0\0\0\0\0\0{}", bytes(5000)])
def test_plaintext_in_the_place_of_an_object(one: Sealed, way: str, plain: bytes) -> None:
    one.weights.write_bytes(plain)
    with pytest.raises(NotSealedError):
        one.read(way)
    with pytest.raises(NotSealedError):
        verify_directory(one.place, one.manifest)


def test_plaintext_in_the_place_of_the_directory(one: Sealed, root: Path, tmp_path: Path, way: str) -> None:
    plain = Path(shutil.copytree(root / "plain", tmp_path / "plain.sealed"))
    with pytest.raises(IncompleteSealError):
        replace(one, place=plain).read(way)
    # With the genuine manifest beside it: sealed objects are missing, and the file that is there isn't named.
    shutil.copy(one.place / "manifest.json", plain)
    with pytest.raises(MissingObjectError):
        replace(one, place=plain).read(way)
    (one.place / "model.bin").write_bytes(WEIGHTS)
    with pytest.raises(UnexpectedObjectError):
        one.read(way)


def test_a_manifest_without_its_signature(one: Sealed, way: str) -> None:
    unsigned = replace(read_envelope(one.place), signatures=())
    (one.place / "manifest.json").write_bytes(unsigned.to_bytes())
    expect = ManifestExpectation(genesis=GENESIS, model=MODEL, version=1, digest=None)
    with pytest.raises(WrongSignerError):
        verify_manifest(read_envelope(one.place), SIGNER.public_key, expect=expect)
    # With the manifest that the log names, the file beside the objects only has to be the same one.
    assert one.read(way) == WEIGHTS


def test_a_shard_of_another_model_under_the_same_key(one: Sealed, other_model: Sealed, way: str) -> None:
    assert other_model.weights.name == one.weights.name
    assert other_model.weights.stat().st_size == one.weights.stat().st_size
    shutil.copy(other_model.weights, one.weights)
    with pytest.raises(OtherModelObjectError):
        one.read(way)
    with pytest.raises(OtherModelObjectError):
        verify_directory(one.place, one.manifest)


def test_the_whole_of_another_model_under_the_same_key(one: Sealed, other_model: Sealed, way: str) -> None:
    with pytest.raises(OtherManifestError):
        replace(other_model, manifest=one.manifest).read(way)
    expect = ManifestExpectation(genesis=GENESIS, model=MODEL, version=1, digest=None)
    with pytest.raises(OtherModelError):
        verify_manifest(read_envelope(other_model.place), SIGNER.public_key, expect=expect)


def _segments(data: bytes) -> list[bytes]:
    return [data[at : at + SEGMENT] for at in range(HEADER_LENGTH, len(data), SEGMENT)]


@pytest.mark.parametrize(
    ("order", "error"),
    [
        ([1, 0, 2, 3], SegmentReorderedError),
        ([0, 2, 1, 3], SegmentReorderedError),
        ([3, 1, 2, 0], SegmentReorderedError),
        ([0, 0, 2, 3], SegmentDuplicatedError),
        ([0, 1, 1, 3], SegmentDuplicatedError),
        ([0, 1, 2, 2], SegmentDuplicatedError),
        ([0, 1, 2], TruncatedError),
        ([0], TruncatedError),
        ([0, 1, 2, 3, 3], ExtendedError),
        ([0, 1, 2, 3, 0], ExtendedError),
    ],
)
def test_segments_reordered_repeated_cut_off_or_added(
    one: Sealed, way: str, order: list[int], error: type[SealedObjectError]
) -> None:
    path = one.weights
    data = path.read_bytes()
    changed = data[:HEADER_LENGTH] + b"".join(_segments(data)[position] for position in order)
    path.write_bytes(changed)
    with pytest.raises(error):
        one.read(way)
    with pytest.raises((TruncatedError, ExtendedError, CiphertextMismatchError)):
        verify_directory(one.place, one.manifest)
    # Even if a manifest that the publisher signed had the changed length.
    objects = tuple(
        replace(item, size=len(changed)) if item.name.endswith(path.name) else item for item in one.manifest.objects
    )
    with pytest.raises((SealedObjectError, SealedIndexError)):
        one.resigned(objects=objects).read(way)


@pytest.mark.parametrize("size", [0, 7, 8, HEADER_LENGTH - 1, HEADER_LENGTH, HEADER_LENGTH + 31, -SEGMENT, -1, +1])
def test_any_other_length(one: Sealed, way: str, size: int) -> None:
    path = one.weights
    data = path.read_bytes()
    path.write_bytes(data + b"\0" if size == 1 else data[:size])
    with pytest.raises((TruncatedError, ExtendedError, NotSealedError)):
        one.read(way)


@pytest.mark.parametrize("position", range(4))
def test_a_segment_blanked_with_zeros(one: Sealed, way: str, position: int) -> None:
    with one.weights.open("r+b") as file:
        file.seek(HEADER_LENGTH + position * SEGMENT)
        file.write(bytes(SEGMENT))
    with pytest.raises(SegmentTamperedError, match=f"segment {position}"):
        one.read(way)


@pytest.mark.parametrize("at", [0, 3, 4, 15, 16, 40_000, SEGMENT - 17, SEGMENT - 16, SEGMENT - 1])
@pytest.mark.parametrize("position", range(4))
def test_one_byte_of_any_segment(one: Sealed, way: str, position: int, at: int) -> None:
    with one.weights.open("r+b") as file:
        file.seek(HEADER_LENGTH + position * SEGMENT + at)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 0x20]))
    with pytest.raises(SealedObjectError) as caught:
        one.read(way)
    assert caught.value.segment == position
    with pytest.raises(CiphertextMismatchError):
        verify_directory(one.place, one.manifest)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with ThreadPoolExecutor(2) as pool:
        yield Engine(pool=pool, threads=2)


def _in_memory(sealed: Sealed) -> MemoryStore:
    paths = (path for path in sealed.place.rglob("*") if path.is_file())
    return MemoryStore({str(path.relative_to(sealed.place)): path.read_bytes() for path in paths})


@pytest.mark.parametrize("when", ["before", "after"])
def test_any_byte_of_the_header(genuine: Sealed, engine: Engine, way: str, when: str) -> None:
    """Each of the 4,096, changed before the model is opened, and after: the header is checked at each use."""
    store = _in_memory(genuine)
    name = f"objects/{genuine.object_of(2).name}"
    good = store.files[name]

    def opened() -> OpenedModel:
        return OpenedModel(store, manifest=genuine.manifest, data_key=data_key(), engine=engine)

    with opened() as model:
        for byte in range(HEADER_LENGTH):
            changed = bytearray(good)
            changed[byte] ^= 1 << byte % 8
            store.files[name] = bytes(changed)
            with pytest.raises(SealedObjectError):  # noqa: PT012 - which of the two refuses is what `when` says
                if when == "before" and byte % 4 == list(WAYS).index(way):
                    opened()
                WAYS[way](model, "config.json")
        store.files[name] = good
        assert WAYS[way](model, "config.json") == b"{}"


def _at(item: ManifestObject, changed: bytes) -> ManifestObject:
    return replace(item, header=Digest.of(changed[:HEADER_LENGTH]))


@pytest.mark.parametrize(
    ("at", "value", "error"),
    [
        (8, b"\0\0", SealedFormatError),
        (8, b"\0\2", SealedFormatError),
        (10, b"\0\0", SuiteRefusedError),
        (10, b"\0\2", SuiteRefusedError),
        (10, b"\xff\xff", SuiteRefusedError),
        (12, b"\x11", SealedFormatError),
        (13, b"\1", SealedFormatError),
        (78, b"\1", SealedFormatError),
        (4021, b"\1", SealedFormatError),
        (4022, b"\1", SealedFormatError),
        (4023, b"\1", SealedFormatError),
        (14, b"another model's!", OtherModelObjectError),
        (30, b"another object's", OtherObjectError),
        (46, b"\0" * 32, WrongDataKeyError),
        (4032, b"\0" * 32, HeaderTamperedError),
        (4064, b"\0" * 32, HeaderTamperedError),
    ],
)
def test_a_header_that_chooses_even_if_the_publisher_signed_it(
    one: Sealed, way: str, at: int, value: bytes, error: type[SealedObjectError]
) -> None:
    path = one.weights
    data = path.read_bytes()
    changed = data[:at] + value + data[at + len(value) :]
    path.write_bytes(changed)
    if error not in {WrongDataKeyError, HeaderTamperedError}:
        with pytest.raises(error):
            one.read(way)
    else:
        with pytest.raises(HeaderMismatchError):
            one.read(way)
    objects = tuple(_at(item, changed) if item.name.endswith(path.name) else item for item in one.manifest.objects)
    with pytest.raises(error):
        one.resigned(objects=objects).read(way)


def test_objects_of_one_and_the_rest_of_another(one: Sealed, second_version: Sealed, root: Path, way: str) -> None:
    again = _sealed(root, f"resealed-{way}", b"resealed")
    # The same model and version sealed a second time under the same key: genuine in all but the manifest.
    for name, error in [("index.sealed", OtherObjectError), ("objects", MissingObjectError)]:
        mixed = one.copy(root / f"mixed-{name}-{way}.sealed")
        if name == "objects":
            shutil.rmtree(mixed.place / name)
            shutil.copytree(again.place / name, mixed.place / name)
        else:
            shutil.copy(again.place / name, mixed.place / name)
        with pytest.raises(error):
            mixed.read(way)
    # Under the names that the manifest has.
    shutil.copy(again.weights, one.weights)
    with pytest.raises(OtherObjectError):
        one.read(way)
    shutil.copy(second_version.weights, one.weights)
    with pytest.raises(OtherModelObjectError):
        one.read(way)


def test_the_index_of_another_even_if_its_ids_agree(one: Sealed, root: Path, way: str) -> None:
    # Another holder of the data key seals an index with the same random bytes: ids and header are the genuine ones.
    forged = root / f"forged-{way}"
    write_model(forged, {name: (mode ^ 0o111, data) for name, (mode, data) in FILES.items()})
    seal_model(forged, root / f"forged-{way}.sealed", random_bytes=CountedRandom(b"1"))
    assert (root / f"forged-{way}.sealed" / "index.sealed").read_bytes()[:HEADER_LENGTH] == (
        one.place / "index.sealed"
    ).read_bytes()[:HEADER_LENGTH]
    shutil.copy(root / f"forged-{way}.sealed" / "index.sealed", one.place)
    with pytest.raises(CiphertextMismatchError):
        one.read(way)


def test_objects_exchanged_within_a_model(one: Sealed, way: str) -> None:
    first, second = one.weights, one.object_of(ROOM + 100)
    # The same length, too.
    first_data, second_data = first.read_bytes(), second.read_bytes()
    first.write_bytes(second_data)
    second.write_bytes(first_data)
    with pytest.raises(SealedObjectError):
        one.read(way)
    objects = []
    for item in one.manifest.objects:
        path = one.place / item.name
        sizes = {first.name: len(second_data), second.name: len(first_data)}
        objects.append(replace(item, size=sizes.get(path.name, item.size)))
    with pytest.raises((OtherObjectError, SealedIndexError)):
        one.resigned(objects=tuple(objects)).read(way)


def test_what_another_holder_of_the_data_key_forged(one: Sealed, root: Path, way: str) -> None:
    """Same key, ids and IV: every header and every tag is good. Only a reader of ranges can't see it, and says so."""
    forged = write_model(root / f"evil-{way}", {**FILES, "model.bin": (0o644, bytes(len(WEIGHTS)))})
    seal_model(forged, root / f"evil-{way}.sealed", random_bytes=CountedRandom(b"1"))
    shutil.copy(root / f"evil-{way}.sealed" / "objects" / one.weights.name, one.weights)
    if way in WHOLE_WAYS:
        with pytest.raises(CiphertextMismatchError):
            one.read(way)
    else:
        assert one.read(way) == bytes(len(WEIGHTS))
    with pytest.raises(CiphertextMismatchError):
        verify_directory(one.place, one.manifest)


def test_an_object_for_another_key_that_claims_ours(one: Sealed, root: Path, way: str) -> None:
    """FLOE's header tag commits to the key: an object means one thing, whatever its prelude and manifest say."""
    other = _sealed(root, f"other-key-{way}", b"1", data_key=data_key(8))
    theirs = (other.place / "objects" / one.weights.name).read_bytes()
    changed = theirs[:46] + key_commitment(data_key()) + theirs[78:]
    one.weights.write_bytes(changed)
    name = one.weights.name
    objects = tuple(_at(item, changed) if item.name.endswith(name) else item for item in one.manifest.objects)
    with pytest.raises(HeaderTamperedError):
        one.resigned(objects=objects).read(way)


def test_recipients_stripped_make_nobody_fall_back(one: Sealed, way: str) -> None:
    (one.place / RECIPIENTS_NAME).unlink()
    # Who has the key from the keeper reads on, with every check; who hasn't finds no stanza, and no plaintext.
    assert one.read(way) == WEIGHTS
    one.weights.write_bytes(WEIGHTS)
    with pytest.raises(NotSealedError):
        one.read(way)


def _without_one(found: Recipients) -> Recipients:
    return replace(found, stanzas=found.stanzas[:1])


def _with_another(found: Recipients) -> Recipients:
    stanzas = (*found.stanzas, replace(STANZAS[0], recipient=Digest.of(b"eve")))
    return replace(found, stanzas=tuple(sorted(stanzas, key=lambda stanza: str(stanza.recipient))))


def _with_another_ciphertext(found: Recipients) -> Recipients:
    return replace(found, stanzas=(replace(found.stanzas[0], ciphertext=b"e" * 1168), *found.stanzas[1:]))


def _made_under_another_key(found: Recipients) -> Recipients:
    return Recipients.of(found.stanzas, commitment=found.commitment, data_key=data_key(8))


def _of_another_commitment(found: Recipients) -> Recipients:
    return replace(found, commitment=key_commitment(data_key(8)))


@pytest.mark.parametrize(
    "change",
    [_without_one, _with_another, _with_another_ciphertext, _made_under_another_key, _of_another_commitment],
)
def test_recipients_changed_are_noticed_by_all_who_can_open(
    one: Sealed, way: str, change: Callable[[Recipients], Recipients]
) -> None:
    path = one.place / RECIPIENTS_NAME
    found = Recipients.parse(path.read_bytes())
    found.verify(data_key())
    path.write_bytes(change(found).to_bytes())
    with pytest.raises(RecipientsTamperedError):
        Recipients.parse(path.read_bytes()).verify(data_key())
    assert one.read(way) == WEIGHTS


def test_recipients_of_another_version_under_another_key(one: Sealed, root: Path, way: str) -> None:
    other = _sealed(root, f"recipients-{way}", b"r", data_key=data_key(8))
    shutil.copy(other.place / RECIPIENTS_NAME, one.place)
    with pytest.raises(RecipientsTamperedError):
        Recipients.parse((one.place / RECIPIENTS_NAME).read_bytes()).verify(data_key())
    assert one.read(way) == WEIGHTS


def test_a_manifest_that_names_other_files(one: Sealed, way: str) -> None:
    """Left out, named twice or put in the index's place, even by the publisher: index and manifest must agree."""
    manifest: Manifest = one.manifest
    with pytest.raises((UnexpectedObjectError, SealedIndexError)):
        one.resigned(objects=manifest.objects[1:]).read(way)
    with pytest.raises(SealedObjectError):
        one.resigned(index=manifest.objects[0], objects=manifest.objects[1:]).read(way)
