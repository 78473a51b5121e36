"""What a console shows from beside the broker: an assessment that the log names, and deliveries with their folders."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.assurance.assessment import Assessment
from strongroom.assurance.notice import NOTICE_TYPE, AssessmentNotice
from strongroom.core.canonical import Json, encode
from strongroom.core.digest import Digest
from strongroom.core.envelope import sign
from strongroom.core.ids import ModelId
from strongroom.intake.formats.identify import Format
from strongroom.intake.rules import Rule
from strongroom.intake.states import Standing, State, Tool, begin
from strongroom.intake.verdict import DeliveredFile, FileList, Verdict
from strongroom.quarantine.adapters.delivery_folder import DeliveryFolder
from strongroom.quarantine.terms import GateRules, Terms
from strongroom.release.intake_statements import INTAKE_RECORD_TYPE, IntakeRecord
from support import assessing, reported
from support.consoles import RunningConsole, next_roster
from support.deployment import publisher, signer
from support.occupied import Occupied

OPERATOR = "dana"
GATE = Tool("strongroom", "0.1")


def give_roles(lab: Occupied, **roles: str) -> None:
    """Have people hold more roles: ``sam="assessor auditor"``."""
    more = {name: frozenset(text.split()) for name, text in roles.items()}
    next_roster(lab, lambda one: replace(one, roles=one.roles | more.get(one.id, frozenset())))


def assessment_of(lab: Occupied) -> Assessment:
    """Return an assessment of this deployment, made now, with something in every part of it."""
    now = int(time.time())
    with pytest.MonkeyPatch.context() as patch:
        for module in (assessing, reported):
            patch.setattr(module, "NOW", now)
        made = reported.assessment.__wrapped__()
    return replace(made, genesis=lab.deployment.genesis.digest)


def keep(live: RunningConsole, made: Assessment) -> Path:
    """Put an assessment where the console looks for it."""
    path = live.folder / "assessments" / "assessment.json"
    path.write_bytes(made.to_bytes())
    return path


def record(live: RunningConsole, made: Assessment, by: str) -> None:
    """Have the log name an assessment."""
    notice = AssessmentNotice(
        genesis=made.genesis,
        assessment=made.digest,
        held=0 if made.held is None else made.held.rank,
        goal=made.goal,
        at=made.at,
    )
    envelope = sign(NOTICE_TYPE, notice.to_bytes(), signer(by))
    live.occupied.post("statements/assessment", {"envelope": envelope.to_json()}, by=by)


class Delivered:
    """A delivery that dana takes in, its steps in the log and in its folder."""

    def __init__(self, live: RunningConsole, name: str, files: Mapping[str, tuple[Format, Json]], model: str) -> None:
        self._lab = live.occupied
        self.folder = DeliveryFolder(live.folder / "quarantine" / name)
        self.folder.path.mkdir()
        self.id = os.urandom(16).hex()
        self.terms = Terms(
            genesis=self._lab.deployment.genesis.digest,
            delivery=self.id,
            model=ModelId(model),
            leave_out=frozenset({".git"}),
            signature=None,
            attachments=(),
            rules=GateRules(),
            converted_from=None,
        )
        self.folder.fix(self.terms)
        self._files = files
        self.standing = begin(self.id, ModelId(model), self._now, documents=(self.terms.digest,))
        self._record()

    def up_to(self, state: State) -> Delivered:
        """Take its steps up to a state."""
        while self.standing.last.state is not state:
            self._step()
            self._record()
        return self

    def refuse(self, rule: Rule) -> Delivered:
        """Have it refused."""
        self.standing = self.standing.refuse(rule, self._now, tools=(GATE,))
        self._record()
        self.folder.judge(Verdict.of(self.standing).signed(publisher(OPERATOR)))
        return self

    @property
    def _now(self) -> int:
        return int(time.time())

    def _step(self) -> None:
        now: Standing = self.standing
        if now.last.state is State.RECEIVED:
            listed = FileList.of(DeliveredFile(one, 1000, Digest.of(one.encode())) for one in self._files)
            artifact = self.folder.keep(listed.to_bytes())
            self.standing = now.step(
                State.HASHED, self._now, artifact=artifact, documents=(Digest.of(b"copy"),), tools=(GATE,)
            )
        elif now.last.state is State.HASHED:
            self.standing = now.waive(State.SIGNATURE_VERIFIED, self._now)
        elif now.last.state is State.SIGNATURE_VERIFIED:
            found: list[Json] = [
                {"name": name, "format": kind.value, "facts": facts}
                for name, (kind, facts) in sorted(self._files.items())
            ]
            report = self.folder.keep(encode({"v": 1, "files": found}))
            self.standing = now.step(State.FORMATS_CHECKED, self._now, documents=(report,), tools=(GATE,))
        else:
            self.standing = now.waive(State.SCANNED, self._now)

    def _record(self) -> None:
        said = IntakeRecord(genesis=self.terms.genesis, record=self.standing.last)
        envelope = sign(INTAKE_RECORD_TYPE, said.to_bytes(), signer(OPERATOR))
        self._lab.post("statements/intake-record", {"envelope": envelope.to_json()}, by=OPERATOR)
        self.folder.accept(envelope)
