"""``strongroom attestation verify`` on evidence made here: wanted, unbound, refused, and what has no meaning."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulators.attester import attester
from simulators.sev_snp_chain import MEASUREMENT, NOW, Machine, authorities, chip, revocation_list
from strongroom.attestation.appraisal_policy import AppraisalPolicy
from strongroom.attestation.evidence import RECIPIENT_KEY_BYTES, Evidence, EvidenceItem
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.platform_record import EnrolledChip, PlatformRecord, platform_of_chip
from strongroom.attestation.reference_values import REFERENCE_VALUES_TYPE, ReferenceImage, ReferenceValues
from strongroom.core.clock import format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import sign
from strongroom.core.ids import ImageId
from strongroom.core.signature import Ed25519Signer
from support.attestation_cli import attestation, policy_file

CHALLENGE = bytes(range(64))
AT = format_instant(NOW)
Verify = Callable[..., tuple[int, str]]


@pytest.fixture
def verify(tmp_path: Path) -> Verify:
    """Return the command with all that a genuine, wanted report needs, and room for one thing more or other."""
    (tmp_path / "ark.der").write_bytes(authorities().ark.der)
    (tmp_path / "crl.der").write_bytes(revocation_list())
    listed = policy_file(tmp_path, EvidenceKind.SEV_SNP, chips=[chip().hex()])

    def run(
        *more: str | Path,
        machine: Machine | None = None,
        data: bytes | None = None,
        policy: str | Path | None = listed,
        bound: tuple[str, ...] = ("--report-data", CHALLENGE.hex()),
        anchor: bool = True,
        at: str = AT,
    ) -> tuple[int, str]:
        machine = machine or Machine(report_data=CHALLENGE)
        file = tmp_path / "report.bin"
        file.write_bytes(machine.report() + machine.certificates() if data is None else data)
        told: list[str | Path] = ["verify", file, "--at", at, "--with", tmp_path / "crl.der", *bound]
        told += ["--policy", policy] if policy is not None else []
        told += ["--anchor", "amd-sev", tmp_path / "ark.der"] if anchor else []
        return attestation(*told, *more)

    return run


def test_wanted_evidence_ends_with_zero_and_simulated_roots_are_loud(verify: Verify) -> None:
    code, output = verify()
    assert code == 0, output
    assert "cpu0  sev-snp  GENUINE, WANTED" in output
    assert output.count("SIMULATED ROOTS ARE BELIEVED") == 2
    assert "vm-simulated: SIMULATED, for tests" in output
    assert output.splitlines()[-1] == "verdict     wanted: genuine, made for this challenge, and as the policy wants it"
    assert max(map(len, output.splitlines())) <= 120


def test_production_roots_refuse_what_simulated_ones_signed(verify: Verify) -> None:
    code, output = verify(anchor=False)
    assert code == 3
    assert "NOT GENUINE [chain-refused]" in output
    assert "SIMULATED" not in output


def test_without_a_binding_and_without_saying_so_there_is_no_answer(verify: Verify) -> None:
    code, output = verify(bound=())
    assert code == 2
    assert "[binding-missing]" in output
    assert "--unbound" in output


def test_a_binding_and_unbound_together_have_no_meaning(verify: Verify) -> None:
    assert verify("--unbound")[0] == 2


def test_unbound_is_never_wanted_and_has_its_own_code(verify: Verify) -> None:
    code, output = verify(bound=("--unbound",))
    assert code == 4
    assert "GENUINE, NOT BOUND TO A CHALLENGE" in output
    assert f"committed   report-data: {CHALLENGE.hex()}"[:60] in output
    assert "verdict     genuine, not bound to a challenge" in output


def test_unbound_doesnt_hide_what_else_is_refused(verify: Verify) -> None:
    code, output = verify(bound=("--unbound",), machine=Machine(report_data=CHALLENGE, policy=1 << 19 | 1 << 17))
    assert code == 3
    assert "failed      debug: seen yes; wanted no" in output


def test_another_challenge_is_a_replay(verify: Verify) -> None:
    code, output = verify(bound=("--report-data", bytes(64).hex()))
    assert code == 3
    assert "NOT GENUINE [evidence-replayed]" in output


@pytest.mark.parametrize(
    "bound",
    [
        ("--report-data", ""),
        ("--report-data", "0"),
        ("--report-data", "zz" * 64),
        ("--report-data", "00 " * 64),
        ("--report-data", "00" * 63),
        ("--report-data", "00" * 65),
        ("--nonce", ""),
        ("--nonce", "00" * 32),
    ],
)
def test_a_malformed_or_foreign_binding_is_an_error_and_never_no_binding(
    verify: Verify, bound: tuple[str, ...]
) -> None:
    code, output = verify(bound=bound)
    assert code == 2, output
    assert "verdict" not in output


def test_debug_is_refused_by_the_policy_that_takes_everything_else(verify: Verify) -> None:
    code, output = verify(machine=Machine(report_data=CHALLENGE, policy=1 << 19 | Machine().policy))
    assert code == 3
    assert "GENUINE, REFUSED [unwanted-debug]" in output
    assert "failed      debug: seen yes; wanted no" in output


def test_an_empty_list_in_the_policy_says_so(verify: Verify) -> None:
    code, output = verify(policy="strictest")
    assert code == 3
    assert "wanted nothing: the policy's" in output


def test_a_policy_is_named(verify: Verify) -> None:
    code, output = verify(policy=None)
    assert code == 2
    assert "[policy-missing]" in output


def test_a_policy_file_lacks_nothing(verify: Verify, tmp_path: Path) -> None:
    path = policy_file(tmp_path, EvidenceKind.SEV_SNP)
    told = json.loads(path.read_bytes())
    del told["kinds"]["sev-snp"]["allow_smt"]
    path.write_text(json.dumps(told))
    code, output = verify(policy=path)
    assert code == 6
    assert f"`{path.name}.kinds.sev-snp.allow_smt` is missing" in output
    assert verify(policy=tmp_path / "none.json")[0] == 2


def test_a_kind_that_the_policy_doesnt_take_is_refused(verify: Verify, tmp_path: Path) -> None:
    code, output = verify(policy=policy_file(tmp_path, EvidenceKind.TDX))
    assert code == 3
    assert "failed      kind" in output


@pytest.mark.parametrize("at", ["yesterday", "2026-01-15", "2026-13-01T00:00:00Z", "document"])
def test_a_time_is_written_in_one_way_and_documents_time_is_nitros(verify: Verify, at: str) -> None:
    assert verify(at=at)[0] == 2


def test_expired_endorsements_refuse(verify: Verify) -> None:
    code, output = verify(at="2099-01-01T00:00:00Z")
    assert code == 3
    assert "isn't valid at this time" in output.replace("\n              ", " ")


@pytest.mark.parametrize("data", [b"", b"x", b"{}", b"[]", b"\x30\x00", b'{"a":1.5}', bytes(1184), b"\xff" * 5000])
def test_what_is_no_evidence_is_said_to_be_none(verify: Verify, data: bytes) -> None:
    code, output = verify(data=data)
    assert code == 6
    assert "[malformed]" in output


def test_a_report_that_was_changed_is_refused(verify: Verify) -> None:
    machine = Machine(report_data=CHALLENGE)
    report = bytearray(machine.report())
    report[0x90] ^= 1
    code, output = verify(data=bytes(report) + machine.certificates())
    assert code == 3
    assert "NOT GENUINE" in output


def test_json_says_the_same(verify: Verify) -> None:
    code, output = verify("--json")
    told = json.loads(output)
    assert code == 0
    assert (told["verdict"], told["isolation"], told["supports"]) == ("wanted", "vm-simulated", "SL1")
    assert told["simulated_roots"] is True
    assert told["statements"][0]["committed"] == {"report-data": CHALLENGE.hex()}
    assert all(claim["ok"] for claim in told["statements"][0]["claims"])
    code, output = verify("--json", machine=Machine(report_data=CHALLENGE, vmpl=1))
    assert code == 3
    assert (json.loads(output)["verdict"], json.loads(output)["supports"]) == ("refused", None)
    code, output = verify("--json", bound=())
    assert code == 2
    assert json.loads(output)["code"] == "binding-missing"


def reference(
    tmp_path: Path, *, measurement: bytes = MEASUREMENT, revoked: bool = False, enveloped: bool = True
) -> Path:
    policy: Any = json.loads(policy_file(tmp_path, EvidenceKind.SEV_SNP, chips=[chip().hex()]).read_bytes())
    with_fields = AppraisalPolicy.parse(json_bytes(policy))
    image = ReferenceImage(
        image=ImageId("runner"),
        measured={EvidenceKind.SEV_SNP: ({"measurement": measurement.hex()},)},
        revoked=revoked,
    )
    values = ReferenceValues(
        genesis=Digest.of(b""), epoch=1, images=(image,), anchors=(), appraisal=with_fields, not_after=NOW + 1
    )
    data = values.to_bytes()
    signed = sign(REFERENCE_VALUES_TYPE, data, Ed25519Signer.from_seed(bytes(32)))
    path = tmp_path / "values.json"
    path.write_bytes(signed.to_bytes() if enveloped else data)
    return path


def recorded_chip(identity: bytes) -> PlatformRecord:
    return PlatformRecord(
        platform=platform_of_chip(EvidenceKind.SEV_SNP, identity),
        kind=EvidenceKind.SEV_SNP,
        identity=EnrolledChip(hardware_id=identity),
        anchor=Digest.of(authorities().ark.der),
        isolation=IsolationClass.VM_SIMULATED,
        enrolled=NOW,
    )


def json_bytes(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize("enveloped", [True, False])
def test_reference_values_bring_the_policy_and_the_image(verify: Verify, tmp_path: Path, *, enveloped: bool) -> None:
    code, output = verify("--reference", reference(tmp_path, enveloped=enveloped), "--image", "runner", policy=None)
    assert code == 0, output
    assert "image, measurement" in output.replace("\n              ", " ")
    assert "believed    values.json: who signed it wasn't checked" in output


def test_another_measurement_a_revoked_or_another_image_is_refused(verify: Verify, tmp_path: Path) -> None:
    code, output = verify("--reference", reference(tmp_path, measurement=bytes(48)), policy=None)
    assert code == 3
    assert "GENUINE, REFUSED [unwanted-measurement]" in output
    code, output = verify("--reference", reference(tmp_path, revoked=True), policy=None)
    assert code == 3
    assert "`runner`, revoked" in output
    code, output = verify("--reference", reference(tmp_path), "--image", "other", policy=None)
    assert code == 3
    assert "failed      image" in output


def test_reference_values_that_ended_answer_nothing(verify: Verify, tmp_path: Path) -> None:
    code, output = verify("--reference", reference(tmp_path), policy=None, at=format_instant(NOW + 1))
    assert code == 2
    assert "[reference-values-ended]" in output


def test_an_image_needs_reference_values(verify: Verify) -> None:
    assert verify("--image", "runner")[0] == 2


def test_our_own_evidence_is_read_and_other_spellings_of_it_arent(verify: Verify) -> None:
    evidence = Evidence(
        platform=platform_of_chip(EvidenceKind.SEV_SNP, chip()),
        main=EvidenceItem(EvidenceKind.SEV_SNP, Machine(report_data=CHALLENGE).body()),
        recipient_key=bytes(RECIPIENT_KEY_BYTES),
    )
    code, output = verify(data=evidence.to_bytes())
    assert code == 0, output
    assert "evidence    Strongroom evidence, 1 statement" in output
    assert verify(data=b" " + evidence.to_bytes())[0] == 6
    assert verify(data=json.dumps(json.loads(evidence.to_bytes()), indent=1).encode())[0] == 6


def test_control_characters_of_evidence_dont_reach_the_terminal(verify: Verify) -> None:
    _code, output = verify(machine=Machine(report_data=CHALLENGE, provider="x"))
    assert all(character.isprintable() or character == "\n" for character in output)


def test_collateral_that_isnt_any_is_refused(verify: Verify, tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(b"noise")
    assert verify("--with", tmp_path / "noise")[0] == 6
    assert verify("--with", tmp_path / "absent")[0] == 2


def test_an_anchor_is_one_certificate(verify: Verify, tmp_path: Path) -> None:
    two = tmp_path / "two"
    two.write_bytes(revocation_list())
    assert verify("--anchor", "amd-sev", two)[0] == 2


def test_a_platforms_record_is_for_a_tpm_and_never_passed_over(verify: Verify, tmp_path: Path) -> None:
    # Another chip's, and a TPM's: neither says anything of this report, and silence would look like agreement.
    for number, record in enumerate((recorded_chip(bytes(64)), recorded_chip(chip()), attester().record())):
        path = tmp_path / f"platform-{number}.json"
        path.write_bytes(record.to_bytes())
        code, output = verify("--platform", path)
        assert code == 2, output
        assert "[platform-not-compared]" in output


def test_names_of_files_that_no_text_can_hold_are_told(verify: Verify, tmp_path: Path) -> None:
    values = reference(tmp_path)
    odd = values.rename(os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff"))
    code, output = verify("--reference", odd, "--json", policy=None)
    assert code == 0, output
    assert json.loads(output)["believed"] == ["odd\ufffd"]


def test_the_policy_template_is_a_policy() -> None:
    code, output = attestation("policy", "--kind", "sev-snp", "--kind", "tdx")
    assert code == 0
    read = AppraisalPolicy.parse(json_bytes(json.loads(output)))
    assert set(read.kinds) == {EvidenceKind.SEV_SNP, EvidenceKind.TDX}
    assert attestation("policy", "--kind", "vapour")[0] == 2
    everything = json.loads(attestation("policy")[1])["kinds"]
    assert all(rules is not None for rules in everything.values())
