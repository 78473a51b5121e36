"""What may leave through the interfaces, and how much (RAND's WPI, AOP, and the output limits of WST)."""

from __future__ import annotations

from collections.abc import Iterator

from strongroom.assurance.checks.registry import check
from strongroom.assurance.seen import Part, Seen


@check(
    "SL3-WPI-01",
    step="give every model an egress policy of at most 1 percent a year, and let none be exported",
    command="strongroom egress propose",
    effort=2,
)
def _copy_resistant(seen: Seen) -> Iterator[Part]:
    most = seen.limit("interface_permille")
    yield seen.every("egress.model", lambda f: f.flag("covered"), "every model has an egress policy")
    yield seen.every(
        "egress.model", lambda f: f.number("year_permille") <= most, f"at most {most} of 1,000 parts leave in a year"
    )
    yield seen.every("egress.model", lambda f: f.number("quota_holders") <= 50, "at most 50 people with quotas")
    yield seen.none("access.policy", "exportable", "nobody can simply read a copy")


@check(
    "SL3-WPI-03",
    left="interfaces outside this deployment",
    step="take the way around away: let no model be exported, cover each by an egress policy",
    command="strongroom egress propose",
)
def _no_bypass(seen: Seen) -> Iterator[Part]:
    yield seen.none("access.policy", "exportable", "no model may be exported")
    yield seen.every("egress.model", lambda f: f.flag("covered"), "every model is counted")
    yield seen.every("log.events", lambda f: f.number("exports") == 0, "the log has no export")


@check(
    "SL3-AOP-01",
    step="lower `principal_day_bits` in the egress policy",
    command="strongroom egress propose",
    effort=1,
)
def _per_credential(seen: Seen) -> Iterator[Part]:
    most = seen.limit("principal_tokens_per_second")
    yield seen.every("egress.model", lambda f: f.flag("covered"), "every model counts by credential")
    yield seen.every(
        "egress.model",
        lambda f: f.number("principal_tokens_per_second") <= most,
        f"one credential has {most} tokens a second at most, over a day",
    )


@check(
    "SL4-WST-03",
    left="that the limit is in hardware on every link of the protected setup",
    step="lower the lifetime and day budgets below 5 percent a year, and put the limit into hardware",
    command="strongroom egress propose",
    effort=5,
)
def _output_limits(seen: Seen) -> Iterator[Part]:
    most = seen.limit("output_permille")
    yield seen.every("egress.model", lambda f: f.flag("covered"), "every model has an egress policy")
    yield seen.every("egress.model", lambda f: f.number("year_permille") <= most, f"{most} of 1,000 parts a year")
    yield seen.every("log.events", lambda f: f.number("breaches") == 0, "no budget was ever broken")


@check(
    "SL4-AOP-01",
    left="that sampling is randomised",
    step="let only token ids leave",
    command="strongroom egress propose",
)
def _nothing_but_tokens(seen: Seen) -> Iterator[Part]:
    yield seen.every(
        "egress.model", lambda f: f.names("outputs") == ("tokens",), "no numbers leave, log-probabilities least of all"
    )


@check(
    "SL4-WMO-01",
    step="call a model SL4 in the policy: changes then wait a day in sight of everybody",
    command="strongroom policy new",
    left="changes of code that isn't measured here",
    effort=2,
)
def _time_buffer(seen: Seen) -> Iterator[Part]:
    hours = seen.limit("hold_hours")
    yield seen.every("access.policy", lambda f: f.number("change_hold_hours") >= hours, f"changes wait {hours} hours")
    yield seen.every("access.policy", lambda f: f.number("root_threshold") >= 2, "two must sign them")


@check(
    "SL5-MNT-01",
    step="take the rules for `break-glass` out of the policy: an outage is no reason to open by fewer hands",
    command="strongroom policy new",
    left="that nobody plugs in, lends or opens anything else while something is down",
    effort=2,
)
def _outages_open_nothing(seen: Seen) -> Iterator[Part]:
    yield seen.every("access.policy", lambda f: f.flag("in_force"), "the rules are in force")
    yield seen.none("access.policy", "break_glass", "no rule opens anything in a hurry")
    days, least = seen.limit("suite_days"), seen.limit("suite_attacks")
    yield seen.every(
        "attacks.suite",
        lambda f: f.number("executed") >= least and f.number("age_days") <= days,
        f"{least} attacks were executed within {days} days",
    )
    yield seen.none("attacks.suite", "passed", "what stops working lets nothing through, where it was tried")


@check(
    "SL3-NST-01",
    left="rules elsewhere, for mail and USB ports for instance",
    step="have policy, reference values and egress policies signed",
    command="strongroom adopt",
)
def _policy_as_code(seen: Seen) -> Iterator[Part]:
    yield seen.every("access.policy", lambda f: f.flag("in_force"), "the release policy is code, signed")
    yield seen.every("access.policy", lambda f: f.flag("egress"), "so is what may leave", vital=False)
    yield seen.every("access.policy", lambda f: f.flag("reference_values"), "so is what may run", vital=False)
