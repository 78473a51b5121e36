"""Copies of a model are known however they are called and written; others of its architecture aren't taken for it."""

from __future__ import annotations

import os

import pytest

from strongroom.core.errors import ConflictError, MalformedError
from strongroom.core.ids import ModelId
from strongroom.core.secret import SecretBytes
from strongroom.intake.copies.catalogue import Catalogue
from strongroom.intake.copies.discovery import Judge, Judgement, fingerprint
from strongroom.intake.copies.fingerprints import MOST_KEPT, SPREAD, Sketcher, spread_over, stride_of
from strongroom.intake.copies.places import Content
from strongroom.intake.source import BytesSource
from support.planted import HIDDEN, PLANTED, Tensors, noisy, npy, safetensors, small_model, zipped

MODEL = ModelId("atlas")


def key(fill: int = 7) -> SecretBytes:
    return SecretBytes(bytearray([fill]) * 32)


def catalogue(tensors: Tensors, *, version: int = 1) -> Catalogue:
    files = [("m", BytesSource(safetensors(tensors))), ("config.json", BytesSource(b"{}" * 4000))]
    return Catalogue(key=key()).with_model(fingerprint(files, Sketcher(key()), model=MODEL, version=version))


@pytest.fixture(scope="module")
def ours() -> Tensors:
    return small_model(1)


@pytest.fixture(scope="module")
def judge(ours: Tensors) -> Judge:
    return Judge(Catalogue.parse(catalogue(ours).to_bytes()))


def judged(judge: Judge, data: bytes) -> Judgement:
    return judge.judge(BytesSource(data))


@pytest.mark.parametrize("name", sorted(PLANTED))
def test_a_planted_copy_is_found(name: str, judge: Judge, ours: Tensors) -> None:
    found = judged(judge, PLANTED[name](ours))
    assert found.weights
    assert found.likeness is not None
    assert (found.likeness.model, found.likeness.version) == (MODEL, 1)
    least = {"tuned-more.safetensors": 800, "pruned.safetensors": 900, "bytes.safetensors": 950}.get(name, 985)
    assert found.likeness.similarity >= least


@pytest.mark.parametrize("name", sorted(PLANTED))
def test_another_model_of_the_architecture_is_not_taken_for_ours(name: str, judge: Judge) -> None:
    found = judged(judge, PLANTED[name](small_model(2)))
    assert found.likeness is None
    assert found.weights or name == "bytes.safetensors"


@pytest.mark.parametrize("name", sorted(HIDDEN))
def test_what_the_specification_says_is_not_found_is_not(name: str, judge: Judge, ours: Tensors) -> None:
    assert judged(judge, HIDDEN[name](ours)).likeness is None


def test_another_key_makes_other_sketches(ours: Tensors) -> None:
    files = [("m", BytesSource(safetensors(ours)))]
    made = [fingerprint(files, Sketcher(key(fill)), model=MODEL, version=1) for fill in (7, 8)]
    known = Catalogue(key=key(8)).with_model(made[0])
    assert made[0] != made[1]
    assert Judge(known).judge(BytesSource(safetensors(ours))).likeness is None


def test_the_nearer_version_is_named(ours: Tensors) -> None:
    second = noisy(ours, 0.2)
    both = catalogue(ours).with_model(
        fingerprint([("m", BytesSource(safetensors(second)))], Sketcher(key()), model=MODEL, version=2)
    )
    judge = Judge(both)
    for version, tensors in ((1, ours), (2, second)):
        found = judge.judge(BytesSource(safetensors(tensors))).likeness
        assert found is not None
        assert (found.version, found.similarity) == (version, 1000)


@pytest.mark.parametrize(
    "data",
    [
        os.urandom(200_000),
        b"All happy families are alike; each unhappy family is unhappy in its own way. " * 3000,
        "Πᾶσα τέχνη καὶ πᾶσα μέθοδος ".encode() * 3000,
        bytes(100_000),
        zipped({"a.bin": os.urandom(100_000), "b.txt": b"plain text\n" * 10_000}),
        bytes(range(256)) * 400,
        b"",
        b"\x08",
    ],
    ids=["random", "ascii", "greek", "zeros", "zip", "counting", "empty", "one"],
)
def test_what_is_no_weights_is_not_taken_for_weights(data: bytes, judge: Judge) -> None:
    found = judged(judge, data)
    assert (found.weights, found.likeness) == (False, None)


def test_a_sealed_object_names_its_version(judge: Judge) -> None:
    head = b"\x89SRW\r\n\x1a\n" + b"\0\1\0\1\x14\0" + b"V" * 16
    found = judged(judge, head + os.urandom(20_000))
    assert (found.content, found.model_version, found.weights) == (Content.SEALED, b"V" * 16, True)


def test_a_program_in_a_checkpoint_is_never_run(judge: Judge, ours: Tensors) -> None:
    # The pickle in that archive calls os.system; what counts is that its storages are read as bytes.
    assert judged(judge, PLANTED["old/pytorch_model.bin"](ours)).likeness is not None


def test_an_archive_that_is_partly_encrypted_is_named_and_the_rest_is_judged(judge: Judge, ours: Tensors) -> None:
    data = bytearray(zipped({"a.dat": b"secret" * 2000, "x.dat": safetensors(ours)}))
    at = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    data[at + 8] |= 1
    found = judged(judge, bytes(data))
    assert found.likeness is not None
    assert "encrypted" in found.problem


def test_archives_in_archives_end_somewhere(judge: Judge, ours: Tensors) -> None:
    data = npy(ours["embed.weight"])
    for _ in range(6):
        data = zipped({"x.zip": data, "pad": os.urandom(5000)})
    assert "archives" in judged(judge, data).problem


def test_a_version_stands_in_a_catalogue_once(ours: Tensors) -> None:
    known = catalogue(ours)
    with pytest.raises(ConflictError):
        known.with_model(known.models[0])


def test_a_model_without_anything_to_know_it_by_is_refused() -> None:
    made = fingerprint(
        [("m", BytesSource(safetensors({"a": small_model(1)["mask"]})))], Sketcher(key()), model=MODEL, version=1
    )
    with pytest.raises(ConflictError):
        Catalogue(key=key()).with_model(made)


def test_a_catalogue_that_was_cut_or_grew_is_refused(ours: Tensors) -> None:
    data = catalogue(ours).to_bytes()
    for other in (data[:-1], data + b"\0", data[:2], b""):
        with pytest.raises(MalformedError):
            Catalogue.parse(other)


@pytest.mark.parametrize("blocks", [1, 2, 15, 16, 17, 255, 256, 257, 4096, 11_008, 1 << 20, (1 << 33) + 5])
def test_every_place_that_is_looked_at_is_one_that_was_kept(blocks: int) -> None:
    stride, looked = stride_of(blocks), spread_over(blocks)
    assert 1 <= -(-blocks // stride) <= MOST_KEPT
    assert min(blocks, SPREAD // 2) <= len(looked) <= SPREAD
    assert all(place % stride == 0 and place < blocks for place in looked)
