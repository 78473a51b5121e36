"""Stopping a model in one call: the request and the freeze that it asks for, with nothing between the two.

Whoever detects theft has no time for two round trips with a sync to disk each. What is recorded is what is recorded for
a person's freeze: a signed request, then the freeze. Both are queued, and both count, before anything is waited for;
only the answer waits until they are durable.
"""

from __future__ import annotations

from strongroom.access.request import Action, Request
from strongroom.core.clock import Clock
from strongroom.core.envelope import Envelope
from strongroom.core.errors import UsageError
from strongroom.keeper import voices
from strongroom.keeper.journal import Recorded
from strongroom.keeper.service import Keeper
from strongroom.release.dossier import Dossier


async def stop(keeper: Keeper, clock: Clock, envelope: Envelope) -> Recorded | None:
    """Record a request to freeze a model, and freeze it; None when it is frozen already, and then nothing is recorded.

    It is judged as any freeze is: by the policy in force, for an active and vetted requester. A refusal is recorded.

    :raises UsageError: the request is for something else.
    :raises SignatureError: not the requester's signature. :raises TooManyEntriesError: too many from one requester.
    :raises DeniedError: another deployment's, or somebody who may not ask.
    :raises ReleaseRefusedError: the requester may ask, and may not freeze.
    """
    request = Request.parse(envelope.payload)
    if request.action is not Action.FREEZE:
        raise UsageError("only a freeze is recorded and carried out in one call", remedy="submit the request first")
    if request.model in keeper.journal.ledger.frozen:
        # So an alarm that goes on ringing fills no log.
        return None
    voices.receive(keeper, clock, envelope)
    # Up to its own record this waits for nothing: a freeze passes the gate of witnesses unasked.
    return await keeper.control(Dossier(request=envelope))
