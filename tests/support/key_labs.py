"""One real key service each, with what the conformance suite needs to be done to it."""

from __future__ import annotations

import atexit
import functools
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from simulators.azure_vault import AzureVault, Credential
from simulators.gcp_kms_server import GcpKmsServer
from simulators.strict_kms import REGION, StrictKms
from simulators.transit_engine import TransitEngine, TransitKey
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.core.secret import SecretBytes
from strongroom.keys.adapters.aws_kms import AwsKmsService
from strongroom.keys.adapters.azure_kv import AzureKeyService
from strongroom.keys.adapters.gcp_kms import GcpKmsService
from strongroom.keys.adapters.local import Argon2Cost, LocalService
from strongroom.keys.adapters.pkcs11_token import Pkcs11Service
from strongroom.keys.adapters.tpm_pcr import TpmPcrService
from strongroom.keys.adapters.transit import TransitService
from strongroom.keys.provider import Closed, Finality, KeyService, Patience, WrappingProvider
from strongroom.keys.uri import KeyUri
from strongroom.keys.wrapping import WrapPurpose
from strongroom.tpm.adapters.transport import DescriptorTransport

SOFTHSM: Final = "/usr/lib/softhsm/libsofthsm2.so"
PIN: Final = "1234-5678"
TOKEN_TEXT: Final = "s.made-up-token"
CHEAP: Final = Argon2Cost(iterations=1, lanes=1, memory_kib=512)
PATIENCE: Final = Patience(attempts=3, first_pause=0.5, deadline=20.0)
QUICK: Final = 0.4


class Counted:
    """A key service, with a count of what it was asked."""

    def __init__(self, service: KeyService) -> None:
        self.service = service
        self.asked = 0

    @property
    def capabilities(self) -> frozenset[Any]:
        return self.service.capabilities

    def close_key(self, key: SecretBytes, purpose: WrapPurpose) -> Closed:
        self.asked += 1
        return self.service.close_key(key, purpose)

    def open_key(self, closed: Closed, purpose: WrapPurpose) -> SecretBytes:
        self.asked += 1
        return self.service.open_key(closed, purpose)

    def destroy(self) -> None:
        self.asked += 1
        self.service.destroy()

    def renew(self) -> None:
        self.asked += 1
        self.service.renew()

    def destroy_before(self, kept: Closed) -> Finality:
        self.asked += 1
        return self.service.destroy_before(kept)


@dataclass
class Asked:
    """A provider over a counted service; pauses are noted, not made."""

    uri: KeyUri
    counted: Counted
    pauses: list[float] = field(default_factory=list)

    @property
    def provider(self) -> WrappingProvider:
        return WrappingProvider(
            self.uri,
            self.counted,
            random_bytes=os.urandom,
            monotonic=lambda: sum(self.pauses),
            sleep=self.pauses.append,
            patience=PATIENCE,
        )


@dataclass(kw_only=True)
class KeyLab:
    """What can be had of one kind of service: two keys, a refusal, an absence, silence, a newer version."""

    one: tuple[KeyUri, KeyService]
    another: tuple[KeyUri, KeyService]
    refusing: Callable[[], KeyService] | None = None
    """The service as it says no, for as long as the lab's switch is on."""
    absent: Callable[[], KeyService] | None = None
    silent: Callable[[int], KeyService] | None = None
    """The service behind a port that takes connections and never answers."""
    newer: Callable[[], None] | None = None
    sole: tuple[KeyUri, KeyService] | None = None
    """The first key, by a URI that says that it holds nothing else; None where versions can't be destroyed."""
    calm: Callable[[], None] = lambda: None
    """Undo what ``refusing`` and ``absent`` did."""

    def asked(self, what: tuple[KeyUri, KeyService] | None = None, service: KeyService | None = None) -> Asked:
        uri, normal = what or self.one
        return Asked(uri, Counted(service or normal))


@contextmanager
def silent_port() -> Iterator[int]:
    """A port of this machine that takes connections and says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        yield listening.getsockname()[1]


def closed_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def private(path: Path, text: str) -> Path:
    """A file of this user's alone."""
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    return path


@contextmanager
def local_lab(_folder: Path) -> Iterator[KeyLab]:
    def service(text: bytes) -> KeyService:
        return LocalService(SecretBytes(bytearray(text)), os.urandom, CHEAP)

    uri = KeyUri.parse("local:")
    yield KeyLab(one=(uri, service(b"six random words")), another=(uri, service(b"six other words!")))


