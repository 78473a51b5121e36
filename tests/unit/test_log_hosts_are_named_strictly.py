"""Where a log is hosted is one address, without credentials in it; and how its files are served follows C2SP."""

from __future__ import annotations

import pytest

from strongroom.audit.hosting import MAX_MISSING, HostAddress, Scheme, Version, headers_of, survey
from strongroom.audit.tiles import COSIGNED, Tile
from strongroom.core.errors import MalformedError

NOW = 1_795_471_717


@pytest.mark.parametrize(
    ("text", "scheme", "place", "path"),
    [
        ("s3://vault-log", Scheme.S3, "vault-log", "checkpoint"),
        ("s3://vault-log/acme/2026/", Scheme.S3, "vault-log", "acme/2026/checkpoint"),
        ("https://log.example.org/acme", Scheme.HTTPS, "log.example.org", "acme/checkpoint"),
        ("https://log.example.org:8443", Scheme.HTTPS, "log.example.org:8443", "checkpoint"),
        ("http://127.0.0.1:8000/a", Scheme.HTTP, "127.0.0.1:8000", "a/checkpoint"),
        ("http://[::1]:8000/a", Scheme.HTTP, "[::1]:8000", "a/checkpoint"),
    ],
)
def test_an_address_is_read(text: str, scheme: Scheme, place: str, path: str) -> None:
    address = HostAddress.parse(text)
    assert (address.scheme, address.place, address.path_of("checkpoint")) == (scheme, place, path)
    assert HostAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "log.example.org",
        "ftp://log.example.org/a",
        "http://log.example.org/a",
        "https://dana:secret@log.example.org/a",
        "https://log.example.org/a?token=1",
        "https://log.example.org/a#b",
        "https://log.example.org:99999/a",
        "https://log.example.org/a/../b",
        "https://log.example.org/a//b",
        "https://log.example.org/a%2fb",
        "s3://Vault/a",
        "s3://v/a",
        "s3://vault-log:80/a",
        "s3:///a",
        "https://log.example.org/" + "a" * 2000,
        "https://log.example.org/\u00e4",
        "https://[::1/a",
        "https://log.example.org\x7f/a",
        "https://log.exam\tple.org/a",
    ],
)
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        HostAddress.parse(text)


def test_what_changes_isnt_kept_by_others_and_what_doesnt_is() -> None:
    assert headers_of(COSIGNED).cache_control == "no-cache"
    assert headers_of(Tile(None, 3).path).cache_control.endswith("immutable")
    with pytest.raises(MalformedError):
        headers_of("tile/../log.key")


def test_a_survey_tells_what_can_be_deleted_what_was_hidden_and_what_is_foreign() -> None:
    tile, bundle, partial = Tile(0, 0).path, Tile(None, 0).path, Tile(0, 1, 7).path
    found = survey(
        [
            Version("checkpoint", marker=False, locked_until=NOW + 20),
            Version("checkpoint", marker=False, locked_until=NOW + 10),
            Version(tile, marker=False, locked_until=NOW + 30),
            Version(tile, marker=False, locked_until=NOW + 30),
            Version(bundle, marker=True, locked_until=None),
            Version(bundle, marker=False, locked_until=NOW),
            Version(partial, marker=False, locked_until=None),
            Version("notes.txt", marker=False, locked_until=None),
        ],
        NOW,
        {"": 257, "shards/2/": 1},
    )
    assert (found.versions, found.locked_until) == (8, NOW + 10)
    assert found.unlocked == (partial, bundle)
    assert found.covered == (tile, bundle)
    assert found.foreign == ("notes.txt",)
    assert found.missing == (
        Tile(0, 1, 1).path,
        Tile(1, 0, 1).path,
        Tile(None, 1, 1).path,
        f"shards/2/{Tile(0, 0, 1).path}",
        f"shards/2/{Tile(None, 0, 1).path}",
    )


def test_a_checkpoint_that_speaks_of_too_much_doesnt_make_a_survey_endless() -> None:
    assert len(survey([], NOW, {"": 2**62}).missing) == MAX_MISSING
