"""What lies in the folders beside a console is read with bounds, and whatever it is, the page comes to its end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strongroom.assurance.assessment import Assessment
from strongroom.assurance.reports import forms
from strongroom.assurance.reports.forms import FORMS
from strongroom.audit.entries import Entry, read_entry
from strongroom.audit.facts import Fact
from strongroom.console.adapters import delivery_folders
from strongroom.console.adapters.assessment_folder import FILE, AssessmentFolder
from strongroom.console.adapters.delivery_folders import DeliveryFolders
from strongroom.console.assessments import Kept, Notice, gaps_by_level, is_old, standing
from strongroom.console.deliveries import fold
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId
from strongroom.framework.catalogue import Catalogue, load
from strongroom.framework.levels import SecurityLevel
from strongroom.quarantine.adapters.delivery_folder import DeliveryFolder
from strongroom.quarantine.terms import GateRules, Terms
from support.examples import examples
from support.log_views import entry
from support.reported import assessment

DAY = 86400
DELIVERY = "ab" * 16
QUICK = settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CUT = st.one_of(st.binary(max_size=200), st.integers(0, 2000).map(lambda n: assessment().to_bytes()[:n]))


def shelf(tmp_path: Path) -> AssessmentFolder:
    return AssessmentFolder(tmp_path, load())


def kept(tmp_path: Path, made: Assessment) -> Kept:
    (tmp_path / FILE).write_bytes(made.to_bytes())
    found = shelf(tmp_path).newest()
    assert isinstance(found, Kept)
    return found


@QUICK
@given(CUT)
def test_any_bytes_are_an_assessment_or_an_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE).write_bytes(data)
    assert isinstance(shelf(tmp_path).newest(), StrongroomError)


def test_an_assessment_is_judged_once_for_each_state_of_its_file(tmp_path: Path) -> None:
    folder = shelf(tmp_path)
    assert folder.newest() is None
    path = tmp_path / FILE
    path.write_bytes(assessment().to_bytes())
    first = folder.newest()
    assert isinstance(first, Kept)
    assert first.digest == assessment().digest
    assert folder.newest() is first
    told = path.stat()
    path.write_bytes(assessment().to_bytes().replace(b'"met"', b'"mat"'))
    os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns))
    assert isinstance(folder.newest(), StrongroomError)


def test_another_spelling_of_an_assessment_is_none(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(assessment().to_bytes() + b"\n")
    assert isinstance(shelf(tmp_path).newest(), StrongroomError)


def test_many_visits_at_once_judge_a_file_once_and_make_each_report_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / FILE).write_bytes(assessment().to_bytes())
    done: list[str] = []
    check, make = Assessment.check, FORMS["csv"].writer()

    def slow_check(made: Assessment, catalogue: Catalogue) -> None:
        done.append("judged")
        time.sleep(0.05)
        check(made, catalogue)

    def slow_make(made: Assessment, catalogue: Catalogue) -> Mapping[str, bytes]:
        done.append("written")
        time.sleep(0.05)
        return make(made, catalogue)

    monkeypatch.setattr(Assessment, "check", slow_check)
    monkeypatch.setattr(forms, "as_csv", slow_make)
    folder, found = shelf(tmp_path), []

    def visit() -> None:
        one = folder.newest()
        assert isinstance(one, Kept)
        found.append(folder.report(one, "csv"))

    visits = [threading.Thread(target=visit) for _ in range(6)]
    for one in visits:
        one.start()
    for one in visits:
        one.join()
    assert (done, len(found), len({*map(id, found)})) == (["judged", "written"], 6, 1)


def test_what_was_wrong_is_remembered_without_what_was_read_or_who_asked(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"x" * 1000)
    folder = shelf(tmp_path)
    for _visit in range(2):
        found = folder.newest()
        assert isinstance(found, StrongroomError)
        # An exception holds the frames that it went through, and the one that it was raised from its own: the file's
        # text, and the visit of whoever asked before.
        assert (found.__traceback__, found.__context__) == (None, None)
        with pytest.raises(StrongroomError, match="aren't JSON"):
            raise found


def test_how_an_assessment_stands_to_the_log(tmp_path: Path) -> None:
    made = kept(tmp_path, assessment())
    notice = Notice(
        index=3, assessment=made.digest, held=None, goal=SecurityLevel.SL3, made=made.assessment.at, person="sam"
    )
    assert standing(made, None) == "unrecorded"
    assert standing(made, notice) == "recorded"
    other = replace(notice, assessment=Digest.of(b"another"))
    assert standing(made, replace(other, made=made.assessment.at - 1)) == "newer"
    assert standing(made, other) == "older"
    assert (is_old(0, 7 * DAY), is_old(0, 7 * DAY + 1)) == (False, True)


def test_gaps_are_there_once_each_level_by_level() -> None:
    found = gaps_by_level(assessment(), load())
    assert [*found] == sorted(found)
    assert [one for some in found.values() for one in some] == [*assessment().gaps(load())]


def _recorded(seq: int, delivery: str, state: str) -> Entry:
    facts: dict[str, Fact] = {
        "delivery": delivery,
        "model": "minilm",
        "state": state,
        "made": "2026-11-26T12:00:00Z",
        "record": Digest.of(f"{seq}".encode()),
        "artifact": None,
        "statement": Digest.of(b"statement"),
        "person": "dana",
    }
    return read_entry(entry(EventName.INTAKE_RECORDED, seq, facts))


def _reviewed(seq: int, delivery: str, outcome: str) -> Entry:
    facts: dict[str, Fact] = {
        "delivery": delivery,
        "record": Digest.of(b"record"),
        "statement": Digest.of(b"statement"),
        "reviewer": "sam",
        "outcome": outcome,
    }
    return read_entry(entry(EventName.INTAKE_REVIEWED, seq, facts))


def test_deliveries_whose_beginning_is_not_seen_are_left_out() -> None:
    old, new = "cd" * 16, DELIVERY
    acts = (
        _recorded(0, old, "scanned"),
        _reviewed(1, old, "accept"),
        _recorded(2, new, "received"),
        _recorded(3, new, "hashed"),
        _reviewed(4, new, "accept"),
        _reviewed(5, new, "deny"),
    )
    found = fold(enumerate(acts))
    assert [*found] == [new]
    assert ([one.index for one in found[new].steps], found[new].state) == ([2, 3], "hashed")
    assert (found[new].open, found[new].denied, found[new].operator) == (True, True, "dana")


def laid(path: Path) -> DeliveryFolder:
    folder = DeliveryFolder(path)
    path.mkdir()
    terms = Terms(
        genesis=Digest.of(b"genesis"),
        delivery=DELIVERY,
        model=ModelId("minilm"),
        leave_out=frozenset(),
        signature=None,
        attachments=(),
        rules=GateRules(),
        converted_from=None,
    )
    folder.fix(terms)
    return folder


@QUICK
@given(st.sampled_from(("terms.json", "records/0.json", "verdict.json")), st.binary(max_size=200))
def test_any_bytes_in_a_delivery_end_in_an_error(tmp_path: Path, name: str, data: bytes) -> None:
    place = tmp_path / "here"
    if not place.exists():
        laid(place)
    kept_bytes = {one: (place / one).read_bytes() for one in ("terms.json",)}
    (place / name).parent.mkdir(exist_ok=True)
    (place / name).write_bytes(data)
    found = DeliveryFolders(tmp_path).find(DELIVERY)
    assert all(isinstance(one, StrongroomError) for one in found)
    (place / name).unlink()
    for one, before in kept_bytes.items():
        (place / one).write_bytes(before)


def test_a_document_is_read_no_further_than_a_page_goes_whatever_its_size_was(tmp_path: Path) -> None:
    folder = laid(tmp_path / "here")
    digest = folder.keep(b"x" * 100)
    assert DeliveryFolder(folder.path, most_document=100).document(digest) == b"x" * 100
    with pytest.raises(MalformedError, match="more than 99 bytes"):
        DeliveryFolder(folder.path, most_document=99).document(digest)


def test_links_to_folders_are_not_followed_and_too_many_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laid(tmp_path / "elsewhere")
    shelf_of_links = tmp_path / "shelf"
    shelf_of_links.mkdir()
    (shelf_of_links / "led").symlink_to(tmp_path / "elsewhere")
    (shelf_of_links / "a file").write_text("x")
    assert DeliveryFolders(shelf_of_links).find(DELIVERY) == ()
    monkeypatch.setattr(delivery_folders, "MOST_FOLDERS", 1)
    for name in ("one", "two"):
        (shelf_of_links / name).mkdir()
    (told,) = DeliveryFolders(shelf_of_links).find(DELIVERY)
    assert isinstance(told, StrongroomError)
    assert "more than" in told.message
