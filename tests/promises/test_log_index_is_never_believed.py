"""An index is a hint: whatever lies in its file, a search shows only what stands in the log."""

from __future__ import annotations

import os
import sqlite3
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strongroom.audit.adapters import index_search
from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.adapters.index import SqliteIndex
from strongroom.audit.adapters.index_search import trusting_nothing
from strongroom.audit.errors import EntryForgedError, LogError, ProofError
from strongroom.audit.reading.query import Query
from strongroom.audit.reading.search import IndexWrongError, Places, search
from strongroom.audit.reading.view import PublishedView
from strongroom.audit.tiles import Tile
from strongroom.core.errors import StrongroomError, UnavailableError, UsageError
from strongroom.core.events import EventName
from strongroom.core.signature import Ed25519Signer
from support.log_views import MODELS, REQUESTS, MemoryView, log_of
from support.logs import KEEPER, LOG_KEY, LocalLog, some_entries

E = EventName
LOG = log_of(
    [
        (E.REQUEST_CREATED, 0, {"request": REQUESTS[0], "model": MODELS[0], "requester": "dana"}),
        (E.REQUEST_CREATED, 1, {"request": REQUESTS[1], "model": MODELS[1], "requester": "erin"}),
        (E.REQUEST_APPROVED, 1, {"request": REQUESTS[0], "person": "frank"}),
        (E.REFUSED, 1, {"request": REQUESTS[1]}),
    ]
)
FRANK = Query(person="frank")


@contextmanager
def opened(path: Path) -> Iterator[SqliteIndex]:
    with closing(SqliteIndex(path)) as index:
        yield index


def found(path: Path, query: Query, view: MemoryView | None = None) -> list[int]:
    with opened(path) as index:
        return [place for place, _entry in search(view or MemoryView(LOG), index, query, 100)]


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


LIES: dict[str, tuple[str, ...]] = {
    "a wrong place": ("INSERT INTO term VALUES ('person', 'frank', 1)",),
    "a place behind the log's end": (
        "INSERT INTO entry VALUES (99, 5, 'access:request:approved')",
        "INSERT INTO term VALUES ('person', 'frank', 99)",
    ),
    "a place that is no number": ("DROP TABLE entry", "CREATE TABLE entry (i TEXT, at INTEGER, event TEXT)"),
    "a line whose place is text": ("INSERT INTO term VALUES ('person', 'frank', 'five')",),
    "another form": ("ALTER TABLE entry ADD COLUMN more TEXT",),
    "a trigger": ("CREATE TRIGGER t AFTER INSERT ON entry BEGIN SELECT load_extension('evil'); END",),
    "a view in the place of a table": ("DROP TABLE request", "CREATE VIEW request AS SELECT 1 AS digest, 2 AS model"),
    "further than the log": ("UPDATE place SET size = 1000000",),
    "another log's place": ("UPDATE place SET origin = 'another.example/log'",),
    "no hashes": ("UPDATE place SET peaks = x''",),
    "other hashes": ("UPDATE place SET peaks = zeroblob(length(peaks))",),
    "a size that is text": ("UPDATE place SET size = 'five'",),
    "no place": ("DELETE FROM place",),
    "text that is none": ("UPDATE place SET origin = CAST(x'ff' AS TEXT)",),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_index_is_built_anew(tmp_path: Path, lie: str) -> None:
    path = tmp_path / "index"
    assert found(path, FRANK) == [3]
    change(path, *LIES[lie])
    assert found(path, FRANK) == [3]
    # And it was mended, not only survived.
    assert found(path, Query(model=MODELS[0])) == [1, 3]


def test_a_request_that_is_filed_under_another_model_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "index"
    assert found(path, Query(model=MODELS[0])) == [1, 3]
    change(
        path,
        "DELETE FROM term WHERE i = 4 AND trait = 'model'",
        "INSERT INTO term VALUES ('model', 'atlas-7b', 4)",
        "UPDATE request SET model = 'atlas-7b', i = 1 WHERE i = 2",
    )
    assert found(path, Query(model=MODELS[0])) == [1, 3]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.integers(0, 40_000))
def test_a_damaged_index_is_built_anew(tmp_path: Path, damage: bytes, at: int) -> None:
    path = tmp_path / "index"
    assert found(path, FRANK) == [3]
    with path.open("r+b") as file:
        file.seek(at % path.stat().st_size)
        file.write(damage)
    # Where the damage hides a line, that line may be missing: an index can hide. It can show nothing wrong.
    assert found(path, FRANK) in ([3], [])


