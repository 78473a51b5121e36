"""Run as the command of a workspace: runs the researcher's script or notebook; what it prints goes into its drop.

Descriptors 0, 1 and 2 lead nowhere when it starts, and there is no other. It is measured, the code that it runs isn't.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from strongroom.core.errors import NotFoundError
from strongroom.enclave.drop.words import PRINTED, SCRIPTS
from strongroom.enclave.script.adapters.interpreter import run_cells, run_script
from strongroom.enclave.script.notebook import code_cells


@contextmanager
def printing_into(folder: Path) -> Iterator[None]:
    """Have everything that is printed written into the drop, whoever prints it: libraries in C as well."""
    file = folder / PRINTED
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(descriptor, number)
    os.close(descriptor)
    # Else what was printed before an error would stand behind it, or be lost when the process is ended.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        # Silence costs nothing: an empty file would be charged too.
        if file.is_file() and file.stat().st_size == 0:
            file.unlink()


def main() -> int:
    """Run the one script in ``STRONGROOM_CODE``; returns its exit code, which goes into the drop.

    :raises NotFoundError: there is none.
    """
    places = [Path(os.environ["STRONGROOM_CODE"]) / name for name in SCRIPTS]
    script = next((place for place in places if place.is_file()), None)
    with printing_into(Path(os.environ["STRONGROOM_DROP"])):
        if script is None:
            raise NotFoundError("no code was handed into the workspace")
        # Modules that were handed in beside the data can be imported.
        sys.path.insert(0, os.environ["STRONGROOM_INPUT"])
        return run_script(script) if script.suffix == ".py" else run_cells(code_cells(script.read_bytes()))


if __name__ == "__main__":
    sys.exit(main())
