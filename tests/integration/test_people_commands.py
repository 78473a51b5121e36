"""The verbs of people, typed as people type them, against the real keeper over a log in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from simulators.attester import attester
from simulators.deployment_in_memory import DAY, PEOPLE, InMemoryDeployment, publisher, signer
from strongroom.access.request import APPROVAL_TYPE, REQUEST_TYPE, LogHead, Request
from strongroom.broker.adapters.dev_ca import DevCa
from strongroom.cli.main import VERBS, main
from strongroom.cli.session import no_passphrase
from strongroom.client import wiring
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.wallet import Seen
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import StrongroomError
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId
from strongroom.core.signature import PublicKey
from strongroom.framework.levels import SecurityLevel
from strongroom.keys.adapters.local import Argon2Cost
from strongroom.loaders import open_sealed
from strongroom.personnel.roster import ROSTER_TYPE
from strongroom.sealing.errors import OlderVersionError
from support.place import Place

pytestmark = pytest.mark.integration


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A deployment without any document."""
    deployment = InMemoryDeployment()
    monkeypatch.setattr(wiring, "connect", lambda _wallet: deployment)
    yield Place(tmp_path, deployment)
    deployment.close()


@pytest.fixture
def place(empty: Place) -> Place:
    """A deployment with everything in force."""
    empty.deployment.adopt_first()
    return empty


# --- founding ---------------------------------------------------------------------------------------------------------


def test_documents_are_drafted_signed_by_two_and_adopted(empty: Place) -> None:
    roster, policy = str(empty.folder / "roster.json"), str(empty.folder / "policy.json")
    until = format_instant(empty.deployment.clock.now() + 30 * DAY + 3600)
    empty.json("people", "roster", "new", roster, by="root-0")
    for name, role, more in (
        ("dana", "requester", ("--publishing-key", str(publisher("dana").public_key))),
        ("vera", "vetting-officer", ()),
        ("otto", "vetting-officer", ()),
    ):
        key = str(signer(name).public_key)
        empty.json(
            *("people", "roster", "add", roster, "--id", name, "--org", "research", "--role", role),
            *("--key", key, *more),
        )
    empty.json("people", "roster", "set", roster, "--id", "dana", "--role", "requester", "--role", "publisher")
    empty.json("policy", "new", policy, by="root-0")
    empty.json(
        "policy",
        "model",
        policy,
        "--add",
        "minilm",
        "--level",
        "SL2",
        "--least-isolation",
        "vm-simulated",
        "--weights",
        "test",
    )

    shown = empty.run("sign", "roster", roster, by="root-0", text="y\n")
    assert shown.exit_code == 0
    assert "dana of research: publisher, requester" in shown.output
    both = f"keys ed25519 {signer('dana').public_key.key_id}, ed25519-ml-dsa-65 {publisher('dana').public_key.key_id}"
    assert both in shown.output
    assert max(len(line) for line in shown.output.splitlines()) < 300
    early = empty.json("adopt", "roster", roster, by="root-0", code=6)
    assert early["code"] == "bad-signature"
    assert ("POST", "/v1/documents/roster") not in empty.deployment.calls
    assert empty.json("sign", "roster", roster, "--yes", by="root-1")["signatures"] == 2
    assert empty.json("adopt", "roster", roster, by="root-0")["log_index"] > 0
    assert empty.json("adopt", "roster", roster, by="root-0")["log_index"] is None
    for name in ("root-0", "root-1"):
        empty.json("sign", "policy", policy, "--yes", by=name)
    empty.json("adopt", "policy", policy, by="root-1")

    people = empty.json("people", "ls", by="root-0")["people"]
    assert [(one["person"], one["standing"]) for one in people] == [
        ("dana", "not vetted"),
        ("vera", "not vetted"),
        ("otto", "not vetted"),
    ]
    # The root quorum vets the first officers; from then on two officers vet everybody else.
    vetting = (
        (("vera", "otto"), ("root-0", "root-1"), (6, "bad-signature")),
        (("dana",), ("vera", "otto"), (3, "officers-missing")),
    )
    for names, by, (code, alone) in vetting:
        files = [str(empty.folder / f"{name}.vetting") for name in names]
        for name, file in zip(names, files, strict=True):
            empty.json("people", "vet", name, file, "--tier", "2", "--until", until, by=by[0])
        empty.json("people", "sign", *files, "--yes", by=by[0])
        assert empty.json("people", "hand-in", *files, by=by[0], code=code)["code"] == alone
        assert [one["signatures"] for one in empty.json("people", "sign", *files, "--yes", by=by[1])["statements"]] == [
            2 for _name in names
        ]
        assert len(empty.json("people", "hand-in", *files, by=by[1])["statements"]) == len(names)
    people = empty.json("people", "ls", by="root-0")["people"]
    assert [(one["person"], one["standing"], one["days_left"]) for one in people] == [
        ("dana", "ok", 30),
        ("vera", "ok", 30),
        ("otto", "ok", 30),
    ]
    assert "SL2 open-in-enclave: asked by requester" in empty.run("policy", "show", by="root-0").output


