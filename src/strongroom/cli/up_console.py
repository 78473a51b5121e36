"""What a deployment's own folder has for the console that ``strongroom up`` serves: found there, or told of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.broker.adapters.trust_files import read_toml
from strongroom.broker.login_settings import OIDC, read_settings
from strongroom.responder.answering.wiring import DESK

RESPONDER: Final = "responder"
"""The responder's own folder (``responder run --state``), or a link to it."""
ASSESSMENTS: Final = "assessments"
"""Where ``strongroom assess --record --to`` puts them, or a link to it."""
QUARANTINE: Final = "quarantine"
"""Where deliveries' folders lie, or a link to it."""


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
        said = read_toml(home / "broker" / OIDC)
        provider = None if said is None else read_settings(said).provider
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
            configured=said is not None,
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
                f" (strongroom responder run --state {self.home / RESPONDER}), list this user in its settings"
                " (`users`), and start again"
            )
        if self.assessments is None:
            yield (
                f"the console shows no assessment: strongroom assess --record --to {self.home / ASSESSMENTS},"
                " and start again"
            )
        if self.quarantine is None:
            yield (
                "the console shows of deliveries what the log says: strongroom intake receive"
                f" --into {self.home / QUARANTINE}/NAME, and start again"
            )
        if not self.configured:
            yield f"nobody can sign in: say in {self.home / 'broker' / OIDC} how people log in, and start again"


def _folder(path: Path) -> Path | None:
    return path.resolve() if path.is_dir() else None
