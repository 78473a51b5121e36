"""Cosignatures made by others: the examples of C2SP, checkpoints that public witnesses cosigned, litewitness's own
requests, and tlog-scales, whose signatures we verify as it verifies ours.
"""

from __future__ import annotations

import re

import pytest
import tlog_scales.signing as scales
from tlog_scales.tlog import Checkpoint as ScalesCheckpoint

from strongroom.audit.checkpoint import Checkpoint, read_checkpoint
from strongroom.audit.cosignature import CosignatureKind, Cosigner, CosignerKey, read_cosignatures
from strongroom.audit.errors import (
    CosignatureForgedError,
    OldSizeError,
    WitnessRefusedError,
)
from strongroom.audit.note import Note, VerifierKey, read_signature_lines
from strongroom.audit.proof_file import ProofFile
from strongroom.audit.witness import Submission, judge
from strongroom.audit.witness_policy import WitnessPolicy, check_note, read_log_key
from strongroom.core.errors import MalformedError
from strongroom.core.signature import Ed25519Signer, PublicKey, SignatureAlgorithm
from support.vectors import vectors_folder

SIZES = {"arche2025h1": 1432088532, "coachandhorses2026h1": 185550722}
KINDS = {"arche2025h1": {4}, "coachandhorses2026h1": {4, 6}}


def published(name: str) -> tuple[Note, list[CosignerKey], list[VerifierKey]]:
    folder = vectors_folder("tlog-witness")
    witnesses, logs = [], []
    for line in (folder / f"{name}.vkeys").read_text().splitlines():
        try:
            witnesses.append(CosignerKey.parse(line))
        except MalformedError:
            logs.append(VerifierKey.parse(line))
    return Note.parse((folder / f"{name}.note").read_bytes()), witnesses, logs


@pytest.mark.parametrize("name", SIZES)
def test_what_public_witnesses_cosigned_verifies(name: str) -> None:
    note, witnesses, logs = published(name)
    checkpoint = Checkpoint.parse_text(note.text)
    assert checkpoint.size == SIZES[name]
    found = read_cosignatures(note, checkpoint, witnesses)
    assert {one.key for one in found} == set(witnesses)
    assert {one.key.kind for one in found} == KINDS[name]
    assert all(1_700_000_000 < one.at < 1_900_000_000 for one in found)
    for key in logs:
        assert read_checkpoint(note.to_bytes(), key) == checkpoint
    lines = "".join(f"witness W{n} {key}\n" for n, key in enumerate(witnesses))
    policy = WitnessPolicy.parse(f"{''.join(f'log {key}{chr(10)}' for key in logs)}{lines}quorum W0\n".encode())
    if logs:
        assert set(check_note(note.to_bytes(), policy, now=2**31).counted) == {f"W{n}" for n in range(len(witnesses))}


@pytest.mark.parametrize("name", SIZES)
def test_what_public_witnesses_cosigned_verifies_for_nothing_else(name: str) -> None:
    note, witnesses, _logs = published(name)
    checkpoint = Checkpoint.parse_text(note.text)
    for other in (
        Checkpoint(checkpoint.origin, checkpoint.size + 1, checkpoint.root),
        Checkpoint(checkpoint.origin + "x", checkpoint.size, checkpoint.root),
        Checkpoint(checkpoint.origin, checkpoint.size, bytes(32)),
    ):
        for key in witnesses:
            with pytest.raises(CosignatureForgedError):
                read_cosignatures(note, other, (key,))


def litewitness() -> list[tuple[bytes, int, str]]:
    """Return the requests of litewitness's own test, the status that it gives, and what its body holds."""
    text = (
        (vectors_folder("tlog-witness") / "litewitness.txt")
        .read_text("utf-8")
        .partition("-- add-checkpoint.hurl --")[2]
    )
    found = re.findall(r"```\n(.*?)```\nHTTP (\d+)\n\[Asserts\]\nbody (?:==|contains) \"(.*?)\"\n", text, re.DOTALL)
    return [(body.encode(), int(status), told) for body, status, told in found]


def answer(body: bytes, key: VerifierKey, latest: Checkpoint | None) -> tuple[int, str, Checkpoint | None]:
    try:
        submission = Submission.parse(body)
        keys = (key,) if submission.origin == key.name else ()
        return 200, "", judge(submission, keys, latest)
    except OldSizeError as error:
        return error.http_status, f"{error.size}\\n", latest
    except WitnessRefusedError as error:
        return error.http_status, "", latest


