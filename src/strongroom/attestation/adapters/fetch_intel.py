"""Intel's provisioning certification service, version 4: what is published for a family of platforms, as one item.

The signed JSON texts are kept byte for byte: Intel's signature is over the text of one member of the answer, not over
its meaning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from strongroom.attestation.adapters.fetch_http import MakerAnswer, MakerClient, NotPublishedError
from strongroom.attestation.bundle.reading import ReadItem, read_item
from strongroom.attestation.collateral import CollateralKind
from strongroom.attestation.tdx.pck import PckCa
from strongroom.core.canonical import encode
from strongroom.core.errors import MalformedError

INTEL_URL: Final = "https://api.trustedservices.intel.com"
INTEL_ROOT_URL: Final = "https://certificates.trustedservices.intel.com"
_TECHNOLOGIES: Final = ("tdx", "sgx")
_SIGNATURE: Final = re.compile(r'\s*,\s*"signature"\s*:\s*"([0-9a-fA-F]{128})"\s*\}\s*')


@dataclass(frozen=True, slots=True)
class _Signed:
    text: str
    signature: str
    issuers: str


def fetch_platform(service: MakerClient, root: MakerClient, fmspc: str, ca: PckCa) -> Iterator[ReadItem]:
    """Fetch the collateral of a family of platforms, for each technology that it is published for.

    :param root: the client of the host that publishes the root CA's revocation list.
    :raises NotPublishedError: Intel publishes nothing for this FMSPC.
    :raises MakerUnavailableError: a service doesn't answer.
    :raises MalformedError: an answer isn't what it should be.
    """
    pck = service.get("/sgx/certification/v4/pckcrl", {"ca": ca.value, "encoding": "der"})
    root_list = root.get("/IntelSGXRootCA.der")
    found = False
    for technology in _TECHNOLOGIES:
        try:
            info = service.get(f"/{technology}/certification/v4/tcb", {"fmspc": fmspc})
        except NotPublishedError:
            continue  # not every platform does both
        found = True
        tcb = _signed(info, "tcbInfo", "tcb-info-issuer-chain")
        identity = _signed(
            service.get(f"/{technology}/certification/v4/qe/identity"),
            "enclaveIdentity",
            "sgx-enclave-identity-issuer-chain",
        )
        collateral = {
            "pck_crl_issuer_chain": _issuers(pck, "sgx-pck-crl-issuer-chain"),
            "root_ca_crl": root_list.data.hex(),
            "pck_crl": pck.data.hex(),
            "tcb_info_issuer_chain": tcb.issuers,
            "tcb_info": tcb.text,
            "tcb_info_signature": tcb.signature,
            "qe_identity_issuer_chain": identity.issuers,
            "qe_identity": identity.text,
            "qe_identity_signature": identity.signature,
        }
        yield read_item(CollateralKind.INTEL_TCB, encode({**collateral}))
    if not found:
        raise NotPublishedError(f"Intel publishes no TCB information for FMSPC `{fmspc}`")


def _signed(answer: MakerAnswer, member: str, header: str) -> _Signed:
    try:
        text = answer.data.decode("ascii")
        begin = re.match(rf'\s*\{{\s*"{member}"\s*:\s*', text)
        if begin is None:
            raise MalformedError(f"Intel's answer doesn't begin with `{member}`")
        _value, end = json.JSONDecoder().raw_decode(text, begin.end())
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise MalformedError("Intel's answer isn't JSON text in ASCII") from None
    rest = _SIGNATURE.fullmatch(text, end)
    if rest is None:
        raise MalformedError(f"Intel's answer has something else than a signature behind `{member}`")
    return _Signed(text[begin.end() : end], rest[1].lower(), _issuers(answer, header))


def _issuers(answer: MakerAnswer, header: str) -> str:
    # Version 3 of the service had another name for the first of them; it isn't asked.
    chain = unquote(answer.headers.get(header, ""))
    if "-----BEGIN CERTIFICATE-----" not in chain:
        raise MalformedError(f"Intel's answer lacks its header `{header}`")
    return chain
