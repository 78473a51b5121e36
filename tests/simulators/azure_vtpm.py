"""An Azure confidential virtual machine played by keys in memory: paravisor, virtual TPM, and the hardware below them.

The hardware is that of the SEV-SNP and Intel simulators, so only their simulated roots accept what comes of it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from simulators.intel_chain import TD_FIELDS, IntelChain, intel_chain
from simulators.sev_snp_chain import Machine
from strongroom.attestation.azure.hcl_report import HardwareKind
from strongroom.attestation.azure.statement import VtpmEvidence
from strongroom.attestation.policies.azure import AzureSnpPolicy

CHALLENGE = bytes(range(100, 132))
PCRS = tuple(hashlib.sha256(bytes([number])).digest() for number in range(24))
MACHINE = "26F8BC30-774E-4290-8E7A-535F3B672AEE"
USER_DATA = b"chosen by the guest".ljust(64, b"\0")
CONFIGURATION: Mapping[str, Any] = {
    "root-cert-thumbprint": "6nZZnYaJc4KqUZ_yvA-mucFdYNouvlPnITnNMXsHl-0",
    "console-enabled": True,
    "secure-boot": True,
    "tpm-enabled": True,
    "tpm-persisted": True,
    "vmUniqueId": MACHINE,
}
PARAVISOR_KEY = bytes.fromhex((AzureSnpPolicy.strictest().hardware.id_keys.values or ("",))[0])
PARAVISOR = Machine(id_key_digest=PARAVISOR_KEY)
AZURE_TD: Mapping[str, Any] = {
    "td_attributes": bytes(8),
    "rtmr0": bytes(48),
    "rtmr1": bytes(48),
    "rtmr2": bytes(48),
    "rtmr3": bytes(48),
}
"""What Azure launches paravisors with: no SEPT_VE_DISABLE, nothing in the run-time registers."""
_HASHES = {1: hashlib.sha256, 2: hashlib.sha384, 3: hashlib.sha512}
_TD_INFO = (
    ("td_attributes", 8),
    ("xfam", 8),
    *(
        (name, 48)
        for name in ("mr_td", "mr_config_id", "mr_owner", "mr_owner_config", "rtmr0", "rtmr1", "rtmr2", "rtmr3")
    ),
)


@cache
def vtpm_key(name: str) -> rsa.RSAPrivateKey:
    """Return one key for each name: ``AK``, ``EK``, any other."""
    assert name
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def jwk(kid: str, use: str, key: rsa.RSAPrivateKey) -> dict[str, Any]:
    """Write a public key as the paravisor does."""
    numbers = key.public_key().public_numbers()
    modulus = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")
    return {"kid": kid, "key_ops": [use], "kty": "RSA", "e": "AQAB", "n": url(modulus)}


def url(data: bytes) -> str:
    """Write base64url without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def words(*numbers: int) -> bytes:
    """Write 32-bit little-endian numbers."""
    return b"".join(number.to_bytes(4, "little") for number in numbers)