@functools.cache
def machine() -> SoftwareTPM:
    """A TPM for this process: making one takes longer than most tests."""
    if not SoftwareTPM.available():
        pytest.skip("no software TPM here: apt-get install swtpm swtpm-tools")
    folder = Path(tempfile.mkdtemp(prefix="tpm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tpm = SoftwareTPM(folder).start()
    atexit.register(tpm.stop)
    return tpm


@contextmanager
def tpm_lab(folder: Path) -> Iterator[KeyLab]:
    good = private(folder / "auth", "an authorisation value")
    at = machine().socket_path

    def connect(address: str) -> DescriptorTransport:
        return DescriptorTransport.unix(Path(address.removeprefix("unix:")))

    def pair(more: str, socket_path: Path = at) -> tuple[KeyUri, KeyService]:
        uri = KeyUri.parse(f"tpm2:unix:{socket_path}?{more}")
        return uri, TpmPcrService(uri, connect)

    ours = f"pcrs=7,11&auth-file={good}"

    yield KeyLab(
        # Another policy and a parent that isn't there: wrong authorisation values lock a TPM out after three tries.
        one=pair(ours),
        another=pair("pcrs=11"),
        refusing=lambda: pair("pcrs=7,11&parent=0x81000001")[1],
        absent=lambda: pair(ours, folder / "nobody.sock")[1],
    )


@functools.cache
def softhsm() -> None:
    """Make a SoftHSM token for this process: the module reads once where its tokens are."""
    if not Path(SOFTHSM).exists():
        pytest.skip("no SoftHSM2 here: apt-get install softhsm2")
    folder = Path(tempfile.mkdtemp(prefix="softhsm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "tokens").mkdir()
    settings = private(folder / "softhsm2.conf", f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(settings)
    command = ["softhsm2-util", "--init-token", "--free", "--label", "strongroom", "--pin", PIN, "--so-pin", PIN]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def token_key(label: str, *, extractable: bool = False) -> None:
    """Make an AES-256 key in the token, by default one that never leaves it."""
    import pkcs11  # noqa: PLC0415 - an extra

    softhsm()
    with pkcs11.lib(SOFTHSM).get_token(token_label="strongroom").open(user_pin=PIN, rw=True) as session:
        session.generate_key(
            pkcs11.KeyType.AES,
            256,
            store=True,
            label=label,
            id=secrets.token_bytes(4),
            template={pkcs11.Attribute.EXTRACTABLE: extractable, pkcs11.Attribute.SENSITIVE: not extractable},
        )


def token_uri(folder: Path, label: str, more: str = "", *, pin: str = "pin", module: str = SOFTHSM) -> KeyUri:
    return KeyUri.parse(
        f"pkcs11:token=strongroom;object={label}?module-path={module}&pin-source=file:{folder / pin}{more}"
    )


@contextmanager
def pkcs11_lab(folder: Path, more: str = "") -> Iterator[KeyLab]:
    private(folder / "pin", PIN)
    private(folder / "wrong-pin", "9999-9999")
    name = secrets.token_hex(4)
    token_key(f"{name}-one")
    token_key(f"{name}-another")

    def pair(label: str) -> tuple[KeyUri, KeyService]:
        uri = token_uri(folder, f"{name}-{label}", more)
        return uri, Pkcs11Service(uri)

    yield KeyLab(
        one=pair("one"),
        another=pair("another"),
        refusing=lambda: Pkcs11Service(token_uri(folder, f"{name}-one", more, pin="wrong-pin")),
        absent=lambda: Pkcs11Service(token_uri(folder, f"{name}-one", more, module="/nowhere/module.so")),
        sole=(alone := token_uri(folder, f"{name}-one", f"{more}&sole=yes"), Pkcs11Service(alone)),
    )


@contextmanager
def transit_lab(folder: Path) -> Iterator[KeyLab]:
    token = private(folder / "token", TOKEN_TEXT + "\n")
    wrong = private(folder / "wrong-token", "s.wrong")
    with TransitEngine(TOKEN_TEXT) as engine:
        engine.keys.update({"one": TransitKey(), "another": TransitKey()})

        def pair(key: str, address: str = engine.address, file: Path = token) -> tuple[KeyUri, KeyService]:
            uri = KeyUri.parse(f"transit:{address}/transit/{key}?token-file={file}")
            return uri, TransitService(uri, seconds=QUICK)

        yield KeyLab(
            one=pair("one"),
            another=pair("another"),
            refusing=lambda: pair("one", file=wrong)[1],
            absent=lambda: pair("one", f"http://127.0.0.1:{closed_port()}")[1],
            silent=lambda port: pair("one", f"http://127.0.0.1:{port}")[1],
            newer=lambda: engine.keys["one"].versions.append(os.urandom(32)),
            sole=(
                alone := KeyUri.parse(f"transit:{engine.address}/transit/one?token-file={token}&sole=yes"),
                TransitService(alone, seconds=QUICK),
            ),
        )


@contextmanager
def real_transit_lab(folder: Path) -> Iterator[KeyLab]:
    """A real server: its address and token come from the environment, and the mount `transit` must be there."""
    import hvac  # noqa: PLC0415 - for tests alone

    address, token = os.environ["STRONGROOM_TEST_TRANSIT_URL"], os.environ["STRONGROOM_TEST_TRANSIT_TOKEN"]
    client, name = hvac.Client(url=address, token=token), secrets.token_hex(4)
    files = private(folder / "token", token), private(folder / "wrong-token", "s.wrong")
    for key in ("one", "another"):
        client.secrets.transit.create_key(name=f"{name}-{key}")

    def pair(key: str, file: Path = files[0]) -> tuple[KeyUri, KeyService]:
        uri = KeyUri.parse(f"transit:{address}/transit/{name}-{key}?token-file={file}")
        return uri, TransitService(uri)

    yield KeyLab(
        one=pair("one"),
        another=pair("another"),
        refusing=lambda: pair("one", files[1])[1],
        newer=lambda: client.secrets.transit.rotate_key(name=f"{name}-one"),
        sole=(
            alone := KeyUri.parse(f"transit:{address}/transit/{name}-one?token-file={files[0]}&sole=yes"),
            TransitService(alone),
        ),
    )


@contextmanager
def aws_lab(folder: Path) -> Iterator[KeyLab]:
    made = {"AWS_ACCESS_KEY_ID": "made-up", "AWS_SECRET_ACCESS_KEY": "made-up", "AWS_EC2_METADATA_DISABLED": "true"}
    before = {name: os.environ.get(name) for name in (*made, "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")}
    os.environ.update(made, AWS_CONFIG_FILE=str(folder / "none"), AWS_SHARED_CREDENTIALS_FILE=str(folder / "none"))
    try:
        import boto3  # noqa: PLC0415 - an extra

        with StrictKms() as server:
            client = boto3.client("kms", region_name=REGION, endpoint_url=server.address)
            names = [client.create_key()["KeyMetadata"]["Arn"] for _ in range(2)]

            def pair(arn: str, address: str = server.address) -> tuple[KeyUri, KeyService]:
                uri = KeyUri.parse(f"aws-kms:{arn}?endpoint={address}")
                return uri, AwsKmsService(uri, seconds=QUICK)

            def refusing() -> KeyService:
                client.disable_key(KeyId=names[0])
                return pair(names[0])[1]

            yield KeyLab(
                one=pair(names[0]),
                another=pair(names[1]),
                refusing=refusing,
                calm=lambda: client.enable_key(KeyId=names[0]),
                absent=lambda: pair(names[0], f"http://127.0.0.1:{closed_port()}")[1],
                silent=lambda port: pair(names[0], f"http://127.0.0.1:{port}")[1],
            )
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def gcp_lab(_folder: Path) -> Iterator[KeyLab]:
    ring = "projects/p/locations/l/keyRings/r/cryptoKeys"
    with GcpKmsServer() as server:
        for key in ("one", "another"):
            server.make(f"{ring}/{key}")

        def pair(key: str, port: int = server.port) -> tuple[KeyUri, KeyService]:
            uri = KeyUri.parse(f"gcp-kms:{ring}/{key}?endpoint=http://127.0.0.1:{port}")
            return uri, GcpKmsService(uri, seconds=QUICK)

        def failing(status: grpc.StatusCode) -> KeyService:
            server.status = status
            return pair("one")[1]

        yield KeyLab(
            one=pair("one"),
            another=pair("another"),
            refusing=lambda: failing(grpc.StatusCode.PERMISSION_DENIED),
            calm=lambda: setattr(server, "status", None),
            absent=lambda: pair("one", closed_port())[1],
            silent=lambda port: pair("one", port)[1],
            newer=lambda: server.make(f"{ring}/one"),
            sole=(
                alone := KeyUri.parse(f"gcp-kms:{ring}/one?endpoint=http://127.0.0.1:{server.port}&sole=yes"),
                GcpKmsService(alone, seconds=QUICK),
            ),
        )


@contextmanager
def azure_lab(_folder: Path) -> Iterator[KeyLab]:
    with AzureVault() as vault:

        def pair(name: str) -> tuple[KeyUri, KeyService]:
            uri = KeyUri.parse(f"azure-kv:{vault.make(name, secrets.token_hex(16))}")
            return uri, AzureKeyService(uri, credential=Credential(), transport=vault)

        one = pair("one")

        def failing(status: int | None) -> KeyService:
            vault.status, vault.gone = status, status is None
            return one[1]

        def calm() -> None:
            vault.status, vault.gone = None, False

        yield KeyLab(
            one=one,
            another=pair("another"),
            refusing=lambda: failing(403),
            absent=lambda: failing(None),
            calm=calm,
        )


LABS: Final[Mapping[str, Callable[[Path], AbstractContextManager[KeyLab]]]] = {
    "local": local_lab,
    "tpm2": tpm_lab,
    "pkcs11 aes-gcm": pkcs11_lab,
    "pkcs11 aes-kwp": functools.partial(pkcs11_lab, more="&algorithm=aes-kwp"),
    "transit": transit_lab,
    "transit, a real server": real_transit_lab,
    "aws-kms": aws_lab,
    "gcp-kms": gcp_lab,
    "azure-kv": azure_lab,
}
"""Every key service by its name."""


def lab_of(kind: str, folder: Path) -> AbstractContextManager[KeyLab]:
    """Return one; skips where it would be a real server and there is none."""
    if "real" in kind and not os.environ.get("STRONGROOM_TEST_TRANSIT_URL"):
        pytest.skip("no transit server here: set STRONGROOM_TEST_TRANSIT_URL and STRONGROOM_TEST_TRANSIT_TOKEN")
    return LABS[kind](folder)
