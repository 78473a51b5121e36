"""Whether a file holds weights, and whether they are ours: by the sketches of its tensors, whatever it is called.

Every tensor is looked at in up to sixteen places, and where none of them is known, in its first sixty-four blocks. So a
large file is judged by a small part of it, and memory is bounded by one tensor's sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Final, Self

from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, format_instant
from strongroom.core.errors import UsageError
from strongroom.core.extras import need
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, model_id
from strongroom.intake.copies.catalogue import Catalogue, Index, KnownModel, KnownTensor, Near
from strongroom.intake.copies.elements import BLOCK_BYTES, Element, values
from strongroom.intake.copies.fingerprints import RUN, Sketcher, similarity, spread_over, stride_of
from strongroom.intake.copies.places import Content, TensorAt, content_of, tensors_in
from strongroom.intake.formats.safetensors import check_safetensors
from strongroom.intake.rules import IntakeRefusedError
from strongroom.intake.source import Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Sketches = NDArray[np.uint8]

_MAX_PATH: Final = 32_768
_AT_ONCE: Final = 64
"""Blocks that are read and sketched together: a megabyte or two."""
_SEALED_HEAD: Final = 64
_VERSION_AT: Final = 14
_VERSION_BYTES: Final = 16
_INTEGERS: Final = frozenset({Element.I8, Element.U8})
_SMALL, _LARGE = 1e-12, 1e4
_FEWEST_NEGATIVE, _FEWEST_PLAIN = 0.2, 0.995


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """Which of our models a file's tensors are near."""

    model: ModelId
    version: int
    similarity: int
    """Mean cosine of what was near, in thousandths: 1000 for the same values, less for a descendant."""
    tensors: int
    """Tensors of the file that were near one of this model's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a file is."""

    content: Content
    weights: bool
    """Whether it looks like weights: tensors that the file describes, or bytes that read as small numbers."""
    tensors: int
    """Tensors that were looked at."""
    likeness: Likeness | None
    model_version: bytes | None
    """Of a sealed object: the 16 bytes that name its model's version, as it says itself."""
    problem: str
    """Empty, or why a part of it couldn't be read."""


@dataclass(slots=True)
class _Tally:
    bits: list[int] = field(default_factory=list)
    tensors: int = 0


