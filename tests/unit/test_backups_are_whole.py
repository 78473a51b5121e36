"""A backup opens for whom it was made, and only whole: one changed, missing or added byte is found."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from strongroom.backup.adapters import snapshot
from strongroom.backup.adapters.making import make_backup
from strongroom.backup.adapters.reading import Backup, open_backup, read_section, verify_backup
from strongroom.backup.contents import Section, part_name, section_of
from strongroom.backup.errors import BackupDamagedError, BackupExistsError, RestoreRefusedError
from strongroom.backup.header import BackupHeader, Part, header_length
from strongroom.backup.sections import STEP, decrypted, encrypted
from strongroom.core.errors import MalformedError, NotFoundError, StrongroomError
from strongroom.core.secret import SecretBytes
from strongroom.keys.recipient import RecipientIdentity
from support.backups import CUSTODIAN, KEPT, OPERATOR, OWN, SECOND, STRANGER, made_backup, staged, wanted
from support.examples import examples
from support.logs import GENESIS


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_backup(tmp_path_factory.mktemp("backup"))[0]


def contents(backup: Backup, kind: Section, by: RecipientIdentity) -> dict[str, bytes] | None:
    """Return every part of a section that ``by`` can open."""
    found: dict[str, bytes] = {}

    class Kept(io.BytesIO):
        name = ""

        def close(self) -> None:
            found[self.name] = self.getvalue()
            super().close()

    def sink(part: Part) -> io.BytesIO:
        kept = Kept()
        kept.name = str(part.name)
        return kept

    return found if read_section(backup, kind, by, sink) else None


@pytest.mark.parametrize("who", [OPERATOR, SECOND])
def test_any_one_recipient_opens_every_record(backup: Path, who: RecipientIdentity) -> None:
    opened = open_backup(backup)
    found = contents(opened, Section.RECORDS, who)
    assert found is not None
    assert {name: found[name] for name in KEPT} == KEPT
    assert not set(OWN) & set(found)
    genesis, sections = verify_backup(opened, who)
    assert genesis == GENESIS
    assert sections == (Section.RECORDS,)


def test_the_machines_own_section_opens_for_custodians_alone(backup: Path) -> None:
    opened = open_backup(backup)
    assert contents(opened, Section.MACHINE, CUSTODIAN) == OWN
    assert contents(opened, Section.MACHINE, OPERATOR) is None
    assert contents(opened, Section.RECORDS, CUSTODIAN) is None


def test_a_stranger_opens_nothing(backup: Path) -> None:
    with pytest.raises(RestoreRefusedError, match="isn't encrypted"):
        verify_backup(open_backup(backup), STRANGER)


def test_no_secret_and_no_record_stands_in_the_file_in_clear(backup: Path) -> None:
    data = backup.read_bytes()
    for secret in (OWN["log/log.key"], OWN["broker/ca/ca.key"], KEPT["broker/broker.db"][:64], b"an envelope"):
        assert secret not in data


def test_without_custodians_the_machines_own_section_is_left_out(tmp_path: Path) -> None:
    path, made = made_backup(tmp_path, machine=False)
    assert made.header.section(Section.MACHINE) is None
    assert [part.name for section in made.header.sections for part in section.parts if part.name in OWN] == []
    assert verify_backup(open_backup(path), OPERATOR)[1] == (Section.RECORDS,)


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
@example(at=0.0, flip=1)
def test_every_changed_byte_is_found(backup: Path, tmp_path: Path, at: float, flip: int) -> None:
    data = bytearray(backup.read_bytes())
    place = int(at * len(data))
    data[place] ^= flip
    changed = tmp_path / "changed"
    changed.write_bytes(data)
    found = []
    # Each section is for somebody: who opens one needn't find what was changed in the other's.
    for who, kind in ((OPERATOR, Section.RECORDS), (SECOND, Section.RECORDS), (CUSTODIAN, Section.MACHINE)):
        try:
            found.append(not read_section(open_backup(changed), kind, who, lambda _part: None))
        except StrongroomError:
            found.append(True)
    assert any(found)
    assert open_backup(backup).digest() != _digest(changed)


def _digest(path: Path) -> object:
    try:
        return open_backup(path).digest()
    except BackupDamagedError:
        return None


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cut=st.floats(0, 1, exclude_max=True))
@example(cut=0.0)
def test_every_truncation_is_found_without_a_key(backup: Path, tmp_path: Path, cut: float) -> None:
    data = backup.read_bytes()
    (tmp_path / "cut").write_bytes(data[: int(cut * len(data))])
    with pytest.raises(BackupDamagedError):
        open_backup(tmp_path / "cut")


def test_bytes_behind_the_end_are_found(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "longer").write_bytes(backup.read_bytes() + b"\0")
    with pytest.raises(BackupDamagedError, match="its header says"):
        open_backup(tmp_path / "longer")


def test_a_header_that_was_exchanged_opens_nothing(backup: Path, tmp_path: Path) -> None:
    """A position further back would let an older log pass: the section's key is bound to the header."""
    data = backup.read_bytes()
    length = header_length(data[:14])
    header = BackupHeader.parse(data[14 : 14 + length])
    forged = replace(header, epoch=header.epoch - 1)
    assert len(forged.to_bytes()) == length
    (tmp_path / "forged").write_bytes(data[:14] + forged.to_bytes() + data[14 + length :])
    with pytest.raises(StrongroomError, match="doesn't open"):
        verify_backup(open_backup(tmp_path / "forged"), OPERATOR)


