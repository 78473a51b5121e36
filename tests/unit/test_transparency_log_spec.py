"""docs/spec/transparency-log.md names every code that a log's verification can end with, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from strongroom.audit import errors, standalone_verifier
from strongroom.release import chronicle, exhibits, said
from strongroom.release import errors as release_errors

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "docs" / "spec" / "transparency-log.md").read_text(encoding="utf-8")
CODE = re.compile(r"`([a-z]+(?:-[a-z]+)+)`")
VERIFYING = PAGE[PAGE.index("## Verifying") :]


def yielded(module: object) -> set[str]:
    """Return the codes that a module's judges yield: the first of each pair."""
    tree = ast.parse(Path(str(vars(module)["__file__"])).read_text(encoding="utf-8"))
    pairs = [node.value for node in ast.walk(tree) if isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple)]
    return {str(pair.elts[0].value) for pair in pairs if isinstance(pair.elts[0], ast.Constant)}


def reasons(module: object) -> set[str]:
    """Return the reasons that a module's errors are raised with."""
    source = Path(str(vars(module)["__file__"])).read_text(encoding="utf-8")
    return set(re.findall(r'reason="([a-z-]+)"', source))


def of_exhibits() -> set[str]:
    """Return the reasons that what is handed in, and what people said in it, is refused with."""
    return reasons(exhibits) | reasons(said) | reasons(release_errors)


def test_every_code_of_the_page_exists() -> None:
    of_errors = {kind.code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "code")}
    known = of_errors | yielded(chronicle) | of_exhibits() | {"ledger-inconsistent"}
    tables = "\n".join(line for line in VERIFYING.splitlines() if line.startswith("|"))
    named = set(CODE.findall(tables)) | set(re.findall(r"\(`([a-z-]+)`\)", VERIFYING))
    assert named - known == set()


def test_every_code_of_a_judge_is_on_the_page() -> None:
    named = set(CODE.findall(VERIFYING))
    assert yielded(chronicle) - named == set()
    assert of_exhibits() - named == set()
    assert yielded(chronicle)


def test_every_code_of_the_single_file_is_on_the_page() -> None:
    source = Path(standalone_verifier.__file__).read_text(encoding="utf-8")
    codes = set(re.findall(r'"((?:log|cosignature|witness)-[a-z-]+)"', source))
    assert codes
    assert codes - set(CODE.findall(PAGE)) == set()
