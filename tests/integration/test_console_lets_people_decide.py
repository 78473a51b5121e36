"""The console before a real deployment: people sign in, ask, approve and look, as a browser would have them do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from strongroom.access.request import Action
from strongroom.core.events import EventName
from strongroom.keys.recipient import RecipientKey
from strongroom.release.precautions import PrecautionKind
from support.consoles import RunningConsole, console
from support.deployment import MODEL
from support.precautions import take

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
        assert (twin.status, twin.json["around"]["person"]) == (200, "dana"), twin.text


def test_two_people_approve_what_a_third_asked_for(live: RunningConsole) -> None:
    lab = live.occupied
    request = lab.ask_export(RecipientKey())
    path = f"/requests/{request.digest.value.hex()}"
    for name in ("sam", "rina"):
        visitor = live.inside(name)
        page = visitor.get(path)
        assert "would be refused" in page.text
        page = visitor.follow(visitor.post(page, f"{path}/approve"))
        assert "You can't approve it: you approved it" in page.text
    assert "would be allowed" in page.text
    told = visitor.get(f"{path}.json").json
    assert sorted(told["approved_by"]) == ["rina", "sam"]


def test_a_request_is_made_signed_and_carried_out(live: RunningConsole) -> None:
    dana = live.inside()
    form = dana.get("/requests/new?action=freeze&model=other")
    fields = {"action": "freeze", "model": "other", "purpose": "incident-response", "ticket": "T-9", "image": "",
              "platform": "", "precaution": "", "hours": "2"}  # fmt: skip
    draft = dana.follow(dana.post(form, "/requests/new", **fields))
    (action,) = (one for one in draft.forms() if one.startswith("/drafts/"))
    page = dana.follow(dana.post(draft, action))
    assert "Frozen:" in page.text
    assert any(one.event is EventName.MODEL_FROZEN for one in live.occupied.entries())


def test_a_form_begins_with_the_purpose_that_the_command_would_give_and_with_none_for_what_opens(
    live: RunningConsole,
) -> None:
    dana = live.inside()
    begun = {
        name: dana.get(f"/requests/new.json?{name}").json["purpose"]
        for name in ("action=freeze", "action=resume", "action=open-in-enclave", "action=resume&ticket=T-9", "")
    }
    assert [*begun.values()] == ["incident-response", "maintenance", "", "incident-response", ""]
    assert '<option value="">choose</option>' in dana.get("/requests/new").text


def test_a_request_says_at_its_top_what_is_missing_and_leads_to_the_log(live: RunningConsole) -> None:
    request = live.occupied.ask_export(RecipientKey())
    name = request.digest.value.hex()
    top, _, _rest = live.inside("sam").get(f"/requests/{name}").text.partition('<div class="columns')
    assert "would be refused" in top
    assert "<code>approver-research</code>" in top
    assert f'href="/audit?request={name}"' in top


def test_an_entry_is_shown_with_its_proof(live: RunningConsole) -> None:
    dana = live.inside()
    told = dana.get("/audit/3.json").json
    assert told["index"] == 3
    assert len(told["path"]) > 3
    assert dana.get("/audit/999999").status == 404
    assert dana.get("/audit/x").status == 400


def test_what_others_wrote_stays_text(live: RunningConsole) -> None:
    hostile = "<script>alert(1)</script>"
    request = live.occupied.ask(Action.ROTATE, ticket=hostile[:64])
    dana = live.inside()
    page = dana.get(f"/requests/{request.digest.value.hex()}").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_what_was_taken_away_is_told_and_lifted_by_people(live: RunningConsole) -> None:
    dana = live.inside()
    take(live.occupied, PrecautionKind.HOLD, MODEL, seconds=None)
    take(live.occupied, PrecautionKind.SAMPLING, MODEL, seconds=3600)
    assert "On hold:" in dana.get("/today").text
    (row,) = [one for one in dana.get("/models.json").json["models"] if one["model"] == MODEL]
    assert (row["held"]["kind"], row["replayed"]["kind"]) == ("hold", "sampling")
    page = dana.get(f"/models/{MODEL}")
    assert page.text.count("Ask to lift it") == 2
    assert "every answer" in page.text
    place = f"/requests/new?action=lift&model={MODEL}&precaution={row['held']['precaution']}"
    assert place.replace("&", "&amp;") in page.text
    form = dana.get(place)
    fields = {"action": "lift", "model": MODEL, "purpose": "maintenance", "ticket": "", "image": "", "platform": "",
              "hours": ""}  # fmt: skip
    other = {**fields, "precaution": "sha256:" + "0" * 64}
    assert dana.post(form, "/requests/new", **other).status == 400
    # What the keeper refuses in the end is refused before anybody is asked to agree.
    astray = {**fields, "model": "other", "precaution": row["held"]["precaution"]}
    refused = dana.post(form, "/requests/new", **astray)
    assert (refused.status, "choose that model" in refused.text) == (400, True)
    draft = dana.follow(dana.post(form, "/requests/new", **fields, precaution=row["held"]["precaution"]))
    (action,) = (one for one in draft.forms() if one.startswith("/drafts/"))
    page = dana.follow(dana.post(draft, action))
    (address,) = {one.rpartition("/")[0] for one in page.forms() if one.startswith("/requests/")}
    for name in ("sam", "rina"):
        visitor = live.inside(name)
        visitor.post(visitor.get(address), f"{address}/approve")
    dana.post(dana.get(address), f"{address}/carry-out")
    (row,) = [one for one in dana.get("/models.json").json["models"] if one["model"] == MODEL]
    assert (row["held"], row["replayed"]["kind"]) == (None, "sampling")
    assert "On hold:" not in dana.get("/today").text


def test_one_approver_more_is_told_with_its_reason(live: RunningConsole) -> None:
    request = live.occupied.ask_export(RecipientKey())
    dana = live.inside()
    path = f"/requests/{request.digest.value.hex()}"

    def needed() -> int:
        rows = dana.get("/requests.json").json["requests"]
        return int(next(one["needed"] for one in rows if one["digest"] == str(request.digest)))

    before = needed()
    assert "one approver more" not in dana.get(path).text
    take(live.occupied, PrecautionKind.APPROVER, "dana", seconds=3600)
    assert needed() == before + 1
    for address in (path, "/people"):
        page = dana.get(address).text
        assert ("one approver more until" in page, "inquiry; taken by dana" in page) == (True, True), address
    for name in ("sam", "rina"):
        visitor = live.inside(name)
        visitor.post(visitor.get(path), f"{path}/approve")
    page = dana.get(path).text
    assert "would be refused" in page
    assert "one more" in dana.get("/requests").text
