"""Trust policies: the examples of tlog-policy, what its text refuses, and quorums by who cosigned and when."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.cosignature import Cosignature, CosignatureKind, Cosigner
from strongroom.audit.errors import (
    CosignatureForgedError,
    CosignatureFromFutureError,
    CosignatureOtherLogError,
    ForgedCheckpointError,
    QuorumMissingError,
    WrongKeyError,
)
from strongroom.audit.note import Note, VerifierKey
from strongroom.audit.witness_policy import MAX_OF_A_KIND, WitnessPolicy, WitnessPolicyError, check_note
from strongroom.core.signature import Ed25519Signer
from support.cosigners import LOG_SEED, witness
from support.logs import AT, LOG_KEY, LOG_SIGNER, ORIGIN

W = [witness(number, CosignatureKind.ED25519) for number in range(1, 7)]
NAMES = ["X1", "X2", "X3", "Y1", "Y2", "Y3"]
WITNESSES = "".join(f"witness {name} {one.key}\n" for name, one in zip(NAMES, W, strict=True))
EXAMPLE = f"""log {LOG_KEY}

{WITNESSES}
group X-witnesses 2 X1 X2 X3
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""
OTHER_LOG = VerifierKey("other.example/log", Ed25519Signer.from_seed(b"o" * 32).public_key)
CHECKPOINT = Checkpoint(ORIGIN, 7, b"\x07" * 32)


def policy(text: str) -> WitnessPolicy:
    return WitnessPolicy.parse(text.encode())


def test_the_specifications_example_counts_two_of_one_side_and_one_of_the_other() -> None:
    example = policy(EXAMPLE)
    for count in range(7):
        for chosen in itertools.combinations(NAMES, count):
            expected = sum(name[0] == "X" for name in chosen) >= 2 and any(name[0] == "Y" for name in chosen)
            assert example.met_by(chosen) is expected


def test_spaces_comments_addresses_and_opaque_bytes_are_allowed() -> None:
    text = f"  # a comment \N{SNOWMAN}\n\t log \t{LOG_KEY}  https://log.example/ \n"
    text += f"witness W\xe9 {W[0].key} http://w\n\n \n"
    read = WitnessPolicy.parse(text.encode() + b"witness \xff " + str(W[1].key).encode() + b"\nquorum \xff\n")
    assert read.logs == (LOG_KEY,)
    assert [one.url for one in read.witnesses] == ["http://w", None]
    assert read.quorum == "\udcff"
    assert policy("quorum none\n").met_by(())
    assert policy(f"witness none-of-them {W[0].key}\nquorum none\n").quorum is None


