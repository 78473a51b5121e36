"""What a person entered of a model's exposure is kept with the incident: the bytes that were signed for alone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from strongroom.audit.entries import read_entry
from strongroom.audit.reading.exposure import ExposureFold
from strongroom.cli.main import main
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.core.canonical import Json, encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.errors import ConflictError, MalformedError, StrongroomError, UnavailableError
from strongroom.core.events import EventName
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId
from strongroom.ipc.adapters.server import UnixServer
from strongroom.ipc.frames import Call, call
from strongroom.ipc.frames import answer as answer_frame
from strongroom.responder import answers as module
from strongroom.responder.answers import AnswerRefusedError, Answers
from strongroom.responder.cases import Case
from strongroom.responder.desk import PART
from strongroom.responder.reading import DeskReader
from strongroom.response.acts import ActKind
from strongroom.response.entries import Happened
from strongroom.response.exposure import MAX_EXPOSURE, answer_name, read_answer
from support.log_views import REQUESTS, log_of
from support.logs import GENESIS as DEPLOYMENT
from support.respondings import QuietPort, Room, TestClock, responding_room

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration
OPENED = {"event": "host:file:opened", "decoy": True, "model": "atlas", "path": "/weights/old", "uid": 7}
BOUND = 1000


def answer_with(releases: int, model: str = "atlas") -> bytes:
    acts: list[tuple[EventName, int, dict[str, Any]]] = [
        (EventName.RELEASED, 1, {"model": model, "requester": "dana", "request": REQUESTS[0], "use": number})
        for number in range(releases)
    ]
    fold = ExposureFold(model)
    for place, data in enumerate(log_of(acts)):
        fold.apply(place, read_entry(data))
    return encode(fold.answer().to_json())


ANSWER = answer_with(3)
DIGEST = Digest.of(ANSWER)


def in_a_room(folder: Path, work: Callable[[Room, Case], Awaitable[None]]) -> None:
    async def told() -> None:
        async with responding_room(folder, clock=TestClock(), acting=("guard",), real=QuietPort()) as room:
            room.take(OPENED, "guard")
            await room.until(lambda: bool(room.cases()))
            (case,) = room.responding.cases.values()
            await work(room, case)

    asyncio.run(told())


async def enter(room: Room, case: Case, answer: bytes = ANSWER) -> None:
    facts = read_answer(answer, theft_bits=BOUND).facts(Digest.of(answer))
    await room.act(ActKind.EXPOSE, case.id, by="dana", **facts)


async def refused(
    answers: Answers, case: Case, data: bytes, *, digest: Digest = DIGEST, **place: int
) -> StrongroomError:
    with pytest.raises(StrongroomError) as caught:
        await answers.take(case, digest, data, **({"after": 0, "size": len(data)} | place))
    return caught.value


def test_it_is_kept_whole_once_the_record_names_it(tmp_path: Path) -> None:
    async def work(room: Room, case: Case) -> None:
        answers = Answers()
        assert isinstance(await refused(answers, case, ANSWER), AnswerRefusedError)
        await enter(room, case)
        half = len(ANSWER) // 2
        await answers.take(case, DIGEST, ANSWER[:half], after=0, size=len(ANSWER))
        assert await case.kept(answer_name(DIGEST)) is None
        await answers.take(case, DIGEST, ANSWER[half:], after=half, size=len(ANSWER))
        assert await case.kept(answer_name(DIGEST)) == ANSWER

    in_a_room(tmp_path, work)
    kept = next(tmp_path.rglob(answer_name(DIGEST)))
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_other_bytes_are_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    async def work(room: Room, case: Case) -> None:
        answers = Answers()
        await enter(room, case)
        assert isinstance(await refused(answers, case, answer_with(2)), AnswerRefusedError)
        assert isinstance(await refused(answers, case, ANSWER, after=5), ConflictError)
        assert isinstance(await refused(answers, case, ANSWER, size=len(ANSWER) - 1), ConflictError)
        assert isinstance(await refused(answers, case, b"", size=1), ConflictError)
        assert await case.kept(answer_name(DIGEST)) is None

    in_a_room(tmp_path, work)


def test_a_part_at_a_wrong_place_costs_none_of_what_came_before(tmp_path: Path) -> None:
    """Somebody else sends a part of it, or the same part comes twice."""

    async def work(room: Room, case: Case) -> None:
        answers, half = Answers(), len(ANSWER) // 2
        await enter(room, case)
        await answers.take(case, DIGEST, ANSWER[:half], after=0, size=len(ANSWER))
        error = await refused(answers, case, ANSWER[half:], after=half + 1, size=len(ANSWER))
        assert (error.reason, f"at byte {half}" in error.message) == ("answer-elsewhere", True)
        await answers.take(case, DIGEST, ANSWER[half:], after=half, size=len(ANSWER))
        assert await case.kept(answer_name(DIGEST)) == ANSWER
        # Begun, and then sent at once: nothing is left of the beginning.
        await answers.take(case, DIGEST, ANSWER[:half], after=0, size=len(ANSWER))
        await answers.take(case, DIGEST, ANSWER, after=0, size=len(ANSWER))
        assert not answers._open

    in_a_room(tmp_path, work)


def test_an_answer_whose_counts_are_not_the_acts_is_refused(tmp_path: Path) -> None:
    """Somebody signs for few holders, and for the digest of an answer that counts more."""

    async def work(room: Room, case: Case) -> None:
        facts = read_answer(ANSWER, theft_bits=BOUND).facts(DIGEST) | {"holders": 1}
        await room.act(ActKind.EXPOSE, case.id, by="dana", **facts)
        assert isinstance(await refused(Answers(), case, ANSWER), AnswerRefusedError)
        garbage = b"no answer"
        await room.act(ActKind.EXPOSE, case.id, by="dana", **(facts | {"exposure": str(Digest.of(garbage))}))
        assert isinstance(await refused(Answers(), case, garbage, digest=Digest.of(garbage)), MalformedError)
        assert await case.kept(answer_name(DIGEST)) is None

    in_a_room(tmp_path, work)


def test_answers_that_are_never_finished_take_bounded_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OPEN", 2)

    async def work(room: Room, case: Case) -> None:
        answers, made = Answers(), [answer_with(number) for number in range(1, 4)]
        for one in made:
            await enter(room, case, one)
            await answers.take(case, Digest.of(one), one[:10], after=0, size=len(one))
        assert len(answers._open) == 2
        lost = await refused(answers, case, made[0][10:], digest=Digest.of(made[0]), after=10, size=len(made[0]))
        assert lost.reason == "answer-elsewhere"
        await answers.take(case, Digest.of(made[2]), made[2][10:], after=10, size=len(made[2]))
        assert await case.kept(answer_name(Digest.of(made[2]))) == made[2]

    in_a_room(tmp_path, work)


def test_the_longest_answer_goes_through_the_desks_frames_both_ways() -> None:
    data, sent = bytes(range(256)) * (MAX_EXPOSURE // 256), bytearray()

    def desk(operation: str, /, **members: Json) -> Fields:
        call(1, operation, members)
        if operation == "answer":
            assert members["after"] == len(sent)
            with Fields(dict(members), "call") as fields:
                for name in ("incident", "answer"):
                    fields.text(name)
                fields.integer("after")
                assert fields.integer("size") == len(data)
                sent.extend(fields.binary("part", max_length=PART))
            return Fields({}, "answer")
        after = members["after"]
        assert isinstance(after, int)
        told: dict[str, Json] = {"data": to_base64(bytes(sent[after : after + PART])), "size": len(sent)}
        answer_frame(1, told)
        return Fields(told, "answer")

    reader = DeskReader(desk)
    reader.hand_in_answer("inc-" + "0" * 32, data)
    assert bytes(sent) == data
    assert reader.answer("inc-" + "0" * 32, Digest.of(data)) == data


def test_a_full_disk_is_said_and_it_can_be_handed_in_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(room: Room, case: Case) -> None:
        await enter(room, case)
        answers = Answers()

        def full(*_arguments: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr("strongroom.responder.adapters.case_files.write_durably", full)
            assert isinstance(await refused(answers, case, ANSWER), UnavailableError)
        assert await case.kept(answer_name(DIGEST)) is None
        await answers.take(case, DIGEST, ANSWER, after=0, size=len(ANSWER))
        assert await case.kept(answer_name(DIGEST)) == ANSWER

    in_a_room(tmp_path, work)


def test_answers_that_were_lost_are_given_for_a_report_each_by_itself(tmp_path: Path) -> None:
    wallet, answers = tmp_path / "wallet", {name: answer_with(2, name) for name in ("atlas", "orion")}
    for name, data in answers.items():
        (tmp_path / name).write_bytes(data)
    WalletFolder.create(wallet, PersonId("dana"), lambda _size: Digest.of(b"dana").value, passphrase=None)
    WalletFolder(wallet, lambda: pytest.fail("asked")).bind("https://127.0.0.1:1", DEPLOYMENT, b"none")

    async def work(room: Room, case: Case) -> None:
        for data in answers.values():
            await enter(room, case, data)
        await room.act(ActKind.START, case.id, by="dana", clock="eu-cop-initial")
        room.known.genesis = DEPLOYMENT.digest
        server = UnixServer(room.desk.serve, admits={os.geteuid()})
        await server.start(tmp_path / "desk.sock")

        async def drafted(*given: str) -> tuple[int, str]:
            out = tmp_path / "report.md"
            out.unlink(missing_ok=True)
            files = [part for name in given for part in ("--exposure", str(tmp_path / name))]
            typed = ["incident", "report", case.id, "eu-cop-initial", "--out", str(out), *files, "--as", str(wallet)]
            typed += ["--desk", str(tmp_path / "desk.sock")]
            code = (await asyncio.to_thread(CliRunner().invoke, main, typed)).exit_code
            return code, out.read_text() if out.exists() else ""

        code, text = await drafted("atlas", "orion")
        assert (code, "model: atlas; read from" in text, "model: orion; read from" in text) == (0, True, True)
        code, text = await drafted("orion")
        assert (code, "model: atlas; entered, and the answer isn't kept" in text) == (0, True)
        (tmp_path / "other").write_bytes(answer_with(1, "orion"))
        code, text = await drafted("atlas", "other")
        assert (code != 0, text) == (True, "")
        await server.stop()

    in_a_room(tmp_path / "room", work)


def test_the_command_run_again_hands_in_what_was_lost_behind_its_entry(tmp_path: Path) -> None:
    """The disk refuses the answer once: its entry is made, and isn't made a second time."""
    file, wallet = tmp_path / "exposure.json", tmp_path / "wallet"
    file.write_bytes(ANSWER)
    WalletFolder.create(wallet, PersonId("dana"), lambda _size: Digest.of(b"dana").value, passphrase=None)
    WalletFolder(wallet, lambda: pytest.fail("asked")).bind("https://127.0.0.1:1", DEPLOYMENT, b"none")
    arguments = ["incident", "exposure", "--bound", str(BOUND), "--as", str(wallet)]

    async def work(room: Room, case: Case) -> None:
        room.known.genesis, lost = DEPLOYMENT.digest, [UnavailableError("the disk refused")]

        async def serve(call: Call, uid: int) -> dict[str, Json]:
            if call.operation == "answer" and lost:
                raise lost.pop()
            return await room.desk.serve(call, uid)

        server = UnixServer(serve, admits={os.geteuid()})
        await server.start(tmp_path / "desk.sock")
        typed = [*arguments, "--desk", str(tmp_path / "desk.sock"), case.id, str(file)]
        codes = [(await asyncio.to_thread(CliRunner().invoke, main, typed)).exit_code for _ in range(3)]
        await server.stop()
        assert (bool(codes[0]), codes[1:], lost) == (True, [0, 0], [])
        entered = [one.by for one in case.entries if one.happened is Happened.EXPOSURE_READ]
        assert entered == ["person:dana"]
        assert await case.kept(answer_name(DIGEST)) == ANSWER

    in_a_room(tmp_path / "room", work)
