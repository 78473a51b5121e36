"""Policies tested, explained, compared and tried on recorded decisions; and what `explain` says of a release."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from strongroom.access.engine import DEFAULT_CEDAR
from strongroom.access.policy import POLICY_TYPE, Factor, Policy, Rule
from strongroom.access.request import Action
from strongroom.access.self_test import PolicyUnsafeError
from strongroom.client import wiring
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.default_policy import default_policy
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import DeniedError, StrongroomError, UnavailableError
from strongroom.core.ids import PersonId
from strongroom.core.secret import SecretBytes
from strongroom.keeper.adoption import adopt
from strongroom.keys.recipient import RecipientKey
from strongroom.release.decided import Decided
from strongroom.release.documents import DocumentKind
from strongroom.release.dossier import Dossier
from support.deployment import DAY, LEVEL, ROOTS
from support.place import Shell
from support.policies import PolicyDeployment, Stored
from support.room import MANIFEST

pytestmark = pytest.mark.integration
TWO = (Factor(role="approver-security", count=1), Factor(role="approver-research", count=1))
EXPORT = Rule(
    action=Action.EXPORT_PLAINTEXT,
    level=LEVEL,
    requester_role="requester",
    factors=TWO,
    requester_tier=2,
    approver_tier=2,
    max_window=7 * DAY,
    max_uses=1,
)


def nothing() -> SecretBytes:
    raise StrongroomError("no passphrase is needed")


class Desk(Shell):
    """A deployment that released, exported and refused, everybody's wallets, and a shell."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.deployment = PolicyDeployment()
        self.wallets = {name: self._wallet(name) for name in ("dana", "root-0", "root-1")}
        room = self.deployment.room
        self.deployment.run(room.furnish())
        terms = tuple(replace(one, export=True) for one in room.policy.models)
        self.adopt(replace(room.policy, rules=(*room.policy.rules, EXPORT), models=terms))
        self.released = self.deployment.run(self._release())
        self.refused = self.deployment.run(self._refuse())

    def _wallet(self, name: str) -> Path:
        path = self.folder / name
        WalletFolder.create(path, PersonId(name), lambda _size: Digest.of(name.encode()).value, passphrase=None)
        WalletFolder(path, nothing).bind("https://127.0.0.1:8443", self.deployment.room.genesis, b"not asked")
        return path

    async def _release(self) -> int:
        room = self.deployment.room
        request = await room.ask(max_uses=5)
        delivery, key = await room.release(request)
        key.wipe()
        self.deployment.requests[str(request.digest)] = Stored(request, await room.approvals(request))
        self.granted = request.digest
        return delivery.log_index

    async def _refuse(self) -> int:
        """Have a release refused at step 4.9: one of the two approvals is missing."""
        room = self.deployment.room
        request = await room.ask()
        with pytest.raises(DeniedError):
            await room.keeper.release(await room.dossier(request, RecipientKey(), "sam"))
        return len(room.log.entries) - 1

    async def export(self, request: Envelope, key: RecipientKey) -> int:
        room = self.deployment.room
        await room.keeper.export(
            Dossier(
                request=request,
                approvals=await room.approvals(request),
                wrapped=room.wrapped,
                recipient_key=key.public,
            )
        )
        return len(room.log.entries) - 1

    def following(self, **members: Any) -> Policy:
        """Return the successor of the policy in force."""
        policy = self.deployment.room.policy
        before = Digest.of(policy.to_bytes())
        return replace(policy, epoch=policy.epoch + 1, predecessor=before, **members)

    def adopt(self, policy: Policy) -> None:
        """Take the next policy into force."""
        room = self.deployment.room
        room.policy = replace(policy, epoch=room.policy.epoch + 1, predecessor=Digest.of(room.policy.to_bytes()))
        signed = sign(POLICY_TYPE, room.policy.to_bytes(), *ROOTS[:2])
        self.deployment.run(adopt(room.keeper, room.clock, DocumentKind.POLICY, signed))

    def with_rule(self, action: Action, **members: Any) -> Policy:
        """Return the successor with one rule changed."""
        rules = self.deployment.room.policy.rules
        return self.following(rules=tuple(replace(r, **members) if r.action is action else r for r in rules))

    def file(self, value: Policy | object, name: str = "draft.json") -> str:
        """Write a policy or a JSON value."""
        path = self.folder / name
        path.write_bytes(value.to_bytes() if isinstance(value, Policy) else json.dumps(value).encode())
        return str(path)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A deployment with a history."""
    made = Desk(tmp_path)
    monkeypatch.setattr(wiring, "connect", lambda _wallet: made.deployment)
    yield made
    made.deployment.close()


# --- policy test ------------------------------------------------------------------------------------------------------


def test_a_policy_is_tested_with_what_all_must_pass_and_with_its_author_s_cases(desk: Desk) -> None:
    cases = {
        "v": 1,
        "cases": [
            {"name": "all agree", "action": "open-in-enclave", "model": "minilm", "expect": "allow"},
            {
                "name": "one is missing",
                "action": "open-in-enclave",
                "model": "minilm",
                "approvers": [{"id": "sam", "roles": ["approver-security"]}],
                "expect": "deny",
                "reason": "quorum-not-met",
            },
            {
                "name": "on leave",
                "action": "seal",
                "model": "minilm",
                "requester": {"employment": "leave"},
                "expect": "deny",
                "reason": "requester-employment",
            },
            {"name": "unknown", "action": "seal", "model": "gpt", "expect": "deny", "reason": "no-rule"},
        ],
    }
    draft = desk.file(desk.following())
    told = desk.json("policy", "test", draft, "--cases", desk.file(cases, "cases.json"))
    assert (told["ok"], told["failed"], len(told["cases"])) == (True, [], 4)
    cases["cases"].append({"name": "hope", "action": "seal", "model": "gpt", "expect": "allow"})  # type: ignore[attr-defined]  # the list above
    said = desk.run("policy", "test", draft, "--cases", desk.file(cases, "cases.json"))
    assert said.exit_code == 3
    assert "4 of 5 cases" in said.output
    assert "FAIL  hope" in said.output
    assert "deny no-rule" in said.output


def test_a_policy_without_a_brake_fails_its_test_and_is_neither_saved_signed_nor_adopted(desk: Desk) -> None:
    unsafe = desk.following(cedar=DEFAULT_CEDAR.replace("!context.denied", "true"))
    draft = desk.file(unsafe)
    said = desk.run("policy", "test", draft)
    assert said.exit_code == 3
    assert "must be denied, and is allowed: `seal` of `minilm`" in said.output
    assert "although it was denied or revoked" in said.output
    assert desk.json("policy", "model", draft, "--remove", "minilm", code=6)["code"] == "policy-unsafe"
    assert desk.json("sign", "policy", draft, "--yes", by="root-0", code=6)["code"] == "policy-unsafe"
    assert desk.json("policy", "diff", draft, by="dana", code=6)["code"] == "policy-unsafe"
    entries = len(desk.deployment.room.log.entries)
    signed = sign(POLICY_TYPE, unsafe.to_bytes(), *ROOTS[:2])
    with pytest.raises(PolicyUnsafeError):
        desk.deployment.run(adopt(desk.deployment.room.keeper, desk.deployment.room.clock, DocumentKind.POLICY, signed))
    assert len(desk.deployment.room.log.entries) == entries


def test_a_malformed_case_is_named_by_its_place(desk: Desk) -> None:
    draft = desk.file(desk.following())
    good = {"name": "n", "action": "seal", "model": "minilm", "expect": "allow"}
    for wrong, where in (
        ({"requester": {"tier": 9}}, "`cases file.cases[1].requester.tier`"),
        ({"approvers": [{"id": "sam", "rolls": []}]}, "`cases file.cases[1].approvers[0]`"),
        ({"enclave": {}}, "`cases file.cases[1].enclave` means nothing"),
        ({"expect": "perhaps"}, "`cases file.cases[1].expect`"),
        ({"surprise": 1}, "`cases file.cases[1]` has members"),
    ):
        cases = desk.file({"v": 1, "cases": [good, {**good, **wrong}]}, "cases.json")
        refused = desk.json("policy", "test", draft, "--cases", cases, code=6)
        assert refused["code"] == "malformed"
        assert where in refused["message"]


# --- policy explain ---------------------------------------------------------------------------------------------------


def test_a_policy_is_explained_in_words_with_the_cedar_policies_that_allow(desk: Desk) -> None:
    said = desk.run("policy", "explain", "--action", "open-in-enclave", "--level", "SL2", by="dana").output
    assert "somebody active with the role `requester`, vetted to tier 1" in said
    assert "1 x `approver-security` and 1 x `approver-research`: different people" in said
    assert "allowed for `output` access by `enclave-attested`" in said
    draft = desk.file(default_policy(desk.deployment.room.genesis.digest))
    told = desk.json("policy", "explain", draft, "--action", "export-plaintext")
    texts = {one["level"]: "\n".join(one["text"]) for one in told["explained"]}
    assert "nobody" in texts["SL5"]
    assert "security keys" in texts["SL3"]
    assert "at most 20 with `copy` access" in texts["SL3"]
    assert "`quorum-exports`" in texts["SL4"]
    shut = f'{DEFAULT_CEDAR}\n@id("no")\nforbid (principal, action == Strongroom::Action::"resume", resource);'
    told = desk.run("policy", "explain", desk.file(desk.following(cedar=shut)), "--action", "resume", "--level", "SL2")
    assert "NOBODY    can: policy-refuses" in told.output


# --- policy diff ------------------------------------------------------------------------------------------------------


def test_a_looser_draft_shows_what_it_would_have_allowed(desk: Desk) -> None:
    draft = desk.file(desk.with_rule(Action.OPEN_IN_ENCLAVE, factors=TWO[:1]))
    told = desk.json("policy", "diff", draft, by="dana")
    assert [one["mark"] for one in told["differences"]] == ["LOOSER"]
    tried = told["decisions"]
    assert (tried["tried"], tried["missing"], tried["unknown"], tried["not_reproduced"]) == (2, 0, 0, [])
    assert [(one["index"], one["was"], one["would_be"]) for one in tried["changed"]] == [
        (desk.refused, "refused", "allowed")
    ]
    assert tried["changed"][0]["recorded_reasons"] == ["quorum-not-met"]
    said = desk.run("policy", "diff", draft, "--fail-on-looser", by="dana")
    assert said.exit_code == 3
    assert f"#{desk.refused}" in said.output
    assert "WOULD BE ALLOWED (it was refused for quorum-not-met)" in said.output


def test_a_tighter_draft_shows_what_it_would_have_refused(desk: Desk) -> None:
    draft = desk.file(desk.with_rule(Action.OPEN_IN_ENCLAVE, requester_tier=5))
    told = desk.json("policy", "diff", draft, "--fail-on-looser", by="dana")
    assert [one["mark"] for one in told["differences"]] == ["TIGHTER"]
    (changed,) = told["decisions"]["changed"]
    assert (changed["index"], changed["would_be"]) == (desk.released, "refused")
    assert changed["reasons"] == ["requester-tier-too-low"]


def test_a_changed_cedar_text_is_shown_and_may_be_looser(desk: Desk) -> None:
    cedar = f'{DEFAULT_CEDAR}\n@id("weekdays")\nforbid (principal, action, resource) when {{ resource.level == 5 }};'
    draft = desk.file(desk.following(cedar=cedar))
    told = desk.json("policy", "diff", draft, "--fail-on-looser", by="dana", code=3)
    assert [one["mark"] for one in told["differences"]] == ["CHANGED"]
    assert '+@id("weekdays")' in told["cedar"]
    assert told["decisions"]["changed"] == []


def test_a_draft_like_the_policy_in_force_changes_nothing(desk: Desk) -> None:
    said = desk.run("policy", "diff", desk.file(desk.following()), "--fail-on-looser", by="dana")
    assert said.exit_code == 0
    assert "no difference" in said.output
    assert "nothing would have come out otherwise" in said.output


def test_decisions_are_tried_by_the_policy_of_their_day(desk: Desk) -> None:
    """The control of an old decision is made by the Cedar policies that were in force then, not by today's."""
    desk.adopt(desk.with_rule(Action.OPEN_IN_ENCLAVE, factors=TWO[:1]))
    told = desk.json("policy", "diff", desk.file(desk.following()), by="dana")["decisions"]
    assert (told["tried"], told["not_reproduced"], told["no_control"]) == (2, [], [])
    # What was refused under the old rule is allowed under the one in force now, of which the draft is a copy.
    assert [one["index"] for one in told["changed"]] == [desk.refused]
    desk.deployment.room.documents.kept = {
        key: kept for key, kept in desk.deployment.room.documents.kept.items() if key[1] == _in_force(desk, key[0])
    }
    told = desk.json("policy", "diff", desk.file(desk.following()), by="dana")["decisions"]
    assert told["no_control"] == [desk.released, desk.refused]


