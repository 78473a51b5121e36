"""The register of copies is a chain of the registrar's statements: none is added, dropped, changed or moved."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.digest import Digest
from strongroom.core.errors import ConflictError, NotFoundError, StrongroomError
from strongroom.core.ids import ModelId
from strongroom.core.signature import Ed25519Signer, SignatureError
from strongroom.intake.adapters import register_folder
from strongroom.intake.adapters.register_folder import STATEMENTS, RegisterFolder
from strongroom.intake.copies.possession import (
    NONCE_BYTES,
    STRETCH,
    Answer,
    Challenge,
    PossessionError,
    answer,
    check_answer,
    files_digest,
)
from strongroom.intake.copies.register import (
    CopyKind,
    Ending,
    Register,
    RegisterError,
    Statement,
    Step,
    Terms,
    Trouble,
    read_register,
)
from strongroom.intake.source import BytesSource, Source

SIGNER = Ed25519Signer.from_seed(b"r" * 32)
GENESIS = Digest.of(b"genesis")
NOW = 1_800_000_000
DAY = 86_400
ONE, OTHER = "1" * 32, "2" * 32


def terms(**changes: Any) -> Terms:
    facts: dict[str, Any] = {
        "model": ModelId("atlas"),
        "version": 1,
        "kind": CopyKind.EXPORTED,
        "host": "w1",
        "place": "/data/atlas",
        "holder": "platform team",
        "reason": "evaluation",
        "expires": NOW + 100 * DAY,
        "prove_seconds": 30 * DAY,
        "files": Digest.of(b"files"),
    }
    return Terms(**(facts | changes))


def challenge(until: int = NOW + DAY, copy: str = ONE) -> Challenge:
    return Challenge(copy=copy, nonce=b"n" * NONCE_BYTES, until=until)


def grown(register: Register | None = None) -> tuple[Register, list[bytes]]:
    """Return a register with a copy that was proved and one that is lost, and its lines."""
    register = register or Register(genesis=GENESIS)
    lines = []
    for copy, step, at, said in (
        (ONE, Step.ADDED, NOW, {"terms": terms()}),
        (OTHER, Step.ADDED, NOW + 1, {"terms": terms(place="/data/atlas2")}),
        (ONE, Step.CHALLENGED, NOW + 2, {"challenge": challenge()}),
        (ONE, Step.PROVED, NOW + 3, {}),
        (OTHER, Step.RETIRED, NOW + 4, {"ending": Ending.LOST}),
    ):
        made = register.next(copy, step, at, **said)
        register.take(made)
        lines.append(made.signed_by(SIGNER).to_bytes())
    return register, lines


def test_a_chain_is_read_as_it_was_written() -> None:
    register, lines = grown()
    found = read_register(lines, SIGNER.public_key, GENESIS)
    assert found == register
    assert found.copies[ONE].proved == NOW + 3
    assert found.copies[OTHER].ending is Ending.LOST


@given(st.data())
def test_a_chain_with_lines_dropped_doubled_or_turned_around_is_refused_unless_it_is_a_beginning(
    data: st.DataObject,
) -> None:
    _register, lines = grown()
    order = data.draw(st.lists(st.sampled_from(range(len(lines))), max_size=7))
    if order == list(range(len(order))):
        return
    with pytest.raises(StrongroomError):
        read_register([lines[place] for place in order], SIGNER.public_key, GENESIS)


@given(st.data())
def test_a_changed_byte_is_refused(data: st.DataObject) -> None:
    register, lines = grown()
    which = data.draw(st.integers(0, len(lines) - 1))
    changed = bytearray(lines[which])
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    lines[which] = bytes(changed)
    try:
        assert read_register(lines, SIGNER.public_key, GENESIS) == register
    except StrongroomError:
        return


def test_anothers_statements_are_refused() -> None:
    _register, lines = grown()
    with pytest.raises(SignatureError):
        read_register(lines, Ed25519Signer.from_seed(b"x" * 32).public_key, GENESIS)
    with pytest.raises(RegisterError):
        read_register(lines, SIGNER.public_key, Digest.of(b"another deployment"))


def test_a_statement_has_the_members_of_its_step_and_no_others() -> None:
    register, _lines = grown()
    said = register.next(ONE, Step.PROVED, NOW, terms=terms())
    with pytest.raises(StrongroomError):
        Statement.parse(said.to_bytes())
    assert Statement.parse(register.next(ONE, Step.ADDED, NOW, terms=terms()).to_bytes()).terms == terms()


@pytest.mark.parametrize(
    ("copy", "step", "at", "said", "refused"),
    [
        (ONE, Step.ADDED, NOW + 9, {"terms": terms()}, ConflictError),
        ("3" * 32, Step.PROVED, NOW + 9, {}, NotFoundError),
        (ONE, Step.PROVED, NOW + 9, {}, ConflictError),
        (OTHER, Step.CHALLENGED, NOW + 9, {"challenge": challenge(copy=OTHER)}, ConflictError),
        (OTHER, Step.RETIRED, NOW + 9, {"ending": Ending.DESTROYED}, ConflictError),
        (ONE, Step.CHALLENGED, NOW + 9, {"challenge": challenge(copy=OTHER)}, StrongroomError),
    ],
)
def test_what_cant_follow_is_refused(
    copy: str, step: Step, at: int, said: dict[str, Any], refused: type[StrongroomError]
) -> None:
    register, _lines = grown()
    with pytest.raises(refused):
        register.take(register.next(copy, step, at, **said))


def test_a_proof_after_the_challenge_ended_is_refused() -> None:
    register, _lines = grown()
    register.take(register.next(ONE, Step.CHALLENGED, NOW + 5, challenge=challenge(until=NOW + 10)))
    with pytest.raises(ConflictError):
        register.take(register.next(ONE, Step.PROVED, NOW + 11))


def test_a_copy_is_troubled_when_it_is_overdue_expired_or_lost() -> None:
    register, _lines = grown()

    def troubles(now: int) -> dict[str, Trouble]:
        return {copy.id: why for copy, why in register.troubles(now)}

    assert troubles(NOW + 30 * DAY) == {OTHER: Trouble.LOST}
    assert troubles(NOW + 3 + 30 * DAY + 1) == {ONE: Trouble.UNPROVED, OTHER: Trouble.LOST}
    assert troubles(NOW + 100 * DAY + 1) == {ONE: Trouble.EXPIRED, OTHER: Trouble.LOST}


def test_a_copy_that_was_never_proved_is_due_from_when_it_was_added() -> None:
    register = Register(genesis=GENESIS)
    register.take(register.next(ONE, Step.ADDED, NOW, terms=terms(prove_seconds=60)))
    assert register.copies[ONE].trouble(NOW + 60) is None
    assert register.copies[ONE].trouble(NOW + 61) is Trouble.UNPROVED


@pytest.mark.parametrize(
    ("path", "covered"),
    [("/data/atlas", True), ("/data/atlas/x", True), ("/data/atlas2", False), ("/data", False), ("data/atlas", False)],
)
def test_a_path_belongs_to_a_copy_that_it_lies_in(path: str, covered: bool) -> None:  # noqa: FBT001
    register = Register(genesis=GENESIS)
    register.take(register.next(ONE, Step.ADDED, NOW, terms=terms()))
    found = register.covering("w1", path, ModelId("atlas"), CopyKind.EXPORTED)
    assert (found is not None) is covered
    assert register.covering("w2", path, ModelId("atlas"), CopyKind.EXPORTED) is None
    assert register.covering("w1", path, ModelId("other"), CopyKind.EXPORTED) is None
    assert register.covering("w1", path, ModelId("atlas"), CopyKind.SEALED) is None


# --- the folder -------------------------------------------------------------------------------------------------------


def folder(path: Path) -> RegisterFolder:
    return RegisterFolder(path / "register", SIGNER.public_key, GENESIS)


def add(place: RegisterFolder, copy: str = ONE) -> None:
    with place.writing() as writing:
        said = writing.register.next(copy, Step.ADDED, NOW, terms=terms())
        writing.register.take(said)
        writing.append(said.signed_by(SIGNER))


@given(st.integers(0, 400))
def test_a_line_that_a_crash_cut_is_no_statement_and_the_next_replaces_it(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    place = folder(path := tmp_path_factory.mktemp("r"))
    add(place)
    file = path / "register" / STATEMENTS
    file.write_bytes(file.read_bytes() + file.read_bytes()[:cut].rstrip(b"\n"))
    assert list(place.read().copies) == [ONE]
    add(place, OTHER)
    assert sorted(place.read().copies) == [ONE, OTHER]


def test_a_full_disk_leaves_the_register_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = folder(tmp_path)
    add(place)
    before = (tmp_path / "register" / STATEMENTS).read_bytes()

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            add(place, OTHER)
    assert (tmp_path / "register" / STATEMENTS).read_bytes() == before


# --- possession -------------------------------------------------------------------------------------------------------


def files(data: bytes) -> dict[str, Source]:
    return {"a": BytesSource(data[: len(data) // 3]), "b": BytesSource(data[len(data) // 3 :])}


def test_an_answer_from_the_same_bytes_proves() -> None:
    data = bytes(range(256)) * 4000
    check_answer(answer(challenge(), files(data)), challenge(), files(data), now=NOW)


def test_an_answer_from_other_bytes_names_or_too_late_proves_nothing() -> None:
    data = bytes(range(256)) * 40
    good = answer(challenge(), files(data))
    renamed: dict[str, Source] = {"a": files(data)["a"], "c": files(data)["b"]}
    nonce = Challenge(copy=ONE, nonce=b"m" * NONCE_BYTES, until=NOW + DAY)
    refused: tuple[Callable[[], None], ...] = (
        lambda: check_answer(good, challenge(), files(data[:-1] + b"?"), now=NOW),
        lambda: check_answer(good, challenge(), files(data[:-1]), now=NOW),
        lambda: check_answer(good, challenge(), renamed, now=NOW),
        lambda: check_answer(good, challenge(), files(data), now=NOW + DAY + 1),
        lambda: check_answer(good, nonce, files(data), now=NOW),
        lambda: check_answer(good, challenge(copy=OTHER), files(data), now=NOW),
    )
    for attempt in refused:
        with pytest.raises(PossessionError):
            attempt()


def test_a_copy_of_which_a_twentieth_is_gone_is_noticed_as_often_as_is_said() -> None:
    whole = bytes(range(256)) * 256 * 160
    lost = bytearray(whole)
    lost[: len(lost) // 20] = bytes(len(lost) // 20)
    noticed = 0
    for turn in range(40):
        asked = Challenge(copy=ONE, nonce=bytes([turn]) * NONCE_BYTES, until=NOW)
        noticed += answer(asked, files(whole)) != answer(asked, files(bytes(lost)))
    assert noticed >= 34


def test_an_answer_reads_little() -> None:
    read = 0

    class Counted(BytesSource):
        def read(self, offset: int, length: int) -> bytes:
            nonlocal read
            read += length
            return super().read(offset, length)

    answer(challenge(), {"a": Counted(bytes(32 << 20))})
    assert read <= 64 * STRETCH


def test_challenges_and_answers_are_read_as_they_were_written() -> None:
    made = answer(challenge(), files(b"x" * 100))
    assert Answer.parse(made.to_bytes()) == made
    assert Challenge.parse(challenge().to_bytes()) == challenge()


def test_nothing_is_no_copy() -> None:
    with pytest.raises(StrongroomError):
        files_digest({})
    with pytest.raises(StrongroomError):
        files_digest({"a": BytesSource(b"")})


def test_a_key_s_end_takes_no_clear_copy_away() -> None:
    register = Register(genesis=GENESIS)
    register.take(register.next(ONE, Step.ADDED, NOW, terms=terms()))
    register.take(register.next(OTHER, Step.ADDED, NOW, terms=terms(kind=CopyKind.SEALED)))
    said: dict[str, Any] = {"ending": Ending.KEY_DESTROYED, "evidence": Digest.of(b"shown")}
    with pytest.raises(ConflictError, match="in the clear"):
        register.take(register.next(ONE, Step.RETIRED, NOW, **said))
    register.take(register.next(OTHER, Step.RETIRED, NOW, **said))


def test_an_address_is_the_same_from_every_host_and_a_path_isnt() -> None:
    register = Register(genesis=GENESIS)
    register.take(register.next(ONE, Step.ADDED, NOW, terms=terms(place="s3://bucket/atlas")))
    register.take(register.next(OTHER, Step.ADDED, NOW, terms=terms()))
    found = [
        register.covering(host, path, ModelId("atlas"), CopyKind.EXPORTED)
        for host, path in (("w2", "s3://bucket/atlas/m"), ("w2", "s3://bucket/atlas2/m"), ("w2", "/data/atlas/m"))
    ]
    assert [copy and copy.id for copy in found] == [ONE, None, None]


def test_a_folder_without_a_register_doesnt_read_as_one_in_order(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        RegisterFolder(tmp_path / "typo", SIGNER.public_key, GENESIS).read()


def test_a_register_never_grows_beyond_what_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RegisterFolder(tmp_path, SIGNER.public_key, GENESIS)
    with folder.writing() as writing:
        said = writing.register.next(ONE, Step.ADDED, NOW, terms=terms()).signed_by(SIGNER)
        writing.append(said)
        monkeypatch.setattr(register_folder, "MAX_REGISTER", (tmp_path / STATEMENTS).stat().st_size + 100)
        with pytest.raises(ConflictError):
            writing.append(said)
    assert folder.read().statements == 1


def test_what_is_no_register_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / STATEMENTS).write_bytes(b"somebody's notes\nand the rest of them")
    folder = RegisterFolder(tmp_path, SIGNER.public_key, GENESIS)
    with pytest.raises(StrongroomError), folder.writing():
        raise AssertionError("it was opened")
    assert (tmp_path / STATEMENTS).read_bytes().endswith(b"the rest of them")
