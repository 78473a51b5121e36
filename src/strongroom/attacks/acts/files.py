"""Who holds the sealed files: changes, cuts, swaps, old versions, weaker signatures, and reading without a key."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from strongroom.attacks.attack import attack
from strongroom.attacks.ending import RefusedError
from strongroom.attacks.lab.cast import MODEL, OTHER, STRANGER
from strongroom.attacks.layers import Layer
from strongroom.attacks.trial import Trial
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import ED25519_SIGNATURE_BYTES, PublicKey
from strongroom.sealing.adapters.directory import open_directory, read_envelope
from strongroom.sealing.manifest import ManifestExpectation, VerifiedManifest, manifest_envelope, verify_manifest

MANIFEST: Final = "manifest.json"
NEEDLE: Final = 64
"""Bytes of plaintext that are searched for: enough never to be found by chance."""


def _verified(trial: Trial, folder: Path, *, model: ModelId = MODEL, key: PublicKey | None = None) -> VerifiedManifest:
    scratch = trial.scratch
    expect = ManifestExpectation(
        genesis=scratch.genesis.digest, model=model, version=1, digest=scratch.versions[model].sealed.manifest.digest
    )
    return verify_manifest(read_envelope(folder), key or scratch.cast.publisher("dana").public_key, expect=expect)


def _expect(genesis: Digest, *, version: int = 1, digest: Digest | None = None) -> ManifestExpectation:
    return ManifestExpectation(genesis=genesis, model=MODEL, version=version, digest=digest)


def _opens(trial: Trial, folder: Path, data_key: SecretBytes, *, model: ModelId = MODEL) -> int:
    """Open a sealed directory as a loader does, and read every byte; returns how many there were."""
    with open_directory(folder, data_key=data_key, manifest=_verified(trial, folder, model=model), threads=1) as opened:
        return sum(len(chunk) for file in opened.files() for chunk in opened.chunks(file.name))


def _largest(folder: Path) -> Path:
    return max((folder / "objects").iterdir(), key=lambda path: path.stat().st_size)


def _tampered(trial: Trial, *changes: tuple[str, Callable[[Path], None]]) -> None:
    """Show that the copy opens, then try each change on a copy of its own."""
    sealed = trial.scratch.versions[MODEL].folder
    with trial.scratch.data_key() as data_key:
        with trial.honest("an untouched copy opens"):
            _opens(trial, trial.lab.copied(sealed), data_key)
        for what, change in changes:
            copy = trial.lab.copied(sealed)
            change(copy)
            trial.attempt(what, lambda c=copy: _opens(trial, c, data_key))  # type: ignore[misc]
        trial.finding("whoever opens it is told which object, and why")


def _edit(path: Path, change: Callable[[bytearray], bytes | bytearray]) -> None:
    path.write_bytes(change(bytearray(path.read_bytes())))


def _flip(at: int) -> Callable[[bytearray], bytearray]:
    def flipped(data: bytearray) -> bytearray:
        data[at] ^= 1
        return data

    return flipped


@attack(
    vectors="AIS-2",
    capacity="OC2",
    measures="SL1-WST-02 SL2-WST-01",
    layer=Layer.SEALING,
    refusals="segment-tampered object-of-other-model ciphertext-mismatch",
)
def changed_weights(trial: Trial) -> None:
    """Single bits of the sealed weights, their header and their index are turned."""
    _tampered(
        trial,
        ("in the middle", lambda copy: _edit(_largest(copy), _flip(150_000))),
        ("in the last byte", lambda copy: _edit(_largest(copy), _flip(-1))),
        ("in the header", lambda copy: _edit(_largest(copy), _flip(20))),
        ("in the index", lambda copy: _edit(copy / "index.sealed", _flip(-1))),
    )


@attack(
    vectors="AIS-2",
    capacity="OC2",
    measures="SL1-WST-02",
    layer=Layer.SEALING,
    refusals="sealed-truncated sealed-extended",
)
def truncated_and_extended_weights(trial: Trial) -> None:
    """The sealed weights are cut off, or something is added to them."""
    _tampered(
        trial,
        ("the last byte is gone", lambda copy: _edit(_largest(copy), lambda data: data[:-1])),
        ("half of it is gone", lambda copy: _edit(_largest(copy), lambda data: data[: len(data) // 2])),
        ("a byte was added", lambda copy: _edit(_largest(copy), lambda data: data + b"\0")),
    )


@attack(
    vectors="AIS-2",
    capacity="OC3",
    measures="SL1-WST-02",
    layer=Layer.SEALING,
    refusals="segment-tampered",
)
def reordered_segments(trial: Trial) -> None:
    """Two genuine segments of one shard change places, and one is put in twice."""
    size, head = 1 << 16, len(_largest(trial.scratch.versions[MODEL].folder).read_bytes()) % (1 << 16)

    def swapped(data: bytearray) -> bytearray:
        one, two = slice(head, head + size), slice(head + size, head + 2 * size)
        data[one], data[two] = data[two], data[one]
        return data

    def doubled(data: bytearray) -> bytearray:
        data[head + size : head + 2 * size] = data[head : head + size]
        return data

    _tampered(
        trial,
        ("swapped", lambda copy: _edit(_largest(copy), swapped)),
        ("doubled", lambda copy: _edit(_largest(copy), doubled)),
    )


@attack(
    vectors="AIS-2",
    capacity="OC3",
    measures="SL1-WST-02 SL3-WMO-05",
    layer=Layer.SEALING,
    refusals="object-of-other-model other-object",
)
def swapped_shards(trial: Trial) -> None:
    """A genuine sealed shard of another model, and another file of the same one, take a shard's place."""
    theirs = _largest(trial.scratch.versions[OTHER].folder)

    def from_another_model(copy: Path) -> None:
        shutil.copy(theirs, _largest(copy))

    def from_another_file(copy: Path) -> None:
        first, second = sorted((copy / "objects").iterdir(), key=lambda path: path.stat().st_size)[-2:]
        one, two = first.read_bytes(), second.read_bytes()
        first.write_bytes(two)
        second.write_bytes(one)

    _tampered(trial, ("of another model", from_another_model), ("of another file of its size", from_another_file))


