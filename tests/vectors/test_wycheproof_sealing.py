"""The primitives that sealing stands on, against Wycheproof: AES-256-GCM with 96-bit nonces, HKDF-SHA-384.

ChaCha20-Poly1305 too: a suite number is reserved for it, and what it would stand on is checked before.
"""

from __future__ import annotations

import hmac
import json
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from support.vectors import vectors_folder


def _groups(name: str) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = json.loads((vectors_folder("wycheproof") / name).read_text())["testGroups"]
    return groups


def test_aes_256_gcm() -> None:
    run = refused = 0
    for group in _groups("aes_gcm_test.json"):
        if (group["keySize"], group["ivSize"], group["tagSize"]) != (256, 96, 128):
            continue
        for test in group["tests"]:
            cipher = AESGCM(bytes.fromhex(test["key"]))
            nonce, aad = bytes.fromhex(test["iv"]), bytes.fromhex(test["aad"])
            plain, sealed = bytes.fromhex(test["msg"]), bytes.fromhex(test["ct"] + test["tag"])
            out = bytearray(len(plain))
            run += 1
            if test["result"] == "valid":
                cipher.decrypt_into(nonce, sealed, aad, out)
                assert out == plain, test["tcId"]
                made = bytearray(len(sealed))
                cipher.encrypt_into(nonce, plain, aad, made)
                assert made == sealed, test["tcId"]
            else:
                refused += 1
                with pytest.raises(InvalidTag):
                    cipher.decrypt_into(nonce, sealed, aad, out)
    assert run > 50
    assert refused > 10


def test_chacha20_poly1305_of_the_reserved_suite() -> None:
    run = refused = 0
    for group in _groups("chacha20_poly1305_test.json"):
        for test in group["tests"]:
            nonce, aad = bytes.fromhex(test["iv"]), bytes.fromhex(test["aad"])
            plain, sealed = bytes.fromhex(test["msg"]), bytes.fromhex(test["ct"] + test["tag"])
            cipher, out = ChaCha20Poly1305(bytes.fromhex(test["key"])), bytearray(len(plain))
            run += 1
            if test["result"] == "valid":
                cipher.decrypt_into(nonce, sealed, aad, out)
                assert out == plain, test["tcId"]
            else:
                refused += 1
                with pytest.raises((InvalidTag, ValueError)):
                    cipher.decrypt_into(nonce, sealed, aad, out)
    assert run > 100
    assert refused > 10


def test_hkdf_expand_sha_384() -> None:
    run = 0
    for group in _groups("hkdf_sha384_test.json"):
        for test in group["tests"]:
            salt = bytes.fromhex(test["salt"]) or bytes(48)
            extracted = hmac.digest(salt, bytes.fromhex(test["ikm"]), "sha384")
            info, size = bytes.fromhex(test["info"]), test["size"]
            run += 1
            if test["result"] == "invalid":
                with pytest.raises(ValueError, match="larger than"):
                    HKDFExpand(hashes.SHA384(), size, info)
                continue
            out = bytearray(size)
            HKDFExpand(hashes.SHA384(), size, info).derive_into(extracted, out)
            assert out.hex() == test["okm"], test["tcId"]
    assert run > 30
