"""Before the keeper is called, the broker looks whether what is handed in was signed by whom it speaks for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from strongroom.access.request import APPROVAL_TYPE, DENIAL_TYPE, REQUEST_TYPE
from strongroom.broker.door import Door, NotTheirsError
from strongroom.core.envelope import Envelope, Signature, sign
from strongroom.core.ids import KeyId, PersonId
from strongroom.core.signature import PublicKey
from support.deployment import signer

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration
WORDS = b"the request's bytes"


@dataclass
class Heard:
    """The roster as it was last heard of, and the newest one."""

    newest: dict[str, tuple[PublicKey, ...]]
    known: dict[str, tuple[PublicKey, ...]] = field(default_factory=dict)
    asked: int = 0

    def keys_of(self, person: PersonId) -> tuple[PublicKey, ...]:
        return self.known.get(person, ())

    def keys_named(self, names: Iterable[KeyId]) -> tuple[PublicKey, ...]:
        wanted = set(names)
        return tuple(key for keys in self.known.values() for key in keys if key.key_id in wanted)

    async def refresh(self) -> None:
        self.asked += 1
        self.known = self.newest


def heard() -> Heard:
    people: dict[str, tuple[PublicKey, ...]] = {name: (signer(name).public_key,) for name in ("dana", "sam", "rina")}
    return Heard(people, people)


def require(standing: Heard, envelope: Envelope, kind: str, author: str = "") -> None:
    door = Door(standing)  # type: ignore[arg-type]  # it asks for no more than these three
    asyncio.run(door.require_author(envelope, kind, PersonId(author) if author else None))


def test_what_its_author_signed_passes_and_nobody_is_asked() -> None:
    standing = heard()
    require(standing, sign(REQUEST_TYPE, WORDS, signer("dana")), REQUEST_TYPE, "dana")
    require(standing, sign(APPROVAL_TYPE, WORDS, signer("sam")), APPROVAL_TYPE)
    assert standing.asked == 0


def as_sam(made: Envelope) -> Envelope:
    return Envelope(made.kind, made.payload, (Signature(signer("sam").public_key.key_id, made.signatures[0].value),))


@pytest.mark.parametrize(
    ("made", "kind", "author"),
    [
        (lambda: sign(REQUEST_TYPE, WORDS, signer("sam")), REQUEST_TYPE, "dana"),
        (lambda: Envelope(REQUEST_TYPE, WORDS, ()), REQUEST_TYPE, "dana"),
        (lambda: as_sam(sign(APPROVAL_TYPE, WORDS, signer("a stranger"))), APPROVAL_TYPE, ""),
        (lambda: as_sam(sign(APPROVAL_TYPE, b"other bytes", signer("sam"))), DENIAL_TYPE, ""),
        (lambda: Envelope(APPROVAL_TYPE, WORDS, sign(DENIAL_TYPE, WORDS, signer("sam")).signatures), APPROVAL_TYPE, ""),
        (
            lambda: Envelope(APPROVAL_TYPE, b"other", sign(APPROVAL_TYPE, WORDS, signer("sam")).signatures),
            APPROVAL_TYPE,
            "",
        ),
    ],
    ids=["another person", "nobody", "a stranger under sam's key", "another kind", "a denial", "other bytes"],
)
def test_what_somebody_else_signed_is_refused(made: Callable[[], Envelope], kind: str, author: str) -> None:
    standing = heard()
    with pytest.raises(NotTheirsError, match=r"for: (a signature by key|0 of the 1|the signed object)"):
        require(standing, made(), kind, author)
    # First the newest roster is asked for: the key may be one of today.
    assert standing.asked == 1


def test_a_key_that_was_enrolled_just_now_is_known_when_it_is_used() -> None:
    standing = heard()
    standing.newest = {**standing.known, "dana": (signer("dana's new key").public_key,)}
    require(standing, sign(REQUEST_TYPE, WORDS, signer("dana's new key")), REQUEST_TYPE, "dana")
    with pytest.raises(NotTheirsError):
        require(standing, sign(REQUEST_TYPE, WORDS, signer("dana")), REQUEST_TYPE, "dana")


def test_whom_the_roster_doesnt_know_the_keeper_answers() -> None:
    standing = heard()
    require(standing, sign(REQUEST_TYPE, WORDS, signer("mallory")), REQUEST_TYPE, "mallory")
    require(standing, sign(APPROVAL_TYPE, WORDS, signer("mallory")), APPROVAL_TYPE)
