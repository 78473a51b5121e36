"""Where weights lie, under which keys, and who may have them (RAND's category Weight Security: WST, WTU, WAC)."""

from __future__ import annotations

from collections.abc import Iterator

from strongroom.assurance.checks.registry import check
from strongroom.assurance.seen import Part, Seen

_CUSTODY_RANK = 7
"""Of :class:`strongroom.attestation.isolation.IsolationClass`: ``cvm+gpu+custody``."""
_MEASURED_RANK = 3
_WEAK_SERVICES = ("local",)


@check(
    "SL1-WST-01",
    left="that staff keep other sensitive material on the organisation's own devices and accounts",
    step="seal what was found in the clear, or take it away",
    command="strongroom seal",
)
def _kept_internal(seen: Seen) -> Iterator[Part]:
    yield seen.none("sealing.place", "plaintext", "no weights in the clear in a place searched")
    yield seen.none("access.policy", "exportable", "no model may be exported", vital=False)


@check("SL1-WST-02", step="seal every copy", command="strongroom seal", effort=1)
def _encrypted(seen: Seen) -> Iterator[Part]:
    yield seen.every("sealing.copy", lambda f: f.number("cipher_bits") >= 128, "every copy is under 128 bits or more")
    yield seen.none("sealing.place", "plaintext", "no weights in the clear beside them")
    yield seen.every("network.broker", lambda f: f.number("cipher_bits") >= 128, "calls are under 128 bits or more")


@check(
    "SL2-WST-01",
    left="hosts and places that weren't searched",
    step="seal the copies in the clear; keep weights off portable machines",
    command="strongroom seal",
)
def _servers_only(seen: Seen) -> Iterator[Part]:
    yield seen.every("sealing.copy", lambda f: f.flag("sealed"), "every copy is sealed")
    yield seen.none("sealing.place", "plaintext", "no weights as ordinary files")
    yield seen.every("host.machine", lambda f: not f.flag("portable"), "the machine isn't a laptop")


@check(
    "SL2-WST-02",
    step="move the root key to a TPM, an HSM or a key service",
    command="strongroom root-key move",
    effort=2,
)
def _managed_keys(seen: Seen) -> Iterator[Part]:
    yield seen.every("sealing.copy", lambda f: f.number("cipher_bits") >= 256, "every copy is under 256 bits")
    yield seen.every(
        "keys.provider",
        lambda f: bool(f.names("services")) and not set(f.names("services")) & set(_WEAK_SERVICES),
        "the root key is in a key service, no part of it under a passphrase",
    )
    yield seen.every("access.policy", lambda f: f.flag("in_force"), "a signed policy says who may have keys")
    yield seen.none("keys.states", "due", "no key is past its period", vital=False)
    yield seen.every("keys.memory", lambda f: f.flag("walls"), "the keeper is shut in", vital=False)


@check("SL2-WTU-01", step="let nothing but TLS 1.3 answer", effort=2, left="channels outside this deployment")
def _in_transit(seen: Seen) -> Iterator[Part]:
    yield seen.every("network.broker", lambda f: f.text("version") == "TLSv1.3", "the broker speaks TLS 1.3")
    yield seen.every("network.broker", lambda f: f.flag("older_refused"), "the broker refuses older TLS")
    yield seen.every("network.broker", lambda f: f.flag("plaintext_refused"), "the broker refuses calls in the clear")
    yield seen.every("sealing.copy", lambda f: f.flag("sealed"), "copies travel sealed, since they lie sealed")


@check(
    "SL3-WST-01",
    step="keep the copies of a model in at most three places, and let no person have its key",
    command="strongroom policy new",
    effort=3,
    left="places that weren't searched",
)
def _central(seen: Seen) -> Iterator[Part]:
    most = seen.limit("storage_places")
    yield seen.every("sealing.spread", lambda f: f.number("places") <= most, f"copies in {most} places at most")
    yield seen.none("access.policy", "exportable", "no model's key is handed to a person")
    yield seen.every("access.policy", lambda f: f.number("caps_copy") <= 20, "at most 20 people may copy", vital=False)


@check(
    "SL3-WST-03",
    left="that the machines are used for nothing else, and by no other tenant",
    step="put weights and keys on machines of their own",
    effort=4,
)
def _dedicated(seen: Seen) -> Iterator[Part]:
    yield seen.none("host.machine", "other_users", "nobody else's programs run there")
    yield seen.every("host.machine", lambda f: not f.flag("hypervisor"), "no hypervisor that others share")


@check(
    "SL4-WTU-01",
    left="that the code which runs inside was audited",
    step="serve on confidential machines in known hands, and ask for them in the policy",
    command="strongroom enclave enrol",
    effort=5,
)
def _confidential(seen: Seen) -> Iterator[Part]:
    yield seen.every(
        "access.policy",
        lambda f: f.number("isolation_rank") >= _CUSTODY_RANK,
        "every model asks for a confidential machine and accelerator in known hands",
    )
    yield seen.every(
        "attestation.platform",
        lambda f: f.flag("confidential") and f.flag("custody"),
        "every platform is one",
    )
    yield seen.every("attestation.reference", lambda f: f.number("images") > 0, "only listed images get keys")


