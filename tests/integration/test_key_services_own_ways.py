"""What only one kind of key service can do wrong: each has its own test, beside what all of them promise."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import grpc
import hvac
import pytest
from botocore.exceptions import ClientError

from simulators.azure_vault import AzureVault, Credential
from simulators.gcp_kms_server import GcpKmsServer
from simulators.strict_kms import REGION, StrictKms
from simulators.transit_engine import TransitEngine, TransitKey
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.attestation.adapters.tpm_device import TpmDevice
from strongroom.core.digest import Digest
from strongroom.core.errors import LockedError, StrongroomError
from strongroom.core.extras import MissingExtraError
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.keys.adapters.aws_kms import AwsKmsService
from strongroom.keys.adapters.azure_kv import AzureKeyService
from strongroom.keys.adapters.gcp_kms import GcpKmsService, crc32c
from strongroom.keys.adapters.pkcs11_token import Pkcs11Service
from strongroom.keys.adapters.secret_file import CredentialFileError, read_credential
from strongroom.keys.adapters.tpm_pcr import TpmPcrService
from strongroom.keys.adapters.transit import TransitService
from strongroom.keys.hierarchy import root_purpose
from strongroom.keys.provider import (
    Closed,
    KeyService,
    KeyServiceMismatchError,
    KeyServiceRefusedError,
    KeyServiceUnavailableError,
    WrappingProvider,
)
from strongroom.keys.uri import KeyUri
from strongroom.keys.wiring import key_provider
from strongroom.tpm.adapters.transport import DescriptorTransport
from support.key_labs import PIN, TOKEN_TEXT, private, token_key, token_uri

pytestmark = pytest.mark.integration

PURPOSE = root_purpose(Digest.of(b"genesis"))
KEY = bytes(range(7, 39))
Aws = tuple[StrictKms, Any, Callable[[], AwsKmsService]]
RING = "projects/p/locations/l/keyRings/r/cryptoKeys"


def secret() -> SecretBytes:
    return SecretBytes(bytearray(KEY))


def round_trip(service: KeyService) -> bytes:
    return bytes(service.open_key(service.close_key(secret(), PURPOSE), PURPOSE).reveal(TOKEN))


def tpm_service(tpm: SoftwareTPM, more: str = "") -> TpmPcrService:
    uri = KeyUri.parse(f"tpm2:unix:{tpm.socket_path}?pcrs=7,11{more}")
    return TpmPcrService(uri, lambda address: DescriptorTransport.unix(Path(address.removeprefix("unix:"))))


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[SoftwareTPM]:
    if not SoftwareTPM.available():
        pytest.skip("no software TPM here: apt-get install swtpm swtpm-tools")
    with SoftwareTPM(tmp_path / "tpm") as running:
        yield running


def extend(tpm: SoftwareTPM, pcr: int) -> None:
    with TpmDevice(DescriptorTransport.unix(tpm.socket_path)) as device:
        device.pcr_extend(pcr, bytes(32))


def test_a_tpm_opens_in_the_measured_state_alone(tpm: SoftwareTPM) -> None:
    service = tpm_service(tpm)
    closed = service.close_key(secret(), PURPOSE)
    extend(tpm, 12)
    assert bytes(service.open_key(closed, PURPOSE).reveal(TOKEN)) == KEY, "a register that the policy doesn't name"
    extend(tpm, 11)
    # More often than a TPM has room for sessions and objects: what a refusal leaves behind would show.
    for _ in range(8):
        with pytest.raises(KeyServiceRefusedError) as caught:
            service.open_key(closed, PURPOSE)
        assert caught.value.reason == "key-service-other-state"
    tpm.power_cycle()
    assert bytes(service.open_key(closed, PURPOSE).reveal(TOKEN)) == KEY
    with pytest.raises(KeyServiceRefusedError):
        # The same registers in another selection are another policy.
        TpmPcrService(
            KeyUri.parse(f"tpm2:unix:{tpm.socket_path}?pcrs=7"),
            lambda address: DescriptorTransport.unix(Path(address.removeprefix("unix:"))),
        ).open_key(closed, PURPOSE)


def test_a_tpm_asks_for_the_authorisation_value_too(tpm: SoftwareTPM, tmp_path: Path) -> None:
    good, bad = private(tmp_path / "good", "right"), private(tmp_path / "bad", "wrong")
    closed = tpm_service(tpm, f"&auth-file={good}").close_key(secret(), PURPOSE)
    assert bytes(tpm_service(tpm, f"&auth-file={good}").open_key(closed, PURPOSE).reveal(TOKEN)) == KEY
    with pytest.raises(KeyServiceRefusedError):
        tpm_service(tpm, f"&auth-file={bad}").open_key(closed, PURPOSE)
    with pytest.raises(KeyServiceRefusedError):
        tpm_service(tpm).open_key(closed, PURPOSE)
    private(tmp_path / "long", "x" * 33)
    with pytest.raises(KeyServiceRefusedError, match="at most 32"):
        tpm_service(tpm, f"&auth-file={tmp_path / 'long'}").close_key(secret(), PURPOSE)


def test_another_tpm_opens_nothing(tpm: SoftwareTPM, tmp_path: Path) -> None:
    closed = tpm_service(tpm).close_key(secret(), PURPOSE)
    with SoftwareTPM(tmp_path / "two") as other, pytest.raises(KeyServiceMismatchError):
        tpm_service(other).open_key(closed, PURPOSE)


def test_a_token_s_key_that_could_leave_it_is_refused(tmp_path: Path) -> None:
    private(tmp_path / "pin", PIN)
    token_key("leaves", extractable=True)
    with pytest.raises(KeyServiceRefusedError, match="never leaves"):
        Pkcs11Service(token_uri(tmp_path, "leaves")).close_key(secret(), PURPOSE)


@pytest.mark.parametrize("more", ["", "&algorithm=aes-kwp"])
def test_a_token_closes_by_each_algorithm_and_not_by_the_other(tmp_path: Path, more: str) -> None:
    private(tmp_path / "pin", PIN)
    token_key(f"way{len(more)}")
    service = Pkcs11Service(token_uri(tmp_path, f"way{len(more)}", more))
    other = Pkcs11Service(token_uri(tmp_path, f"way{len(more)}", "" if more else "&algorithm=aes-kwp"))
    assert round_trip(service) == KEY
    with pytest.raises(KeyServiceMismatchError):
        other.open_key(service.close_key(secret(), PURPOSE), PURPOSE)


def test_a_credential_is_read_from_a_file_of_ones_own(tmp_path: Path) -> None:
    assert bytes(read_credential(str(private(tmp_path / "pin", "1234\n"))).reveal(TOKEN)) == b"1234"
    (tmp_path / "link").symlink_to(tmp_path / "pin")
    os.mkfifo(tmp_path / "pipe", 0o600)
    private(tmp_path / "open", "1234").chmod(0o640)
    private(tmp_path / "empty", "\n")
    private(tmp_path / "long", "x" * 5000)
    for name in ("none", "link", "pipe", "open", "empty", "long", "."):
        with pytest.raises(CredentialFileError):
            read_credential(str(tmp_path / name))


def transit(engine: TransitEngine, folder: Path, key: str = "root") -> TransitService:
    token = private(folder / "token", TOKEN_TEXT)
    return TransitService(KeyUri.parse(f"transit:{engine.address}/transit/{key}?token-file={token}"))


def test_a_transit_key_must_be_there_and_never_leave(tmp_path: Path) -> None:
    with TransitEngine(TOKEN_TEXT) as engine:
        with pytest.raises(KeyServiceRefusedError):
            transit(engine, tmp_path, "misspelt").close_key(secret(), PURPOSE)
        assert engine.keys == {}, "the engine would have made one"
        for unfit in (TransitKey(exportable=True), TransitKey(type="rsa-2048"), TransitKey(type=["aes256-gcm96"])):
            engine.keys["root"] = unfit
            with pytest.raises(KeyServiceRefusedError, match="never leaves"):
                transit(engine, tmp_path).close_key(secret(), PURPOSE)


@pytest.mark.parametrize(
    ("status", "error"),
    [(s, KeyServiceUnavailableError) for s in (412, 429, 472, 473, 500, 502, 503)]
    + [(s, KeyServiceRefusedError) for s in (301, 307, 401, 403, 404, 405)],
)
def test_a_transit_status_is_a_refusal_or_an_absence(tmp_path: Path, status: int, error: type[StrongroomError]) -> None:
    with TransitEngine(TOKEN_TEXT) as engine:
        engine.keys["root"] = TransitKey()
        closed = transit(engine, tmp_path).close_key(secret(), PURPOSE)
        engine.status = status
        for act in (lambda: transit(engine, tmp_path).open_key(closed, PURPOSE), transit(engine, tmp_path).destroy):
            with pytest.raises(error) as caught:
                act()
            assert "made to fail" not in caught.value.diagnosis()


def test_the_transit_engine_here_is_one_for_the_widely_used_client_too(tmp_path: Path) -> None:
    with TransitEngine(TOKEN_TEXT) as engine:
        client: Any = hvac.Client(url=engine.address, token=TOKEN_TEXT)
        client.secrets.transit.create_key(name="root")
        service = transit(engine, tmp_path)
        closed = service.close_key(secret(), PURPOSE)
        client.secrets.transit.rotate_key(name="root")
        assert service.close_key(secret(), PURPOSE).version == "v2"
        assert bytes(service.open_key(closed, PURPOSE).reveal(TOKEN)) == KEY
        with pytest.raises(hvac.exceptions.InvalidRequest):
            client.secrets.transit.decrypt_data(name="root", ciphertext=closed.data.decode())


@pytest.mark.parametrize(
    "text", [b"", b"vault:v1:", b"vault:v1:x:y", b"vault:v1:\xff", b"bao:v1:AAAA", b"vault:v2:AAAA"]
)
def test_a_transit_ciphertext_of_another_form_is_refused(tmp_path: Path, text: bytes) -> None:
    with TransitEngine(TOKEN_TEXT) as engine:
        engine.keys["root"] = TransitKey()
        with pytest.raises(KeyServiceMismatchError):
            transit(engine, tmp_path).open_key(Closed(key="root", version="v1", data=text), PURPOSE)


@pytest.fixture
def aws(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[tuple[StrictKms, Any, Callable[[], AwsKmsService]]]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "made-up")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with StrictKms() as server:
        client = boto3.client("kms", region_name=REGION, endpoint_url=server.address)
        arn = client.create_key()["KeyMetadata"]["Arn"]
        uri = KeyUri.parse(f"aws-kms:{arn}?endpoint={server.address}")
        yield server, client, lambda: AwsKmsService(uri)


def test_the_gate_before_the_emulator_refuses_what_it_lets_through(aws: Aws) -> None:
    _, client, service = aws
    closed = service().close_key(secret(), PURPOSE)
    for change, undo in (("disable_key", "enable_key"), ("schedule_key_deletion", "")):
        getattr(client, change)(KeyId=closed.key)
        for act in (lambda: service().close_key(secret(), PURPOSE), lambda: service().open_key(closed, PURPOSE)):
            with pytest.raises(KeyServiceRefusedError):
                act()
        if undo:
            getattr(client, undo)(KeyId=closed.key)
            assert round_trip(service()) == KEY
    # An attested release would be answered in clear by the emulator: whoever asks for one here is refused.
    document = {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": b"x"}
    with pytest.raises(ClientError, match="UnsupportedOperation"):
        client.decrypt(KeyId=closed.key, CiphertextBlob=closed.data, Recipient=document)


def test_an_answer_for_another_key_is_refused(aws: Aws) -> None:
    _, client, service = aws
    other = client.create_key()["KeyMetadata"]["Arn"]
    asked = service()
    closed = asked.close_key(secret(), PURPOSE)

    class Lying:
        def encrypt(self, **request: Any) -> Any:
            return {**asked_client.encrypt(**request), "KeyId": other}

        def decrypt(self, **request: Any) -> Any:
            return {**asked_client.decrypt(**request), "KeyId": other}

    asked_client, asked._client = asked._client, Lying()
    for act in (lambda: asked.close_key(secret(), PURPOSE), lambda: asked.open_key(closed, PURPOSE)):
        with pytest.raises(KeyServiceMismatchError, match="another key"):
            act()


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "ThrottlingException", KeyServiceUnavailableError),
        (500, "KMSInternalException", KeyServiceUnavailableError),
        (503, "Whatever", KeyServiceUnavailableError),
        (400, "AccessDeniedException", KeyServiceRefusedError),
        (400, "KMSInvalidStateException", KeyServiceRefusedError),
        (400, "InvalidCiphertextException", KeyServiceMismatchError),
        (400, "IncorrectKeyException", KeyServiceMismatchError),
    ],
)
def test_an_aws_code_is_a_refusal_an_absence_or_a_mismatch(
    aws: Aws, status: int, code: str, error: type[StrongroomError]
) -> None:
    server, _, service = aws
    closed = service().close_key(secret(), PURPOSE)
    server.asked.clear()
    server.status = (status, code)
    with pytest.raises(error) as caught:
        service().open_key(closed, PURPOSE)
    assert "made to fail" not in caught.value.diagnosis()
    assert server.asked == ["Decrypt"], "the library itself doesn't ask again"


@pytest.mark.parametrize("bent", ["verified", "ciphertext", "name"])
def test_a_gcp_answer_that_was_changed_on_its_way_is_refused(bent: str) -> None:
    with GcpKmsServer() as server:
        server.make(f"{RING}/k")
        service = GcpKmsService(KeyUri.parse(f"gcp-kms:{RING}/k?endpoint=http://127.0.0.1:{server.port}"))
        closed = service.close_key(secret(), PURPOSE)
        server.bent = bent
        with pytest.raises(KeyServiceMismatchError):
            service.close_key(secret(), PURPOSE)
        server.bent = "plaintext"
        with pytest.raises(KeyServiceMismatchError):
            service.open_key(closed, PURPOSE)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (grpc.StatusCode.UNAVAILABLE, KeyServiceUnavailableError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, KeyServiceUnavailableError),
        (grpc.StatusCode.INTERNAL, KeyServiceUnavailableError),
        (grpc.StatusCode.PERMISSION_DENIED, KeyServiceRefusedError),
        (grpc.StatusCode.UNAUTHENTICATED, KeyServiceRefusedError),
        (grpc.StatusCode.FAILED_PRECONDITION, KeyServiceRefusedError),
        (grpc.StatusCode.NOT_FOUND, KeyServiceRefusedError),
        (grpc.StatusCode.INVALID_ARGUMENT, KeyServiceMismatchError),
    ],
)
def test_a_gcp_status_is_a_refusal_an_absence_or_a_mismatch(
    status: grpc.StatusCode, error: type[StrongroomError]
) -> None:
    with GcpKmsServer() as server:
        server.make(f"{RING}/k")
        service = GcpKmsService(KeyUri.parse(f"gcp-kms:{RING}/k?endpoint=http://127.0.0.1:{server.port}"))
        closed = service.close_key(secret(), PURPOSE)
        server.asked.clear()
        server.status = status
        with pytest.raises(error) as caught:
            service.open_key(closed, PURPOSE)
        assert "made to fail" not in caught.value.diagnosis()
        assert server.asked == ["Decrypt"]


def test_crc32c_is_the_published_one() -> None:
    # RFC 3720, B.4: 32 bytes of zeros, of ones, and 0..31.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, KeyServiceMismatchError),
        (401, KeyServiceRefusedError),
        (403, KeyServiceRefusedError),
        (404, KeyServiceRefusedError),
        (429, KeyServiceUnavailableError),
        (503, KeyServiceUnavailableError),
    ],
)
def test_an_azure_status_is_a_refusal_an_absence_or_a_mismatch(status: int, error: type[StrongroomError]) -> None:
    with AzureVault() as vault:
        uri = KeyUri.parse(f"azure-kv:{vault.make('root', '0' * 32)}")
        service = AzureKeyService(uri, credential=Credential(), transport=vault)
        closed = service.close_key(secret(), PURPOSE)
        vault.status = status
        with pytest.raises(error) as caught:
            service.open_key(closed, PURPOSE)
        assert "made to fail" not in caught.value.diagnosis()
        vault.status = None
        with pytest.raises(KeyServiceMismatchError):
            service.open_key(replace(closed, key=closed.key[:-1] + "1"), PURPOSE)


def test_who_can_wrap_a_key_of_their_own_can_t_bring_it_in() -> None:
    # Anybody who has an RSA key's public half can make a closed key. The inner encryption then has another key.
    with AzureVault() as vault:
        uri = KeyUri.parse(f"azure-kv:{vault.make('root', '0' * 32)}")
        service = AzureKeyService(uri, credential=Credential(), transport=vault)
        provider = _provider(uri, service)
        held = provider.wrap(secret(), PURPOSE)
        forged = replace(held, closed=service.close_key(SecretBytes(bytearray(32)), PURPOSE))
        with pytest.raises(StrongroomError) as caught:
            provider.unwrap(forged, PURPOSE)
        assert caught.value.code == "wrapped-key-refused"


def _provider(uri: KeyUri, service: KeyService) -> WrappingProvider:
    return WrappingProvider(uri, service, random_bytes=os.urandom, monotonic=lambda: 0.0, sleep=lambda _: None)


@pytest.mark.parametrize(
    ("uri", "library", "extra"),
    [
        ("pkcs11:token=t;object=o?module-path=/m.so&pin-source=file:/p", "pkcs11", "pkcs11"),
        ("aws-kms:arn:aws:kms:eu-central-1:111122223333:key/1", "boto3.session", "aws"),
        (f"gcp-kms:{RING}/k", "google.cloud.kms", "gcp"),
        (f"azure-kv:https://vault.example/keys/k/{'0' * 32}", "azure.keyvault.keys", "azure"),
    ],
)
def test_a_service_says_which_extra_it_lacks(
    monkeypatch: pytest.MonkeyPatch, uri: str, library: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError) as caught:
        key_provider(KeyUri.parse(uri))
    assert caught.value.remedy == f"pip install 'strongroom[{extra}]'"


def test_a_passphrase_is_asked_for_by_its_name() -> None:
    with pytest.raises(LockedError):
        key_provider(KeyUri.parse("local:"))


def test_purposes_reach_no_service_in_more_than_they_need(aws: Aws) -> None:
    # The encryption context stands in the account's trail in clear.
    _, _, service = aws
    asked, seen = service(), []

    class Watching:
        def encrypt(self, **request: Any) -> Any:
            seen.append(request["EncryptionContext"])
            raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "Encrypt")

    asked._client = Watching()
    with suppress(KeyServiceRefusedError):
        asked.close_key(secret(), PURPOSE)
    assert seen == [{"strongroom": str(Digest.of(PURPOSE.associated_data()))}]
