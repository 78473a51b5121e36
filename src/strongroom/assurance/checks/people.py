"""Accounts, passwords, second factors, roles (RAND's NAC), and what people are told (PAT)."""

from __future__ import annotations

from collections.abc import Iterator

from strongroom.assurance.checks.registry import check
from strongroom.assurance.seen import Part, Seen


@check(
    "SL1-NAC-01",
    left="roles outside this deployment",
    step="take roles from people who hold both sides of a request",
    command="strongroom people roster",
)
def _least_privilege(seen: Seen) -> Iterator[Part]:
    yield seen.none("personnel.roster", "both_sides", "nobody both asks and agrees")
    yield seen.none("personnel.roster", "unvetted", "who may act is vetted", vital=False)
    yield seen.none("access.grants", "idle", "no grant lies unused", vital=False)


@check(
    "SL1-NAC-02",
    left="devices and accounts elsewhere",
    step="give everybody an account of their own",
    effort=1,
)
def _no_sharing(seen: Seen) -> Iterator[Part]:
    yield seen.every("personnel.roster", lambda f: f.number("people") > 0, "each key is one person's, by the roster")
    yield seen.none("host.accounts", "shared_uids", "no two accounts are one user")


@check(
    "SL1-NAC-03",
    left="passwords of other systems",
    step="set `minlen` in /etc/security/pwquality.conf",
    effort=1,
)
def _password_basics(seen: Seen) -> Iterator[Part]:
    least = seen.limit("password_length")
    yield seen.every("host.passwords", lambda f: f.number("min_length") >= least, f"{least} characters at least")
    yield seen.none("host.accounts", "empty_passwords", "no account is without a password")


@check(
    "SL2-NAC-01",
    left="passwords of other systems",
    step="set `minlen` and `minclass` in /etc/security/pwquality.conf, and turn passwords off in sshd",
    effort=1,
)
def _strong_passwords(seen: Seen) -> Iterator[Part]:
    bits = seen.limit("password_bits")
    yield seen.every("host.passwords", lambda f: f.number("least_bits") >= bits, f"{bits} bits at least, by the rules")
    yield seen.none("host.accounts", "empty_passwords", "no account is without a password")
    yield seen.every("host.passwords", lambda f: not f.flag("ssh_passwords"), "sshd takes no passwords", vital=False)


@check(
    "SL4-NAC-01",
    left="passwords and keys of other systems",
    step="take the root key from under its passphrase, and people's keys into security keys",
    command="strongroom root-key move",
    effort=3,
)
def _random_keys(seen: Seen) -> Iterator[Part]:
    yield seen.every("keys.provider", lambda f: "local" not in f.names("services"), "the root key isn't behind words")
    yield seen.none("personnel.roster", "without_security_key", "people sign by security key")
    yield seen.every("host.passwords", lambda f: not f.flag("ssh_passwords"), "sshd takes no passwords")


@check(
    "SL1-NAC-04",
    left="devices and accounts outside this deployment",
    step="enrol a security key for everybody who may reach weights",
    command="strongroom key enrol",
    effort=2,
)
def _second_factor(seen: Seen) -> Iterator[Part]:
    yield seen.none("personnel.roster", "without_security_key", "everybody has a security key")
    yield seen.none("access.policy", "soft_rules", "every rule asks for one", vital=False)


@check(
    "SL1-NAC-05",
    left="other systems of the organisation",
    step="name the identity provider in HOME/broker/oidc.toml",
    effort=2,
)
def _single_sign_on(seen: Seen) -> Iterator[Part]:
    yield seen.every("access.login", lambda f: f.flag("provider"), "people log in at one identity provider")


@check(
    "SL1-NAC-07",
    left="that somebody looks at what the tools report",
    step="connect the identity provider and its SCIM",
    effort=2,
)
def _identity_management(seen: Seen) -> Iterator[Part]:
    yield seen.every("access.login", lambda f: f.flag("provider"), "people log in at an identity provider")
    yield seen.every("access.login", lambda f: f.flag("provisioned"), "leavers come from it as well", vital=False)


@check("SL1-NST-01", step="name the identity provider in HOME/broker/oidc.toml", effort=2)
def _modern_authentication(seen: Seen) -> Iterator[Part]:
    yield seen.every("access.login", lambda f: f.flag("provider"), "an identity provider guards the deployment")
    yield seen.every("network.broker", lambda f: f.flag("anonymous_refused"), "nobody is answered without certificate")


@check(
    "SL2-NAC-03",
    left="other devices and systems",
    step="lock guest accounts: usermod --lock --expiredate 1 NAME",
    effort=1,
)
def _no_guests(seen: Seen) -> Iterator[Part]:
    yield seen.none("host.accounts", "guests", "no guest account is open")
    yield seen.every("network.broker", lambda f: f.flag("anonymous_refused"), "nobody is answered without certificate")


@check(
    "SL2-NAC-04",
    left="resources outside this deployment",
    step="review the grants, and end what isn't needed",
    command="strongroom people review",
    effort=1,
)
def _access_managed(seen: Seen) -> Iterator[Part]:
    days = seen.limit("review_days")
    yield seen.every("log.events", lambda f: 0 <= f.number("review_days") <= days, f"grants reviewed in {days} days")
    yield seen.none("access.grants", "idle", "no grant lies unused", vital=False)
    yield seen.none("personnel.roster", "unvetted", "who may act is vetted", vital=False)


@check(
    "SL3-PAT-01",
    left="that staff are told so",
    step="let every rule ask for the course that says so",
    command="strongroom policy new",
)
def _told_of_watching(seen: Seen) -> Iterator[Part]:
    yield seen.none("access.policy", "untrained_rules", "every rule asks for training")


@check(
    "SL4-PFM-01",
    left="that no third party reaches the machines, and that staff know where to report",
    step="take people of other organisations out of the roles that reach weights",
    command="strongroom people roster",
    effort=3,
)
def _no_third_party(seen: Seen) -> Iterator[Part]:
    yield seen.none("personnel.roster", "without_unit", "everybody has a unit of ours")
    yield seen.none("personnel.roster", "unvetted", "who may act is vetted")
    yield seen.none("access.policy", "exportable", "no weights are exported to anybody")
