from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import MalformedError, PendingError, StrongroomError
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.signature import Ed25519Signer, SignatureError
from strongroom.intake.attachments import AttachmentKind, read_attachment
from strongroom.intake.reviews import REVIEW_TYPE, Decision, Review, check_reviews
from strongroom.intake.rules import IntakeRefusedError, Rule
from strongroom.intake.statements import PAYLOAD_TYPE
from strongroom.intake.states import ORDER, Record, RecordsError, Standing, State, Tool, WrongStateError, begin, fold
from strongroom.intake.verdict import DeliveredFile, FileList, Verdict

AT = 1_800_000_000
ID = "0" * 32
ATLAS = ModelId("atlas")
FILES = FileList.of([DeliveredFile("b.gguf", 3, Digest.of(b"abc")), DeliveredFile("a.json", 2, Digest.of(b"{}"))])
KEYS = [Ed25519Signer.from_seed(bytes([n]) * 32) for n in range(4)]


def _walk(until: State) -> Standing:
    standing = begin(ID, ATLAS, AT)
    for state in ORDER[1 : ORDER.index(until) + 1]:
        if state is State.HASHED:
            standing = standing.step(state, AT, artifact=FILES.digest)
        else:
            standing = standing.step(state, AT, tools=(Tool("gate", "1"),))
    return standing


def test_a_delivery_walks_through_every_state() -> None:
    standing = _walk(State.SEALED)
    assert [one.state for one in standing.records] == list(ORDER)
    assert fold(standing.records) == standing
    assert [Record.parse(one.to_bytes()) for one in standing.records] == list(standing.records)


@pytest.mark.parametrize(("here", "there"), list(itertools.product(ORDER, ORDER)))
def test_no_state_is_skipped_or_repeated(here: State, there: State) -> None:
    standing = _walk(here)
    if ORDER.index(there) == ORDER.index(here) + 1:
        return
    with pytest.raises(WrongStateError):
        standing.step(there, AT)


@pytest.mark.parametrize("here", ORDER[:-1])
def test_a_refusal_is_final(here: State) -> None:
    refused = _walk(here).refuse(Rule.PICKLE_GLOBAL, AT)
    assert refused.last.rule is Rule.PICKLE_GLOBAL
    with pytest.raises(WrongStateError):
        refused.refuse(Rule.SCANNER, AT)
    with pytest.raises(WrongStateError):
        refused.step(State.SEALED, AT)


def test_what_is_sealed_cant_be_refused_afterwards() -> None:
    with pytest.raises(WrongStateError):
        _walk(State.SEALED).refuse(Rule.SCANNER, AT)


@pytest.mark.parametrize("state", [State.HASHED, State.FORMATS_CHECKED, State.SEALED])
def test_what_is_never_waived(state: State) -> None:
    with pytest.raises(StrongroomError):
        _walk(ORDER[ORDER.index(state) - 1]).waive(state, AT)


@given(st.integers(0, 6), st.data())
def test_changed_records_dont_follow(at: int, data: st.DataObject) -> None:
    records = list(_walk(State.SEALED).records)
    change = data.draw(
        st.sampled_from(["drop", "swap", "double", "artifact", "tool", "time", "model", "rule", "delivery", "waived"])
    )
    one = records[at]
    if change == "drop":
        del records[at]
    elif change == "swap":
        other = data.draw(st.integers(0, 6).filter(lambda n: n != at))
        records[at], records[other] = records[other], records[at]
    elif change == "double":
        records.insert(at, one)
    else:
        records[at] = {
            "artifact": replace(one, artifact=Digest.of(b"other")),
            "tool": replace(one, tools=(Tool("gate", "2"),)),
            "time": replace(one, at=AT - 1),
            "model": replace(one, model=ModelId("other")),
            "rule": replace(one, rule=Rule.FORM),
            "delivery": replace(one, delivery="1" * 32),
            "waived": replace(one, waived=not one.waived),
        }[change]
    if change == "drop" and at == 6:
        assert fold(records).last.state is State.REVIEWED
        return
    if at == 6 and change == "tool":
        # The newest record is named by nobody yet: the log is where its digest stands.
        assert fold(records).last.tools == (Tool("gate", "2"),)
        return
    with pytest.raises((RecordsError, WrongStateError)):
        fold(records)


def test_no_records_are_no_delivery() -> None:
    with pytest.raises(RecordsError):
        fold([])


