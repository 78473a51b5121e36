"""At the gateway, screens see prompts before the model does and answers before the client does, and credentials end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from strongroom.cli.main import main
from strongroom.egress.bits import Output
from strongroom.enclave.gateway.screen_settings import ScreenSettings
from support.gateways import ATLAS, KEY, OTHER_KEY, Live, gateway, honest, roomy, text_of
from support.screens import Guard, Said, blocks, guard, ruling

openai = pytest.importorskip("openai", reason="the official `openai` client isn't installed")
pytestmark = pytest.mark.integration
CHAT: Final = [{"role": "system", "content": "w1"}, {"role": "user", "content": "w2 w66 w3"}]


def settings(url: str, directions: list[str], **changes: Any) -> ScreenSettings:
    screen = {"kind": "http", "name": "guard", "directions": directions, "url": url, "milliseconds": 2000}
    made: dict[str, Any] = {
        "v": 1,
        "suspend": {"blocks": 3, "seconds": 3600},
        "output": {"window": 16, "overlap": 8},
        "screens": [screen],
    }
    return ScreenSettings.parse(json.dumps(made | changes).encode())


@contextmanager
def screened(folder: Path, said: Said, *directions: str, **changes: Any) -> Iterator[tuple[Live, Guard]]:
    with (
        guard(said) as service,
        gateway(folder, honest(), screens=settings(service.url, [*directions], **changes)) as live,
    ):
        yield live, service


def test_what_is_asked_is_judged_before_the_model_sees_it(tmp_path: Path) -> None:
    with screened(tmp_path, blocks("w66", "injection"), "input") as (live, service):
        client = live.client()
        assert client.completions.create(model=ATLAS, prompt="w5", max_tokens=2).choices[0].text == "w6 w7"
        for create, asked in (
            (client.completions.create, {"prompt": "w66"}),
            (client.chat.completions.create, {"messages": CHAT, "stream": True}),
        ):
            with pytest.raises(openai.PermissionDeniedError) as refused:
                create(model=ATLAS, max_tokens=2, **asked)
            assert refused.value.code == "content-blocked.injection"
        assert [one["text"] for one in service.asked] == ["w5", "w66", "system: w1\nuser: w2 w66 w3"]
        assert {one["direction"] for one in service.asked} == {"input"}
        # Nothing of what was blocked was reserved or charged.
        assert live.complete("w5", most=2).status_code == 200


def test_texts_to_embed_are_judged_too(tmp_path: Path) -> None:
    policy = roomy(outputs=(Output.VALUES,))
    with (
        guard(blocks("w66")) as service,
        gateway(tmp_path, policy=policy, values=4, screens=settings(service.url, ["input"])) as live,
    ):
        answer = live.post("/v1/embeddings", {"model": ATLAS, "input": ["w1", "w66"]})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "content-blocked.jailbreak")


def test_what_the_model_says_is_judged_before_it_goes_out(tmp_path: Path) -> None:
    with screened(tmp_path, blocks("w20", "harm"), "output") as (live, service):
        client = live.client()
        whole = client.completions.create(model=ATLAS, prompt="w5", max_tokens=8).choices[0].text
        assert whole == text_of([*range(6, 14)])
        with pytest.raises(openai.PermissionDeniedError) as refused:
            client.completions.create(model=ATLAS, prompt="w5", max_tokens=40)
        assert refused.value.code == "content-blocked.harm"
        said: list[str] = []
        with pytest.raises(openai.APIError, match="blocked"):
            said.extend(
                event.choices[0].text
                for event in client.completions.create(model=ATLAS, prompt="w5", max_tokens=40, stream=True)
            )
        assert "w20" not in "".join(said)
        assert text_of([*range(6, 20)]).startswith("".join(said))
        assert {one["direction"] for one in service.asked} == {"output"}
        # The answer was ended at the engine too, and another one is served.
        assert live.complete("w5", most=4).status_code == 200


def test_a_credential_with_too_much_blocked_is_suspended_until_a_person_lifts_it(tmp_path: Path) -> None:
    with screened(tmp_path, blocks("w66"), "input") as (live, service):
        for _ in range(3):
            assert live.complete("w66").json()["error"]["code"] == "content-blocked.jailbreak"
        asked = len(service.asked)
        refused = live.complete("w5")
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "credential-suspended")
        assert len(service.asked) == asked
        assert live.complete("w5", key=OTHER_KEY).status_code == 200
    # Over a restart, and without the screens.
    with gateway(tmp_path) as live:
        assert live.complete("w5").status_code == 403
        lifting = ["enclave", "serve", "lift", "atlas", "dana", "--state", str(live.state), "--reason", "looked at it"]
        assert CliRunner().invoke(main, lifting).exit_code == 0
        assert live.complete("w5", key=KEY).status_code == 200


def test_a_screen_that_cannot_say_lets_nothing_pass_and_suspends_nobody(tmp_path: Path) -> None:
    with screened(tmp_path, lambda _asked: (500, b""), "input") as (live, _service):
        for _ in range(4):
            refused = live.complete("w5")
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "screen-unavailable")
            assert refused.json()["error"]["message"] == "the model can't answer now"


def test_output_that_cannot_be_judged_does_not_go_out(tmp_path: Path) -> None:
    def said(asked: dict[str, Any]) -> tuple[int, bytes]:
        return ruling("allow") if "w20" not in asked["text"] else (500, b"")

    with screened(tmp_path, said, "output") as (live, _service):
        assert live.complete("w5", most=40).status_code == 503
        events = live.complete("w5", most=40, stream=True).text
        assert "screen-unavailable" in events
        assert "w20" not in events
        assert "[DONE]" not in events


def test_what_was_blocked_is_written_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with screened(tmp_path, blocks("w66"), "input") as (live, _service):
        answer = live.complete("w66 w333 w444")
        assert "w333" not in answer.text
    printed = capsys.readouterr()
    assert "w333" not in printed.out + printed.err
    assert "screened" in printed.out + printed.err
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"w333" not in path.read_bytes()