def _in_force(desk: Desk, kind: str) -> Digest | None:
    documents = desk.deployment.ask("status")["documents"]
    assert isinstance(documents, dict)
    one = documents.get(kind)
    return Digest.parse(str(one["digest"])) if isinstance(one, dict) else None


# --- decisions that aren't believed -----------------------------------------------------------------------------------


def test_a_decision_that_the_log_does_not_hold_is_not_counted(desk: Desk) -> None:
    record = Decided.parse(desk.deployment.room.decisions.kept[-1])
    desk.deployment.forged = (replace(record, allowed=True).to_bytes(),)
    draft = desk.file(desk.following())
    told = desk.json("policy", "diff", draft, by="dana")["decisions"]
    assert (told["tried"], told["unknown"], told["missing"]) == (2, 1, 0)
    assert "1 handed in aren't in that part of the log" in desk.run("policy", "diff", draft, by="dana").output


def test_a_decision_that_is_withheld_is_missed(desk: Desk) -> None:
    desk.deployment.withheld = 1
    told = desk.json("policy", "diff", desk.file(desk.following()), by="dana")["decisions"]
    assert (told["tried"], told["missing"]) == (1, 1)


def test_entries_left_out_of_the_log_are_found(desk: Desk) -> None:
    draft = desk.file(desk.following())
    entries = list(desk.deployment.room.log.entries)
    answers = [to_base64(one) for one in entries]
    swapped = [*answers[:-2], answers[-1], answers[-2]]
    doubled = [*answers[:-1], answers[-2]]
    for wrong in (swapped, doubled):
        desk.deployment.lies["/v1/log/entries"] = {"start": 0, "entries": wrong}
        assert desk.json("policy", "diff", draft, by="dana", code=6)["code"] == "bad-proof"
    desk.deployment.lies["/v1/log/entries"] = {"start": 0, "entries": []}
    assert desk.json("policy", "diff", draft, by="dana", code=6)["code"] == "malformed"


