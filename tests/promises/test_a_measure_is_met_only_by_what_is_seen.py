"""Each automatic check has cases in which its control is off, and in each of them the measure isn't met any more."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.access.policy import Factor
from strongroom.access.request import Action
from strongroom.assurance.attack_results import LayerTrial, Outcome
from strongroom.assurance.checks.every import CHECKS
from strongroom.assurance.findings import State
from strongroom.assurance.judging import judge
from strongroom.assurance.thresholds import LEAST, Thresholds
from strongroom.attestation.isolation import IsolationClass
from strongroom.core.clock import Instant
from strongroom.core.errors import TamperedError
from strongroom.core.events import EventName
from strongroom.detection.cases import Failure
from strongroom.detection.wiring import shipped_pack
from strongroom.egress.bits import Output
from strongroom.framework.catalogue import load
from strongroom.framework.ids import MeasureId
from strongroom.framework.levels import SecurityLevel
from support.assessing import CPU, DAY, NOW, PASSWD, SHADOW, TCP, World, attack, words

Off = Callable[[World], object]


def fact(collector: str, **facts: object) -> Off:
    """Have a collector that asks another process see something else."""
    return lambda world: world.more[collector].update(facts)  # type: ignore[arg-type]


def files(**changed: str | None) -> Off:
    """Change files of the host; `/` is written `__`, `.` is written `_dot_`."""
    return lambda world: world.files.update(
        {name.replace("__", "/").replace("_dot_", ".").replace("_dash_", "-"): text for name, text in changed.items()}
    )


def clear(world: World) -> None:
    """Leave a copy in the clear beside the sealed one, under a name that says nothing."""
    header = b'{"w":{"dtype":"F32","shape":[65536],"data_offsets":[0,262144]}}'
    path = world.folder / "weights" / "notes.txt"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(262144))


def stray(world: World) -> None:
    """A sealed copy of a version that the log doesn't know."""
    world.log.manifests.clear()


def scattered(world: World) -> None:
    """Keep copies in more places than a model needs."""
    world.copies = [
        world.sealed,
        *(shutil.copytree(world.sealed, world.folder / f"place-{n}/sealed") for n in range(3)),
    ]


def stripped(world: World) -> None:
    """Put plain bytes where a sealed object was."""
    next(path for path in world.sealed.rglob("*.sealed")).write_bytes(b"plain" * 4096)


def event(name: EventName, at: Instant | None) -> Off:
    """Have an event of the log be older, or never have come."""

    def change(world: World) -> None:
        world.log.last.pop(name)
        if at is not None:
            world.log.last[name] = at

    return change


def counted(name: EventName) -> Off:
    """Have the log say that something happened that never should."""
    return lambda world: world.log.counts.update({name: 1})


def suite(**members: object) -> Off:
    """Have the attack suite's report say something else."""

    def change(world: World) -> None:
        assert world.run is not None
        world.run = replace(world.run, **members)  # type: ignore[arg-type]

    return change


def layers(count: int) -> Off:
    """Leave so many layers that hold alone; one more leans on others."""
    independent = tuple(LayerTrial(layer=f"layer-{n}", stopped=("a",), passed=()) for n in range(count))
    return suite(trials=(*independent, LayerTrial(layer="crutch", stopped=("a",), passed=("a",))))


def left_out(world: World) -> None:
    """Have one more layer's trial break off, or find nothing to try: nothing is known of what it alone stops."""
    assert world.run is not None
    untold = LayerTrial(layer="untold", stopped=(), passed=())
    world.run = replace(world.run, trials=(*world.run.trials, untold))


def planned(**members: object) -> Off:
    """Have the plan be otherwise."""

    def change(world: World) -> None:
        assert world.plan is not None
        world.plan = replace(world.plan, **members)  # type: ignore[arg-type]

    return change


def document(name: str) -> Off:
    """Have a document not be in force."""
    return lambda world: setattr(world, "seen", replace(world.seen, **{name: None}))  # type: ignore[arg-type]


def standing(**members: object) -> Off:
    """Have sam stand otherwise."""
    return lambda world: world.person("sam", **members)


def broken(world: World) -> None:
    """Have the log not verify."""
    world.broken = TamperedError("an entry was edited", reason="entry-edited")


