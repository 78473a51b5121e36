"""An agent in a confidential machine proves itself by the chip's own statement, which its first process asks for.

The kernel's interface is played by a simulated tree; agent, first process, keeper and their channel are real.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from simulators.evidence_devices import FakeReports
from simulators.sev_snp_chain import Machine
from strongroom.attestation.adapters.configfs_tsm import TsmSource
from strongroom.attestation.bindings import Slot
from strongroom.attestation.errors import CollectionError
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.transcript import Binding
from strongroom.core.digest import Digest
from strongroom.core.errors import DeniedError, MalformedError, NotFoundError, StrongroomError, UsageError
from strongroom.core.ids import PlatformId
from strongroom.enclave.adapters.channel import Channel
from strongroom.enclave.agent.adapters.platform_voice import CHIP, ChipVoice, DistantChip, answer_for, platform_voice
from strongroom.enclave.agent.messages import Order
from strongroom.enclave.vm.adapters import machine_state
from strongroom.enclave.vm.guest import wiring as guest
from strongroom.keys.recipient import RecipientKey
from strongroom.release.delivery import accept
from strongroom.release.steps import ReleaseRefusedError
from support.deployment import MODEL
from support.room import counted_bytes
from support.snp_room import SnpRoom

# A connected pair of sockets stands between the agent and its machine's first process.
pytestmark = pytest.mark.integration


@contextmanager
def distant(reports: FakeReports) -> Iterator[DistantChip]:
    """Answer for a chip in a thread, as the first process does; yields the agent's side."""
    ours, theirs = socket.socketpair()
    inside, outside = Channel(ours), Channel(theirs)
    thread = threading.Thread(target=answer_for, args=(inside, TsmSource(counted_bytes, reports)), daemon=True)
    thread.start()
    assert outside.receive(timeout=60) == {"kind": "sev-snp"}
    with closing(inside), closing(DistantChip(outside, EvidenceKind.SEV_SNP)) as chip:
        yield chip
        chip.close()
        thread.join(60)
        assert not thread.is_alive()


class AgentRoom(SnpRoom):
    """A room whose enclave asks its chip as the agent does."""

    reports = FakeReports()
    asked = 0

    def evidence(self, binding: Binding, key: RecipientKey) -> Evidence:
        """Have the chip speak."""
        self.asked += 1
        with distant(replace(self.reports, machine=self.machine)) as chip:
            voice = ChipVoice(chip, self.platform_id)
            assert voice.platform == self.platform_id
            made = voice.evidence(binding.nonce, key.public, lambda devices: replace(binding, devices=devices))
        return Evidence.parse(made)


async def released(room: AgentRoom) -> None:
    await room.furnish()
    request, key = await room.ask(), RecipientKey()
    made = await room.keeper.release(await room.dossier(request, key))
    delivery, data_key = accept(made.delivery, room.genesis, key, request=request.digest, model=MODEL, version=1)
    data_key.wipe()
    assert delivery.use == 1


def test_the_keeper_releases_on_the_chips_word() -> None:
    room = AgentRoom()
    asyncio.run(released(room))
    assert room.asked == 1


def test_a_host_that_disturbs_the_kernels_interface_is_borne() -> None:
    room = AgentRoom()
    room.reports = FakeReports(disturbed=2)
    asyncio.run(released(room))


@pytest.mark.parametrize(
    "machine",
    [Machine(chip_id=b"\x07" * 64, certified_chip=b"\x07" * 64), Machine(policy=Machine().policy | 1 << 19)],
    ids=["another chip", "a debugged one"],
)
def test_another_machine_gets_no_key(machine: Machine) -> None:
    async def run() -> None:
        room = AgentRoom()
        await room.furnish()
        request, key = await room.ask(), RecipientKey()
        room.machine = machine
        with pytest.raises(ReleaseRefusedError):
            await room.keeper.release(await room.dossier(request, key))

    asyncio.run(run())


def test_what_the_kernel_refuses_is_told_to_the_agent() -> None:
    reports = FakeReports()
    with distant(reports) as chip:
        reports.failing["outblob"] = errno.EACCES
        with pytest.raises(CollectionError, match="configfs-tsm"):
            chip.statement({Slot.REPORT_DATA: bytes(64)})


@pytest.mark.parametrize("slots", [{}, {Slot.REPORT_DATA: bytes(63)}, {Slot.NONCE: bytes(32)}])
def test_a_statement_over_something_else_is_refused_and_the_channel_lives(slots: dict[Slot, bytes]) -> None:
    with distant(FakeReports()) as chip:
        with pytest.raises(StrongroomError):
            chip.statement(slots)
        assert chip.statement({Slot.REPORT_DATA: bytes(64)}).kind is EvidenceKind.SEV_SNP


def test_an_order_that_names_no_platform_is_refused() -> None:
    with distant(FakeReports()) as chip, pytest.raises(UsageError, match="must name the platform"):
        ChipVoice(chip, None)


def test_an_agent_with_neither_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    order = order_of(Digest.of(b"genesis"))
    with pytest.raises(NotFoundError, match="`tpm`"), platform_voice(order, ()):
        pass
    # With a chip's channel the TPM isn't asked for.
    ours, theirs = socket.socketpair()
    with closing(Channel(ours)) as inside:
        monkeypatch.setenv(f"STRONGROOM_FD_{CHIP.upper()}", str(theirs.detach()))
        inside.send({"kind": "tdx"}, timeout=60)
        with platform_voice(order, ()) as voice:
            assert voice.platform == "sev-snp-" + "1" * 64


@dataclass
class _Genesis:
    digest: Digest


def order_of(genesis: Digest) -> Order:
    return Order(
        genesis=_Genesis(genesis),  # type: ignore[arg-type]  # nothing but its digest is looked at
        request=genesis,
        model=MODEL,
        version=1,
        manifest=None,  # type: ignore[arg-type]  # not looked at
        sealed="/sealed",
        command=("python",),
        measurements=(),
        platform=PlatformId("sev-snp-" + "1" * 64),
    )


def test_a_chips_machine_takes_the_orders_of_the_deployment_that_was_measured_only() -> None:
    ours, other = Digest.of(b"ours"), Digest.of(b"other")
    chip = TsmSource(counted_bytes, FakeReports())
    guest._check_deployment(order_of(ours), ours.value, chip)
    guest._check_deployment(order_of(ours), None, None)
    for order, pinned, source, reason in (
        (ours, None, chip, "vm.not-pinned"),
        (other, ours.value, chip, "vm.another-deployment"),
        (other, ours.value, None, "vm.another-deployment"),
    ):
        with pytest.raises(DeniedError) as refused:
            guest._check_deployment(order_of(order), pinned, source)
        assert refused.value.reason == reason


def test_what_is_measured_of_the_command_line_is_read_strictly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = tmp_path / "cmdline"
    monkeypatch.setattr(machine_state, "_COMMAND_LINE", line)
    line.write_text(f"quiet strongroom.root={'1' * 64} strongroom.genesis={'2' * 64}\n")
    assert machine_state.root_hash() == bytes.fromhex("11" * 32)
    assert machine_state.pinned_genesis() == bytes.fromhex("22" * 32)
    line.write_text("quiet\n")
    assert machine_state.pinned_genesis() is None
    with pytest.raises(MalformedError):
        machine_state.root_hash()
    for words in ("strongroom.genesis=22", f"strongroom.genesis={'2' * 64} strongroom.genesis={'2' * 64}"):
        line.write_text(words)
        with pytest.raises(MalformedError):
            machine_state.pinned_genesis()
