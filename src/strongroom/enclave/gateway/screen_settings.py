"""The file that says which screens there are: read strictly, since a screen that was mistyped screens nothing. Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from strongroom.core import canonical
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.enclave.gateway.screens import ALLOWED, Category, Direction, Ruling, Verdict
from strongroom.enclave.gateway.suspension import MAX_BLOCKS, MAX_WINDOW, BlockLimit

MAX_SETTINGS: Final = 64 << 10
MAX_WINDOW_CHARACTERS: Final = 65536
MAX_SCREENS: Final = 8
_MAX_LABELS: Final = 256
_MAX_MILLISECONDS: Final = 60_000
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpScreenSettings:
    """A classifier that answers over HTTP."""

    name: str
    directions: frozenset[Direction]
    url: str
    milliseconds: int
    """How long it may take, all in all."""
    authority: Path | None
    """Certificates that its own must lead to, instead of the machine's."""
    token: Path | None
    """A file with what is sent as ``Authorization: Bearer``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRule:
    """What one label of a local classifier means.

    :raises MalformedError: (construction) thresholds out of range or out of order.
    """

    category: Category
    flag: int
    """Thousandths of probability from which on a passage is flagged."""
    block: int
    """Thousandths from which on it is blocked."""

    def __post_init__(self) -> None:
        if not 1 <= self.flag <= self.block <= 1000:
            raise MalformedError("a label flags from 1 to 1000 thousandths on, and blocks from no fewer")

    def verdict(self, probability: float) -> Verdict:
        """Return what a probability means. What isn't a number blocks."""
        if probability < self.flag / 1000:
            return ALLOWED
        return Verdict(Ruling.FLAG if probability < self.block / 1000 else Ruling.BLOCK, self.category)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierSettings:
    """A text-classification model in a folder on this machine."""

    name: str
    directions: frozenset[Direction]
    folder: Path
    labels: dict[str, LabelRule]
    """Of each label that is looked at. The others mean nothing."""


ScreenKind: TypeAlias = HttpScreenSettings | ClassifierSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenSettings:
    """Everything that the file says."""

    limit: BlockLimit
    window: int
    """Characters of output that are held back until they are judged."""
    overlap: int
    """Characters before them that are judged with them."""
    screens: tuple[ScreenKind, ...]

    @classmethod
    def parse(cls, data: bytes) -> ScreenSettings:
        """Read the file.

        :raises MalformedError: another form, no screen, two of one name, or an address that others could listen to.
        """
        with Fields(canonical.parse(data, max_bytes=MAX_SETTINGS), "screens") as fields:
            fields.constant("v", 1)
            with fields.child("suspend") as suspend:
                limit = BlockLimit(
                    blocks=suspend.integer("blocks", least=1, most=MAX_BLOCKS),
                    seconds=suspend.integer("seconds", least=1, most=MAX_WINDOW),
                )
            with fields.child("output") as output:
                window = output.integer("window", least=1, most=MAX_WINDOW_CHARACTERS)
                overlap = output.integer("overlap", most=MAX_WINDOW_CHARACTERS)
            screens = fields.objects("screens", _screen, most=MAX_SCREENS)
        if not screens or len({screen.name for screen in screens}) != len(screens):
            raise MalformedError("a file of screens has at least one, and each name once")
        return cls(limit=limit, window=window, overlap=overlap, screens=screens)


def _screen(fields: Fields) -> ScreenKind:
    kind = fields.text("kind", max_length=16)
    name = fields.text("name", max_length=32)
    directions = frozenset(map(_direction, fields.texts("directions", most=len(Direction), max_length=16)))
    if not _NAME.fullmatch(name) or not directions:
        raise MalformedError(f"`{fields.where}` needs a name of lower-case letters, and at least one direction")
    match kind:
        case "http":
            return HttpScreenSettings(
                name=name,
                directions=directions,
                url=fields.parsed("url", _url, max_length=2048),
                milliseconds=fields.integer("milliseconds", least=1, most=_MAX_MILLISECONDS),
                authority=_path(fields, "authority"),
                token=_path(fields, "token"),
            )
        case "classifier":
            folder = Path(fields.text("folder", max_length=4096))
            with fields.child("labels") as labels:
                rules = {label: _rule(labels, label) for label in labels.names(most=_MAX_LABELS)}
            if not rules or not folder.is_absolute():
                raise MalformedError(f"`{fields.where}` needs an absolute folder, and a rule for at least one label")
            return ClassifierSettings(name=name, directions=directions, folder=folder, labels=rules)
        case _:
            raise MalformedError(f"`{fields.where}.kind` is `http` or `classifier`")


def _rule(labels: Fields, name: str) -> LabelRule:
    with labels.child(name) as fields:
        return LabelRule(
            category=fields.parsed("category", Category),
            flag=fields.integer("flag", most=1000),
            block=fields.integer("block", most=1000),
        )


def _direction(text: str) -> Direction:
    try:
        return Direction(text)
    except ValueError:
        raise MalformedError("a direction is `input` or `output`") from None


def _path(fields: Fields, name: str) -> Path | None:
    if not fields.optional(name):
        return None
    path = Path(fields.text(name, max_length=4096))
    if not path.is_absolute():
        raise MalformedError(f"`{fields.where}.{name}` must be an absolute path")
    return path


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        raise MalformedError("the address of a screen can't be read") from None
    if parts.scheme not in {"http", "https"} or not host or parts.username or parts.fragment or not text.isascii():
        raise MalformedError("the address of a screen is an `https` one, without a name in it")
    if parts.scheme == "http" and not _loopback(host):
        # What people ask would cross the network in the clear, and whoever is on the way could answer `allow`.
        raise MalformedError("a screen on another machine is reached by `https` alone")
    return text


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
