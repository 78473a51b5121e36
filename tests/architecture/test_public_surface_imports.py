"""Every module imports in a process of its own kind: no import order is needed, and nothing is done on import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from strongroom.framework.ids import MEASURE_FORM

SRC = Path(__file__).resolve().parents[2] / "src"

# One process imports all of them; each starts with none of ours loaded, so that no module leans on another's import.
PROGRAM = """
import importlib, sys, traceback
failed = 0
for name in sys.argv[1:]:
    for loaded in [m for m in sys.modules if m == "strongroom" or m.startswith("strongroom.")]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except BaseException:
        failed += 1
        print(f"-- {name}", file=sys.stderr)
        traceback.print_exc(limit=-3)
sys.exit(min(failed, 100))
"""
# Alembic gives these their meaning: they run inside its migration context and are no modules of the package.
RUN_BY_ALEMBIC = "strongroom.broker.migrations."
# What all measures stand on, or what only carries words between people and processes.
SHARED_GROUND = {"cli", "core", "ipc"}


def modules() -> list[str]:
    names = []
    for path in sorted(SRC.rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if not name.startswith(RUN_BY_ALEMBIC) and parts[-1] != "__main__":
            names.append(name)
    return names


SHARES = 24
"""The first share of the modules is tried by default, all of them by `make test-heavy`."""


@pytest.mark.parametrize(
    "share", [0, *(pytest.param(share, marks=pytest.mark.heavy) for share in range(1, SHARES))], ids=str
)
def test_every_module_imports_on_its_own(share: int) -> None:
    assert "strongroom.core.errors" in modules()
    names = modules()[share::SHARES]
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, *names], capture_output=True, text=True, check=False, timeout=240
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    assert ran.stdout == "", "a module prints when imported"


def test_every_package_says_which_measures_it_serves() -> None:
    for folder in sorted((SRC / "strongroom").iterdir()):
        if not folder.is_dir() or folder.name.startswith("__") or folder.name in SHARED_GROUND:
            continue
        init = folder / "__init__.py"
        assert init.is_file(), f"{folder.name} has no __init__.py"
        said = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or ""
        assert re.search(MEASURE_FORM.pattern, said.partition("\n\n")[0]), (
            f"{folder.name}: name its RAND measures first"
        )
