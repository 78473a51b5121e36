"""The catalogue of fingerprints: which sketches each version of each model has, and which known block is near another.

It holds the key of the sketches and no weights. As a file it is the plaintext of what ``docs/spec/fingerprints.md``
describes: a canonical JSON head, then 32 bytes for each sketch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.encoding import to_base64
from strongroom.core.errors import ConflictError, MalformedError
from strongroom.core.extras import need
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, model_id
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.reader import Reader
from strongroom.core.secret import SecretBytes
from strongroom.intake.copies.fingerprints import KEY_BYTES, NEAR, SKETCH_BYTES, distances, stride_of

MAX_CATALOGUE: Final = 1 << 30
MAX_HEAD: Final = 64 << 20
MAX_MODELS: Final = 4096
MAX_TENSORS: Final = 1_000_000
MAX_NAME: Final = 256
MAX_BLOCKS: Final = 1 << 40
_BANDS: Final = 16
_MOST_CANDIDATES: Final = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTensor:
    """A tensor's sketches, of every block at a multiple of its stride."""

    name: str
    blocks: int
    sketches: bytes
    """32 bytes each; zeros for a block that has none."""

    @property
    def kept(self) -> int:
        """How many sketches."""
        return -(-self.blocks // stride_of(self.blocks))


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """One version of a model."""

    model: ModelId
    version: int
    tensors: tuple[KnownTensor, ...]


class Near(NamedTuple):
    """What a block is near: which model and tensor of the catalogue, and in how many bits it differs."""

    model: int
    tensor: int
    bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """All that a search knows of our models."""

    key: SecretBytes
    models: tuple[KnownModel, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a catalogue.

        :raises MalformedError: another form, a version twice, or sketches that don't fit their count.
        """
        reader = Reader(data, "catalogue", max_bytes=MAX_CATALOGUE)
        with Fields(decode(reader.counted(4, MAX_HEAD), max_bytes=MAX_HEAD), "catalogue") as fields:
            fields.constant("v", 1)
            key = fields.binary("key", max_length=KEY_BYTES)
            models = fields.objects("models", lambda f: _read_model(f, reader), most=MAX_MODELS)
        reader.end()
        if len(key) != KEY_BYTES or len({(one.model, one.version) for one in models}) != len(models):
            raise MalformedError("a catalogue has a key, and each version of a model once")
        return cls(key=SecretBytes(bytearray(key)), models=models)

    def to_bytes(self) -> bytes:
        """Return what :meth:`parse` reads."""
        models: list[Json] = []
        for one in self.models:
            tensors: list[Json] = [{"name": tensor.name, "blocks": tensor.blocks} for tensor in one.tensors]
            models.append({"model": one.model, "version": one.version, "tensors": tensors})
        head = encode({"v": 1, "key": to_base64(bytes(self.key.reveal(TOKEN))), "models": models})
        sketches = (tensor.sketches for one in self.models for tensor in one.tensors)
        return len(head).to_bytes(4, "big") + head + b"".join(sketches)

    def with_model(self, model: KnownModel) -> Catalogue:
        """Return the catalogue with one more version.

        :raises ConflictError: it has that version already, or nothing in the model has a sketch.
        """
        if any((one.model, one.version) == (model.model, model.version) for one in self.models):
            raise ConflictError(f"the catalogue has version {model.version} of `{model.model}` already")
        if not any(any(tensor.sketches) for tensor in model.tensors):
            raise ConflictError(
                f"nothing in `{model.model}` can be known again", remedy="a tensor of 4,096 elements or more is"
            )
        return Catalogue(key=self.key, models=(*self.models, model))


def _read_model(fields: Fields, reader: Reader) -> KnownModel:
    return KnownModel(
        model=fields.parsed("model", model_id),
        version=fields.integer("version", least=1),
        tensors=fields.objects("tensors", lambda f: _read_tensor(f, reader), most=MAX_TENSORS),
    )


def _read_tensor(fields: Fields, reader: Reader) -> KnownTensor:
    name, blocks = fields.text("name", max_length=MAX_NAME), fields.integer("blocks", least=1, most=MAX_BLOCKS)
    kept = -(-blocks // stride_of(blocks))
    return KnownTensor(name=name, blocks=blocks, sketches=reader.take(kept * SKETCH_BYTES))


class Index:
    """Finds known blocks that are near others: sixteen tables, each of sixteen of the 256 bits.

    Two sketches that differ in few bits are equal in one of the tables: in 38 bits, as after noise of half a tensor's
    own size, with a chance of 72 % for each block.
    """

    def __init__(self, models: Sequence[KnownModel]) -> None:
        np = need("numpy", extra="numpy")
        self._np = np
        self.models = tuple(models)
        tensors = [(m, t, tensor) for m, one in enumerate(models) for t, tensor in enumerate(one.tensors)]
        joined = np.frombuffer(b"".join(tensor.sketches for _m, _t, tensor in tensors), dtype="u1")
        sketches = joined.reshape(-1, SKETCH_BYTES)
        owners = np.repeat(np.arange(len(tensors), dtype="i8"), [tensor.kept for _m, _t, tensor in tensors])
        used = sketches.any(axis=1)
        self._sketches, self._owners = sketches[used].copy(), owners[used]
        self._tensors = [(m, t) for m, t, _tensor in tensors]
        bands = self._sketches.view("<u2")
        self._tables = []
        for band in range(_BANDS):
            order = np.argsort(bands[:, band], kind="stable").astype("u4")
            begins = np.searchsorted(bands[order, band], np.arange((1 << 16) + 1)).astype("i8")
            self._tables.append((order, begins))

    def near(self, sketches: Any) -> Iterator[Near]:
        """Yield, for each of ``sketches`` (rows of 32 bytes) that has one, the nearest known block within 56 bits."""
        np = self._np
        sketches = sketches[sketches.any(axis=1)]
        if not len(sketches) or not len(self._sketches):
            return
        asked, known = self._candidates(np.ascontiguousarray(sketches))
        bits = distances(sketches[asked], self._sketches[known])
        order = np.lexsort((known, bits, asked))
        order = order[bits[order] <= NEAR]
        _first, where = np.unique(asked[order], return_index=True)
        for place in order[where]:
            model, tensor = self._tensors[int(self._owners[known[place]])]
            yield Near(model, tensor, int(bits[place]))

    def _candidates(self, sketches: Any) -> tuple[Any, Any]:
        """Return pairs that agree in one band at least: rows asked about, and known rows."""
        np = self._np
        bands = sketches.view("<u2")
        asked, known, left = [], [], _MOST_CANDIDATES
        for band, (order, begins) in enumerate(self._tables):
            begin, end = begins[bands[:, band]], begins[bands[:, band].astype("i8") + 1]
            counts = end - begin
            # What would take too much memory is left out: that many equal bands are many copies of one block.
            counts = np.where(np.cumsum(counts) <= left, counts, 0)
            total = int(counts.sum())
            left -= total
            rows = np.repeat(np.arange(len(counts)), counts)
            within = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
            asked.append(rows)
            known.append(order[begin[rows] + within])
        return np.concatenate(asked), np.concatenate(known)
