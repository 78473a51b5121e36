"""Whose copy is it? A file that turned up is compared with the unmarked original, and each recipient's mark sought.

At each place the leaked value less the original's, times the step that a mark would have made there, is a weight; a
recipient's moves, up or down, are its signs. The signs of whoever had no part in the file are as good as tossed coins,
whatever was done to it. So the sum of the signed weights, divided by the root of the sum of their squares, exceeds z
with a chance of at most exp(-z^2 / 2) (Hoeffding 1963), and with n recipients that any innocent one does, at most n
times that. Nothing is assumed of noise, quantisation or training, except that who did it had no unmarked copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from strongroom.core.errors import ConflictError
from strongroom.core.extras import need
from strongroom.core.ids import ModelId
from strongroom.core.safetensors_header import TensorEntry
from strongroom.intake.marks.leak import LeakedTensor, numbers
from strongroom.intake.marks.marking import (
    BLOCK,
    GRIDS,
    GROUP,
    CopyName,
    PlainFile,
    Pull,
    TensorMark,
    first_mark,
    is_weights,
    movable,
    moves,
    places_of,
    read_header,
    tensor_mark,
    words,
)

ACCUSED: Final = -9.0
"""Log10 of the chance that anybody innocent is named: at most one in a billion."""
_SAMPLED: Final = 256
"""Values by which tensors are recognised."""
_SAMPLED_FROM: Final = 1 << 18
"""The first values of a tensor, among which the sampled ones are spread."""
_ALIKE: Final = 0.5
"""Least correlation of two tensors that are taken for one, where names don't say it."""
_ROWS: Final = 256
_FOUND: Final = 4.0
"""The z from which a mark is found in one tensor; an innocent's reaches it once in some three thousand at most."""


class NothingComparedError(ConflictError):
    """No tensor of the file is one of the original's that are marked."""

    code = "nothing-compared"


