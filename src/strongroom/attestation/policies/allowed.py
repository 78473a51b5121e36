"""Values that a policy takes from a list, or leaves open by saying so: leaving a value open is never a default."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from strongroom.attestation.claims import Aspect, Claim, one_of, said
from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

_MOST: Final = 4096
_ANY: Final = "any"


@dataclass(frozen=True, slots=True)
class Allowed:
    """An allow-list of texts; None for a rule that says ``any``."""

    values: tuple[str, ...] | None

    @classmethod
    def read(cls, fields: Fields, name: str, form: re.Pattern[str]) -> Allowed:
        """Take the member ``name``: ``"any"``, or an array of at most 4,096 texts that match ``form``, each once.

        :raises MalformedError: anything else.
        """
        value = fields.value(name)
        if value == _ANY:
            return ANYTHING
        if not isinstance(value, list) or len(value) > _MOST:
            raise MalformedError(f"`{fields.where}.{name}` must be `{_ANY}`, or an array of at most {_MOST} texts")
        texts = tuple(text for text in value if isinstance(text, str) and form.fullmatch(text))
        if len(texts) != len(value) or len(set(texts)) != len(texts):
            raise MalformedError(f"`{fields.where}.{name}` must hold texts of the form `{form.pattern}`, each once")
        return cls(texts)

    def to_json(self) -> Json:
        """Return what :meth:`read` reads."""
        return _ANY if self.values is None else list(self.values)

    def claim(self, name: str, aspect: Aspect, seen: str) -> Claim:
        """Claim that ``seen`` is allowed. What is absent is empty text, and no list allows it."""
        if self.values is None:
            return Claim(name, aspect, said(seen), "anything", ok=True)
        return one_of(name, aspect, seen, self.values)


ANYTHING: Final = Allowed(None)
NOTHING: Final = Allowed(())