@pytest.mark.parametrize("size", [0, 1, STEP - 1, STEP, STEP + 1, 2 * STEP, 3 * STEP + 7])
def test_sections_of_every_length_come_back(size: int) -> None:
    plain = os.urandom(size)
    with SecretBytes(bytearray(32)) as key:
        pieces = (plain[at : at + 70_001] for at in range(0, size, 70_001))
        file = io.BytesIO(b"".join(encrypted(pieces, size=size, key=key, binding=b"here", random_bytes=os.urandom)))
        assert b"".join(decrypted(file.read, size=size, key=key, binding=b"here")) == plain
        file.seek(0)
        with pytest.raises(BackupDamagedError):
            list(decrypted(file.read, size=size, key=key, binding=b"there"))


@pytest.mark.parametrize("change", [-1, 1])
def test_a_part_that_changes_while_it_is_read_makes_no_backup(change: int) -> None:
    with SecretBytes(bytearray(32)) as key, pytest.raises(BackupDamagedError, match="changed its size"):
        list(encrypted([b"x" * 100], size=100 + change, key=key, binding=b"", random_bytes=os.urandom))


@pytest.mark.parametrize(
    "name",
    [
        "keeper/keyring.json",
        "keeper/escrow.json",
        "keeper/keyring-" + "0" * 64 + ".json",
        "keeper/escrow-" + "0" * 64 + ".json",
        "keeper/unlock.key",
        "../genesis.json",
        "/genesis.json",
        "genesis.json\n",
        "keeper/people/../../x",
        "log/log.db",
        "log/pgpass",
        "",
    ],
)
def test_no_backup_holds_a_key_or_leads_out_of_the_home(name: str) -> None:
    assert section_of(name) is None
    with pytest.raises(MalformedError):
        part_name(name)


@pytest.mark.parametrize("kind", ["file", "link", "link to nothing"])
def test_nothing_is_overwritten(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "taken"
    if kind == "file":
        target.write_bytes(b"here")
    else:
        target.symlink_to(tmp_path / "elsewhere")
        if kind == "link":
            (tmp_path / "elsewhere").write_bytes(b"here")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BackupExistsError):
        make_backup(target, wanted(tmp_path), record=lambda *_told: None, random_bytes=os.urandom)
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_that_goes_away_meanwhile_is_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, listed = tmp_path / "home", snapshot._names
    going = home / "keeper" / f"roster-{'0' * 64}.json"
    going.parent.mkdir(parents=True)
    going.write_bytes(b"an envelope")
    (home / "genesis.json").write_bytes(GENESIS.to_bytes())

    def names(place: Path) -> list[str]:
        found = listed(place)
        going.unlink()
        return found

    position = staged(tmp_path / "log").position
    monkeypatch.setattr(snapshot, "_names", names)
    monkeypatch.setattr(snapshot, "_copy_log", lambda *_: (position, []))
    taken = snapshot.take(home, GENESIS, tmp_path / "parts", (Section.RECORDS,), lambda _step: None)
    assert [part.name for part in taken.parts] == ["genesis.json"]


def test_what_isnt_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no backup `nothing`"):
        open_backup(tmp_path / "nothing")