def test_a_signed_draft_is_not_changed_and_a_stranger_does_not_sign(place: Place) -> None:
    roster = str(place.folder / "next.json")
    place.json("people", "roster", "new", roster, "--next", by="root-0")
    assert place.json("sign", "roster", roster, "--yes", by="dana", code=3)["code"] == "not-a-root-key"
    place.json("sign", "roster", roster, "--yes", by="root-0")
    place.json("people", "roster", "set", roster, "--id", "dana", "--inactive", code=6)
    assert place.run("sign", "roster", roster, by="root-1", text="n\n").exit_code == 1
    assert place.json("sign", "policy", roster, "--yes", by="root-1", code=2)["code"] == "usage"


def test_a_root_holder_does_not_sign_an_epoch_that_is_over(place: Place) -> None:
    place.json("status", by="root-0")
    old = place.folder / "old.json"
    old.write_bytes(replace(place.deployment.roster, people=()).to_bytes())
    assert place.json("sign", "roster", str(old), "--yes", by="root-0", code=6)["code"] == "document-forked"


def test_a_root_holder_signs_nothing_forged_old_or_foreign(place: Place) -> None:
    roster, file = place.deployment.roster, place.folder / "draft.json"
    before = Digest.of(roster.to_bytes())
    following = replace(roster, epoch=2, predecessor=before)
    forged = sign(ROSTER_TYPE, following.to_bytes(), signer("root-2"))
    changed = replace(forged.signatures[0], value=bytes(64))
    stranger = sign(ROSTER_TYPE, following.to_bytes(), signer("mallory"))
    for envelope in (replace(forged, signatures=(changed,)), stranger):
        file.write_bytes(envelope.to_bytes())
        assert place.json("sign", "roster", str(file), "--yes", by="root-0", code=6)["code"] == "bad-signature"
        assert Envelope.parse(file.read_bytes()) == envelope
    foreign = replace(roster, genesis=Digest.of(b"other"))
    file.write_bytes(foreign.to_bytes())
    assert place.json("sign", "roster", str(file), "--yes", by="root-0", code=6)["code"] == "state-mismatch"
    place.deployment.change_roster(lambda one: one)
    place.json("status", by="root-0")
    file.write_bytes(roster.to_bytes())
    assert place.json("sign", "roster", str(file), "--yes", by="root-0", code=6)["code"] == "document-rolled-back"


def test_keys_are_named_by_their_text_or_by_a_file_of_them(empty: Place) -> None:
    roster, names = str(empty.folder / "roster.json"), ("dana", "sam")
    files = {name: empty.folder / f"{name}.pub" for name in names}
    for name, file in files.items():
        file.write_text(f"{signer(name).public_key}\n{publisher(name).public_key}\n")
    empty.json("people", "roster", "new", roster, by="root-0")
    about = ("--org", "research")
    dana, sam = str(files["dana"]), str(files["sam"])
    empty.json("people", "roster", "add", roster, "--id", "dana", *about, "--key", dana, "--publishing-key", dana)

    def keys() -> tuple[str, ...]:
        return tuple(empty.json("people", "roster", "show", roster)["people"][0]["keys"])

    def change(*options: str, code: int = 0) -> None:
        empty.json("people", "roster", "set", roster, "--id", "dana", *options, code=code)

    old = str(signer("dana").public_key), str(publisher("dana").public_key)
    new = str(signer("sam").public_key), str(publisher("sam").public_key)
    assert keys() == old
    change("--publishing-key", sam)
    assert keys() == (old[0], new[1])
    # A new signing key comes from a new seed: the old seed's publishing key doesn't outlive it.
    change("--key", new[0])
    assert keys() == (new[0],)
    change("--key", dana, "--publishing-key", old[1])
    assert keys() == old
    (empty.folder / "words.pub").write_text("not a key")
    (empty.folder / "half.pub").write_text(old[1])
    for wrong in (old[1], str(empty.folder / "half.pub"), str(empty.folder / "words.pub"), "nowhere.pub"):
        change("--key", wrong, code=2)
    change("--publishing-key", old[0], code=2)
    change("--key", "rsa:AAAA", code=6)
    assert keys() == old


