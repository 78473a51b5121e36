"""The makers' public services on this machine: AMD's key distribution, Intel's certification, NVIDIA's RIM and OCSP."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Self
from urllib.parse import parse_qsl, quote, urlsplit

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from simulators import nvidia_chain, sev_snp_chain
from simulators.intel_chain import FMSPC, intel_chain
from strongroom.attestation.sev_snp.products import Product
from strongroom.core.encoding import to_base64

PEM = "application/x-pem-file"


@dataclass
class Reply:
    """What is sent back."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """What was asked: path, query and body."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes


Serve = Callable[[Asked], Reply]


class MakerServices:
    """Listens on a free port of 127.0.0.1 while entered. ``serve`` answers, after what waits in ``first``."""

    def __init__(self, serve: Serve | None = None) -> None:
        self.serve = serve or published
        self.asked: list[Asked] = []
        self.first: dict[str, list[Reply]] = {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._answer(self)

            def do_POST(self) -> None:
                outer._answer(self)

            def log_message(self, *_said: Any) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        place = urlsplit(handler.path)
        length = int(handler.headers.get("content-length") or 0)
        asked = Asked(handler.command, place.path, dict(parse_qsl(place.query)), handler.rfile.read(length))
        self.asked.append(asked)
        waiting = self.first.get(asked.path)
        reply = waiting.pop(0) if waiting else self.serve(asked)
        handler.send_response(reply.status)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(reply.body)))
        handler.end_headers()
        handler.wfile.write(reply.body)

    @property
    def options(self) -> tuple[str, ...]:
        """The options that send the command here."""
        names = ("amd", "intel", "intel-root", "nvidia-rim", "nvidia-ocsp")
        return tuple(word for name in names for word in (f"--{name}-url", self.url))


def published(asked: Asked) -> Reply:  # noqa: PLR0911 - one return for each service
    """Answer as the makers do, for simulated ones."""
    match asked.path.strip("/").split("/"):
        case ["vcek", "v1", "Genoa", *rest]:
            return _amd(rest, asked)
        case ["vlek", "v1", "Genoa", "cert_chain"]:
            made = sev_snp_chain.authorities()
            return Reply(body=_pem(made.asvk.certificate, made.ark.certificate))
        case [("sgx" | "tdx") as technology, "certification", "v4", *rest]:
            return _intel(technology, rest, asked)
        case ["IntelSGXRootCA.der"]:
            return Reply(body=bytes.fromhex(_collateral("SGX")["root_ca_crl"]))
        case ["v1", "rim", name]:
            return _rim(name)
        case [""] if asked.method == "POST":
            return _answered(asked.body)
    return Reply(status=404)


def _amd(rest: list[str], asked: Asked) -> Reply:
    made = sev_snp_chain.authorities()
    if rest == ["cert_chain"]:
        return Reply(body=_pem(made.ask.certificate, made.ark.certificate))
    if rest == ["crl"]:
        return Reply(body=_amd_list())
    tcb = sev_snp_chain.TCBS[Product.GENOA]
    wanted = {"blSPL": tcb[0], "teeSPL": tcb[1], "snpSPL": tcb[6], "ucodeSPL": tcb[7]}
    if rest != [sev_snp_chain.chip().hex()] or asked.query != {name: f"{spl:02d}" for name, spl in wanted.items()}:
        return Reply(status=404)
    return Reply(body=sev_snp_chain.Machine().certificate())


@cache
def _amd_list() -> bytes:
    # Published once: a list that is signed again is another one.
    return sev_snp_chain.revocation_list()


def _collateral(tee: str) -> dict[str, str]:
    told: dict[str, str] = json.loads(intel_chain().collateral(tee=tee))
    return told


def _intel(technology: str, rest: list[str], asked: Asked) -> Reply:
    told = _collateral(technology.upper())
    if rest == ["pckcrl"] and asked.query == {"ca": "platform", "encoding": "der"}:
        headers = {"SGX-PCK-CRL-Issuer-Chain": quote(told["pck_crl_issuer_chain"])}
        return Reply(body=bytes.fromhex(told["pck_crl"]), headers=headers)
    if rest == ["tcb"] and asked.query == {"fmspc": FMSPC.hex()}:
        return _signed("tcbInfo", told["tcb_info"], told["tcb_info_signature"], "TCB-Info-Issuer-Chain", told)
    if rest == ["qe", "identity"]:
        name = "SGX-Enclave-Identity-Issuer-Chain"
        return _signed("enclaveIdentity", told["qe_identity"], told["qe_identity_signature"], name, told)
    return Reply(status=404)


def _signed(member: str, text: str, signature: str, header: str, told: dict[str, str]) -> Reply:
    # The member's text stands in the answer byte for byte, whatever its own spelling.
    body = f'{{"{member}":{text},"signature":"{signature}"}}'.encode()
    return Reply(body=body, headers={header: quote(told["tcb_info_issuer_chain"])})


def _rim(name: str) -> Reply:
    versions = {"NV_GPU_DRIVER_GH100_590.12": "590.12", "NV_GPU_VBIOS_G520_0200_885_9600A50001": "96.00.A5.00.01"}
    if name not in versions:
        return Reply(status=404, body=b'{"message":"not found"}')
    rim = nvidia_chain.manifest(versions[name], {1: [bytes(48)]}, signer=_rim_signer())
    return Reply(body=json.dumps({"id": name, "rim": to_base64(rim), "rim_format": "SWID"}).encode())


@cache
def _rim_signer() -> nvidia_chain.Authority:
    return nvidia_chain.rim_signer()


@cache
def gpu() -> nvidia_chain.Device:
    """Return the GPU whose certificates the responder knows."""
    return nvidia_chain.device()


def _answered(body: bytes) -> Reply:
    asked = ocsp.load_der_ocsp_request(body)
    made = nvidia_chain.maker()
    pairs = (
        (gpu().factory, made.provisioner),
        (made.provisioner, made.family),
        (made.family, made.root),
        (made.rim_authority, made.rim_root),
        (_rim_signer(), made.rim_authority),
    )
    for one, issuer in pairs:
        if one.certificate.serial_number == asked.serial_number:
            return Reply(body=nvidia_chain.answer(one, issuer, hashed=asked.hash_algorithm))
    busy = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.UNAUTHORIZED)
    return Reply(body=busy.public_bytes(Encoding.DER))


def _pem(*certificates: Any) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)
