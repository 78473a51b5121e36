"""What Strongroom stands on: the pinned libraries, as a bill of materials (CycloneDX 1.6, ECMA-424, as JSON).

A library's wheels have a digest each. What one of them installs has a digest, too
(:mod:`strongroom.intake.installation.record`): of the wheel that was installed where the bill was made, with the tags
that say for which machines it was built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.intake.installation.record import normal_name

MAX_BILL: Final = 4 << 20
MAX_COMPONENTS: Final = 2000
MAX_WHEELS: Final = 1000
MAX_TAGS: Final = 32
_RECORD: Final = "strongroom:record"
_TAG: Final = "strongroom:wheel-tag"
_PINNED: Final = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]{0,127})==([A-Za-z0-9][A-Za-z0-9.!+_]{0,63})((?: --hash=sha256:[0-9a-f]{64})+)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One library. ``record`` is of the wheel with ``tags``; None where none was installed."""

    name: str
    version: str
    wheels: tuple[Digest, ...]
    """Sorted: of the wheels and source archives that may be installed."""
    record: Digest | None = None
    tags: tuple[str, ...] = ()
    """Sorted, as `py3-none-any`."""

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"pkg:pypi/{self.name}@{self.version}"

    def to_json(self) -> Json:
        """Return the CycloneDX component."""
        found: dict[str, Json] = {
            "type": "library",
            "bom-ref": self.purl,
            "name": self.name,
            "version": self.version,
            "purl": self.purl,
            "externalReferences": [
                {
                    "type": "distribution",
                    "url": f"{self.purl}?checksum={wheel}",
                    "hashes": [{"alg": "SHA-256", "content": wheel.value.hex()}],
                }
                for wheel in self.wheels
            ],
        }
        if self.record is not None:
            tags: list[Json] = [{"name": _TAG, "value": tag} for tag in self.tags]
            found["properties"] = [{"name": _RECORD, "value": str(self.record)}, *tags]
        return found

    @classmethod
    def read(cls, fields: Fields) -> Component:
        """Read a component; :meth:`Bill.parse` compares it with the one form."""
        name, version = fields.text("name"), fields.text("version")
        for known in ("type", "bom-ref", "purl"):
            fields.text(known)
        wheels = fields.objects("externalReferences", _wheel, most=MAX_WHEELS)
        record: Digest | None = None
        tags: tuple[str, ...] = ()
        if fields.optional("properties"):
            first, *rest = fields.objects("properties", _property, most=1 + MAX_TAGS) or (("", ""),)
            record, tags = Digest.parse(first[1]), tuple(value for _name, value in rest)
        return cls(name=name, version=version, wheels=wheels, record=record, tags=tags)


def _wheel(fields: Fields) -> Digest:
    fields.text("type")
    fields.text("url", max_length=512)
    found = fields.objects("hashes", _hash, most=1)
    if not found:
        raise MalformedError(f"`{fields.where}.hashes` is empty")
    return found[0]


def _hash(fields: Fields) -> Digest:
    fields.constant("alg", "SHA-256")
    return Digest.parse("sha256:" + fields.text("content", max_length=64))


def _property(fields: Fields) -> tuple[str, str]:
    return fields.text("name"), fields.text("value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """The libraries of one version, sorted by name."""

    version: str
    made_at: Instant
    components: tuple[Component, ...]

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        project: Json = {"type": "application", "bom-ref": "strongroom", "name": "strongroom", "version": self.version}
        return encode(
            {
                "bomFormat": "CycloneDX",
                "specVersion": "1.6",
                "version": 1,
                "metadata": {"timestamp": format_instant(self.made_at), "component": project},
                "components": [one.to_json() for one in self.components],
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Bill:
        """Read a bill. Compare its digest with a signed provenance first.

        :raises MalformedError: not a bill in its one form.
        """
        with Fields(decode(data, max_bytes=MAX_BILL), "bill") as fields:
            for known in ("bomFormat", "specVersion", "version"):
                fields.value(known)
            with fields.child("metadata") as metadata:
                made_at = metadata.instant("timestamp")
                with metadata.child("component") as project:
                    version = project.text("version", max_length=64)
                    for known in ("type", "bom-ref", "name"):
                        project.text(known)
            components = fields.objects("components", Component.read, most=MAX_COMPONENTS)
        found = cls(version=version, made_at=made_at, components=components)
        names = [one.name for one in components]
        if found.to_bytes() != data or names != sorted({normal_name(name) for name in names}):
            raise MalformedError("a bill that isn't in its one form")
        return found


def pinned(requirements: str) -> Iterator[Component]:
    """Read what `make lock` wrote: every line a library, its version and the digests of its wheels.

    :raises MalformedError: a line of another form, or without a digest.
    """
    for line in requirements.replace("\\\n", "").splitlines():
        text = " ".join(line.split())
        if not text or text.startswith("#"):
            continue
        found = _PINNED.fullmatch(text)
        if found is None:
            raise MalformedError(f"`{text[:80]}` isn't a library that is pinned by version and digest")
        wheels = sorted(Digest.parse(one.removeprefix("--hash=")) for one in found[3].split())
        yield Component(name=normal_name(found[1]), version=found[2], wheels=tuple(wheels))