@dataclass(frozen=True, kw_only=True)
class Vtpm:
    """A virtual TPM and its paravisor. The defaults are those of an honest machine."""

    qualifying_data: bytes = CHALLENGE
    pcrs: tuple[bytes, ...] = PCRS
    quoted_pcrs: tuple[bytes, ...] | None = None
    """What the quote's digest is over, where it isn't ``pcrs``."""
    banks: tuple[tuple[int, int], ...] = ((0x000B, 0xFFFFFF),)
    """Each bank that the quote selects, and its registers as bits."""
    safe: bool = True
    magic: int = 0xFF544347
    signing_key: str = "AK"
    """The name of the key that really signs."""
    configuration: Mapping[str, Any] = field(default_factory=lambda: CONFIGURATION)
    user_data: bytes | None = USER_DATA
    keys: tuple[Mapping[str, Any], ...] | None = None
    hash_type: int = 1
    header: Mapping[int, int] = field(default_factory=dict)
    """Byte offset in the HCL report to the 32-bit number to write there."""
    padding: bytes = bytes(100)

    def runtime_data(self) -> bytes:
        """Return the JSON that the hardware's report commits to."""
        keys = self.keys
        if keys is None:
            keys = (jwk("HCLAkPub", "sign", vtpm_key("AK")), jwk("HCLEkPub", "encrypt", vtpm_key("EK")))
        told: dict[str, Any] = {"keys": list(keys), "vm-configuration": dict(self.configuration)}
        if self.user_data is not None:
            told["user-data"] = self.user_data.hex().upper()
        return json.dumps(told, separators=(",", ":")).encode()

    def report_data(self) -> bytes:
        """Return what the hardware is asked to sign."""
        return _HASHES.get(self.hash_type, hashlib.sha256)(self.runtime_data()).digest().ljust(64, b"\0")

    def hcl_report(self, hardware: bytes, kind: HardwareKind) -> bytes:
        """Return what stands in the NV index."""
        data = self.runtime_data()
        head = b"HCLA" + words(2, 32 + 1184 + 20 + len(data), 2, 0, 0, 0, 0)
        body = hardware.ljust(1184, b"\0") + words(20 + len(data), 1, kind, self.hash_type, len(data)) + data
        report = bytearray(head + body + self.padding)
        for offset, number in self.header.items():
            report[offset : offset + 4] = words(number)
        return bytes(report)

    def quote(self) -> bytes:
        """Return TPMS_ATTEST."""
        selections = b"".join(
            bank.to_bytes(2, "big") + b"\x03" + bits.to_bytes(3, "little") for bank, bits in self.banks
        )
        digest = hashlib.sha256(b"".join(self.quoted_pcrs or self.pcrs)).digest()
        return (
            self.magic.to_bytes(4, "big")
            + b"\x80\x18"
            + sized(b"\x00\x0b" + bytes(32))
            + sized(self.qualifying_data)
            + (12345).to_bytes(8, "big")
            + (7).to_bytes(4, "big")
            + (1).to_bytes(4, "big")
            + bytes([self.safe])
            + bytes.fromhex("2020031200120003")
            + len(self.banks).to_bytes(4, "big")
            + selections
            + sized(digest)
        )

    def signature(self) -> bytes:
        """Return the bare RSASSA signature."""
        return vtpm_key(self.signing_key).sign(self.quote(), padding.PKCS1v15(), SHA256())

    def evidence(self, hcl_report: bytes, endorsement: bytes) -> VtpmEvidence:
        """Return everything together."""
        return VtpmEvidence(
            hcl_report=hcl_report,
            quote=self.quote(),
            signature=self.signature(),
            pcrs=self.pcrs,
            endorsement=endorsement,
        )

    def on_snp(self, machine: Machine = PARAVISOR, *, report_data: bytes | None = None) -> VtpmEvidence:
        """Return the evidence of this machine on a simulated AMD processor."""
        below = replace(machine, report_data=self.report_data() if report_data is None else report_data)
        return self.evidence(self.hcl_report(below.report(), HardwareKind.SEV_SNP), below.certificates())

    def on_tdx(
        self,
        chain: IntelChain | None = None,
        *,
        report_data: bytes | None = None,
        td_report: bytes | None = None,
        **fields: bytes,
    ) -> VtpmEvidence:
        """Return the evidence of this machine on a simulated Intel processor."""
        committed = self.report_data() if report_data is None else report_data
        told: dict[str, Any] = {**TD_FIELDS, **AZURE_TD, "report_data": committed, **fields}
        quote = (chain or intel_chain()).td_quote(**told)
        inside = td_report or td_report_of(told)
        return self.evidence(self.hcl_report(inside, HardwareKind.TDX), quote)


def td_report_of(fields: Mapping[str, bytes]) -> bytes:
    """Return a TDREPORT that says the same as a quote of these fields."""
    mac = b"\x81".ljust(128, b"\0") + fields["report_data"]
    info = b"".join(fields.get(name, b"").ljust(size, b"\0") for name, size in _TD_INFO)
    return (mac.ljust(512, b"\x5a") + info).ljust(1024, b"\0")


def sized(data: bytes) -> bytes:
    """Write a TPM2B."""
    return len(data).to_bytes(2, "big") + data
