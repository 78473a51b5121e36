"""What an organisation asks of deliveries is read strictly: a mistake is an error, and never a scanner less."""

from __future__ import annotations

import json
from typing import Any

import pytest

from strongroom.core.errors import MalformedError
from strongroom.intake.formats.identify import Format
from strongroom.quarantine.terms import read_rules

SCANNER: dict[str, Any] = {
    "name": "looker",
    "version": "3.1",
    "program": "/opt/looker/bin/look",
    "digest": "sha256:" + "0" * 64,
    "arguments": ["--strict"],
    "roots": ["/opt/looker"],
    "formats": ["pickle"],
    "seconds": 60,
    "memory": 1 << 30,
}


def rules(**changes: Any) -> bytes:
    return json.dumps({"v": 1, "reviews": 2, "scanners": [{**SCANNER, **changes}]}).encode()


def test_good_rules_are_read() -> None:
    found = read_rules(rules())
    assert (found.reviews, found.scanners[0].formats) == (2, frozenset({Format.PICKLE}))
    assert read_rules(b'{"v":1,"reviews":0,"scanners":[]}').scanners == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "look\x1b[2Jer"},
        {"name": ""},
        {"version": "3 1"},
        {"program": "look"},
        {"program": "/opt/looker/../other"},
        {"program": "/usr/bin/look"},
        {"roots": ["opt"]},
        {"roots": []},
        {"formats": []},
        {"formats": ["elf"]},
        {"seconds": 0},
        {"seconds": 10**9},
        {"memory": 0},
        {"digest": "sha256:00"},
        {"extra": 1},
    ],
)
def test_a_mistake_is_an_error(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        read_rules(rules(**changes))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"v":2,"reviews":0,"scanners":[]}',
        b'{"v":1,"scanners":[]}',
        b'{"v":1,"reviews":-1,"scanners":[]}',
        b'{"v":1,"reviews":17,"scanners":[]}',
        b'{"v":1,"reviews":true,"scanners":[]}',
        json.dumps({"v": 1, "reviews": 0, "scanners": [SCANNER, SCANNER]}).encode(),
    ],
)
def test_other_files_arent_rules(text: bytes) -> None:
    with pytest.raises(MalformedError):
        read_rules(text)
