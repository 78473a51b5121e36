"""A running deployment in which models' keys are destroyed: the real processes, a key service, older copies."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from strongroom.access.invariants import CUSTODIAN
from strongroom.access.policy import Factor, ModelTerms, Rule, Weights
from strongroom.access.request import Action
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.core.envelope import Envelope
from strongroom.core.errors import NotFoundError
from strongroom.core.ids import ModelId
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.keys.recipient import RecipientKey
from strongroom.keys.uri import KeyUri
from strongroom.personnel.roster import Person
from strongroom.release.delivery import accept
from strongroom.release.destruction import (
    Certificate,
    verify_certificate,
)
from strongroom.release.dossier import Dossier
from support.attested import Attested, Sealed, envelope
from support.deployment import DAY, LEVEL, MODEL, Deployment, rules
from support.shredding import DESTROY, OTHER

WAIT = 2
"""Seconds that a destruction waits here: at this level the rule alone decides."""
PATIENCE = 60.0
_EXPORT = Rule(
    action=Action.EXPORT_PLAINTEXT,
    level=LEVEL,
    requester_role="requester",
    factors=(Factor(role="approver-security", count=1), Factor(role="approver-research", count=1)),
    requester_tier=1,
    approver_tier=2,
    max_window=7 * DAY,
    max_uses=1,
)


def keeps(one: Person) -> Person:
    """Give ``rina`` the role of who answers for keys."""
    return replace(one, roles=one.roles | {CUSTODIAN}) if one.id == "rina" else one


@dataclass
class ShredLab:
    """Two sealed models, ``minilm`` and ``other``, and what opens them without an enclave: exports."""

    deployment: Deployment
    folder: Path
    sealed: dict[ModelId, Sealed] = field(default_factory=dict)

    @classmethod
    def made(cls, folder: Path, *providers: str, keeper_module: str = "strongroom.keeper.wiring") -> ShredLab:
        """Found a deployment whose root key these services hold (a passphrase without any), and seal two models."""
        more = {"providers": tuple(map(KeyUri.parse, providers))} if providers else {}
        terms = [
            ModelTerms(model=model, level=LEVEL, least_isolation="vm-simulated", weights=Weights.TEST, export=True)
            for model in (MODEL, OTHER)
        ]
        deployment = Deployment.found(folder / "home", models=terms, **more)
        deployment.keeper_module = keeper_module
        deployment.policy = replace(deployment.policy, rules=(*rules(), _EXPORT, replace(DESTROY, delay=WAIT)))
        deployment.start("log")
        deployment.start("keeper")
        lab = cls(deployment, folder)
        deployment.adopt_first()
        deployment.change_roster(keeps)
        for model in (MODEL, OTHER):
            lab.seal(model)
        return lab

    def seal(self, model: ModelId) -> None:
        """Seal a model's first version."""
        source = self.folder / f"{model}-weights"
        source.mkdir()
        (source / "model.bin").write_bytes(model.encode() * 1000)
        # Sealing asks no platform.
        publisher = Attested(self.deployment, cast("SoftwareTPM", None))
        self.sealed[model] = publisher.seal(source, self.folder / f"{model}-sealed", model=model)

    def opens(self, model: ModelId) -> bytes:
        """Return a model's data key, as who has a grant to export gets it, by the row of the first day.

        :raises StrongroomError: as the keeper refuses.
        """
        sealed, recipient = self.sealed[model], RecipientKey()
        request = self.deployment.request(
            Action.EXPORT_PLAINTEXT,
            model=model,
            version=1,
            manifest=sealed.sealed.manifest.digest,
            recipient=recipient.digest,
        )
        approvals = tuple(self.deployment.approve(request, who) for who in ("sam", "rina"))
        dossier = Dossier(request=request, approvals=approvals, recipient_key=recipient.public, wrapped=sealed.wrapped)
        told = self.deployment.call("export", dossier=dossier.to_json())
        _delivery, data_key = accept(
            envelope(told["delivery"]),
            self.deployment.genesis,
            recipient,
            request=request.digest,
            model=model,
            version=1,
        )
        with data_key:
            return bytes(data_key.reveal(TOKEN))

    def agree(self, model: ModelId = MODEL) -> Dossier:
        """Ask to destroy a model's keys, and have it agreed on."""
        request = self.deployment.request(Action.DESTROY, model=model)
        approvals = tuple(self.deployment.approve(request, who) for who in ("sam", "rina"))
        dossier = Dossier(request=request, approvals=approvals)
        self.deployment.call("grant", dossier=dossier.to_json())
        return dossier

    def destroy(self, model: ModelId = MODEL) -> None:
        """Ask, agree, wait, and carry it out: step 1 is in the log then."""
        agreed = self.agree(model)
        time.sleep(WAIT + 1)
        self.deployment.call("control", dossier=agreed.to_json())

    def certificate(self, model: ModelId = MODEL) -> Certificate:
        """Wait for a model's destruction certificate, and verify it."""
        return verify_certificate(self.signed(model), self.deployment.genesis)

    def signed(self, model: ModelId = MODEL) -> Envelope:
        """Wait for a model's destruction certificate, as the keeper signed it."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return envelope(self.deployment.call("certificate", model=model)["certificate"])
            except NotFoundError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def copy(self, name: str, *folders: str) -> None:
        """Copy folders of the deployment, as whoever takes a snapshot of its disk."""
        for folder in folders:
            shutil.copytree(self.deployment.home / folder, self.folder / name / folder, symlinks=True)

    def put_back(self, name: str, *folders: str) -> None:
        """Put folders of a copy in the place of those that are there."""
        for folder in folders:
            shutil.rmtree(self.deployment.home / folder)
            shutil.copytree(self.folder / name / folder, self.deployment.home / folder, symlinks=True)

    def restart(self, processes: Sequence[str] = ("log", "keeper")) -> None:
        """Start processes again; what doesn't start raises."""
        for name in processes:
            self.deployment.start(name)

    def stop(self) -> None:
        """Stop the keeper, then the log writer."""
        for name in ("keeper", "log"):
            if name in self.deployment.processes:
                self.deployment.stop(name)
