"""A model's tokenizer, from its public files as bytes. It runs outside the enclave, so that text never crosses over.

The files are not secret and are handed to the gateway in the clear: `tokenizer.json`, and for conversations
`tokenizer_config.json` or `chat_template.jinja`. A wrong tokenizer makes wrong text; it can't make more of it leave.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.extras import need
from strongroom.enclave.gateway.errors import FieldRefusedError

FILES: Final = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
MAX_FILE: Final = 64 << 20
MAX_RENDERED: Final = 4 << 20


class PublicTokenizer:
    """Text to token ids and back, and conversations to text."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """Read the files.

        :raises MalformedError: one can't be read.
        :raises UsageError: there is no `tokenizer.json`.
        :raises MissingExtraError: the library isn't installed.
        """
        if "tokenizer.json" not in files:
            raise UsageError("a tokenizer is read from `tokenizer.json`", remedy="hand over the model's public files")
        tokenizers = need("tokenizers", extra="transformers")
        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_buffer(files["tokenizer.json"])
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            config = json.loads(files.get("tokenizer_config.json", b"{}"))
            template = files["chat_template.jinja"].decode() if "chat_template.jinja" in files else None
        except Exception as error:  # noqa: BLE001 - whatever the libraries raise
            raise MalformedError(f"the tokenizer's files can't be read: {type(error).__name__}") from None
        found = template or config.get("chat_template")
        self._words = {name: _word(config.get(name)) for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
        self._template = _template(found) if isinstance(found, str) else None

    @classmethod
    def folder(cls, folder: Path) -> PublicTokenizer:
        """Read the files from a folder; other files in it are left alone.

        :raises MalformedError: one is too large, or can't be read.
        """
        files = {}
        for name in FILES:
            path = folder / name
            if path.is_file():
                if path.stat().st_size > MAX_FILE:
                    raise MalformedError(f"`{name}` is larger than any tokenizer's file")
                files[name] = path.read_bytes()
        return cls(files)

    @property
    def vocabulary(self) -> int:
        """One more than the highest token id."""
        return 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return a prompt's tokens, with those that the model's own tokenizer puts around them."""
        return tuple(self._tokenizer.encode(text).ids)

    def conversation(self, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
        """Return a conversation's tokens, by the model's own template.

        :raises FieldRefusedError: the model has no template, or its template refuses these messages.
        """
        if self._template is None:
            raise FieldRefusedError("messages", "this model has no template for conversations")
        try:
            text = self._template.render(
                messages=[*map(dict, messages)],
                add_generation_prompt=True,
                tools=None,
                documents=None,
                raise_exception=_refuse,
                **self._words,
            )
        except FieldRefusedError:
            raise
        except Exception:  # noqa: BLE001 - the template is the model maker's program; whatever it does, it's a refusal
            raise FieldRefusedError("messages", "the model's template can't take these messages") from None
        if len(text) > MAX_RENDERED:
            raise FieldRefusedError("messages", "the conversation is too long")
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, without special ones."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))


def _template(text: str) -> Any:
    sandbox = need("jinja2.sandbox", extra="transformers")
    environment = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    try:
        return environment.from_string(text)
    except Exception as error:  # noqa: BLE001 - whatever the library raises
        raise MalformedError(f"the chat template can't be read: {type(error).__name__}") from None


def _refuse(_message: object) -> NoReturn:
    raise FieldRefusedError("messages", "the model's template refuses these messages")


def _word(value: object) -> str:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""