# --- sealing ----------------------------------------------------------------------------------------------------------


def test_seal_registers_a_version_that_anybody_can_inspect(place: Place) -> None:
    made = place.seal()
    assert (made["model"], made["version"]) == ("minilm", 1)
    shown = place.json("verify", str(place.folder / "sealed"), "--publisher", str(publisher("dana").public_key))
    assert (shown["manifest"], shown["objects"], shown["opened"]) == (made["manifest"], 2, None)
    place.json("verify", made["sealed"], "--publisher", str(publisher("sam").public_key), code=6)
    (place.folder / "dana.pub").write_text(f"{signer('dana').public_key}\n{publisher('dana').public_key}\n")
    named = place.json("verify", made["sealed"], "--publisher", str(place.folder / "dana.pub"))
    assert named == shown
    place.json("verify", made["sealed"], "--publisher", str(signer("dana").public_key), code=2)
    second = place.seal(name="again")
    assert second["version"] == 2
    assert place.json("inspect", second["sealed"])["predecessor"] == made["manifest"]
    assert place.json("status", by="sam")["models"]["minilm"]["manifest"] == second["manifest"]


def test_an_interrupted_seal_goes_on_with_the_same_request(place: Place) -> None:
    arguments = ("seal", str(place.weights()), "--model", "minilm", "--out", str(place.folder / "sealed"))
    registering = place.deployment.forge

    def cut_off(path: str, answer: Json) -> Json:
        if path.endswith("/seal"):
            # The data key is delivered; then this process is cut off before anything is sealed.
            place.weights().joinpath("model.bin").rename(place.folder / "gone")
            place.weights().joinpath("model.bin").symlink_to("nowhere")
        return answer

    place.deployment.forge = cut_off
    assert place.json(*arguments, by="dana", code=2)["code"] == "symlink-refused"
    kept = list(Path(place.wallets["dana"]).glob("kept-*"))
    assert len(kept) == 1
    place.deployment.forge = registering
    (place.folder / "gone").replace(place.weights() / "model.bin")
    asked = len(place.deployment.requests)
    made = place.json(*arguments, by="dana")
    assert made["version"] == 1
    assert len(place.deployment.requests) == asked == 1
    assert not kept[0].exists()
    assert place.json("status", by="sam")["models"]["minilm"]["manifest"] == made["manifest"]
    # Finished is finished: the same command again doesn't find anything to go on with.
    assert place.json(*arguments, by="dana", code=9)["code"] == "destination-exists"


def test_a_recipient_opens_what_was_sealed_for_it_and_nobody_else_does(place: Place) -> None:
    for name in ("vendor", "customer", "thief"):
        place.json("recipient", "new", str(place.folder / name))
    sealed, key = str(place.folder / "sealed"), str(publisher("dana").public_key)
    place.json(
        *("seal", str(place.weights()), "--model", "minilm", "--out", sealed),
        *("--to", str(place.folder / "vendor.pub")),
        by="dana",
    )

    def opens(name: str, code: int = 0) -> Any:
        return place.json("verify", sealed, "--publisher", key, "--identity", str(place.folder / name), code=code)

    assert opens("vendor")["opened"] == 2
    assert opens("customer", code=8)["code"] == "no-stanza"
    before = {path: path.read_bytes() for path in (place.folder / "sealed").rglob("*") if path.is_file()}
    owner = ("rewrap", sealed, "--publisher", key, "--identity")
    added = place.json(*owner, str(place.folder / "vendor"), "--add", str(place.folder / "customer.pub"))
    assert len(added["recipients"]) == 2
    assert opens("customer")["opened"] == 2
    changed = {path.name for path, data in before.items() if path.read_bytes() != data}
    assert changed == {"recipients.json"}
    assert place.json(*owner, str(place.folder / "thief"), code=8)["code"] == "no-stanza"
    vendor = place.json("recipient", "show", str(place.folder / "vendor"))["digest"]
    left = place.json(*owner, str(place.folder / "customer"), "--remove", vendor)
    assert vendor not in left["recipients"]
    assert opens("vendor", code=8)["code"] == "no-stanza"
    assert opens("customer")["opened"] == 2


