"""Which TCB level a TDX platform is at, by Intel's TCB information and quoting enclave identity.

Needed for domains that dcap-qvl refuses for an attribute after it has verified all the rest, and then says no level of
(:mod:`strongroom.attestation.verifiers.azure_domain`). The steps are those of Intel's "TDX DCAP Quote Validation":
platform, then TDX module, then quoting enclave; a part that is out of date makes the whole so, and every advisory
counts. A platform's level is that of its launch: Intel's milder words for a domain that only needs to be launched again
aren't given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from strongroom.attestation.errors import TcbRefusedError
from strongroom.attestation.tdx.bodies import EnclaveReport, SgxAttribute, TdReport
from strongroom.attestation.tdx.pck import Pck
from strongroom.attestation.tdx.tcb import TcbStatus, TcbVerdict
from strongroom.core.canonical import Json, parse
from strongroom.core.errors import MalformedError

_MAX_TEXT: Final = 1024 * 1024
_MAX_LIST: Final = 256
_COMPONENTS: Final = 16
_OF_PARTS: Final = frozenset({TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE})
"""What Intel says of modules and quoting enclaves, besides ``Revoked``, which nothing vouches for."""
_OF_PLATFORMS: Final = {
    TcbStatus.UP_TO_DATE: TcbStatus.OUT_OF_DATE,
    TcbStatus.SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE,
    TcbStatus.CONFIGURATION_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    TcbStatus.OUT_OF_DATE: TcbStatus.OUT_OF_DATE,
    TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
}
"""What Intel says of platforms, and what becomes of it when a part is out of date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Level:
    floors: tuple[int, ...]
    """Security versions: components of SGX, PCE, components of TDX; or one."""
    status: str
    advisories: tuple[str, ...]
    date: str


def verdict(tcb_info: str, qe_identity: str, *, pck: Pck, domain: TdReport, quoting: EnclaveReport) -> TcbVerdict:
    """Judge a platform. Both texts must have been signed by Intel.

    :raises TcbRefusedError: other platform, module or quoting enclave; below every level; or a level that is revoked.
    :raises MalformedError: a text isn't what Intel publishes.
    """
    info, identity = _object(tcb_info), _object(qe_identity)
    _same_platform(info, identity, pck)
    # The first two versions are the module's. From major version 1 on it is judged by levels of its own.
    skipped = 2 if domain.tee_tcb_svn[1] else 0
    versions = (*pck.cpu_svn, pck.pce_svn, *domain.tee_tcb_svn[skipped:])
    platform = _reached(_platform_levels(info, skipped), versions, "platform")
    _same_quoting_enclave(identity, quoting)
    modules = list(_module_level(info, domain))
    parts = [*modules, _reached(_simple_levels(identity), (quoting.isv_svn,), "quoting enclave")]
    status = _status(platform, _OF_PLATFORMS)
    if TcbStatus.OUT_OF_DATE in [_status(part, _OF_PARTS) for part in parts]:
        status = _OF_PLATFORMS[status]
    return TcbVerdict(
        status=status,
        advisories=tuple(sorted({advisory for level in (platform, *parts) for advisory in level.advisories})),
        evaluation_number=min(_number(part, "tcbEvaluationDataNumber") for part in (info, identity)),
        tcb_date=min(level.date for level in (platform, *modules)),
        pck=pck,
    )


def _same_platform(info: dict[str, Json], identity: dict[str, Json], pck: Pck) -> None:
    _equal("TCB information", (_text(info, "id"), _number(info, "version"), _number(info, "tcbType")), ("TDX", 3, 0))
    _equal("quoting enclave identity", (_text(identity, "id"), _number(identity, "version")), ("TD_QE", 2))
    _equal("FMSPC", _hex(info, "fmspc", 6), pck.fmspc)
    _equal("PCE", _hex(info, "pceId", 2), pck.pce_id)


def _same_quoting_enclave(identity: dict[str, Json], quoting: EnclaveReport) -> None:
    _equal("quoting enclave's signer", quoting.mr_signer, _hex(identity, "mrsigner", 32))
    _equal("quoting enclave's product", quoting.isv_prod_id, _number(identity, "isvprodid"))
    _masked("quoting enclave's attributes", quoting.attributes, identity, "attributes")
    _masked("quoting enclave's MISCSELECT", quoting.misc_select.to_bytes(4, "little"), identity, "miscselect")
    if SgxAttribute.DEBUG in quoting.attribute_names:
        _refuse("the quoting enclave runs under debug", seen="debug")


