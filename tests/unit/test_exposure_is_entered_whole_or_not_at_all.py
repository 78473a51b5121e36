"""What the log says of a model's exposure, as the console has it signed: all of it, and what the page shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from strongroom.audit.adapters.index import SqliteIndex
from strongroom.audit.reading.exposure import ExposureFold
from strongroom.audit.reading.growth import Place, read_from
from strongroom.console.door import MAX_DRAFTS, Client, Draft, SignedIn
from strongroom.console.errors import FormError, NoPageError
from strongroom.console.growing import OneStep
from strongroom.console.log_reader import LogReader, Opened
from strongroom.console.routes import exposure
from strongroom.console.visits import File, Visit
from strongroom.core.canonical import encode, parse
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId, PersonId
from strongroom.response.acts import ACT_TYPE, FACTS, ActKind
from strongroom.response.exposure import read_exposure
from support.log_views import MODELS, REQUESTS, MemoryView, log_of
from support.logs import AT
from support.metered import POLICY

NAME = ModelId(MODELS[0])


def log(releases: int, *, apart: int = 0) -> MemoryView:
    """Return a log of releases to dana, so many other entries between them."""
    acts: list[tuple[EventName, int, dict[str, Any]]] = []
    for number in range(releases):
        acts += [(EventName.MODEL_FROZEN, 1, {"model": MODELS[1]})] * apart
        handed = {"request": REQUESTS[number % 4], "use": number, "model": NAME, "requester": "dana"}
        acts.append((EventName.RELEASED, 1, handed))
    return MemoryView(log_of(acts))


@pytest.fixture
def index(tmp_path: Path) -> Iterator[SqliteIndex]:
    with closing(SqliteIndex(tmp_path / "index")) as made:
        yield made


def somebody() -> SignedIn:
    """Return somebody who is signed in, and calls no broker."""
    nobody = cast("Any", None)
    return SignedIn(
        person=PersonId("dana"), keys=nobody, session=nobody, close=lambda: None, client=Client(address="", agent=""),
        until=AT, form_secret=b"", seen=AT,
    )  # fmt: skip


def visit_of(view: MemoryView, index: SqliteIndex, *, bound: bool = False, reader: LogReader | None = None) -> Visit:
    rules = {NAME: POLICY} if bound else {}
    trust = SimpleNamespace(models={NAME: None}, egress_by_model=rules if bound else {})
    made = Visit(
        me=somebody(), origin="", now=AT, random_bytes=bytes, reader=reader or LogReader(index),
        verified=cast("Any", trust),
    )  # fmt: skip
    made.opened = cast("Any", opened(made.reader, view))
    return made


def opened(reader: LogReader, view: MemoryView) -> object:
    return Opened(cast("Any", view), view.head(), OneStep(reader.index))


def facts_of(visit: Visit) -> Mapping[str, str | int]:
    return exposure.exposed_now(visit, NAME)


def test_what_is_entered_is_what_the_whole_log_says(index: SqliteIndex) -> None:
    view = log(5)
    visit = visit_of(view, index, bound=True)
    facts = facts_of(visit)
    assert facts.keys() == FACTS[ActKind.EXPOSE].keys()
    fold = ExposureFold(NAME)
    head = view.head()
    for at, entry in read_from(view, Place.start(head.origin), head):
        fold.apply(at, entry)
    naive = read_exposure({**fold.answer().to_json()}, theft_bits=POLICY.effective_size)
    shown = exposure.exposed_of(visit, facts)
    assert (shown.model, shown.holders, shown.people) == (NAME, naive.holders, ("dana",))
    assert {**facts} == {**naive.facts(Digest.parse(str(facts["exposure"])))}
    assert facts["bound"] == POLICY.effective_size


def test_the_answer_that_is_kept_is_the_one_that_the_act_names(index: SqliteIndex) -> None:
    visit = visit_of(log(2), index)
    facts = facts_of(visit)
    visit.path = {"digest": str(facts["exposure"]).removeprefix("sha256:")}
    kept = exposure.answer(visit)
    assert isinstance(kept, File)
    assert str(Digest.of(kept.data)) == facts["exposure"]
    assert read_exposure(parse(kept.data), theft_bits=0).facts(Digest.of(kept.data)) == facts
    assert facts["bound"] == 0


def test_half_an_answer_is_not_entered_and_the_next_form_reads_on(index: SqliteIndex) -> None:
    view, reader = log(200, apart=3), LogReader(index)
    visit = visit_of(view, index, reader=reader)
    with pytest.raises(FormError) as caught:
        facts_of(visit)
    assert caught.value.remedy == "send the form again in a moment: it is read on meanwhile"
    assert not visit.me.drafts
    for _ in range(20):
        with suppress(FormError):
            facts = facts_of(visit_of(view, index, reader=reader))
            break
    assert facts["holders"] == 200


def test_an_index_that_is_behind_lets_nothing_be_entered(index: SqliteIndex) -> None:
    # One step of the index is 2,048 entries: the last release is behind it.
    view = log(2, apart=1500)
    reader = LogReader(index)
    with pytest.raises(FormError, match="2048 of 3003 searched"):
        facts_of(visit_of(view, index, reader=reader))
    assert facts_of(visit_of(view, index, reader=reader))["holders"] == 2


def test_an_answer_is_the_sessions_alone_and_outlives_other_drafts_as_long_as_its_act(index: SqliteIndex) -> None:
    visit = visit_of(log(1), index)
    facts = facts_of(visit)
    with pytest.raises(NoPageError):
        exposure.exposed_of(visit_of(log(1), index), facts)
    for number in range(MAX_DRAFTS - 1):
        visit.me.put_draft(Draft(ACT_TYPE, encode({"n": number})))
    # Asked for once more: it is as new as the act that follows it.
    assert facts_of(visit) == facts
    visit.me.put_draft(Draft(ACT_TYPE, b"the act"))
    assert exposure.exposed_of(visit, facts).model == NAME
