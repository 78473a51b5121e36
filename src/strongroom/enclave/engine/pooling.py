"""How one vector is made of a text's tokens: what a model folder in sentence-transformers' form says. Pure.

Read from `modules.json`, the pooling module's `config.json` and `sentence_bert_config.json`. What isn't done here
exactly as there is refused: a vector that is nearly the model's is none.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from strongroom.core.errors import MalformedError

MAX_CONFIG: Final = 64 << 10
SETTINGS: Final = "sentence_bert_config.json"
_MAX_SEQUENCE: Final = 1 << 20


class Pooling(StrEnum):
    """Which of the tokens' vectors counts."""

    MEAN = "mean"
    """Their mean."""
    FIRST = "cls"
    """The first token's."""
    LAST = "lasttoken"
    """The last token's."""


_FLAGS: Final = {
    "pooling_mode_mean_tokens": Pooling.MEAN,
    "pooling_mode_cls_token": Pooling.FIRST,
    "pooling_mode_lasttoken": Pooling.LAST,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderForm:
    """How a text becomes a vector."""

    pooling: Pooling
    normalised: bool
    """Whether its length is made 1."""
    longest: int | None
    """Tokens that a text may have; None leaves it to the model's own context."""


def read_form(file: Callable[[str], bytes | None]) -> EncoderForm:
    """Read how vectors are made. ``file`` returns a file of the folder, or None where there is none.

    :raises MalformedError: a file is missing or can't be read, or says what isn't done here.
    """
    modules = _json(file("modules.json"), list)
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules if isinstance(module, dict)]
    if len(kinds) != len(modules) or kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        raise MalformedError("the model makes its vectors by modules that this engine hasn't")
    if modules[0].get("path"):
        raise MalformedError("the encoder lies in a folder below the model's")
    pooling = _json(file(f"{_plain(modules[1].get('path'))}/config.json"), dict)
    settings = file(SETTINGS)
    longest = None if settings is None else _json(settings, dict).get("max_seq_length")
    if longest is not None and (type(longest) is not int or not 1 <= longest <= _MAX_SEQUENCE):
        raise MalformedError(f"`{SETTINGS}` has no length that a text can have")
    return EncoderForm(pooling=_pooling(pooling), normalised=len(kinds) > 2, longest=longest)


def _pooling(config: dict[str, Any]) -> Pooling:
    if isinstance(config.get("pooling_mode"), str):
        wanted = [config["pooling_mode"]]
    else:
        wanted = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
        wanted = [_FLAGS.get(name, name) for name in wanted]
    if len(wanted) != 1 or wanted[0] not in set(Pooling):
        raise MalformedError("the model pools its tokens in a way that this engine hasn't")
    return Pooling(wanted[0])


def _plain(path: object) -> str:
    if not isinstance(path, str) or not path or "/" in path or path.startswith("."):
        raise MalformedError("the model's pooling has no folder of its own")
    return path


def _json(data: bytes | None, kind: type) -> Any:
    if data is None or len(data) > MAX_CONFIG:
        raise MalformedError("a file that says how vectors are made is missing or too large")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise MalformedError("a file that says how vectors are made isn't JSON") from None
    if not isinstance(value, kind):
        raise MalformedError("a file that says how vectors are made has another form")
    return value
