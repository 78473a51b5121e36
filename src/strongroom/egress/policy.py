"""The egress policy of one model: how small it counts, how long its theft must take, and what may leave meanwhile.

Every member is mandatory. RAND's SL3-WPI-01 sizes the cap for 4 bits a weight with a tenfold discount, which is the
template's 0.4; published compression of weights reaches a hundredfold of bf16, which is the strict 0.16.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from strongroom.core.canonical import MAX_INTEGER, Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields, reading
from strongroom.core.ids import ImageId, ModelId, image_id, model_id
from strongroom.egress.bits import (
    BYTE_BITS,
    MAX_VOCABULARY,
    MILLI,
    VALUE_BITS,
    Output,
    effective_bits,
    end_bits,
    token_millibits,
    verdict_bits,
    whole_bits,
)

MAX_POLICY: Final = 16 * 1024
MAX_PARAMETERS: Final = 10**14
RAND_MILLIBITS: Final = 4000
"""4 bits a weight: no policy may count a model larger than that."""
DEFAULT_MILLIBITS: Final = 400
STRICT_MILLIBITS: Final = 160
DEFAULT_DAYS: Final = 365
MAX_DAYS: Final = 36500
MAX_QUOTA_HOLDERS: Final = 50
MAX_WORKSPACE_PERMILLE: Final = 10
"""1 % of the effective size a year, over all researchers (SL3-WPI-01, alternative B)."""
MILLION: Final = 1_000_000
_MAX_MARKS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedBy:
    """Who replays answers, so that tokens which are reproduced cost less. It is the root quorum's consent to that.

    :raises MalformedError: (construction) a member out of its range.
    """

    image: ImageId
    """Of the enclave that replays: another engine than the one that answers."""
    replay_permille: int
    """How many of 1,000 answers are replayed. Which ones, nobody knows before they ended."""
    differences_per_million: int
    """Of a million tokens that the second engine looks at, how many differ where nobody cheats: a measurement."""

    def __post_init__(self) -> None:
        _within("verified_by.replay_permille", self.replay_permille, 1, MILLI)
        _within("verified_by.differences_per_million", self.differences_per_million, 1, MILLION // 10)

    @classmethod
    def read(cls, fields: Fields) -> VerifiedBy:
        """Read the object.

        :raises MalformedError: a member is missing, unknown or out of its range.
        """
        return cls(
            image=fields.parsed("image", image_id),
            replay_permille=fields.integer("replay_permille"),
            differences_per_million=fields.integer("differences_per_million"),
        )

    def to_json(self) -> dict[str, Json]:
        """Return what :meth:`read` reads."""
        return {
            "image": self.image,
            "replay_permille": self.replay_permille,
            "differences_per_million": self.differences_per_million,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressPolicy:
    """What may leave one model. Amounts are whole bits.

    :raises MalformedError: (construction) a member out of its range, or a principal with more than the model.
    """

    model: ModelId
    parameters: int
    vocabulary: int
    effective_millibits_per_weight: int
    """How far an attacker is taken to compress the weights: 1 to 4,000 millibits."""
    min_days_to_steal: int
    principal_day_bits: int
    model_day_bits: int
    fleet_day_bits: int
    """Over all models of one governor; of several policies the smallest counts."""
    lifetime_permille: int
    """How much of the effective size may leave in the model's life, over all key epochs."""
    warn_permille: tuple[int, ...]
    """Shares of a limit at which its use is worth a record, ascending."""
    residual_millibits_per_token: int
    """What a token costs that a second engine reproduced from the same seed before it was settled."""
    verified_by: VerifiedBy | None
    """Who replays; None where nobody does, and every token costs its whole logarithm."""
    outputs: tuple[Output, ...]
    """What may leave at all."""
    quota_holders: int
    """Researchers who may take anything out of a workspace."""
    workspace_year_permille: int
    """Share of the effective size that all of them together may take out within a year."""
    workspace_person_bits: int
    """What one of them may take out within a year."""

    def __post_init__(self) -> None:
        _within("parameters", self.parameters, 1, MAX_PARAMETERS)
        _within("vocabulary", self.vocabulary, 2, MAX_VOCABULARY)
        _within("effective_millibits_per_weight", self.effective_millibits_per_weight, 1, RAND_MILLIBITS)
        _within("min_days_to_steal", self.min_days_to_steal, 1, MAX_DAYS)
        _within("model_day_bits", self.model_day_bits, 1, MAX_INTEGER)
        _within("principal_day_bits", self.principal_day_bits, 1, self.model_day_bits)
        _within("fleet_day_bits", self.fleet_day_bits, 1, MAX_INTEGER)
        _within("lifetime_permille", self.lifetime_permille, 1, MILLI)
        _within("residual_millibits_per_token", self.residual_millibits_per_token, 1, self.token_millibits)
        _within("quota_holders", self.quota_holders, 0, MAX_QUOTA_HOLDERS)
        _within("workspace_year_permille", self.workspace_year_permille, 0, MAX_WORKSPACE_PERMILLE)
        _within("workspace_person_bits", self.workspace_person_bits, 0, self.workspace_year_bits)
        marks = self.warn_permille
        if not 1 <= len(marks) <= _MAX_MARKS or any(low >= high for low, high in pairwise((0, *marks, MILLI))):
            raise MalformedError(f"`warn_permille` has 1 to {_MAX_MARKS} values from 1 to 999, ascending")
        if not self.outputs or len(set(self.outputs)) != len(self.outputs):
            raise MalformedError("`outputs` names at least one kind of output, and each once")

    @property
    def token_millibits(self) -> int:
        """Cost of a token, unless it is a verified one."""
        return token_millibits(self.vocabulary)

    @property
    def effective_size(self) -> int:
        """Bits that an attacker must move to have the model."""
        return effective_bits(self.parameters, self.effective_millibits_per_weight)

    @property
    def lifetime_bits(self) -> int:
        """Where the odometer stops, unless two root holders raise it."""
        return self.effective_size * self.lifetime_permille // MILLI

    @property
    def workspace_year_bits(self) -> int:
        """What leaves the workspace within a year, at most."""
        return self.effective_size * self.workspace_year_permille // MILLI

    def cost(self, output: Output, units: int, *, most: int) -> int:
        """Return what an answer of ``units`` costs that nobody replayed, of at most ``most``, in bits, with its end.

        It grows with ``units`` and never exceeds the cost of ``most``.
        """
        each = {
            Output.TOKENS: self.token_millibits,
            Output.VALUES: VALUE_BITS * MILLI,
            Output.BYTES: BYTE_BITS * MILLI,
        }[output]
        return whole_bits(units * each) + end_bits(most)

    def replayed_cost(self, units: int, *, verified: int, most: int) -> int:
        """Return what an answer of ``units`` tokens costs whose first ``verified`` tokens were reproduced, in bits.

        How many those are is part of the message: whoever chooses where an answer leaves the honest one says
        something by that. With it these are lengths of a prefix code over all answers, beside the honest one.
        """
        rest = (units - verified) * self.token_millibits
        return whole_bits(rest + verified * self.residual_millibits_per_token) + end_bits(most) + verdict_bits(most)

    def reserved(self, output: Output, most: int) -> int:
        """Return the most that an answer of at most ``most`` units may cost, replayed or not, in bits."""
        replayed = self.verified_by is not None and output is Output.TOKENS
        return self.cost(output, most, most=most) + (verdict_bits(most) if replayed else 0)

    @classmethod
    def template(
        cls, model: ModelId, *, parameters: int, vocabulary: int, millibits_per_weight: int = DEFAULT_MILLIBITS
    ) -> EgressPolicy:
        """Return where a policy starts: a year to steal, a tenth of the day for one principal, stop at half the size.

        The day's budget is the size over (days + 1), since a bucket that is full at first gives one day more.

        :raises MalformedError: a model so small that nothing could leave it.
        """
        size = effective_bits(parameters, millibits_per_weight)
        day = size // (DEFAULT_DAYS + 1)
        if day < 1:
            raise MalformedError("the model is so small that not a bit a day may leave it")
        return cls(
            model=model,
            parameters=parameters,
            vocabulary=vocabulary,
            effective_millibits_per_weight=millibits_per_weight,
            min_days_to_steal=DEFAULT_DAYS,
            principal_day_bits=max(1, day // 10),
            model_day_bits=day,
            fleet_day_bits=day,
            lifetime_permille=500,
            warn_permille=(500, 800),
            residual_millibits_per_token=token_millibits(vocabulary),
            verified_by=None,
            outputs=(Output.TOKENS,),
            quota_holders=MAX_QUOTA_HOLDERS,
            workspace_year_permille=MAX_WORKSPACE_PERMILLE,
            workspace_person_bits=size * MAX_WORKSPACE_PERMILLE // MILLI // 10,
        )

    @classmethod
    def read(cls, fields: Fields) -> EgressPolicy:
        """Read the object.

        :raises MalformedError: a member is missing, unknown or out of its range.
        """
        fields.constant("v", 1)
        return cls(
            model=fields.parsed("model", model_id),
            parameters=fields.integer("parameters"),
            vocabulary=fields.integer("vocabulary"),
            effective_millibits_per_weight=fields.integer("effective_millibits_per_weight"),
            min_days_to_steal=fields.integer("min_days_to_steal"),
            principal_day_bits=fields.integer("principal_day_bits"),
            model_day_bits=fields.integer("model_day_bits"),
            fleet_day_bits=fields.integer("fleet_day_bits"),
            lifetime_permille=fields.integer("lifetime_permille"),
            warn_permille=_marks(fields),
            residual_millibits_per_token=fields.integer("residual_millibits_per_token"),
            verified_by=_verified_by(fields),
            outputs=_outputs(fields),
            quota_holders=fields.integer("quota_holders"),
            workspace_year_permille=fields.integer("workspace_year_permille"),
            workspace_person_bits=fields.integer("workspace_person_bits"),
        )

    @classmethod
    def parse(cls, data: bytes) -> EgressPolicy:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(data, max_bytes=MAX_POLICY), "egress-policy") as fields:
            return cls.read(fields)

    def to_json(self) -> dict[str, Json]:
        """Return what :meth:`read` reads."""
        return {
            "v": 1,
            "model": self.model,
            "parameters": self.parameters,
            "vocabulary": self.vocabulary,
            "effective_millibits_per_weight": self.effective_millibits_per_weight,
            "min_days_to_steal": self.min_days_to_steal,
            "principal_day_bits": self.principal_day_bits,
            "model_day_bits": self.model_day_bits,
            "fleet_day_bits": self.fleet_day_bits,
            "lifetime_permille": self.lifetime_permille,
            "warn_permille": [*self.warn_permille],
            "residual_millibits_per_token": self.residual_millibits_per_token,
            "verified_by": self.verified_by.to_json() if self.verified_by else None,
            "outputs": [output.value for output in self.outputs],
            "quota_holders": self.quota_holders,
            "workspace_year_permille": self.workspace_year_permille,
            "workspace_person_bits": self.workspace_person_bits,
        }

    @property
    def digest(self) -> Digest:
        """How records name this policy."""
        return Digest.of(encode(self.to_json()))


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise MalformedError(f"`{name}` of an egress policy is an integer from {least} to {most}")


def _verified_by(fields: Fields) -> VerifiedBy | None:
    value = fields.value("verified_by")
    if value is None:
        return None
    with reading(value, f"{fields.where}.verified_by") as inner:
        return VerifiedBy.read(inner)


def _marks(fields: Fields) -> tuple[int, ...]:
    found = [value for _where, value in fields.items("warn_permille", most=_MAX_MARKS)]
    marks = tuple(value for value in found if isinstance(value, int) and not isinstance(value, bool))
    if len(marks) != len(found):
        raise MalformedError(f"`{fields.where}.warn_permille` must be an array of integers")
    return marks


def _outputs(fields: Fields) -> tuple[Output, ...]:
    try:
        return tuple(map(Output, fields.texts("outputs", most=len(Output), max_length=16)))
    except ValueError:
        raise MalformedError(f"`{fields.where}.outputs` must name kinds of output") from None
