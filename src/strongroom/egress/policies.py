"""The egress policies of a deployment: one document that the root quorum signs, adopted like its other documents.

Where a model's life ends, and how fast it may pass, is therefore what root holders signed and the log names. What one
document lets out that the one before it didn't is told by :func:`changes`: whoever signs is shown it, at least two
must, and the keeper lets it wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.envelope import payload_type
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId
from strongroom.egress.bound import check_policy
from strongroom.egress.policy import EgressPolicy, VerifiedBy

EGRESS_TYPE: Final = payload_type("egress.v1")
MAX_POLICIES_BYTES: Final = 512 * 1024
MAX_POLICIES: Final = 256
LEAST_SIGNERS: Final = 2
"""Root holders who must sign what lets more out than before, also where the genesis is content with one."""

_WIDENS: Final = (
    "parameters",
    "effective_millibits_per_weight",
    "principal_day_bits",
    "model_day_bits",
    "fleet_day_bits",
    "lifetime_permille",
    "quota_holders",
    "workspace_year_permille",
    "workspace_person_bits",
)
"""The larger, the more may leave, or the larger the model counts."""
_NARROWS: Final = ("vocabulary", "min_days_to_steal", "residual_millibits_per_token")
"""The smaller, the less is charged or demanded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One way in which a document differs from the one before it, for a person."""

    looser: bool
    text: str
    new: bool = False
    """A model that wasn't in the document before: there is nothing to compare its terms with."""

    @property
    def word(self) -> str:
        """Return it in a word, for a column."""
        return "LOOSER " if self.looser else "new    " if self.new else "tighter"


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressPolicies:
    """One epoch of egress policies. A newer epoch replaces an older one as a whole.

    :raises MalformedError: (construction) a model twice, or too many.
    """

    genesis: Digest
    epoch: int
    predecessor: Digest | None
    """The document before this one; none for epoch 1."""
    policies: tuple[EgressPolicy, ...]

    def __post_init__(self) -> None:
        if len({one.model for one in self.policies}) != len(self.policies):
            raise MalformedError("the egress policies name a model twice")
        if len(self.policies) > MAX_POLICIES:
            raise MalformedError(f"there are at most {MAX_POLICIES} egress policies")

    @property
    def by_model(self) -> Mapping[ModelId, EgressPolicy]:
        """The policy of each model."""
        return MappingProxyType({one.model: one for one in self.policies})

    @classmethod
    def parse(cls, data: bytes) -> EgressPolicies:
        """Read canonical bytes; the caller has checked the root quorum's signatures over them.

        :raises MalformedError: another form, or contents that contradict each other.
        """
        with Fields(decode(data, max_bytes=MAX_POLICIES_BYTES), "egress") as fields:
            fields.constant("v", 1)
            return cls(
                genesis=fields.digest("genesis"),
                epoch=fields.integer("epoch", least=1),
                predecessor=fields.digest("predecessor") if fields.optional("predecessor") else None,
                policies=fields.objects("policies", EgressPolicy.read, most=MAX_POLICIES),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes: the payload of an ``egress.v1`` envelope."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "epoch": self.epoch,
                "predecessor": str(self.predecessor) if self.predecessor else None,
                "policies": [one.to_json() for one in self.policies],
            }
        )

    def check(self) -> None:
        """Refuse a document under which a model could be stolen sooner than its own policy allows.

        :raises BoundBrokenError: it is named.
        """
        for one in self.policies:
            check_policy(one)

    def merged(self, added: Iterable[EgressPolicy]) -> tuple[EgressPolicy, ...]:
        """Return these policies with some added or replaced."""
        new = {one.model: one for one in added}
        kept = tuple(new.pop(one.model, one) for one in self.policies)
        return (*kept, *new.values())


def changes(
    before: Mapping[ModelId, EgressPolicy], after: Mapping[ModelId, EgressPolicy], *, metered: Iterable[ModelId] = ()
) -> tuple[Difference, ...]:
    """Return every difference, and whether it lets more out or guards less.

    :param metered: models that have an odometer. One of them that comes back after it was taken out is looser: else
        leaving it out once would be the way around its limits.
    """
    known = frozenset(metered)
    return tuple(
        difference
        for model in sorted({*before, *after})
        for difference in _changed(model, before.get(model), after.get(model), known=known)
    )


def only_tightens(found: Iterable[Difference]) -> bool:
    """Tell whether nothing in a list of differences lets more out."""
    return not any(one.looser for one in found)


def _changed(
    model: ModelId, was: EgressPolicy | None, becomes: EgressPolicy | None, *, known: frozenset[ModelId]
) -> Iterator[Difference]:
    if was is None:
        again = ", which had an odometer already" if model in known else ""
        yield Difference(looser=model in known, text=f"model `{model}` is new{again}", new=True)
    elif becomes is None:
        # Nothing of it is served then; but nothing bounds it any more either, and what comes next has no predecessor.
        yield Difference(looser=True, text=f"model `{model}` is taken out")
    else:
        yield from (Difference(looser=looser, text=f"model `{model}`: {text}") for looser, text in _terms(was, becomes))


def _terms(was: EgressPolicy, becomes: EgressPolicy) -> Iterator[tuple[bool, str]]:
    for names, sign in ((_WIDENS, 1), (_NARROWS, -1)):
        for name in names:
            old, new = int(getattr(was, name)), int(getattr(becomes, name))
            if old != new:
                yield (new - old) * sign > 0, f"{name} {new:,}, was {old:,}"
    yield from _verifying(was.verified_by, becomes.verified_by)
    for output in becomes.outputs:
        if output not in was.outputs:
            yield True, f"lets `{output.value}` leave"
    for output in was.outputs:
        if output not in becomes.outputs:
            yield False, f"lets no `{output.value}` leave any more"
    gone = sorted({*was.warn_permille} - {*becomes.warn_permille})
    if gone:
        yield True, f"warns no more at {', '.join(f'{mark} of 1,000' for mark in gone)}"
    more = sorted({*becomes.warn_permille} - {*was.warn_permille})
    if more:
        yield False, f"warns at {', '.join(f'{mark} of 1,000' for mark in more)}"


def _verifying(was: VerifiedBy | None, becomes: VerifiedBy | None) -> Iterator[tuple[bool, str]]:
    if becomes is None:
        if was is not None:
            yield False, "no token is verified any more"
        return
    if was is None or was.image != becomes.image:
        yield (
            True,
            f"image `{becomes.image}` verifies {becomes.replay_permille} of 1,000 answers, whose tokens cost less",
        )
        return
    for name in ("replay_permille", "differences_per_million"):
        old, new = int(getattr(was, name)), int(getattr(becomes, name))
        if old != new:
            yield new > old, f"verified_by.{name} {new:,}, was {old:,}"
