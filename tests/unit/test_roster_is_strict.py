"""A roster is read strictly: nobody stands in it twice, and no key opens two people's hands."""

from __future__ import annotations

from dataclasses import replace

import pytest

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.ids import KeyId, PersonId
from strongroom.core.signature import Ed25519Signer, HybridSigner, PublicKey
from strongroom.personnel.roster import MAX_KEYS, Person, PersonKind, Roster, UnknownPersonError


def key(name: str) -> PublicKey:
    return Ed25519Signer.from_seed(Digest.of(name.encode()).value).public_key


def person(name: str, *keys: str) -> Person:
    return Person(
        id=PersonId(name),
        org="research",
        active=True,
        roles=frozenset({"approver"}),
        keys=tuple(key(one) for one in keys or (name,)),
    )


FIRST = Roster(genesis=Digest.of(b"genesis"), epoch=1, predecessor=None, people=(person("dana"), person("sam")))


def changed(**members: Json) -> bytes:
    body = decode(FIRST.to_bytes())
    assert isinstance(body, dict)
    return encode({**body, **members})


def with_person(**members: Json) -> bytes:
    body = decode(FIRST.to_bytes())
    assert isinstance(body, dict)
    assert isinstance(body["people"], list)
    first = body["people"][0]
    assert isinstance(first, dict)
    return encode({**body, "people": [{**first, **members}, *body["people"][1:]]})


def test_a_roster_comes_back() -> None:
    assert Roster.parse(FIRST.to_bytes()) == FIRST
    second = replace(FIRST, epoch=2, predecessor=Digest.of(FIRST.to_bytes()))
    assert Roster.parse(second.to_bytes()) == second


def test_a_key_under_two_people_is_refused() -> None:
    for people in (
        (person("dana"), person("sam", "sam", "dana")),
        (person("dana", "shared"), person("sam", "shared")),
        (person("dana", "dana", "dana"),),
    ):
        with pytest.raises(MalformedError, match="one key twice"):
            Roster.parse(replace(FIRST, people=people).to_bytes())


def test_a_person_lists_a_publishing_key_that_nobody_else_may_list() -> None:
    hybrid = HybridSigner.from_seed(b"h" * 32).public_key
    dana, sam = (replace(one, keys=(*one.keys, hybrid)) for one in FIRST.people)
    made = replace(FIRST, people=(dana, FIRST.people[1]))
    assert Roster.parse(made.to_bytes()) == made
    assert made.holder(hybrid.key_id) == (dana, hybrid)
    with pytest.raises(MalformedError, match="one key twice"):
        Roster.parse(replace(FIRST, people=(dana, sam)).to_bytes())


def test_a_person_twice_is_refused() -> None:
    with pytest.raises(MalformedError, match="a person twice"):
        Roster.parse(replace(FIRST, people=(person("dana"), person("dana", "other"))).to_bytes())


@pytest.mark.parametrize(
    "payload",
    [
        replace(FIRST, predecessor=Digest.of(b"before")).to_bytes(),
        replace(FIRST, epoch=2).to_bytes(),
        replace(FIRST, epoch=0).to_bytes(),
        replace(FIRST, people=(replace(person("dana"), keys=()),)).to_bytes(),
        replace(FIRST, people=(person("dana", *(str(n) for n in range(MAX_KEYS + 1))),)).to_bytes(),
        changed(v=2),
        changed(more=1),
        changed(epoch="1"),
        changed(people={}),
        with_person(active="true"),
        with_person(active=1),
        with_person(id="Dana"),
        with_person(id="../dana"),
        with_person(roles=["Approver"]),
        with_person(roles=["approver security"]),
        with_person(roles="approver"),
        with_person(keys=["ed25519:AAAA"]),
        with_person(keys=["rsa:" + str(key("dana")).partition(":")[2]]),
        # Nobody is cleared by the roster, not even in passing.
        with_person(vetting={"tier": 2, "valid_until": "2026-11-23T22:08:37Z"}),
        with_person(kind="robot"),
        with_person(kind="agent"),
        with_person(sponsor="sam"),
        with_person(kind="agent", sponsor="nobody"),
        with_person(kind="agent", sponsor="dana"),
        with_person(note="findings don't belong here"),
        FIRST.to_bytes() + b" ",
        FIRST.to_bytes()[:-1],
    ],
)
def test_any_other_form_is_refused(payload: bytes) -> None:
    with pytest.raises(MalformedError):
        Roster.parse(payload)


def test_people_are_found_by_id_and_by_key_and_nobody_else_is() -> None:
    assert FIRST.person(PersonId("sam")).id == "sam"
    assert FIRST.holder(key("sam").key_id) == (FIRST.people[1], key("sam"))
    with pytest.raises(UnknownPersonError):
        FIRST.person(PersonId("rina"))
    for unknown in (key("rina").key_id, KeyId("")):
        with pytest.raises(UnknownPersonError):
            FIRST.holder(unknown)


def test_an_agent_acts_on_the_account_of_one_human_of_the_roster() -> None:
    agent = replace(person("robin"), kind=PersonKind.AGENT, sponsor=PersonId("sam"))
    made = replace(FIRST, people=(*FIRST.people, agent))
    assert Roster.parse(made.to_bytes()) == made
    another = replace(person("rex"), kind=PersonKind.AGENT, sponsor=PersonId("robin"))
    with pytest.raises(MalformedError, match="sponsor"):
        Roster.parse(replace(made, people=(*made.people, another)).to_bytes())
