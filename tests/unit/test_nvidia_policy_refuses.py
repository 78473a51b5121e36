"""Each field of the policies for NVIDIA's devices refuses what it is there for, and says what it saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

import pytest

from simulators.nvidia_chain import (
    DAY,
    DRIVER_GOLDEN,
    DRIVER_ID,
    GPU_FIELDS,
    MEASUREMENTS,
    NONCE,
    NOW,
    SWITCH_FIELDS,
    SWITCH_ID,
    VBIOS_GOLDEN,
    VBIOS_ID,
    Device,
    answers_for,
    device,
    endorsements,
    entries,
    item,
    manifest,
    report,
    rim_signer,
)
from strongroom.attestation.bindings import ExpectedBinding, Slot
from strongroom.attestation.claims import Claim
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.nvidia.dice import Architecture
from strongroom.attestation.nvidia.opaque import Mode
from strongroom.attestation.nvidia.statement import DeviceStatement
from strongroom.attestation.nvidia.topology import Topology, topology_claims
from strongroom.attestation.policies.allowed import NOTHING, Allowed
from strongroom.attestation.policies.nvidia import (
    Demand,
    NvidiaDevicesPolicy,
    NvidiaGpuPolicy,
    NvidiaSwitchPolicy,
    at_or_above,
)
from strongroom.attestation.policies.revocation_rule import RevocationRule
from strongroom.attestation.verifier import Genuine
from strongroom.attestation.verifiers.nvidia import NvidiaGpuVerifier, NvidiaSwitchVerifier
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.fields import Fields

GPU = NvidiaGpuVerifier()
SWITCH = NvidiaSwitchVerifier()
WANTED = ExpectedBinding({Slot.NONCE: NONCE})
STRICT = NvidiaGpuPolicy.strictest()
STRICT_SWITCH = NvidiaSwitchPolicy.strictest()


@cache
def maker_collateral(*, ended: bool = False) -> tuple[tuple[tuple[str, bytes], ...], Device, tuple[bytes, ...]]:
    made = device()
    signer = rim_signer(end=NOW - DAY) if ended else rim_signer()
    manifests = (
        (DRIVER_ID, manifest("590.12", DRIVER_GOLDEN, signer=signer)),
        (VBIOS_ID, manifest("96.00.A5.00.01", VBIOS_GOLDEN, signer=signer)),
    )
    return manifests, made, answers_for(made, signer)


def gpu(
    *,
    fields: Mapping[int, bytes] = GPU_FIELDS,
    measurements: Mapping[int, bytes] = MEASUREMENTS,
    manifests: int = 2,
    answered: bool = True,
    ended: bool = False,
) -> Genuine[DeviceStatement]:
    found, made, answers = maker_collateral(ended=ended)
    raw = report(made, opaque=entries(fields), measurements=measurements)
    endorsed = endorsements(manifests=found[:manifests], answers=answers if answered else ())
    return GPU.genuine(GPU.parse(item(made, raw).body), WANTED, endorsed, NOW)


def refused(claims: Sequence[Claim]) -> set[str]:
    return {claim.name for claim in claims if not claim.ok}


def test_the_strictest_policy_takes_a_whole_gpu() -> None:
    claims = GPU.judge(gpu(), STRICT)
    assert refused(claims) == set()
    assert {claim.name for claim in claims} == {
        "architecture",
        "driver",
        "vbios",
        "mode",
        "chip",
        "rim.driver",
        "rim.driver.signer-current",
        "rim.vbios",
        "rim.vbios.signer-current",
        "debug",
        "revocation",
    }


@pytest.mark.parametrize(
    ("policy", "claim"),
    [
        (replace(STRICT, architectures=(Architecture.BLACKWELL,)), "architecture"),
        (replace(STRICT, driver_floors=("590.13",)), "driver"),
        (replace(STRICT, driver_floors=("580.95.05",)), "driver"),
        (replace(STRICT, driver_floors=()), "driver"),
        (replace(STRICT, vbios_floors=("96.00.A5.00.02",)), "vbios"),
        (replace(STRICT, vbios_floors=("97.00.00.00.01",)), "vbios"),
        (replace(STRICT, modes=(Mode.PPCIE,)), "mode"),
        (replace(STRICT, chips=NOTHING), "chip"),
        (replace(STRICT, chips=Allowed((bytes(9).hex(),))), "chip"),
    ],
    ids=["architecture", "driver", "branch", "no-driver", "vbios", "family", "mode", "no-chip", "chip"],
)
def test_each_field_refuses(policy: NvidiaGpuPolicy, claim: str) -> None:
    assert refused(GPU.judge(gpu(), policy)) == {claim}


@pytest.mark.parametrize("flag", [b"\0\0", b"\1\0"])
def test_passthrough_modes_that_nvidias_verifiers_tell_apart_differently_are_taken_together(flag: bytes) -> None:
    stated = gpu(fields={**GPU_FIELDS, 36: flag})
    for modes in ((Mode.SPT,), (Mode.MPT,), (Mode.SPT, Mode.PPCIE), (Mode.MPT, Mode.UNSTATED)):
        assert refused(GPU.judge(stated, replace(STRICT, modes=modes))) == {"mode"}
    assert refused(GPU.judge(stated, replace(STRICT, modes=(Mode.SPT, Mode.MPT)))) == set()


def test_a_listed_chip_is_taken() -> None:
    listed = replace(
        STRICT, chips=Allowed((maker_collateral()[1].serial.hex(),)), driver_floors=None, vbios_floors=None
    )
    assert refused(GPU.judge(gpu(), listed)) == set()


def test_unstated_modes_are_taken_only_where_the_policy_says_so() -> None:
    old = {kind: value for kind, value in GPU_FIELDS.items() if kind not in {34, 36}}
    assert refused(GPU.judge(gpu(fields=old), STRICT)) == {"mode"}
    assert refused(GPU.judge(gpu(fields=old), replace(STRICT, modes=(Mode.UNSTATED,)))) == set()
    assert refused(GPU.judge(gpu(fields={**old, 21: b"\xaa"}), STRICT)) == set()


def test_missing_manifests_are_refused_where_they_are_required() -> None:
    needed, otherwise = STRICT, replace(STRICT, manifests=replace(STRICT.manifests, rim=Demand.WHEN_PRESENT))
    assert refused(GPU.judge(gpu(manifests=1), needed)) == {"rim.vbios", "debug"}
    assert refused(GPU.judge(gpu(manifests=0), needed)) == {"rim.driver", "rim.vbios", "debug"}
    assert refused(GPU.judge(gpu(manifests=0), otherwise)) == set()


def test_measurements_that_do_not_match_are_refused_whatever_the_policy_says() -> None:
    lax = replace(
        STRICT,
        manifests=replace(
            STRICT.manifests,
            rim=Demand.WHEN_PRESENT,
            rim_signer_must_be_current=False,
            revocation=RevocationRule.WHEN_PRESENT,
        ),
        driver_floors=None,
        vbios_floors=None,
        modes=tuple(Mode),
    )
    debugged = gpu(measurements={**MEASUREMENTS, 10: b"\1" * 48})
    assert refused(GPU.judge(debugged, lax)) == {"rim.vbios", "debug"}


def test_a_manifest_without_values_proves_nothing() -> None:
    _, made, answers = maker_collateral()
    endorsed = endorsements(manifests=[(DRIVER_ID, manifest("590.12", {}))], answers=answers)
    found = GPU.genuine(GPU.parse(item(made, report(made)).body), WANTED, endorsed, NOW)
    assert "rim.driver" in refused(GPU.judge(found, STRICT))


def test_records_that_are_not_read_are_refused() -> None:
    _, made, answers = maker_collateral()
    floor = '<Resource type="MinSvn" index="101" active="True" name="FSP_UCODE_MIN_SVN"/>'
    endorsed = endorsements(manifests=[(DRIVER_ID, manifest("590.12", DRIVER_GOLDEN, extra=floor))], answers=answers)
    found = GPU.genuine(GPU.parse(item(made, report(made)).body), WANTED, endorsed, NOW)
    assert found.details["rim.driver"] == f"{DRIVER_ID}: 2 of 2, 1 not read"
    assert "rim.driver" in refused(GPU.judge(found, STRICT))


def test_an_ended_signer_is_a_choice() -> None:
    assert refused(GPU.judge(gpu(ended=True), STRICT)) == {"rim.driver.signer-current", "rim.vbios.signer-current"}
    chosen = replace(STRICT, manifests=replace(STRICT.manifests, rim_signer_must_be_current=False))
    assert refused(GPU.judge(gpu(ended=True), chosen)) == set()


def test_revocation_must_have_been_looked_up_where_it_is_required() -> None:
    assert refused(GPU.judge(gpu(answered=False), STRICT)) == {"revocation"}
    chosen = replace(STRICT, manifests=replace(STRICT.manifests, revocation=RevocationRule.WHEN_PRESENT))
    assert refused(GPU.judge(gpu(answered=False), chosen)) == set()


def switch(fields: Mapping[int, bytes] = SWITCH_FIELDS, model: str = "LS_10") -> Genuine[DeviceStatement]:
    made, signer = device(model), rim_signer()
    manifests = [(SWITCH_ID, manifest("96.10.73.00.01", VBIOS_GOLDEN, signer=signer))]
    endorsed = endorsements(manifests=manifests, answers=answers_for(made, signer))
    raw = report(made, opaque=entries(fields))
    return SWITCH.genuine(SWITCH.parse(item(made, raw, EvidenceKind.NVIDIA_SWITCH).body), WANTED, endorsed, NOW)


def test_each_field_for_switches_refuses() -> None:
    assert refused(SWITCH.judge(switch(), STRICT_SWITCH)) == set()
    assert refused(SWITCH.judge(switch({**SWITCH_FIELDS, 25: b"\0\0"}), STRICT_SWITCH)) == {"locked"}
    unlocked = replace(STRICT_SWITCH, must_be_locked=False)
    assert refused(SWITCH.judge(switch({**SWITCH_FIELDS, 25: b"\0\0"}), unlocked)) == set()
    assert refused(SWITCH.judge(switch(), replace(STRICT_SWITCH, bios_floors=("96.10.74.00.01",)))) == {"bios"}
    assert refused(SWITCH.judge(switch(), replace(STRICT_SWITCH, chips=NOTHING))) == {"chip"}


def pdi(number: int) -> bytes:
    return bytes([0x10 + number]) * 8


@cache
def machine() -> tuple[tuple[DeviceStatement, ...], tuple[DeviceStatement, ...]]:
    switches, gpus = [pdi(number) for number in range(4)], [pdi(number) for number in range(8, 16)]
    links = b"".join(one[::-1] for one in switches) * 2 + bytes(16)
    ports = b"".join(gpus) + b"\xff" * 64
    bare = endorsements()
    found: list[list[DeviceStatement]] = [[], []]
    for place, verifier, ids, model in ((0, GPU, gpus, "GH100"), (1, SWITCH, switches, "LS_10")):
        for one in ids:
            made = device(model, pdi=one)
            opaque = {**GPU_FIELDS, 22: links, 36: b"\2\0"} if place == 0 else {**SWITCH_FIELDS, 22: one, 26: ports}
            body = item(made, report(made, opaque=entries(opaque))).body
            found[place].append(verifier.genuine(verifier.parse(body), WANTED, bare, NOW).statement)
    return tuple(found[0]), tuple(found[1])


def altered(statement: DeviceStatement, **said: object) -> DeviceStatement:
    assert statement.proven is not None
    return replace(statement, proven=replace(statement.proven, **said))  # type: ignore[arg-type]  # its fields


def test_eight_gpus_on_four_switches_are_taken_and_nothing_less() -> None:
    gpus, switches = machine()
    wanted = Topology.EIGHT_BY_FOUR
    assert refused(topology_claims(gpus, switches, wanted)) == set()
    assert topology_claims(gpus, switches, Topology.NONE) == ()
    assert "topology.gpus" in refused(topology_claims(gpus[:7], switches, wanted))
    assert "topology.switches" in refused(topology_claims(gpus, switches[:3], wanted))
    assert "topology.gpus" in refused(topology_claims((), (), wanted))


def test_a_device_of_another_machine_is_refused() -> None:
    gpus, switches = machine()
    wanted = Topology.EIGHT_BY_FOUR
    for field, value, claim in (
        ("neighbours", frozenset({pdi(0), pdi(1), pdi(2)}), "topology.switches-of-gpus"),
        ("neighbours", frozenset({pdi(0), pdi(1), pdi(2), pdi(3), pdi(4)}), "topology.switches-of-gpus"),
        ("mode", Mode.SPT, "topology.mode"),
    ):
        assert refused(topology_claims((*gpus[:7], altered(gpus[7], **{field: value})), switches, wanted)) == {claim}
    for field, other, claim in (
        ("neighbours", frozenset(map(pdi, range(9, 16))), "topology.gpus-of-switches"),
        ("own_word", pdi(5), "topology.switches-name-themselves"),
    ):
        assert refused(topology_claims(gpus, (*switches[:3], altered(switches[3], **{field: other})), wanted)) == {
            claim
        }
    # A GPU that no switch names, though its own list is right: what NVIDIA's own check would take.
    assert gpus[7].proven is not None
    stranger = altered(gpus[7], identity=replace(gpus[7].proven.identity, serial=b"\x41" + pdi(7)))
    assert refused(topology_claims((*gpus[:7], stranger), switches, wanted)) == {"topology.gpus-of-switches"}


def test_counts_are_those_that_are_listed_and_no_device_counts_twice() -> None:
    gpus, switches = machine()
    assert refused(NvidiaDevicesPolicy.strictest().claims(gpus, switches)) == set()
    few = NvidiaDevicesPolicy(gpus=(1, 2), switches=(0,), topology=Topology.NONE)
    alone = [altered(one, mode=Mode.SPT) for one in gpus]
    assert refused(few.claims(alone[:2], ())) == set()
    assert refused(few.claims(alone[:3], switches[:1])) == {"devices.gpus", "devices.switches"}
    assert refused(few.claims((alone[0], alone[0]), ())) == {"devices.distinct"}
    assert refused(few.claims((), ())) == {"devices.gpus"}


def test_gpus_share_a_mode_and_protected_pcie_needs_its_topology() -> None:
    gpus, _switches = machine()
    few = NvidiaDevicesPolicy(gpus=(1, 2), switches=(0,), topology=Topology.NONE)
    # NVLink is in the clear: what is at its other end wasn't asked.
    assert refused(few.claims(gpus[:1], ())) == {"devices.mode"}
    mixed = [altered(gpus[0], mode=Mode.SPT), altered(gpus[1], mode=Mode.MPT)]
    assert refused(few.claims(mixed, ())) == {"devices.mode"}
    assert refused(few.claims([altered(one, mode=Mode.MPT) for one in gpus[:2]], ())) == set()


def test_devices_that_were_not_proven_are_not_compared() -> None:
    gpus, switches = machine()
    with pytest.raises(UsageError):
        topology_claims((replace(gpus[0], proven=None), *gpus[1:]), switches, Topology.EIGHT_BY_FOUR)


def test_policies_read_what_they_write_and_nothing_missing() -> None:
    for policy in (
        STRICT,
        replace(STRICT, driver_floors=None, vbios_floors=None, chips=Allowed((pdi(1).hex(),))),
        STRICT_SWITCH,
        replace(STRICT_SWITCH, bios_floors=None, chips=NOTHING),
        NvidiaDevicesPolicy.strictest(),
        NvidiaDevicesPolicy(gpus=(1, 2), switches=(0,), topology=Topology.NONE),
    ):
        written = policy.to_json()
        with Fields(written, "policy") as fields:
            assert type(policy).read(fields) == policy
        for name in written:
            with pytest.raises(MalformedError), Fields({**written, name: None}, "policy") as fields:
                type(policy).read(fields)
            fewer = {key: value for key, value in written.items() if key != name}
            with pytest.raises(MalformedError), Fields(fewer, "policy") as fields:
                type(policy).read(fields)


@pytest.mark.parametrize(
    "change",
    [
        {"architectures": ["ls10"]},
        {"architectures": []},
        {"architectures": ["hopper", "hopper"]},
        {"driver_floors": ["590"]},
        {"driver_floors": "all"},
        {"modes": ["devtools"]},
        {"chips": ["XY"]},
        {"rim": "never"},
    ],
)
def test_values_out_of_range_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(MalformedError), Fields({**STRICT.to_json(), **change}, "policy") as fields:  # type: ignore[dict-item]
        NvidiaGpuPolicy.read(fields)


@pytest.mark.parametrize(
    "told",
    [
        {"gpus": [], "switches": [4], "topology": "none"},
        {"gpus": [True], "switches": [4], "topology": "none"},
        {"gpus": [25], "switches": [4], "topology": "none"},
        {"gpus": [8, 8], "switches": [4], "topology": "none"},
        {"gpus": [8, 1], "switches": [4], "topology": "8x4"},
    ],
)
def test_counts_that_make_no_sense_are_refused(told: dict[str, object]) -> None:
    with pytest.raises(MalformedError), Fields(told, "policy") as fields:  # type: ignore[arg-type]
        NvidiaDevicesPolicy.read(fields)


@pytest.mark.parametrize(
    ("version", "floor", "ok"),
    [
        ("590.12", "590.12", True),
        ("590.100", "590.12", True),
        ("590.9", "590.12", False),
        ("580.95.05.1", "580.95.05", True),
        ("595.1", "590.12", False),
        ("96.00.5E.00.01", "96.00.A5.00.01", False),
        ("96.00.B0.00.00", "96.00.A5.00.01", True),
        ("", "590.12", False),
        ("590.12-beta", "590.12", False),
    ],
)
def test_versions_are_compared_within_their_branch(version: str, floor: str, *, ok: bool) -> None:
    assert at_or_above(version, (floor,)) is ok
