"""Fetching from makers' services, played on this machine: what comes is checked, and a service that lies is useless."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from simulators import nvidia_chain, sev_snp_chain
from simulators.intel_chain import FMSPC, intel_chain
from simulators.maker_services import MakerServices, Reply, gpu, published
from strongroom.attestation.adapters import fetch_http
from strongroom.attestation.adapters.fetch_http import (
    ATTEMPTS,
    MAX_ANSWER,
    MakerClient,
    MakerUnavailableError,
    NotPublishedError,
)
from strongroom.attestation.bundle.format import Bundle
from strongroom.attestation.collateral import CollateralKind
from strongroom.attestation.sev_snp.products import Product
from strongroom.cli.main import main
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError

pytestmark = pytest.mark.integration
TCB = sev_snp_chain.TCBS[Product.GENOA].hex()
CHAIN = "/vcek/v1/Genoa/cert_chain"


@pytest.fixture
def roots(tmp_path: Path) -> tuple[str, ...]:
    """Options that make the simulated roots believed."""
    made = nvidia_chain.maker()
    found = {
        "amd-sev": sev_snp_chain.authorities().ark.der,
        "intel-sgx": intel_chain().root.der,
        "nvidia-device": made.root.der,
        "nvidia-rim": made.rim_root.der,
    }
    options: list[str] = []
    for maker, der in found.items():
        (tmp_path / f"{maker}.der").write_bytes(der)
        options += ["--anchor", maker, str(tmp_path / f"{maker}.der")]
    return tuple(options)


def fetch(services: MakerServices, out: Path, *arguments: str) -> Result:
    words = ["attestation", "collateral", "fetch", "--out", str(out), *arguments, *services.options]
    return CliRunner().invoke(main, words)


def test_everything_that_evidence_takes(tmp_path: Path, roots: tuple[str, ...]) -> None:
    out = tmp_path / "bundle.json"
    files = {
        "snp.bin": sev_snp_chain.Machine().report(),
        "td.quote": intel_chain().td_quote(),
        "gpu.json": gpu_evidence(),
    }
    words: list[str] = []
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        words += ["--for", str(tmp_path / name)]
    with MakerServices() as services:
        result = fetch(services, out, *words, *roots)
    assert result.exit_code == 0, result.output
    names = [(read.item.kind, read.item.name) for read in Bundle.parse(out.read_bytes()).items]
    assert (CollateralKind.CERTIFICATE, f"genoa/vcek/{sev_snp_chain.chip().hex()}/{TCB}") in names
    assert (CollateralKind.REVOCATION_LIST, "CN=ARK-Genoa,O=Advanced Micro Devices,C=US,OU=Engineering") in names
    assert [name for kind, name in names if kind is CollateralKind.INTEL_TCB] == [f"{FMSPC.hex()}/platform"] * 2
    assert sum(kind is CollateralKind.NVIDIA_RIM for kind, _name in names) == 2
    # Three of the device, and the manifests' signer and its CA.
    assert sum(kind is CollateralKind.OCSP_ANSWER for kind, _name in names) == 5


def gpu_evidence() -> bytes:
    raw = nvidia_chain.report(gpu())
    item = {
        "arch": "HOPPER",
        "certificate": to_base64(gpu().bundle),
        "evidence": to_base64(raw),
        "nonce": raw[4:36].hex(),
    }
    return json.dumps([item]).encode()


def test_what_is_named_is_fetched(tmp_path: Path, roots: tuple[str, ...]) -> None:
    out = tmp_path / "bundle.json"
    with MakerServices() as services:
        result = fetch(
            *(services, out, "--amd", f"genoa/{sev_snp_chain.chip().hex()}/{TCB}", "--intel", FMSPC.hex()),
            *("--nvidia", "NV_GPU_DRIVER_GH100_590.12", "--json", *roots),
        )
        again = fetch(services, out, "--amd", "genoa", "--json", *roots)
    assert result.exit_code == again.exit_code == 0, result.output + again.output
    assert json.loads(result.stdout)["added"] == json.loads(again.stdout)["items"]
    assert json.loads(again.stdout)["added"] == json.loads(again.stdout)["replaced"] == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--nvidia", "NV_GPU_DRIVER_GH100_1.2"), "not-published"),
        (("--intel", "000000000000"), "not-published"),
        (("--amd", "milan"), "not-published"),
        (("--amd", "rome"), "usage"),
        (("--amd", "genoa/00/00"), "usage"),
        (("--intel", "zz"), "usage"),
        ((), "usage"),
    ],
)
def test_what_cannot_be_fetched_is_said(
    tmp_path: Path, roots: tuple[str, ...], words: tuple[str, ...], code: str
) -> None:
    with MakerServices() as services:
        result = fetch(services, tmp_path / "bundle.json", *words, "--json", *roots)
    assert json.loads(result.stdout)["code"] == code
    assert not (tmp_path / "bundle.json").exists()


def test_a_service_that_lies_is_useless(tmp_path: Path, roots: tuple[str, ...]) -> None:
    stranger = sev_snp_chain._authority("SEV-Genoa", None)

    def lying(asked: object) -> Reply:
        reply = published(asked)  # type: ignore[arg-type]  # handed on
        return Reply(body=stranger.der) if reply.body[:5] == b"-----" else reply

    with MakerServices(lying) as services:
        result = fetch(services, tmp_path / "bundle.json", "--amd", "genoa", "--json", *roots)
    assert json.loads(result.stdout)["code"] == "collateral-unproven"
    assert not (tmp_path / "bundle.json").exists()


def test_without_the_simulated_roots_nothing_comes_in(tmp_path: Path) -> None:
    with MakerServices() as services:
        result = fetch(services, tmp_path / "bundle.json", "--amd", "genoa", "--json")
    assert json.loads(result.stdout)["code"] == "collateral-unproven"


def test_a_busy_service_is_asked_again_as_it_wishes() -> None:
    slept: list[float] = []
    with MakerServices() as services, MakerClient(services.url, sleep=slept.append) as client:
        services.first[CHAIN] = [
            Reply(429, headers={"Retry-After": "7"}),
            Reply(503, headers={"Retry-After": "99999"}),
            Reply(500),
        ]
        assert client.get(CHAIN).data.startswith(b"-----BEGIN")
        assert slept == [7.0, fetch_http.MOST_WAIT, 4.0]
        slept.clear()
        services.first[CHAIN] = [Reply(429)] * ATTEMPTS
        with pytest.raises(MakerUnavailableError, match="answered 429"):
            client.get(CHAIN)
        assert slept == [1.0, 2.0, 4.0]


def test_other_answers_are_refused() -> None:
    with MakerServices() as services, MakerClient(services.url, sleep=lambda _seconds: None) as client:
        services.first[CHAIN] = [Reply(403)]
        with pytest.raises(MakerUnavailableError, match="answered 403, asked 1 times"):
            client.get(CHAIN)
        services.first[CHAIN] = [Reply(body=bytes(MAX_ANSWER + 1))]
        with pytest.raises(MalformedError, match="longer than"):
            client.get(CHAIN)
        with pytest.raises(NotPublishedError):
            client.get("/vcek/v1/Rome/crl")


def test_a_redirect_is_followed_on_the_same_host_alone() -> None:
    with (
        MakerServices() as services,
        MakerServices() as other,
        MakerClient(services.url, sleep=lambda _seconds: None) as client,
    ):
        services.first["/moved"] = [Reply(302, headers={"Location": CHAIN})]
        assert client.get("/moved").data.startswith(b"-----BEGIN")
        for target in (f"{other.url}{CHAIN}", "http://169.254.169.254/", "file:///etc/passwd"):
            services.first["/moved"] = [Reply(302, headers={"Location": target})]
            with pytest.raises(MakerUnavailableError, match="another host"):
                client.get("/moved")
        services.first["/moved"] = [Reply(302, headers={"Location": "/moved"})] * 9
        with pytest.raises(MakerUnavailableError, match="answered 302"):
            client.get("/moved")
        assert other.asked == []


def test_nobody_there_is_said() -> None:
    with MakerServices() as services:
        url = services.url
    with MakerClient(url, sleep=lambda _seconds: None) as client, pytest.raises(MakerUnavailableError, match="reached"):
        client.get(CHAIN)


@pytest.mark.parametrize(
    "body",
    [b"{}", b'{"tcbInfo":{},"signature":"00"}', b'{"tcbInfo":{', b'{"tcbInfo":{},"signature":"' + b"0" * 128 + b'"'],
)
def test_intels_answer_has_one_form(tmp_path: Path, roots: tuple[str, ...], body: bytes) -> None:
    with MakerServices() as services:
        services.first["/tdx/certification/v4/tcb"] = [Reply(body=body)]
        result = fetch(services, tmp_path / "bundle.json", "--intel", FMSPC.hex(), "--json", *roots)
    assert json.loads(result.stdout)["code"] == "malformed"


def test_intels_answer_without_its_issuers_is_refused(tmp_path: Path, roots: tuple[str, ...]) -> None:
    with MakerServices() as services:
        services.first["/sgx/certification/v4/pckcrl"] = [Reply(body=b"0")]
        result = fetch(services, tmp_path / "bundle.json", "--intel", FMSPC.hex(), "--json", *roots)
    assert "lacks its header" in json.loads(result.stdout)["message"]
