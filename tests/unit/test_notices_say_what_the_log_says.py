"""A notice says which entry is in the log, and nothing that an approval could be made from."""

from __future__ import annotations

import re

import pytest

from strongroom.access.request import Action
from strongroom.audit.entries import Entry, read_entry
from strongroom.audit.facts import Fact
from strongroom.broker.notices import KINDS, PAGES, Asked, NoticeKind, Priority, asked_of, notices_of
from strongroom.core.events import EventName
from support.logs import sample_entry
from support.notices import Log, digest

ASKED = Asked(action=Action.OPEN_IN_ENCLAVE.value, model="atlas", requester="dana")
GLASS = Asked(action=Action.BREAK_GLASS.value, model="atlas", requester="dana")


def entry(event: EventName, **facts: Fact) -> Entry:
    log = Log()
    log.add(event, **facts)
    return read_entry(log.entries[1])


def test_every_kind_comes_from_an_event() -> None:
    derived = {NoticeKind.BREAK_GLASS_USED, NoticeKind.BREAK_GLASS_REVIEW_DUE}
    assert set(KINDS.values()) | derived == set(NoticeKind)


@pytest.mark.parametrize("event", EventName)
def test_an_event_gives_its_notice_or_none(event: EventName) -> None:
    if event is EventName.LOG_OPENED:
        return
    read = read_entry(sample_entry(event, 0))
    found = notices_of(7, read, ASKED)
    assert [notice.kind for notice in found] == ([KINDS[event]] if event in KINDS else [])
    for notice in found:
        assert (notice.index, notice.at) == (7, read.at)
        assert notice.request == (digest("sample") if "request" in read.facts else None)


def test_the_members_are_a_closed_list() -> None:
    (notice,) = notices_of(7, read_entry(sample_entry(EventName.REQUEST_CREATED, 0)), ASKED)
    assert notice.to_json().keys() == {
        "kind",
        "index",
        "at",
        "priority",
        "request",
        "action",
        "model",
        "requester",
        "text",
    }


@pytest.mark.parametrize("event", [event for event in EventName if event in KINDS])
def test_the_text_has_no_link_and_names_the_command(event: EventName) -> None:
    (notice,) = notices_of(7, read_entry(sample_entry(event, 0)), ASKED)
    text = notice.text()
    assert not re.search(r"https?:|<|\[|\n", text)
    if event in {EventName.REQUEST_CREATED, EventName.REQUEST_APPROVED}:
        assert text.endswith(f"review with: strongroom approve {digest('sample')}")
    else:
        assert "approve " not in text


def test_who_was_suspended_is_not_told() -> None:
    told = str(notices_of(7, entry(EventName.PERSON_SUSPENDED, person="erin"), None)[0].to_json())
    assert "erin" not in told
    assert "log entry 7" in told


def test_break_glass_pages_and_its_first_use_makes_a_review_due() -> None:
    first = notices_of(7, entry(EventName.RELEASED, use=1), GLASS)
    second = notices_of(8, entry(EventName.RELEASED, use=2), GLASS)
    assert [notice.kind for notice in first] == [NoticeKind.BREAK_GLASS_USED, NoticeKind.BREAK_GLASS_REVIEW_DUE]
    assert [notice.kind for notice in second] == [NoticeKind.BREAK_GLASS_USED]
    assert {notice.priority for notice in first + second} == {Priority.PAGE}


@pytest.mark.parametrize("event", [EventName.RELEASED, EventName.EXPORTED])
def test_a_key_handed_over_under_an_unknown_request_pages(event: EventName) -> None:
    (notice,) = notices_of(7, entry(event), None)
    assert (notice.kind, notice.priority) == (NoticeKind.RELEASED, Priority.PAGE)
    assert notices_of(7, entry(event), ASKED)[0].priority is Priority.NORMAL


def test_freezes_breaches_locked_keepers_and_regressed_counters_page() -> None:
    paged = {event for event, kind in KINDS.items() if kind in PAGES}
    assert paged == {
        EventName.MODEL_FROZEN,
        EventName.AUTHENTICATOR_REGRESSED,
        EventName.EGRESS_BREACHED,
        EventName.MODEL_DESTROYED,
        EventName.KEEPER_LOCKED,
        EventName.RESPONDER_SILENT,
    }
    for event in paged:
        assert notices_of(7, entry(event), ASKED)[0].priority is Priority.PAGE


@pytest.mark.parametrize("event", [EventName.REQUEST_CREATED, EventName.GRANT_ISSUED])
def test_a_destruction_pages_while_it_can_still_be_stopped(event: EventName) -> None:
    destroying = Asked(action=Action.DESTROY.value, model="atlas", requester="dana")
    assert notices_of(7, entry(event), destroying)[0].priority is Priority.PAGE
    assert notices_of(7, entry(event), ASKED)[0].priority is Priority.NORMAL


def test_only_the_entry_that_records_a_request_says_what_it_is_for() -> None:
    facts: dict[str, Fact] = {"action": "freeze", "model": "atlas", "requester": "dana"}
    assert asked_of(entry(EventName.REQUEST_CREATED, **facts)) == Asked(
        action="freeze", model="atlas", requester="dana"
    )
    assert asked_of(entry(EventName.MODEL_FROZEN)) is None
