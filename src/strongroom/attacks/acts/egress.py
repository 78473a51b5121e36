"""Who takes the weights out by the front door: more than was agreed, of another kind, or by a counter set back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from strongroom.attacks.attack import attack
from strongroom.attacks.ending import RefusedError
from strongroom.attacks.lab.cast import MODEL, OTHER
from strongroom.attacks.layers import Layer
from strongroom.attacks.trial import Trial
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64
from strongroom.core.envelope import Envelope, sign
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId
from strongroom.egress.bits import Output
from strongroom.egress.governor import Governor, Served
from strongroom.egress.odometer import Block, Odometer
from strongroom.egress.policies import EGRESS_TYPE, EgressPolicies
from strongroom.egress.policy import EgressPolicy
from strongroom.keys.recipient import RecipientKey
from strongroom.release.metering import LoggedReading, Metered, read_reading

PARAMETERS: Final = 10**10
VOCABULARY: Final = 1024
"""Ten bits a token."""
DAY_BITS: Final = 4_000_000
PRINCIPAL_BITS: Final = 3_000_000
BLOCK_BITS: Final = 200_000
"""What the log vouches for at once. Each attack opens a run, and what was vouched for counts as gone."""
LONG: Final = 10_000
"""Tokens of a long answer."""
_POLICIES: Final[dict[Digest, EgressPolicies]] = {}


@dataclass
class _Meter:
    """A released model's governor, which the real keeper mirrors in the log."""

    trial: Trial
    model: ModelId
    delivery: Envelope
    metered: Metered
    reading: LoggedReading
    governor: Governor

    @classmethod
    def open(cls, trial: Trial, model: ModelId = MODEL) -> _Meter:
        """Release a model, open its odometer, and have the log vouch for a first block."""
        policy = _policies(trial).by_model[model]
        machine, key = trial.machine, RecipientKey()
        request, approvals = machine.approved(model=model, max_uses=5)
        told = trial.scratch.call("release", dossier=machine.dossier(request, approvals, key).to_json())
        with Fields(told["delivery"], "delivery") as fields:
            delivery = Envelope.read(fields)
        metered = Metered(request=request.digest, use=1, model=model)
        opened = _read(trial, metered, trial.scratch.call("odometer-open", delivery=delivery.to_json(), seen=None))
        served = Served(
            policy=policy, odometer=Odometer(opened.entry, block_bits=BLOCK_BITS), recent=opened.entry.recent
        )
        made = cls(trial, model, delivery, metered, opened, Governor([served], _now()))
        made.mirror()
        return made

    def mirror(self) -> None:
        """Have the log vouch for what the governor wants."""
        for block in self.governor.wanted(_now()):
            self.governor.mirrored(self.advance(block).entry, _now())

    def advance(self, block: Block) -> LoggedReading:
        """Ask the keeper for a block."""
        told = self.trial.scratch.call("odometer-advance", delivery=self.delivery.to_json(), block=block.to_json())
        return _read(self.trial, self.metered, told)

    def take(self, tokens: int, *, principal: str = "reader", output: Output = Output.TOKENS) -> int:
        """Let an answer out as the gateway does, and settle it; returns its bits."""
        reservation = self.governor.reserve(principal, self.model, tokens, _now(), output=output)
        self.mirror()
        self.governor.emit(reservation.number, tokens, _now())
        return self.governor.settle(reservation.number, _now()).bits


def _now() -> int:
    return int(time.time())


def _policies(trial: Trial) -> EgressPolicies:
    """Have the egress policies adopted, once a deployment, and return them."""
    scratch = trial.scratch
    name = scratch.genesis.digest
    if name not in _POLICIES:
        listed = tuple(
            replace(
                EgressPolicy.template(model, parameters=PARAMETERS, vocabulary=VOCABULARY),
                model_day_bits=DAY_BITS,
                fleet_day_bits=DAY_BITS,
                principal_day_bits=PRINCIPAL_BITS,
            )
            for model in (MODEL, OTHER)
        )
        document = EgressPolicies(genesis=name, epoch=1, predecessor=None, policies=listed)
        scratch.adopt("egress", sign(EGRESS_TYPE, document.to_bytes(), *scratch.cast.roots()))
        _POLICIES[name] = document
    return _POLICIES[name]


def _read(trial: Trial, metered: Metered, told: Mapping[str, object]) -> LoggedReading:
    return read_reading(from_base64(str(told["entry"])), trial.scratch.genesis.keeper_key, metered=metered)


def _metered(trial: Trial, model: ModelId = MODEL) -> _Meter:
    with trial.honest("ten tokens leave, and are charged"):
        meter = _Meter.open(trial, model)
        meter.take(10)
    return meter


