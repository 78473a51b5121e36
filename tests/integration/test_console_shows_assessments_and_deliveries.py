"""What lies beside the broker is shown to whom it is for, and only as far as the log stands behind it."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from strongroom.assurance.assessment import MAX_ASSESSMENT, Assessment
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.events import EventName
from strongroom.framework.catalogue import load
from strongroom.intake.formats.identify import Format
from strongroom.intake.reviews import REVIEW_TYPE, REVIEWER, Decision, check_reviews
from strongroom.intake.rules import Rule
from strongroom.intake.statements import PAYLOAD_TYPE
from strongroom.intake.states import State
from strongroom.intake.verdict import Verdict
from strongroom.quarantine.gate import review_of
from support.console_shelves import Delivered, assessment_of, give_roles, keep, record
from support.consoles import RunningConsole, console, next_roster
from support.deployment import MODEL, publisher, signer

pytestmark = pytest.mark.integration
PARTS = ("/assurance/gaps", "/assurance/measures/weight-security", "/assurance/attacks", "/assurance/attested")
FORMS = ("html", "oscal", "ciso", "csv", "mappings", "json")
HOSTILE = "<b>mod\u202e\x7f.x"
FILES: dict[str, tuple[Format, Any]] = {
    "model.safetensors": (Format.SAFETENSORS, {"tensors": 3, "bytes": 1000}),
    "extra.pkl": (Format.PICKLE, {"globals": [f"{HOSTILE}{n}" for n in range(40)]}),
}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningConsole]:
    with console(tmp_path_factory.mktemp("console")) as running:
        give_roles(running.occupied, sam="assessor intake-reviewer")
        yield running


@pytest.fixture(scope="module")
def made(live: RunningConsole) -> Assessment:
    return assessment_of(live.occupied)


@pytest.fixture
def shelf(live: RunningConsole) -> Iterator[Path]:
    path = live.folder / "assessments" / "assessment.json"
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def given(live: RunningConsole) -> Delivered:
    """Return a delivery that waits for reviews."""
    return Delivered(live, f"d {os.urandom(4).hex()}; $(id)", FILES, MODEL).up_to(State.SCANNED)


# --- assessments ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("shelf")
def test_the_level_is_everybodys_and_the_weak_places_are_not(live: RunningConsole, made: Assessment) -> None:
    logged = replace(made, deployment="the first")
    keep(live, logged)
    record(live, logged, "sam")
    rina = live.inside("rina")
    twin = rina.get("/assurance.json")
    assert (twin.json["notice"]["person"], twin.json["kept"]) == ("sam", None)
    assert rina.get("/today.json").json["assessment"]["index"] == twin.json["notice"]["index"]
    page = rina.get("/assurance").text
    assert "is shown to people with one of the roles" in page
    for told in (page, twin.text):
        assert "SL1-" not in told
    for path in PARTS:
        for address in (path, f"{path}.json"):
            answer = rina.get(address)
            assert (answer.status, "not-shown" in answer.text, "SL1-" in answer.text) == (403, True, False), address
    for form in FORMS:
        answer = rina.get(f"/assurance/reports/{form}")
        assert (answer.status, "content-disposition" in answer.headers) == (403, False)


@pytest.mark.usefixtures("shelf")
def test_the_map_the_gaps_and_the_reports_are_there(live: RunningConsole, made: Assessment) -> None:
    logged = replace(made, deployment="the second")
    keep(live, logged)
    record(live, logged, "sam")
    sam = live.inside("sam")
    page = sam.get("/assurance")
    assert "named by the log" in page.text
    assert page.text.count("</td>") >= 38 * 5
    kept = sam.get("/assurance.json").json["kept"]
    assert sum(len(row["cells"]) for group in kept["map"] for row in group["vectors"]) == 38 * 5
    assert all(cell["word"] for group in kept["map"] for row in group["vectors"] for cell in row["cells"])
    for path in ("/assurance", *PARTS, "/assurance/gaps?level=SL2"):
        answer = sam.get(path)
        assert (answer.status, len(answer.text) < 100_000) == (200, True), path
    assert sam.get("/assurance/measures/nothing").status == 404
    assert sam.get("/assurance/gaps?level=SL9").status == 404


@pytest.mark.usefixtures("shelf")
def test_reports_are_files_to_keep(live: RunningConsole, made: Assessment) -> None:
    keep(live, made)
    dana = live.inside("dana")
    for form, name in (("html", "assessment.html"), ("json", "assessment.json"), ("csv", "assessment.csv")):
        answer = dana.get(f"/assurance/reports/{form}")
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
        assert (answer.headers["cache-control"], answer.headers["x-content-type-options"]) == ("no-store", "nosniff")
    assert Digest.of(dana.get("/assurance/reports/json").text.encode()) == made.digest
    assert dana.get("/assurance/reports/nothing").status == 404


def test_an_assessment_that_was_edited_is_not_shown(live: RunningConsole, made: Assessment, shelf: Path) -> None:
    told = json.loads(made.to_bytes())
    for finding in told["findings"]:
        finding["state"] = "met"
    told["held"] = "SL4"
    shelf.write_text(json.dumps(told, separators=(",", ":"), sort_keys=True, ensure_ascii=False))
    dana = live.inside("dana")
    twin = dana.get("/assurance.json").json
    assert (twin["kept"], twin["problem"]["code"]) == (None, "assessment-unfounded")
    assert dana.get("/assurance").status == 200
    assert "assessment-unfounded" in dana.get("/assurance/gaps").text
    assert "content-disposition" not in dana.get("/assurance/reports/html").headers


def test_what_the_log_does_not_name_is_said_to_be_nobodys(live: RunningConsole, made: Assessment, shelf: Path) -> None:
    recorded = replace(made, deployment="the recorded one")
    record(live, recorded, "sam")
    dana = live.inside("dana")
    keep(live, made)
    assert dana.get("/assurance.json").json["kept"]["standing"] == "older"
    assert "The newest that the log names is another" in dana.get("/assurance").text
    keep(live, made.again(load(), made.at + 2))
    assert dana.get("/assurance.json").json["kept"]["standing"] == "newer"
    assert "nobody answers for what it says" in dana.get("/assurance").text
    keep(live, recorded)
    assert dana.get("/assurance.json").json["kept"]["standing"] == "recorded"
    shelf.unlink()
    assert "The folder holds none yet." in dana.get("/assurance").text


@pytest.mark.usefixtures("shelf")
def test_no_part_of_what_nobody_answers_for_is_shown_without_that_word(live: RunningConsole, made: Assessment) -> None:
    record(live, replace(made, deployment="the answered one"), "sam")
    dana = live.inside("dana")
    for at, stands in ((made.at, "older"), (made.at + 2, "newer")):
        keep(live, made.again(load(), at))
        # A date is what its writer made it: an older one, too, may never have been anybody's.
        assert "nobody answers for what it says" in dana.get("/assurance").text
        for path in PARTS:
            assert dana.get(f"{path}.json").json["standing"] == stands
            assert "nobody answers for what it says" in dana.get(path).text, path
        assert "Whether they signed isn't seen here" in unescape(dana.get("/assurance/attested").text)


def test_another_deployments_assessment_is_not_shown(live: RunningConsole, made: Assessment, shelf: Path) -> None:
    shelf.write_bytes(replace(made, genesis=Digest.of(b"elsewhere")).to_bytes())
    dana = live.inside("dana")
    twin = dana.get("/assurance.json").json
    assert (twin["kept"], "another deployment" in twin["problem"]["message"]) == (None, True)
    assert dana.get("/assurance/attacks").status == 404


def test_links_pipes_and_giants_are_no_assessments(
    live: RunningConsole, made: Assessment, shelf: Path, tmp_path: Path
) -> None:
    dana = live.inside("dana")
    elsewhere = tmp_path / "secret.json"
    elsewhere.write_bytes(made.to_bytes())
    shelf.symlink_to(elsewhere)
    assert dana.get("/assurance.json").json["kept"] is None
    shelf.unlink()
    os.mkfifo(shelf)
    assert dana.get("/assurance.json").json["problem"]["code"] == "tampered"
    shelf.unlink()
    with shelf.open("wb") as file:
        file.truncate(MAX_ASSESSMENT + 1)
    assert dana.get("/assurance.json").json["problem"]["code"] == "malformed"
    shelf.write_bytes(b'{"v":1}')
    assert dana.get("/assurance").status == 200


# --- deliveries -------------------------------------------------------------------------------------------------------


def test_what_the_gate_found_is_shown_to_few_and_no_contents_to_anybody(live: RunningConsole, given: Delivered) -> None:
    rina, sam = live.inside("rina"), live.inside("sam")
    path = f"/intake/{given.id}"
    told, page = rina.get(f"{path}.json"), rina.get(path).text
    assert (told.json["state"], told.json["found"], told.json["review"]) == ("scanned", None, None)
    assert all("extra.pkl" not in text for text in (page, told.text))
    assert f"{path}/accept" not in rina.get(path).forms()
    shown = sam.get(path)
    assert "extra.pkl" in shown.text
    assert "<b>mod" not in shown.text
    assert "\u202e" not in shown.text
    assert "and 28 more" in shown.text
    # What people copy into their shell names the folder, and runs nothing of its name.
    assert f"strongroom intake show './{given.folder.path.name}'" in unescape(shown.text)
    assert [one["state"] for one in sam.get(f"{path}.json").json["steps"]][-1] == "scanned"
    assert given.id in sam.get("/intake").text
    assert sam.get(f"/intake/{'0' * 32}").status == 404


def test_a_review_by_security_key_counts_in_the_log_and_at_the_gate(live: RunningConsole, given: Delivered) -> None:
    sam = live.inside("sam")
    page = sam.get(f"/intake/{given.id}")
    page = sam.follow(sam.post(page, f"/intake/{given.id}/accept"))
    (address,) = {part.split('"')[0] for part in page.text.split('href="') if part.startswith("/intake-reviews/")}
    saved = sam.get(address)
    assert saved.headers["content-disposition"] == 'attachment; filename="review-sam.json"'
    envelope = Envelope.parse(saved.text.encode())
    wanted = review_of(given.terms, given.standing, "dana", Decision.ACCEPT)  # type: ignore[arg-type]
    keys = live.occupied.deployment.roster.person("sam").keys  # type: ignore[arg-type]
    assert check_reviews([envelope], wanted, {"sam": keys}, threshold=1) == {"sam"}  # type: ignore[dict-item]
    last = [one for one in live.occupied.entries() if one.event is EventName.INTAKE_REVIEWED][-1]
    assert (last.text("delivery"), last.text("outcome")) == (given.id, "accept")
    assert live.inside("dana").get(address).status == 404
    again = sam.post(page, f"/intake/{given.id}/accept")
    assert again.status == 303
    denied = sam.follow(sam.post(sam.get(f"/intake/{given.id}"), f"/intake/{given.id}/deny"))
    assert "its operator records the denial" in denied.text
    assert f"/intake/{given.id}/accept" not in denied.forms()


def test_nobody_reviews_without_the_role_or_their_own_or_with_another_signature(
    live: RunningConsole, given: Delivered
) -> None:
    sam = live.inside("sam")
    path = f"/intake/{given.id}/accept"
    form = sam.get(f"/intake/{given.id}").forms()[path]
    other = sam.get(f"/intake/{given.id}").forms()[f"/intake/{given.id}/deny"]
    wrong = sam.call("POST", path, form["fields"] | {k: v for k, v in sam.signed(other).items() if k != "csrf"})
    assert wrong.status >= 400
    for name in ("rina", "dana"):
        visitor = live.inside(name)
        page = visitor.get(f"/intake/{given.id}")
        assert path not in page.forms()
        # Even with a good token of their own session, made for another form of it.
        token = page.forms()["/sign-out"]["fields"]["csrf"]
        refused = visitor.call("POST", path, visitor.signed(form) | {"csrf": token})
        assert refused.status == 403
    entries = [one for one in live.occupied.entries() if one.event is EventName.INTAKE_REVIEWED]
    assert all(one.text("delivery") != given.id for one in entries)


@pytest.mark.parametrize("name", ["--accept", b"d\xff\xfe".decode("utf-8", "surrogateescape")])
def test_no_name_of_a_folder_is_an_option_or_breaks_a_page(live: RunningConsole, given: Delivered, name: str) -> None:
    sam = live.inside("sam")
    place = given.folder.path.with_name(name)
    given.folder.path.rename(place)
    try:
        page, twin = sam.get(f"/intake/{given.id}"), sam.get(f"/intake/{given.id}.json")
        assert (page.status, twin.status) == (200, 200)
        assert f"intake show {twin.json['found']['argument']}" in unescape(page.text)
        assert twin.json["found"]["argument"].strip("'").startswith("./")
        verdict = place / "verdict.json"
        os.mkfifo(verdict)
        page, twin = sam.get(f"/intake/{given.id}"), sam.get(f"/intake/{given.id}.json")
        verdict.unlink()
        assert (page.status, twin.status, twin.json["problem"]["code"]) == (200, 200, "intake-document")
    finally:
        place.rename(given.folder.path)


def test_who_lost_the_role_signs_nothing_and_learns_nothing_of_the_folder(
    live: RunningConsole, given: Delivered
) -> None:
    sam, path = live.inside("sam"), f"/intake/{given.id}/accept"
    form = sam.signed(sam.get(f"/intake/{given.id}").forms()[path])
    report = given.folder.document_path(given.standing.records[3].documents[0])
    whole = report.read_bytes()
    next_roster(live.occupied, lambda one: replace(one, roles=one.roles - {REVIEWER}))
    try:
        for found in (whole, whole + b" "):
            report.write_bytes(found)
            refused = sam.call("POST", path, form)
            assert (refused.status, "not-shown" in refused.text) == (403, True)
            assert "intake-document" not in refused.text
    finally:
        give_roles(live.occupied, sam=REVIEWER)
    assert all(
        one.text("delivery") != given.id for one in live.occupied.entries() if one.event is EventName.INTAKE_REVIEWED
    )


def test_a_signed_review_is_offered_for_its_own_delivery_alone(live: RunningConsole, given: Delivered) -> None:
    other = Delivered(live, f"other-{os.urandom(4).hex()}", FILES, MODEL).up_to(State.SCANNED)
    sam = live.inside("sam")
    gone = sam.post(sam.get(f"/intake/{given.id}"), f"/intake/{given.id}/accept")
    signed = gone.headers["location"].partition("?")[2]
    assert "signed, and in the log" in sam.get(f"/intake/{given.id}?{signed}").text
    assert "signed, and in the log" not in sam.get(f"/intake/{other.id}?{signed}").text


def test_a_folder_whose_records_are_not_the_logs_is_not_shown(live: RunningConsole, given: Delivered) -> None:
    sam = live.inside("sam")
    (given.folder.path / "records" / "4.json").unlink()
    told = sam.get(f"/intake/{given.id}.json").json
    assert (told["found"], told["problem"]["code"]) == (None, "intake-records-differ")
    assert "extra.pkl" not in sam.get(f"/intake/{given.id}").text
    assert told["review"] is None


def test_a_document_that_was_changed_or_led_away_is_not_shown(
    live: RunningConsole, given: Delivered, tmp_path: Path
) -> None:
    sam = live.inside("sam")
    report = given.standing.records[3].documents[0]
    place = given.folder.document_path(report)
    kept = place.read_bytes()
    place.write_bytes(kept.replace(b"pickle", b"pickLe"))
    assert sam.get(f"/intake/{given.id}.json").json["problem"]["code"] == "intake-document"
    place.unlink()
    (tmp_path / "elsewhere").write_bytes(kept)
    place.symlink_to(tmp_path / "elsewhere")
    assert sam.get(f"/intake/{given.id}.json").json["problem"]["code"] == "intake-document"
    place.unlink()
    with place.open("wb") as file:
        file.truncate(5 << 20)
    assert "more than" in sam.get(f"/intake/{given.id}.json").json["problem"]["message"]
    place.unlink()
    assert sam.get(f"/intake/{given.id}").status == 200


def test_a_verdict_counts_only_by_its_operators_key_on_these_records(live: RunningConsole) -> None:
    refused = Delivered(live, f"refused-{os.urandom(4).hex()}", FILES, MODEL).up_to(State.HASHED).refuse(Rule.WITHDRAWN)
    sam = live.inside("sam")
    found = sam.get(f"/intake/{refused.id}.json").json["found"]
    assert (found["rule"], found["verdict"]) == ("withdrawn", {"word": "refused", "problem": ""})
    verdict = Verdict.of(refused.standing).to_bytes()
    for signed in (sign(PAYLOAD_TYPE, verdict, publisher("mallory")), sign(REVIEW_TYPE, verdict, signer("dana"))):
        refused.folder.judge(signed)
        found = sam.get(f"/intake/{refused.id}.json").json["found"]
        assert found["verdict"]["word"] == ""
        assert "doesn't count" in unescape(sam.get(f"/intake/{refused.id}").text)


def test_a_folder_that_goes_away_takes_nothing_else_with_it(live: RunningConsole, given: Delivered) -> None:
    sam = live.inside("sam")
    place = given.folder.path.parent
    aside = place.with_name("aside")
    place.rename(aside)
    try:
        page = sam.get(f"/intake/{given.id}")
        assert (page.status, "can't be read" in unescape(page.text)) == (200, True)
        assert sam.get("/intake").status == 200
    finally:
        aside.rename(place)
    assert "extra.pkl" in sam.get(f"/intake/{given.id}").text


def test_oscal_comes_as_one_file(live: RunningConsole, made: Assessment, shelf: Path) -> None:
    keep(live, made)
    assert shelf.exists()
    dana = live.inside("dana")
    answer = dana.get("/assurance/reports/oscal").data
    with zipfile.ZipFile(io.BytesIO(answer)) as packed:
        assert "oscal-assessment-results.json" in packed.namelist()
        assert packed.testzip() is None