def witnesses(**members: object) -> Off:
    """Have the witnesses' word be otherwise."""
    return lambda world: setattr(world, "witnesses", replace(world.witnesses, **members))  # type: ignore[arg-type]


def rules(**members: object) -> Off:
    """Have every rule ask for less."""
    return lambda world: world.rules(**members)


def terms(**members: object) -> Off:
    """Have the model's terms ask for less."""
    return lambda world: world.terms(**members)


def egress(**members: object) -> Off:
    """Have the egress policy let more out."""
    return lambda world: world.egress(**members)


def unfounded(world: World) -> None:
    """Have an act in the log follow from nothing."""
    from strongroom.release.chronicle import Finding  # noqa: PLC0415 - another `Finding` than assessment's

    world.log.chronicle.findings.append(Finding(index=7, code="act-unfounded", message="no grant"))


LONE = rules(factors=())
ONE_APPROVER = rules(factors=(Factor(role="approver-security", count=1),))
SOFT = rules(hardware=False)
EXPORTED = terms(export=True)
WEAK = terms(least_isolation=IsolationClass.PROCESS.value)
NO_KEY = standing(hardware_keys=0)
UNVETTED = standing(vetted_until=NOW - 1)
BOTH = standing(roles=("requester", "approver-security"))
NO_POLICY = document("policy")
NO_EGRESS = document("egress")
NO_VALUES = document("reference")
NO_PROVIDER = fact("access.login", provider=False)
LOCAL = fact("keys.provider", services=("tpm", "local"))
IDLE: Off = lambda world: setattr(  # noqa: E731 - a table of changes
    world,
    "seen",
    replace(
        world.seen,
        grants=tuple(replace(one, issued=NOW - 40 * DAY, last_used=None) for one in world.seen.grants),
    ),
)
OVER: Off = lambda world: setattr(  # noqa: E731
    world, "seen", replace(world.seen, caps=tuple(replace(one, people=101) for one in world.seen.caps))
)
LAPTOP = files(sys__class__dmi__id__chassis_type="10\n")
PENDING: Off = lambda world: world.programs.update(  # noqa: E731
    {"apt-get": "Inst openssl [3.0] (3.1 Debian-Security:12/stable-security [amd64])\n"}
)
NO_LISTS: Off = lambda world: world.files.update({"var/lib/apt/lists/debian-security_Packages": None})  # noqa: E731
SPECTRE = files(sys__devices__system__cpu__vulnerabilities__spectre_v2="Vulnerable\n")
NO_AGENT = files(proc__17__comm="bash\n")
PLAIN_HTTP = fact("network.broker", plaintext_refused=False)
ANONYMOUS = fact("network.broker", anonymous_refused=False)
SILENT = fact("detection.responder", running=False)
NO_RULES: Off = lambda world: world.failed.extend(Failure(one.id, "story 1") for one in shipped_pack().every)  # noqa: E731
SIMULATED: Off = lambda world: world.platforms(IsolationClass.VM_SIMULATED)  # noqa: E731