KEY = str(W[0].key)
SAME = Cosigner.from_seed("b", W[0].key.kind, bytes([1, 4]) * 16).key
BAD: dict[str, str] = {
    "empty": "",
    "no quorum": WITNESSES,
    "two quorums": "quorum none\nquorum none\n",
    "quorum before its witness": f"quorum A\nwitness A {KEY}\n",
    "unknown quorum": f"witness A {KEY}\nquorum B\n",
    "quorum of two": f"{WITNESSES}quorum X1 X2\n",
    "no newline at the end": "quorum none",
    "carriage return": "quorum none\r\n",
    "form feed": "# \f\nquorum none\n",
    "delete": "# \x7f\nquorum none\n",
    "unknown word": "quorums none\nquorum none\n",
    "comment behind": "quorum none # really\n",
    "witness called none": f"witness none {KEY}\nquorum none\n",
    "group called none": f"witness A {KEY}\ngroup none any A\nquorum none\n",
    "none as a member": f"witness A {KEY}\ngroup G any A none\nquorum G\n",
    "one name twice": f"witness A {KEY}\nwitness A {W[1].key}\nquorum A\n",
    "group named as a witness": f"witness A {KEY}\ngroup A any A\nquorum A\n",
    "one key twice": f"witness A {KEY}\nwitness B {KEY}\nquorum A\n",
    "one key under two names": f"witness A {KEY}\nwitness B {SAME}\nquorum A\n",
    "one log twice": f"log {LOG_KEY}\nlog {LOG_KEY}\nquorum none\n",
    "a cosigner as a log": f"log {KEY}\nquorum none\n",
    "a log as a witness": f"witness A {LOG_KEY}\nquorum A\n",
    "a log of two words": f"log {LOG_KEY} a b\nquorum none\n",
    "a witness of one word": "witness A\nquorum none\n",
    "a witness of four": f"witness A {KEY} url more\nquorum A\n",
    "a key that isn't": "witness A w.example+00000000+AAAA\nquorum A\n",
    "an empty group": f"witness A {KEY}\ngroup G any\nquorum G\n",
    "a group of none": f"{WITNESSES}group G 0 X1\nquorum G\n",
    "a group of more than there are": f"{WITNESSES}group G 3 X1 X2\nquorum G\n",
    "a leading zero": f"{WITNESSES}group G 02 X1 X2\nquorum G\n",
    "another rule": f"{WITNESSES}group G most X1 X2\nquorum G\n",
    "a member twice": f"{WITNESSES}group G 2 X1 X2 X1\nquorum G\n",
    "a member of two groups": f"{WITNESSES}group G any X1 X2\ngroup H any X3 X2\nquorum G\n",
    "a member that comes later": f"{WITNESSES}group G any H\ngroup H any X1\nquorum G\n",
    "a group in itself": f"{WITNESSES}group G any G\nquorum G\n",
    "too many": f"witness A {KEY}\ngroup G0 any A\n"
    + "".join(f"group G{n} any G{n - 1}\n" for n in range(1, MAX_OF_A_KIND + 1))
    + "quorum A\n",
    "too long": "#" * (1 << 17) + "\nquorum none\n",
}


@pytest.mark.parametrize("case", BAD)
def test_what_the_specification_forbids_is_refused(case: str) -> None:
    with pytest.raises(WitnessPolicyError) as caught:
        policy(BAD[case])
    assert caught.value.reason == "witness-policy-malformed"


def test_thirty_two_of_each_are_read() -> None:
    many = [witness(number, CosignatureKind.ED25519) for number in range(32)]
    text = "".join(f"witness W{n} {one.key}\n" for n, one in enumerate(many))
    text += "".join(f"group G{n} any W{n}\n" for n in range(32))
    assert len(policy(f"{text}quorum G31\n").groups) == 32
    chain = BAD["too many"].replace(f"group G{MAX_OF_A_KIND} any G{MAX_OF_A_KIND - 1}\n", "")
    assert len(policy(chain).groups) == MAX_OF_A_KIND


def test_as_many_witnesses_as_a_policy_names_fit_on_one_note() -> None:
    many = [witness(number, CosignatureKind.ED25519) for number in range(MAX_OF_A_KIND)]
    text = f"log {LOG_KEY}\n" + "".join(f"witness W{n} {one.key}\n" for n, one in enumerate(many))
    names = " ".join(f"W{n}" for n in range(MAX_OF_A_KIND))
    note = signed((Cosigner.of_log(ORIGIN, LOG_SEED), AT), *((one, AT) for one in many))
    found = check_note(note, policy(f"{text}group all all {names}\nquorum all\n"), now=AT)
    assert len(found.counted) == MAX_OF_A_KIND


def signed(*lines: tuple[Cosigner, int], checkpoint: Checkpoint = CHECKPOINT) -> bytes:
    note = Note.parse(checkpoint.sign(LOG_SIGNER))
    return note.signed_also(one.cosign(checkpoint, at) for one, at in lines).to_bytes()


def test_a_note_is_believed_once_its_quorum_cosigned() -> None:
    found = check_note(signed((W[0], AT - 60), (W[1], AT), (W[3], AT - 5)), policy(EXAMPLE), now=AT)
    assert found.checkpoint == CHECKPOINT
    assert found.counted == {"X1": AT - 60, "X2": AT, "Y1": AT - 5}
    assert found.quorum_at == AT - 60
    assert check_note(signed(), policy(f"log {LOG_KEY}\nquorum none\n"), now=AT).quorum_at is None


