"""Reading a parsed JSON object field by field: every field is named, typed and used, or the object is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Self, TypeVar

from strongroom.core.canonical import Json
from strongroom.core.clock import parse_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64
from strongroom.core.errors import MalformedError

T = TypeVar("T")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class Fields:
    """A JSON object being read. Unknown members are an error: a field that nobody reads is a field that nobody checked.

    :raises MalformedError: (every method) a missing, extra or wrongly typed member; the error names where it is.
    """

    def __init__(self, value: Json, where: str) -> None:
        if not isinstance(value, dict):
            raise MalformedError(f"`{where}` must be a JSON object")
        self._left = dict(value)
        self.where = where

    def _take(self, name: str) -> Json:
        try:
            return self._left.pop(name)
        except KeyError:
            raise MalformedError(f"`{self.where}.{name}` is missing") from None

    def _wrong(self, name: str, wanted: str) -> MalformedError:
        return MalformedError(f"`{self.where}.{name}` must be {wanted}")

    def text(self, name: str, *, max_length: int = 256) -> str:
        """Take a string of at most ``max_length`` characters without control characters."""
        value = self._take(name)
        if not isinstance(value, str) or len(value) > max_length or _CONTROL.search(value):
            raise self._wrong(name, f"a string of at most {max_length} printable characters")
        return value

    def parsed(self, name: str, parse: Callable[[str], T], *, max_length: int = 256) -> T:
        """Take a string and parse it, naming this field in whatever error the parser raises."""
        value = self.text(name, max_length=max_length)
        try:
            return parse(value)
        except MalformedError as error:
            raise MalformedError(f"`{self.where}.{name}`: {error.message}", remedy=error.remedy) from None
        except ValueError:
            raise self._wrong(name, "one of the allowed values") from None

    def digest(self, name: str) -> Digest:
        """Take a digest."""
        return self.parsed(name, Digest.parse)

    def instant(self, name: str) -> int:
        """Take an RFC 3339 instant, in seconds since 1970."""
        return self.parsed(name, parse_instant)

    def binary(self, name: str, *, max_length: int = 65536) -> bytes:
        """Take base64 text (RFC 4648 section 4) of at most ``max_length`` bytes once decoded."""
        value = self.parsed(name, from_base64, max_length=(max_length + 2) // 3 * 4)
        # Base64 rounds up to three bytes: text of the allowed length can still hold two bytes too many.
        if len(value) > max_length:
            raise self._wrong(name, f"at most {max_length} bytes in base64")
        return value

    def integer(self, name: str, *, least: int = 0, most: int = 2**53 - 1) -> int:
        """Take an integer within [least, most]."""
        value = self._take(name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self._wrong(name, f"an integer from {least} to {most}")
        return value

    def boolean(self, name: str) -> bool:
        """Take true or false."""
        value = self._take(name)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def constant(self, name: str, wanted: str | int) -> None:
        """Take a member that must hold exactly ``wanted``."""
        value = self._take(name)
        # `true` equals 1 in Python, and would be a second spelling of the same object.
        if value != wanted or isinstance(value, bool):
            raise self._wrong(name, f"`{wanted}`")

    def items(self, name: str, *, most: int) -> Iterator[tuple[str, Json]]:
        """Take an array of at most ``most`` items; yields where each stands, and its value."""
        value = self._take(name)
        if not isinstance(value, list) or len(value) > most:
            raise self._wrong(name, f"an array of at most {most} items")
        return ((f"{self.where}.{name}[{i}]", item) for i, item in enumerate(value))

    def objects(self, name: str, read: Callable[[Fields], T], *, most: int) -> tuple[T, ...]:
        """Take an array of objects, each read by ``read``."""
        result = []
        for where, item in self.items(name, most=most):
            with Fields(item, where) as fields:
                result.append(read(fields))
        return tuple(result)

    def texts(self, name: str, *, most: int, max_length: int = 256) -> tuple[str, ...]:
        """Take an array of strings, each as in :meth:`text`."""
        result = []
        for where, item in self.items(name, most=most):
            if not isinstance(item, str) or len(item) > max_length or _CONTROL.search(item):
                raise MalformedError(f"`{where}` must be a string of at most {max_length} printable characters")
            result.append(item)
        return tuple(result)

    def names(self, *, most: int) -> tuple[str, ...]:
        """Return the names of the members that weren't read yet, at most ``most``, each of 1 to 64 characters."""
        found = tuple(self._left)
        if len(found) > most or any(not 1 <= len(name) <= 64 or _CONTROL.search(name) for name in found):
            raise MalformedError(f"`{self.where}` must have at most {most} members with names of 1 to 64 characters")
        return found

    def child(self, name: str) -> Fields:
        """Take a member that is itself an object."""
        return Fields(self._take(name), f"{self.where}.{name}")

    def optional(self, name: str) -> bool:
        """Tell whether a member that may be left out is there and not null; a null member is dropped."""
        if self._left.get(name) is None:
            self._left.pop(name, None)
            return False
        return True

    def value(self, name: str) -> Json:
        """Take a member of any type."""
        return self._take(name)

    def end(self) -> None:
        """Refuse what is left over."""
        if self._left:
            raise MalformedError(f"`{self.where}` has members that this version doesn't know")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_rest: object) -> None:
        if kind is None:
            self.end()


@contextmanager
def reading(value: Json, where: str) -> Iterator[Fields]:
    """Read ``value`` as an object called ``where`` in messages; leftovers are refused at the end of the block."""
    fields = Fields(value, where)
    yield fields
    fields.end()
