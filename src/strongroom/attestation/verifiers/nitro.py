"""Is an AWS Nitro attestation document genuine, and is the enclave wanted? Five steps, in this order.

1. ES384 signature by the document's certificate, over the bytes as they came
2. that certificate is no CA's and may sign; its chain leads to the pinned root and holds at the instant
3. no certificate of the chain is on a current revocation list of its issuer
4. the document was made while its certificate was valid
5. nonce and user data are the binding's

The leaf lives for three hours, so a recorded document is judged at its own timestamp. Only AWS's regional and zonal
certificates name revocation lists; those of an instance and of an enclave end within a day instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from strongroom.attestation import chain
from strongroom.attestation.bindings import ItemBinding, Slot
from strongroom.attestation.claims import Aspect, Claim, equal
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import BadSignatureError, ChainRefusedError
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.nitro.cose import MAX_SIGN1, SIGNATURE_BYTES, Sign1
from strongroom.attestation.nitro.document import IMAGE_PCRS, Document
from strongroom.attestation.policies.nitro import NitroPolicy
from strongroom.attestation.trust_anchors import Vendor, load_certificate
from strongroom.attestation.verifier import Genuine
from strongroom.core.clock import Instant, format_instant

_HALF: Final = SIGNATURE_BYTES // 2
_ROLE: Final = 3
_INSTANCE: Final = 4
_IMAGE_SIGNER: Final = 8


@dataclass(frozen=True, slots=True)
class NitroStatement:
    """A document and the signature around it."""

    signature: Sign1
    document: Document
    appraised: Instant | None = None
    """The instant that it was found genuine at, against which a policy judges its age; None before."""


class NitroVerifier:
    """See the module; fills :class:`~strongroom.attestation.verifier.Verifier`."""

    kind = EvidenceKind.NITRO
    max_bytes = MAX_SIGN1
    slots = frozenset({Slot.NONCE, Slot.USER_DATA})
    reference_names = frozenset(f"pcr{number}" for number in IMAGE_PCRS)
    optional_names = frozenset(f"pcr{number}" for number in range(3, 16))
    policy = NitroPolicy

    def parse(self, body: bytes) -> NitroStatement:
        """Read a COSE_Sign1 and the document in it.

        :raises MalformedError: see :class:`Sign1` and :class:`Document`.
        """
        signature = Sign1.parse(body)
        return NitroStatement(signature, Document.parse(signature.payload))

    def genuine(
        self, statement: NitroStatement, binding: ItemBinding, endorsements: Endorsements, at: Instant
    ) -> Genuine[NitroStatement]:
        """Check the five steps as of ``at``.

        :raises NotGenuineError: a step fails.
        :raises MalformedError: a certificate can't be read.
        """
        document = statement.document
        # 1. Before the chain: who the key belongs to matters only if it signed.
        leaf = load_certificate(document.certificate)
        _verify(statement.signature, leaf)
        # 2. and 3.
        _may_sign(leaf)
        path = chain.walk(
            [document.certificate, *reversed(document.cabundle)],
            endorsements.anchors.of(Vendor.AWS_NITRO),
            at,
            lists=endorsements.lists,
        )
        # 4.
        _made_in_time(document, leaf)
        # 5.
        bound = binding.bound({Slot.NONCE: document.nonce, Slot.USER_DATA: document.user_data})
        return Genuine(
            kind=self.kind,
            bound=bound,
            statement=replace(statement, appraised=at),
            measurements={f"pcr{number}": value.hex() for number, value in sorted(document.pcrs.items())},
            hardware_id=document.instance.encode(),
            isolation=path.anchor.isolation.weaker(IsolationClass.NONE if _debugged(document) else IsolationClass.CVM),
            endorsed_until=path.endorsed_until,
            revocation_checked=_revocation_checked(path),
            details={
                "module": document.module_id,
                "made": format_instant(document.made),
                "public key": f"{len(document.public_key)} bytes" if document.public_key else "none",
            },
        )

    def judge(self, proven: Genuine[NitroStatement], policy: NitroPolicy) -> tuple[Claim, ...]:
        """Compare with the policy; a debug enclave is refused whatever it says."""
        document = proven.statement.document
        return (
            _debug(document),
            _age(proven.statement, policy),
            *(_locked(document, number) for number in policy.locked_pcrs),
            policy.pcr3.claim("pcr3.allowed", Aspect.INSTANCE_IDENTITY, _register(document, _ROLE)),
            policy.pcr4.claim("pcr4.allowed", Aspect.INSTANCE_IDENTITY, _register(document, _INSTANCE)),
            policy.pcr8.claim("pcr8.allowed", Aspect.EXECUTABLES, _register(document, _IMAGE_SIGNER)),
            policy.instances.claim("instance", Aspect.INSTANCE_IDENTITY, document.instance),
            policy.revocation.claim(proven.revocation_checked),
        )


def _verify(signature: Sign1, leaf: x509.Certificate) -> None:
    refusal = BadSignatureError(
        "the attestation document isn't signed by the certificate in it",
        remedy="the document was changed: collect evidence again",
    )
    r, s = (int.from_bytes(half, "big") for half in (signature.signature[:_HALF], signature.signature[_HALF:]))
    try:
        key = leaf.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
            raise refusal
        key.verify(encode_dss_signature(r, s), signature.signed, ec.ECDSA(SHA384()))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        raise refusal from None


def _may_sign(leaf: x509.Certificate) -> None:
    # An enclave's certificate that could issue would make documents for enclaves that AWS never measured.
    if chain.is_ca(leaf):
        raise ChainRefusedError("the document is signed by a CA's certificate, not by an enclave's")
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        raise ChainRefusedError("the document's certificate has no key usage") from None
    if not usage.digital_signature:
        raise ChainRefusedError("the document's certificate may not sign documents")


def _made_in_time(document: Document, leaf: x509.Certificate) -> None:
    since, until = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if not since.timestamp() <= document.made <= until.timestamp():
        raise ChainRefusedError(
            "the document wasn't made while its certificate was valid",
            seen=format_instant(document.made),
            wanted=f"from {since:%Y-%m-%dT%H:%M:%SZ} to {until:%Y-%m-%dT%H:%M:%SZ}",
        )


def _revocation_checked(path: chain.Path) -> bool:
    below_root = zip(pairwise(path.certificates), path.looked_up, strict=True)
    checked = [looked_up for (certificate, _issuer), looked_up in below_root if _names_a_list(certificate)]
    return bool(checked) and all(checked)


def _names_a_list(certificate: x509.Certificate) -> bool:
    try:
        certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints)
    except x509.ExtensionNotFound:
        return False
    return True


def _register(document: Document, number: int) -> str:
    return document.pcrs.get(number, b"").hex()


def _debugged(document: Document) -> list[str]:
    # AWS zeroes these registers for an enclave that was started in debug mode: its console is open to the host.
    return [f"pcr{number}" for number in IMAGE_PCRS if not any(document.pcrs.get(number, b""))]


def _debug(document: Document) -> Claim:
    empty = _debugged(document)
    seen = f"{', '.join(empty)} zero or absent" if empty else "no"
    return Claim("debug", Aspect.HARDWARE, seen, "no", ok=not empty)


def _age(statement: NitroStatement, policy: NitroPolicy) -> Claim:
    wanted = f"from -{policy.max_skew} to {policy.max_age} seconds"
    if statement.appraised is None:
        return Claim("age", Aspect.SOURCED_DATA, "unknown", wanted, ok=False)
    age = statement.appraised - statement.document.made
    return Claim("age", Aspect.SOURCED_DATA, f"{age} seconds", wanted, ok=-policy.max_skew <= age <= policy.max_age)


def _locked(document: Document, number: int) -> Claim:
    return equal(f"pcr{number}.locked", Aspect.RUNTIME_OPAQUE, any(document.pcrs.get(number, b"")), wanted=True)