@given(st.binary(max_size=3000))
def test_any_file_may_lie_where_the_index_belongs(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "index"
    path.write_bytes(data)
    assert found(path, FRANK) == [3]


def test_the_index_follows_the_log_and_not_a_fork_of_it(tmp_path: Path) -> None:
    path = tmp_path / "index"
    assert found(path, FRANK) == [3]
    forked = MemoryView(log_of([(E.REQUEST_APPROVED, 5, {"request": REQUESTS[0], "person": "frank"})]))
    assert found(path, FRANK, forked) == [1]


def test_what_is_shown_must_be_in_the_log(tmp_path: Path) -> None:
    path = tmp_path / "index"
    assert found(path, FRANK) == [3]
    view = MemoryView(LOG, shown={3: LOG[1]})
    with opened(path) as index, pytest.raises(StrongroomError):
        search(view, index, FRANK, 100)


def test_an_entry_that_the_keeper_did_not_sign_is_refused(tmp_path: Path) -> None:
    good = MemoryView(LOG, keeper_key=KEEPER.public_key)
    assert found(tmp_path / "good", FRANK, good) == [3]
    other = MemoryView(LOG, keeper_key=Ed25519Signer.from_seed(b"o" * 32).public_key)
    with opened(tmp_path / "other") as index, pytest.raises(EntryForgedError):
        search(other, index, FRANK, 100)


def test_two_searches_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "index"
    assert found(path, FRANK) == [3]
    with opened(path) as first:
        assert first.find(FRANK, 9, 100) == Places((3,), 0)
        with pytest.raises(UnavailableError, match="index"):
            SqliteIndex(path)
        assert first.find(FRANK, 9, 100) == Places((3,), 0)


def test_a_search_waits_for_nobody_who_writes(tmp_path: Path) -> None:
    path = tmp_path / "index"
    assert found(path, FRANK) == [3]
    with opened(path) as index:
        index._db.execute("BEGIN IMMEDIATE")
        index._db.execute("DELETE FROM term")
        searched = list[Places]()
        with index._turn:
            other = Thread(target=lambda: searched.append(index.find(FRANK, 9, 100)))
            other.start()
            other.join(30)
        assert searched == [Places((3,), 0)]
        index._db.execute("ROLLBACK")


def test_a_search_goes_on_while_the_index_is_thrown_away(tmp_path: Path) -> None:
    path = tmp_path / "index"
    assert found(path, FRANK) == [3]
    with opened(path) as index:
        frank, view = "SELECT i FROM term WHERE value = 'frank'", MemoryView(LOG)
        with index._readers.one() as reader:
            assert reader.places(frank, []) == [3]
            index.discard()
            assert index.find(FRANK, 9, 100) == Places((), 0)
            index.update(view, view.head())
            assert reader.places(frank, []) == [3]
        # Its connection went with the old file, and took nothing of the new one along.
        assert path.with_name("index-wal").stat().st_size > 0
        assert index.find(FRANK, 9, 100) == Places((3,), 0)
    assert found(path, FRANK) == [3]


def test_no_statement_over_a_file_goes_on_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_search, "ENDLESS", 50)
    path = tmp_path / "index"
    assert found(path, FRANK) == [3]
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT count(*) FROM n"
    with opened(path) as index, index._readers.one() as reader, pytest.raises(IndexWrongError), trusting_nothing():
        reader.place(endless, [])


def test_no_statement_of_whoever_writes_goes_on_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_search, "ENDLESS", 50)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT count(*) FROM n"
    with opened(tmp_path / "index") as index, pytest.raises(IndexWrongError), index._writer() as db:
        db.execute(endless).fetchall()


def test_a_trigger_that_is_called_as_a_table_is_does_not_run(tmp_path: Path) -> None:
    path = tmp_path / "index"
    assert found(path, FRANK) == [3]
    change(
        path,
        "CREATE TRIGGER place AFTER INSERT ON entry BEGIN DELETE FROM term; END",
        "PRAGMA writable_schema = ON",
        # Its row comes behind its own table's, and before that of the table of the same name.
        "UPDATE sqlite_master SET rowid = -9 WHERE name = 'entry'",
        "UPDATE sqlite_master SET rowid = -5 WHERE type = 'trigger'",
    )
    assert found(path, FRANK, MemoryView(LOG * 2)) == [3, 3 + len(LOG)]


def test_rows_out_of_their_order_are_found_out(tmp_path: Path) -> None:
    path = tmp_path / "index"
    assert found(path, FRANK) == [3]
    rows = [f"INSERT INTO term VALUES ('person', 'frank', {i})" for i in range(2, 7)]  # noqa: S608
    change(path, "DELETE FROM term", *rows)
    whole = path.read_bytes()
    assert whole.count(b"personfrank\x03") == 1
    path.write_bytes(whole.replace(b"personfrank\x03", b"personfrank\x09"))
    with opened(path) as index, pytest.raises(IndexWrongError, match="order"):
        index.find(FRANK, 9, 7)
    assert found(path, FRANK) == [3]


def test_a_value_that_would_fill_the_memory_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "index"
    assert found(path, FRANK) == [3]
    change(path, "UPDATE place SET peaks = zeroblob(1 << 21)")
    with opened(path) as index, pytest.raises(IndexWrongError, match="can't be read"):
        index._place(MemoryView(LOG).head().origin)
    assert found(path, FRANK) == [3]


