"""The sealed index: real file names, modes and sizes, and canary values, in a sealed object of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.sealing.canary import MAX_CANARIES, Canary
from strongroom.sealing.errors import SealedIndexError, UnsafeNameError
from strongroom.sealing.header import Geometry
from strongroom.sealing.manifest import MAX_OBJECTS, Manifest, object_id_of
from strongroom.sealing.names import MAX_NAME_BYTES, check_distinct, file_name
from strongroom.sealing.prelude import ID_LENGTH, MAX_SEGMENT_BITS, MIN_SEGMENT_BITS

MAX_INDEX: Final = 4 << 20
"""Bytes of the index's plaintext; known from the signed manifest before anything is allocated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedFile:
    """One file of the model."""

    name: str
    """Relative POSIX path (:func:`strongroom.sealing.names.file_name`)."""
    mode: int
    """Permission bits, 0 to 0o777."""
    size: int
    """Plaintext bytes."""
    object_id: bytes

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "name": self.name,
            "mode": self.mode,
            "size": self.size,
            "object": self.object_id.hex(),
        }

    @classmethod
    def read(cls, fields: Fields) -> SealedFile:
        """Read the JSON form."""
        return cls(
            name=file_name(fields.text("name", max_length=MAX_NAME_BYTES)),
            mode=fields.integer("mode", most=0o777),
            size=fields.integer("size"),
            object_id=fields.parsed("object", object_id_of, max_length=2 * ID_LENGTH),
        )


@dataclass(frozen=True, slots=True)
class Index:
    """The files of one model version, in ascending order of their names, and what it must answer."""

    files: tuple[SealedFile, ...]
    canaries: tuple[Canary, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the canonical plaintext of the index object.

        :raises UnsafeNameError: names that can't stand together.
        :raises SealedIndexError: longer than an index may be.
        """
        check_distinct(item.name for item in self.files)
        data = encode(
            {
                "v": 1,
                "files": [item.to_json() for item in self.files],
                "canaries": [canary.to_json() for canary in self.canaries],
            }
        )
        if len(data) > MAX_INDEX:
            raise SealedIndexError(f"the index would have {len(data)} bytes; at most {MAX_INDEX} are read")
        return data

    @classmethod
    def parse(cls, data: bytes, manifest: Manifest) -> Index:
        """Read the plaintext of the index and check it against the manifest: the same objects, the same sizes.

        :raises SealedIndexError: not canonical, a wrong member, an unsafe name, or a file that the manifest lacks.
        """
        try:
            with Fields(decode(data, max_bytes=MAX_INDEX), "index") as fields:
                fields.constant("v", 1)
                files = fields.objects("files", SealedFile.read, most=MAX_OBJECTS)
                canaries = fields.objects("canaries", Canary.read, most=MAX_CANARIES)
            check_distinct(item.name for item in files)
        except MalformedError as error:
            raise SealedIndexError(f"the index is malformed: {error.message}") from None
        except UnsafeNameError as error:
            # Without the name: it is sealed, and this message may be logged.
            raise SealedIndexError(f"the index holds a name that is refused ({error.code})") from None
        names = [item.name for item in files]
        if names != sorted(names):
            raise SealedIndexError("the index isn't in ascending order of names")
        sizes = {item.object_id: item.size for item in manifest.objects}
        if sorted(item.object_id for item in files) != sorted(sizes):
            raise SealedIndexError("the index and the manifest don't name the same objects")
        for number, item in enumerate(files):
            if not _fits(item.size, sizes[item.object_id]):
                raise SealedIndexError(f"the size of file {number} doesn't fit its sealed object")
        return cls(files, canaries)


def _fits(plain_size: int, sealed_size: int) -> bool:
    """Tell whether some allowed segment length makes ``plain_size`` bytes into ``sealed_size``."""
    lengths = (1 << bits for bits in range(MIN_SEGMENT_BITS, MAX_SEGMENT_BITS + 1))
    return any(Geometry.of_plaintext(plain_size, length).size == sealed_size for length in lengths)
