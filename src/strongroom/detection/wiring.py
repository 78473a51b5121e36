"""Packs from folders, and the pack that comes with the program."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import yaml

from strongroom.core.adapters.reading import read_at_most
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.extras import need
from strongroom.detection.adapters.sigma_rules import compile_rules
from strongroom.detection.cases import Case, read_cases
from strongroom.detection.matching import Pattern
from strongroom.detection.pack import Pack

SHIPPED = "pack.json"
MAX_SOURCE = 1 << 20
"""Bytes of one file of rules or cases."""


def linear_regex(text: str) -> Pattern:
    """Compile a regular expression of RE2.

    :raises MissingExtraError: the pack has regular expressions, and RE2 isn't installed.
    :raises MalformedError: it isn't one.
    """
    re2 = need("re2", extra="detection")
    options = re2.Options()
    options.log_errors = False
    try:
        pattern: Pattern = re2.compile(text, options=options)
    except re2.error:
        raise MalformedError("a regular expression isn't one of RE2's") from None
    return pattern


def shipped_pack() -> Pack:
    """Return the pack that comes with the program. It is as whole as the installation is."""
    return Pack.parse((files("strongroom.detection") / "ruleset" / SHIPPED).read_bytes())


def shipped_rules() -> Path:
    """Return the folder of the shipped pack's sources and cases."""
    return Path(str(files("strongroom.detection") / "ruleset"))


def compile_folder(folder: Path, name: str) -> Pack:
    """Compile all ``*.yml`` of a folder.

    :raises UsageError: there are none. :raises MalformedError: a file isn't UTF-8 text, or is too large.
    :raises SigmaRuleError: a rule can't be taken.
    :raises UnanchoredRuleError: a rule doesn't name its events.
    :raises MissingExtraError: pySigma isn't installed.
    """
    texts = [(path.name, _read(path)) for path in sorted(folder.glob("*.yml"))]
    if not texts:
        raise UsageError(f"`{folder}` holds no rules", remedy="name a folder with Sigma rules in `*.yml` files")
    rules, correlations = compile_rules(texts)
    pack = Pack(name=name, rules=rules, correlations=correlations)
    pack.check()
    return pack


def cases_of(folder: Path) -> tuple[Case, ...]:
    """Read all cases of a folder's ``cases/*.yml``; none if there is no such folder.

    :raises MalformedError: a file isn't YAML, or holds something else.
    """
    cases: list[Case] = []
    for path in sorted((folder / "cases").glob("*.yml")):
        text = _read(path)
        try:
            document = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError):
            # A date that doesn't exist, say, is a ValueError.
            raise MalformedError(f"`{path}` isn't YAML") from None
        cases += read_cases(document)
    return tuple(cases)


def _read(path: Path) -> str:
    try:
        return read_at_most(path, MAX_SOURCE).decode()
    except UnicodeDecodeError:
        raise MalformedError(f"`{path}` isn't UTF-8 text") from None
