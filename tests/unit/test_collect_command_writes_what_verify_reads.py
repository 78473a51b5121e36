"""`strongroom attestation collect` on machines that play a chip: what it writes is what `verify` reads and judges."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from simulators.evidence_devices import FakeNsm, FakeNvml, FakeReports
from strongroom.attestation.adapters.configfs_tsm import TsmSource
from strongroom.attestation.adapters.nsm import NsmDevice, NsmSource
from strongroom.attestation.adapters.nvml import NvmlDevices
from strongroom.attestation.recorded import read_file
from strongroom.cli import attestation_collect
from strongroom.cli.main import main

DATA = "ab" * 64


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has every interface."""
    device = tmp_path / "nsm"
    device.write_bytes(b"")
    monkeypatch.setattr(attestation_collect, "TsmSource", lambda names: TsmSource(names, FakeReports()))
    monkeypatch.setattr(attestation_collect, "NsmSource", lambda: NsmSource(NsmDevice(device, FakeNsm())))
    monkeypatch.setattr(attestation_collect, "NvmlDevices", lambda: NvmlDevices(FakeNvml(gpus=2)))


def collect(out: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["attestation", "collect", "--out", str(out), "--json", *arguments])


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        (("--from", "configfs-tsm", "--report-data", DATA), ["sev-snp"]),
        (("--from", "nsm", "--nonce", DATA, "--user-data", DATA), ["nitro"]),
        (("--from", "nvml", "--nonce", DATA[:64]), ["nvidia-gpu", "nvidia-gpu"]),
    ],
)
def test_what_is_collected_is_read_again(arguments: tuple[str, ...], kinds: list[str], tmp_path: Path) -> None:
    out = tmp_path / "evidence.json"
    told = collect(out, *arguments)
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["kinds"] == kinds
    assert [item.kind.value for item in read_file(out.read_bytes()).items] == kinds
    judged = CliRunner().invoke(main, ["attestation", "verify", str(out), "--unbound", "--policy", "strictest"])
    # A made-up maker's root is no vendor's: it must be refused here, and was read.
    assert judged.exit_code == 3
    assert "chain-refused" in judged.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("--from", "configfs-tsm"),
        ("--from", "configfs-tsm", "--report-data", "ab"),
        ("--from", "configfs-tsm", "--report-data", "xy"),
        ("--from", "configfs-tsm", "--report-data", DATA, "--nonce", DATA),
        ("--from", "nsm", "--nonce", DATA),
        ("--from", "nvml", "--nonce", DATA),
        ("--from", "nvml", "--report-data", DATA),
        ("--from", "tpm"),
    ],
)
def test_bytes_that_do_not_fit_write_nothing(arguments: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / "evidence.json"
    assert collect(out, *arguments).exit_code == 2
    assert not out.exists()


def test_no_file_is_written_over(tmp_path: Path) -> None:
    out = tmp_path / "evidence.json"
    out.write_text("kept")
    assert collect(out, "--from", "configfs-tsm", "--report-data", DATA).exit_code == 2
    assert out.read_text() == "kept"
