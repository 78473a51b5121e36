"""The modules that may read secret bytes are these and no others: adding one is a decision, made here."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

SRC = Path(__file__).resolve().parents[2] / "src"
TOKEN_MODULE = "strongroom.core.insecure_secret_access"

# Sorted. Beside each: why it must see the bytes.
READERS = {
    "strongroom.attestation.enrolment": "compares what the TPM recovered with the challenge",
    "strongroom.broker.webhooks": "signs messages with a webhook's secret",
    "strongroom.cli.custodian": "shows a share's words to its custodian, on a terminal",
    "strongroom.cli.passphrase": "hands a new passphrase to the keeper through a pipe",
    "strongroom.client.adapters.security_key": "hands a security key's PIN to the library that speaks with it",
    "strongroom.client.adapters.wallet_folder": "makes and opens a person's signing key",
    "strongroom.client.fingerprints": "encrypts and opens the fingerprints with a key of their own",
    "strongroom.core.secret": "defines what the token opens (for the type checker only)",
    "strongroom.enclave.agent.wiring": "keeps the delivered data key in hidden memory; makes the key that blinds drops",
    "strongroom.intake.copies.catalogue": "writes the sketches' key into the catalogue, which is encrypted",
    "strongroom.intake.copies.fingerprints": "derives the sketches' projections from their key",
    "strongroom.keeper.founding": "makes the keeper's signing key when a deployment is founded",
    "strongroom.keeper.records": "encrypts and opens a person's vetting records with that person's key",
    "strongroom.keys.adapters.aws_kms": "hands a wrap's own key to the service, never the root key",
    "strongroom.keys.adapters.azure_kv": "as above",
    "strongroom.keys.adapters.gcp_kms": "as above",
    "strongroom.keys.adapters.identity_file": "makes and opens a recipient's identity",
    "strongroom.keys.adapters.local": "opens the root key's file",
    "strongroom.keys.adapters.pkcs11_token": "hands a wrap's own key, and the PIN, to the token",
    "strongroom.keys.adapters.tpm_pcr": "hands a wrap's own key, and an authorisation value, to the TPM",
    "strongroom.keys.adapters.transit": "hands a wrap's own key, and the token, to the service",
    "strongroom.keys.escrow": "recognises a share's words by their digest",
    "strongroom.keys.recipient": "encrypts a data key to its recipient",
    "strongroom.keys.signing": "makes the keeper's signing key anew for each signature",
    "strongroom.keys.slip39": "splits the root key into words, and puts it together again",
    "strongroom.keys.split_root": "derives the root key from its two parts",
    "strongroom.keys.wrapping": "wraps and unwraps",
    "strongroom.release.drop_file": "encrypts and opens a drop with a key of its own",
    "strongroom.responder.adapters.telling": "puts PagerDuty's routing key into the message, as its API asks",
    "strongroom.sealing.floe": "derives segment keys from the data key",
    "strongroom.sealing.prelude": "derives the sealed file's keys from the data key",
}


@cache
def nodes() -> dict[Path, list[ast.AST]]:
    """Return each module with everything in it that may name the token."""
    kinds = (ast.Import, ast.ImportFrom, ast.Call)
    return {
        path: [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, kinds)]
        for path in sorted(SRC.rglob("*.py"))
    }


def imports_token(path: Path) -> bool:
    """Tell whether a module imports the token's module, in any spelling, at any depth."""
    package, _, name = TOKEN_MODULE.rpartition(".")
    for node in nodes()[path]:
        if isinstance(node, ast.Import) and any(alias.name.startswith(TOKEN_MODULE) for alias in node.names):
            return True
        if isinstance(node, ast.ImportFrom):
            whole = node.module or ""
            if whole.startswith(TOKEN_MODULE) or (whole == package and any(alias.name == name for alias in node.names)):
                return True
    return False


def test_only_the_listed_modules_can_read_secrets() -> None:
    found = {".".join(path.relative_to(SRC).with_suffix("").parts) for path in nodes() if imports_token(path)}
    assert found - set(READERS) == set(), "a new reader of secrets: does it have to be one? then list it, with why"
    assert set(READERS) - found == set(), "no longer a reader of secrets: take it off the list"


def test_no_module_reaches_the_token_by_a_string() -> None:
    # importlib.import_module("…insecure_secret_access") would pass the test above.
    name = TOKEN_MODULE.rpartition(".")[2]
    for path, found in nodes().items():
        for node in found:
            if isinstance(node, ast.Call):
                texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
                assert not any(name in text for text in texts), path


def test_the_list_is_sorted() -> None:
    assert list(READERS) == sorted(READERS)
