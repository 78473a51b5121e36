"""``strongroom intake`` as people type it, against the real keeper: from a supplier's folder to the next version."""

from __future__ import annotations

import errno
import io
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strongroom.access.request import Action
from strongroom.audit.entries import read_entry
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from strongroom.quarantine import wiring as gate_wiring
from strongroom.quarantine.adapters.delivery_folder import delivery_folder
from strongroom.quarantine.adapters.reading import Reader, judge_walled
from strongroom.sealing.adapters.sinks import FileSink
from support.delivered import delivery
from support.gated import judge_here, lay_out, receive, review, seal, with_reviewers
from support.model_signing import Signing
from support.place import Place

pytestmark = pytest.mark.integration


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    judge_here(monkeypatch)
    with Place.opened(tmp_path, monkeypatch) as made:
        yield with_reviewers(made)


def states(place: Place) -> list[str]:
    """Return the states that the log names, in order."""
    entries = [read_entry(one) for one in place.deployment.log.entries]
    return [one.text("state") for one in entries if one.event is EventName.INTAKE_RECORDED]


def test_a_delivery_becomes_the_next_version(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_wiring, "judge_walled", judge_walled)
    source, into = lay_out(place.folder / "delivered", delivery()), place.folder / "first"
    found = receive(place, source, into)
    assert found["state"] == "scanned"
    assert {one["name"] for one in found["files"]} == set(delivery())
    assert seal(place, into, code=4)["code"] == "intake-unreviewed"
    made = seal(place, into, review(place, into, "otto"))
    assert made["state"] == "sealed"
    assert states(place) == [
        *("received", "hashed", "signature-verified", "formats-checked", "scanned", "reviewed", "sealed")
    ]
    assert place.json("status", by="dana")["models"]["minilm"]["version"] == 1
    assert not (into / "copy").exists()
    assert not list(place.wallets["dana"].glob("*kept*"))


def opened(place: Place, sealed: Path) -> dict[str, bytes]:
    """Export what was sealed, and return it."""
    station, out = place.folder / "station", place.folder / "plain"
    place.json("recipient", "new", str(station))
    ask = ("request", "create", "--model", "minilm", "--purpose", "research", "--action", "export-plaintext")
    digest = str(place.json(*ask, "--to", f"{station}.pub", by="dana")["request"])
    for name in ("sam", "rina"):
        place.json("approve", digest, "--yes", by=name)
    place.json("export", digest, str(sealed), str(out), "--identity", str(station), by="dana")
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def may_export(place: Place) -> None:
    policy = place.deployment.policy
    rules = tuple(
        replace(rule, requester_role="requester") if rule.action is Action.EXPORT_PLAINTEXT else rule
        for rule in policy.rules
    )
    models = tuple(replace(one, export=True) for one in policy.models)
    place.deployment.next_policy(replace(policy, models=models, rules=rules))


def test_what_is_sealed_is_what_was_delivered_byte_for_byte(place: Place) -> None:
    may_export(place)
    source, into = lay_out(place.folder / "delivered", delivery()), place.folder / "first"
    receive(place, source, into)
    seal(place, into, review(place, into, "otto"))
    assert opened(place, into / "sealed") == delivery()


def test_a_conversion_holds_the_same_tensors(place: Place) -> None:
    may_export(place)
    made: dict[str, Any] = {
        "a": torch.arange(24, dtype=torch.float32).reshape(4, 6),
        "transposed": torch.arange(24, dtype=torch.bfloat16).reshape(4, 6).t(),
        "cut": torch.arange(60, dtype=torch.int64).reshape(3, 4, 5)[:, 1:3, ::2],
        "parameter": torch.nn.Parameter(torch.ones(3, dtype=torch.float16)),
        "empty": torch.zeros(0, 5),
        "one": torch.tensor(7, dtype=torch.uint8),
        "same": torch.ones(2).expand(3, 2),
        "step": 4,
    }
    made["tied"] = made["a"]
    held = io.BytesIO()
    torch.save({"model": made}, held)
    index = {"metadata": {}, "weight_map": {"model.a": "pytorch_model.bin"}}
    files = {"pytorch_model.bin": held.getvalue(), "pytorch_model.bin.index.json": json.dumps(index).encode()}
    source, into = lay_out(place.folder / "delivered", files), place.folder / "first"
    receive(place, source, into)
    found = place.json("intake", "convert", str(into), "--into", str(place.folder / "second"), by="dana")
    assert found["state"] == "scanned"
    assert found["terms"]["converted_from"] == found_record(place, into)
    seal(place, place.folder / "second", review(place, place.folder / "second", "otto"))
    out = opened(place, place.folder / "second" / "sealed")
    assert set(out) == {"model.safetensors", "model.safetensors.index.json"}
    assert json.loads(out["model.safetensors.index.json"])["weight_map"] == {"model.a": "model.safetensors"}
    loaded = safetensors.torch.load(out["model.safetensors"])
    assert set(loaded) == {f"model.{name}" for name in made if name != "step"}
    for name, tensor in loaded.items():
        wanted = made[name.removeprefix("model.")]
        assert tensor.dtype == wanted.dtype
        assert torch.equal(tensor, wanted)


