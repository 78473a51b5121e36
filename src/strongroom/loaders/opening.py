"""Opening a sealed model for loaders, by the path or address of the model or of one of its files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Self

from strongroom.core.errors import UsageError
from strongroom.loaders.access import Access, Checking
from strongroom.loaders.keyring import keyring_in_force
from strongroom.loaders.memory_files import memory_files
from strongroom.loaders.remote import remote_store
from strongroom.sealing.adapters.engine import local_engine
from strongroom.sealing.adapters.local_store import local_store
from strongroom.sealing.adapters.memory import plaintext_buffer
from strongroom.sealing.canary import Canary
from strongroom.sealing.errors import NoSuchFileError
from strongroom.sealing.index import SealedFile
from strongroom.sealing.model import OpenedModel
from strongroom.sealing.plan import Part
from strongroom.sealing.store import SealedStore

SUFFIX: Final = ".sealed"
"""What a sealed model's name ends with, so that a path tells where the model ends and its files begin."""


class SealedModel:
    """A sealed model that is open. A context manager; made by :func:`open_sealed`. Threads may share one."""

    def __init__(self, model: OpenedModel, resources: ExitStack, *, checking: Checking) -> None:
        self._model, self._resources, self.checking = model, resources, checking
        self.manifest = model.manifest

    @property
    def canaries(self) -> tuple[Canary, ...]:
        """What the model must answer (:mod:`strongroom.sealing.canary`)."""
        return self._model.canaries

    def files(self) -> tuple[SealedFile, ...]:
        """Return the model's files in order of their names."""
        return self._model.files()

    def file(self, name: str) -> SealedFile:
        """Return one file.

        :raises NoSuchFileError: no such file.
        """
        return self._model.file(name)

    def holds(self, name: str) -> bool:
        """Tell whether there is a file of that name."""
        return any(file.name == name for file in self._model.files())

    def read(self, name: str) -> bytes:
        """Return a small file's plaintext, checked whole. ``bytes`` can't be wiped: for configurations, not weights.

        :raises StrongroomError: no such file, or it isn't what was sealed.
        """
        return b"".join(bytes(chunk) for chunk in self._model.chunks(name))

    def read_buffer(self, name: str) -> memoryview:
        """Return a file's plaintext in memory of its own, left out of core dumps.

        :raises StrongroomError: no such file, or it isn't what was sealed.
        """
        buffer = plaintext_buffer(self.file(name).size)
        self.read_parts(name, [Part(0, buffer)])
        return buffer

    def read_parts(self, name: str, parts: Sequence[Part]) -> None:
        """Fill ``parts`` of a file, checked as :attr:`checking` says; all are wiped on any failure.

        :raises StrongroomError: no such file, not within it, or it isn't what was sealed.
        """
        if self.checking is Checking.WHOLE:
            self._model.read_parts_of_whole(name, parts)
        else:
            self._model.reader(name).read_parts(parts)

    def read_range(self, name: str, offset: int, length: int) -> memoryview:
        """Return ``length`` bytes of a file from ``offset``, in memory of their own.

        :raises StrongroomError: as :meth:`read_parts`.
        """
        buffer = plaintext_buffer(length)
        self.read_parts(name, [Part(offset, buffer)])
        return buffer

    @contextmanager
    def memory_files(self, names: Sequence[str]) -> Iterator[dict[str, Path]]:
        """Give files that programs open by path: see :mod:`strongroom.loaders.memory_files`."""
        with memory_files(self._model, names) as paths:
            yield paths

    def close(self) -> None:
        """Let go of the storage, and wipe the data key."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def open_sealed(place: str | Path, *, access: Access | None = None) -> SealedModel:
    """Open the sealed model at ``place``: a directory, or the address of a prefix in an object store (fsspec).

    Without ``access``, the keyring in force says how (:mod:`strongroom.loaders.keyring`).

    :raises StrongroomError: what doesn't fit, and what to do.
    """
    with ExitStack() as undo:
        store = undo.enter_context(_store(str(place)))
        entry = access or keyring_in_force().access(store)
        manifest = entry.verified(store)
        data_key = undo.enter_context(entry.keys.data_key(manifest, store))
        engine = undo.enter_context(local_engine())
        model = undo.enter_context(OpenedModel(store, manifest=manifest, data_key=data_key, engine=engine))
        return SealedModel(model, undo.pop_all(), checking=entry.checking)


@contextmanager
def _store(place: str) -> Iterator[SealedStore]:
    if "://" in place:
        with remote_store(place) as remote:
            yield remote
    else:
        with local_store(Path(place)) as local:
            yield local


def split(place: str | Path) -> tuple[str, str]:
    """Return where the model is and which of its files is meant, ``""`` for the model itself.

    ``models/atlas.sealed/encoder/model.safetensors`` is ``encoder/model.safetensors`` of ``models/atlas.sealed``.

    :raises UsageError: no part of the path ends with ``.sealed``.
    """
    parts = str(place).split("/")
    for count, part in enumerate(parts, start=1):
        if part.endswith(SUFFIX) and part != SUFFIX:
            return "/".join(parts[:count]), "/".join(parts[count:]).strip("/")
    raise UsageError(
        f"`{ascii(str(place))[1:-1]}` doesn't lie in a sealed model",
        remedy=f"name a directory that ends with `{SUFFIX}`, or a file in it: plaintext is never read here",
        reason="not-a-sealed-path",
    )


@contextmanager
def open_file(place: str | Path, *, ending: str, access: Access | None = None) -> Iterator[tuple[SealedModel, str]]:
    """Open the model at ``place`` and say which of its files is meant: the one that the path names, or the only one.

    :raises NoSuchFileError: the path names none, and there isn't exactly one that ends with ``ending``.
    :raises StrongroomError: as :func:`open_sealed`.
    """
    root, name = split(place)
    with open_sealed(root, access=access) as model:
        if not name:
            found = [file.name for file in model.files() if file.name.endswith(ending)]
            if len(found) != 1:
                raise NoSuchFileError(
                    f"the sealed model has {len(found)} files that end with `{ending}`",
                    remedy="name the one that you want: MODEL.sealed/FILE",
                )
            name = found[0]
        else:
            model.file(name)
        yield model, name