def test_a_root_holder_tries_a_draft_on_an_auditor_s_file(desk: Desk) -> None:
    draft = desk.file(desk.with_rule(Action.OPEN_IN_ENCLAVE, factors=TWO[:1]))
    kept = desk.folder / "decisions.jsonl"
    written = desk.json("policy", "decisions", "--out", str(kept), by="dana")
    assert (written["decisions"], written["all_kept"]) == (2, True)
    newest = str(desk.folder / "newest.jsonl")
    written = desk.json("policy", "decisions", "--out", newest, "--last", "1", by="dana")
    assert (written["decisions"], written["all_kept"]) == (1, False)
    assert kept.stat().st_mode & 0o077 == 0
    assert desk.json("policy", "decisions", "--out", str(kept), by="dana", code=9)["code"] == "conflict"
    desk.deployment.auditor = False
    said = desk.run("policy", "diff", draft, by="root-0")
    assert said.exit_code == 0
    assert "not known; decisions are shown to auditors" in said.output
    told = desk.json("policy", "diff", draft, "--decisions", str(kept), by="root-0")["decisions"]
    assert [one["index"] for one in told["changed"]] == [desk.refused]
    kept.write_bytes(kept.read_bytes().replace(b'"allowed":false', b'"allowed":true'))
    told = desk.json("policy", "diff", draft, "--decisions", str(kept), by="root-0")["decisions"]
    assert (told["tried"], told["missing"], told["unknown"]) == (1, 1, 1)
    desk.json("policy", "decisions", "--out", str(desk.folder / "no.jsonl"), by="root-0", code=3)


