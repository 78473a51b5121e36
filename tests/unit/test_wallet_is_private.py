"""A wallet is its owner's alone: looser modes are refused, keys open only with their passphrase, pins hold."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.access.request import LogHead
from strongroom.client.adapters.wallet_folder import (
    FileMissingError,
    WalletFolder,
    WrongWalletPassphraseError,
)
from strongroom.client.wallet import PinnedGenesisError, Seen, SeenDocument, WalletError
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Ed25519Signer
from strongroom.keys.adapters.local import Argon2Cost
from strongroom.release.documents import DocumentKind
from support.cosigners import LOG_COSIGNER

CHEAP = Argon2Cost(iterations=1, lanes=1, memory_kib=8192)
PASSPHRASE = b"six random words would be better"
ROOT = Ed25519Signer.from_seed(b"R" * 32)


def genesis(name: str = "test") -> Genesis:
    key = ROOT.public_key
    return Genesis(
        deployment=name,
        created=1_795_471_717,
        root_keys=(key,),
        root_threshold=1,
        keeper_key=key,
        log_origin="log",
        log_key=key,
        log_cosigner=LOG_COSIGNER,
    )


def asked(text: bytes = PASSPHRASE) -> SecretBytes:
    return SecretBytes(bytearray(text))


def never() -> SecretBytes:
    raise AssertionError("nobody may be asked for a passphrase")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    WalletFolder.create(tmp_path / "dana", PersonId("dana"), os.urandom, passphrase=None)
    return tmp_path / "dana"


def test_a_new_wallet_is_private_and_signs(folder: Path) -> None:
    os.umask(os.umask(0o022))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    wallet = WalletFolder(folder, never)
    signer = wallet.signer()
    signer.public_key.verify(signer.sign(b"text"), b"text")
    assert signer.public_key == wallet.identity.key


def test_one_secret_gives_both_keys_and_neither_the_other(folder: Path) -> None:
    wallet = WalletFolder(folder, never)
    publishing = wallet.publishing_signer()
    publishing.public_key.verify(publishing.sign(b"text"), b"text")
    assert publishing.public_key == wallet.identity.publishing_key
    assert publishing.public_key.hybrid
    assert not wallet.signer().public_key.hybrid
    assert publishing.public_key.raw[:32] != wallet.signer().public_key.raw
    assert WalletFolder(folder, never).publishing_signer().public_key == publishing.public_key


def test_a_publishing_key_that_is_not_the_secret_s_is_noticed(folder: Path, tmp_path: Path) -> None:
    other = WalletFolder.create(tmp_path / "sam", PersonId("sam"), os.urandom, passphrase=None)
    identity = replace(WalletFolder(folder, never).identity, publishing_key=other.publishing_key)
    (folder / "identity.json").write_bytes(identity.to_bytes())
    for ask in (WalletFolder(folder, never).signer, WalletFolder(folder, never).publishing_signer):
        with pytest.raises(WalletError, match="isn't the key"):
            ask()


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o710, 0o701])
def test_a_folder_open_to_others_is_refused(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    with pytest.raises(WalletError, match="this user alone"):
        WalletFolder(folder, never)


@pytest.mark.parametrize("name", ["identity.json", "signing.key"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_open_to_others_is_refused(folder: Path, name: str, mode: int) -> None:
    (folder / name).chmod(mode)
    with pytest.raises(WalletError, match="this user alone"):
        WalletFolder(folder, never).signer()


def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(WalletError):
        WalletFolder(tmp_path / "link", never)
    (folder / "signing.key").rename(tmp_path / "elsewhere")
    (folder / "signing.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileMissingError):
        WalletFolder(folder, never).signer()


def test_a_key_is_never_replaced(folder: Path) -> None:
    before = (folder / "signing.key").read_bytes()
    with pytest.raises(WalletError, match="already"):
        WalletFolder.create(folder, PersonId("dana"), os.urandom, passphrase=None)
    assert (folder / "signing.key").read_bytes() == before


def test_another_key_in_the_file_is_noticed(folder: Path, tmp_path: Path) -> None:
    WalletFolder.create(tmp_path / "sam", PersonId("sam"), os.urandom, passphrase=None)
    (tmp_path / "sam" / "signing.key").replace(folder / "signing.key")
    with pytest.raises(WalletError, match="isn't the key"):
        WalletFolder(folder, never).signer()


def test_a_protected_key_needs_its_passphrase(tmp_path: Path) -> None:
    path = tmp_path / "root"
    with asked() as passphrase:
        made = WalletFolder.create(path, PersonId("root"), os.urandom, passphrase=passphrase, cost=CHEAP)
    assert b"PRIVATE KEY" not in (path / "signing.key").read_bytes()
    prompts = iter([asked()])
    wallet = WalletFolder(path, lambda: next(prompts))
    assert wallet.signer().public_key == made.key
    assert wallet.publishing_signer().public_key == made.publishing_key
    with pytest.raises(WrongWalletPassphraseError):
        WalletFolder(path, lambda: asked(b"five random words would be worse")).signer()


def test_a_short_passphrase_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with asked(b"short") as passphrase, pytest.raises(UsageError):
        WalletFolder.create(tmp_path / "w", PersonId("dana"), os.urandom, passphrase=passphrase, cost=CHEAP)
    assert not (tmp_path / "w" / "signing.key").exists()


def test_a_replaced_genesis_is_noticed(folder: Path) -> None:
    wallet = WalletFolder(folder, never)
    with pytest.raises(WalletError, match="isn't bound"):
        wallet.genesis()
    wallet.bind("https://127.0.0.1:8443", genesis(), b"ca")
    assert WalletFolder(folder, never).genesis() == genesis()
    (folder / "genesis.json").write_bytes(genesis("other").to_bytes())
    with pytest.raises(PinnedGenesisError):
        WalletFolder(folder, never).genesis()


def test_a_wallet_stays_with_its_deployment_and_https(folder: Path) -> None:
    wallet = WalletFolder(folder, never)
    with pytest.raises(UsageError, match="https"):
        wallet.bind("http://127.0.0.1:8443", genesis(), b"ca")
    wallet.bind("https://127.0.0.1:8443", genesis(), b"ca")
    wallet.bind("https://127.0.0.1:9443", genesis(), b"ca")
    with pytest.raises(WalletError, match="another deployment"):
        wallet.bind("https://127.0.0.1:8443", genesis("other"), b"ca")


def test_tls_files_must_be_there(folder: Path) -> None:
    wallet = WalletFolder(folder, never)
    wallet.bind("https://127.0.0.1:8443", genesis(), b"ca")
    with pytest.raises(WalletError, match=r"ca\.crt|tls"):
        wallet.tls_files()
    wallet.certify(key=b"key", certificate=b"certificate")
    assert [path.name for path in wallet.tls_files()] == ["ca.crt", "tls.crt", "tls.key"]
    (folder / "tls.key").chmod(0o644)
    with pytest.raises(WalletError):
        wallet.tls_files()


def test_what_was_seen_is_kept_and_damage_is_not_taken_for_nothing(folder: Path) -> None:
    wallet = WalletFolder(folder, never)
    assert wallet.seen() == Seen()
    seen = Seen(
        documents={DocumentKind.ROSTER: SeenDocument(epoch=3, digest=Digest.of(b"r"))},
        log=LogHead(size=9, root=Digest.of(b"root")),
    )
    with wallet.exclusive():
        wallet.remember(seen)
    assert WalletFolder(folder, never).seen() == seen
    (folder / "seen.json").write_bytes(b"{}")
    with pytest.raises(MalformedError):
        wallet.seen()
