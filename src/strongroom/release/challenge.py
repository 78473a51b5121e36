"""The challenge that an enclave's evidence must answer: issued by the keeper, for one request and platform, once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.ids import PlatformId

CHALLENGE_SECONDS: Final = 300
MAX_OPEN: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """A fresh nonce, and for what it was issued. It lives in the keeper's memory alone and dies with it."""

    id: str
    nonce: bytes
    request: Digest
    platform: PlatformId
    expires: Instant


class OpenChallenges:
    """The challenges that wait for an answer; bounded, so that asking for many can't exhaust the keeper."""

    def __init__(self) -> None:
        self._open: dict[str, Challenge] = {}

    def add(self, challenge: Challenge, now: Instant) -> None:
        """Keep a challenge; the expired, and past the bound the oldest, are dropped."""
        if len(self._open) >= MAX_OPEN:
            self._open = {c.id: c for c in self._open.values() if c.expires > now}
        while len(self._open) >= MAX_OPEN:
            self._open.pop(next(iter(self._open)))
        self._open[challenge.id] = challenge

    def take(self, name: str) -> Challenge | None:
        """Take a challenge out: whatever comes of the answer, it can't be answered again."""
        return self._open.pop(name, None)
