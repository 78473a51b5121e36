"""The numbered steps of a release; the same numbers stand in the spec, here, in the keeper and in the test names.

1    the requester's client builds the request and signs its bytes
2    each approver's client shows and signs the same bytes
3    the enclave answers a challenge with evidence that binds a key made inside
4    the keeper verifies, born refused:
4.1  documents: roster, policy and reference values are the current ones, and those that the request names
4.2  request: these are the requester's bytes, for this deployment
4.3  approvals: each is a signature over the same bytes by a key of the current roster
4.4  standing: no denial, revocation or spent use stands in the log
4.5  version: the version and manifest are the current ones in the log
4.6  challenge: issued here, for this request and platform, fresh, answered once
4.7  genuine: the evidence is what it says, and binds the challenge and the recipient key
4.8  wanted: what was measured is what the reference values and the request name
4.9  decision: the invariants and the Cedar policies both allow
5    the log writer makes the record durable; freezes are looked at again
6    the keeper unwraps the data key, encrypts it to the recipient key, and signs
7    the enclave checks the signature, the manifest and the version, and opens the weights in memory
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from strongroom.core.canonical import Json
from strongroom.core.errors import DeniedError, MalformedError
from strongroom.core.fields import Fields


class Step(Enum):
    """A numbered step: the number, and a short name."""

    REQUEST = ("1", "request")
    APPROVALS = ("2", "approvals")
    EVIDENCE = ("3", "evidence")
    DOCUMENTS = ("4.1", "documents")
    REQUEST_GENUINE = ("4.2", "request genuine")
    APPROVALS_GENUINE = ("4.3", "approvals genuine")
    STANDING = ("4.4", "standing")
    VERSION = ("4.5", "version")
    CHALLENGE = ("4.6", "challenge")
    EVIDENCE_GENUINE = ("4.7", "evidence genuine")
    EVIDENCE_WANTED = ("4.8", "evidence wanted")
    DECISION = ("4.9", "decision")
    RECORD = ("5", "record")
    DELIVERY = ("6", "delivery")
    OPEN = ("7", "open")

    @property
    def number(self) -> str:
        """The number, e.g. ``4.7``."""
        return self.value[0]

    @property
    def title(self) -> str:
        """The short name."""
        return self.value[1]


class ReleaseRefusedError(DeniedError):
    """A step of the release protocol refused. ``reason`` is the code, ``step`` the step.

    ``weighed`` says what was looked at against what; it stands in the trace, and isn't told to who was refused.
    """

    code = "refused"

    def __init__(self, step: Step, reason: str, message: str, *, remedy: str = "", weighed: str = "") -> None:
        super().__init__(f"step {step.number} ({step.title}): {message}", remedy=remedy, reason=reason)
        self.step = step
        self.weighed = weighed


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One step as it was carried out: what was found, and when it refused, the code and what would pass."""

    step: Step
    passed: bool
    found: str
    reason: str = ""
    remedy: str = ""

    @classmethod
    def read(cls, fields: Fields) -> Check:
        """Read the JSON form.

        :raises MalformedError: another form, or a step that doesn't exist.
        """
        number, title = fields.text("step", max_length=8), fields.text("name", max_length=64)
        step = next((one for one in Step if (one.number, one.title) == (number, title)), None)
        if step is None:
            raise MalformedError(f"`{fields.where}` names no step of the release protocol")
        return cls(
            step=step,
            passed=fields.boolean("passed"),
            found=fields.text("found", max_length=4096),
            reason=fields.text("reason"),
            remedy=fields.text("remedy", max_length=4096),
        )

    def to_json(self) -> Json:
        """Return the JSON form that ``explain`` prints."""
        return {
            "step": self.step.number,
            "name": self.step.title,
            "passed": self.passed,
            "found": self.found,
            "reason": self.reason,
            "remedy": self.remedy,
        }


@dataclass(slots=True)
class Trace:
    """The checks made so far, in order."""

    checks: list[Check] = field(default_factory=list)

    def passed(self, step: Step, found: str) -> None:
        """Note a step that passed, and what it found."""
        self.checks.append(Check(step=step, passed=True, found=found))

    def refused(self, error: ReleaseRefusedError) -> None:
        """Note the step that refused."""
        found = f"{error.message}: {error.weighed}" if error.weighed else error.message
        self.checks.append(Check(step=error.step, passed=False, found=found, reason=error.reason, remedy=error.remedy))
