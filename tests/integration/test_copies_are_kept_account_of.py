"""The verbs on copies as a registrar types them: added, asked for, proved, told when overdue, retired with evidence."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.cli import copies_register, copies_told
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.fingerprints import read_fingerprints, write_fingerprints
from strongroom.core.clock import SystemClock
from strongroom.core.digest import Digest
from strongroom.keys.adapters.identity_file import open_identity
from support.clocks import FixedClock
from support.copies import HOST, CopiesLab, no_passphrase, opened_lab
from support.planted import safetensors, small_model

pytestmark = pytest.mark.integration
OURS = small_model(1)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CopiesLab]:
    with opened_lab(tmp_path, monkeypatch) as made:
        (made.tree / "a").mkdir()
        (made.tree / "a" / "model.bin").write_bytes(os.urandom(300_000))
        (made.tree / "a" / "config.json").write_text("{}")
        shutil.copytree(made.tree / "a", made.tree / "b")
        yield made


def challenge(lab: CopiesLab, copy: str) -> Path:
    lab.copies("challenge", copy, "--out", lab.folder / "asked")
    return lab.folder / "asked"


def test_a_copy_is_proved_from_its_own_bytes(lab: CopiesLab) -> None:
    copy = lab.add(lab.tree / "a")["copy"]
    lab.copies("answer", challenge(lab, copy), lab.tree / "b", "--out", lab.folder / "answered")
    lab.copies("verify", copy, lab.folder / "answered", "--against", lab.tree / "a")
    (listed,) = lab.copies("ls")["copies"]
    assert (listed["copy"], listed["stands"]) == (copy, "good")
    assert listed["proved"] is not None
    # The challenge is answered: the same answer proves nothing again.
    again = lab.copies("verify", copy, lab.folder / "answered", "--against", lab.tree / "a", code=9)
    assert again["code"] == "conflict"


def test_a_damaged_copy_proves_nothing_and_the_challenge_stays_open(lab: CopiesLab) -> None:
    copy = lab.add(lab.tree / "a")["copy"]
    asked = challenge(lab, copy)
    whole = (lab.tree / "b" / "model.bin").read_bytes()
    (lab.tree / "b" / "model.bin").write_bytes(bytes(len(whole)))
    lab.copies("answer", asked, lab.tree / "b", "--out", lab.folder / "answered")
    refused = lab.copies("verify", copy, lab.folder / "answered", "--against", lab.tree / "a", code=3)
    assert refused["code"] == "possession-unproved"
    (lab.tree / "b" / "model.bin").write_bytes(whole)
    lab.copies("answer", asked, lab.tree / "b", "--out", lab.folder / "answered")
    lab.copies("verify", copy, lab.folder / "answered", "--against", lab.tree / "a")


def test_a_reference_with_other_files_is_refused(lab: CopiesLab) -> None:
    copy = lab.add(lab.tree / "a")["copy"]
    lab.copies("answer", challenge(lab, copy), lab.tree / "b", "--out", lab.folder / "answered")
    (lab.tree / "a" / "more").write_text("x")
    assert lab.copies("verify", copy, lab.folder / "answered", "--against", lab.tree / "a", code=2)["code"] == "usage"


def test_an_overdue_expired_or_lost_copy_is_told_as_an_event(lab: CopiesLab, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = lab.add(lab.tree / "a", "--prove-every", "1h")["copy"]
    other = lab.add(lab.tree / "b")["copy"]
    assert lab.check() == []
    lab.copies("retire", other, "--how", "lost")
    assert [(one["copy"], one["cause"]) for one in lab.check(code=1)] == [(other, "lost")]
    late = FixedClock(SystemClock().now() + 3601)
    monkeypatch.setattr(copies_told, "SystemClock", lambda: late)
    told = lab.check(code=1)
    assert {(one["copy"], one["cause"]) for one in told} == {(copy, "unproved"), (other, "lost")}
    assert all(one["event"] == "register:copy:troubled" and one["host"] == HOST for one in told)


def test_a_copy_that_is_still_there_isnt_destroyed(lab: CopiesLab) -> None:
    here = os.uname().nodename
    copy = lab.add(lab.tree / "a", "--host", here)["copy"]
    evidence = lab.folder / "certificate"
    evidence.write_text("shredded")
    assert lab.copies("retire", copy, "--how", "destroyed", code=2)["code"] == "usage"
    assert lab.copies("retire", copy, "--how", "destroyed", "--evidence", evidence, code=9)["code"] == "conflict"
    shutil.rmtree(lab.tree / "a")
    lab.copies("retire", copy, "--how", "destroyed", "--evidence", evidence)
    assert lab.copies("ls")["copies"] == []
    (listed,) = lab.copies("ls", "--all")["copies"]
    assert (listed["stands"], listed["evidence"] is not None) == ("destroyed", True)
    assert lab.copies("retire", copy, "--how", "lost", code=9)["code"] == "conflict"


def test_a_place_is_registered_once(lab: CopiesLab) -> None:
    lab.add(lab.tree / "a")
    assert lab.add(lab.tree / "a", code=9)["code"] == "conflict"


def test_a_copy_at_an_address_is_registered_by_the_same_files_here(lab: CopiesLab) -> None:
    lab.add("s3://customer/atlas", "--like", lab.tree / "a")
    (listed,) = lab.copies("ls")["copies"]
    assert listed["terms"]["place"] == "s3://customer/atlas"


def test_a_register_is_its_registrars(lab: CopiesLab) -> None:
    lab.add(lab.tree / "a")
    lab.wallet = lab.deployment.wallet(lab.folder, "sam")
    assert lab.copies("ls", code=6)["ok"] is False


def test_fingerprints_grow_for_all_who_read_them_and_open_for_nobody_else(lab: CopiesLab) -> None:
    lab.fingerprint(OURS)
    assert lab.fingerprint(small_model(2), version=2, code=2)["code"] == "usage"
    second = lab.folder / "second"
    lab.json("recipient", "new", second)
    told = lab.fingerprint(small_model(2), "--identity", lab.identity, "--to", f"{second}.pub", version=2)
    assert told["readers"] == 2
    place = lab.folder / "found.bin"
    place.write_bytes(safetensors(small_model(2)))
    for identity in (lab.identity, second):
        lab.identity = identity
        (found,) = lab.scan(place, code=1)["findings"]
        assert (found["model"], found["version"], found["similarity"]) == ("atlas", 2, 1000)
    lab.json("recipient", "new", lab.folder / "third")
    lab.identity = lab.folder / "third"
    assert lab.scan(place, code=3)["code"] == "fingerprints-not-for-this-identity"


def test_changed_fingerprints_are_refused(lab: CopiesLab) -> None:
    lab.fingerprint(OURS)
    file = lab.register / "fingerprints"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    assert lab.scan(lab.tree, code=6)["code"] == "fingerprints-changed"


def test_the_words_for_people_say_what_stands(lab: CopiesLab) -> None:
    copy = lab.add(lab.tree / "a")["copy"]
    told = lab.run("copies", "ls", "--register", lab.register, "--as", lab.wallet)
    assert told.exit_code == 0
    assert copy in told.output
    assert "good" in told.output


def test_a_mistyped_register_is_told_instead_of_found_in_order(lab: CopiesLab) -> None:
    lab.add(lab.tree / "a")
    lab.register = lab.folder / "typo"
    told = lab.run("copies", "check", "--register", lab.register, "--as", lab.wallet)
    assert told.exit_code not in {0, 1}
    assert "there is no register" in told.output


def test_a_clock_that_is_ahead_says_nothing_and_one_that_is_a_little_holds_nothing_up(
    lab: CopiesLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = lab.add(lab.tree / "a")["copy"]
    with monkeypatch.context() as patch:
        patch.setattr(copies_register, "SystemClock", lambda: FixedClock(SystemClock().now() + 86_400))
        assert lab.add(lab.tree / "b", code=3)["code"] == "statement-not-current"
        patch.setattr(copies_register, "SystemClock", lambda: FixedClock(SystemClock().now() + 60))
        lab.add(lab.tree / "b")
    lab.copies("answer", challenge(lab, copy), lab.tree / "b", "--out", lab.folder / "answered")
    lab.copies("verify", copy, lab.folder / "answered", "--against", lab.tree / "a")


def test_a_search_doesnt_take_another_deployments_fingerprints_for_its_own(lab: CopiesLab) -> None:
    lab.fingerprint(OURS)
    data = (lab.register / "fingerprints").read_bytes()
    seen = WalletFolder(lab.wallet, no_passphrase)
    identity = open_identity(lab.identity, no_passphrase)
    found = read_fingerprints(data, seen.identity.key, identity)
    other = write_fingerprints(
        found.catalogue, found.recipients, seen.signer(), genesis=Digest.of(b"other"), random_bytes=os.urandom
    )
    (lab.register / "fingerprints").write_bytes(other)
    refused = lab.fingerprint(small_model(2), "--identity", lab.identity, version=2, code=2)
    assert "another deployment" in refused["message"]
    assert (lab.register / "fingerprints").read_bytes() == other
