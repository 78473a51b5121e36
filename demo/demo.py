"""The main job on a real model: seal, approve, attest, release, run; then every refusal; then the record.

``make demo`` runs this. It works in a scratch folder that it makes anew, asks nothing, and leaves the folder behind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / "tests"))

from attacks import Attacks  # noqa: E402 - the line above makes the simulators importable
from preparing import IMAGE, MODEL, attest, found_deployment, genuine_model, seal, sign_and_adopt  # noqa: E402
from stage import Stage, UnexpectedError  # noqa: E402
from strongroom.attacks.lab.software_tpm import SoftwareTPM  # noqa: E402

SCRIPT = CHECKOUT / "demo" / "inside" / "embed.py"
COSINE, TOLERANCE = 0.7553, 1e-3


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
    try:
        plain = genuine_model()
        if not SoftwareTPM.available():
            raise UnexpectedError("no software TPM: install swtpm and swtpm-tools (`make clean`, then `make setup`)")
        with SoftwareTPM(stage.scratch / "tpm") as tpm:
            found_deployment(stage)
            stage.say(
                f"Sealing the genuine all-MiniLM-L6-v2 ({sum(f.stat().st_size for f in plain.rglob('*')):,} bytes)"
            )
            sealed = seal(stage, plain, MODEL, "minilm-1.sealed")
            attest(stage, tpm, sealed, SCRIPT)
            attacks = Attacks(stage, tpm, sealed=sealed, model=MODEL, image=IMAGE, script=SCRIPT)
            release(stage, attacks, plain)
            attacks.copy_log()
            stage.say("Now everybody who should not have it")
            attacks.people()
            attacks.vetting()
            attacks.leaver(lambda kind, file: sign_and_adopt(stage, kind, file))
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
