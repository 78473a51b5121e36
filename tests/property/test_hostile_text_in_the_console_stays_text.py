"""Whatever stands in an assessment or a delivery, the console's pages show it as text: no markup, no other address."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from shlex import quote

from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from strongroom.console.assessments import (
    Kept,
    attack_facts,
    attested_facts,
    gap_facts,
    map_facts,
    measure_facts,
    summary,
)
from strongroom.console.rendering import Renderer
from strongroom.console.visits import Page
from strongroom.core.canonical import Json
from strongroom.core.printable import printable
from strongroom.framework.catalogue import load
from strongroom.framework.measures import MeasureCategory
from support.assessing import NOW
from support.reported import HOSTILE, assessment, shape, with_text

AT = "2026-11-26T12:00:00Z"
_HEAD: Mapping[str, Json] = {"digest": "sha256:00", "at": AT, "goal": "SL3", "standing": "unrecorded"}


@cache
def renderer() -> Renderer:
    return Renderer()


def rendered(template: str, data: Mapping[str, Json]) -> list[tuple[str, ...]]:
    html = renderer().page(Page(template, "A page", data), chrome=None, secret=None, now=NOW)
    assert "\u202e" not in html
    assert "\x1b" not in html
    return shape(html.encode())


def of_assessment(text: str) -> list[list[tuple[str, ...]]]:
    """Return the shapes of the pages about an assessment with a text wherever there are texts."""
    catalogue, made = load(), with_text(text) if text else assessment()
    assert made.attacks is not None
    kept = Kept(made, assessment().digest)
    first: dict[str, Json] = {
        "notice": None,
        "behind": 0,
        "readers": [],
        "shown": True,
        "given": True,
        "problem": None,
        "kept": {
            **summary(kept, catalogue, NOW),
            "standing": "unrecorded",
            "map": map_facts(made, catalogue),
            "classes": [["OC1", "Amateurs"]] * 5,
            "legend": "each cell",
        },
    }
    wrong = first | {"kept": None, "problem": {"message": text, "code": "malformed", "remedy": text or "x"}}
    gaps: list[Json] = [gap_facts(one, catalogue) for one in made.gaps(catalogue)]
    rows = measure_facts(made, catalogue, MeasureCategory.WEIGHT_SECURITY)
    attacks: list[Json] = [attack_facts(one) for one in made.attacks.results]
    return [
        rendered("assurance.html", first),
        rendered("assurance.html", wrong),
        rendered("assurance-gaps.html", {**_HEAD, "level": "SL1", "levels": [["SL1", 3]], "gaps": gaps}),
        rendered("assurance-measures.html", {**_HEAD, "measures": rows}),
        rendered(
            "assurance-attacks.html",
            {**_HEAD, "attacks": attacks, "next": text or "x", "trials": []},
        ),
        rendered(
            "assurance-attested.html",
            {
                **_HEAD,
                "statements": [attested_facts(one, catalogue) for one in made.statements],
                "next": text or "x",
                "blind": [{"collector": "x", "subject": text, "why": text}],
                "more_blind": 1,
            },
        ),
    ]


def of_delivery(text: str) -> list[tuple[str, ...]]:
    """Return the shape of a delivery's page with a text wherever a supplier, an operator or a folder has a word."""
    found: Json = {
        "folder": text,
        "argument": quote(printable(text)),
        "rule": "withdrawn",
        "signature_asked": True,
        "scanners": [text],
        "reviews_needed": 1,
        "leave_out": [text],
        "converted": True,
        "records": [{"state": "scanned", "waived": True, "tools": [text], "documents": []}],
        "files": [{"name": text, "bytes": 5, "sha256": "00", "format": None, "facts": [[text, text]]}],
        "count": 1,
        "bytes": 5,
        "next": text or "x",
        "verdict": {"word": "", "problem": text or "x"},
    }
    step: Json = {"index": 1, "state": "scanned", "at": AT, "record": "sha256:00", "artifact": None}
    data: dict[str, Json] = {
        "delivery": "0" * 32,
        "model": "minilm",
        "operator": "dana",
        "state": "scanned",
        "open": True,
        "denied": False,
        "waits": "people review it",
        "behind": 0,
        "steps": [step],
        "reviews": [],
        "readers": [],
        "shown": True,
        "given": True,
        "problem": None,
        "found": found,
        "review": None,
        "signed": "",
    }
    return rendered("delivery.html", data)


@cache
def plain() -> list[list[tuple[str, ...]]]:
    return of_assessment("plain")


@settings(max_examples=5, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(HOSTILE)
@example("\x00\x1b[2J")
@example("<b>\u202e gnp.exe")
@example('"><img src=x onerror=alert(1)>')
def test_pages_about_an_assessment_keep_their_structure(text: str) -> None:
    assert of_assessment(text) == plain()


@settings(max_examples=25, deadline=None)
@given(st.one_of(HOSTILE, st.sampled_from(("../../etc", "a\nb", "\u2066x", "{{ 7 * 7 }}", "%2e%2e/"))))
def test_a_deliverys_page_keeps_its_structure(text: str) -> None:
    assert of_delivery(text) == of_delivery("plain")
