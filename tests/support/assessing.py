"""A deployment and a host in which every automatic check holds, and everything about them that a test can turn off.

The host is a tree of files that the real collector reads; documents and people are the real types; sealed weights are
sealed. So a test turns a control off where the collector finds it, not in what the collector made of it.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from simulators.attester import APPRAISAL
from strongroom.access.policy import Factor, ModelTerms, Policy, Rule
from strongroom.access.request import Action
from strongroom.assessor.adapters.host import Host
from strongroom.assessor.adapters.host_looks import host_looks
from strongroom.assessor.adapters.places import place_looks
from strongroom.assessor.collecting import Look, observe
from strongroom.assessor.deployment import DeploymentSeen, PlatformSeen, looks
from strongroom.assessor.logged import LogFold, WitnessesSeen, broken_log
from strongroom.assessor.proofs import attack_looks, pack_look, plan_look
from strongroom.assurance.attack_results import AttackResult, AttackRun, LayerTrial, Outcome
from strongroom.assurance.checks.every import CHECKS
from strongroom.assurance.findings import Finding
from strongroom.assurance.judging import judge
from strongroom.assurance.observations import Fact, Observation
from strongroom.assurance.plan import SecurityPlan
from strongroom.assurance.statements import Attested, Claim, Statement
from strongroom.assurance.thresholds import Thresholds
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.measurement import launch_measurements
from strongroom.attestation.reference_values import ReferenceImage, ReferenceValues
from strongroom.client.keys_shown import EpochShown, KekShown, KeysShown
from strongroom.client.state import CapUse, PersonStanding
from strongroom.client.told import GrantShown
from strongroom.core.digest import Digest
from strongroom.core.errors import TamperedError
from strongroom.core.events import EventName
from strongroom.core.ids import ImageId, ModelId, PersonId
from strongroom.detection.cases import Failure
from strongroom.detection.wiring import shipped_pack
from strongroom.egress.policies import EgressPolicies
from strongroom.egress.policy import EgressPolicy
from strongroom.framework.catalogue import load
from strongroom.framework.ids import MeasureId
from strongroom.framework.levels import OperationalCapacity, SecurityLevel
from strongroom.keys.states import KeyState
from strongroom.personnel.roster import Person, Roster
from support.deployment import signer
from support.sealed import seal_model, write_model

NOW = 1_800_000_000
DAY = 86400
GENESIS = Digest.of(b"genesis of the assessed deployment")
MODEL = ModelId("atlas")
PEOPLE = {
    "dana": ("research", ("requester",)),
    "sam": ("security", ("approver-security",)),
    "rina": ("ethics", ("approver-research",)),
}
PASSWD = """root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
ops:x:1000:1000::/home/ops:/bin/bash
"""
SHADOW = "root:*:19000:0:99999:7:::\nops:$y$j9T$x$y:19000:0:99999:7:::\n"
CPU = "processor\t: 0\nmicrocode\t: 0xa0011d5\nflags\t\t: fpu nx smep smap aes\n"
TCP = """  sl  local_address rem_address   st tx_queue rx_queue
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000
   1: 00000000:20FB 00000000:0000 0A 00000000:00000000
   2: 00000000:0050 00000000:0000 01 00000000:00000000