def _added(copy: Path) -> None:
    (copy / "objects" / f"{'ab' * 16}.sealed").write_bytes(b"x")


@attack(
    vectors="AIS-2",
    capacity="OC2",
    measures="SL1-WST-02 SL3-WMO-05",
    layer=Layer.SEALING,
    refusals="not-sealed object-missing object-unexpected",
)
def plaintext_in_place_of_sealed(trial: Trial) -> None:
    """Unsealed weights of the attacker's own take a sealed shard's place; a shard is deleted; one is added."""
    _tampered(
        trial,
        ("plain bytes", lambda copy: _edit(_largest(copy), lambda data: os.urandom(len(data)))),
        ("deleted", lambda copy: _largest(copy).unlink()),
        ("added", _added),
    )


@attack(
    vectors="AIS-2",
    capacity="OC3",
    measures="SL3-WMO-05",
    layer=Layer.MANIFEST,
    refusals="manifest-wrong-signer bad-signature",
)
def manifest_signed_by_somebody_else(trial: Trial) -> None:
    """The manifest is signed anew by an insider's publishing key, and by a key with the publisher's name."""
    scratch = trial.scratch
    sealed = scratch.versions[MODEL]
    with trial.honest("the publisher's own signature verifies"):
        _verified(trial, sealed.folder)
    copy = trial.lab.copied(sealed.folder)
    resigned = manifest_envelope(sealed.sealed.manifest, scratch.cast.publisher(STRANGER))
    (copy / MANIFEST).write_bytes(resigned.to_bytes())
    trial.attempt("a stranger's signature", lambda: _verified(trial, copy))
    name = sealed.sealed.envelope.signatures[0].key_id
    renamed = Envelope(resigned.kind, resigned.payload, (replace(resigned.signatures[0], key_id=name),))
    (copy / MANIFEST).write_bytes(renamed.to_bytes())
    trial.attempt("under the publisher's name", lambda: _verified(trial, copy))
    trial.finding("whoever verifies it is told")


