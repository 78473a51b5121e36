"""A delivery's copy as the source of another one, with its torch checkpoints as safetensors. All of it in memory.

What is converted is read behind walls (:mod:`.reading`); all else is taken along as it is, and nothing here reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from strongroom.core.errors import ConflictError
from strongroom.intake.formats.conversion import converted_name, is_index
from strongroom.intake.formats.identify import Format
from strongroom.intake.rules import shown
from strongroom.intake.source import Source, pieces
from strongroom.quarantine.adapters.copies import FILE_MODE
from strongroom.quarantine.adapters.reading import Reader
from strongroom.quarantine.terms import Terms
from strongroom.sealing.adapters.job import Look, PlainFile
from strongroom.sealing.adapters.pieces import PiecedFile

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one file of the new delivery is made of: its size, and its bytes as often as they are asked for."""

    size: int
    pieces: Callable[[], Iterator[bytes]]


def _plan(source: Source, old: str, kind: Format, reader: Reader) -> _Plan:
    if kind is Format.TORCH_ZIP:
        size = reader.convert(old)
    elif is_index(old):
        size = reader.convert_index(old)
    else:
        return _Plan(source.size, lambda: pieces(source, _PIECE))
    return _Plan(size, lambda: reader.pieces(old, size))


def new_names(formats: Mapping[str, Format]) -> dict[str, str]:
    """Return what the files of a delivery are called once it is converted, each with its old name.

    :raises ConflictError: there is no torch checkpoint, or two files would have one name.
    """
    found: dict[str, str] = {}
    for old, kind in formats.items():
        new = converted_name(old) if kind is Format.TORCH_ZIP or is_index(old) else old
        if new in found:
            raise ConflictError(
                f"two files of the delivery would be called {shown(new)}",
                remedy="it has these weights in both forms: have one of them left out, and take it in again",
                reason="intake-convert",
            )
        found[new] = old
    if Format.TORCH_ZIP not in formats.values():
        raise ConflictError("the delivery has no torch checkpoint", reason="intake-convert")
    return found


class ConvertedFiles:
    """The files of a copy, converted by ``reader``. ``terms`` are those of the delivery that they become."""

    def __init__(
        self, sources: Mapping[str, Source], formats: Mapping[str, Format], terms: Terms, reader: Reader
    ) -> None:
        names = new_names(formats)
        self._plans = {new: _plan(sources[old], old, formats[old], reader) for new, old in names.items()}
        # Under the same terms a file is the same one: they name the record that it is made of.
        self._changed = int.from_bytes(terms.digest.value[:6], "big")

    def looks(self) -> list[Look]:
        """Return every file."""
        return [Look(name=name, size=one.size, changed=self._changed) for name, one in self._plans.items()]

    @contextmanager
    def open(self, name: str) -> Iterator[PlainFile]:
        """Open a file."""
        plan = self._plans[name]
        pieces = (memoryview(piece) for piece in plan.pieces())
        yield PiecedFile(name, size=plan.size, mode=FILE_MODE, changed=self._changed, pieces=pieces)

    def check(self) -> None:
        """Do nothing: the copy's manifest fixes every byte of it."""