def found_record(place: Place, into: Path) -> str:
    return str(place.json("intake", "show", str(into))["record"])


def test_what_is_refused_is_refused_for_good_and_its_key_is_gone(place: Place) -> None:
    source, into = (
        lay_out(place.folder / "delivered", {"a.pkl": b"\x80\x04cos\nsystem\nX\x02\x00\x00\x00ls\x85R."}),
        place.folder / "first",
    )
    assert receive(place, source, into, code=6)["code"] == "intake-pickle-global"
    assert states(place)[-1] == "quarantined"
    assert not (into / "copy").exists()
    assert not list(place.wallets["dana"].glob("*kept*"))
    (source / "a.pkl").write_bytes(b"\x80\x04N.")
    assert receive(place, source, into, code=6)["state"] == "quarantined"
    assert seal(place, into, code=6)["rule"] == "pickle-global"
    assert place.json("intake", "convert", str(into), "--into", str(place.folder / "x"), by="dana", code=4)
    assert place.json("intake", "ls", str(place.folder))[0]["rule"] == "pickle-global"
    key = str(json.loads((place.wallets["dana"] / "identity.json").read_text())["publishing_key"])
    told = place.json("intake", "verify", str(into / "verdict.json"), "--publisher", key)
    assert (told["verdict"], told["rule"]) == ("refused", "pickle-global")


def test_one_denial_ends_it_even_when_nobody_hands_it_to_the_operator(place: Place) -> None:
    into = place.folder / "first"
    receive(place, lay_out(place.folder / "delivered", delivery()), into)
    accepted = review(place, into, "otto")
    denied = review(place, into, "olga", "--deny")
    assert seal(place, into, accepted, code=3)["code"] == "intake-not-reviewed"
    assert states(place)[-1] == "scanned"
    assert seal(place, into, accepted, denied, code=6)["code"] == "intake-review-denied"
    assert states(place)[-1] == "quarantined"


@pytest.mark.parametrize("name", ["dana", "sam"])
def test_only_reviewers_review_and_never_their_own(place: Place, name: str) -> None:
    into = place.folder / "first"
    receive(place, lay_out(place.folder / "delivered", delivery()), into)
    forged = review(place, into, name, code=3)
    assert seal(place, into, forged, code=4)["code"] == "intake-unreviewed"


def test_terms_can_only_be_what_they_were(place: Place) -> None:
    into = place.folder / "first"
    receive(place, lay_out(place.folder / "delivered", delivery()), into)
    terms = into / "terms.json"
    terms.write_bytes(terms.read_bytes().replace(b'"reviews":1', b'"reviews":0'))
    assert seal(place, into, code=6)["code"] == "intake-records"


def test_records_taken_back_are_noticed_by_the_log(place: Place) -> None:
    into = place.folder / "first"
    receive(place, lay_out(place.folder / "delivered", delivery()), into)
    denied = review(place, into, "olga", "--deny")
    kept = place.folder / "kept"
    shutil.copytree(into, kept)
    wallet = place.folder / "wallet"
    shutil.copytree(place.wallets["dana"], wallet)
    seal(place, into, denied, code=6)
    # Folder and wallet put back to what they were before the refusal: the log stands on.
    shutil.rmtree(place.wallets["dana"])
    wallet.rename(place.wallets["dana"])
    assert seal(place, kept, review_file(place, kept, "otto"), code=6)["code"] == "intake-records"


def review_file(place: Place, delivery_path: Path, name: str) -> Path:
    """Make a review that never reaches the log."""
    return review(place, delivery_path, name, code=9)


def test_a_withdrawn_delivery_is_over(place: Place) -> None:
    into = place.folder / "first"
    receive(place, lay_out(place.folder / "delivered", delivery()), into)
    assert place.json("intake", "discard", str(into), "--yes", by="dana")["rule"] == "withdrawn"
    assert place.json("intake", "discard", str(into), "--yes", by="dana", code=9)["code"] == "intake-wrong-state"


def test_a_folder_that_others_write_to_is_no_deliverys(place: Place) -> None:
    into = place.folder / "first"
    into.mkdir()
    into.chmod(0o777)
    receive(place, lay_out(place.folder / "delivered", delivery()), into, code=9)
    assert not any(into.iterdir())


def test_two_at_once_dont_meet(place: Place) -> None:
    into = place.folder / "first"
    source = lay_out(place.folder / "delivered", delivery())
    with delivery_folder(into):
        assert receive(place, source, into, code=9)["code"] == "intake-busy"


def test_a_full_disk_is_a_refusal_that_changes_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    source, into = lay_out(place.folder / "delivered", delivery()), place.folder / "first"
    with monkeypatch.context() as patched:

        def full(*_arguments: object) -> None:
            raise OSError(errno.ENOSPC, "no space")

        patched.setattr(FileSink, "put", full)
        found = receive(place, source, into, code=7)
        assert found["code"] == "no-space"
    assert states(place) == ["received"]
    assert receive(place, source, into)["state"] == "scanned"