def _module_level(info: dict[str, Json], domain: TdReport) -> Iterator[_Level]:
    """Check the TDX module; give its level, which only major version 0 has none of."""
    minor, major = domain.tee_tcb_svn[0], domain.tee_tcb_svn[1]
    expected = _inner(info, "tdxModule")
    if major:
        name = f"TDX_{major:02X}"
        named = [module for module in _objects(info, "tdxModuleIdentities") if _text(module, "id").upper() == name]
        if len(named) != 1:
            _refuse("Intel publishes nothing about the TDX module's version", seen=name)
        expected = named[0]
    _equal("TDX module's signer", domain.mr_signer_seam, _hex(expected, "mrsigner", 48))
    _masked("TDX module's attributes", domain.seam_attributes, expected, "attributes")
    if any(
        byte & ~mask for byte, mask in zip(domain.seam_attributes, _hex(expected, "attributesMask", 8), strict=True)
    ):
        _refuse("the TDX module has attributes that Intel says nothing of", seen=domain.seam_attributes.hex())
    if major:
        yield _reached(_simple_levels(expected), (minor,), "TDX module")


def _platform_levels(info: dict[str, Json], skipped: int) -> list[_Level]:
    levels = []
    for level in _objects(info, "tcbLevels"):
        tcb = _inner(level, "tcb")
        tdx = _components(tcb, "tdxtcbcomponents")[skipped:]
        levels.append(_level(level, (*_components(tcb, "sgxtcbcomponents"), _number(tcb, "pcesvn"), *tdx)))
    # Intel's own library sorts; the order in the text isn't promised.
    return sorted(levels, key=lambda level: level.floors, reverse=True)


def _simple_levels(part: dict[str, Json]) -> list[_Level]:
    levels = [_level(level, (_number(_inner(level, "tcb"), "isvsvn"),)) for level in _objects(part, "tcbLevels")]
    return sorted(levels, key=lambda level: level.floors, reverse=True)


def _level(level: dict[str, Json], floors: tuple[int, ...]) -> _Level:
    advisories = level.get("advisoryIDs", [])
    if not isinstance(advisories, list) or not all(isinstance(one, str) and len(one) <= 64 for one in advisories):
        raise MalformedError("Intel's collateral holds `advisoryIDs` that aren't short texts")
    return _Level(
        floors=floors,
        status=_text(level, "tcbStatus"),
        advisories=tuple(str(one) for one in advisories),
        date=_text(level, "tcbDate"),
    )


def _reached(levels: Iterable[_Level], versions: tuple[int, ...], what: str) -> _Level:
    for level in levels:
        # Each by itself: a new part doesn't make up for an old one.
        if all(seen >= floor for seen, floor in zip(versions, level.floors, strict=True)):
            return level
    return _refuse(
        f"the {what} is below every TCB level that Intel knows", seen=bytes(v & 0xFF for v in versions).hex()
    )


def _status(level: _Level, known: Iterable[TcbStatus]) -> TcbStatus:
    found = next((status for status in known if status == level.status), None)
    return found if found is not None else _refuse("Intel doesn't vouch for this TCB level", seen=level.status)


def _equal(what: str, seen: object, wanted: object) -> None:
    if seen != wanted:
        _refuse(f"Intel's collateral isn't for this {what}", seen=_told(seen), wanted=_told(wanted))


def _masked(what: str, seen: bytes, expected: dict[str, Json], name: str) -> None:
    value, mask = _hex(expected, name, len(seen)), _hex(expected, f"{name}Mask", len(seen))
    if any((have ^ want) & bit for have, want, bit in zip(seen, value, mask, strict=True)):
        _refuse(f"the {what} aren't those that Intel expects", seen=seen.hex(), wanted=f"{value.hex()}/{mask.hex()}")


def _told(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)[:128]


def _refuse(message: str, *, seen: str, wanted: str = "") -> NoReturn:
    raise TcbRefusedError(message, seen=seen, wanted=wanted, remedy="import newer collateral for this platform")


def _object(text: str) -> dict[str, Json]:
    value = parse(text.encode(), max_bytes=_MAX_TEXT)
    return value if isinstance(value, dict) else _wrong("object")


def _inner(value: dict[str, Json], name: str) -> dict[str, Json]:
    inner = value.get(name)
    return inner if isinstance(inner, dict) else _wrong(name)


def _objects(value: dict[str, Json], name: str) -> Iterator[dict[str, Json]]:
    found = value.get(name)
    items: list[Json] = found if isinstance(found, list) and len(found) <= _MAX_LIST else _wrong(name)
    for item in items:
        yield item if isinstance(item, dict) else _wrong(name)


def _components(tcb: dict[str, Json], name: str) -> tuple[int, ...]:
    found = tuple(_number(component, "svn") for component in _objects(tcb, name))
    # A list that is too short would leave versions uncompared.
    return found if len(found) == _COMPONENTS else _wrong(name)


def _text(value: dict[str, Json], name: str) -> str:
    found = value.get(name)
    return found if isinstance(found, str) and len(found) <= 256 else _wrong(name)


def _number(value: dict[str, Json], name: str) -> int:
    found = value.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else _wrong(name)


def _hex(value: dict[str, Json], name: str, size: int) -> bytes:
    text = _text(value, name)
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    return found if len(found) == size and len(text) == 2 * size else _wrong(name)


def _wrong(name: str) -> Any:
    raise MalformedError(f"Intel's collateral lacks `{name}`, or holds it in another form")
