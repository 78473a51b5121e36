"""Whom the broker believes, from files: its own authority, and ``spiffe.toml`` with its bundles, read again on change.

At the start a file that is missing or wrong stops the broker. Later it changes nothing: bundles are replaced while it
runs, and half a file must neither shut every enclave out nor let anybody in.
"""

from __future__ import annotations

import ssl
import tomllib
from pathlib import Path
from typing import Any, Final

import structlog

from strongroom.broker.adapters.tls import trust_also
from strongroom.broker.identity import Trust, TrustDomain
from strongroom.broker.spiffe import MAX_BUNDLE, TrustSetting, make_trust, read_bundle, read_settings
from strongroom.core.adapters.reading import FileState, state_of
from strongroom.core.errors import MalformedError, StrongroomError, UsageError

SPIFFE: Final = "spiffe.toml"
MAX_SETTINGS: Final = 1 << 18
_log = structlog.get_logger("strongroom.broker")


class TrustFiles:
    """Trust as of now. ``folder`` holds ``spiffe.toml``; ``own`` is this deployment's domain.

    :raises StrongroomError: what the files hold is wrong, or one of them can't be read.
    """

    def __init__(self, folder: Path, own: TrustDomain) -> None:
        self._folder = folder
        self._own = own
        self._settings = _settings(folder, own.name)
        self._stamps = self._look()
        self._trust = self._read()
        self._contexts: list[ssl.SSLContext] = []

    def current(self) -> Trust:
        """Return whom to believe now."""
        return self._trust

    def authorities(self) -> frozenset[bytes]:
        """Return every authority (DER) that a handshake must let through."""
        return frozenset().union(*(domain.authorities for domain in self._trust.values()))

    def follow(self, context: ssl.SSLContext) -> None:
        """Let authorities that come later through the handshakes of ``context`` too."""
        self._contexts.append(context)

    def refresh(self) -> None:
        """Read the bundles again if one of them changed. What can't be read leaves what was known."""
        stamps = self._look()
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            trust = self._read()
        except StrongroomError as error:
            _log.error("a bundle can't be taken; the last one stands", code=error.reason)
            return
        self._trust = trust
        for context in self._contexts:
            trust_also(context, self.authorities())
        _log.info("trust in other domains was read again", domains=len(trust) - 1)

    def _read(self) -> dict[str, TrustDomain]:
        return make_trust(self._own, [(one, read_bundle(_bounded(self._path(one)))) for one in self._settings])

    def _path(self, setting: TrustSetting) -> Path:
        return self._folder / setting.bundle

    def _look(self) -> tuple[FileState | None, ...]:
        return tuple(_stamp(self._path(setting)) for setting in self._settings)


def read_toml(path: Path) -> dict[str, Any] | None:
    """Return what a settings file holds, or None where there is none.

    :raises MalformedError: it isn't TOML, or too large.
    """
    if not path.exists():
        return None
    try:
        data = _bounded(path)
        if len(data) > MAX_SETTINGS:
            raise MalformedError(f"`{path.name}` is larger than {MAX_SETTINGS} bytes")
        return tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"`{path.name}` isn't TOML ({type(error).__name__})") from None


def _settings(folder: Path, own: str) -> tuple[TrustSetting, ...]:
    value = read_toml(folder / SPIFFE)
    return () if value is None else read_settings(value, own=own)


def _bounded(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BUNDLE + 1)
    except OSError:
        raise UsageError(f"`{path.name}` can't be read") from None


def _stamp(path: Path) -> FileState | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return state_of(found)
