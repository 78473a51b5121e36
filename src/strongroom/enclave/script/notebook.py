"""Which code a notebook holds, in order: the code cells of nbformat 4, as text. Pure.

Outputs, metadata and text cells aren't looked at. Magics and shell escapes are a shell's, and there is none: they are
errors of syntax where they are run.
"""

from __future__ import annotations

import json
from typing import Any, Final

from strongroom.core.errors import MalformedError

MAX_NOTEBOOK: Final = 64 << 20
MAX_CELLS: Final = 10_000


def code_cells(data: bytes) -> tuple[str, ...]:
    """Return the sources of the code cells.

    :raises MalformedError: not a notebook of nbformat 4, or too large.
    """
    if len(data) > MAX_NOTEBOOK:
        raise MalformedError(f"a notebook has at most {MAX_NOTEBOOK} bytes")
    try:
        notebook: Any = json.loads(data)
    except (ValueError, RecursionError):
        raise MalformedError("the notebook isn't JSON") from None
    if not isinstance(notebook, dict) or notebook.get("nbformat") != 4 or not isinstance(notebook.get("cells"), list):
        raise MalformedError("the notebook isn't of nbformat 4", remedy="save it with a current notebook program")
    if len(notebook["cells"]) > MAX_CELLS:
        raise MalformedError(f"a notebook has at most {MAX_CELLS} cells")
    return tuple(_source(cell) for cell in notebook["cells"] if _is_code(cell))


def _is_code(cell: Any) -> bool:
    if not isinstance(cell, dict):
        raise MalformedError("a notebook has a cell that isn't an object")
    return bool(cell.get("cell_type") == "code")


def _source(cell: dict[str, Any]) -> str:
    source = cell.get("source", "")
    lines = source if isinstance(source, list) else [source]
    if not all(isinstance(line, str) for line in lines):
        raise MalformedError("a notebook has a code cell whose source isn't text")
    return "".join(lines)
