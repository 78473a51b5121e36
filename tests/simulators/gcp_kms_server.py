"""Cloud KMS's four calls as a gRPC server on this machine, for the service's own client library.

Written from the published interface: real AES-256-GCM, the checksums of the integrity guide, one status for one cause.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import grpc
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.cloud import kms

from strongroom.keys.adapters.gcp_kms import crc32c

_SERVICE = "google.cloud.kms.v1.KeyManagementService"
_VERSIONS = "/cryptoKeyVersions/"
_ENABLED = kms.CryptoKeyVersion.CryptoKeyVersionState.ENABLED
_DOOMED = kms.CryptoKeyVersion.CryptoKeyVersionState.DESTROY_SCHEDULED


class GcpKmsServer:
    """Keys by name, each a list of versions. ``status`` refuses everything; ``bent`` changes what is answered."""

    def __init__(self) -> None:
        self.keys: dict[str, list[bytes]] = {}
        self.doomed: set[str] = set()
        self.status: grpc.StatusCode | None = None
        self.bent = ""
        self.asked: list[str] = []
        self._server = grpc.server(ThreadPoolExecutor(4))
        calls: dict[str, tuple[Any, Any, Any]] = {
            "Encrypt": (kms.EncryptRequest, kms.EncryptResponse, self._encrypt),
            "Decrypt": (kms.DecryptRequest, kms.DecryptResponse, self._decrypt),
            "ListCryptoKeyVersions": (
                kms.ListCryptoKeyVersionsRequest,
                kms.ListCryptoKeyVersionsResponse,
                self._list,
            ),
            "CreateCryptoKeyVersion": (kms.CreateCryptoKeyVersionRequest, kms.CryptoKeyVersion, self._renew),
            "UpdateCryptoKeyPrimaryVersion": (kms.UpdateCryptoKeyPrimaryVersionRequest, kms.CryptoKey, self._prefer),
            "DestroyCryptoKeyVersion": (kms.DestroyCryptoKeyVersionRequest, kms.CryptoKeyVersion, self._destroy),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._guarded(name, act), request_deserializer=asked.deserialize, response_serializer=told.serialize
            )
            for name, (asked, told, act) in calls.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    def make(self, name: str) -> None:
        """Make a key, or a newer version of it."""
        self.keys.setdefault(name, []).append(AESGCM.generate_key(256))

    def _guarded(self, name: str, act: Any) -> Any:
        def call(request: Any, context: Any) -> Any:
            self.asked.append(name)
            if self.status is not None:
                context.abort(self.status, f"made to fail: {request}")
            return act(request, context)

        return call

    def _encrypt(self, request: Any, context: Any) -> Any:
        if request.name not in self.keys:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such key")
        version = f"{request.name}{_VERSIONS}{len(self.keys[request.name])}"
        if version in self.doomed:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not enabled")
        nonce = os.urandom(12)
        aad = request.additional_authenticated_data
        cipher = AESGCM(self.keys[request.name][-1])
        sealed = len(self.keys[request.name]).to_bytes(2, "big") + nonce + cipher.encrypt(nonce, request.plaintext, aad)
        return kms.EncryptResponse(
            name=version if self.bent != "name" else "projects/p/other" + _VERSIONS + "1",
            ciphertext=sealed,
            ciphertext_crc32c=crc32c(sealed) ^ (self.bent == "ciphertext"),
            verified_plaintext_crc32c=request.plaintext_crc32c == crc32c(request.plaintext) and self.bent != "verified",
            verified_additional_authenticated_data_crc32c=request.additional_authenticated_data_crc32c == crc32c(aad),
        )

    def _decrypt(self, request: Any, context: Any) -> Any:
        number = int.from_bytes(request.ciphertext[:2], "big")
        versions = self.keys.get(request.name, [])
        if f"{request.name}{_VERSIONS}{number}" in self.doomed:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not enabled")
        if not 1 <= number <= len(versions):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Decryption failed")
        try:
            cipher = AESGCM(versions[number - 1])
            aad = request.additional_authenticated_data
            plain = cipher.decrypt(request.ciphertext[2:14], request.ciphertext[14:], aad)
        except (InvalidTag, ValueError):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Decryption failed")
        return kms.DecryptResponse(plaintext=plain, plaintext_crc32c=crc32c(plain) ^ (self.bent == "plaintext"))

    def _list(self, request: Any, _context: Any) -> Any:
        names = [f"{request.parent}{_VERSIONS}{i + 1}" for i in range(len(self.keys.get(request.parent, ())))]
        return kms.ListCryptoKeyVersionsResponse(
            crypto_key_versions=[
                kms.CryptoKeyVersion(name=name, state=_DOOMED if name in self.doomed else _ENABLED) for name in names
            ]
        )

    def _renew(self, request: Any, _context: Any) -> Any:
        self.keys[request.parent].append(AESGCM.generate_key(256))
        name = f"{request.parent}{_VERSIONS}{len(self.keys[request.parent])}"
        return kms.CryptoKeyVersion(name=name, state=_ENABLED)

    def _prefer(self, request: Any, context: Any) -> Any:
        # Here the newest is always the primary one.
        if request.crypto_key_version_id != str(len(self.keys[request.name])):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not the newest")
        return kms.CryptoKey(name=request.name)

    def _destroy(self, request: Any, _context: Any) -> Any:
        self.doomed.add(request.name)
        return kms.CryptoKeyVersion(name=request.name, state=_DOOMED)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.stop(0).wait()
