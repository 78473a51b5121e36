"""Who may lower people by events or tokens: settings and token files of one form, and nothing believed by halves."""

from __future__ import annotations

import pytest

from strongroom.broker.people.errors import EventSettingsError, TokenRefusedError
from strongroom.broker.people.events import EventKind
from strongroom.broker.people.scim_settings import ScimSettings, ScimSettingsError
from strongroom.broker.people.tokens import ScimTokens
from strongroom.broker.people.transmitters import EventSettings
from strongroom.core.errors import MalformedError, NotFoundError, UsageError

SENDER = 'audience = "a"\n[[transmitter]]\nissuer = "https://idp.example"\njwks = "k.json"\n'
NOW = 1_790_000_000


def test_settings_are_read_with_what_is_left_out() -> None:
    sender = EventSettings.parse(SENDER.encode()).transmitters["https://idp.example"]
    assert (sender.jwks, sender.max_age, sender.events) == ("k.json", 3600, frozenset(EventKind))
    more = SENDER + 'algorithms = ["ES256"]\nevents = ["session-revoked"]\nmax_age = 60\n'
    sender = EventSettings.parse(more.encode()).transmitters["https://idp.example"]
    assert (sender.algorithms, sender.events, sender.max_age) == (
        ("ES256",),
        frozenset({EventKind.SESSION_REVOKED}),
        60,
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        'audience = "a"\n',
        'audience = ""\n[[transmitter]]\nissuer = "i"\njwks = "k.json"\n',
        SENDER + SENDER.partition("\n")[2],
        SENDER + 'secret = "x"\n',
        SENDER + 'algorithms = ["HS256"]\n',
        SENDER + 'algorithms = ["none"]\n',
        SENDER + "algorithms = []\n",
        SENDER + 'events = ["everything"]\n',
        SENDER + "max_age = 59\n",
        SENDER + "max_age = 9999999\n",
        SENDER + "max_age = 60.5\n",
        SENDER + "max_age = 1979-05-27\n",
        SENDER.replace("k.json", "../k.json"),
        SENDER.replace("k.json", "/etc/passwd"),
        SENDER.replace("k.json", ""),
        SENDER + "\xff",
        "a = " + "[" * 5000,
        "x" * 70_000,
    ],
)
def test_other_settings_are_refused(text: str) -> None:
    with pytest.raises(EventSettingsError):
        EventSettings.parse(text.encode("latin-1"))


def test_scim_settings_are_strict() -> None:
    assert ScimSettings.parse(b"").members_group is None
    assert ScimSettings.parse(b'members_group = "m"').members_group == "m"
    for wrong in (b"members_group = 1", b'group = "m"', b"\xff", b"= "):
        with pytest.raises(ScimSettingsError):
            ScimSettings.parse(wrong)


def test_a_token_is_kept_as_a_digest_and_opens() -> None:
    tokens, text = ScimTokens().adding("okta", b"s" * 32, at=NOW, expires=NOW + 10)
    assert text.encode() not in tokens.to_bytes()
    read = ScimTokens.parse(tokens.to_bytes())
    assert read == tokens
    assert read.verify(f"Bearer {text}".encode(), NOW) == "okta"
    assert read.verify(f"bEARER {text}".encode(), NOW + 9) == "okta"


@pytest.mark.parametrize(
    "given", [None, b"", b"Bearer", b"Bearer ", b"Basic x", b"Bearer x y", b"Bearer " + b"x" * 999]
)
def test_nothing_else_opens(given: bytes | None) -> None:
    tokens, _text = ScimTokens().adding("okta", b"s" * 32, at=NOW, expires=None)
    with pytest.raises(TokenRefusedError):
        tokens.verify(given, NOW)


def test_a_token_ends_with_its_time_or_when_it_is_taken_away() -> None:
    tokens, text = ScimTokens().adding("okta", b"s" * 32, at=NOW, expires=NOW + 10)
    for known, at in ((tokens, NOW + 10), (tokens.without("okta"), NOW), (ScimTokens(), NOW)):
        with pytest.raises(TokenRefusedError):
            known.verify(f"Bearer {text}".encode(), at)
    with pytest.raises(NotFoundError):
        tokens.without("other")


def test_names_of_tokens_are_plain_and_each_stands_once() -> None:
    tokens, _text = ScimTokens().adding("okta", b"s" * 32, at=NOW, expires=None)
    for name in ("okta", "", "a b", "x" * 33, "-a", "../a"):
        with pytest.raises(UsageError):
            tokens.adding(name, b"t" * 32, at=NOW, expires=None)
    for number in range(15):
        tokens, _text = tokens.adding(f"t{number}", bytes([number]) * 32, at=NOW, expires=None)
    with pytest.raises(UsageError, match="16 tokens"):
        tokens.adding("more", b"t" * 32, at=NOW, expires=None)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"tokens":[],"v":2}', b'{"tokens":[{}],"v":1}'])
def test_other_token_files_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        ScimTokens.parse(data)
