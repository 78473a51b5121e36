"""Whoever sets SSLKEYLOGFILE for one of our processes reads nothing of what it says to others."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

import strongroom
from strongroom.broker.adapters.webhooks import trusting
from strongroom.broker.webhooks import WebhookConfigError
from strongroom.ipc.adapters.outside import believing

SOURCES = Path(strongroom.__file__).parent


def test_a_context_writes_no_keys_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    other, made = ssl.create_default_context(), believing()
    assert [getattr(one, "keylog_filename", None) for one in (other, made)] == [str(tmp_path / "keys"), None]
    assert (made.check_hostname, made.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert made.minimum_version == ssl.TLSVersion.TLSv1_2


def test_no_context_is_made_in_another_way() -> None:
    found = [
        str(path.relative_to(SOURCES))
        for path in SOURCES.rglob("*.py")
        if "ssl.create_default_context(" in path.read_text()
    ]
    # The attack suite is no part of a deployment.
    assert found == ["attacks/lab/callers.py"]


@pytest.mark.parametrize("text", ["", "no certificate", "\ufffd"])
def test_authorities_that_are_none_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(text)
    with pytest.raises((OSError, ValueError)):
        believing(pem=text)
    with pytest.raises(WebhookConfigError):
        trusting(text)
    with pytest.raises(OSError):  # noqa: PT011 - whichever: each caller has a word of its own for it
        believing(file=tmp_path / "ca.pem")
