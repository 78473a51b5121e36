"""What an incident is about and an action is aimed at: a model, person, host, service, or the whole deployment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.core.errors import MalformedError
from strongroom.core.ids import SHADOW

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,126}[a-z0-9])?")
_LONGEST_ID: Final = 64


class SubjectKind(StrEnum):
    """What kind of thing a subject is."""

    MODEL = "model"
    PERSON = "person"
    HOST = "host"
    SERVICE = "service"
    DEPLOYMENT = "deployment"
    """Everything. Its name is always ``all``, or ``shadow-all`` in a drill."""


_KINDS: Final = {
    "model": SubjectKind.MODEL,
    "host": SubjectKind.HOST,
    "person": SubjectKind.PERSON,
    "requester": SubjectKind.PERSON,
    "service": SubjectKind.SERVICE,
    "principal": SubjectKind.SERVICE,
    "vendor": SubjectKind.SERVICE,
    "component": SubjectKind.SERVICE,
}
"""What alerts call things -> what they are."""


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """One subject, written ``kind:name``."""

    kind: SubjectKind
    name: str

    @classmethod
    def parse(cls, text: str) -> Subject:
        """Read ``model:atlas-7b``.

        :raises MalformedError: another form, kind or spelling.
        """
        kind, _, name = text.partition(":")
        if kind not in set(SubjectKind) or not _is_name(SubjectKind(kind), name):
            raise MalformedError("a subject is a kind, say `model` or `host`, a colon, and a name in lower case")
        if kind == SubjectKind.DEPLOYMENT and name.removeprefix(SHADOW) != "all":
            raise MalformedError("the whole deployment is called `deployment:all`")
        return cls(SubjectKind(kind), name)

    @property
    def shadow(self) -> bool:
        """Whether it is a drill's stand-in."""
        return self.name.startswith(SHADOW)

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.name}"


def _is_name(kind: SubjectKind, name: str) -> bool:
    # A model or person that can't be called so anywhere else must not become what an incident is about.
    is_id = kind in {SubjectKind.MODEL, SubjectKind.PERSON}
    return bool(_NAME.fullmatch(name)) and not (is_id and (".." in name or len(name) > _LONGEST_ID))


EVERYTHING: Final = Subject(SubjectKind.DEPLOYMENT, "all")


def subject_of_alert(text: str) -> Subject:
    """Return the subject that an alert's own words name; the whole deployment if they name none that can be read.

    Those words hold names that an attacker may have written. What isn't a name must not lose the alert: it is filed
    under the deployment, where a person looks at it. Of a group the first part counts.
    """
    kind, _, name = text.partition(",")[0].partition(":")
    name = name.lower()
    known = _KINDS.get(kind)
    if known is None or not _is_name(known, name) or name.startswith(SHADOW):
        return EVERYTHING
    return Subject(known, name)
