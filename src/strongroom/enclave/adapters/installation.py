"""Where this interpreter, its packages and the C library live: the code roots of an enclave that runs Python."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

_LIBRARY_FOLDERS: Final = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")


def python_roots() -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return (code roots, symbolic links) that running this interpreter inside takes.

    The roots are real paths. A link is returned for every folder that is one on this host (``/lib`` on a merged-/usr
    system), so that the loader's absolute path leads to the same place inside.
    """
    roots: set[str] = set()
    links: dict[str, str] = {}
    for folder in _LIBRARY_FOLDERS:
        path = Path(folder)
        if path.is_symlink():
            links[folder] = os.readlink(path)  # noqa: PTH115 - the text itself, as relative as it is
        if path.is_dir():
            roots.add(str(path.resolve()))
    for name in (sys.prefix, sys.base_prefix, str(Path(__file__).resolve().parents[3])):
        path = Path(name)
        if path.is_dir():
            roots.add(str(path.resolve()))
    # A virtual environment's interpreter is a chain of links whose ends may lie outside both prefixes.
    roots.add(str(Path(sys.executable).resolve().parent))
    if "/usr" in roots:
        roots = {root for root in roots if not root.startswith("/usr/")}
    return tuple(sorted(roots)), tuple(sorted(links.items()))
