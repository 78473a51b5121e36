"""What is delivered is nowhere in clear but where its supplier put it, and its copy opens for nothing but the gate."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from simulators.deployment_in_memory import InMemoryDeployment, publisher
from strongroom.access.request import Action
from strongroom.client import wiring
from strongroom.core.clock import SystemClock
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ModelId
from strongroom.core.safetensors_header import make_header
from strongroom.quarantine.adapters.delivery_folder import DeliveryFolder
from strongroom.quarantine.copies import kept_about
from strongroom.sealing.adapters.directory import read_envelope
from strongroom.sealing.adapters.resume import JournalFile
from strongroom.sealing.errors import OtherDeploymentError
from strongroom.sealing.manifest import ManifestExpectation, verify_manifest
from support.clocks import FixedClock
from support.delivered import checkpoint_files, zip_of
from support.gated import judge_here, lay_out, receive, review, seal, with_reviewers
from support.place import Place

pytestmark = pytest.mark.integration

MARKS = tuple(os.urandom(24) for _ in range(3))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    deployment = InMemoryDeployment(FixedClock(SystemClock().now()))
    monkeypatch.setattr(wiring, "connect", lambda _wallet: deployment)
    monkeypatch.setattr(wiring, "SystemClock", lambda: deployment.clock)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    judge_here(monkeypatch)
    deployment.adopt_first()
    yield with_reviewers(Place(tmp_path, deployment))
    deployment.close()


def delivered() -> dict[str, bytes]:
    """Return files that can be told wherever they lie: in their middle, in a checkpoint, in a text."""
    head, _names = make_header([("w", "U8", (3 << 20,), 3 << 20)], None)
    body = bytearray(3 << 20)
    body[2 << 20 : (2 << 20) + 24] = MARKS[0]
    return {
        "model.safetensors": head + bytes(body),
        "adapter.bin": zip_of({**checkpoint_files(), "archive/data/0": MARKS[1]}),
        "README.md": b"# Atlas " + MARKS[2].hex().encode(),
    }


def in_clear(place: Place) -> list[Path]:
    """Return files other than the supplier's that hold a piece of what was delivered."""
    wanted = (*MARKS[:2], MARKS[2].hex().encode())
    pieces = [mark[at : at + 12] for mark in wanted for at in (0, 12)]
    found = []
    for path in place.folder.rglob("*"):
        if stat.S_ISREG(path.lstat().st_mode) and "delivered" not in path.parts:
            data = path.read_bytes()
            found += [path for piece in pieces if piece in data]
    return found


def test_nothing_in_clear_touches_the_disk_from_receiving_to_sealing(place: Place) -> None:
    source, into, after = lay_out(place.folder / "delivered", delivered()), place.folder / "q", place.folder / "c"
    receive(place, source, into)
    assert in_clear(place) == []
    assert (into / "copy").is_dir()
    place.json("intake", "convert", str(into), "--into", str(after), by="dana")
    assert in_clear(place) == []
    seal(place, after, review(place, after, "otto"))
    assert in_clear(place) == []
    # The search would find it.
    (place.folder / "leak").write_bytes(b"x" + delivered()["adapter.bin"])
    assert in_clear(place) == [place.folder / "leak"] * 2


def test_an_interrupted_copy_is_ciphertext_too(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    source, into = lay_out(place.folder / "delivered", delivered()), place.folder / "q"
    with monkeypatch.context() as patched:

        def killed(*_arguments: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(JournalFile, "finish", killed)
        assert place.run(
            "intake", "receive", str(source), "--model", "minilm", "--into", str(into), by="dana"
        ).exit_code
    assert any((into / ".copy.partial" / "objects").iterdir())
    assert in_clear(place) == []


def test_no_reader_of_this_deployment_takes_the_copy(place: Place) -> None:
    into = place.folder / "q"
    receive(place, lay_out(place.folder / "delivered", delivered()), into)
    envelope = read_envelope(into / "copy")
    expect = ManifestExpectation(
        genesis=place.deployment.genesis.digest, model=ModelId("minilm"), version=1, digest=None
    )
    with pytest.raises(OtherDeploymentError):
        verify_manifest(envelope, publisher("dana").public_key, expect=expect)
    assert not (into / "copy" / "recipients.json").exists()


def test_the_keeper_registers_no_copy_and_exports_none(place: Place) -> None:
    policy = place.deployment.policy
    rules = tuple(
        replace(rule, requester_role="requester") if rule.action is Action.EXPORT_PLAINTEXT else rule
        for rule in policy.rules
    )
    models = tuple(replace(one, export=True) for one in policy.models)
    place.deployment.next_policy(replace(policy, models=models, rules=rules))
    into, out = place.folder / "q", place.folder / "plain"
    request = str(place.seal()["request"])
    receive(place, lay_out(place.folder / "delivered", delivered()), into)
    with pytest.raises(StrongroomError):
        place.deployment.call(
            "POST",
            "/v1/manifests",
            body={"manifest": read_envelope(into / "copy").to_json(), "request": request},
        )
    place.json("recipient", "new", str(place.folder / "station"))
    ask = ("request", "create", "--model", "minilm", "--purpose", "research", "--action", "export-plaintext")
    digest = str(place.json(*ask, "--to", str(place.folder / "station.pub"), by="dana")["request"])
    for name in ("sam", "rina"):
        place.json("approve", digest, "--yes", by=name)
    identity = ("--identity", str(place.folder / "station"))
    assert place.run("export", digest, str(into / "copy"), str(out), *identity, by="dana").exit_code == 6
    again = ("reseal", digest, str(into / "copy"), "--out", str(place.folder / "anew"), *identity)
    assert place.run(*again, by="dana").exit_code != 0
    assert not out.exists()
    assert not (place.folder / "anew").exists()


def test_the_key_is_in_one_wallet_and_under_these_terms_alone(place: Place) -> None:
    into = place.folder / "q"
    receive(place, lay_out(place.folder / "delivered", delivered()), into)
    reviewed = review(place, into, "otto")
    named = ("intake", "seal", str(into), "--review", str(reviewed))
    # Another publisher's wallet, to whom the folder was handed: it goes on from no records but its own.
    assert place.json(*named, by="sam", code=6)["code"] == "intake-records"
    terms = DeliveryFolder(into).terms()
    assert kept_about(terms) != kept_about(replace(terms, delivery="1" * 32))
    kept = next(place.wallets["dana"].glob("*kept*"))
    kept.write_bytes(kept.read_bytes().replace(terms.delivery.encode(), b"1" * 32))
    assert place.json(*named, by="dana", code=2)["code"] == "wallet-unusable"