def test_each_way_of_not_being_believed_has_its_own_error() -> None:
    example = policy(EXAMPLE)
    with pytest.raises(QuorumMissingError):
        check_note(signed((W[0], AT), (W[1], AT)), example, now=AT)
    with pytest.raises(QuorumMissingError):
        check_note(signed((W[0], AT - 61), (W[1], AT), (W[3], AT)), example, now=AT, since=AT - 60)
    with pytest.raises(CosignatureFromFutureError):
        check_note(signed((W[0], AT + 120), (W[1], AT), (W[3], AT)), example, now=AT)
    with pytest.raises(CosignatureOtherLogError):
        check_note(signed((W[0], AT)), policy(EXAMPLE.replace(str(LOG_KEY), str(OTHER_LOG))), now=AT)
    stranger = CHECKPOINT.sign(Ed25519Signer.from_seed(b"s" * 32))
    with pytest.raises(WrongKeyError):
        check_note(stranger, example, now=AT)
    good = Note.parse(signed((W[0], AT), (W[1], AT), (W[3], AT)))
    forged_log = Note(good.text.replace("\n7\n", "\n8\n"), good.signatures)
    with pytest.raises(ForgedCheckpointError):
        check_note(forged_log.to_bytes(), example, now=AT)
    other = W[3].cosign(Checkpoint(ORIGIN, 8, b"\x07" * 32), AT)
    with pytest.raises(CosignatureForgedError):
        check_note(good.signed_also((other,)).to_bytes(), example, now=AT)


def test_a_log_may_be_known_by_its_post_quantum_key() -> None:
    log = Cosigner.of_log(ORIGIN, LOG_SEED)
    text = f"log {log.key}\nwitness A {W[0].key}\nquorum A\n"
    note = Note.parse(signed((W[0], AT)))
    with pytest.raises(WrongKeyError):
        check_note(note.to_bytes(), policy(text), now=AT)
    both = note.signed_also((log.cosign(CHECKPOINT, AT),)).to_bytes()
    assert check_note(both, policy(text), now=AT).counted == {"A": AT}
    assert check_note(both, policy("quorum none\n"), now=AT, log=LOG_KEY).counted == {}


@st.composite
def trees(draw: st.DrawFn) -> tuple[str, dict[str, tuple[int, list[str]]], str]:
    """Return a policy's text, its groups as a plain mapping, and its quorum."""
    free, groups, text = list(NAMES), {}, WITNESSES
    for number in range(draw(st.integers(1, 4))):
        size = draw(st.integers(1, len(free)))
        members = draw(st.permutations(free))[:size]
        threshold = draw(st.integers(1, size))
        name = f"G{number}"
        groups[name] = (threshold, list(members))
        text += f"group {name} {threshold} {' '.join(members)}\n"
        free = [one for one in free if one not in members] + [name]
    quorum = draw(st.sampled_from([*groups, *NAMES]))
    return text + f"quorum {quorum}\n", groups, quorum


@given(tree=trees(), chosen=st.sets(st.sampled_from(NAMES)), times=st.lists(st.integers(1, 50), min_size=6, max_size=6))
def test_quorums_agree_with_a_naive_count(
    tree: tuple[str, dict[str, tuple[int, list[str]]], str], chosen: set[str], times: list[int]
) -> None:
    text, groups, quorum = tree

    def met(name: str, by: set[str]) -> bool:
        if name not in groups:
            return name in by
        threshold, members = groups[name]
        return sum(met(member, by) for member in members) >= threshold

    read = policy(text)
    assert read.met_by(chosen) is met(quorum, chosen)
    at = dict(zip(NAMES, times, strict=True))
    found = read.quorum_at((Cosignature(W[NAMES.index(name)].key, at[name]) for name in chosen), until=40)
    young = [t for t in range(1, 41) if met(quorum, {name for name in chosen if t <= at[name] <= 40})]
    assert found == max(young, default=None)
