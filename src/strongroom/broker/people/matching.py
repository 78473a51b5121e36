"""Which person of the roster a directory's user stands for."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from strongroom.core.errors import MalformedError
from strongroom.core.ids import PersonId, person_id


def fold(text: str) -> str:
    """Return the form in which names that ignore case are compared: NFC, lower case (as RFC 8265 maps user names)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())


def candidates(
    *, person: str | None, external_id: str | None = None, user_name: str | None = None
) -> tuple[PersonId, ...]:
    """Return the person's ids that a user may stand for, the best first: the first that the roster knows is meant.

    Our extension's ``personId``, else ``externalId``, else ``userName``, else its part before the ``@``. What can't be
    a person's id is left out.
    """
    local = user_name.partition("@")[0] if user_name else None
    found = [name for text in (person, external_id, user_name, local) for name in _ids(text)]
    return tuple(dict.fromkeys(found))


def _ids(text: str | None) -> Sequence[PersonId]:
    # Providers write `Dana@Example.org`; our ids have one case.
    return tuple(_valid(fold(text))) if text else ()


def _valid(text: str) -> Iterator[PersonId]:
    try:
        yield person_id(text)
    except MalformedError:
        return
