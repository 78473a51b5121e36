"""Reading an item of collateral: its name and its dates come out of its own bytes, never from whoever hands it in.

======================  ==========================================  ===============================================
Kind                    Name                                        From, until
======================  ==========================================  ===============================================
certificate             its subject; of AMD's chip keys             its validity
                        ``genoa/vcek/<chip>/<tcb>``
revocation list         its issuer                                  thisUpdate, nextUpdate
Intel's collateral      ``<fmspc>/<ca>``                            latest issue, earliest next update of its parts
                                                                    and of both revocation lists
NVIDIA's manifest       its RIM id                                  validity of the certificate that signed it
OCSP answer             the certificate's serial number, in hex     thisUpdate, nextUpdate
======================  ==========================================  ===============================================

Two items of one ``series`` speak of the same thing, and ``order`` says which is newer: all of its numbers grow together
or stand still.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from cryptography import x509
from cryptography.x509 import ocsp

from strongroom.attestation.bundle.manifest import ManifestHeading, manifest_id
from strongroom.attestation.collateral import MAX_NAME, CollateralItem, CollateralKind
from strongroom.attestation.ocsp import load_answer
from strongroom.attestation.revocation import load_list
from strongroom.attestation.sev_snp.endorsement_key import EndorsementKey, common_name
from strongroom.attestation.tdx.collateral import IntelCollateral
from strongroom.attestation.tdx.pck import ca_of
from strongroom.attestation.trust_anchors import load_certificate
from strongroom.core.canonical import parse
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError

MAX_ITEM: Final = 4 * 1024 * 1024
_CHIP_KEYS: Final = frozenset({"SEV-VCEK", "SEV-VLEK"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadItem:
    """An item that was read, and what it can take the place of."""

    item: CollateralItem
    series: str
    order: tuple[int, ...]

    @property
    def place(self) -> tuple[str, str]:
        """What may be held once: the kind and the series."""
        return self.item.kind.value, self.series


def read_item(kind: CollateralKind, data: bytes, *, name: str = "") -> ReadItem:
    """Read an item.

    :param name: what it is said to be called; may be left out, but for NVIDIA's manifests of a VBIOS or a switch,
        which don't state their id.
    :raises MalformedError: not an item of that kind, or one of another name.
    """
    if len(data) > MAX_ITEM:
        raise MalformedError(f"an item of collateral has {len(data)} bytes; at most {MAX_ITEM} are read")
    read = _READERS[kind](data, name)
    if name and read.item.name != name:
        raise MalformedError(f"an item of the kind `{kind}` isn't what its name says it is")
    return read


def _certificate(data: bytes, _name: str) -> ReadItem:
    loaded = load_certificate(data)
    called = _chip_key(loaded) if common_name(loaded.subject) in _CHIP_KEYS else _plain(loaded.subject)
    # Two certificates of one name are two ways to two roots, or two keys: neither takes the other's place.
    return _read(
        CollateralKind.CERTIFICATE,
        called,
        data,
        (loaded.not_valid_before_utc, loaded.not_valid_after_utc),
        series=Digest.of(data).value.hex(),
    )


def _chip_key(certificate: x509.Certificate) -> str:
    key = EndorsementKey.read(certificate)
    return f"{key.product}/{key.kind}/{key.chip.hex() or key.provider}/{key.tcb.raw.hex()}"


def _list(data: bytes, _name: str) -> ReadItem:
    loaded = load_list(data)
    until = loaded.next_update_utc
    if until is None:
        raise MalformedError("a revocation list doesn't say until when it is current")
    # A CA that changed its key under the same name has two lists until the old key's last certificate ends.
    series = Digest.of(loaded.issuer.public_bytes() + _issuer_key(loaded)).value.hex()
    order = (_stamp(loaded.last_update_utc), _list_number(loaded))
    return _read(
        CollateralKind.REVOCATION_LIST,
        _plain(loaded.issuer),
        data,
        (loaded.last_update_utc, until),
        series=series,
        order=order,
    )


def _issuer_key(known: x509.CertificateRevocationList) -> bytes:
    try:
        return known.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier or b""
    except x509.ExtensionNotFound:
        return b""


def _list_number(known: x509.CertificateRevocationList) -> int:
    try:
        return known.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return -1


def _intel(data: bytes, _name: str) -> ReadItem:
    read = IntelCollateral.parse(data)
    lists = (load_list(read.root_ca_crl), load_list(read.pck_crl))
    called = f"{read.fmspc.hex()}/{ca_of(lists[1].issuer)}"
    ends = [one.next_update_utc for one in lists]
    if None in ends:
        raise MalformedError("a revocation list in Intel's collateral doesn't say until when it is current")
    parts = (read.tcb_info, read.qe_identity)
    item = CollateralItem(
        kind=CollateralKind.INTEL_TCB,
        name=called,
        data=data,
        not_before=max(part.issued for part in parts),
        not_after=min(*(part.next_update for part in parts), *(_stamp(end) for end in ends if end is not None)),
    )
    order = (
        *(_evaluation(part.text) for part in parts),
        *(part.issued for part in parts),
        *(_stamp(one.last_update_utc) for one in lists),
    )
    # One FMSPC has collateral for quotes of either technology.
    return ReadItem(item=item, series=f"{called}/{read.tee}", order=order)


def _evaluation(text: str) -> int:
    inner = parse(text.encode())
    number = inner.get("tcbEvaluationDataNumber") if isinstance(inner, dict) else None
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise MalformedError("`tcbEvaluationDataNumber` in Intel's collateral must be a number")
    return number


def _manifest(data: bytes, name: str) -> ReadItem:
    heading = ManifestHeading.read(data)
    called = manifest_id(heading, name)
    signer = load_certificate(heading.signer)
    # Not by the signer's dates: a manifest that was named wrongly could then never be put right.
    return _read(
        CollateralKind.NVIDIA_RIM,
        called,
        data,
        (signer.not_valid_before_utc, signer.not_valid_after_utc),
        series=called,
        order=(heading.revision,),
    )


def _answer(data: bytes, _name: str) -> ReadItem:
    loaded = load_answer(data)
    if loaded.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise MalformedError("the OCSP responder only says that it can't answer")
    singles = list(loaded.responses)
    if len(singles) != 1:
        raise MalformedError("an OCSP answer in a bundle speaks of one certificate")
    single = singles[0]
    if single.serial_number < 0:
        raise MalformedError("the serial number in an OCSP answer is negative")
    since = single.this_update_utc
    # What a responder says without an end counts only when it is asked; a revocation counts for good.
    until = single.next_update_utc or since
    called = f"{single.serial_number:x}"
    return _read(
        CollateralKind.OCSP_ANSWER,
        called,
        data,
        (since, until),
        series=f"{called}/{single.hash_algorithm.name}/{single.issuer_key_hash.hex()}",
        order=(_stamp(since),),
    )


def _read(
    kind: CollateralKind,
    name: str,
    data: bytes,
    validity: tuple[datetime, datetime],
    *,
    series: str,
    order: tuple[int, ...] = (),
) -> ReadItem:
    if not 0 < len(name) <= MAX_NAME:
        raise MalformedError(f"the name of an item of the kind `{kind}` has 1 to {MAX_NAME} characters")
    since, until = map(_stamp, validity)
    item = CollateralItem(kind=kind, name=name, data=data, not_before=since, not_after=until)
    return ReadItem(item=item, series=series, order=order)


def _plain(name: x509.Name) -> str:
    """Write a name for people: printable ASCII, whatever it holds; a long one ends in its digest."""
    try:
        text = name.rfc4514_string()
    except ValueError:
        raise MalformedError("a certificate's or list's name can't be read") from None
    text = "".join(c if " " <= c <= "~" else "?" for c in text) or "(no name)"
    if len(text) <= MAX_NAME:
        return text
    return f"{text[:160]}... sha256:{Digest.of(name.public_bytes()).value.hex()}"


def _stamp(when: datetime) -> Instant:
    return int(when.timestamp())


_READERS: Final[Mapping[CollateralKind, Callable[[bytes, str], ReadItem]]] = MappingProxyType(
    {
        CollateralKind.CERTIFICATE: _certificate,
        CollateralKind.REVOCATION_LIST: _list,
        CollateralKind.INTEL_TCB: _intel,
        CollateralKind.NVIDIA_RIM: _manifest,
        CollateralKind.OCSP_ANSWER: _answer,
    }
)
