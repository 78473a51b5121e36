"""Sealed GGUF files for llama.cpp, its bindings, and whatever else opens a model by its path: from memory, not a disk.

    with gguf_path("atlas.sealed/atlas-q4.gguf") as path:
        model = llama_cpp.Llama(str(path))

See :mod:`strongroom.loaders.memory_files` for what such a path is. A program that runs as a child must inherit the
descriptor: ``pass_fds=[int(path.name)]``. llama.cpp finds the other parts of a split model by their names, which paths
of this kind don't have: merge the parts (``gguf-split --merge``) before they are sealed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from strongroom.loaders.access import Access
from strongroom.loaders.opening import open_file


@contextmanager
def gguf_path(place: str | Path, *, access: Access | None = None) -> Iterator[Path]:
    """Give the path of a GGUF file's plaintext in memory, checked whole; it is good until the block ends.

    ``place`` is ``MODEL.sealed/FILE``, or ``MODEL.sealed`` if it has only one GGUF file. What mapped the file keeps
    its memory after that.

    :raises StrongroomError: what doesn't fit, and what to do.
    """
    with ExitStack() as files:
        with open_file(place, ending=".gguf", access=access) as (model, name):
            paths = files.enter_context(model.memory_files([name]))
        # The model is closed and its data key gone; the memory file stays.
        yield paths[name]
