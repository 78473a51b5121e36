"""``strongroom attestation collateral``, typed as people type it: a bundle's file, and a deployment's collateral."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from simulators import sev_snp_chain
from simulators.deployment_in_memory import InMemoryDeployment
from simulators.intel_chain import ISSUED, NEXT_UPDATE, NOW, intel_chain
from strongroom.attestation.appraisal_policy import AppraisalPolicy
from strongroom.attestation.bundle.format import Bundle
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.sev_snp.intermediates import shipped_intermediates
from strongroom.attestation.trust_anchors import TrustAnchor
from strongroom.cli import collateral as commands
from strongroom.cli.main import main
from strongroom.client import wiring
from strongroom.core.canonical import encode
from strongroom.core.clock import SystemClock
from strongroom.core.errors import MalformedError
from support.clocks import FixedClock
from support.collateral import rim, whole
from support.place import Place

pytestmark = pytest.mark.integration
DAY = 86400


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> FixedClock:
    """Let the commands see a fixed time."""
    fixed = FixedClock(NOW)
    monkeypatch.setattr(commands, "SystemClock", lambda: fixed)
    return fixed


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A deployment whose reference values list the simulated AMD and Intel roots."""
    deployment = InMemoryDeployment()
    values = deployment.reference_values()
    anchors = (*sev_snp_chain.anchors().anchors, intel_chain().anchor)
    monkeypatch.setattr(deployment, "reference_values", lambda: replace(values, anchors=anchors))
    monkeypatch.setattr(wiring, "connect", lambda _wallet: deployment)
    deployment.adopt_first()
    yield Place(tmp_path, deployment)
    deployment.close()


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["attestation", "collateral", *map(str, words)])


def anchor(folder: Path, one: TrustAnchor) -> tuple[str, ...]:
    path = folder / f"{one.vendor}-{one.digest.value.hex()[:8]}.der"
    path.write_bytes(one.certificate)
    return ("--anchor", str(one.vendor), str(path))


