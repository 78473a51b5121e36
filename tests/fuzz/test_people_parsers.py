"""Whatever an identity provider or a file sends: read, or refused with an error of ours. Nothing else, ever."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from strongroom.broker.people.event_errors import EventRefusedError
from strongroom.broker.people.events import SubjectName, signals
from strongroom.broker.people.listing import changes, read_listing
from strongroom.broker.people.records import RecordKind
from strongroom.broker.people.scim_users import lookups_of, lowered, members_of, names_of
from strongroom.broker.people.signed_events import EventVerifier, read_keys
from strongroom.broker.people.tokens import ScimTokens
from strongroom.broker.people.transmitters import EventSettings
from strongroom.core.errors import MalformedError, StrongroomError
from support.people import AUDIENCE, CAEP, EC, ISSUER, NOW, PERSON, RISC, RSA, claims, signed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
EVENTS = st.sampled_from(
    [f"{CAEP}credential-change", f"{CAEP}risk-level-change", f"{RISC}account-disabled", "urn:x", "verification"]
)
FORMATS = st.sampled_from(["email", "iss_sub", "opaque", "account", "scim", "complex", "aliases", "other"])
SUBJECTS = st.recursive(
    st.fixed_dictionaries(
        {"format": FORMATS},
        optional={
            name: st.text(max_size=30) | JSON for name in ("email", "iss", "sub", "id", "uri", "externalId", "user")
        },
    ),
    lambda inner: st.fixed_dictionaries(
        {"format": FORMATS}, optional={"user": inner, "identifiers": st.lists(inner, max_size=3)}
    ),
    max_leaves=5,
)
SETTINGS = EventSettings.parse(
    f'audience = "{AUDIENCE}"\n[[transmitter]]\nissuer = "{ISSUER}"\njwks = "k.json"\n'.encode()
)
VERIFIER = EventVerifier(
    SETTINGS,
    {ISSUER: read_keys(json.dumps({"keys": [k.as_dict(private=False) for k in (EC, RSA)]}).encode(), where="k.json")},
)
GOOD = signed(claims(f"{RISC}account-disabled"))


def refuses_or_reads(token: bytes) -> None:
    try:
        VERIFIER.verify(token, NOW)
    except EventRefusedError:
        return
    # Nothing but the sender's own bytes verifies.
    assert token == GOOD


@given(st.binary(max_size=400))
def test_any_bytes_as_a_token(token: bytes) -> None:
    refuses_or_reads(token)


@given(JSON, JSON, st.binary(max_size=70))
def test_any_json_as_a_token(header: Any, body: Any, signature: bytes) -> None:
    parts = [json.dumps(header).encode(), json.dumps(body).encode(), signature]
    refuses_or_reads(b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts))


@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=3))
def test_a_token_with_a_part_replaced(place: int, other: bytes) -> None:
    refuses_or_reads(GOOD[:place] + other + GOOD[place + len(other) :])


@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(("alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x5c", "zip"), JSON),
    )
)
def test_a_good_token_with_another_header(header: dict[str, Any]) -> None:
    told = {"alg": "ES256", "kid": "ec", "typ": "secevent+jwt"} | header
    first = base64.urlsafe_b64encode(json.dumps(told).encode()).rstrip(b"=")
    refuses_or_reads(b".".join([first, *GOOD.split(b".")[1:]]))


@given(
    st.fixed_dictionaries({"events": st.dictionaries(EVENTS, JSON, max_size=4) | JSON}, optional={"sub_id": SUBJECTS})
)
def test_any_claims_of_a_verified_token(body: dict[str, Any]) -> None:
    try:
        found = signals(body)
    except MalformedError:
        return
    for signal in found:
        assert signal.subjects
        assert all(subject.name in SubjectName and subject.value for subject in signal.subjects)


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_file(data: bytes) -> None:
    for parse in (ScimTokens.parse, EventSettings.parse, read_listing, lambda data: read_keys(data, where="k.json")):
        try:
            parse(data)
        except StrongroomError:
            continue


@given(st.text(max_size=300).map(lambda text: b"person,employment,unit\n" + text.encode("utf-8", "replace")))
def test_any_lines_of_a_people_file(data: bytes) -> None:
    try:
        lines = read_listing(data)
    except StrongroomError:
        return
    assert len(changes(lines, [])) == len(lines)


@given(
    st.dictionaries(
        st.sampled_from(["userName", "externalId", "active", "emails", "members", "displayName", PERSON]), JSON
    )
)
def test_any_resource(resource: dict[str, Any]) -> None:
    # The library gives typed resources; a stored one of an earlier version might be anything.
    names_of(resource)
    lowered(resource)
    members_of(resource)
    for kind in RecordKind:
        lookups_of(kind, resource)
