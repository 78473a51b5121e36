"""What once broke a target, so that it never does again."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

from fuzz.targets.documents import azure_files
from simulators import nvidia_chain
from simulators.intel_chain import intel_chain
from simulators.sev_snp_chain import revocation_list

_HALF: Final = "\ud800"
"""Half of a surrogate pair: JSON can write it, and nothing can encode it."""


def _pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


def _with_bits(der: bytes, text: bytes) -> bytes:
    """Make a bit string of a text in a name."""
    whole = b"\x0c" + bytes([len(text)]) + text
    assert whole in der
    return der.replace(whole, b"\x03" + bytes([len(text)]) + b"\0" + text[1:])


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def found() -> Mapping[str, tuple[bytes, ...]]:
    """Return inputs by the name of their target."""
    quotes = [{"pcrValues": {}, "rawQuote": "", "rawSignature": ""}]
    azure = json.loads(azure_files()[0])
    azure["tpm_quote"]["message"] = "ab" * 65536 + "no more hex"
    collateral = json.loads(intel_chain().collateral())
    signer = _pem(_with_bits(intel_chain().tcb_signer.der, b"Simulated SGX TCB Signing")).decode()
    begun = "-----BEGIN CERTIFICATE-----"
    return {
        "intel-collateral": (
            _json(collateral | {"tcb_info": _HALF}),
            _json(collateral | {"tcb_info_issuer_chain": signer}),
        ),
        "file-tpm": (
            _json({"quotes": quotes, "akCert": "", "certChain": [_HALF]}),
            _json({"ak_public": _HALF, "tpm_quote": {}}),
        ),
        "file-nvidia": (
            _json([{"evidence": "AAAA", "certificate": begun + _HALF}]),
            _pem(_with_bits(nvidia_chain.maker().family.der, b"NVIDIA")),
        ),
        "file-azure": (_json(azure),),
        "revocation-list": (_with_bits(revocation_list(), b"ARK-Genoa"),),
    }