def files(folder: Path) -> dict[str, Path]:
    """Write makers' own files."""
    made = sev_snp_chain.authorities()
    chain = b"".join(one.certificate.public_bytes(Encoding.PEM) for one in (made.ask, made.ark))
    crl = x509.load_der_x509_crl(sev_snp_chain.revocation_list())
    contents = {
        "chain.pem": chain,
        "vcek.der": sev_snp_chain.Machine().certificate(),
        "crl.pem": crl.public_bytes(Encoding.PEM),
        "intel.json": json.dumps(json.loads(intel_chain().collateral()), indent=2).encode(),
        "shipped.der": shipped_intermediates()[0],
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return {name: folder / name for name in contents}


def test_makers_files_become_a_bundle_that_is_shown(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.json"
    roots = (*anchor(tmp_path, sev_snp_chain.anchors().anchors[1]), *anchor(tmp_path, intel_chain().anchor))
    first = run("import", *files(tmp_path).values(), "--bundle", bundle, *roots)
    assert first.exit_code == 0, first.output
    assert "6 added, 0 replaced, 6 items in all" in first.stdout
    assert "made for tests" in first.stderr
    again = run("import", bundle, "--bundle", bundle, "--json", *roots)
    assert json.loads(again.stdout)["added"] == json.loads(again.stdout)["replaced"] == 0

    shown = run("show", "--bundle", bundle, *roots)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.splitlines()[0].split() == ["KIND", "MAKER", "NAME", "ISSUED", "ENDS", "STATE"]
    assert "intel-tcb    intel-sgx  00a0b0c0d0e0/platform" in shown.stdout
    assert all(len(line) <= 120 for line in shown.stdout.splitlines())
    told = json.loads(run("show", "--bundle", bundle, "--json", *roots).stdout)
    assert {one["state"] for one in told["items"]} <= {"current", "not yet valid"}
    assert told["digest"] == str(Bundle.parse(bundle.read_bytes()).digest)
    # Without the simulated roots their items are unproven, and only the real one leads anywhere.
    states = [one["state"] for one in json.loads(run("show", "--bundle", bundle, "--json").stdout)["items"]]
    assert sorted(set(states)) == ["current", "unproven"]
    assert states.count("current") == 1


def test_an_import_that_is_refused_leaves_the_file(tmp_path: Path) -> None:
    bundle, made = tmp_path / "bundle.json", files(tmp_path)
    assert run("import", made["shipped.der"], "--bundle", bundle).exit_code == 0
    before = bundle.read_bytes()
    refused = run("import", made["shipped.der"], made["vcek.der"], "--bundle", bundle, "--json")
    told = json.loads(refused.stdout)
    assert (told["code"], told["exit_code"], bundle.read_bytes()) == ("collateral-unproven", 3, before)
    (tmp_path / "rim.xml").write_bytes(rim())
    for name in ("rim.xml", "noise.bin"):
        (tmp_path / "noise.bin").write_bytes(b"noise")
        told = json.loads(run("import", tmp_path / name, "--bundle", bundle, "--json").stdout)
        assert told["code"] == "malformed"
        assert f"`{name}`" in told["message"]
    assert list(tmp_path.glob(".bundle*")) == []


def test_age_fails_before_something_ends(tmp_path: Path, clock: FixedClock) -> None:
    bundle = tmp_path / "bundle.json"
    roots = anchor(tmp_path, intel_chain().anchor)
    run("import", files(tmp_path)["intel.json"], "--bundle", bundle, *roots)
    fresh = run("age", "--bundle", bundle, *roots)
    assert fresh.exit_code == 0, fresh.output
    assert "1 items; the next end is at" in fresh.stdout
    soon = run("age", "--bundle", bundle, "--fail-under-days", 60, *roots)
    assert soon.exit_code == 1
    assert "ends in 29 days: intel-tcb 00a0b0c0d0e0/platform" in soon.stdout
    clock.at = NEXT_UPDATE + 2 * DAY
    late = run("age", "--bundle", bundle, "--json", *roots)
    assert late.exit_code == 1
    assert json.loads(late.stdout)["ok"] is False
    assert "ended 2 days ago" in run("age", "--bundle", bundle, *roots).stdout
    # What a policy doesn't need doesn't count, and what it needs and isn't there does.
    for kind, code in ((EvidenceKind.NITRO, 0), (EvidenceKind.SEV_SNP, 1)):
        (tmp_path / "policy.json").write_bytes(encode(AppraisalPolicy.strictest(kind).to_json()))
        result = run("age", "--bundle", bundle, "--policy", tmp_path / "policy.json", *roots)
        assert result.exit_code == code, result.output
    assert "missing: AMD's revocation list" in result.stdout


def test_a_deployments_collateral(place: Place) -> None:
    made = files(place.folder)
    words = ("attestation", "collateral")
    assert "no collateral" in place.run(*words, "show", by="dana").stdout
    imported = place.run(*words, "import", *(str(path) for path in made.values()), by="dana")
    assert imported.exit_code == 0, imported.output
    assert "6 added, 0 replaced, 6 in all; recorded as log entry" in imported.stdout
    again = place.json(*words, "import", str(made["intel.json"]), by="sam")
    assert (again["index"], again["added"]) == (None, 0)

    shown = place.json(*words, "show", by="dana")
    assert shown["digest"] == str(place.deployment.keeper.bundle.digest)
    assert {one["maker"] for one in shown["items"]} == {"amd-sev", "intel-sgx"}
    # The policy in force takes TPMs alone: nothing of this concerns it, whatever ended.
    assert place.json(*words, "age", by="dana")["ok"] is True

    (place.folder / "old.json").write_bytes(intel_chain().collateral(issued=ISSUED - 60))
    refused = place.json(*words, "import", str(place.folder / "old.json"), by="dana", code=9)
    assert refused["code"] == "collateral-rollback"
    (place.folder / "stranger.der").write_bytes(sev_snp_chain._authority("SEV-Genoa", None).der)
    refused = place.json(*words, "import", str(place.folder / "stranger.der"), by="dana", code=3)
    assert refused["code"] == "collateral-unproven"
    assert place.json(*words, "show", by="dana") == shown


def test_a_large_bundle_goes_in_parts(place: Place) -> None:
    chips = []
    for number in range(120):
        machine = sev_snp_chain.Machine(certified_chip=number.to_bytes(64, "big"))
        path = place.folder / f"{number}.der"
        path.write_bytes(machine.certificate())
        chips.append(str(path))
    made = files(place.folder)
    told = place.json("attestation", "collateral", "import", str(made["chain.pem"]), *chips, by="dana")
    assert told["added"] == 122
    assert place.deployment.calls.count(("POST", "/v1/collateral")) > 1
    assert len(place.json("attestation", "collateral", "show", by="dana")["items"]) == 122


def test_a_server_that_says_nothing_of_an_import_is_not_believed(place: Place) -> None:
    place.deployment.forge = lambda path, answer: (
        {"received": answer["received"], "imported": None}  # type: ignore[index,call-overload]  # an object
        if path == "/v1/collateral" and "received" in answer  # type: ignore[operator]  # an object
        else answer
    )
    made = files(place.folder)
    told = place.json("attestation", "collateral", "import", str(made["shipped.der"]), by="dana", code=6)
    assert told["code"] == MalformedError.code


def test_options_that_mean_nothing_are_refused(place: Place) -> None:
    made = files(place.folder)
    root = anchor(place.folder, intel_chain().anchor)
    words = ("attestation", "collateral")
    assert place.json(*words, "import", str(made["chain.pem"]), *root, by="dana", code=2)["code"] == "usage"
    (place.folder / "policy.json").write_bytes(b"{}")
    policy = ("--policy", str(place.folder / "policy.json"))
    assert place.json(*words, "age", *policy, by="dana", code=2)["code"] == "usage"


def test_the_commands_see_the_machines_time() -> None:
    assert SystemClock().now() > NOW


def test_a_bundle_of_everything_reads_back(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_bytes(whole().to_bytes())
    shown = json.loads(run("show", "--bundle", tmp_path / "bundle.json", "--json").stdout)
    assert len(shown["items"]) == len(whole().items)
