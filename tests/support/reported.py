"""An assessment with something in every part of a report."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import strategies as st

from strongroom.assurance.assessment import Assessment, assess
from strongroom.assurance.attack_results import AttackResult, LayerTrial, Outcome
from strongroom.assurance.statements import Claim, Document
from strongroom.core.digest import Digest
from strongroom.core.ids import PersonId
from strongroom.framework.catalogue import load
from strongroom.framework.ids import MeasureId
from strongroom.framework.levels import OperationalCapacity, SecurityLevel
from support.assessing import GENESIS, NOW, World, statement, suite, words

OUTCOMES = tuple(Outcome)


def attacks() -> tuple[AttackResult, ...]:
    """Return an attack along each vector, ended in each way."""
    return tuple(
        AttackResult(
            attack=f"attack-{number}",
            title="somebody approves a request of their own with a second key",
            vectors=(vector,),
            capacity=OperationalCapacity.OC2,
            outcome=OUTCOMES[number % len(OUTCOMES)],
            refusal="own-request" if number % len(OUTCOMES) == 0 else "",
            detected=number % 2 == 0,
            signal="release:request:refused" if number % 2 == 0 else "",
            measures=(MeasureId("SL3-WAC-01"),),
            layers=("keeper",),
            micros=12_345,
            detail="needs a TPM",
        )
        for number, vector in enumerate(load().vectors)
    )


@cache
def assessment() -> Assessment:
    """Return an honest assessment: some measures hold, some don't, some weren't seen, some people spoke of."""
    said = (
        *words(),
        statement(MeasureId("SL1-STC-01"), documents=(Document(name="policy.pdf", digest=Digest.of(b"policy")),)),
        statement(MeasureId("SL1-WST-01"), Claim.NOT_APPLICABLE),
        statement(MeasureId("SL1-NAC-03"), Claim.ALTERNATIVE),
    )
    run = replace(suite(), results=attacks(), trials=(LayerTrial(layer="keeper", stopped=("a",), passed=("b",)),))
    with TemporaryDirectory() as folder:
        world = World(Path(folder) / "world")
        world.rules(hardware=False)
        world.run = run
        del world.more["code.self"]
        seen = world.observations()
    return assess(
        seen,
        said,
        load(),
        genesis=GENESIS,
        deployment="vault.example",
        goal=SecurityLevel.SL3,
        limits=world.limits,
        version="0.1.0",
        now=NOW,
        log=(40, Digest.of(b"root")),
        attacks=run,
    )


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


class _Shape(HTMLParser):
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
    """Return the tags and attributes' names of a page."""
    read = _Shape()
    read.feed(page.decode())
    return read.found