OFF: Mapping[str, tuple[Off, ...]] = {
    "SL1-WST-01": (clear, EXPORTED),
    "SL1-WST-02": (clear, stripped, fact("network.broker", cipher_bits=64)),
    "SL2-WST-01": (clear, stripped, LAPTOP),
    "SL2-WST-02": (stripped, LOCAL, NO_POLICY, fact("keys.memory", walls=False)),
    "SL2-WTU-01": (PLAIN_HTTP, fact("network.broker", older_refused=False), fact("network.broker", version="TLSv1.2")),
    "SL3-WST-01": (EXPORTED, scattered),
    "SL3-WST-03": (files(proc__cpuinfo=CPU.replace("aes", "aes hypervisor")),),
    "SL4-WTU-01": (WEAK, SIMULATED, lambda world: world.platforms(IsolationClass.CVM_GPU), NO_VALUES),
    "SL5-WAC-01": (terms(recoverable=True),),
    "SL1-WAC-01": (NO_POLICY, LONE, lambda world: (world.folder / "home/keeper").chmod(0o755)),
    "SL2-WAC-01": (SOFT, NO_KEY, UNVETTED),
    "SL3-WAC-01": (ONE_APPROVER, LONE, rules(max_window=30 * DAY), OVER),
    "SL5-WPH-02": (LONE, lambda world: setattr(world, "seen", replace(world.seen, root_threshold=1))),
    "SL4-NSC-01": (WEAK, NO_VALUES, EXPORTED),
    "SL4-NHW-02": (SIMULATED, NO_VALUES),
    "SL2-NHW-02": (lambda world: world.platforms(IsolationClass.NONE),),
    "SL3-NST-02": (SIMULATED, NO_VALUES, WEAK),
    "SL1-NAC-01": (BOTH, UNVETTED, IDLE),
    "SL1-NAC-02": (files(etc__passwd=PASSWD + "twin:x:1000:1000::/home/twin:/bin/bash\n"),),
    "SL1-NAC-03": (
        files(etc__security__pwquality_dot_conf="minlen = 6\n"),
        files(etc__shadow=SHADOW.replace("$y$j9T$x$y", "")),
    ),
    "SL2-NAC-01": (
        files(etc__security__pwquality_dot_conf="minlen = 12\n"),
        files(etc__ssh__sshd_config="PasswordAuthentication yes\n"),
    ),
    "SL4-NAC-01": (LOCAL, NO_KEY, files(etc__ssh__sshd_config="# nothing is said\n")),
    "SL1-NAC-04": (NO_KEY, SOFT),
    "SL1-NAC-05": (NO_PROVIDER,),
    "SL1-NAC-07": (NO_PROVIDER, fact("access.login", provisioned=False)),
    "SL1-NST-01": (NO_PROVIDER, ANONYMOUS),
    "SL2-NAC-03": (
        ANONYMOUS,
        lambda world: world.files.update(
            {
                "etc/passwd": PASSWD + "guest:x:1001:1001::/home/guest:/bin/bash\n",
                "etc/shadow": SHADOW + "guest:$y$x:19000:0:99999:7:::\n",
            }
        ),
    ),
    "SL2-NAC-04": (event(EventName.ACCESS_REVIEWED, NOW - 200 * DAY), event(EventName.ACCESS_REVIEWED, None), IDLE),
    "SL3-PAT-01": (rules(courses=()),),
    "SL4-PFM-01": (standing(unit=""), UNVETTED, EXPORTED),
    "SL3-WPI-01": (NO_EGRESS, egress(lifetime_permille=500, model_day_bits=10**9, principal_day_bits=10**8), EXPORTED),
    "SL3-WPI-03": (NO_EGRESS, EXPORTED, counted(EventName.EXPORTED)),
    "SL3-AOP-01": (NO_EGRESS, egress(model_day_bits=10**12, principal_day_bits=10**12)),
    "SL4-WST-03": (NO_EGRESS, egress(lifetime_permille=900, model_day_bits=10**10), counted(EventName.EGRESS_BREACHED)),
    "SL4-AOP-01": (egress(outputs=(Output.TOKENS, Output.VALUES)), NO_EGRESS),
    "SL4-WMO-01": (
        terms(level=SecurityLevel.SL3),
        lambda world: setattr(world, "seen", replace(world.seen, root_threshold=1)),
    ),
    "SL3-NST-01": (NO_POLICY, NO_EGRESS, NO_VALUES),
    "SL1-WAC-02": (broken, unfounded),
    "SL2-WMO-01": (broken, unfounded, witnesses(named=False), witnesses(quorum=False), witnesses(age_seconds=9000)),
    "SL2-WMO-02": (
        stray,
        clear,
        fact("copies.register", unlooked=("/mnt/old",)),
        fact("copies.register", troubled=("copy: lost",)),
    ),
    "SL3-WMO-02": (
        SILENT,
        fact("detection.responder", sensors=()),
        NO_EGRESS,
        lambda world: setattr(world.log, "drilled", None),
        lambda world: setattr(world.log, "drilled", NOW - 200 * DAY),
        lambda world: world.log.incidents.update({"i-1": NOW - 40 * DAY}),
    ),
    "SL4-WMO-03": (SILENT, NO_RULES, fact("detection.responder", sensors=("falco",))),
    "SL3-WMO-03": (SILENT, NO_RULES, NO_EGRESS),
    "SL3-WMO-05": (fact("code.self", verified=False), NO_VALUES),
    "SL4-NSC-02": (fact("code.self", provenance=False), fact("code.self", dependencies=False)),
    "SL4-WMO-02": (broken, witnesses(named=False)),
    "SL3-TDR-01": (SILENT, fact("detection.responder", decoys=0), fact("detection.responder", record_whole=False)),
    "SL2-NST-04": (SILENT, fact("detection.responder", sensors=())),
    "SL1-NAC-06": (
        event(EventName.BACKUP_MADE, NOW - 60 * DAY),
        event(EventName.BACKUP_MADE, None),
        event(EventName.BACKUP_MADE, NOW + DAY),
    ),
    "SL2-NCM-02": (event(EventName.ASSESSMENT_RECORDED, NOW - 9 * DAY), event(EventName.ASSESSMENT_RECORDED, None)),
    "SL3-ARA-01": (
        lambda world: setattr(world, "plan", None),
        planned(reviewed=NOW - 200 * DAY),
        planned(reviewed=NOW + 1),
    ),
    "SL4-ART-01": (
        suite(results=(attack("self-approval", Outcome.UNBLOCKED),)),
        suite(results=()),
        suite(results=(attack("self-approval"), attack("probe-network"))),
        suite(at=NOW - 60 * DAY),
        suite(results=(*(attack(f"attack-{n}") for n in range(60)), attack("b", Outcome.BROKEN))),
    ),
    "SL4-ARA-01": (
        suite(results=(attack("self-approval"),)),
        suite(results=(attack("probe-network", Outcome.UNBLOCKED),)),
        suite(at=NOW - 60 * DAY),
    ),
    "SL3-WMO-01": (
        event(EventName.INTAKE_REVIEWED, NOW - 400 * DAY),
        event(EventName.INTAKE_REVIEWED, None),
        event(EventName.DROP_REVIEWED, NOW - 400 * DAY),
        event(EventName.DROP_REVIEWED, None),
    ),
    "SL5-MNT-01": (
        rules(action=Action.BREAK_GLASS),
        document("policy"),
        suite(results=(attack("self-approval", Outcome.UNBLOCKED),)),
        suite(results=(attack("self-approval"),)),
        suite(at=NOW - 60 * DAY),
    ),
    "SL3-OOP-01": (layers(1), layers(2), left_out, suite(results=(attack("self-approval"),))),
    "SL4-OOP-04": (layers(3), left_out),
    "SL5-OOP-01": (layers(7), left_out),
    "SL1-NSW-01": (PENDING, NO_LISTS, files(run__reboot_dash_required="")),
    "SL2-NSW-01": (PENDING, files(proc__cpuinfo=CPU.replace("microcode", "other"))),
    "SL3-NSW-01": (PENDING, files(etc__apt__apt_dot_conf_dot_d__20auto_dash_upgrades="")),
    "SL1-NHW-01": (
        files(sys__class__tpm__tpm0__present=None),
        lambda world: world.files.update(
            {"sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c": "\6\0\0\0\0"}
        ),
    ),
    "SL1-NHW-02": (SPECTRE, files(proc__cpuinfo=CPU.replace("smap", ""))),
    "SL1-NST-02": (lambda world: world.programs.update(nft="chain input { type filter hook input; policy accept; }"),),
    "SL1-NST-03": (NO_AGENT,),
    "SL2-PFM-01": (NO_AGENT, files(proc__18__comm="bash\n")),
    "SL2-NST-01": (
        lambda world: world.files.update({"sys/dev/block/253:0/dm/uuid": "LVM-x\n"}),
        lambda world: world.programs.update(dmsetup="0 100 crypt aes-xts-plain64 :32:logon:cryptsetup:abc 0 8:3 1"),
        files(proc__swaps="Filename Type\n/dev/sda2 partition 1000 0 -2\n"),
    ),
    "SL2-NST-02": (PLAIN_HTTP, files(proc__net__tcp=TCP.replace("20FB", "0017"))),
    "SL1-NCM-01": (files(usr__share__xsessions__gnome_dot_desktop=""),),
    "SL3-NSC-01": (files(usr__local__bin__miner=""),),
    "SL4-NSW-01": (lambda world: world.files.update({"etc/os-release": "ID=debian\n"}),),
    "SL4-WST-04": (
        files(sys__class__video4linux__video0__name="cam\n"),
        files(sys__class__net__wlan0__wireless__x=""),
        files(etc__modprobe_dot_d__usb_dot_conf=""),
    ),
    "SL2-MNT-01": (PENDING, SPECTRE, lambda world: setattr(world, "synchronised", False)),
}
CASES = [(measure, number) for measure, changes in OFF.items() for number in range(len(changes))]


