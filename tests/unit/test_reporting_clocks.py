"""Reporting clocks: due when the instruments say, never later, whatever clocks and calendars do; drafts name blanks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.clock import format_instant, parse_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, NotFoundError
from strongroom.framework.catalogue import load
from strongroom.response import drafts
from strongroom.response.clocks import DAY, DUTIES, HOUR, Deadline, deadline, running
from strongroom.response.drafts import blanks, draft_report
from strongroom.response.entries import Fact, Happened
from strongroom.response.exposure import Exposed, Holder, Totals
from strongroom.response.incident import Incident
from support.responses import NOW, Record, alert

H = Happened


@pytest.mark.parametrize(
    ("clock", "began", "due"),
    [
        ("eu-cop-initial", "2026-11-26T10:00:00Z", "2026-12-01T10:00:00Z"),
        ("eu-cop-update", "2026-12-01T10:00:00Z", "2026-12-29T10:00:00Z"),
        ("eu-cop-final", "2026-12-01T10:00:00Z", "2027-01-30T10:00:00Z"),
        ("ca-sb53-report", "2026-11-26T10:00:00Z", "2026-12-11T10:00:00Z"),
        ("ca-sb53-danger", "2026-11-26T10:00:00Z", "2026-11-27T10:00:00Z"),
        ("ny-raise-report", "2027-01-04T10:00:00Z", "2027-01-07T10:00:00Z"),
        ("ny-raise-danger", "2027-01-04T10:00:00Z", "2027-01-05T10:00:00Z"),
        # Over the end of February, of a leap year and of another.
        ("eu-cop-initial", "2028-02-26T00:00:00Z", "2028-03-02T00:00:00Z"),
        ("eu-cop-initial", "2027-02-26T00:00:00Z", "2027-03-03T00:00:00Z"),
        # Over the leap second at the end of 2016: whole seconds since 1970 don't count it.
        ("ca-sb53-danger", "2016-12-31T12:00:00Z", "2017-01-01T12:00:00Z"),
    ],
)
def test_each_clock_is_due_when_its_instrument_says(clock: str, began: str, due: str) -> None:
    found = deadline(clock, parse_instant(began))
    assert format_instant(found.due) == due
    assert found.left(found.due) == 0
    assert found.left(found.due + 1) < 0


def test_no_leap_second_is_a_moment() -> None:
    with pytest.raises(MalformedError):
        parse_instant("2016-12-31T23:59:60Z")


@pytest.mark.parametrize(
    ("began", "told"),
    [
        # Clocks in Brussels go back on 25 October 2026 and forward on 28 March 2027; the deadline doesn't move.
        ("2026-10-24T08:00:00Z", "2026-10-29T09:00:00+01:00 (2026-10-29T08:00:00Z)"),
        ("2027-03-26T09:00:00Z", "2027-03-31T11:00:00+02:00 (2027-03-31T09:00:00Z)"),
    ],
)
def test_summer_time_moves_what_is_shown_and_not_what_is_due(began: str, told: str) -> None:
    assert deadline("eu-cop-initial", parse_instant(began)).told(ZoneInfo("Europe/Brussels")) == told


@given(st.sampled_from(sorted(DUTIES)), st.integers(0, 4_000_000_000), st.integers(-14 * 60, 14 * 60))
def test_what_is_shown_is_the_moment_that_is_due(clock: str, began: int, minutes: int) -> None:
    found = deadline(clock, began)
    assert found.due - began == DUTIES[clock].within
    shown = found.told(timezone(timedelta(minutes=minutes)))
    assert int(datetime.fromisoformat(shown.partition(" ")[0]).timestamp()) == found.due


@given(st.integers(0, 4_000_000_000), st.integers(-12 * 3600, 14 * 3600))
def test_counting_whole_days_is_never_earlier_than_what_is_shown(began: int, offset: int) -> None:
    # Regulation 1182/71 and its like don't count the first day, and end with the last one: at midnight, local time.
    local = datetime.fromtimestamp(began, UTC) + timedelta(seconds=offset)
    midnight = local.replace(hour=0, minute=0, second=0) + timedelta(days=6)
    counted = int(midnight.timestamp()) - offset
    assert deadline("eu-cop-initial", began).due <= counted


def test_each_duty_is_one_of_the_framework() -> None:
    known = {one.id for one in load().external_requirements}
    assert {duty.requirement for duty in DUTIES.values()} <= known
    assert DUTIES["eu-cop-initial"].within == 5 * DAY
    assert DUTIES["ny-raise-report"].within == 72 * HOUR
    with pytest.raises(NotFoundError):
        deadline("whatever", NOW)


def incident() -> Record:
    made = Record.of(alert())
    made.add(H.ROLE_TAKEN, {"role": "commander"}, "person:dana")
    for clock in ("ca-sb53-report", "eu-cop-initial"):
        made.add(H.CLOCK_STARTED, {"clock": clock}, "person:dana")
    named: dict[str, Fact] = {"action": "freeze-releases", "subject": "model:atlas", "key": "k1"}
    made.add(H.ACTION_PROPOSED, named)
    made.add(H.ACTION_DONE, {**named, "micros": 5})
    return made


EXPOSED = Exposed(
    model="atlas",
    totals=Totals(holdings=2, for_ever=1, people=2, hosts=1),
    holders=(
        Holder(
            way="released",
            version=2,
            person="rina",
            host="tpm-" + "a" * 64,
            request="sha256:" + "b" * 64,
            since=NOW - 100,
            until=NOW,
            bits=9,
        ),
        Holder(
            way="exported",
            version=2,
            person="omar",
            host="",
            request="sha256:" + "c" * 64,
            since=NOW - 100,
            until=None,
            bits=0,
        ),
    ),
    let_out_bits=501,
    within_bits=9,
    theft_bits=1000,
    entries=41,
    unknowable=("who read memory",),
)


def entered(record: Record, exposed: Exposed) -> Incident:
    return record.add(H.EXPOSURE_READ, exposed.facts(Digest.of(exposed.model.encode())))


def owed() -> Deadline:
    return deadline("eu-cop-initial", NOW)


def test_the_most_pressing_clock_comes_first() -> None:
    assert [one.duty.id for one in running(incident().incident)] == ["eu-cop-initial", "ca-sb53-report"]


def test_a_draft_says_what_is_known_and_names_what_is_not() -> None:
    made = entered(incident(), EXPOSED)
    text = draft_report(made, running(made)[0], {"atlas": EXPOSED}, now=NOW)
    for told in (
        made.id,
        "Measure 9.3(2)",
        "commander: dana",
        "freeze-releases of model:atlas: done",
        "not verified",
        "501 thousandths",
        "people: omar, rina",
        "for ever",
        "could be the whole weights: yes",
        "can't be known: who read memory",
        "isn't legal advice",
        format_instant(NOW + 5 * DAY),
    ):
        assert told in text
    assert len(blanks(text)) == 6
    without = draft_report(made, running(made)[0], {}, now=NOW)
    assert "who could have had which bytes, and when, of atlas" in blanks(without)
    assert "counted out of it: 501 bits ever; the theft bound is 1000" in without
    nobody = Record.of(alert("person:rina")).incident
    assert "who could have had which bytes, and when" in blanks(draft_report(nobody, owed(), {}, now=NOW))


def test_a_draft_about_several_models_takes_the_counts_of_all_and_says_what_is_not_read() -> None:
    record = Record.of(alert("person:rina"))
    for number, name in enumerate(("atlas", "orion", "vela", "lyra", "cygnus")):
        record.add(H.ACTION_PROPOSED, {"action": "freeze-releases", "subject": f"model:{name}", "key": f"k{number}"})
    record.add(H.EXPOSURE_UNREAD, {"model": "cygnus", "cause": "too-many-models"})
    orion = replace(EXPOSED, model="orion", let_out_bits=20, theft_bits=0)
    entered(record, EXPOSED)
    made = entered(record, orion)
    answers = {"atlas": EXPOSED, "orion": orion}
    text = draft_report(made, owed(), answers, now=NOW)
    for told in (
        "models: 5; read of 2, not of 3",
        "counted out of all that were read: 521 bits ever",
        "was counted out of 0 of them; of 1 no bound is known",
        # Who is named under both is one.
        "people, over all that were read: 2\n",
        "hosts, over all that were read: 1\n",
        "holdings, over all that were read: 4\n",
        "model: atlas; read from 41",
        "model: orion; read from 41",
        "model: vela; not read (not yet)",
        "model: cygnus; not read (too-many-models)",
    ):
        assert told in text
    assert {f"who could have had which bytes, and when, of {name}" for name in ("vela", "lyra", "cygnus")} <= {
        *blanks(text)
    }
    # Of an answer that nobody has the counts stand in the record; whether its people are the others isn't known.
    fewer = draft_report(made, owed(), {"atlas": EXPOSED}, now=NOW)
    assert "people, over all that were read: 2 at least, 4 at most" in fewer
    assert "counted out of all that were read: 521 bits ever" in fewer
    assert "who could have had which bytes, and when, of orion" in blanks(fewer)
    # An answer about another model than the entry says fills nothing.
    assert draft_report(made, owed(), {"atlas": EXPOSED, "orion": EXPOSED}, now=NOW) == fewer


def test_a_clock_that_is_started_late_says_when_it_may_be_due() -> None:
    made = Record.of(alert())
    for clock in ("eu-cop-initial", "ca-sb53-report", "ca-sb53-danger"):
        made.add(H.CLOCK_STARTED, {"clock": clock}, "person:dana", NOW + 3 * DAY)
    by = {one.duty.id: one for one in running(made.incident)}
    assert (by["eu-cop-initial"].due, by["eu-cop-initial"].earliest) == (NOW + 8 * DAY, NOW + 5 * DAY)
    assert by["ca-sb53-report"].earliest == NOW + 15 * DAY
    # Nobody sees danger by an alert.
    assert by["ca-sb53-danger"].earliest == by["ca-sb53-danger"].due
    text = draft_report(made.incident, by["eu-cop-initial"], {}, now=NOW + 3 * DAY)
    assert f"due {format_instant(NOW + 5 * DAY)}, if that was so (aware) when the incident was found" in text
    assert "since when it was so, by whose judgement" in blanks(text)
    assert "if that was so" not in draft_report(made.incident, by["ca-sb53-danger"], {}, now=NOW)


def test_a_draft_about_thousands_names_some_and_counts_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts, "MAX_LISTED", 2)
    record = incident()
    for number in range(5):
        record.add(H.EVIDENCE_FROZEN, {"evidence": str(Digest.of(b"%d" % number)), "entries": 1})
        named: dict[str, Fact] = {"action": "notify", "subject": "model:atlas", "key": f"n{number}"}
        record.add(H.ACTION_PROPOSED, named)
    many = replace(EXPOSED, totals=Totals(holdings=20_000, for_ever=1, people=700, hosts=1))
    made = entered(record, many)
    text = draft_report(made, running(made)[0], {"atlas": many}, now=NOW)
    for told in ("people: omar, rina, and 698 more", "and 19998 more", "and 3 more", "4 before that"):
        assert told in text
    assert str(Digest.of(b"4")) in text
    assert str(Digest.of(b"0")) not in text


def test_a_draft_of_a_report_that_is_owed_again_says_so() -> None:
    made, again = Record.of(alert()), "owed again as long after each report"
    assert again in draft_report(made.incident, deadline("eu-cop-update", NOW), {}, now=NOW)
    assert again not in draft_report(made.incident, deadline("eu-cop-initial", NOW), {}, now=NOW)


def test_a_draft_before_the_day_says_so() -> None:
    made = Record.of(alert())
    found = deadline("ny-raise-report", NOW)
    assert "applies from 2027-01-01T00:00:00Z" in draft_report(made.incident, found, {}, now=NOW)
