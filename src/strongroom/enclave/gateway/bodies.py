"""What a request may say: the fields on this list, in these ranges. Everything else is refused, also what is to come.

Not here on purpose: `logprobs`, `top_logprobs`, `logit_bias`, `echo`, `seed`, `best_of`, `n` above 1, `suffix`, tools,
penalties. With logits or a bias, a model's last layer is read out of its answers (arXiv 2403.06634); with a seed, an
answer can be repeated; what isn't computed here isn't pretended to be.
"""

from __future__ import annotations

import json
from typing import Annotated, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from strongroom.core.errors import MalformedError
from strongroom.enclave.gateway.errors import FieldRefusedError
from strongroom.enclave.metered import MILLI

MAX_BODY: Final = 2 << 20
MAX_TEXT: Final = 1 << 20
MAX_MESSAGES: Final = 1024
MAX_INPUTS: Final = 64
"""Texts in one request for embeddings: each is an answer of its own."""
DEFAULT_MOST: Final = 256
_Stop = Annotated[str, Field(min_length=1, max_length=256)]
_Text = Annotated[str, Field(max_length=MAX_TEXT)]
_Input = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Part(_Body):
    type: Literal["text"]
    text: _Text


class Message(_Body):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: _Text | list[_Part]

    @property
    def text(self) -> str:
        """What it says."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(_Body):
    """How an answer is streamed."""

    include_usage: bool = False


class _Asked(_Body):
    model: Annotated[str, Field(max_length=64)]
    max_tokens: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    n: Literal[1] = 1
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    stop: _Stop | Annotated[list[_Stop], Field(max_length=4)] = []
    user: Annotated[str, Field(max_length=256)] = ""
    """Taken and not used: whose the request is says its key."""

    @property
    def most(self) -> int:
        """Tokens that the answer may have."""
        return self.max_tokens or DEFAULT_MOST

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop sequences."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def sampling(self) -> tuple[int, int]:
        """Temperature and top-p in thousandths, as they cross the channel; a temperature above 0 never becomes 0."""
        temperature = max(1, round(self.temperature * MILLI)) if self.temperature else 0
        return temperature, max(1, round(self.top_p * MILLI))


class CompletionBody(_Asked):
    """`POST /v1/completions`."""

    prompt: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]


class ChatBody(_Asked):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=1 << 20)] | None = None

    @property
    def most(self) -> int:
        """Tokens that the answer may have."""
        return self.max_completion_tokens or self.max_tokens or DEFAULT_MOST


class EmbeddingBody(_Body):
    """`POST /v1/embeddings`. Not `dimensions`: what the model makes is charged and sent whole."""

    model: Annotated[str, Field(max_length=64)]
    input: _Input | Annotated[list[_Input], Field(min_length=1, max_length=MAX_INPUTS)]
    encoding_format: Literal["float", "base64"] = "float"
    user: Annotated[str, Field(max_length=256)] = ""
    """Taken and not used: whose the request is says its key."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The texts."""
        return (self.input,) if isinstance(self.input, str) else tuple(self.input)


T = TypeVar("T", CompletionBody, ChatBody, EmbeddingBody)


def read(kind: type[T], data: bytes) -> T:
    """Read a request's body.

    :raises FieldRefusedError: a member that isn't on the list, or a value that isn't.
    :raises MalformedError: no JSON object.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise MalformedError("the body isn't JSON") from None
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part)[:32] for part in first["loc"][:3]) or "body"
        raise FieldRefusedError(field, f"`{field}` can't be asked for here") from None
    except RecursionError:
        raise MalformedError("the body is nested too deeply") from None
