"""A search finds each planted copy of a model in a tree of other things, says what is wrong with it, and takes no other
model for it; it survives what can't be read, follows no link out, and goes on where it was killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from strongroom.cli import scan, scan_remote
from strongroom.core.errors import UsageError
from strongroom.intake.adapters import scan_tree
from strongroom.intake.adapters.delivered_folder import OpenFile
from strongroom.intake.copies import discovery
from support.copies import HOST, CopiesLab, opened_lab
from support.planted import PLANTED, npy, safetensors, small_model
from support.sealed import seal_model, write_model

pytestmark = pytest.mark.integration
OURS = small_model(1)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CopiesLab]:
    # Beside other tests, a search that lets everything else go first would take minutes.
    monkeypatch.setattr(scan, "yield_to_others", lambda: None)
    with opened_lab(tmp_path, monkeypatch) as made:
        made.fingerprint(OURS)
        yield made


def write(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
    return path


def by_path(found: Any) -> dict[str, Any]:
    return {one["path"]: one for one in found["findings"]}


def test_every_planted_copy_is_found_and_nothing_else(lab: CopiesLab) -> None:
    planted = {str(write(lab.tree / "ours" / name, make(OURS))) for name, make in PLANTED.items()}
    for name, make in PLANTED.items():
        write(lab.tree / "others" / name, make(small_model(2)))
    for place in range(50):
        write(lab.tree / "texts" / f"{place}.txt", b"plain text\n" * (place * 20))
        write(lab.tree / "random" / f"{place}.bin", os.urandom(place * 500))
    found = lab.scan(lab.tree, "--all", code=1)
    ours = [one for one in found["findings"] if one["model"] is not None]
    assert {one["path"] for one in ours} == {one["path"] for one in found["alerts"]} == planted
    assert all(not one["registered"] and not one["encrypted"] for one in ours)
    assert (found["files"], found["unread_files"]) == (2 * len(PLANTED) + 100, 0)
    # Integers may be anything; all else that the other model left is known for weights.
    assert len(found["findings"]) == 2 * len(PLANTED) - 1


def test_a_registered_copy_is_known_by_its_place_kind_and_host(lab: CopiesLab) -> None:
    path = write(lab.tree / "export" / "model.safetensors", safetensors(OURS))
    assert not by_path(lab.scan(lab.tree, code=1))[str(path)]["registered"]
    # A copy that is registered as sealed, on another host, or of another model isn't this one.
    lab.add(path.parent, kind="sealed")
    assert not by_path(lab.scan(lab.tree, code=1))[str(path)]["registered"]
    lab.add(path.parent)
    found = by_path(lab.scan(lab.tree, code=1))[str(path)]
    assert (found["registered"], found["encrypted"]) == (True, False)
    assert not by_path(lab.scan(lab.tree, "--host", "w2", code=1))[str(path)]["registered"]
    assert not by_path(lab.scan(write(lab.tree / "export2" / "x", safetensors(OURS)), code=1)).popitem()[1][
        "registered"
    ]


def test_a_sealed_copy_is_quiet_where_it_is_registered_and_told_where_it_isnt(lab: CopiesLab, tmp_path: Path) -> None:
    clear = write_model(tmp_path / "plain")
    seal_model(clear, lab.tree / "sealed", genesis=lab.deployment.genesis.digest)
    found = lab.scan(lab.tree, code=1)
    assert {(one["content"], one["model"], one["encrypted"]) for one in found["findings"]} == {
        ("sealed", "atlas", True)
    }
    lab.add(lab.tree / "sealed", kind="sealed")
    for path in (lab.tree / "sealed").rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    quiet = lab.scan(lab.tree)
    assert quiet["alerts"] == []
    assert all(one["registered"] for one in quiet["findings"])


def test_a_copy_for_all_to_read_is_told_although_it_is_registered(lab: CopiesLab, tmp_path: Path) -> None:
    seal_model(write_model(tmp_path / "plain"), lab.tree / "sealed", genesis=lab.deployment.genesis.digest)
    lab.add(lab.tree / "sealed", kind="sealed")
    for path in (lab.tree / "sealed").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert all(one["world_readable"] for one in lab.scan(lab.tree, code=1)["alerts"])


def test_no_link_is_followed_and_what_cant_be_read_is_named(lab: CopiesLab, tmp_path: Path) -> None:
    outside = write(tmp_path / "outside" / "model.safetensors", safetensors(OURS))
    (lab.tree / "link").symlink_to(outside)
    (lab.tree / "links").symlink_to(outside.parent)
    (lab.tree / "turn").symlink_to(lab.tree)
    os.mkfifo(lab.tree / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(lab.tree / "s"))
    write(lab.tree / "cut.zip", b"PK\x03\x04" + bytes(9000))
    write(Path(os.fsdecode(os.fsencode(lab.tree) + b"/\xff\xfe.bin")), safetensors(OURS))
    found = lab.scan(lab.tree, code=1)
    assert [one["path"] for one in found["unread"]] == ["cut.zip"]
    assert len(found["findings"]) == 1
    assert found["findings"][0]["path"].endswith(r"\udcff\udcfe.bin")


def test_a_folder_that_refuses_is_named_and_the_rest_is_searched(
    lab: CopiesLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(lab.tree / "b" / "model.bin", safetensors(OURS))
    write(lab.tree / "a" / "hidden", bytes(9000))
    real = os.open

    def refuse(name: Any, *args: Any, **named: Any) -> int:
        if name == "a":
            raise PermissionError(13, "no", "a")
        return real(name, *args, **named)

    monkeypatch.setattr(os, "open", refuse)
    found = lab.scan(lab.tree, code=1)
    assert found["unread"] == [{"path": "a", "why": "permission denied"}]
    assert set(by_path(found)) == {str(path)}


def test_what_is_left_out_is_not_opened(lab: CopiesLab) -> None:
    write(lab.tree / "decoys" / "model.bin", safetensors(OURS))
    assert lab.scan(lab.tree, "--leave-out", lab.tree / "decoys")["files"] == 0


class KilledError(BaseException):
    """Stands for SIGKILL: nothing that follows is carried out."""


@pytest.mark.parametrize("after", [1, 4, 9])
def test_a_search_that_was_killed_goes_on_and_finds_each_copy_once(
    after: int, lab: CopiesLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in range(6):
        write(lab.tree / f"d{place}" / "model.bin", npy(OURS["layers.0.q.weight"]))
        write(lab.tree / f"d{place}" / "x.txt", b"text" * 2000)
    state, whole = lab.folder / "state", lab.scan(lab.tree, code=1) | {"alerts": []}
    monkeypatch.setattr(scan_tree, "SAVE_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        real, count = scan_tree.ScanState.reached, 0

        def die(self: Any, *args: Any) -> None:
            nonlocal count
            count += 1
            if count == after:
                # In the middle of a line.
                self._file.write(b'{"at": ["d')
                self._file.close()
                raise KilledError
            real(self, *args)

        patch.setattr(scan_tree.ScanState, "reached", die)
        patch.setattr(scan_tree.ScanState, "end", lambda *_args, **_named: None)
        with pytest.raises(KilledError):
            lab.run(*_typed(lab, state))
    assert state.exists()
    opened: list[str] = []
    monkeypatch.setattr(scan_tree, "OpenFile", _counting(opened, OpenFile))
    assert lab.scan(lab.tree, "--state", state, code=1) | {"alerts": []} == whole
    assert len(opened) == 12 - (after - 1)
    assert not state.exists()


def _typed(lab: CopiesLab, state: Path) -> list[str | Path]:
    whose: list[str | Path] = ["--registrar", lab.registrar, "--identity", lab.identity, "--register", lab.register]
    return ["scan", lab.tree, "--host", HOST, *whose, "--state", state]


def _counting(opened: list[str], real: Any) -> Any:
    def make(name: str, *args: Any) -> Any:
        opened.append(name)
        return real(name, *args)

    return make


def test_the_state_of_another_search_is_refused(lab: CopiesLab) -> None:
    state = lab.folder / "state"
    state.write_text(json.dumps({"v": 1, "place": "00", "catalogue": "x"}) + "\n")
    assert lab.scan(lab.tree, "--state", state, code=2)["code"] == "usage"
    state.write_text("no state\n")
    assert lab.scan(lab.tree, "--state", state, code=6)["code"] == "malformed"


def test_a_state_that_others_can_write_to_or_another_search_has_is_refused(lab: CopiesLab) -> None:
    write(lab.tree / "model.bin", safetensors(OURS))
    state = write(lab.folder / "state", b"", mode=0o666)
    refused = lab.scan(lab.tree, "--state", state, code=2)
    assert (refused["code"], "only you" in refused["message"]) == ("usage", True)
    state.chmod(0o600)
    with state.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "another search" in lab.scan(lab.tree, "--state", state, code=2)["message"]
    assert len(lab.scan(lab.tree, "--state", state, code=1)["alerts"]) == 1
    link = lab.folder / "link"
    link.symlink_to(lab.folder / "elsewhere")
    assert lab.run(*_typed(lab, link)).exit_code not in {0, 1}
    assert not (lab.folder / "elsewhere").exists()


def test_what_was_found_before_an_interruption_is_judged_by_the_register_as_it_is_now(
    lab: CopiesLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = write(lab.tree / "a" / "model.bin", safetensors(OURS))
    copy = lab.add(place)["copy"]
    state = lab.folder / "state"
    with monkeypatch.context() as patch:
        end = scan_tree.ScanState.end
        patch.setattr(scan_tree.ScanState, "end", lambda self, totals, **_named: end(self, totals, finished=False))
        assert lab.scan(lab.tree, "--state", state, code=1)["findings"][0]["registered"]
    lab.copies("retire", copy, "--how", "lost")
    assert not lab.scan(lab.tree, "--state", state, code=1)["findings"][0]["registered"]


def test_a_file_that_breaks_a_reader_is_named_and_the_rest_is_searched(
    lab: CopiesLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(lab.tree / "a.bin", safetensors(OURS))
    write(lab.tree / "b.bin", safetensors(OURS))
    real = discovery.Judge.judge

    def judge(self: Any, source: Any) -> Any:
        if source.name == "a.bin":
            raise UsageError("a part of a source lies within it")
        return real(self, source)

    monkeypatch.setattr(discovery.Judge, "judge", judge)
    found = lab.scan(lab.tree, code=1)
    assert ([one["path"] for one in found["unread"]], len(found["alerts"])) == (["a.bin"], 1)


def test_objects_that_are_left_out_are_not_read(lab: CopiesLab, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/model.bin", "decoy/model.bin", "decoy2/model.bin"):
        write(lab.tree / name, safetensors(OURS))
    read: list[str] = []
    real = scan_remote.RemoteFile.read

    def count(self: Any, offset: int, length: int) -> bytes:
        read.append(self.name.rsplit("/", 2)[1])
        return real(self, offset, length)

    monkeypatch.setattr(scan_remote.RemoteFile, "read", count)
    address = f"file://{lab.tree}"
    assert len(lab.scan(address, "--leave-out", f"{address}/decoy/", code=1)["alerts"]) == 2
    assert set(read) == {"a", "decoy2"}
    # An option that would do nothing is refused.
    for args in (("--leave-out", str(lab.tree)), ("--state", str(lab.folder / "state"))):
        assert lab.scan(address, *args, code=2)["code"] == "usage"
    assert lab.scan(lab.tree, "--leave-out", address, code=2)["code"] == "usage"


def test_alerts_reach_the_responders_socket(lab: CopiesLab) -> None:
    write(lab.tree / "model.bin", safetensors(OURS), 0o644)
    got: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        path = lab.folder / "scanner.sock"
        listening.bind(str(path))
        listening.listen(1)

        def take() -> None:
            connection, _peer = listening.accept()
            with connection, connection.makefile("rb") as file:
                got.append(file.read())

        taking = threading.Thread(target=take)
        taking.start()
        told = lab.scan(lab.tree, "--tell", path, code=1)["alerts"]
        taking.join(10)
    assert [json.loads(line) for line in got[0].splitlines()] == told
    assert told[0] | {"at": ""} == {
        "event": "scanner:copy:found",
        "at": "",
        "source": "scanner",
        "host": HOST,
        "path": str(lab.tree / "model.bin"),
        "model": "atlas",
        "registered": False,
        "encrypted": False,
        "world_readable": True,
    }


def test_objects_in_a_storage_are_searched_by_ranges(lab: CopiesLab) -> None:
    write(lab.tree / "a" / "model.bin", safetensors(OURS))
    write(lab.tree / "b" / "other.bin", safetensors(small_model(2)))
    found = lab.scan(f"file://{lab.tree}", code=1)
    assert [one["path"] for one in found["findings"]] == [f"file://{lab.tree}/a/model.bin"]
    assert found["files"] == 2