def test_a_journal_that_names_somebody_s_file_takes_nothing_away(tmp_path: Path) -> None:
    """SQLite deletes the super-journal that a rollback journal names once it has played it back."""
    path, victim = tmp_path / "index", tmp_path / "victim"
    assert found(path, FRANK) == [3]
    change(path, "PRAGMA journal_mode = DELETE")
    victim.write_bytes(b"precious\n")
    name, magic = str(victim).encode(), bytes.fromhex("d9d505f920a163d7")
    header = magic + struct.pack(">IIIII", 0, 0, path.stat().st_size // 4096, 512, 4096)
    named = struct.pack(">I", 0x40000000 // 4096 + 1) + name + struct.pack(">II", len(name), sum(name)) + magic
    path.with_name("index-journal").write_bytes(header.ljust(512, b"\0") + named)
    assert found(path, FRANK) == [3]
    assert victim.read_bytes() == b"precious\n"


@pytest.mark.parametrize("beside", ["-wal", "-shm"])
def test_a_link_beside_the_index_is_not_followed(tmp_path: Path, beside: str) -> None:
    path, victim = tmp_path / "index", tmp_path / "victim"
    victim.write_bytes(b"")
    path.with_name(f"index{beside}").symlink_to(victim)
    assert found(path, FRANK) == [3]
    assert victim.read_bytes() == b""


def test_an_index_that_is_closed_under_who_lets_it_grow_stays(tmp_path: Path) -> None:
    path = tmp_path / "index"
    assert found(path, FRANK) == [3]
    longer, index = MemoryView(LOG * 2), SqliteIndex(path)
    before, read = path.stat().st_ino, longer.entries

    def closing_it(start: int, count: int) -> tuple[bytes, ...]:
        index.close()
        return read(start, count)

    longer.entries = closing_it  # type: ignore[method-assign]
    with pytest.raises(UnavailableError, match="closed"):
        index.grow(longer, longer.head())
    # Somebody else may have it by now.
    assert path.stat().st_ino == before
    with opened(path) as again:
        assert again._place(longer.head().origin).size == len(LOG)


def test_the_beginning_of_too_many_digests_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_search, "MOST_DIGESTS", 1)
    with opened(tmp_path / "index") as index:
        digests = [f"sha256:abcdef{n:058}" for n in range(2)]
        index._db.executemany("INSERT INTO term VALUES ('request', ?, 1)", [[one] for one in digests])
        with pytest.raises(UsageError, match="begin like that"):
            index.find(Query(request="abcdef"), 9, 100)
        assert index.find(Query(request=digests[0]), 9, 100).looked == 0


@pytest.mark.parametrize("beside", ["-wal", "-shm", "-journal"])
@pytest.mark.parametrize("data", [b"", b"x" * 5000, bytes(40_000)])
def test_whatever_lies_beside_the_index_changes_nothing(tmp_path: Path, beside: str, data: bytes) -> None:
    path = tmp_path / "index"
    assert found(path, FRANK) == [3]
    path.with_name(f"index{beside}").write_bytes(data)
    assert found(path, FRANK) == [3]


def test_nobody_else_may_read_who_did_what(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "index"
    assert found(path, FRANK) == [3]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    # Whoever made it before.
    path.chmod(0o644)
    assert found(path, FRANK) == [3]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_in_the_place_of_the_index_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"mine")
    (tmp_path / "index").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic"):
        SqliteIndex(tmp_path / "index")
    assert (tmp_path / "target").read_bytes() == b"mine"


# --- a hostile folder -------------------------------------------------------------------------------------------------


def _bundle(log: LocalLog) -> Path:
    return log.public / Tile(None, 0, 30).path


def _cut(log: LocalLog) -> None:
    _bundle(log).write_bytes(_bundle(log).read_bytes()[:-1])


def _edit(log: LocalLog) -> None:
    _bundle(log).write_bytes(_bundle(log).read_bytes().replace(b"dana", b"anna", 1))


def _remove(log: LocalLog) -> None:
    _bundle(log).unlink()


def _nonsense(log: LocalLog) -> None:
    _bundle(log).write_bytes(os.urandom(500))


def _other_head(log: LocalLog) -> None:
    path = log.public / "checkpoint"
    path.write_bytes(path.read_bytes().replace(b"\n30\n", b"\n29\n"))


@pytest.mark.parametrize("harm", [_cut, _edit, _remove, _nonsense, _other_head])
@pytest.mark.parametrize("key", [LOG_KEY, None])
def test_a_damaged_folder_is_refused(tmp_path: Path, harm: Callable[[LocalLog], None], key: object) -> None:
    log = LocalLog(tmp_path)
    log.append(some_entries(30))
    harm(log)
    view = PublishedView(FolderSource(log.public), LOG_KEY if key else None, None)
    with opened(tmp_path / "index") as index, pytest.raises(StrongroomError) as caught:
        search(view, index, Query(person="dana"), 10)
    assert isinstance(caught.value, LogError)


def test_a_folder_that_was_rewritten_is_not_served_from_an_old_index(tmp_path: Path) -> None:
    log = LocalLog(tmp_path)
    log.append(some_entries(30))
    source = FolderSource(log.public)
    with opened(tmp_path / "index") as index:
        assert len(search(PublishedView(source, LOG_KEY, None), index, Query(person="dana"), 100)) > 2
        _edit(log)
        with pytest.raises(ProofError):
            search(PublishedView(source, LOG_KEY, None), index, Query(person="dana"), 100)