# --- signing ----------------------------------------------------------------------------------------------------------


def test_who_signs_a_policy_sees_what_it_changes_before(desk: Desk) -> None:
    draft = desk.file(desk.with_rule(Action.OPEN_IN_ENCLAVE, factors=TWO[:1]))
    before = Path(draft).read_bytes()
    said = desk.run("sign", "policy", draft, by="root-0", text="n\n")
    assert said.exit_code == 1
    assert Path(draft).read_bytes() == before
    assert "LOOSER   open-in-enclave at SL2: approved by 1 x `approver-security`" in said.output
    assert "WOULD BE ALLOWED" in said.output
    kept = desk.folder / "decisions.jsonl"
    desk.json("policy", "decisions", "--out", str(kept), by="dana")
    desk.deployment.auditor = False
    said = desk.run("sign", "policy", draft, "--decisions", str(kept), by="root-0", text="y\n")
    assert said.exit_code == 0, said.output
    assert "WOULD BE ALLOWED" in said.output
    assert Path(draft).read_bytes() != before


def test_a_policy_is_signed_out_of_reach_of_the_deployment_beside_a_copy_of_its_predecessor(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_force = desk.file(desk.json("policy", "show", by="root-0"), "in-force.json")
    draft = desk.file(desk.with_rule(Action.OPEN_IN_ENCLAVE, factors=TWO[:1]))

    def gone(*_arguments: object, **_named: object) -> None:
        raise UnavailableError("nobody answers")

    monkeypatch.setattr(desk.deployment, "call", gone)
    refused = desk.run("sign", "policy", draft, by="root-0", text="y\n")
    assert refused.exit_code == 7
    assert "--against" in refused.output
    other = desk.file(desk.following(), "other.json")
    assert desk.run("sign", "policy", draft, "--against", other, by="root-0", text="y\n").exit_code == 2
    said = desk.run("sign", "policy", draft, "--against", in_force, by="root-0", text="y\n")
    assert said.exit_code == 0, said.output
    assert "LOOSER" in said.output
    assert "there is no log to check decisions against" in said.output


def test_a_draft_that_does_not_follow_what_came_into_force_meanwhile_is_not_signed(desk: Desk) -> None:
    draft = desk.file(desk.with_rule(Action.OPEN_IN_ENCLAVE, requester_tier=3))
    desk.json("status", by="root-0", code=0)
    desk.adopt(desk.following())
    said = desk.run("sign", "policy", draft, by="root-0", text="y\n")
    assert said.exit_code == 6
    assert "document-forked" in said.output


# --- explain ----------------------------------------------------------------------------------------------------------


def test_a_release_is_explained_as_it_was_recorded_and_checked_against_the_log(desk: Desk) -> None:
    told = desk.json("explain", f"#{desk.released}", by="dana")
    assert (told["index"], told["event"], told["outcome"]) == (desk.released, "release:data-key:released", "allowed")
    assert told["request"] == str(desk.granted)
    decision = next(check["found"] for check in told["checks"] if check["step"] == "4.9")
    assert decision.startswith("allowed by `enclave-attested`: `open-in-enclave` at SL2: ")
    assert "`approver-security` by `sam`; `approver-research` by `rina`" in decision
    assert "5 of 5 uses left" in decision
    refused = desk.json("explain", f"#{desk.refused}", by="dana")
    decision = next(check for check in refused["checks"] if check["step"] == "4.9")
    assert (refused["outcome"], decision["reason"]) == ("refused", "quorum-not-met")
    assert "`approver-research` by nobody" in decision["found"]
    said = desk.run("explain", f"#{desk.released}", by="dana").output
    assert f"log entry {desk.released}, release:data-key:released" in said
    # What it was proved by: class, worth, each statement, and the digests to ask for.
    assert "TEST WEIGHTS, no level vouched for, served to evidence of the class `vm-simulated`" in said
    assert "tpm0 by `tpm2`" in said
    proved = told["proved"]
    assert (proved["isolation"], proved["weights"]) == ("vm-simulated", "test")
    for name in ("evidence", "result", "reference_values", "appraisal_policy", "collateral"):
        assert proved[name] in said
    assert "proved" not in desk.json("explain", f"#{desk.refused}", by="dana")
    assert "pass  4.9" in said


def test_a_dry_run_says_word_for_word_what_the_record_says(desk: Desk) -> None:
    room, key = desk.deployment.room, RecipientKey()
    request = desk.deployment.run(
        room.submit(Action.EXPORT_PLAINTEXT, version=1, manifest=MANIFEST, recipient=key.digest)
    )
    approvals = desk.deployment.run(room.approvals(request))
    desk.deployment.requests[str(request.digest)] = Stored(request, approvals)
    dry = desk.json("explain", str(request.digest), by="dana")
    assert dry["outcome"] == "allowed"
    index = desk.deployment.run(desk.export(request, key))
    recorded = desk.json("explain", f"#{index}", by="dana")
    assert recorded["event"] == "release:data-key:exported"
    assert (recorded["checks"], recorded["others"]) == (dry["checks"], dry["others"])


def test_a_grant_is_explained_with_whose_word_it_stands_on_and_what_is_left(desk: Desk) -> None:
    told = desk.json("explain", str(desk.granted), by="dana")
    grant = told["grant"]
    assert (grant["approvers"], grant["uses"], grant["left"], grant["ended"]) == (["rina", "sam"], 5, 4, False)
    said = desk.run("explain", str(desk.granted), by="dana").output
    assert "on the word of rina, sam" in said
    assert "4 of 5 uses left" in said
    assert "judged now:" in said


def test_a_release_is_explained_to_auditors_alone_and_never_another_s_decision(desk: Desk) -> None:
    index = f"#{desk.released}"
    desk.deployment.auditor = False
    desk.json("explain", index, by="root-0", code=3)
    desk.deployment.auditor = True
    other = desk.deployment.call("GET", f"/v1/releases/{desk.refused}/explanation")
    desk.deployment.lies[f"/v1/releases/{desk.released}/explanation"] = other
    assert desk.json("explain", index, by="dana", code=6)["code"] == "state-mismatch"
    forged = to_base64(desk.deployment.room.log.entries[desk.refused])
    desk.deployment.lies["/v1/log/entries"] = {"start": desk.released, "entries": [forged]}
    assert desk.json("explain", index, by="dana", code=6)["code"] == "bad-proof"


def test_what_names_no_decision_is_said_to(desk: Desk) -> None:
    assert desk.json("explain", "#0", by="dana", code=8)["code"] == "not-found"
    assert desk.json("explain", "#999", by="dana", code=2)["code"] == "usage"
    for text in ("#", "#-1", "#1a", "#" + "9" * 40):
        assert desk.json("explain", text, by="dana", code=2)["code"] == "usage"


def test_an_erased_person_s_decisions_are_gone_and_the_log_still_says_that_they_were_made(desk: Desk) -> None:
    desk.deployment.room.decisions.forget(PersonId("rina"))
    assert desk.json("explain", f"#{desk.released}", by="dana", code=8)["code"] == "decision-not-kept"
    told = desk.json("policy", "diff", desk.file(desk.following()), by="dana")["decisions"]
    assert (told["tried"], told["missing"]) == (1, 1)


def test_the_model_s_owner_collection_and_export_are_drafted(desk: Desk) -> None:
    draft = desk.file(desk.following())
    more = ("--owner", "research", "--collection", "frontier", "--export", "--irrecoverable")
    desk.json("policy", "model", draft, "--add", "atlas", "--level", "SL2", "--least-isolation", "cvm", *more)
    added = desk.json("policy", "show", draft)["models"][-1]
    assert (added["model"], added["owner"], added["collection"], added["export"], added["recoverable"]) == (
        "atlas",
        "research",
        "frontier",
        True,
        False,
    )
    said = desk.run("policy", "diff", draft, by="dana").output
    assert "NEW      model `atlas` at SL2" in said
