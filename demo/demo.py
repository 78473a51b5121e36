"""The main job on a real model: seal, approve, attest, release, run; then every refusal; the record; the level held.

``make demo`` runs this. It works in a scratch folder that it makes anew, asks nothing, and leaves the folder behind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
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


def refusals(stage: Stage) -> None:
    """The table of what was refused."""
    stage.say("What was refused, each by a real attempt")
    width = max(len(row[0]) for row in stage.table)
    print(f"  {'attempt'.ljust(width)}  exit  reason")
    for what, reason, code in stage.table:
        print(f"  {what.ljust(width)}  {code.rjust(4)}  {reason}")


def attack_suite(stage: Stage) -> Path:
    """The whole attack suite, on a scratch copy that it makes for itself; returns its report."""
    stage.say("The attack suite, against a deployment that it founds for itself: about a minute")
    report = stage.scratch / "attacks.json"
    # Its exit code says whether one attack got through, or broke; before the blank line stands one line an attack.
    told = stage.ok("attack", "run", "--out", report).out.partition("\n\n")[2]
    print(_indented(told))
    return report


def assess(stage: Stage, *, sealed: tuple[Path, ...], attacks: Path) -> None:
    """Which level this very deployment holds, from what is seen now."""
    stage.say("Which of RAND's levels does this deployment hold? By what software sees now, and nobody's word")
    stage.start()
    given: list[str | Path] = ["--home", stage.home, "--search", stage.scratch, "--attacks", attacks]
    for one in sealed:
        given += ["--sealed", one]
    began = time.monotonic()
    told = stage.ok("assess", "--level", "SL3", *given, "--out", "html", "--to", stage.scratch, who="sam").out
    took = time.monotonic() - began
    stage.stop()
    print(_indented(told))
    print(f"  assessed in {took:.1f} s; as a page: {shown(stage)}/assessment.html")


def _indented(text: str) -> str:
    return textwrap.indent(text.rstrip(), "  ")


def shown(stage: Stage) -> str:
    """Return the scratch folder, as one would type it from the checkout."""
    scratch = stage.scratch
    return str(scratch.relative_to(CHECKOUT) if scratch.is_relative_to(CHECKOUT) else scratch)


def what_next(stage: Stage) -> None:
    """What to try with what was left behind."""
    folder = shown(stage)
    print("\nTry next:")
    print(f"  .venv/bin/strongroom audit ls --log {folder}/home/log/public")
    print(f"  .venv/bin/strongroom inspect {folder}/minilm-2.sealed")
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
        refusals(stage)
        report = attack_suite(stage)
        assess(stage, sealed=(sealed, stage.scratch / "minilm-2.sealed"), attacks=report)
        what_next(stage)
    except UnexpectedError as error:
        sys.exit(f"\nThe demonstration failed: {error}")
    finally:
        stage.stop()


if __name__ == "__main__":
    main()