class Original(NamedTuple):
    """A file of the unmarked model. ``chunks`` yields all of it, in order, each valid until the next is asked for."""

    file: PlainFile
    chunks: Callable[[], Iterator[memoryview]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How well one recipient's mark fits."""

    copy: ModelId
    z: float
    chance: float
    """Log10 of the chance, at most, that any innocent recipient of those who were compared fits as well as this."""
    tensors: int
    """In how many tensors it is found by themselves. A mark in few of them may be the work of whoever had these
    unmarked, a public model's for instance: nobody can put one into the others."""

    @property
    def accused(self) -> bool:
        """Whether that chance is small enough to name somebody."""
        return self.chance <= ACCUSED


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a comparison gave."""

    tensors: int
    """Marked tensors of the original that were found in the file."""
    tensors_in_all: int
    places: int
    """Values that were compared."""
    changed: int
    """Those that differ from the original's."""
    scores: tuple[Score, ...]
    """The best first."""


class _Wanted(NamedTuple):
    """A marked tensor of the original, and where it is."""

    file: str
    name: str
    tensor: TensorEntry
    sample: Any


_Pairs = Mapping[tuple[str, str], tuple[LeakedTensor, str]]
"""(file, tensor) of the original -> the leaked tensor, and the type that it is read as."""


def compare(originals: Sequence[Original], leaked: Sequence[LeakedTensor], copies: Sequence[CopyName]) -> Finding:
    """Compare a leaked model with the original, and with each copy's mark. A few blocks are in memory at once.

    ``copies`` must be all who might be named, chosen before: the stated chance counts them.

    :raises NothingComparedError: no tensor is recognised.
    :raises SafetensorsError: an original's file is called safetensors and isn't.
    """
    wanted = [one for original in originals for one in _wanted(original.file)]
    pairs = _paired(wanted, leaked)
    if not pairs:
        raise NothingComparedError(
            "no tensor of the file is one of the model's",
            remedy="quantised weights have to be turned back into floating point, fused or split tensors as they were",
        )
    tally = _Tally(copies, [0.0] * len(copies), [0] * len(copies))
    for original in originals:
        if any(file == original.file.name for file, _name in pairs):
            _compare_file(original, pairs, tally)
    return Finding(
        tensors=len(pairs),
        tensors_in_all=len(wanted),
        places=tally.places,
        changed=tally.changed,
        scores=tally.scores(),
    )


# --- which tensor is which --------------------------------------------------------------------------------------------


def _wanted(file: PlainFile) -> Iterator[_Wanted]:
    if not is_weights(file.name):
        return
    header = read_header(file.read, file.size)
    for name, tensor in header.tensors.items():
        if places_of(tensor) and first_mark(file, header, tensor):
            grid = GRIDS[tensor.dtype]
            count = min(tensor.size // grid.width, _SAMPLED_FROM)
            bits = words(file.read(header.data_start + tensor.begin, count * grid.width), grid)
            yield _Wanted(file.name, name, tensor, _sample(numbers(_spread(bits), tensor.dtype)))


def _spread(bits: Any) -> Any:
    return bits[:: max(1, len(bits) // _SAMPLED)][:_SAMPLED]


def _sample(values: Any) -> Any:
    """Return values less their mean, of length one: the product of two is their correlation."""
    numpy = need("numpy", extra="numpy")
    values = numpy.where(numpy.abs(values) < _LARGEST, values, 0.0)
    values = values - values.mean()
    length = math.sqrt(float(values @ values))
    return (values / length if length else values).astype(numpy.float32)


_LARGEST: Final = 1e30
"""No weight is that large; squares of what isn't stay finite."""


def _elements(tensor: TensorEntry) -> int:
    return tensor.size // GRIDS[tensor.dtype].width


def _paired(wanted: Sequence[_Wanted], leaked: Sequence[LeakedTensor]) -> _Pairs:
    """Find each wanted tensor: by name, where one of that name has as many values, or else by what it holds.

    Neither looks at marks: whom the file accuses has no part in it.
    """
    numpy = need("numpy", extra="numpy")
    sizes: dict[int, list[_Wanted]] = {}
    for one in wanted:
        sizes.setdefault(_elements(one.tensor), []).append(one)
    found: dict[tuple[str, str], tuple[LeakedTensor, str]] = {}
    for elements, ours in sizes.items():
        theirs = [(one, kind) for one in leaked if one.elements == elements for kind in one.kinds]
        if not theirs:
            continue
        count = min(elements, _SAMPLED_FROM)
        samples = numpy.stack([_sample(numbers(_spread(one.bits(kind, 0, count)), kind)) for one, kind in theirs])
        names = numpy.array([one.name for one, _kind in theirs])
        for begin in range(0, len(ours), _ROWS):
            rows = ours[begin : begin + _ROWS]
            alike = numpy.stack([one.sample for one in rows]) @ samples.T
            for one, row in zip(rows, alike, strict=True):
                # A correlation is at most 1: of those that bear the name, if there are any, the most alike.
                best = int((row + 4.0 * (names == one.name)).argmax())
                if names[best] == one.name or row[best] >= _ALIKE:
                    found[one.file, one.name] = theirs[best]
    return found


# --- comparing --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Tally:
    """Sums over all places."""

    copies: Sequence[CopyName]
    sums: list[float]
    tensors: list[int]
    squares: float = 0.0
    places: int = 0
    changed: int = 0
    seen: set[bytes] = field(default_factory=set)

    def scores(self) -> tuple[Score, ...]:
        """Return everybody's score."""
        root = math.sqrt(self.squares)
        many = math.log10(max(1, len(self.copies)))
        found = []
        for copy, total, tensors in zip(self.copies, self.sums, self.tensors, strict=True):
            z = total / root if root else 0.0
            chance = min(0.0, many - max(z, 0.0) ** 2 / 2 / math.log(10))
            found.append(Score(copy=copy.copy, z=z, chance=chance, tensors=tensors))
        return tuple(sorted(found, key=lambda one: -one.z))

    def tensor(self, sums: Sequence[float], squares: float) -> None:
        """Add what one tensor gave."""
        self.squares += squares
        for number, total in enumerate(sums):
            self.sums[number] += total
            self.tensors[number] += total > _FOUND * math.sqrt(squares)


def _compare_file(original: Original, pairs: _Pairs, tally: _Tally) -> None:
    file = original.file
    header = read_header(file.read, file.size)
    pull, buffer = Pull(original.chunks()), memoryview(bytearray(BLOCK))
    try:
        pull.skip(header.data_start, buffer)
        for name, tensor in header.tensors.items():
            pair = pairs.get((file.name, name))
            if pair is None:
                pull.skip(tensor.size, buffer)
            else:
                _compare_tensor(pull, tensor, pair, buffer, tally)
    finally:
        buffer[:] = bytes(BLOCK)


def _compare_tensor(
    pull: Pull, tensor: TensorEntry, pair: tuple[LeakedTensor, str], buffer: memoryview, tally: _Tally
) -> None:
    grid = GRIDS[tensor.dtype]
    mark: TensorMark | None = None
    keys: list[bytes] = []
    sums, squares = [0.0] * len(tally.copies), 0.0
    begin = 0
    for offset in range(0, tensor.size, BLOCK):
        block = buffer[: min(BLOCK, tensor.size - offset)]
        pull.fill(block)
        if not offset:
            mark = tensor_mark(tensor, block)
            # One that stands twice has the same moves twice: counted twice, chance would look like evidence.
            if mark is None or mark.key in tally.seen:
                pull.skip(tensor.size - len(block), buffer)
                return
            tally.seen.add(mark.key)
            keys = [mark.moves_of(copy) for copy in tally.copies]
        if mark:
            weights = _weights(block, tensor, mark.places(begin, len(block) // grid.width // GROUP), offset, pair)
            tally.places += weights.places
            tally.changed += weights.changed
            squares += _product(weights.of_places, weights.of_places)
            _add(weights.of_places, keys, begin, sums)
            begin += len(weights.of_places)
    tally.tensor(sums, squares)


class _Weights(NamedTuple):
    """What a block's places weigh, 0 where nothing was moved; how many could be, and how many of these differ."""

    of_places: Any
    places: int
    changed: int


def _weights(
    block: memoryview, tensor: TensorEntry, places: Any, offset: int, pair: tuple[LeakedTensor, str]
) -> _Weights:
    numpy = need("numpy", extra="numpy")
    grid, (leaked, kind) = GRIDS[tensor.dtype], pair
    bits = words(block, grid)
    theirs = leaked.bits(kind, offset // grid.width, len(bits))
    may = movable(bits[places], grid)
    found = numpy.zeros(len(places))
    places = places[may]
    before = bits[places]
    known = numbers(before, tensor.dtype)
    step = numbers(before + before.dtype.type(grid.step), tensor.dtype) - known
    difference = numbers(theirs[places], kind) - known
    difference[~(numpy.abs(difference) < _LARGEST)] = 0.0
    changed = int(numpy.count_nonzero(difference))
    if changed:
        # The score of heavy-tailed noise as wide as most differences are: what was pruned or torn out, however far off,
        # doesn't drown the rest. The step's own size keeps it from growing without bound.
        width = 2 * float(numpy.median(numpy.abs(difference)))
        found[may] = step * difference / (difference * difference + step * step + width * width)
    return _Weights(found, len(places), changed)


def _add(weights: Any, keys: Sequence[bytes], begin: int, sums: list[float]) -> None:
    whole = float(weights.sum())
    for number, key in enumerate(keys):
        up = moves(key, begin, len(weights)).astype(weights.dtype)
        sums[number] += 2 * _product(weights, up) - whole


def _product(one: Any, other: Any) -> float:
    # Not `@`: for rows this short a library's threads cost far more than they save.
    return float(need("numpy", extra="numpy").einsum("i,i", one, other))
