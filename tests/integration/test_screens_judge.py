"""The two kinds of screen, real ones, fail closed: a service over HTTP and TLS, and a classifier on this machine."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from strongroom.core.errors import MalformedError, UsageError
from strongroom.enclave.gateway.adapters import classifier as classifier_module
from strongroom.enclave.gateway.adapters.classifier import MAX_PIECES, Classifier
from strongroom.enclave.gateway.adapters.http_screen import MAX_ANSWER, HttpScreen
from strongroom.enclave.gateway.screen_settings import ClassifierSettings, HttpScreenSettings, LabelRule
from strongroom.enclave.gateway.screens import (
    ALLOWED,
    Category,
    Direction,
    Passage,
    Ruling,
    ScreenUnavailableError,
    Verdict,
)
from support.screens import Said, blocks, guard, ruling, tiny_classifier

pytestmark = pytest.mark.integration
INPUT: Final = frozenset({Direction.INPUT})


def settings(url: str, **changes: Any) -> HttpScreenSettings:
    made = HttpScreenSettings(name="guard", directions=INPUT, url=url, milliseconds=5000, authority=None, token=None)
    return replace(made, **changes)


def judged(made: HttpScreenSettings | ClassifierSettings, *texts: str) -> list[Verdict]:
    async def run() -> list[Verdict]:
        screen = HttpScreen(made) if isinstance(made, HttpScreenSettings) else Classifier(made)
        try:
            return [
                await screen.judge(Passage(text=text, direction=Direction.INPUT, principal="dana")) for text in texts
            ]
        finally:
            await screen.close()

    return asyncio.run(run())


def test_it_is_asked_what_was_said_by_whom_and_believed_for_one_of_three_words(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a token\n")
    with guard(blocks("bad", "harm")) as service:
        made = settings(service.url, token=tmp_path / "token")
        assert judged(made, "fine", "bad") == [ALLOWED, Verdict(Ruling.BLOCK, Category.HARM)]
        assert service.asked[0] == {"v": 1, "direction": "input", "principal": "dana", "text": "fine"}
        assert service.headers[0]["authorization"] == "Bearer a token"
    with guard(lambda _asked: ruling("flag", "extraction")) as service:
        assert judged(settings(service.url), "?") == [Verdict(Ruling.FLAG, Category.EXTRACTION)]


def test_over_tls_its_certificate_must_lead_to_the_authority_and_name_it(tmp_path: Path) -> None:
    with guard(blocks("bad"), tmp_path) as service:
        assert judged(settings(service.url, authority=service.authority), "fine") == [ALLOWED]
        with pytest.raises(ScreenUnavailableError):
            judged(settings(service.url), "fine")
    (tmp_path / "other").mkdir()
    with (
        guard(blocks("bad"), tmp_path / "other", names="elsewhere.example") as service,
        pytest.raises(ScreenUnavailableError),
    ):
        judged(settings(service.url, authority=service.authority), "fine")


@pytest.mark.parametrize(
    "said",
    [
        lambda _asked: (500, b"{}"),
        lambda _asked: (204, b""),
        lambda _asked: (302, ruling("allow")[1]),
        lambda _asked: (200, b""),
        lambda _asked: (200, b"allow"),
        lambda _asked: (200, b'{"ruling": "allow"}'),
        lambda _asked: (200, b'{"v": 1, "ruling": "allow", "why": "it is fine"}'),
        lambda _asked: (200, b'{"v": 1, "ruling": "allow", "category": "harm"}'),
        lambda _asked: (200, b'{"v": 1, "ruling": "block"}'),
        lambda _asked: (200, b'{"v": 1, "ruling": "block", "category": "rude"}'),
        lambda _asked: (200, b'{"v": 1, "ruling": "maybe", "category": "harm"}'),
        lambda _asked: (200, b" " * MAX_ANSWER + ruling("allow")[1]),
    ],
)
def test_any_other_answer_is_none(said: Said) -> None:
    with guard(said) as service, pytest.raises(ScreenUnavailableError):
        judged(settings(service.url), "fine")


def test_one_that_is_slow_or_gone_or_set_up_wrongly_does_not_pass(tmp_path: Path) -> None:
    # Waited for, it would have let that pass.
    with guard(blocks("bad"), slow=3.0) as service, pytest.raises(ScreenUnavailableError):
        judged(settings(service.url, milliseconds=100), "fine")
    with pytest.raises(ScreenUnavailableError):
        judged(settings(service.url), "fine")
    with pytest.raises(UsageError):
        HttpScreen(settings(service.url, token=tmp_path / "nowhere"))
    with pytest.raises(UsageError):
        HttpScreen(settings(service.url, authority=tmp_path / "nowhere"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier(tmp_path_factory.mktemp("classifier"))


def classifier(folder: Path, **labels: LabelRule) -> ClassifierSettings:
    rules = labels or {"BAD": LabelRule(category=Category.INJECTION, flag=500, block=900)}
    return ClassifierSettings(name="local", directions=INPUT, folder=folder, labels=rules)


def test_a_classifier_tells_and_reads_long_passages_to_their_end(folder: Path) -> None:
    fine = " ".join(f"w{n % 50}" for n in range(20))
    words = [f"w{n % 50}" for n in range(400)]
    bad = Verdict(Ruling.BLOCK, Category.INJECTION)
    found = judged(
        classifier(folder),
        fine,
        "",
        f"w1 w2 attack {fine}",
        " ".join(words),
        # Wherever the word is, within one piece of the text or at the edge of two.
        *(" ".join([*words[:at], "attack", *words[at:]]) for at in (0, 14, 15, 29, 30, 200, 400)),
    )
    assert found == [ALLOWED, ALLOWED, bad, ALLOWED, *[bad] * 7]


def test_passages_that_have_to_wait_too_long_are_dropped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier_module, "SECONDS", 0.2)
    begun: list[str] = []
    release = threading.Event()

    def slow(_self: Classifier, text: str) -> Verdict:
        begun.append(text)
        release.wait(10)
        return ALLOWED

    monkeypatch.setattr(Classifier, "_judged", slow)

    async def run() -> list[object]:
        screen = Classifier(classifier(folder))
        passages = (Passage(text=f"{one}", direction=Direction.INPUT, principal="dana") for one in range(4))
        found = await asyncio.gather(*(screen.judge(one) for one in passages), return_exceptions=True)
        release.set()
        await screen.close()
        return [*found]

    assert [type(one) for one in asyncio.run(run())] == [ScreenUnavailableError] * 4
    assert begun == ["0"]


def test_what_it_cannot_judge_does_not_pass(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ScreenUnavailableError, match="so long"):
        judged(classifier(folder), "w1 " * (15 * (MAX_PIECES + 4)))
    with pytest.raises(MalformedError, match="no label"):
        judged(classifier(folder, TOXIC=LabelRule(category=Category.HARM, flag=1, block=2)), "w1")
    with pytest.raises(MalformedError, match="can't be read"):
        judged(classifier(tmp_path), "w1")
