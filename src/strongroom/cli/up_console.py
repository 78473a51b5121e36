"""What a deployment's own folder has for the console that ``strongroom up`` serves: found there, or told of."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.broker.login_settings import OIDC, Provider, read_settings
from strongroom.cli.files import read_file
from strongroom.core.errors import MalformedError
from strongroom.responder.answering.wiring import DESK

RESPONDER: Final = "responder"
"""The responder's own folder (``responder run --state``), or a link to it."""
ASSESSMENTS: Final = "assessments"
"""Where ``strongroom assess --record --to`` puts them, or a link to it."""
QUARANTINE: Final = "quarantine"
"""Where deliveries' folders lie, or a link to it."""
_MAX_TOML: Final = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleFound:
    """What a console is given beside the broker, by the deployment's folder; None where it has no such thing."""

    home: Path
    responder: Path | None
    assessments: Path | None
    quarantine: Path | None
    issuer: str
    issuer_authority: Path | None
    configured: bool
    """Whether the deployment says how people log in."""

    @classmethod
    def look(cls, home: Path) -> ConsoleFound:
        """Look into a deployment's folder.

        :raises MalformedError: what says how people log in can't be read. :raises UsageError: it contradicts itself.
        """
        path = home / "broker" / OIDC
        provider = _provider(path) if path.exists() else None
        state = _folder(home / RESPONDER)
        return cls(
            home=home,
            # Its socket may come later: the responder needs the deployment that is about to start.
            responder=None if state is None else state / DESK,
            assessments=_folder(home / ASSESSMENTS),
            quarantine=_folder(home / QUARANTINE),
            issuer="" if provider is None else provider.issuer,
            issuer_authority=None
            if provider is None or not provider.authority_file
            else home / "broker" / provider.authority_file,
            configured=path.exists(),
        )

    def arguments(self) -> list[str]:
        """Return it as ``strongroom console serve`` takes it."""
        given = {
            "responder": self.responder,
            "assessments": self.assessments,
            "quarantine": self.quarantine,
            "issuer": self.issuer or None,
            "issuer-ca": self.issuer_authority,
        }
        return [f"--{name}={value}" for name, value in given.items() if value is not None]

    def lacks(self) -> Iterator[str]:
        """Yield what the console's pages won't show, and what adds it."""
        if self.responder is None:
            yield (
                "the console shows no incidents and holds no drills: run the responder with its folder there"
                f" (strongroom responder run --state {self.home / RESPONDER}), and list this user in its settings"
                " (`users`)"
            )
        if self.assessments is None:
            yield f"the console shows no assessment: strongroom assess --record --to {self.home / ASSESSMENTS}"
        if self.quarantine is None:
            yield (
                "the console shows of deliveries what the log says: strongroom intake receive"
                f" --into {self.home / QUARANTINE}/NAME"
            )
        if not self.configured:
            yield f"nobody can sign in: {self.home / 'broker' / OIDC} says how people log in"


def _folder(path: Path) -> Path | None:
    return path.resolve() if path.is_dir() else None


def _provider(path: Path) -> Provider | None:
    try:
        value = tomllib.loads(read_file(path, most=_MAX_TOML).decode())
    except ValueError:
        raise MalformedError(f"`{OIDC}` isn't TOML") from None
    return read_settings(value).provider