def test_litewitness_requests_are_judged_alike() -> None:
    raw = bytes.fromhex("ffdc2d4d98e4124d3feaf788c0c2f9abfd796083d1f0495437f302ec79cf100f")
    requests = litewitness()
    key = VerifierKey(Submission.parse(requests[0][0]).origin, PublicKey(SignatureAlgorithm.ED25519, raw))
    latest: Checkpoint | None = None
    seen = []
    for body, theirs, told in requests:
        status, text, latest = answer(body, key, latest)
        if theirs == 409:
            assert text == told
        seen.append((theirs, status))
    agreed = [(status, status) for status in (422, 422, 200, 409, 200, 409)]
    # Two differ: it answers 403 for an unknown log, where the specification asks for 404; and it reads base64 whose
    # last bits aren't zero, a second spelling of the same bytes, which is malformed here.
    assert seen == [*((200, 200), (403, 400), (403, 404)), *agreed]
    assert latest is not None
    assert latest.size == 5


def test_the_examples_of_the_specifications_have_the_forms_that_are_read() -> None:
    log = (
        "— example.com/behind-the-sofa "
        "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    )
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    lines = (
        "— witness.example/w1 CMp+6LWBU0anHGH5aNDTJkH/gj79sG+T6+iP2ThYN5krrDJbR1HDnucjL39QsZTS"
        "vVjyQLrdk3DXDqI5G2HgLatVs0pWh6Up69HVOw==\n"
        "— witness.example/w1 I7rEps0pvK2UqkS2gSpVUDhrhVtQV9lgF6pRrWAvjJHjyWpW7VcE3SiOlVlbQNt6"
        "4vWhO+DlkL0+UfzuOBMh9ChdMkP1vi/lCAsmlw==\n"
    )
    assert [one.name for one in read_signature_lines(lines)] == ["witness.example/w1"] * 2
    proof = (
        "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\njrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n"
        "5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n"
    )
    body = f"old 20852014\n{proof}\n{text}\n{log}".encode()
    submission = Submission.parse(body)
    assert (submission.old, len(submission.proof), submission.origin) == (20852014, 4, "example.com/behind-the-sofa")
    assert submission.to_bytes() == body
    whole = f"c2sp.org/tlog-proof@v1\nextra YWdlLXY=\nindex 73894\n{proof}\n{text}\n{log}".encode()
    read = ProofFile.parse(whole)
    assert (read.index, read.extra, len(read.hashes)) == (73894, b"age-v", 4)
    assert read.to_bytes() == whole


def test_tlog_scales_verifies_ours() -> None:
    signer = Ed25519Signer.from_seed(b"1" * 32)
    checkpoint = Checkpoint("vault.example/log", 7, b"\x07" * 32)
    log = Cosigner.of_log(checkpoint.origin, b"1" * 32)
    witnesses = [Cosigner.from_seed(f"w{kind}.example", kind, bytes([kind]) * 32) for kind in CosignatureKind]
    note = Note.parse(checkpoint.sign(signer)).signed_also(
        one.cosign(checkpoint, 1_795_471_717) for one in (log, *witnesses)
    )
    theirs = ScalesCheckpoint.from_text(note.to_bytes().decode().rstrip("\n"))
    for key in (VerifierKey(checkpoint.origin, signer.public_key), *(one.key for one in (log, *witnesses))):
        theirs.verify(scales.Vkey.from_string(str(key)))


def test_we_verify_what_tlog_scales_signs() -> None:
    plain = scales.PlainEd25519Signer("vault.example/log", b"1" * 32)
    cosigner = scales.MLDSA44CosignatureSigner("w.example", b"2" * 32)
    made = ScalesCheckpoint.make_signed("vault.example/log", 7, b"\x07" * 32, [plain, cosigner])
    note = Note.parse((made.serialize().rstrip("\n") + "\n").encode())
    key = read_log_key(str(plain.vkey.serialize()))  # type: ignore[no-untyped-call]
    assert isinstance(key, VerifierKey)
    checkpoint = read_checkpoint(note.to_bytes(), key)
    witness = CosignerKey.parse(str(cosigner.vkey.serialize()))  # type: ignore[no-untyped-call]
    assert len(read_cosignatures(note, checkpoint, (witness,))) == 1