"""
HOST: Mapping[str, str] = {
    "etc/passwd": PASSWD,
    "etc/shadow": SHADOW,
    "etc/os-release": 'NAME="Bottlerocket"\nID=bottlerocket\n',
    "etc/pam.d/common-password": "password requisite pam_pwquality.so retry=3\n",
    "etc/security/pwquality.conf": "# minlen = 4\nminlen = 16\n",
    "etc/ssh/sshd_config": "#PasswordAuthentication yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n",
    "etc/apt/apt.conf.d/20auto-upgrades": 'APT::Periodic::Unattended-Upgrade "1";\n',
    "etc/modprobe.d/usb.conf": "install usb-storage /bin/false\n",
    "proc/cpuinfo": CPU,
    "proc/swaps": "Filename Type Size Used Priority\n/dev/zram0 partition 1000 0 -2\n",
    "proc/sys/kernel/core_pattern": "core\n",
    "proc/sys/kernel/yama/ptrace_scope": "2\n",
    "proc/net/tcp": TCP,
    "proc/net/tcp6": "  sl  local_address\n",
    "proc/1/comm": "systemd\n",
    "proc/17/comm": "falco\n",
    "proc/18/comm": "auditd\n",
    "sys/devices/system/cpu/vulnerabilities/meltdown": "Not affected\n",
    "sys/devices/system/cpu/vulnerabilities/spectre_v2": "Mitigation: Retpolines\n",
    "sys/class/tpm/tpm0/present": "1\n",
    "sys/class/dmi/id/chassis_type": "23\n",
    "sys/class/net/eth0/address": "02:00:00:00:00:01\n",
    "sys/bus/usb/devices/usb1/product": "xHCI\n",
    "sys/kernel/security/lockdown": "none [integrity] confidentiality\n",
    "sys/dev/block/253:0/dm/uuid": "CRYPT-LUKS2-abc-root\n",
    "sys/dev/block/253:0/dm/name": "root\n",
    "var/lib/dpkg/status": "Package: bash\nStatus: install ok installed\n",
    "var/lib/apt/lists/debian-security_Packages": "",
    "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c": "\6\0\0\0\1",
}
PROGRAMS: Mapping[str, str] = {
    "apt-get": "Reading package lists...\nInst tzdata [1] (2 Debian:12/stable [all])\n",
    "dmsetup": "0 100 crypt aes-xts-plain64 :64:logon:cryptsetup:abc 0 8:3 32768\n",
    "nft": "table inet filter {\n chain input {\n  type filter hook input priority 0; policy drop;\n }\n}\n",
}


def rule(action: Action) -> Rule:
    """Return a rule that asks for everything."""
    return Rule(
        action=action,
        level=SecurityLevel.SL4,
        requester_role="requester",
        factors=(Factor(role="approver-security", count=1), Factor(role="approver-research", count=1)),
        requester_tier=3,
        approver_tier=3,
        max_window=DAY,
        max_uses=1,
        hardware=True,
        nda=True,
        courses=("weights-handling",),
    )


def deployment() -> DeploymentSeen:
    """Return a deployment in which nothing is wanting."""
    policy = Policy(
        genesis=GENESIS,
        epoch=1,
        predecessor=None,
        cedar="",
        rules=(rule(Action.OPEN_IN_ENCLAVE), rule(Action.EXPORT_PLAINTEXT)),
        models=(
            ModelTerms(
                model=MODEL,
                level=SecurityLevel.SL4,
                least_isolation=IsolationClass.CVM_GPU_CUSTODY.value,
                recoverable=False,
            ),
        ),
    )
    people = tuple(
        Person(id=PersonId(name), org=org, active=True, roles=frozenset(roles), keys=(signer(name).public_key,))
        for name, (org, roles) in PEOPLE.items()
    )
    template = EgressPolicy.template(MODEL, parameters=10**11, vocabulary=128_000)
    limits = replace(template, lifetime_permille=5, workspace_year_permille=1, workspace_person_bits=1000)
    measured = launch_measurements(
        interpreter=Digest.of(b"i"),
        files=Digest.of(b"f"),
        command=Digest.of(b"c"),
        sandbox=Digest.of(b"s"),
        genesis=GENESIS,
    )
    return DeploymentSeen(
        root_holders=3,
        root_threshold=2,
        policy=policy,
        roster=Roster(genesis=GENESIS, epoch=1, predecessor=None, people=people),
        egress=EgressPolicies(genesis=GENESIS, epoch=1, predecessor=None, policies=(limits,)),
        reference=ReferenceValues(
            genesis=GENESIS,
            epoch=1,
            images=(ReferenceImage.launched(ImageId("server"), measured),),
            anchors=(),
            appraisal=APPRAISAL,
            not_after=NOW + 90 * DAY,
        ),
        standings=tuple(standing(name, org, roles) for name, (org, roles) in PEOPLE.items()),
        caps=(CapUse(access="output", people=3, cap=100), CapUse(access="copy", people=0, cap=20)),
        grants=(
            GrantShown(
                grant=Digest.of(b"grant"),
                requester=PersonId("dana"),
                model=MODEL,
                access="output",
                issued=NOW - DAY,
                expires=NOW + DAY,
                uses=1,
                last_used=NOW - 60,
                live=True,
            ),
        ),
        keys=KeysShown(
            generation=1,
            since=NOW - DAY,
            epochs=(EpochShown(epoch=1, escrowed=False, state=KeyState.ACTIVE, created=NOW - DAY),),
            keks=(
                KekShown(
                    model=MODEL,
                    kek="k",
                    epoch=1,
                    escrowed=False,
                    state=KeyState.ACTIVE,
                    created=NOW - DAY,
                    data_keys=1,
                ),
            ),
        ),
        platforms=(PlatformSeen(platform="sev-snp-1", isolation=IsolationClass.CVM_GPU_CUSTODY, custody=True),),
    )


def standing(name: str, org: str, roles: Sequence[str]) -> PersonStanding:
    """Return a person who may act."""
    return PersonStanding(
        person=PersonId(name),
        kind="human",
        unit=org,
        roles=tuple(roles),
        active=True,
        suspended=False,
        tier=3,
        vetted_until=NOW + DAY,
        serial=1,
        hardware_keys=2,
    )


def attack(name: str, outcome: Outcome = Outcome.BLOCKED) -> AttackResult:
    """Return an attack that was executed."""
    blocked = outcome is Outcome.BLOCKED
    return AttackResult(
        attack=name,
        title=name,
        vectors=(),
        capacity=OperationalCapacity.OC1,
        outcome=outcome,
        refusal="denied" if blocked else "",
        detected=blocked,
        signal="release:request:refused" if blocked else "",
        measures=(MeasureId("SL4-ARA-01"),) if name.startswith("probe") else (),
        layers=(),
        micros=100,
    )


def suite() -> AttackRun:
    """Return a run in which nothing got through, and eight layers hold alone."""
    return AttackRun(
        at=NOW - DAY,
        version="1",
        live=False,
        results=(attack("self-approval"), attack("probe-network"), *(attack(f"attack-{n}") for n in range(58))),
        trials=tuple(LayerTrial(layer=f"layer-{n}", stopped=("self-approval",), passed=()) for n in range(8)),
    )


def plan() -> SecurityPlan:
    """Return a plan that was just reviewed."""
    return SecurityPlan(
        genesis=GENESIS, serial=1, reviewed=NOW - DAY, goal=SecurityLevel.SL1, assets=(), actors=(), tasks=()
    )


@cache
def _pack(failed: tuple[Failure, ...]) -> Look:
    return pack_look(shipped_pack(), failed, load())


@cache
def _sealed_once() -> tuple[Path, Digest]:
    folder = Path(tempfile.mkdtemp(prefix="sealed-once-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    sealed = seal_model(write_model(folder / "plain"), folder / "sealed")
    return folder / "sealed", sealed.manifest.digest


def _seal(target: Path) -> Digest:
    source, digest = _sealed_once()
    shutil.copytree(source, target)
    return digest


@dataclass
class World:
    """Everything that the collectors look at, good until a test says otherwise."""

    folder: Path
    seen: DeploymentSeen = field(default_factory=deployment)
    log: LogFold = field(default_factory=LogFold)
    broken: TamperedError | None = None
    witnesses: WitnessesSeen = field(default_factory=lambda: WitnessesSeen(named=True, quorum=True, age_seconds=60))
    run: AttackRun | None = field(default_factory=suite)
    plan: SecurityPlan | None = field(default_factory=plan)
    failed: list[Failure] = field(default_factory=list)
    files: dict[str, str | None] = field(default_factory=dict)
    """Files of the host that are otherwise; None takes one away."""
    programs: dict[str, str | None] = field(default_factory=dict)
    synchronised: bool | None = True
    device: str = "253:0"
    more: dict[str, dict[str, Fact]] = field(
        default_factory=lambda: {
            "access.login": {"provider": True, "provisioned": True},
            "keys.provider": {"services": ("tpm", "pkcs11")},
            "keys.memory": {"walls": True, "hidden": True},
            "network.broker": {
                "version": "TLSv1.3",
                "cipher_bits": 256,
                "older_refused": True,
                "anonymous_refused": True,
                "plaintext_refused": True,
            },
            "detection.responder": {
                "running": True,
                "decoys": 2,
                "sensors": ("falco", "auditd"),
                "record_whole": True,
            },
            "copies.register": {"copies": 1, "unlooked": (), "troubled": ()},
            "code.self": {"verified": True, "provenance": True, "dependencies": True},
        }
    )
    limits: Thresholds = field(default_factory=Thresholds)
    copies: list[Path] = field(default_factory=list)
    """Every sealed directory."""

    def __post_init__(self) -> None:
        self.log.last = dict.fromkeys(
            (
                EventName.BACKUP_MADE,
                EventName.ACCESS_REVIEWED,
                EventName.ASSESSMENT_RECORDED,
                EventName.INTAKE_REVIEWED,
                EventName.DROP_REVIEWED,
            ),
            NOW - DAY,
        )
        self.log.newest, self.log.size, self.log.drilled = NOW - 10, 40, NOW - DAY
        self.sealed = self.folder / "weights" / "sealed"
        self.sealed.parent.mkdir(parents=True)
        self.log.manifests.add(_seal(self.sealed))
        self.copies = [self.sealed]
        (self.folder / "home" / "keeper").mkdir(parents=True, mode=0o700)
        (self.folder / "home" / "keeper" / "keyring.json").touch(mode=0o600)

    # --- the parts that tests change ---------------------------------------------------------------------------------

    def policy(self, **members: object) -> None:
        """Change the policy."""
        assert self.seen.policy is not None
        self.seen = replace(self.seen, policy=replace(self.seen.policy, **members))  # type: ignore[arg-type]

    def terms(self, **members: object) -> None:
        """Change the model's terms."""
        assert self.seen.policy is not None
        self.policy(models=tuple(replace(one, **members) for one in self.seen.policy.models))  # type: ignore[arg-type]

    def rules(self, **members: object) -> None:
        """Change every rule."""
        assert self.seen.policy is not None
        self.policy(rules=tuple(replace(one, **members) for one in self.seen.policy.rules))  # type: ignore[arg-type]

    def person(self, name: str, **members: object) -> None:
        """Change how somebody stands."""
        self.seen = replace(
            self.seen,
            standings=tuple(
                replace(one, **members) if one.person == name else one  # type: ignore[arg-type]
                for one in self.seen.standings
            ),
        )

    def egress(self, **members: object) -> None:
        """Change the model's egress policy."""
        assert self.seen.egress is not None
        policies = tuple(replace(one, **members) for one in self.seen.egress.policies)  # type: ignore[arg-type]
        self.seen = replace(self.seen, egress=replace(self.seen.egress, policies=policies))

    def platforms(self, isolation: IsolationClass, *, custody: bool = False) -> None:
        """Enrol a further platform: the others stay as they are."""
        more = PlatformSeen(platform="tpm-2", isolation=isolation, custody=custody)
        self.seen = replace(self.seen, platforms=(*self.seen.platforms, more))

    # --- what comes of it --------------------------------------------------------------------------------------------

    def host(self) -> Host:
        """Lay the host's files down, and return the collector that reads them."""
        root = self.folder / f"root-{len(list(self.folder.iterdir()))}"
        for name, text in {**HOST, **self.files}.items():
            if text is not None:
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text.encode("latin-1"))
        programs = {**PROGRAMS, **self.programs}
        return Host(
            name="vault-1",
            root=root,
            home=self.folder / "home",
            device=self.device,
            owner=os.geteuid(),
            run=lambda command: programs.get(command[0]),
            clock=lambda: self.synchronised,
        )

    def looks(self) -> list[Look]:
        """Run the collectors."""
        found = [*looks(self.seen, NOW), *host_looks(self.host())]
        found += [broken_log(self.broken)] if self.broken else self.log.looks(self.witnesses, NOW)
        found += place_looks(self.copies, [self.folder / "weights"], self.log.manifests)
        found += [
            *attack_looks(self.run, NOW, version="1"),
            plan_look(self.plan, (), NOW),
            _pack(tuple(self.failed)),
        ]
        return [*found, *(Look(collector=name, facts=facts) for name, facts in self.more.items())]

    def observations(self) -> list[Observation]:
        """Return what they saw."""
        return [observe(one, self.limits, NOW, log_index=40) for one in self.looks()]

    def findings(self, *, attested: bool = True) -> Mapping[MeasureId, Finding]:
        """Judge; ``attested`` adds a statement on whatever a check can't see."""
        return judge(self.observations(), words() if attested else (), load(), limits=self.limits, now=NOW)


def words() -> tuple[Attested, ...]:
    """Return a statement on whatever a check can't see."""
    return tuple(statement(measure) for measure, check in CHECKS.items() if check.left)


def statement(measure: MeasureId, claim: Claim = Claim.MET, **members: object) -> Attested:
    """Return a verified statement of sam's."""
    made = Statement(
        genesis=GENESIS,
        measure=measure,
        claim=claim,
        person=PersonId("sam"),
        text="it is so",
        scope="all sites",
        documents=(),
        at=NOW - DAY,
        expires=NOW + DAY,
    )
    return Attested(
        digest=Digest.of(f"{measure} {claim}".encode()),
        statement=replace(made, **members),  # type: ignore[arg-type]
        signers=(PersonId("sam"), PersonId("rina"))[: claim.signers],
    )
