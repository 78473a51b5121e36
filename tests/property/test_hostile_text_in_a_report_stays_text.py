"""Whatever stands in an assessment, a report shows it as text: no markup, no formula, no other structure."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from typing import Any

import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from strongroom.assurance.assessment import Assessment
from strongroom.assurance.statements import Document
from strongroom.cli.assess_reports import REPORTS
from strongroom.core.digest import Digest
from strongroom.core.ids import PersonId
from strongroom.framework.catalogue import load
from support.reported import assessment

HOSTILE = st.one_of(
    st.sampled_from(
        (
            "</style><script>alert(1)</script>",
            '"><img src=x onerror=alert(1)>',
            "' style='position:fixed",
            "]]><!--",
            "=cmd|' /C calc'!A0",
            "&lt;b&gt; \u202e gnp.exe",
            "a: [b]\n- c: !!python/object/apply:os.system ['x']",
            "\x00\x1b[2J",
            "  ",
        )
    ),
    st.text(min_size=1, max_size=40),
)


class Shape(HTMLParser):
    """The tags and attributes' names of a page, without its texts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, ...]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, *(name for name, _value in attrs)))


def with_text(text: str) -> Assessment:
    """Put a text wherever people or machines put texts."""
    made = assessment()
    assert made.attacks is not None
    findings = {
        name: replace(
            one,
            why=text,
            step=None if one.step is None else replace(one.step, text=text, command=text),
            alternative=one.alternative and text,
        )
        for name, one in made.findings.items()
    }
    paper = Document(name=text, digest=Digest.of(b"paper"))
    words = tuple(
        replace(
            one,
            statement=replace(one.statement, text=f"{text}.", scope=f"{text}.", documents=(paper,)),
            signers=(PersonId(text),),
        )
        for one in made.statements
    )
    results = tuple(
        replace(
            one, attack=f"{text}{n}", title=text, refusal=text, signal=text, layers=(text,), detail=text, detected=True
        )
        for n, one in enumerate(made.attacks.results)
    )
    looks = tuple(replace(one, subject=text, missing=one.missing and text) for one in made.observations)
    return replace(
        made,
        deployment=text,
        version=text,
        findings=findings,
        statements=words,
        observations=(*made.observations, *looks),
        attacks=replace(made.attacks, results=results),
    )


def shape(page: bytes) -> list[tuple[str, ...]]:
    read = Shape()
    read.feed(page.decode())
    return read.found


def keys(value: Any) -> Any:
    """Return a document's structure without its texts."""
    if isinstance(value, dict):
        return {name: keys(inner) for name, inner in value.items()}
    return [keys(one) for one in value] if isinstance(value, list) else type(value)


def made(text: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name in ("html", "csv", "oscal", "ciso", "mappings"):
        found.update(REPORTS[name].writer()(with_text(text), load()))
    return found


def read(library: bytes) -> Any:
    """Read YAML, by the C parser where there is one."""
    return yaml.load(library, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe


@cache
def plain() -> dict[str, bytes]:
    """Return the reports with harmless text."""
    return made("plain")


@settings(max_examples=5, deadline=None, phases=(Phase.generate,))
@given(HOSTILE)
def test_every_report_keeps_its_structure(text: str) -> None:
    found = made(text)
    assert found.keys() == plain().keys()
    assert shape(found["assessment.html"]) == shape(plain()["assessment.html"])
    for name in found:
        if name.endswith(".json"):
            assert keys(json.loads(found[name])) == keys(json.loads(plain()[name])), name
        if name.endswith(".csv"):
            rows = list(csv.reader(io.StringIO(found[name].decode())))
            assert {len(row) for row in rows} == {len(rows[0])}
            assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)
    assert keys(read(found["ciso-assistant.yaml"])) == keys(read(plain()["ciso-assistant.yaml"]))
