"""Running a researcher's code in this very process: it has the process's confinement, and nothing is hidden from it."""

from __future__ import annotations

import ast
import linecache
import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any


def run_script(path: Path) -> int:
    """Run a script as `python SCRIPT` would; returns its exit code."""
    sys.argv = [str(path)]
    return _ended(lambda: runpy.run_path(str(path), run_name="__main__"))


def run_cells(cells: Sequence[str]) -> int:
    """Run a notebook's cells in order, in one namespace; returns the exit code.

    The value of a cell's last expression is printed, as a notebook shows it. The first error ends the run.
    """
    # A module of that name, so that what is pickled or introspected there is found.
    module = ModuleType("__main__")
    sys.modules["__main__"] = module

    def run() -> None:
        for number, source in enumerate(cells, 1):
            _run_cell(source, f"<cell {number}>", vars(module))

    return _ended(run)


def _run_cell(source: str, name: str, namespace: dict[str, Any]) -> None:
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    body = ast.parse(source, name).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    # The researcher's code is what a workspace is for. What bounds it is the confinement, not its words.
    exec(compile(ast.Module(body, []), name, "exec"), namespace)  # noqa: S102 - see above
    if last is not None:
        exec(compile(ast.Interactive([last]), name, "single"), namespace)  # noqa: S102 - see above


def _ended(run: Any) -> int:
    try:
        run()
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)  # noqa: T201 - as the interpreter does
        return 1
    except BaseException:  # noqa: BLE001 - whatever the code raises is its own affair, and goes into its own output
        traceback.print_exc()
        return 1
    return 0