def test_the_keyring_refuses_what_it_does_not_know_and_what_is_older(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRONGROOM_KEYRING", str(place.folder / "ring" / "keyring.json"))
    place.json("recipient", "new", str(place.folder / "host"))
    key, host = str(publisher("dana").public_key), str(place.folder / "host")
    to = ("--to", f"{host}.pub")
    first = place.seal(name="first.sealed", options=to)["sealed"]
    with pytest.raises(StrongroomError, match="no keyring"):
        open_sealed(first)
    place.json("keyring", "add", first, "--publisher", key, "--identity", host)
    with open_sealed(first) as model:
        assert {file.name for file in model.files()} == {"config.json", "model.bin"}
    second = place.seal(name="second.sealed", options=to)["sealed"]
    place.json("keyring", "add", second, "--publisher", key, "--identity", host)
    assert place.json("keyring", "ls")["models"][0]["least_version"] == 2
    with pytest.raises(OlderVersionError):
        open_sealed(first)
    place.json("keyring", "rm", "minilm")
    with pytest.raises(StrongroomError, match="how to open"):
        open_sealed(second)
    (place.folder / "ring" / "keyring.json").chmod(0o666)
    with pytest.raises(StrongroomError, match="others can write"):
        open_sealed(second)


def test_sealing_does_not_begin_without_a_publishing_key_in_the_roster(place: Place) -> None:
    plain = {name: (signer(name).public_key,) for name in PEOPLE}
    place.deployment.change_roster(lambda one: replace(one, keys=plain[one.id]))
    arguments = ("seal", str(place.weights()), "--model", "minilm", "--out", str(place.folder / "sealed"))
    told = place.json(*arguments, by="dana", code=3)
    assert (told["code"], "publishing key" in told["message"]) == ("not-in-roster", True)
    assert place.deployment.requests == {}
    assert not (place.folder / "sealed").exists()


def approve_what_waits(place: Place, name: str) -> None:
    """Approve the only request, past the command."""
    digest, stored = next(iter(place.deployment.requests.items()))
    body: Json = {"envelope": sign(APPROVAL_TYPE, stored.envelope.payload, signer(name)).to_json()}
    place.deployment.call("POST", f"/v1/requests/{digest}/approvals", body=body)


def test_sealing_waits_for_approvals_or_does_not_begin(place: Place) -> None:
    arguments = ("seal", str(place.weights()), "--model", "atlas", "--out", str(place.folder / "atlas"))
    assert place.json(*arguments, by="dana", code=4)["code"] == "approvals-needed"
    assert place.deployment.requests == {}
    waits = iter(["sam", "rina"])
    place.deployment.while_waiting = lambda: approve_what_waits(place, next(waits))
    result = place.run(*arguments, "--wait", by="dana")
    assert result.exit_code == 0, result.output
    assert "waiting: still needed" in result.stderr
    assert "sealed `atlas` version 1" in result.stdout


@pytest.mark.parametrize("members", [{"training": ()}, {"nda": None}, {"tier": 0}, {"conflict": "HR-17"}])
def test_sealing_goes_on_waiting_when_an_approval_does_not_count(place: Place, members: dict[str, object]) -> None:
    place.deployment.vet("sam", **members)
    steps: Iterator[Callable[[], None]] = iter(
        [
            lambda: approve_what_waits(place, "sam"),
            lambda: approve_what_waits(place, "rina"),
            lambda: place.deployment.vet("sam"),
        ]
    )

    def next_step() -> None:
        next(steps)()

    place.deployment.while_waiting = next_step
    out = str(place.folder / "atlas")
    result = place.run("seal", str(place.weights()), "--model", "atlas", "--out", out, "--wait", by="dana")
    assert result.exit_code == 0, result.output
    assert next(steps, None) is None


def test_sealing_ends_when_somebody_denies(place: Place) -> None:
    def deny() -> None:
        digest = next(iter(place.deployment.requests))
        assert place.run("deny", digest, "--yes", by="sam").exit_code == 0

    place.deployment.while_waiting = deny
    arguments = ("seal", str(place.weights()), "--model", "atlas", "--out", str(place.folder / "atlas"), "--wait")
    assert place.json(*arguments, by="dana", code=3)["code"] == "request-denied"
    assert not (place.folder / "atlas").exists()


def test_a_delivery_that_the_keeper_did_not_sign_is_refused(place: Place) -> None:
    def forge(path: str, answer: Json) -> Json:
        if not path.endswith("/seal"):
            return answer
        assert isinstance(answer, dict)
        delivery = answer["delivery"]
        assert isinstance(delivery, dict)
        payload = Envelope(str(delivery["payloadType"]), b"", ())
        body = sign(payload.kind, json.dumps({"v": 1}).encode(), signer("mallory")).to_json()
        return {"delivery": body}

    place.deployment.forge = forge
    arguments = ("seal", str(place.weights()), "--model", "minilm", "--out", str(place.folder / "sealed"))
    assert place.json(*arguments, by="dana", code=6)["code"] == "bad-signature"
    assert not (place.folder / "sealed").exists()


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_request_goes_from_asking_to_ready(place: Place) -> None:
    place.seal()
    digest = place.ask("--uses", "5", "--for", "8h")
    shown = place.run("request", "show", digest[7:19], by="sam")
    for said in ("dana of research", "evaluate, ticket T-7", "up to 5 times", "approved by nobody"):
        assert said in shown.output
    waiting = place.json("explain", digest, by="dana")
    assert waiting["outcome"] == "refused"
    failed = next(check for check in waiting["checks"] if not check["passed"])
    assert (failed["step"], failed["reason"]) == ("4.9", "quorum-not-met")
    assert "approver-security" in failed["remedy"]

    seen = place.run("approve", digest, by="sam", text="y\n")
    assert seen.exit_code == 0
    assert "isolation at least vm-simulated" in seen.output
    assert place.json("approve", digest, "--yes", by="rina")["approved_by"] == ["sam"]
    assert place.json("request", "show", digest, by="dana")["approved_by"] == ["sam", "rina"]
    ready = place.json("explain", digest, by="dana")
    assert (ready["outcome"], ready["checks"][-1]["reason"]) == ("ready", "enclave-missing")
    assert "ready: it is allowed once" in place.run("explain", digest, by="dana").output
    listed = place.json("request", "ls", by="olga")["requests"]
    assert [(one["request"], one["approvals"]) for one in listed if one["action"] == "open-in-enclave"] == [(digest, 2)]


def test_nobody_approves_their_own_request_nor_without_saying_yes(place: Place) -> None:
    place.seal()
    digest = place.ask()
    # Refused before anybody is asked to confirm.
    assert place.run("approve", digest, by="dana", text="").exit_code == 3
    assert place.json("approve", digest, "--yes", by="dana", code=3)["code"] == "self-approval"
    assert place.run("approve", digest, by="sam", text="n\n").exit_code == 1
    assert place.json("request", "show", digest, by="sam")["approved_by"] == []


def test_the_highest_levels_take_the_models_name(place: Place) -> None:
    place.seal()
    terms = tuple(
        replace(one, level=SecurityLevel.SL4) if one.model == "minilm" else one
        for one in place.deployment.policy.models
    )
    place.deployment.next_policy(replace(place.deployment.policy, models=terms))
    digest = place.ask()
    assert place.run("approve", digest, "--yes", by="sam", text="y\n").exit_code == 2
    assert place.run("approve", digest, by="sam", text="minilm\n").exit_code == 0


def test_an_approver_refuses_what_changed_since_it_was_asked(place: Place) -> None:
    place.seal()
    digest = place.ask()
    place.deployment.change_roster(lambda one: replace(one, active=False) if one.id == "olga" else one)
    assert place.json("approve", digest, "--yes", by="sam", code=9)["code"] == "roster-changed"
    # To stop it needs no newest roster.
    assert place.json("deny", digest, "--yes", by="sam")["log_index"] > 0
    again = place.ask()
    place.deployment.next_policy(place.deployment.policy)
    assert place.json("approve", again, "--yes", by="sam", code=9)["code"] == "policy-changed"


def test_an_approver_refuses_a_requester_who_saw_another_log(place: Place) -> None:
    place.seal()
    digest = place.ask()
    stored = place.deployment.requests[digest]
    for size in (3, 10_000):
        lied = replace(Request.parse(stored.envelope.payload), log=LogHead(size=size, root=Digest.of(b"another")))
        envelope = sign(REQUEST_TYPE, lied.to_bytes(), signer("dana"))
        place.deployment.call("POST", "/v1/requests", body={"request": envelope.to_json()})
        wanted = "log-forked" if size == 3 else "log-withheld"
        assert place.json("approve", str(envelope.digest), "--yes", by="sam", code=6)["code"] == wanted
    assert place.json("approve", digest, "--yes", by="sam")["log_index"] > 0


def test_only_the_bytes_that_were_asked_for_are_signed(place: Place) -> None:
    place.seal()
    wanted, other = place.ask(), place.ask("--uses", "9")

    def swap(path: str, answer: Json) -> Json:
        return place.deployment.call("GET", f"/v1/requests/{other}") if path == f"/v1/requests/{wanted}" else answer

    place.deployment.forge = swap
    assert place.json("approve", wanted, "--yes", by="sam", code=6)["code"] == "foreign-request"
    place.deployment.forge = lambda _path, answer: answer
    assert place.json("request", "show", other, by="sam")["approved_by"] == []


def test_forged_voices_are_counted_as_what_they_are(place: Place) -> None:
    place.seal()
    digest = place.ask()
    stored = place.deployment.requests[digest]
    stored.approvals.append(sign(APPROVAL_TYPE, stored.envelope.payload, signer("mallory")))
    stored.approvals.append(sign(APPROVAL_TYPE, b"{}", signer("sam")))
    shown = place.json("request", "show", digest, by="rina")
    assert (shown["approved_by"], shown["unverified"]) == ([], 2)


def test_what_the_rule_does_not_allow_is_not_even_asked(place: Place) -> None:
    create = ("request", "create", "--model", "minilm", "--image", "embedder", "--purpose", "serve")
    assert place.json(*create, by="dana", code=8)["message"].startswith("no version")
    place.seal()
    assert place.json(*create, "--for", "9d", by="dana", code=2)["code"] == "usage"
    assert place.json(*create, "--uses", "5000", by="dana", code=2)["code"] == "usage"
    assert place.json(*create, "--on", "ffff", by="dana", code=8)["code"] == "not-found"
    unknown = ("request", "create", "--model", "minilm", "--image", "other", "--purpose", "serve")
    assert place.json(*unknown, by="dana", code=8)["code"] == "not-found"
    assert place.run(*create[:-1], "fun", by="dana").exit_code == 2
    named = place.json(*create, "--on", attester().record().platform[:12], by="dana")
    assert named["approvals_needed"] == 2


def test_somebody_who_is_not_in_the_roster_signs_nothing(place: Place, tmp_path: Path) -> None:
    place.seal()
    place.wallets["eve"] = place.deployment.wallet(tmp_path, "eve")
    create = ("request", "create", "--model", "minilm", "--image", "embedder", "--purpose", "serve")
    assert place.json(*create, by="eve", code=3)["code"] == "not-in-roster"
    assert place.json("approve", place.ask(), "--yes", by="eve", code=3)["code"] == "not-in-roster"


# --- control ----------------------------------------------------------------------------------------------------------


def test_one_person_freezes_and_a_quorum_resumes(place: Place) -> None:
    place.seal()
    assert place.run("freeze", "minilm", "--ticket", "INC-1", by="sam").exit_code == 0
    assert place.json("status", by="dana")["models"]["minilm"]["frozen"] is True
    asked = place.json("resume", "minilm", by="dana", code=4)
    digest = asked["request"]
    assert place.json("resume", "--request", digest, by="dana", code=4)["code"] == "quorum-not-met"
    for name in ("sam", "rina"):
        place.json("approve", digest, "--yes", by=name)
    place.json("resume", "--request", digest, by="dana")
    assert place.json("status", by="dana")["models"]["minilm"]["frozen"] is False
    assert place.json("resume", "--request", digest, by="dana", code=3)["code"] == "grant-spent"


def test_a_grant_and_a_platform_are_revoked(place: Place) -> None:
    place.seal()
    digest = place.ask()
    for name in ("sam", "rina"):
        place.json("approve", digest, "--yes", by=name)
    place.json("grant", "revoke", digest, by="sam")
    refused = place.json("explain", digest, by="dana")
    assert "request-denied" in {check["reason"] for check in refused["checks"]} | {
        other["reason"] for other in refused["others"]
    }
    place.json("enclave", "revoke", attester().record().platform, "--model", "minilm", by="sam")
    assert attester().record().platform in place.deployment.keeper.journal.ledger.revoked_platforms
    assert place.run("grant", "revoke", by="sam").exit_code == 2
    assert place.run("grant", "revoke", digest, "--request", digest, by="sam").exit_code == 2
    assert place.run("enclave", "revoke", attester().record().platform, by="sam").exit_code == 2


def test_the_wrong_verb_does_not_carry_out_a_request(place: Place) -> None:
    place.seal()
    digest = place.ask()
    assert place.json("resume", "--request", digest, by="dana", code=2)["code"] == "usage"


# --- trust ------------------------------------------------------------------------------------------------------------


def test_every_verb_notices_a_rolled_back_log(place: Place) -> None:
    place.seal()
    digest = place.ask()
    place.json("status", by="sam")
    entries = place.deployment.log.entries
    shown = place.deployment.log.checkpoint(len(entries) - 2).decode()

    def roll_back(path: str, answer: Json) -> Json:
        return {**answer, "checkpoint": shown} if path == "/v1/state" and isinstance(answer, dict) else answer

    place.deployment.forge = roll_back
    for arguments in (("status",), ("approve", digest, "--yes"), ("freeze", "minilm"), ("people", "ls")):
        assert place.json(*arguments, by="sam", code=6)["code"] == "log-rolled-back"
    # Somebody who never looked before can't know; the next approver's own memory does.
    assert place.json("status", by="olga")["log"]["size"] == len(entries) - 2


def test_a_dismissed_approver_cannot_be_brought_back(place: Place) -> None:
    before = dict(place.deployment.documents)
    place.deployment.change_roster(lambda one: replace(one, active=one.id != "sam"))
    place.json("status", by="rina")

    def old_roster(path: str, answer: Json) -> Json:
        if path != "/v1/state" or not isinstance(answer, dict):
            return answer
        return {**answer, "documents": {kind: envelope.to_json() for kind, envelope in before.items()}}

    place.deployment.forge = old_roster
    assert place.json("people", "ls", by="rina", code=6)["code"] == "document-rolled-back"


def test_a_locked_keeper_shows_and_has_its_own_exit_code(place: Place) -> None:
    place.deployment.keeper.lock("asked")
    result = place.run("status", by="dana")
    assert result.exit_code == 5
    assert "LOCKED: asked" in result.stdout
    assert place.json("freeze", "minilm", by="sam", code=5)["code"] == "locked"


def test_what_was_seen_stands_in_the_wallet_before_anything_is_signed(place: Place) -> None:
    place.json("freeze", "minilm", by="sam")
    data = (place.wallets["sam"] / "seen.json").read_bytes()
    assert Seen.parse(data).log.size > 0
    (place.wallets["sam"] / "seen.json").chmod(0o644)
    assert place.json("status", by="sam", code=2)["code"] == "wallet-unusable"


def test_a_platform_that_the_keeper_did_not_enrol_is_not_asked_for(place: Place) -> None:
    place.seal()
    record = place.deployment.platforms[0]
    place.deployment.platforms[0] = sign(record.kind, record.payload, signer("mallory"))
    create = ("request", "create", "--model", "minilm", "--image", "embedder", "--purpose", "serve")
    assert place.json(*create, by="dana", code=6)["code"] == "bad-signature"


def test_a_record_that_its_checkpoint_does_not_cover_is_noticed(place: Place) -> None:
    old = place.deployment.log.checkpoint(2).decode()

    def lie(path: str, answer: Json) -> Json:
        return {**answer, "checkpoint": old} if path == "/v1/requests" and isinstance(answer, dict) else answer

    place.deployment.forge = lie
    assert place.json("freeze", "minilm", by="sam", code=6)["code"] == "state-mismatch"


# --- the shell --------------------------------------------------------------------------------------------------------


def test_keygen_protects_a_key_with_a_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Argon2Cost, "__init__", _cheap)
    text = "six random words would be better\n"
    arguments = ["people", "keygen", "--out", str(tmp_path / "w"), "--id", "dana", "--protect"]
    made = CliRunner().invoke(main, arguments, input=text * 2)
    assert made.exit_code == 0, made.output
    signing, publishing = (PublicKey.parse(line) for line in made.stdout.splitlines()[-2:])
    assert (signing.hybrid, publishing.hybrid) == (False, True)
    assert WalletFolder(tmp_path / "w", no_passphrase).identity.publishing_key == publishing
    assert "words" not in made.output
    assert b"PRIVATE" not in (tmp_path / "w" / "signing.key").read_bytes()
    assert CliRunner().invoke(main, arguments, input=text * 2).exit_code == 2


