"""A real software TPM is enrolled, measured into, and quoted; each change of what runs is refused and named."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from simulators.attester import APPRAISAL, tpm_root
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.attestation.adapters.measure_files import measure_file, measure_trees
from strongroom.attestation.adapters.tpm_attester import TpmAttester
from strongroom.attestation.adapters.tpm_device import TpmDevice
from strongroom.attestation.appraisal import appraise
from strongroom.attestation.enrolment import begin, finish
from strongroom.attestation.errors import ChainRefusedError, EnrolmentRefusedError
from strongroom.attestation.evidence import Evidence, EvidenceItem, devices_digest
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.measurement import (
    MeasuredName,
    Measurement,
    command_digest,
    expected_pcr,
    facts_digest,
    launch_measurements,
)
from strongroom.attestation.platform_record import PlatformRecord, platform_of
from strongroom.attestation.reference_values import ReferenceImage, ReferenceValues
from strongroom.attestation.results import AttestationResult, Status
from strongroom.attestation.tpm.credential import make_credential
from strongroom.attestation.tpm.public_area import PublicArea
from strongroom.attestation.tpm.statement import TpmStatement
from strongroom.attestation.transcript import Binding
from strongroom.attestation.trust_anchors import TrustAnchor
from strongroom.core.digest import Digest
from strongroom.core.errors import UsageError
from strongroom.core.ids import ImageId, ModelId
from strongroom.tpm.adapters.commands import RefusedCommandError
from strongroom.tpm.adapters.transport import DescriptorTransport
from strongroom.tpm.errors import TpmError

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not SoftwareTPM.available(), reason="swtpm and swtpm-tools aren't installed"),
]

GENESIS = Digest.of(b"this deployment")
RECIPIENT_KEY = bytes(1216)


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftwareTPM]:
    with SoftwareTPM(tmp_path_factory.mktemp("tpm")) as running:
        yield running


@pytest.fixture(scope="module")
def other_tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftwareTPM]:
    with SoftwareTPM(tmp_path_factory.mktemp("other")) as running:
        yield running


def opened(tpm: SoftwareTPM) -> TpmDevice:
    device = TpmDevice(DescriptorTransport.unix(tpm.socket_path))
    device.startup()
    return device


def roots(*tpms: SoftwareTPM) -> tuple[TrustAnchor, ...]:
    return tuple(tpm_root(tpm.root_certificate) for tpm in tpms)


def enrol(tpm: SoftwareTPM) -> PlatformRecord:
    now = int(time.time())
    with opened(tpm) as device:
        attester = TpmAttester(device)
        request = attester.enrolment_request(tpm.intermediates)
        pending = begin(request, roots=roots(tpm), at=now, random_bytes=os.urandom)
        return finish(pending, attester.answer(pending.credential), at=now)


@dataclass(frozen=True)
class Program:
    """What a launcher would measure, over real files."""

    interpreter: Path
    files: Path
    command: tuple[str, ...] = ("python", "-m", "agent")
    sandbox: str = "strict"
    genesis: Digest = GENESIS

    def measure(self) -> tuple[Measurement, ...]:
        return launch_measurements(
            interpreter=measure_file(self.interpreter),
            files=measure_trees({"tree": self.files}),
            command=command_digest(self.command, {"LANG": "C"}),
            sandbox=facts_digest({"v": 1, "profile": self.sandbox}),
            genesis=self.genesis,
        )


@pytest.fixture
def program(tmp_path: Path) -> Program:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "agent.py").write_text("print('agent')\n", encoding="utf-8")
    (tmp_path / "python").write_bytes(b"an interpreter")
    return Program(tmp_path / "python", tmp_path / "files")


def bound(nonce: bytes = bytes(32), recipient_key: bytes = RECIPIENT_KEY) -> Binding:
    return Binding(
        genesis=GENESIS,
        challenge="c-1",
        nonce=nonce,
        request=Digest.of(b"request"),
        model=ModelId("atlas"),
        version=1,
        manifest=Digest.of(b"manifest"),
        recipient_key=Digest.of(recipient_key),
        devices=devices_digest(()),
    )


def launch_and_attest(tpm: SoftwareTPM, program: Program, binding: Binding) -> bytes:
    tpm.power_cycle()
    measurements = program.measure()
    with opened(tpm) as device:
        attester = TpmAttester(device)
        attester.measure(measurements)
        return attester.attest(binding=binding, measurements=measurements, recipient_key=RECIPIENT_KEY)


def judge(
    tpm: SoftwareTPM,
    evidence: bytes,
    wanted: Program,
    binding: Binding,
    record: PlatformRecord,
    *,
    image: ReferenceImage | None = None,
) -> AttestationResult:
    now = int(time.time())
    values = ReferenceValues(
        genesis=GENESIS,
        epoch=1,
        images=(image or ReferenceImage.launched(ImageId("agent"), wanted.measure()),),
        anchors=roots(tpm),
        appraisal=APPRAISAL,
        not_after=now + 3600,
    )
    parsed = Evidence.parse(evidence)
    return appraise(parsed, binding=binding, record=record, reference_values=values, at=now)


def test_enrolment_gives_the_same_identity_each_time_and_calls_it_simulated(tpm: SoftwareTPM) -> None:
    first = enrol(tpm)
    tpm.power_cycle()
    second = enrol(tpm)
    assert replace(second, enrolled=first.enrolled) == first
    assert first.isolation is IsolationClass.VM_SIMULATED


def test_even_a_root_listed_as_hardware_does_not_make_this_tpm_hardware(tpm: SoftwareTPM) -> None:
    lying = tpm_root(tpm.root_certificate, IsolationClass.MEASURED_HOST)
    with opened(tpm) as device:
        request = TpmAttester(device).enrolment_request(tpm.intermediates)
    pending = begin(request, roots=[lying], at=int(time.time()), random_bytes=os.urandom)
    assert pending.facts.tpm.simulated
    assert pending.facts.isolation is IsolationClass.VM_SIMULATED


def test_a_tpm_of_another_maker_or_without_its_intermediate_is_refused(
    tpm: SoftwareTPM, other_tpm: SoftwareTPM
) -> None:
    with opened(tpm) as device:
        attester = TpmAttester(device)
        request, bare = attester.enrolment_request(tpm.intermediates), attester.enrolment_request()
    for handed_in, believed in ((request, other_tpm), (bare, tpm)):
        with pytest.raises(ChainRefusedError):
            begin(handed_in, roots=roots(believed), at=int(time.time()), random_bytes=os.urandom)


def test_the_tpm_refuses_a_credential_for_another_attestation_key(tpm: SoftwareTPM, other_tpm: SoftwareTPM) -> None:
    with opened(other_tpm) as device:
        foreign = TpmAttester(device).enrolment_request(other_tpm.intermediates)
    with opened(tpm) as device:
        attester = TpmAttester(device)
        own = attester.enrolment_request(tpm.intermediates)
        # An attacker's key with an honest endorsement certificate: only a TPM that holds both would answer.
        mixed = replace(own, ak_public=foreign.ak_public)
        pending = begin(mixed, roots=roots(tpm), at=int(time.time()), random_bytes=os.urandom)
        for _ in range(5):  # more than a TPM has sessions for: a refusal must not leak one
            with pytest.raises(RefusedCommandError) as refused:
                attester.answer(pending.credential)
        assert refused.value.response_code == 0x1DF
        with pytest.raises(EnrolmentRefusedError):
            finish(pending, bytes(32), at=int(time.time()))
        endorsement, name = PublicArea.parse(own.ek_public), PublicArea.parse(own.ak_public).name
        credential = make_credential(endorsement, name, b"opens", os.urandom)
        assert attester.answer(credential) == b"opens"
    with opened(other_tpm) as device, pytest.raises(RefusedCommandError):
        TpmAttester(device).answer(credential)


def test_what_was_measured_is_appraised_as_wanted(tpm: SoftwareTPM, program: Program) -> None:
    result = judge(tpm, launch_and_attest(tpm, program, bound()), program, bound(), enrol(tpm))
    assert result.require_wanted() == "agent"
    assert result.isolation is IsolationClass.VM_SIMULATED


@pytest.mark.parametrize("changed", list(MeasuredName))
def test_each_change_of_what_runs_is_refused_by_name(
    tpm: SoftwareTPM, program: Program, changed: MeasuredName, tmp_path: Path
) -> None:
    def other_file(path: Path) -> Path:
        path.mkdir()
        (path / "agent.py").write_text("print('agent', 1)\n", encoding="utf-8")
        return path

    def other_interpreter(path: Path) -> Path:
        path.write_bytes(b"another interpreter")
        return path

    match changed:
        case MeasuredName.INTERPRETER:
            run = replace(program, interpreter=other_interpreter(tmp_path / "python2"))
        case MeasuredName.FILES:
            run = replace(program, files=other_file(tmp_path / "files2"))
        case MeasuredName.COMMAND:
            run = replace(program, command=(*program.command, "--debug"))
        case MeasuredName.SANDBOX:
            run = replace(program, sandbox="none")
        case MeasuredName.GENESIS:
            run = replace(program, genesis=Digest.of(b"another deployment"))
    result = judge(tpm, launch_and_attest(tpm, run, bound()), program, bound(), enrol(tpm))
    assert (result.status, [claim.name for claim in result.failed]) == (Status.GENUINE, [changed])
    assert result.reason == f"unwanted-{changed}"


def statement_of(evidence: bytes) -> TpmStatement:
    return TpmStatement.parse(Evidence.parse(evidence).main.body)


def with_statement(evidence: bytes, statement: TpmStatement) -> bytes:
    item = EvidenceItem(EvidenceKind.TPM2, statement.to_bytes())
    return replace(Evidence.parse(evidence), main=item).to_bytes()


def test_a_log_that_lies_about_what_ran_is_refused(tpm: SoftwareTPM, program: Program) -> None:
    run = replace(program, command=("python", "-m", "thief"))
    honest = statement_of(launch_and_attest(tpm, program, bound()))
    evidence = launch_and_attest(tpm, run, bound())
    lying = with_statement(evidence, replace(statement_of(evidence), events=honest.events))
    result = judge(tpm, lying, program, bound(), enrol(tpm))
    assert (result.status, result.reason) == (Status.ERROR, "evidence-log-mismatch")


def test_replayed_or_diverted_evidence_is_refused(tpm: SoftwareTPM, program: Program) -> None:
    record, evidence = enrol(tpm), launch_and_attest(tpm, program, bound())
    later = bound(nonce=os.urandom(32))
    assert judge(tpm, evidence, program, later, record).reason == "evidence-replayed"
    # A man in the middle puts his own key into the envelope, and the keeper binds what it sees there.
    thief = os.urandom(1216)
    diverted = replace(Evidence.parse(evidence), recipient_key=thief).to_bytes()
    assert judge(tpm, diverted, program, bound(), record).reason == "evidence-other-recipient"
    assert judge(tpm, diverted, program, bound(recipient_key=thief), record).reason == "evidence-replayed"


def test_a_whole_machine_is_wanted_by_its_registers_and_refused_by_one(tpm: SoftwareTPM, program: Program) -> None:
    record, measured = enrol(tpm), (0, 4, 7, 14)
    tpm.power_cycle()
    with opened(tpm) as device:
        device.pcr_extend(4, Digest.of(b"the loader's code").value)
        with device.attestation_key() as key:
            quote, signature = device.quote(key, bound().tpm2_qualifying_data, measured)
        pcrs = {number: device.pcr_read(number) for number in measured}
    statement = TpmStatement(quote=quote, signature=signature, pcrs=pcrs)
    evidence = Evidence(
        platform=record.platform,
        main=EvidenceItem(EvidenceKind.TPM2, statement.to_bytes()),
        recipient_key=RECIPIENT_KEY,
    ).to_bytes()
    names = {f"pcr{number}": value.hex() for number, value in pcrs.items()}
    image = ReferenceImage(image=ImageId("machine"), measured={EvidenceKind.TPM2: (names,)})
    result = judge(tpm, evidence, program, bound(), record, image=image)
    # Nothing but the attester's word stands behind these values' meaning: the tightest policy wants a log too.
    assert [claim.name for claim in result.submodules[0].failed] == ["event-log"]
    assert result.submodules[0].measurements == names
    assert [claim.name for claim in result.claims if claim.name in names and not claim.ok] == []
    other = ReferenceImage(
        image=ImageId("machine"),
        measured={EvidenceKind.TPM2: ({**names, "pcr14": expected_pcr(program.measure()).hex()},)},
    )
    refused = judge(tpm, evidence, program, bound(), record, image=other)
    assert [claim.name for claim in refused.claims if claim.name in names and not claim.ok] == ["pcr14"]


def test_an_unenrolled_platform_is_refused(tpm: SoftwareTPM, other_tpm: SoftwareTPM, program: Program) -> None:
    record, evidence = enrol(tpm), launch_and_attest(other_tpm, program, bound())
    assert judge(tpm, evidence, program, bound(), record).reason == "evidence-other-platform"
    renamed = replace(Evidence.parse(evidence), platform=record.platform).to_bytes()
    assert judge(tpm, renamed, program, bound(), record).reason == "evidence-bad-signature"


def test_one_launch_for_each_power_cycle(tpm: SoftwareTPM, program: Program) -> None:
    measurements = program.measure()
    tpm.power_cycle()
    with opened(tpm) as device:
        attester = TpmAttester(device)
        attester.measure(measurements)
        assert device.pcr_read(14) == expected_pcr(measurements)
        with pytest.raises(TpmError, match="isn't fresh"):
            attester.measure(measurements)
        with pytest.raises(TpmError, match="doesn't hold"):
            attester.attest(binding=bound(), measurements=measurements[:4], recipient_key=RECIPIENT_KEY)
        with pytest.raises(UsageError):
            attester.attest(binding=bound(), measurements=measurements, recipient_key=bytes([1]) * 1216)
        # Something extended after the launch can't be hidden either.
        device.pcr_extend(14, bytes(32))
        with pytest.raises(TpmError, match="doesn't hold"):
            attester.attest(binding=bound(), measurements=measurements, recipient_key=RECIPIENT_KEY)


def test_an_inherited_descriptor_is_enough_to_quote(tpm: SoftwareTPM, program: Program) -> None:
    tpm.power_cycle()
    measurements = program.measure()
    descriptor = tpm.connect().detach()
    with TpmDevice(DescriptorTransport(descriptor)) as device:
        assert device.manufacturer() == "IBM"
        attester = TpmAttester(device)
        attester.measure(measurements)
        for number in range(10):  # more than a TPM has room for keys: each must be flushed
            binding = bound(nonce=bytes([number]) * 32)
            evidence = attester.attest(binding=binding, measurements=measurements, recipient_key=RECIPIENT_KEY)
            with device.attestation_key() as key:
                assert Evidence.parse(evidence).platform == platform_of(key.public)


def test_a_refused_command_names_itself_and_its_code(tpm: SoftwareTPM) -> None:
    with opened(tpm) as device:
        with pytest.raises(RefusedCommandError, match=r"`nv_read_public` with code 0x18b"):
            device.nv_read(0x01C7FFFF)
        with pytest.raises(RefusedCommandError, match="`flush_context`"):
            device.flush(0x80000000)


def test_nobody_at_the_other_end_is_an_error_of_ours(tpm: SoftwareTPM, tmp_path: Path) -> None:
    with pytest.raises(TpmError, match="can't be reached"):
        DescriptorTransport.unix(tmp_path / "absent.sock")
    with pytest.raises(TpmError, match="can't be opened"):
        DescriptorTransport.device(tmp_path / "tpmrm0")
    with opened(tpm) as device:
        tpm.stop()
        with pytest.raises(TpmError):
            device.manufacturer()
    tpm.start()
