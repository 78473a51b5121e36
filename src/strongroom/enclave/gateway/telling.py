"""What the responder is told of a gateway: who was refused what, and who used how much. Pure, and bounded.

Only names are in it that this program knows: of principals, of its own codes, and of parameters on a list. A member's
name is the client's to choose, so that a prompt, or a key, could stand there. What waits is counts, and no queue: a
responder that stays away costs no more memory than one that listens.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from strongroom.core.buckets import Buckets, Rate
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, format_instant
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ModelId
from strongroom.enclave.gateway.errors import FieldRefusedError

EACH: Final = Rate(per_second=64 / 86400, burst=64)
"""How many refusals of one principal and parameter have a line of their own: rules count fifty within a day."""
SUMMARY_SECONDS: Final = 60.0
"""How often the others, and what was used, are told as numbers."""
MAX_WAITING: Final = 4096
MAX_LINES: Final = 512
"""At once, of either sort. The others wait."""
OTHER: Final = "other"
PARAMETERS: Final = frozenset(
    {
        "best_of", "dimensions", "echo", "encoding_format", "frequency_penalty", "function_call", "functions", "input",
        "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "messages", "model", "n", "presence_penalty",
        "prompt", "prompt_logprobs", "response_format", "seed", "stop", "stream", "stream_options", "suffix",
        "temperature", "tool_choice", "tools", "top_k", "top_logprobs", "top_p", "user",
    }
)  # fmt: skip
"""Those that are told by name."""
_ASKERS_FAULT: Final = range(400, 500)


@dataclass(slots=True)
class Tally:
    """What is to be told of one model's gateway."""

    model: ModelId
    host: str
    _refused: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Principal, code, parameter -> how often."""
    _used: Counter[str] = field(default_factory=Counter)
    """Principal -> tokens."""
    _lost: int = 0
    _each: Buckets = field(default_factory=lambda: Buckets(EACH))
    _next: float = 0.0

    def refused(self, principal: str, error: StrongroomError) -> None:
        """Count a request that was refused for what it is. What failed on our side isn't the asker's doing."""
        if error.http_status not in _ASKERS_FAULT:
            return
        key = (principal, error.reason, _parameter(error))
        if key in self._refused or len(self._refused) < MAX_WAITING:
            self._refused[key] += 1
        else:
            self._lost += 1

    def used(self, principal: str, tokens: int) -> None:
        """Count tokens that were passed on for a principal."""
        if principal in self._used or len(self._used) < MAX_WAITING:
            self._used[principal] += tokens
        else:
            self._lost += 1

    def take(self, now: Instant, uptime: float) -> list[dict[str, Json]]:
        """Take what is due: refusals one by one while their principal has made few, the rest once a minute.

        :param uptime: monotonic, in seconds.
        """
        lines = self._few(now, uptime)
        if uptime >= self._next:
            self._next = uptime + SUMMARY_SECONDS
            lines += self.rest(now)
        return lines

    def rest(self, now: Instant) -> list[dict[str, Json]]:
        """Take what waits, as numbers."""
        lines = [self._refusal(key, self._refused.pop(key), now) for key in list(self._refused)[:MAX_LINES]]
        users = list(self._used)[:MAX_LINES]
        lines += [self._usage(principal, self._used.pop(principal), now) for principal in users]
        if self._lost:
            lines.append({**self._common(now), "event": "detector:state:evicted", "count": self._lost})
            self._lost = 0
        return lines

    def _few(self, now: Instant, uptime: float) -> list[dict[str, Json]]:
        lines: list[dict[str, Json]] = []
        for key in list(self._refused):
            principal, _code, parameter = key
            while (
                self._refused[key]
                and len(lines) < MAX_LINES
                and not self._each.wait(f"{principal} {parameter}", uptime)
            ):
                self._refused[key] -= 1
                lines.append(self._refusal(key, 1, now))
            if not self._refused[key]:
                del self._refused[key]
        return lines

    def _refusal(self, key: tuple[str, str, str], times: int, now: Instant) -> dict[str, Json]:
        principal, code, parameter = key
        return {
            "event": "gateway:request:refused",
            **self._common(now),
            "principal": principal,
            "code": code,
            "parameter": parameter,
            "model": self.model,
            "times": times,
        }

    def _usage(self, principal: str, tokens: int, now: Instant) -> dict[str, Json]:
        return {
            "event": "gateway:usage:counted",
            **self._common(now),
            "principal": principal,
            "model": self.model,
            "tokens": tokens,
        }

    def _common(self, now: Instant) -> dict[str, Json]:
        return {"at": format_instant(now), "source": "gateway", "host": self.host}


def _parameter(error: StrongroomError) -> str:
    if not isinstance(error, FieldRefusedError):
        return ""
    name = error.field.partition(".")[0]
    return name if name in PARAMETERS else OTHER
