"""An export under pseudonyms names nobody, and can still be joined line with line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.audit.entries import read_entry
from strongroom.audit.export.cloudevents import CloudEventsFormat
from strongroom.audit.export.ocsf import OcsfFormat
from strongroom.audit.export.otlp import OtlpFormat
from strongroom.audit.export.pseudonyms import Pseudonyms
from strongroom.audit.export.record import Format, Record, record_of
from strongroom.audit.export.tables import CsvFormat
from strongroom.audit.facts import SCHEMA, Kind, form_of
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.events import EventName
from support.logs import ORIGIN, PUBLISHER, sample_entry

ONE, OTHER = Pseudonyms(b"1" * 32), Pseudonyms(b"2" * 32)
NAMES = ("dana", "erin", "frank", "tpm-" + "5a" * 32, str(PUBLISHER.public_key))
FORMATS: tuple[Format, ...] = (CloudEventsFormat(), OcsfFormat(), OtlpFormat(), CsvFormat())


def record(event: EventName) -> Record:
    data = sample_entry(event, 7)
    return record_of(ORIGIN, 3, data, read_entry(data))


@pytest.mark.parametrize("event", EventName)
@pytest.mark.parametrize("written", FORMATS)
def test_no_name_is_left_in_any_format(event: EventName, written: Format) -> None:
    text = written.lines((ONE.of(record(event)),)).decode()
    assert not [name for name in NAMES if name in text]


@pytest.mark.parametrize("event", EventName)
def test_nothing_else_is_changed(event: EventName) -> None:
    before, after = record(event), ONE.of(record(event))
    for name, kind in SCHEMA[event].items():
        personal = kind in {Kind.PERSON, Kind.PERSONS, Kind.PLATFORM, Kind.PUBLIC_KEY}
        if not personal and name not in {"key", "keys", "hardware"}:
            assert after.facts[name] == before.facts[name]
    assert (after.index, after.leaf, after.at) == (before.index, before.leaf, before.at)


def test_the_ids_of_peoples_keys_are_hidden_too() -> None:
    # A key's id stands in the roster, beside the person's name.
    for event, name in ((EventName.REQUEST_APPROVED, "key"), (EventName.PLATFORM_ENROLLED, "hardware")):
        assert str(ONE.of(record(event)).facts[name]).startswith("h1:")
    keys = ONE.of(record(EventName.KEYS_ENROLLED)).facts["keys"]
    assert isinstance(keys, tuple)
    assert len(keys) == 2
    assert all(one.startswith("h1:") for one in keys)


def test_one_person_has_one_pseudonym_in_every_role() -> None:
    asked = ONE.of(record(EventName.REQUEST_CREATED)).facts["requester"]
    agreed = ONE.of(record(EventName.REQUEST_APPROVED)).facts["person"]
    assert asked == agreed == ONE.name("person", "dana")
    assert asked != OTHER.name("person", "dana")


def test_a_persons_pseudonym_is_not_a_machines_of_the_same_name() -> None:
    assert len({ONE.name(what, "dana") for what in ("person", "platform", "key", "hardware")}) == 4


@given(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8), st.text(max_size=8))
def test_no_two_names_collide(what: str, value: str, what2: str, value2: str) -> None:
    same = (what, value) == (what2, value2)
    assert (ONE.name(what, value) == ONE.name(what2, value2)) == same
    assert not what or ONE.name(what, value) != ONE.name(what[:-1], what[-1] + value)


def test_a_pseudonym_says_which_key_made_it_and_is_no_name_of_the_log() -> None:
    name = ONE.name("person", "dana")
    assert name.split(":")[:2] == ["h1", ONE.key_id]
    assert ONE.key_id != OTHER.key_id
    with pytest.raises(MalformedError):
        form_of(Kind.PERSON)(name)
    assert b"1" * 8 not in repr(ONE).encode()
    assert json.dumps(name)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(UsageError):
        Pseudonyms(b"short")
