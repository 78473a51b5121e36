"""A key service's URI has one form and one spelling, and no place for a secret."""

from __future__ import annotations

import pytest

from strongroom.keys.uri import MAX_URI, KeyUri, KeyUriError, Service

ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
GOOD = {
    "local:": Service.LOCAL,
    "tpm2:device:/dev/tpmrm0?pcrs=0,2,4,7": Service.TPM2,
    "tpm2:unix:/run/tpm.sock?pcrs=11&auth-file=/etc/strongroom/tpm&parent=0x81000001": Service.TPM2,
    "pkcs11:token=My%20HSM;object=root?module-path=/usr/lib/hsm.so&pin-source=file:/etc/strongroom/pin": Service.PKCS11,
    "pkcs11:token=t;object=o?module-path=/m.so&pin-source=file:/p&algorithm=aes-kwp": Service.PKCS11,
    "transit:https://bao.example:8200/transit/root?token-file=/run/token&namespace=a/b": Service.TRANSIT,
    "transit:http://127.0.0.1:8200/a/b/root?token-file=/run/token": Service.TRANSIT,
    f"aws-kms:{ARN}": Service.AWS,
    f"aws-kms:{ARN}?profile=keeper&endpoint=http://127.0.0.1:5000": Service.AWS,
    "gcp-kms:projects/p/locations/l/keyRings/r/cryptoKeys/k": Service.GCP,
    "azure-kv:https://vault.example/keys/root/0123456789abcdef0123456789abcdef?algorithm=A256KW": Service.AZURE,
}
BAD = [
    "",
    "local",
    "local:x",
    "local:?",
    "LOCAL:",
    "file:/root.key",
    "tpm2:device:/dev/tpmrm0",
    "tpm2:device:/dev/tpmrm0?pcrs=",
    "tpm2:device:/dev/tpmrm0?pcrs=24",
    "tpm2:device:/dev/tpmrm0?pcrs=7&pcrs=7",
    "tpm2:device:/dev/tpmrm0?pcrs=7&auth-file=relative",
    "tpm2:tcp:127.0.0.1:2321?pcrs=7",
    "pkcs11:token=t;object=o?module-path=/m.so",
    "pkcs11:token=t;object=o;id=%01?module-path=/m.so&pin-source=file:/p",
    "pkcs11:token=t;object=o?module-path=/m.so&pin-source=|/bin/sh",
    "pkcs11:token=t;object=o?module-path=/m.so&pin-source=file:/p&algorithm=aes-cbc",
    "pkcs11:token=%74;object=o?module-path=/m.so&pin-source=file:/p",
    "pkcs11:token=%ff;object=o?module-path=/m.so&pin-source=file:/p",
    "pkcs11:token=%FF;object=o?module-path=/m.so&pin-source=file:/p",
    "pkcs11:token=a%0Ab;object=o?module-path=/m.so&pin-source=file:/p",
    "pkcs11:token=a b;object=o?module-path=/m.so&pin-source=file:/p",
    "transit:http://bao.example:8200/transit/root?token-file=/run/token",
    "transit:https://user:word@bao.example/transit/root?token-file=/run/token",
    "transit:https://bao.example/transit/../sys?token-file=/run/token",
    "transit:https://bao.example/transit/root",
    "aws-kms:alias/root",
    "aws-kms:arn:aws:kms:eu-central-1:111122223333:alias/root",
    f"aws-kms:{ARN}?endpoint=http://kms.example",
    f"aws-kms:{ARN}#x",
    "gcp-kms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
    "gcp-kms:projects/p/locations/l/keyRings/r/cryptoKeys/k?endpoint=http://kms.example:80",
    "azure-kv:https://vault.example/keys/root",
    "azure-kv:http://vault.example/keys/root/0123456789abcdef0123456789abcdef",
    "local:" + "a" * MAX_URI,
]


@pytest.mark.parametrize("text", GOOD)
def test_a_good_uri_is_read_and_written_alike(text: str) -> None:
    uri = KeyUri.parse(text)
    assert uri.service is GOOD[text]
    assert str(uri) == text


def test_what_is_escaped_is_decoded() -> None:
    uri = KeyUri.parse(next(text for text in GOOD if "%20" in text))
    assert uri.part("token") == "My HSM"
    assert uri.needed("pin-source") == "file:/etc/strongroom/pin"
    assert uri.setting("algorithm") is None


@pytest.mark.parametrize("text", BAD)
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(KeyUriError):
        KeyUri.parse(text)


@pytest.mark.parametrize(
    "setting", ["pin-value=1234", "pin=1234", "token=s.1", "password=x", "secret=x", "passphrase=x", "auth=x"]
)
def test_a_secret_in_the_uri_is_refused_by_name_and_not_repeated(setting: str) -> None:
    uri = f"pkcs11:token=t;object=o?module-path=/m.so&pin-source=file:/p&{setting}"
    with pytest.raises(KeyUriError, match="holds no secret") as caught:
        KeyUri.parse(uri)
    assert setting not in caught.value.diagnosis()
