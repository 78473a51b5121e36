"""Who a policy wants to have seen the log, or to be watching, in words: what a root holder must see before signing."""

from __future__ import annotations

from collections.abc import Iterator

from strongroom.access.policy import Policy
from strongroom.audit.witness_policy import WitnessPolicy
from strongroom.core.errors import MalformedError
from strongroom.core.printable import printable


def dead_man_line(policy: Policy) -> str:
    """Return which responders must be alive before anything is released or renewed."""
    section = policy.dead_man
    if section is None:
        return "  dead man: keys are released whether or not anybody watches"
    names = ", ".join(f"`{printable(name)}`" for name in section.responders)
    return f"  dead man: each of {names} must have been heard at most {section.max_age_seconds} s before"


def witness_lines(policy: Policy) -> Iterator[str]:
    """Return who must have seen the log, and how lately, before anything is released."""
    section = policy.witnesses
    if section is None:
        yield "  witnesses: nobody else has to have seen the log"
        return
    tighter = "".join(f", {one.level.value}: {one.max_age_seconds} s" for one in section.levels)
    try:
        read = WitnessPolicy.parse(section.policy.encode("utf-8", "surrogatepass"))
    except MalformedError as error:
        yield f"  witnesses: NOT A POLICY: {error.message}"
        return
    quorum = "nobody" if read.quorum is None else f"`{printable(read.quorum)}`"
    yield f"  witnesses: {quorum} must have seen the log at most {section.max_age_seconds} s before{tighter}"
    for witness in read.witnesses:
        kind = witness.key.kind.name.lower().replace("_", "-")
        yield f"    witness `{printable(witness.name)}` is {printable(witness.key.name)} ({kind})"
        # Not its key id: whoever drafts a policy could make a key of their own with the same one.
        yield f"      key {witness.key.fingerprint}"
    for group in read.groups:
        members = ", ".join(printable(member) for member in group.members)
        yield f"    group `{printable(group.name)}` is {group.threshold} of {len(group.members)}: {members}"
    for key in read.logs:
        yield f"    of the log {printable(key.name)}+{key.key_id.hex()}"
