"""A key is handed over against a token that only a durable record makes: no code path can forget the record."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).resolve().parents[2] / "src" / "strongroom"
TOKEN: Final = "Recorded"


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield every function of a file, innermost ones on their own."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield f"{path.relative_to(SOURCE)}:{node.name}", node


def calls(node: ast.AST, name: str) -> bool:
    """Return whether ``name(...)`` or ``something.name(...)`` is called."""
    return any(
        isinstance(one, ast.Call)
        and (one.func.id if isinstance(one.func, ast.Name) else getattr(one.func, "attr", None)) == name
        for one in ast.walk(node)
    )


def calling(name: str, folder: str) -> set[str]:
    return {where for path in (SOURCE / folder).rglob("*.py") for where, node in functions(path) if calls(node, name)}


def test_only_a_durable_append_makes_the_token() -> None:
    assert calling(TOKEN, "keeper") == {"keeper/journal.py:_append"}


def test_a_delivery_takes_the_token() -> None:
    made = calling("Delivery", "keeper")
    assert made == {"keeper/service.py:_delivery"}
    [taken] = [node for where, node in functions(SOURCE / "keeper" / "service.py") if where in made]
    # Not optional, and without a default: mypy refuses a call that has no record to show.
    [recorded] = [one for one in (*taken.args.args, *taken.args.kwonlyargs) if one.arg == "recorded"]
    assert isinstance(recorded.annotation, ast.Name)
    assert recorded.annotation.id == TOKEN
    given = taken.args.args[len(taken.args.args) - len(taken.args.defaults) :]
    assert "recorded" not in {one.arg for one in given}


def test_keys_travel_in_deliveries_alone() -> None:
    sealed = calling("carrying", "keeper")
    assert sealed == {"keeper/service.py:release", "keeper/service.py:seal", "keeper/service.py:export"}
    for where, node in functions(SOURCE / "keeper" / "service.py"):
        if where in sealed:
            assert calls(node, "_delivery"), where
    assert calling("encrypt_to", "keeper") == set()