@attack(
    vectors="ACS-2 ACS-1",
    capacity="OC4",
    measures="SL5-WST-03 SL2-WST-02",
    layer=Layer.MANIFEST,
    refusals="bad-signature manifest-not-hybrid manifest-wrong-signer",
)
def signature_stripped_to_one_algorithm(trial: Trial) -> None:
    """Who broke one of two algorithms signs another manifest with that half, and borrows, zeroes or drops the other."""
    scratch = trial.scratch
    sealed, publisher = scratch.versions[MODEL].sealed, scratch.cast.publisher("dana")
    # The half that is broken is made with the publisher's own key: whoever broke the algorithm makes one as good.
    whole = manifest_envelope(replace(sealed.manifest, publisher=PersonId("sam")), publisher)
    made, seen = whole.signatures[0], sealed.envelope.signatures[0]
    expect = _expect(scratch.genesis.digest)
    with trial.honest("signed with both halves, this other manifest verifies"):
        verify_manifest(whole, publisher.public_key, expect=expect)
    cut = ED25519_SIGNATURE_BYTES
    for what, value in (
        ("a new Ed25519 half, the other from the true manifest", made.value[:cut] + seen.value[cut:]),
        ("a new ML-DSA half, the other from the true manifest", seen.value[:cut] + made.value[cut:]),
        ("a new Ed25519 half, the other zeroed", made.value[:cut] + bytes(len(made.value) - cut)),
        ("a new ML-DSA half, the other zeroed", bytes(cut) + made.value[cut:]),
        ("the Ed25519 half alone", made.value[:cut]),
    ):
        forged = Envelope(whole.kind, whole.payload, (replace(made, value=value),))
        trial.attempt(what, lambda f=forged: verify_manifest(f, publisher.public_key, expect=expect))  # type: ignore[misc]
    classical = scratch.cast.signer("dana")
    alone = sign(whole.kind, whole.payload, classical)
    trial.attempt("a verifier talked down", lambda: verify_manifest(alone, classical.public_key, expect=expect))
    trial.finding("whoever verifies it is told")


@attack(
    vectors="AIS-2",
    capacity="OC3",
    measures="SL2-WMO-02 SL3-WMO-05",
    layer=Layer.MANIFEST,
    refusals="manifest-rollback manifest-of-other-model manifest-of-other-deployment manifest-digest",
)
def genuine_manifest_out_of_place(trial: Trial) -> None:
    """Genuine, signed manifests are shown for another model, a later version, another deployment."""
    scratch = trial.scratch
    ours, theirs = scratch.versions[MODEL], scratch.versions[OTHER]
    with trial.honest("in its own place it verifies"):
        _verified(trial, ours.folder)
    trial.attempt("another model's", lambda: _verified(trial, theirs.folder))
    publisher = scratch.cast.publisher("dana").public_key
    envelope = read_envelope(ours.folder)
    for what, expect in (
        ("an old version as the current one", _expect(scratch.genesis.digest, version=2)),
        ("in another deployment", _expect(Digest.of(b"another"))),
        ("another of the same version", _expect(scratch.genesis.digest, digest=Digest.of(b"x"))),
    ):
        trial.attempt(what, lambda e=expect: verify_manifest(envelope, publisher, expect=e))  # type: ignore[misc]
    trial.finding("whoever verifies it is told")


@attack(
    vectors="PHY-1 BYP-2",
    capacity="OC1",
    measures="SL1-WST-02 SL2-WST-01",
    layer=Layer.SEALING,
    refusals="not-found wrong-data-key",
)
def stolen_disk(trial: Trial) -> None:
    """A stolen disk is searched for the weights, and opened with a guessed and with another model's key."""
    scratch = trial.scratch
    sealed = scratch.versions[MODEL]
    plain = (sealed.plain / "model.safetensors").read_bytes()
    needles = [plain[at : at + NEEDLE] for at in range(0, len(plain) - NEEDLE, 50_000)]
    with trial.honest("the search finds them in the plaintext"):
        if not _found_in(needles, sealed.plain):
            raise RefusedError("not-found")
    places = [one.folder for one in scratch.versions.values()] + [scratch.home]
    with SecretBytes(bytearray(os.urandom(32))) as guessed, scratch.data_key(OTHER) as other:
        trial.attempt("search", lambda: _found(needles, places))
        trial.attempt("a guessed key", lambda: _opens(trial, sealed.folder, guessed))
        trial.attempt("another model's key", lambda: _opens(trial, sealed.folder, other))


def _found(needles: list[bytes], places: list[Path]) -> int:
    found = sum(_found_in(needles, place) for place in places)
    if not found:
        raise RefusedError("not-found", f"nothing of it in {len(places)} places")
    return found


def _found_in(needles: list[bytes], place: Path) -> int:
    """Return in how many files below a folder one of the needles stands."""
    found = 0
    for path in place.rglob("*"):
        # Of a running deployment: what is gone meanwhile is no copy.
        with suppress(FileNotFoundError):
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes()
                found += any(needle in data for needle in needles)
    return found
