"""Who takes a witness away from the log: what is done then, nobody else saw."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from strongroom.access.policy import POLICY_TYPE, Witnesses
from strongroom.attacks.attack import attack
from strongroom.attacks.ending import RefusedError
from strongroom.attacks.lab.scratch import Scratch
from strongroom.attacks.lab.witness import witness_of
from strongroom.attacks.layers import Layer
from strongroom.attacks.trial import Trial
from strongroom.audit.note import VerifierKey
from strongroom.core.digest import Digest
from strongroom.core.envelope import sign
from strongroom.keys.recipient import RecipientKey

LEAST_AGE: Final = 10
"""Seconds: the shortest for which a policy may take a witness's word."""


@attack(
    vectors="CEC-4",
    capacity="OC3",
    measures="SL2-WMO-01 SL4-WMO-02",
    layer=Layer.WITNESSES,
    refusals="witness-quorum-stale",
)
def silenced_witness(trial: Trial) -> None:
    """Who cuts the witness off from the log has an approved key taken, so that nobody saw the log that says so."""
    scratch = trial.scratch
    log = VerifierKey(scratch.genesis.log_origin, scratch.genesis.log_key)
    with witness_of(trial.lab.folder("witness") / "kept", log) as witness:
        _asks_for(scratch, Witnesses(policy=witness.policy, max_age_seconds=LEAST_AGE))
        with trial.honest("an export that two others agreed to is delivered while the witness speaks"):
            _until_given(scratch)
        key = RecipientKey()
        request = scratch.ask_export(key)
        scratch.approve(request)
        trial.begin()
        witness.fall_silent()
        try:
            time.sleep(LEAST_AGE + 1)
            trial.attempt("an approved export", lambda: scratch.export(request, key))
        finally:
            # Whoever comes next finds no witness asked for: to change that takes its word, too.
            witness.speak()
            _until_given(scratch)
            _asks_for(scratch, None)


def _asks_for(scratch: Scratch, witnesses: Witnesses | None) -> None:
    """Have the next policy adopted, with these witnesses or without."""
    file = scratch.home / "log" / "witnesses.policy"
    if witnesses is not None:
        file.write_text(witnesses.policy)
    before = scratch.policy
    after = replace(before, epoch=before.epoch + 1, predecessor=Digest.of(before.to_bytes()), witnesses=witnesses)
    scratch.adopt("policy", sign(POLICY_TYPE, after.to_bytes(), *scratch.cast.roots()))
    scratch.policy = after


def _until_given(scratch: Scratch) -> None:
    """Export as soon as the witness was heard; twenty seconds at most."""
    ended = time.monotonic() + 20
    while True:
        try:
            scratch.exported()
        except RefusedError as error:
            if error.code != "witness-quorum-stale" or time.monotonic() > ended:
                raise
            time.sleep(0.5)
        else:
            return