def test_every_check_has_a_case_in_which_its_control_is_off() -> None:
    assert OFF.keys() == CHECKS.keys()
    assert len(CHECKS) >= 40


def test_every_check_is_met_where_nothing_is_wanting(tmp_path: Path) -> None:
    found = World(tmp_path).findings()
    assert {name: finding.why for name, finding in found.items() if name in CHECKS and not finding.state.holds} == {}


@pytest.mark.parametrize(("measure", "number"), CASES)
def test_a_control_that_is_off_isnt_met(tmp_path: Path, measure: str, number: int) -> None:
    world = World(tmp_path)
    OFF[measure][number](world)
    finding = world.findings()[MeasureId(measure)]
    assert finding.state in {State.NOT_MET, State.PARTLY}, finding
    assert finding.step is not None


def test_where_nobody_reads_what_comes_in_or_goes_out_it_isnt_even_partly_so(tmp_path: Path) -> None:
    world = World(tmp_path)
    for name in (EventName.INTAKE_REVIEWED, EventName.DROP_REVIEWED):
        event(name, None)(world)
    assert world.findings()[MeasureId("SL3-WMO-01")].state is State.NOT_MET


def test_nothing_is_met_by_what_wasnt_seen(tmp_path: Path) -> None:
    world = World(tmp_path)
    looks, whole = world.observations(), world.findings()
    looked = {one.digest: one.collector for one in looks}
    for collector in sorted(set(looked.values())):
        rest = [one for one in looks if one.collector != collector]
        found = judge(rest, words(), load(), limits=world.limits, now=NOW)
        resting = {name for name in CHECKS if collector in {looked[digest] for digest in whole[name].observations}}
        assert resting, f"no measure rests on `{collector}`"
        assert {found[name].state for name in resting} == {State.NOT_ASSESSED}


