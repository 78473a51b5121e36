"""A notebook's code cells run in order in one namespace, and nothing else of it is looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.enclave.script.adapters.interpreter import run_cells, run_script
from strongroom.enclave.script.notebook import code_cells


def notebook(*sources: Any) -> bytes:
    cells = [{"cell_type": "code", "source": source} for source in sources]
    return json.dumps({"nbformat": 4, "cells": [{"cell_type": "markdown", "source": "no"}, *cells]}).encode()


def test_code_cells_in_order() -> None:
    assert code_cells(notebook("a = 1", ["b = 2\n", "b"], "")) == ("a = 1", "b = 2\nb", "")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"nbformat": 3, "worksheets": []}',
        b'{"nbformat": 4}',
        b'{"nbformat": 4, "cells": ["print(1)"]}',
        notebook(7),
        notebook(["a", 7]),
        notebook(*[""] * 10_001),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        code_cells(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(["code", "source"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["nbformat", "cells", "cell_type", "source"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.binary(max_size=64) | json_values.map(lambda value: json.dumps(value).encode()))
def test_reading_is_total(data: bytes) -> None:
    try:
        cells = code_cells(data)
    except StrongroomError:
        return
    assert all(isinstance(cell, str) for cell in cells)


def run(cells: list[str]) -> subprocess.CompletedProcess[str]:
    program = "import json, sys; from strongroom.enclave.script.adapters.interpreter import run_cells as r\n"
    program += "sys.exit(r(json.loads(sys.argv[1])))"
    return subprocess.run(
        [sys.executable, "-u", "-c", program, json.dumps(cells)], check=False, capture_output=True, text=True
    )


def test_last_values_are_shown_and_the_first_error_ends_it() -> None:
    ended = run(
        ["x = 1; x + 1", "class A: pass\nx + 2", "'a text';", "None", "def f():\n    return 1 / 0\n\nf()", "99"]
    )
    assert ended.stdout == "2\n3\n'a text'\n"
    assert ended.returncode == 1
    assert '"<cell 5>", line 2' in ended.stderr
    assert "return 1 / 0" in ended.stderr
    assert run(["!ls"]).returncode == 1
    assert run(["import pickle; A = type('A', (), {}); pickle.loads(pickle.dumps(A)) is A"]).stdout == "True\n"


@pytest.mark.parametrize(
    ("code", "ended"),
    [("", 0), ("import sys; sys.exit(3)", 3), ("raise SystemExit", 0), ("import sys; sys.exit('no')", 1), ("1/0", 1)],
)
def test_exit_codes_are_those_of_a_script(
    tmp_path: Path, code: str, ended: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [])
    script = tmp_path / "code.py"
    script.write_text(code)
    assert run_script(script) == ended
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    assert run_cells([code]) == ended
