"""The example in docs/spec/attestation-results.md is a token, with the claims that the page shows."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

from strongroom.attestation.ear import issue, verify
from strongroom.core.clock import parse_instant
from strongroom.core.signature import Ed25519Signer
from support.attestation_results import AT, wanted

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "spec" / "attestation-results.md").read_text(encoding="utf-8")
SIGNER = Ed25519Signer.from_seed(bytes(32))


def block(language: str, number: int = 0) -> str:
    return str(re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[number])


def test_the_example_is_what_it_says() -> None:
    token = "".join(block("text").split())
    at = parse_instant("2026-11-18T11:06:40Z")
    assert "2026-11-18T11:06:40Z" in PAGE
    assert verify(token, [SIGNER.public_key], at).require_affirming() == "embedder"
    for number, part in enumerate(token.split(".")[:2]):
        shown = json.loads(block("json", number))
        assert shown == json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def test_everybody_can_make_it_again() -> None:
    ours, shown = issue(wanted(), SIGNER, AT), "".join(block("text").split())
    # The build in it is this version's.
    assert ours == shown
