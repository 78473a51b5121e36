"""Whatever bytes stand where a quote, its collateral or a file of one should be: they are read, or refused as ours."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.intel_chain import NOW, intel_chain, sgx_extension
from strongroom.attestation.bindings import RecordedBinding
from strongroom.attestation.bundle.reading import read_item
from strongroom.attestation.collateral import CollateralKind
from strongroom.attestation.containers import intel
from strongroom.attestation.tdx.bodies import BodyType
from strongroom.attestation.tdx.collateral import IntelCollateral
from strongroom.attestation.tdx.quote import parse_sgx_quote, parse_td_quote
from strongroom.attestation.verifiers.sgx import SgxVerifier
from strongroom.attestation.verifiers.tdx import TdxVerifier
from strongroom.core.errors import StrongroomError
from support.examples import examples

CHAIN = intel_chain()
QUOTES = {
    "td 1.0": (parse_td_quote, CHAIN.td_quote()),
    "td 1.5": (parse_td_quote, CHAIN.td_quote(body=BodyType.TD_1_5)),
    "td 1.5, extended": (parse_td_quote, CHAIN.td_quote(body=BodyType.TD_1_5_EXTENDED)),
    "enclave": (parse_sgx_quote, CHAIN.sgx_quote()),
}
PARSERS: dict[str, Callable[[bytes], object]] = {
    "td quote": parse_td_quote,
    "sgx quote": parse_sgx_quote,
    "collateral": IntelCollateral.parse,
    "collateral item": partial(read_item, CollateralKind.INTEL_TCB),
    "file": intel.read,
}


@pytest.mark.parametrize("name", QUOTES)
def test_every_truncation_and_every_extra_byte_is_refused(name: str) -> None:
    parse, data = QUOTES[name]
    parse(data)
    for size in range(len(data)):
        with pytest.raises(StrongroomError):
            parse(data[:size])
    for extra in (b"\x01", b"\0\xff"):
        with pytest.raises(StrongroomError):
            parse(data + extra)


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.binary(max_size=2048))
def test_any_bytes_are_read_or_refused(name: str, data: bytes) -> None:
    with suppress(StrongroomError):
        PARSERS[name](data)


@pytest.mark.parametrize("name", QUOTES)
@settings(max_examples=examples(60))
@given(at=st.integers(0, 6000), value=st.binary(min_size=1, max_size=8))
def test_any_change_of_a_quote_is_refused(name: str, at: int, value: bytes) -> None:
    parse, data = QUOTES[name]
    at %= len(data)
    changed = (data[:at] + value + data[at + len(value) :])[: len(data)]
    if changed == data:
        return
    judge: Any = TdxVerifier() if parse is parse_td_quote else SgxVerifier()
    tee = "TDX" if parse is parse_td_quote else "SGX"
    with pytest.raises(StrongroomError):
        judge.genuine(judge.parse(changed), RecordedBinding(), CHAIN.endorsements(CHAIN.collateral(tee=tee)), NOW)


@settings(max_examples=examples(200))
@given(at=st.integers(0, 600), value=st.binary(min_size=1, max_size=4))
def test_any_extension_of_a_pck_certificate_is_read_or_refused(at: int, value: bytes) -> None:
    whole = sgx_extension()
    at %= len(whole)
    broken = CHAIN.with_extension(whole[:at] + value + whole[at + len(value) :])
    with suppress(StrongroomError):
        TdxVerifier().genuine(
            TdxVerifier().parse(broken.td_quote()),
            RecordedBinding(),
            broken.endorsements(CHAIN.collateral()),
            NOW,
        )


@settings(max_examples=examples(150))
@given(at=st.integers(0, 20000), value=st.sampled_from(["0", "f", '"', "}", "\\", "é", " ", "1.5", "null", ""]))
def test_any_change_of_collateral_is_read_or_refused(at: int, value: str) -> None:
    text = CHAIN.collateral().decode()
    at %= len(text)
    with suppress(StrongroomError):
        about = CHAIN.endorsements((text[:at] + value + text[at + 1 :]).encode())
        TdxVerifier().genuine(TdxVerifier().parse(CHAIN.td_quote()), RecordedBinding(), about, NOW)