def test_nothing_is_met_by_what_expired_or_is_of_the_future(tmp_path: Path) -> None:
    looks = World(tmp_path).observations()
    for now in (NOW - 1, max(one.expires for one in looks)):
        found = judge(looks, words(), load(), limits=Thresholds(), now=now)
        assert {found[name].state for name in CHECKS} == {State.NOT_ASSESSED}


def test_one_weaker_copy_defeats_the_measure(tmp_path: Path) -> None:
    world = World(tmp_path)
    looks = world.observations()
    sealed = next(one for one in looks if one.collector == "sealing.copy")
    weaker = replace(sealed, subject="copy:/mnt/old", facts={**sealed.facts, "cipher_bits": 128})
    found = judge([*looks, weaker], words(), load(), limits=world.limits, now=NOW)
    assert found[MeasureId("SL2-WST-02")].state is State.NOT_MET
    assert "copy:/mnt/old" in found[MeasureId("SL2-WST-02")].why


@pytest.mark.parametrize("measure", sorted(name for name, check in CHECKS.items() if check.left))
def test_what_software_cant_see_is_attested_or_partly(tmp_path: Path, measure: MeasureId) -> None:
    finding = World(tmp_path).findings(attested=False)[measure]
    assert finding.state is State.PARTLY
    assert CHECKS[measure].left in finding.why


def test_a_loosened_threshold_satisfies_nothing(tmp_path: Path) -> None:
    default = Thresholds()
    for name, value in default.to_json().items():
        assert isinstance(value, int)
        looser = value - 1 if name in LEAST else value + 1
        world = World(tmp_path / name, limits=replace(default, **{name: looser}))
        found = world.findings()
        hit = [one for one in found.values() if name in one.why]
        assert hit, name
        assert {one.state for one in hit} == {State.PARTLY}
        tighter = World(tmp_path / f"{name}-tight", limits=replace(default, **{name: value + (name in LEAST)}))
        assert all(name not in one.why for one in tighter.findings().values())
