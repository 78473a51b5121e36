"""An encrypted copy gives back what was delivered, wherever it is read; interrupted within a file, it says the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from strongroom.core.digest import Digest
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import HybridSigner
from strongroom.intake.adapters.delivered_folder import open_delivery
from strongroom.intake.verdict import FileList
from strongroom.quarantine.adapters.copies import DeliveredFiles, copy_sources, make_copy, open_copy
from strongroom.quarantine.copies import copy_expectation, copy_facts
from strongroom.quarantine.terms import GateRules, Terms
from strongroom.sealing.adapters.sinks import FileSink
from strongroom.sealing.errors import OtherDeploymentError, OtherManifestError, WrongDataKeyError
from support.gated import lay_out

SIGNER = HybridSigner.from_seed(b"S" * 32)
BODY = random.Random(7).randbytes((9 << 20) + 13)  # noqa: S311 - only the same at each run
FILES = {"a.bin": BODY, "b.json": b"{}", "c.txt": b""}
TERMS = Terms(
    genesis=Digest.of(b"genesis"),
    delivery="0" * 32,
    model=ModelId("atlas"),
    leave_out=frozenset(),
    signature=None,
    attachments=(),
    rules=GateRules(),
    converted_from=None,
)


@contextmanager
def key() -> Iterator[SecretBytes]:
    with SecretBytes(bytearray(b"K" * 32)) as found:
        yield found


def copied(source: Path, place: Path) -> tuple[FileList, Digest]:
    with open_delivery(source) as delivered, key() as data_key:
        return make_copy(
            DeliveredFiles(delivered),
            place,
            facts=copy_facts(TERMS, PersonId("dana")),
            data_key=data_key,
            signer=SIGNER,
            progress=None,
        )


def test_any_stretch_is_what_was_delivered(tmp_path: Path) -> None:
    listed, manifest = copied(lay_out(tmp_path / "delivered", FILES), tmp_path / "copy")
    assert {one.name: one.digest.value for one in listed.files} == {
        name: sha256(data).digest() for name, data in FILES.items()
    }
    expect = copy_expectation(TERMS, manifest)
    choose = random.Random(8)  # noqa: S311 - as above
    with (
        key() as data_key,
        open_copy(tmp_path / "copy", expect=expect, data_key=data_key, signer=SIGNER) as model,
        copy_sources(model) as sources,
    ):
        assert {name: one.size for name, one in sources.items()} == {name: len(data) for name, data in FILES.items()}
        for _ in range(200):
            name = choose.choice(["a.bin", "a.bin", "a.bin", "b.json"])
            begin = choose.randrange(len(FILES[name]))
            length = min(choose.choice([1, 65_536, 1 << 20, 5 << 20]), len(FILES[name]) - begin)
            assert sources[name].read(begin, length) == FILES[name][begin : begin + length]
        assert sources["c.txt"].read(0, 0) == b""


def test_a_copy_that_was_interrupted_within_a_file_is_hashed_from_what_was_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = lay_out(tmp_path / "delivered", FILES)
    put = FileSink.put

    def killed(sink: FileSink, offset: int, data: memoryview) -> None:
        if offset > 5 << 20:
            raise KeyboardInterrupt
        put(sink, offset, data)

    with monkeypatch.context() as patched:
        patched.setattr(FileSink, "put", killed)
        with pytest.raises(KeyboardInterrupt):
            copied(source, tmp_path / "copy")
    assert (tmp_path / ".copy.partial" / "journal").exists()
    listed, _manifest = copied(source, tmp_path / "copy")
    assert {one.name: one.digest.value for one in listed.files} == {
        name: sha256(data).digest() for name, data in FILES.items()
    }
    # Once more, all of it stored: nothing is read from the folder any more.
    (source / "b.json").write_bytes(b"[]")
    assert copied(source, tmp_path / "copy")[0] == listed


def test_a_copy_opens_for_its_own_delivery_alone(tmp_path: Path) -> None:
    _listed, manifest = copied(lay_out(tmp_path / "delivered", {"b.json": b"{}"}), tmp_path / "copy")
    other = copy_expectation(replace(TERMS, delivery="1" * 32), None)
    another = copy_expectation(TERMS, Digest.of(b"another manifest"))
    with key() as data_key:
        for expect, error in ((other, OtherDeploymentError), (another, OtherManifestError)):
            with (
                pytest.raises(error),
                open_copy(tmp_path / "copy", expect=expect, data_key=data_key, signer=SIGNER),
            ):
                pass
    with (
        SecretBytes(bytearray(b"L" * 32)) as wrong,
        pytest.raises(WrongDataKeyError),
        open_copy(tmp_path / "copy", expect=copy_expectation(TERMS, manifest), data_key=wrong, signer=SIGNER),
    ):
        pass