def test_a_verdict_says_what_its_records_say() -> None:
    signer = KEYS[0]
    for standing in (_walk(State.REVIEWED), _walk(State.SEALED), _walk(State.HASHED).refuse(Rule.GGUF, AT)):
        verdict = Verdict.of(standing)
        assert Verdict.verified(verdict.signed(signer), signer.public_key) == verdict
    assert Verdict.of(_walk(State.REVIEWED)) == Verdict.of(_walk(State.SEALED))
    assert not Verdict.of(begin(ID, ATLAS, AT).refuse(Rule.LINK, AT)).accepted
    with pytest.raises(MalformedError):
        Verdict.of(_walk(State.SCANNED))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"verdict":"refused"', b'"verdict":"accepted"'),
        (b'"rule":"gguf","verdict"', b'"rule":null,"verdict"'),
        (b'"waived":[],"', b'"waived":["scanned"],"'),
        (b'"name":"atlas"', b'"name":"other"'),
    ],
)
def test_a_verdict_that_says_otherwise_is_refused(old: bytes, new: bytes) -> None:
    payload = Verdict.of(_walk(State.HASHED).refuse(Rule.GGUF, AT)).to_bytes()
    for candidate in {payload.replace(old, new, 1), payload.replace(old, new)} - {payload}:
        with pytest.raises(StrongroomError):
            Verdict.verified(sign(PAYLOAD_TYPE, candidate, KEYS[0]), KEYS[0].public_key)


def test_a_verdict_is_signed_by_the_gate() -> None:
    with pytest.raises(SignatureError):
        Verdict.verified(Verdict.of(_walk(State.REVIEWED)).signed(KEYS[1]), KEYS[0].public_key)


def test_file_lists_have_one_form() -> None:
    assert FileList.parse(FILES.to_bytes()) == FILES
    with pytest.raises(MalformedError):
        FileList.parse(FileList(FILES.files[::-1]).to_bytes())


REVIEWERS = {PersonId(f"r{n}"): [one.public_key] for n, one in enumerate(KEYS[:3])}


def _review(decision: Decision = Decision.ACCEPT, delivery: str = ID, reviewer: str = "r0") -> Review:
    standing = _walk(State.SCANNED)
    return Review(
        genesis=Digest.of(b"genesis"),
        delivery=delivery,
        reviewer=PersonId(reviewer),
        artifact=FILES.digest,
        records=standing.last.digest,
        decision=decision,
    )


def _accepts(number: int, delivery: str = ID) -> Envelope:
    return sign(REVIEW_TYPE, _review(reviewer=f"r{number}", delivery=delivery).to_bytes(), KEYS[number])


def test_reviews_need_their_number() -> None:
    accepts = [_accepts(number) for number in range(4)]
    assert check_reviews(accepts[:2], _review(), REVIEWERS, threshold=2) == {"r0", "r1"}
    for too_few in (accepts[:1], [accepts[0], accepts[0]], [accepts[0], accepts[3]], []):
        with pytest.raises(PendingError):
            check_reviews(too_few, _review(), REVIEWERS, threshold=2)
    other = _accepts(1, delivery="1" * 32)
    in_anothers_name = sign(REVIEW_TYPE, _review(reviewer="r1").to_bytes(), KEYS[0])
    for odd in (other, in_anothers_name):
        with pytest.raises(PendingError):
            check_reviews([accepts[0], odd], _review(), REVIEWERS, threshold=2)


def test_two_keys_of_one_person_are_one_reviewer() -> None:
    both = {PersonId("r0"): [one.public_key for one in KEYS[:2]]}
    twice = [sign(REVIEW_TYPE, _review().to_bytes(), one) for one in KEYS[:2]]
    with pytest.raises(PendingError):
        check_reviews(twice, _review(), both, threshold=2)


def test_one_no_is_enough_however_many_speak_before_it() -> None:
    signed = [_accepts(0), _accepts(1), *[_accepts(3)] * 100]
    signed.append(sign(REVIEW_TYPE, _review(Decision.DENY, reviewer="r2").to_bytes(), KEYS[2]))
    with pytest.raises(IntakeRefusedError, match="denies"):
        check_reviews(signed, _review(), REVIEWERS, threshold=2)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (
            b'{"_type":"https://in-toto.io/Statement/v1","subject":[{}],"predicateType":"https://slsa.dev/provenance/v1"}',
            AttachmentKind.SLSA_PROVENANCE,
        ),
        (b'{"bomFormat":"CycloneDX","specVersion":"1.6"}', AttachmentKind.CYCLONEDX),
        (b'{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld","@graph":[]}', AttachmentKind.SPDX),
    ],
)
def test_attachments_are_kept_by_digest(data: bytes, kind: AttachmentKind) -> None:
    found = read_attachment(data)
    assert (found.kind, found.digest) == (kind, Digest.of(data))


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"\xff", b'{"bomFormat":"CycloneDX","specVersion":"1.0"}', b"[" * 10**5]
)
def test_other_attachments_are_refused(data: bytes) -> None:
    with pytest.raises(IntakeRefusedError):
        read_attachment(data)