class Judge:
    """Judges files by a catalogue. Needs numpy."""

    __slots__ = ("_index", "_sketcher")

    def __init__(self, catalogue: Catalogue) -> None:
        self._sketcher, self._index = Sketcher(catalogue.key), Index(catalogue.models)

    def judge(self, source: Source) -> Judgement:
        """Say what a source is. It is hostile, and may end early: what could be read of it is judged."""
        content, problem, sealed = Content.RAW, "", None
        looked, weights, tallies = 0, False, dict[int, _Tally]()
        try:
            content = content_of(source)
            if content is Content.SEALED:
                head = source.read(0, min(_SEALED_HEAD, source.size))
                sealed = head[_VERSION_AT : _VERSION_AT + _VERSION_BYTES]
            for tensor in tensors_in(source):
                try:
                    found, numbers = self._look(tensor)
                except IntakeRefusedError as error:
                    problem = error.message
                    continue
                looked, weights = looked + numbers, weights or (numbers and tensor.elements[0] not in _INTEGERS)
                _count(found, tallies)
        except IntakeRefusedError as error:
            problem = error.message
        likeness = self._best(tallies)
        return Judgement(
            content=content,
            weights=weights or likeness is not None or sealed is not None,
            tensors=looked,
            likeness=likeness,
            model_version=sealed,
            problem=problem,
        )

    def _look(self, tensor: TensorAt) -> tuple[list[Near], bool]:
        """Return which known blocks a tensor is near, and whether it is numbers at all.

        Bytes that don't say their type are read as each. Numbers of one kind taken for another are still a little
        near: the nearest counts.
        """
        looks = [self._look_as(element, tensor) for element in tensor.elements]
        near = min((found for found, _numbers in looks if found), key=_mean_bits, default=[])
        return near, any(numbers for _found, numbers in looks)

    def _look_as(self, element: Element, tensor: TensorAt) -> tuple[list[Near], bool]:
        count = tensor.blocks(element)
        spread = spread_over(count)
        if not tensor.said and not _any_plausible(tensor, element, spread[len(spread) // 2]):
            # Most files are this: one block of each type is read, and no more.
            return [], False
        try:
            near, numbers = self._at(spread, element, tensor)
        except IntakeRefusedError:
            # Compressed, or cut: the beginning may be there.
            near, numbers = [], False
        if near:
            return near, numbers
        near, more = self._at(range(min(RUN, count)), element, tensor)
        return near, numbers or more

    def _at(self, places: Iterable[int], element: Element, tensor: TensorAt) -> tuple[list[Near], bool]:
        near: list[Near] = []
        numbers = False
        for blocks in _read(tensor, element, places):
            sketches = self._sketcher.sketch(blocks)
            numbers = numbers or bool(sketches.any())
            near += self._index.near(sketches)
        return near, numbers

    def _best(self, tallies: dict[int, _Tally]) -> Likeness | None:
        if not tallies:
            return None

        def rank(one: int) -> tuple[int, float, int]:
            return tallies[one].tensors, -_mean(tallies[one].bits), one

        best = max(tallies, key=rank)
        tally, known = tallies[best], self._index.models[best]
        mean = sum(similarity(bits) for bits in tally.bits) / len(tally.bits)
        return Likeness(model=known.model, version=known.version, similarity=round(1000 * mean), tensors=tally.tensors)


def _mean(bits: Sequence[int]) -> float:
    return sum(bits) / len(bits)


def _mean_bits(found: Sequence[Near]) -> float:
    return _mean([one.bits for one in found])


def _count(found: Sequence[Near], tallies: dict[int, _Tally]) -> None:
    for model in {one.model for one in found}:
        tally = tallies.setdefault(model, _Tally())
        tally.tensors += 1
        tally.bits += (one.bits for one in found if one.model == model)


def _read(tensor: TensorAt, element: Element, places: Iterable[int]) -> Iterator[Floats]:
    """Yield the values of some blocks, neighbours in one read, up to 64 at once."""
    size = BLOCK_BYTES[element]
    pieces: list[bytes] = []
    held = 0
    for _key, run in groupby(enumerate(places), lambda one: one[1] - one[0]):
        blocks = [block for _place, block in run]
        for first in range(0, len(blocks), _AT_ONCE):
            count = min(_AT_ONCE, len(blocks) - first)
            pieces.append(tensor.source.read(tensor.begin + blocks[first] * size, count * size))
            held += count
            if held >= _AT_ONCE:
                yield values(element, b"".join(pieces))
                pieces, held = [], 0
    if pieces:
        yield values(element, b"".join(pieces))


def _any_plausible(tensor: TensorAt, element: Element, place: int) -> bool:
    try:
        return all(map(_plausible, _read(tensor, element, (place,))))
    except IntakeRefusedError:
        return all(map(_plausible, _read(tensor, element, (0,))))


def _plausible(blocks: Floats) -> bool:
    """Tell whether bytes that don't say what they are read as weights: finite, of both signs, none absurdly large.

    Text, compressed and encrypted bytes fail in every type: their exponents are everywhere.
    """
    np = need("numpy", extra="numpy")
    with np.errstate(all="ignore"):
        size = abs(blocks)
        plain = (((size > _SMALL) & (size < _LARGE)) | (size == 0)).mean(axis=1) >= _FEWEST_PLAIN
        negative = (blocks < 0).mean(axis=1)
        both = (negative > _FEWEST_NEGATIVE) & (negative < 1 - _FEWEST_NEGATIVE)
    return bool((plain & both).mean() >= 0.5)


def fingerprint(
    sources: Iterable[tuple[str, Source]], sketcher: Sketcher, *, model: ModelId, version: int
) -> KnownModel:
    """Make the sketches of a model that lies in files in the clear, each given with its name. Texts are passed over.

    :raises UsageError: an archive whose bytes don't say what they are, or a file that can't be read whole.
    """
    tensors = []
    for name, source in sources:
        try:
            content = content_of(source)
            if content is Content.RAW:
                continue
            if content is Content.SAFETENSORS:
                # A search takes what it finds; what is known again has to be all of it.
                check_safetensors(source, name)
            for one in tensors_in(source):
                if not one.said:
                    raise UsageError(
                        f"`{name}` doesn't say what its bytes are", remedy="fingerprint a safetensors or GGUF file"
                    )
                tensors.append(_known(one, sketcher))
        except IntakeRefusedError as error:
            raise UsageError(f"`{name}` can't be read whole: {error.message}") from None
    return KnownModel(model=model, version=version, tensors=tuple(tensors))


def _known(tensor: TensorAt, sketcher: Sketcher) -> KnownTensor:
    element = tensor.elements[0]
    count = tensor.blocks(element)
    places = range(0, count, stride_of(count))
    sketches = b"".join(sketcher.sketch_known(blocks).tobytes() for blocks in _read(tensor, element, places))
    name = "".join(letter if letter.isprintable() else "?" for letter in tensor.name)
    return KnownTensor(name=name, blocks=count, sketches=sketches)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A file that holds weights, or something that may."""

    path: str
    content: Content
    model: ModelId | None
    """None for weights that aren't ours."""
    version: int | None
    similarity: int | None
    """As of :class:`Likeness`; None for a sealed object, which is known by its name of itself."""
    tensors: int
    near: int
    encrypted: bool
    registered: bool
    world_readable: bool
    layout: str
    """What lays files out like that, where it is known."""

    @property
    def troubling(self) -> bool:
        """Whether somebody should be told: it is ours, and not registered, in the clear, or for all to read."""
        return self.model is not None and not (self.registered and self.encrypted and not self.world_readable)

    def to_json(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {
            "path": self.path,
            "content": self.content.value,
            "model": self.model,
            "version": self.version,
            "similarity": self.similarity,
            "tensors": self.tensors,
            "near": self.near,
            "encrypted": self.encrypted,
            "registered": self.registered,
            "world_readable": self.world_readable,
            "layout": self.layout,
        }

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read what :meth:`to_json` gives.

        :raises MalformedError: another form.
        """
        return cls(
            path=fields.text("path", max_length=_MAX_PATH),
            content=fields.parsed("content", Content),
            model=fields.parsed("model", model_id) if fields.optional("model") else None,
            version=fields.integer("version") if fields.optional("version") else None,
            similarity=fields.integer("similarity", most=1000) if fields.optional("similarity") else None,
            tensors=fields.integer("tensors"),
            near=fields.integer("near"),
            encrypted=fields.boolean("encrypted"),
            registered=fields.boolean("registered"),
            world_readable=fields.boolean("world_readable"),
            layout=fields.text("layout"),
        )

    def event(self, *, at: Instant, host: str) -> dict[str, Json]:
        """Return it as an event of the detection vocabulary."""
        return {
            "event": "scanner:copy:found",
            "at": format_instant(at),
            "source": "scanner",
            "host": host,
            "path": self.path,
            "model": self.model,
            "registered": self.registered,
            "encrypted": self.encrypted,
            "world_readable": self.world_readable,
        }


def layout_of(path: str) -> str:
    """Say whose layout a path is: the Hugging Face cache's, or of MLflow's runs and models. Empty where it is none."""
    parts = path.split("/")
    for place, part in enumerate(parts):
        if part.startswith("models--") and parts[place + 1 : place + 2] in (["blobs"], ["snapshots"]):
            return "Hugging Face cache of " + part.removeprefix("models--").replace("--", "/")[:128]
        above = parts[place - 1] if place else ""
        name = above.removeprefix("m-")
        if part == "artifacts" and len(name) == 32 and not set(name) - set("0123456789abcdef"):
            return f"MLflow {'run' if name == above else 'model'} {above}"
    return ""
