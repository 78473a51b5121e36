"""The console before a real deployment: people sign in, ask, approve and look, as a browser would have them do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from strongroom.access.request import Action
from strongroom.core.events import EventName
from strongroom.keys.recipient import RecipientKey
from support.consoles import RunningConsole, console
from support.deployment import MODEL

pytestmark = pytest.mark.integration
PAGES = ("/today", "/requests", "/requests?state=all", "/requests/new", "/models", f"/models/{MODEL}", "/people",
         "/attestation", "/audit", "/audit/0", f"/audit?model={MODEL}", "/audit/exposure",
         f"/audit/exposure?model={MODEL}&since=1d")  # fmt: skip


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningConsole]:
    with console(tmp_path_factory.mktemp("console")) as running:
        yield running


def test_every_page_is_there_with_its_json_twin(live: RunningConsole) -> None:
    dana = live.visitor()
    assert "<h1>Today</h1>" in dana.sign_in().text
    for path in PAGES:
        page = dana.get(path)
        assert page.status == 200, (path, page.text)
        assert len(page.text) < 100_000
        place, _, query = path.partition("?")
        twin = dana.get(f"{place}.json?{query}")
        assert (twin.status, twin.json["person"]) == (200, "dana"), twin.text


def test_two_people_approve_what_a_third_asked_for(live: RunningConsole) -> None:
    lab = live.occupied
    request = lab.ask_export(RecipientKey())
    path = f"/requests/{request.digest.value.hex()}"
    for name in ("sam", "rina"):
        visitor = live.visitor(name)
        visitor.sign_in()
        page = visitor.get(path)
        assert "would be refused" in page.text
        page = visitor.follow(visitor.post(page, f"{path}/approve"))
        assert "You can't approve it: you approved it" in page.text
    assert "would be allowed" in page.text
    told = visitor.get(f"{path}.json").json
    assert sorted(told["approved_by"]) == ["rina", "sam"]


def test_a_request_is_made_signed_and_carried_out(live: RunningConsole) -> None:
    dana = live.visitor()
    dana.sign_in()
    form = dana.get("/requests/new?action=freeze&model=other")
    fields = {"action": "freeze", "model": "other", "purpose": "incident-response", "ticket": "T-9", "image": "",
              "platform": "", "hours": "2"}  # fmt: skip
    draft = dana.follow(dana.post(form, "/requests/new", **fields))
    (action,) = (one for one in draft.forms() if one.startswith("/drafts/"))
    page = dana.follow(dana.post(draft, action))
    assert "Frozen:" in page.text
    assert any(one.event is EventName.MODEL_FROZEN for one in live.occupied.entries())


def test_an_entry_is_shown_with_its_proof(live: RunningConsole) -> None:
    dana = live.visitor()
    dana.sign_in()
    told = dana.get("/audit/3.json").json
    assert told["index"] == 3
    assert len(told["path"]) > 3
    assert dana.get("/audit/999999").status == 404
    assert dana.get("/audit/x").status == 400


def test_what_others_wrote_stays_text(live: RunningConsole) -> None:
    hostile = "<script>alert(1)</script>"
    request = live.occupied.ask(Action.ROTATE, ticket=hostile[:64])
    dana = live.visitor()
    dana.sign_in()
    page = dana.get(f"/requests/{request.digest.value.hex()}").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