@check(
    "SL5-WAC-01",
    step="call every model irrecoverable in the policy, then rotate its key",
    command="strongroom key rotate",
    effort=3,
    left="that no copy of a key is kept outside",
)
def _irrecoverable(seen: Seen) -> Iterator[Part]:
    yield seen.none("access.policy", "recoverable", "no model may be opened by custodians")
    yield seen.none("keys.states", "escrowed", "no model's key is in an escrow")


@check(
    "SL1-WAC-01",
    left="the code base and the main data store",
    step="have a roster and a policy signed",
    command="strongroom adopt",
)
def _groups_only(seen: Seen) -> Iterator[Part]:
    yield seen.every("access.policy", lambda f: f.flag("in_force") and f.flag("roster"), "roster and policy in force")
    yield seen.none("access.policy", "lone_rules", "nobody opens weights alone", vital=False)
    yield seen.none("host.files", "exposed", "the keeper's files are its own user's alone")


@check(
    "SL2-WAC-01",
    step="ask for security keys in every rule by which weights are reached",
    command="strongroom key enrol",
    left="code and configuration outside this deployment, and the network that people come from",
    effort=3,
)
def _hardware_each_time(seen: Seen) -> Iterator[Part]:
    yield seen.none("access.policy", "soft_rules", "every rule asks for security keys")
    yield seen.none("personnel.roster", "without_security_key", "all of those people have one", vital=False)
    yield seen.none("personnel.roster", "unvetted", "all of them are vetted", vital=False)


@check(
    "SL3-WAC-01",
    step="let every rule ask for two others, of two roles, for a week at most",
    command="strongroom policy new",
    left="edits of the code of the interfaces",
)
def _jointly(seen: Seen) -> Iterator[Part]:
    window = seen.limit("window_seconds")
    yield seen.none("access.policy", "few_rules", "two others agree in every rule")
    yield seen.none("access.policy", "one_role_rules", "of two roles, security's among them")
    yield seen.every("access.policy", lambda f: f.number("longest_window_seconds") <= window, "for a bounded time")
    yield seen.every(
        "access.policy",
        lambda f: f.number("caps_output") <= 100 and f.number("caps_isolated") <= 50 and f.number("caps_copy") <= 20,
        "RAND's caps on people",
    )
    yield seen.none("access.grants", "over_cap", "no class of access is over its cap")


@check(
    "SL5-WPH-02",
    left="that nobody is alone with the machines",
    step="let no rule, sealing included, be met by one person",
    command="strongroom policy new",
    effort=3,
)
def _never_alone(seen: Seen) -> Iterator[Part]:
    yield seen.none("access.policy", "lone_rules", "nobody opens weights alone")
    yield seen.every("access.policy", lambda f: f.number("root_threshold") >= 2, "nobody changes the rules alone")


@check(
    "SL4-NSC-01",
    left="programs on other devices with access",
    step="let only listed images have keys, on measured hosts at least",
    command="strongroom measurements",
    effort=3,
)
def _allow_list(seen: Seen) -> Iterator[Part]:
    yield seen.every("attestation.reference", lambda f: f.number("images") > 0, "the images that get keys are listed")
    yield seen.every(
        "access.policy", lambda f: f.number("isolation_rank") >= _MEASURED_RANK, "every model asks for a measured host"
    )
    yield seen.none("access.policy", "exportable", "no key goes to another program")


@check(
    "SL4-NHW-02",
    left="machines that join the network without holding weights",
    step="enrol machines by their hardware, and take simulated ones out",
    command="strongroom enclave enrol",
    effort=3,
)
def _verified_hardware(seen: Seen) -> Iterator[Part]:
    yield seen.every("attestation.platform", lambda f: not f.flag("simulated"), "no platform's hardware is simulated")
    yield seen.every("attestation.reference", lambda f: f.flag("in_force"), "reference values are in force")


@check(
    "SL2-NHW-02",
    left="devices that aren't platforms of this deployment",
    step="enrol every machine that serves",
    command="strongroom enclave enrol",
)
def _visible(seen: Seen) -> Iterator[Part]:
    yield seen.every(
        "attestation.platform",
        lambda f: f.text("isolation") not in {"", "none"},
        "every platform is known, and proves what it is",
    )


@check(
    "SL3-NST-02",
    left="devices that join the network without holding weights",
    step="enrol platforms, and have fresh reference values signed",
    command="strongroom measurements",
    effort=3,
)
def _compliant_devices(seen: Seen) -> Iterator[Part]:
    yield seen.every("attestation.platform", lambda f: not f.flag("simulated"), "platforms prove what they run")
    yield seen.every("attestation.reference", lambda f: f.number("days_left") > 0, "the reference values are in force")
    yield seen.every(
        "access.policy", lambda f: f.number("isolation_rank") >= _MEASURED_RANK, "every model asks for that proof"
    )
