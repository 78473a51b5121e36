"""The agent sends no part of a drop before the keeper's own ticket for these bytes and this asking is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import DeniedError, UnavailableError
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId
from strongroom.enclave.drop import wiring
from strongroom.enclave.drop.wiring import Door
from strongroom.enclave.drop.words import refused
from strongroom.enclave.runner import ExitStatus
from strongroom.release.drop import BEGUN_TYPE, TICKET_TYPE, Begun, PassageAsk, Reader, Ticket
from strongroom.release.drop_file import DropFile
from strongroom.release.lease import LeaseEndedError
from support.deployment import MODEL, signer
from support.drops import identity
from support.logs import GENESIS, KEEPER

REQUEST, RECIPIENT = Digest.of(b"request"), Digest.of(b"recipient")
Answer = Callable[[PassageAsk], Json]


class Launcher:
    """What the agent says, and what it hears. It stands in for a desk and its channel."""

    def __init__(self, *answers: Answer) -> None:
        self.asked: list[PassageAsk] = []
        self.parts: list[bytes] = []
        self._answers = list(answers)
        self._heard: Json = None

    def tell(self, message: Json) -> None:
        """Hear what the agent says."""
        with Fields(message, "message") as fields:
            if fields.optional("part"):
                self.parts.append(fields.binary("part", max_length=1 << 20))
                return
            with fields.child("leave") as child:
                self.asked.append(PassageAsk.read(child))
        self._heard = self._answers.pop(0)(self.asked[-1]) if self._answers else None

    def heard(self) -> Json:
        """Tell the agent."""
        message, self._heard = self._heard, None
        return message


def ticket(ask: PassageAsk) -> Ticket:
    return Ticket(
        genesis=GENESIS.digest,
        request=REQUEST,
        model=MODEL,
        ask=ask,
        bits=100,
        log_index=7,
        reviewers=(Reader(PersonId("sam"), identity("sam").public),),
        researcher=Reader(PersonId("dana"), identity("dana").public),
    )


def word(envelope: Envelope) -> Json:
    return {"word": envelope.to_json()}


def good(ask: PassageAsk) -> Json:
    return word(sign(TICKET_TYPE, ticket(ask).to_bytes(), KEEPER))


def changed(**members: Any) -> Answer:
    return lambda ask: word(sign(TICKET_TYPE, replace(ticket(ask), **members).to_bytes(), KEEPER))


def for_another(**members: Any) -> Answer:
    return lambda ask: good(replace(ask, **members))


FORGED: dict[str, Answer] = {
    "signed by somebody else": lambda ask: word(sign(TICKET_TYPE, ticket(ask).to_bytes(), signer("dana"))),
    "not signed": lambda ask: word(Envelope(TICKET_TYPE, ticket(ask).to_bytes(), ())),
    "of another request": changed(request=Digest.of(b"other")),
    "of another deployment": changed(genesis=Digest.of(b"other")),
    "for other bytes": for_another(digest=Digest.of(b"other")),
    "for another length": for_another(size=1),
    "for another asking": for_another(nonce=bytes(32)),
    "for another use": for_another(use=9),
    "for another recipient": for_another(recipient=Digest.of(b"other")),
    "the word on an input": lambda ask: word(
        sign(BEGUN_TYPE, Begun(genesis=GENESIS.digest, request=REQUEST, ask=ask, log_index=1).to_bytes(), KEEPER)
    ),
}


@pytest.fixture
def seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    (tmp_path / "found.txt").write_text("something")
    clock = [0.0]
    monkeypatch.setattr(wiring, "DROP_PATH", str(tmp_path))
    monkeypatch.setattr(wiring, "_now", lambda: clock[0])
    # This process isn't the first of a namespace of its own.
    monkeypatch.setattr(wiring, "_end_all", lambda: None)
    return clock


def door(launcher: Launcher, clock: list[float], turn: Callable[[float], None] | None = None) -> Door:
    def pass_time(wait: float) -> None:
        clock[0] += max(wait, 0.01)

    return Door(
        launcher,  # type: ignore[arg-type]  # it says and hears the same
        GENESIS,
        request=REQUEST,
        use=1,
        recipient=RECIPIENT,
        blind=bytes(32),
        turn=turn or pass_time,
    )


def test_with_its_ticket_the_drop_leaves_for_its_reviewers(seconds: list[float]) -> None:
    launcher = Launcher(good)
    assert door(launcher, seconds).leave(ExitStatus(3, None)) == ExitStatus(0, None)
    _told, archive = DropFile.parse(b"".join(launcher.parts)).open(GENESIS, PersonId("sam"), identity("sam"))
    assert [(one.name, one.data) for one in archive.files] == [("found.txt", b"something")]
    assert archive.facts["code"] == 3
    assert archive.facts.keys() == {"code", "blind-a", "blind-b"}
    assert launcher.asked[0].digest == Digest.of(archive.to_bytes())


@pytest.mark.parametrize("forged", FORGED)
def test_what_isnt_its_ticket_opens_nothing(seconds: list[float], forged: str) -> None:
    launcher = Launcher(*([FORGED[forged]] * 30))
    with pytest.raises(UnavailableError):
        door(launcher, seconds).leave(ExitStatus(0, None))
    assert launcher.parts == []
    assert len({ask.nonce for ask in launcher.asked}) == len(launcher.asked) == 24


def test_a_forged_ticket_doesnt_keep_the_genuine_one_out(seconds: list[float]) -> None:
    launcher = Launcher(*FORGED.values(), good)
    door(launcher, seconds).leave(ExitStatus(None, 9))
    _told, archive = DropFile.parse(b"".join(launcher.parts)).open(GENESIS, PersonId("sam"), identity("sam"))
    assert archive.facts["signal"] == 9


def test_a_ticket_from_before_opens_nothing(seconds: list[float]) -> None:
    first: list[Json] = []

    def remember(ask: PassageAsk) -> Json:
        first.append(good(ask))
        return None

    launcher = Launcher(remember, *([lambda _ask: first[0]] * 30))
    with pytest.raises(UnavailableError):
        door(launcher, seconds).leave(ExitStatus(0, None))
    assert launcher.parts == []


def test_a_refusal_and_a_lost_lease_end_it(seconds: list[float]) -> None:
    launcher = Launcher(lambda _ask: refused(DeniedError("no", reason="egress-limit.workspace-year")))
    with pytest.raises(DeniedError, match="no"):
        door(launcher, seconds).leave(ExitStatus(0, None))
    assert launcher.parts == []

    def fallen(_wait: float) -> None:
        raise LeaseEndedError("model-frozen")

    launcher = Launcher(good)
    with pytest.raises(LeaseEndedError):
        door(launcher, seconds, fallen).leave(ExitStatus(0, None))
    assert launcher.parts == []


def test_a_lease_that_falls_between_two_parts_stops_the_rest(seconds: list[float], tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(2 << 20))
    launcher = Launcher(good)
    turns = [0]

    def fall_later(_wait: float) -> None:
        turns[0] += 1
        if turns[0] == 4:
            raise LeaseEndedError("model-frozen")

    with pytest.raises(LeaseEndedError):
        door(launcher, seconds, fall_later).leave(ExitStatus(0, None))
    assert 0 < len(launcher.parts) < 4