def _cheap(cost: Argon2Cost, *_rest: int) -> None:
    for name, value in (("iterations", 1), ("lanes", 1), ("memory_kib", 8192)):
        object.__setattr__(cost, name, value)


def test_certify_binds_a_wallet_on_the_deployments_host(tmp_path: Path, empty: Place) -> None:
    home = tmp_path / "home"
    (home / "broker").mkdir(parents=True)
    genesis: Genesis = empty.deployment.genesis
    (home / "genesis.json").write_bytes(genesis.to_bytes())
    DevCa.create(home / "broker" / "ca", genesis.deployment, at=empty.deployment.clock.now())
    WalletFolder.create(tmp_path / "new", PersonId("new"), os.urandom, passphrase=None)
    wallet = str(tmp_path / "new")
    arguments = ("people", "certify", "--home", str(home), "--out", wallet)
    assert empty.json(*arguments, "--id", "dana", code=2)["code"] == "usage"
    told = empty.json(*arguments, "--id", "new")
    assert told["genesis"] == str(genesis.digest)
    certificate = (tmp_path / "new" / "tls.crt").read_bytes()
    assert certificate.startswith(b"-----BEGIN CERTIFICATE")


def test_pin_refuses_a_genesis_with_another_digest(empty: Place, tmp_path: Path) -> None:
    (tmp_path / "genesis.json").write_bytes(empty.deployment.genesis.to_bytes())
    (tmp_path / "ca.pem").write_text("certificate")
    WalletFolder.create(tmp_path / "far", PersonId("far"), os.urandom, passphrase=None)
    empty.wallets["far"] = tmp_path / "far"
    arguments = ("people", "pin", "--genesis", str(tmp_path / "genesis.json"), "--ca", str(tmp_path / "ca.pem"))
    url = ("--url", "https://vault.example:8443")
    assert empty.json(*arguments, *url, "--digest", str(Digest.of(b"x")), by="far", code=2)["code"] == "usage"
    told = empty.json(*arguments, *url, "--digest", str(empty.deployment.genesis.digest), by="far")
    assert told["root_holder"] is False