@pytest.mark.parametrize("when", ["the disk is full", "it is killed"])
def test_an_interrupted_conversion_goes_on_and_is_converted_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    held = io.BytesIO()
    torch.save({"w": torch.arange(3 << 19, dtype=torch.float32)}, held)
    files = {"pytorch_model.bin": held.getvalue(), "config.json": b"{}"}
    source, into = lay_out(place.folder / "delivered", files), place.folder / "first"
    receive(place, source, into)
    typed = ("intake", "convert", str(into), "--into", str(place.folder / "second"))
    asked, real = [], Reader.pieces

    def interrupted(self: Reader, name: str, size: int) -> Iterator[bytes]:
        for number, piece in enumerate(real(self, name, size)):
            asked.append(number)
            if number == 2:
                raise OSError(errno.ENOSPC, "no space") if when == "the disk is full" else KeyboardInterrupt
            yield piece

    with monkeypatch.context() as patched:
        patched.setattr(Reader, "pieces", interrupted)
        assert place.run(*typed, by="dana").exit_code != 0
        assert asked
    assert place.json(*typed, by="dana")["state"] == "scanned"
    assert place.json(*typed, by="dana")["state"] == "scanned"
    assert states(place).count("received") == 2


def rules(place: Place, script: str, reviews: int = 1) -> Path:
    """Write rules with one scanner."""
    folder = place.folder / "scanner"
    folder.mkdir(exist_ok=True)
    program = folder / "scan.py"
    program.write_text(f"#!{sys.executable}\n{script}\n")
    program.chmod(0o755)
    digest = str(Digest.of(program.read_bytes()))
    scanner: dict[str, Any] = {
        "name": "looker",
        "version": "3.1",
        "program": str(program),
        "digest": digest,
        "arguments": [],
    }
    scanner |= {"roots": [str(folder)], "formats": ["pickle", "torch-zip"], "seconds": 60, "memory": 1 << 31}
    file = place.folder / "gate.json"
    file.write_text(json.dumps({"v": 1, "reviews": reviews, "scanners": [scanner]}, indent=2))
    return file


def test_a_scanner_is_shown_what_it_asks_for_and_named_in_the_record(place: Place) -> None:
    wanted = sorted(len(delivery()[name]) for name in ("pytorch_model.bin", "state.pkl"))
    asked = rules(place, f"import sys\nsys.exit(len(sys.stdin.buffer.read()) not in {wanted})", reviews=0)
    into = place.folder / "first"
    found = receive(place, lay_out(place.folder / "delivered", delivery()), into, "--rules", str(asked))
    assert found["records"][-1]["tools"] == [{"name": "looker", "version": "3.1"}]
    assert seal(place, into)["records"][5]["waived"] is True


def test_two_reviews_are_two_people(place: Place) -> None:
    asked, into = rules(place, "raise SystemExit(0)", reviews=2), place.folder / "first"
    receive(place, lay_out(place.folder / "delivered", {"config.json": b"{}"}), into, "--rules", str(asked))
    first = review(place, into, "otto")
    assert seal(place, into, first, first, code=4)["code"] == "intake-unreviewed"
    assert len(seal(place, into, first, review(place, into, "olga"))["records"][5]["documents"]) == 2


def test_a_scanner_that_objects_refuses_the_delivery(place: Place) -> None:
    asked = rules(place, "raise SystemExit(1)")
    source, into = lay_out(place.folder / "delivered", delivery()), place.folder / "first"
    assert receive(place, source, into, "--rules", str(asked), code=6)["code"] == "intake-scanner"
    assert states(place)[-2:] == ["formats-checked", "quarantined"]


def test_a_scanner_that_was_exchanged_stops_everything_and_refuses_nothing(place: Place) -> None:
    asked = rules(place, "raise SystemExit(0)")
    text = json.loads(asked.read_text())
    text["scanners"][0]["digest"] = str(Digest.of(b"another program"))
    asked.write_text(json.dumps(text))
    source, into = lay_out(place.folder / "delivered", delivery()), place.folder / "first"
    assert receive(place, source, into, "--rules", str(asked), code=6)["code"] == "intake-scanner-changed"
    assert states(place)[-1] == "formats-checked"


def test_a_signature_is_verified_over_what_was_stored(place: Place) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    source = lay_out(place.folder / "delivered", delivery())
    (place.folder / "model.sig").write_bytes(Signing(key=key, files=delivery()).bundle())
    (place.folder / "key.pem").write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    trusted = ("--signature", str(place.folder / "model.sig"), "--key", str(place.folder / "key.pem"))
    found = receive(place, source, place.folder / "good", *trusted)
    assert found["records"][2]["waived"] is False
    (source / "extra.txt").write_text("not signed")
    assert receive(place, source, place.folder / "bad", *trusted, code=6)["code"] == "intake-extra-file"
    (source / "extra.txt").unlink()
    (source / "README.md").write_text("changed")
    assert receive(place, source, place.folder / "worse", *trusted, code=6)["code"] == "intake-digest-mismatch"


def test_a_delivery_isnt_taken_into_itself(place: Place) -> None:
    source = lay_out(place.folder / "delivered", delivery())
    receive(place, source, source / "q", code=2)
    assert not (source / "q").exists()
