"""A model whose gateway let something out: its gauge, its plot and the log's word on it, as pages show them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.core.events import EventName
from support.console_metered import meter
from support.consoles import RunningConsole, Visitor, console
from support.deployment import MODEL
from support.metered import POLICY

pytestmark = pytest.mark.integration
READINGS = (300, 700, 1000)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningConsole]:
    if not SoftwareTPM.available():
        pytest.skip("no software TPM: install swtpm and swtpm-tools")
    folder = tmp_path_factory.mktemp("console")
    with console(folder) as running:
        meter(running.occupied, folder / "tpm", READINGS)
        yield running


@pytest.fixture(scope="module")
def dana(live: RunningConsole) -> Visitor:
    return live.inside()


def test_a_model_is_shown_with_its_budget_and_every_reading(dana: Visitor, live: RunningConsole) -> None:
    told = dana.get(f"/models/{MODEL}.json").json
    gauge = told["gauge"]
    assert (gauge["spent"], gauge["lifetime"], gauge["day"]) == (1000, POLICY.lifetime_bits, POLICY.model_day_bits)
    assert gauge["demanded_seconds"] == 365 * 86400
    entries = live.occupied.entries()
    # The opening of the run, then its blocks.
    assert [one["total"] for one in told["readings"]] == [0, *READINGS]
    for one in told["readings"]:
        assert entries[one["index"]].event is EventName.ODOMETER_ADVANCED
        assert entries[one["index"]].integer("total") == one["total"]
    assert [one["version"] for one in told["versions"]] == [1]
    assert told["access"][1]["people"] == ["dana"]


def test_the_plot_is_drawn_by_the_server_and_told_as_a_table(dana: Visitor) -> None:
    page = dana.get(f"/models/{MODEL}").text
    assert page.count("<svg") == 1
    assert 'role="img"' in page
    assert "style=" not in page
    for reading in READINGS:
        assert f"<td>{reading}</td>" in page


def test_today_has_a_gauge_for_each_model_that_may_serve(dana: Visitor) -> None:
    (gauge,) = dana.get("/today.json").json["gauges"]["models"]
    assert (gauge["model"], gauge["spent"], gauge["life_permille"]) == (MODEL, 1000, 5)
    assert "<meter" in dana.get("/today").text


def test_exposure_names_people_machines_and_bits(dana: Visitor, live: RunningConsole) -> None:
    answer = dana.get(f"/audit/exposure.json?model={MODEL}").json["answer"]
    assert answer["whole"]
    (enclave,) = [one for one in answer["holdings"] if one["way"] == "released"]
    assert (enclave["person"], enclave["bits"], enclave["may_now"]) == ("dana", 1000, True)
    assert answer["hosts"] == [enclave["platform"]]
    page = dana.get(f"/audit/exposure?model={MODEL}").text
    assert "may have them now" in page
    assert dana.get(f"/audit?platform={enclave['platform']}&event=release").status == 200
    last = live.occupied.entries()[answer["let_out"]["entry"]]
    assert last.event is EventName.ODOMETER_ADVANCED


def test_an_entry_leads_to_what_it_names_and_back(dana: Visitor, live: RunningConsole) -> None:
    entries = live.occupied.entries()
    index = next(number for number, one in enumerate(entries) if one.event is EventName.REQUEST_APPROVED)
    links = dana.get(f"/audit/{index}.json").json["links"]
    request = entries[index].text("request")
    assert links[request] == f"/requests/{request[7:]}"
    for path in links.values():
        assert dana.get(path).status == 200
    found = dana.get(f"/audit.json?request={request[7:]}").json["entries"]
    assert index in [one["index"] for one in found]