def test_errors_are_a_paragraph_or_json_and_a_stable_code(tmp_path: Path) -> None:
    missing = ["status", "--as", str(tmp_path / "nothing")]
    said = CliRunner().invoke(main, missing)
    assert (said.exit_code, said.stdout) == (2, "")
    assert said.stderr.startswith("strongroom: there is no wallet at")
    told = json.loads(CliRunner().invoke(main, [*missing, "--json"]).stdout)
    assert (told["ok"], told["code"], told["exit_code"]) == (False, "wallet-unusable", 2)


def test_every_verb_is_there_and_says_what_it_does() -> None:
    context = click.Context(main)
    assert main.list_commands(context) == sorted(VERBS)
    for verb in VERBS:
        command = main.get_command(context, verb)
        assert command is not None
        assert command.name == verb
        assert command.help
        assert CliRunner().invoke(main, [verb, "--help"]).exit_code == 0
    assert "unknown" not in CliRunner().invoke(main, ["--help"]).output
    assert CliRunner().invoke(main, ["nothing"]).exit_code == 2


def test_a_default_wallet_comes_from_the_environment(place: Place) -> None:
    result = CliRunner().invoke(main, ["status", "--json"], env={"STRONGROOM_WALLET": str(place.wallets["sam"])})
    assert result.exit_code == 0
    assert json.loads(result.stdout)["locked"] is False