@attack(
    vectors="AIS-4",
    capacity="OC4",
    measures="SL3-WPI-01 SL3-AOP-01",
    layer=Layer.EGRESS,
    refusals="egress-output",
)
def logit_extraction(trial: Trial) -> None:
    """Logits are asked for in place of token ids, to compute the weights from them."""
    meter = _metered(trial)
    trial.attempt("a vector of numbers", lambda: meter.take(1, output=Output.VALUES))
    trial.attempt("raw bytes", lambda: meter.take(1, output=Output.BYTES))


@attack(
    vectors="RUC-3",
    capacity="OC4",
    measures="SL3-WPI-01 SL4-WST-03",
    layer=Layer.EGRESS,
    refusals="egress-overspent egress-frozen",
)
def egress_stuffing(trial: Trial) -> None:
    """An engine that was taken over lets more out than was reserved for the answer, then asks for more."""
    meter = _metered(trial)
    reservation = meter.governor.reserve("reader", MODEL, 5, _now())
    trial.attempt("fifty tokens in place of five", lambda: meter.governor.emit(reservation.number, 50, _now()))
    trial.attempt("the next answer", lambda: meter.take(1))


@attack(
    vectors="RUC-3 CEC-4",
    capacity="OC4",
    measures="SL4-WST-03 SL3-WMO-01",
    layer=Layer.EGRESS,
    refusals="egress-odometer-regressed",
)
def odometer_wound_back(trial: Trial) -> None:
    """A gateway that was taken over shows the keeper a lower reading than before, and a run that is over."""
    meter = _metered(trial)
    first = meter.reading.entry
    higher = Block(model=MODEL, run=first.run, through=first.total + 3000, settled=100, tokens=10, verified=0)
    with trial.honest("a higher reading is taken"):
        meter.advance(higher)
    trial.attempt("fewer bits", lambda: meter.advance(replace(higher, through=higher.through + 100, settled=1)))
    trial.attempt("a run that never was", lambda: meter.advance(replace(higher, run=first.run + 7)))


@attack(
    vectors="CEC-4",
    capacity="OC4",
    measures="SL4-WST-03",
    layer=Layer.EGRESS,
    refusals="egress-superseded",
)
def second_gateway_on_one_budget(trial: Trial) -> None:
    """A second gateway opens the same model's budget, and the first goes on spending beside it."""
    first = _metered(trial)
    with trial.honest("a second one opens it"):
        _Meter.open(trial)
    entry = first.reading.entry
    block = Block(model=MODEL, run=entry.run, through=entry.total + 100, settled=0, tokens=0, verified=0)
    trial.attempt("the first goes on", lambda: first.advance(block))


@attack(
    vectors="RUC-3 CEC-4",
    capacity="OC4",
    measures="SL4-WST-03 SL3-WPI-01",
    layer=Layer.EGRESS,
    refusals="vouched-for-less",
)
def life_of_the_model_exceeded(trial: Trial) -> None:
    """A gateway that was taken over asks the keeper for everything that the model has, at once."""
    meter = _metered(trial)
    entry = meter.reading.entry
    block = Block(model=MODEL, run=entry.run, through=entry.limit * 2, settled=0, tokens=0, verified=0)

    def everything() -> int:
        vouched = meter.advance(block).entry.through
        if vouched < entry.limit // 2:
            raise RefusedError("vouched-for-less", f"{vouched} of {block.through} bits")
        return vouched

    trial.attempt("twice the life", everything)


@attack(
    vectors="BYP-1 HUM-5",
    capacity="OC3",
    measures="SL4-WMO-01 SL4-WST-03",
    layer=Layer.DOCUMENTS,
    refusals="bad-signature",
)
def budget_raised_by_one_holder(trial: Trial) -> None:
    """One root holder raises a model's daily budget a thousandfold."""
    scratch = trial.scratch
    with trial.honest("the budget that two signed is in force"):
        before = _policies(trial)
        scratch.call("odometer", model=MODEL)
    raised = tuple(replace(one, model_day_bits=one.model_day_bits * 1000) for one in before.policies)
    made = replace(before, epoch=2, predecessor=Digest.of(before.to_bytes()), policies=raised)
    envelope = sign(EGRESS_TYPE, made.to_bytes(), *scratch.cast.roots(1))
    trial.attempt("one root signature", lambda: scratch.adopt("egress", envelope))


@attack(
    vectors="AIS-5",
    capacity="OC3",
    measures="SL3-AOP-01 SL3-WMO-03 SL4-WST-03",
    layer=Layer.EGRESS,
    refusals="egress-limit.principal-day egress-limit.model-day",
)
def distillation(trial: Trial) -> None:
    """One account asks for answer after answer to train an imitation on; then a thousand accounts do."""
    # Another model than the other attacks use: its day's budget is gone afterwards.
    meter = _metered(trial, OTHER)
    trial.attempt("one account", lambda: [meter.take(LONG) for _ in range(1000)])
    trial.attempt("many", lambda: [meter.take(LONG, principal=f"account-{n}") for n in range(1000)])
