"""The JSON that clients of the OpenAI API expect, made outside the enclave. Pure.

Constant where the original tells something of the machine behind: one fingerprint, one time for all models.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from strongroom.core.clock import Instant
from strongroom.core.errors import StrongroomError
from strongroom.egress.errors import Limit, LimitReachedError
from strongroom.enclave.gateway.errors import FieldRefusedError, NotFiniteError
from strongroom.enclave.metered import Code

FINGERPRINT: Final = "strongroom"
DONE: Final = b"data: [DONE]\n\n"
SHARED_SECONDS: Final = 3600
"""How long a client is told to wait for a limit that all share: never the true time, which is what others left."""
LONG_SECONDS: Final = 60
"""A client that is told to wait longer shouldn't try again by itself."""
_REASONS: Final = {Code.STOPPED: "stop", Code.LENGTH: "length", Code.CANCELLED: "length"}


def finish_reason(end: Code | None, *, stopped: bool) -> str:
    """Return how an answer ended, in the API's words."""
    return "stop" if stopped or end is None else _REASONS.get(end, "stop")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How answers to one request look."""

    name: str
    """Its own name; drawn by the gateway."""
    model: str
    created: Instant
    chat: bool

    def whole(self, text: str, reason: str, *, prompt: int, tokens: int) -> dict[str, Any]:
        """Return an answer that isn't streamed."""
        said = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": reason}
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self._head(kind), "choices": [choice], "usage": _usage(prompt, tokens)}

    def opening(self) -> bytes:
        """Return the first event of a streamed conversation; nothing for a completion."""
        return self._event([self._choice({"role": "assistant", "content": ""}, None)]) if self.chat else b""

    def piece(self, text: str) -> bytes:
        """Return the event for a piece of text."""
        return self._event([self._choice({"content": text}, None)])

    def closing(self, reason: str) -> bytes:
        """Return the event that says how it ended."""
        return self._event([self._choice({}, reason)])

    def usage(self, *, prompt: int, tokens: int) -> bytes:
        """Return the event that counts."""
        return self._event([], usage=_usage(prompt, tokens))

    def _choice(self, delta: dict[str, str], reason: str | None) -> dict[str, Any]:
        said: dict[str, Any] = {"delta": delta} if self.chat else {"text": delta.get("content", "")}
        return {"index": 0, **said, "logprobs": None, "finish_reason": reason}

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return event({**self._head(kind), "choices": choices, **more})

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.name,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
        }


def _usage(prompt: int, tokens: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}


def embeddings(
    model: str, vectors: Sequence[Sequence[float]], encoding_format: Literal["float", "base64"], *, prompt: int
) -> dict[str, Any]:
    """Return vectors, each number the float32 that crossed. ``prompt`` is how many tokens were read.

    :raises NotFiniteError: one isn't finite; JSON has no word for it, and no use is made of such a vector.
    """
    if not all(map(math.isfinite, (number for vector in vectors for number in vector))):
        raise NotFiniteError("the model made a vector that isn't finite")
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _packed(vector) if encoding_format == "base64" else [*vector],
        }
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": prompt, "total_tokens": prompt}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _packed(vector: Sequence[float]) -> str:
    # As the API has it: little-endian.
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def event(value: dict[str, Any]) -> bytes:
    """Return a server-sent event."""
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def models(name: str) -> dict[str, Any]:
    """Return the list of models: the one that is served."""
    return {"object": "list", "data": [model(name)]}


def model(name: str) -> dict[str, Any]:
    """Return what is said of a model: its name."""
    return {"id": name, "object": "model", "created": 0, "owned_by": FINGERPRINT}


def problem(error: StrongroomError) -> dict[str, Any]:
    """Return an error in the API's form. What isn't the client's fault is told in a word and no more."""
    told = error.message if error.http_status < 500 else "the model can't answer now"
    if isinstance(error, LimitReachedError) and error.limit is not Limit.PRINCIPAL_DAY:
        # How much others left, or took, is theirs: of a shared limit it is told that it is reached.
        told = "a limit that all share is reached; a shorter answer may pass"
    kind = {401: "authentication_error", 429: "rate_limit_exceeded"}.get(error.http_status, "invalid_request_error")
    field = error.field if isinstance(error, FieldRefusedError) else None
    kind = kind if error.http_status < 500 else "server_error"
    return {"error": {"message": told, "type": kind, "param": field, "code": error.reason}}


def retry_headers(error: StrongroomError, now: Instant) -> dict[str, str]:
    """Return when a client may try again; the official one waits for a while itself, if it isn't told not to."""
    if not isinstance(error, LimitReachedError):
        return {}
    if error.passes_at is None:
        return {"x-should-retry": "false"}
    wait = max(1, error.passes_at - now) if error.limit is Limit.PRINCIPAL_DAY else SHARED_SECONDS
    return {"retry-after": str(wait), **({"x-should-retry": "false"} if wait > LONG_SECONDS else {})}
