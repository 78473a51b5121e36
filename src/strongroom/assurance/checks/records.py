"""What is recorded, watched and tried (RAND's WMO, TDR, ARA, ART, OOP, and backups)."""

from __future__ import annotations

from collections.abc import Iterator

from strongroom.assurance.checks.registry import check
from strongroom.assurance.seen import Part, Seen

_THEFT_VECTORS = 20
"""Of 38: what a rule set has to watch for to be called comprehensive here."""


def _followed(seen: Seen) -> Iterator[Part]:
    yield seen.every(
        "log.verified",
        lambda f: f.flag("verified"),
        "the whole log hashes to what its key signed, and continues what was seen before",
    )
    yield seen.every("log.verified", lambda f: f.number("unfounded") == 0, "each act follows from one before it")


@check("SL1-WAC-02", step="treat it as an incident: the log doesn't verify", command="strongroom audit verify")
def _audit_trail(seen: Seen) -> Iterator[Part]:
    yield from _followed(seen)


@check(
    "SL2-WMO-01",
    step="name witnesses in the policy",
    command="strongroom audit witness",
    effort=2,
)
def _append_only(seen: Seen) -> Iterator[Part]:
    age = seen.limit("log_age_seconds")
    yield from _followed(seen)
    yield seen.every(
        "log.witnesses", lambda f: f.flag("named") and f.flag("quorum"), "others saw the same log", vital=False
    )
    yield seen.every("log.witnesses", lambda f: f.number("age_seconds") <= age, "lately", vital=False)


@check(
    "SL2-WMO-02",
    left="hosts and places that weren't searched",
    step="search the places where copies could lie, and register or remove what is found",
    command="strongroom assess --sealed FOLDER",
)
def _copies(seen: Seen) -> Iterator[Part]:
    yield seen.every("sealing.copy", lambda f: f.flag("registered"), "every copy is of a version in the log")
    yield seen.none("sealing.place", "plaintext", "no copy in the clear was found")
    yield seen.none("copies.register", "unlooked", "every copy that the register has on this host was looked at")
    yield seen.none("copies.register", "troubled", "every copy in the register was proved in time, and none is lost")


@check(
    "SL3-WMO-02",
    step="start the responder, with the sensors of the hosts that hold weights",
    command="strongroom responder run",
    left="traffic that no sensor here sees",
    effort=3,
)
def _anomalies(seen: Seen) -> Iterator[Part]:
    yield seen.every("detection.responder", lambda f: f.flag("running"), "the responder runs")
    yield seen.every("detection.responder", lambda f: bool(f.names("sensors")), "it hears other sensors", vital=False)
    yield seen.every("detection.pack", lambda f: f.number("correlations") > 0, "rules look for patterns over time")
    yield seen.every("egress.model", lambda f: f.flag("warned"), "use of the budgets is told", vital=False)
    days, open_days = seen.limit("drill_days"), seen.limit("incident_days")
    yield seen.every(
        "response.incidents", lambda f: 0 <= f.number("drill_days") <= days, f"a drill of {days} days", vital=False
    )
    yield seen.every(
        "response.incidents",
        lambda f: f.number("open_days") <= open_days,
        f"no incident is open for over {open_days} days",
        vital=False,
    )


@check(
    "SL3-WMO-01",
    step="have people read what comes in and goes out: deliveries, and drops of workspaces",
    command="strongroom intake review",
    left="that samples of all other traffic are read by people, at random and where something was seen",
    effort=2,
)
def _read_by_people(seen: Seen) -> Iterator[Part]:
    days = seen.limit("review_days")
    text = f"what {{}} was read within {days} days"
    ways = ("read_in_days", "read_out_days")
    # Where people read neither, it isn't even partly so.
    yield seen.every(
        "log.events", lambda f: any(0 <= f.number(way) <= days for way in ways), text.format("came in or went out")
    )
    yield seen.every("log.events", lambda f: 0 <= f.number("read_in_days") <= days, text.format("came in"), vital=False)
    yield seen.every(
        "log.events", lambda f: 0 <= f.number("read_out_days") <= days, text.format("went out"), vital=False
    )


@check(
    "SL4-WMO-03",
    step="connect every sensor to the responder, and cover more vectors with rules",
    command="strongroom detection",
    left="that something sends what the rules wait for (`heard` says of which vectors something can), "
    "and that every behaviour outside the understood ones alerts",
    effort=5,
)
def _comprehensive(seen: Seen) -> Iterator[Part]:
    yield seen.every("detection.responder", lambda f: f.flag("running"), "the responder runs")
    yield seen.every(
        "detection.pack", lambda f: len(f.names("vectors")) >= _THEFT_VECTORS, "rules for most vectors of theft"
    )
    yield seen.every("detection.responder", lambda f: len(f.names("sensors")) >= 2, "two other sensors at least")


@check(
    "SL3-WMO-03",
    step="start the responder, and let the gateway screen what passes",
    command="strongroom responder run",
    left="that the screens are set for this use, and accounts are suspended when it is severe",
    effort=3,
)
def _malicious_queries(seen: Seen) -> Iterator[Part]:
    yield seen.every("detection.responder", lambda f: f.flag("running"), "the responder runs")
    yield seen.every(
        "detection.pack",
        lambda f: any(name.startswith("AIS") for name in f.names("heard")),
        "rules for attacks through the model, and something that sends what they wait for",
    )
    yield seen.every("egress.model", lambda f: f.flag("covered"), "each credential's use is summed up")


@check(
    "SL3-WMO-05",
    step="verify the installation against signed provenance, and give the report: strongroom doctor --self",
    command="strongroom doctor --self",
    left="software on the machines besides this one",
    effort=2,
)
def _gold_image(seen: Seen) -> Iterator[Part]:
    yield seen.every("code.self", lambda f: f.flag("verified"), "what is installed is what was built")
    yield seen.every("attestation.reference", lambda f: f.number("images") > 0, "images are compared at each release")


@check(
    "SL4-NSC-02",
    step="verify the installation against signed provenance: strongroom doctor --self",
    command="strongroom doctor --self",
    left="the provenance of all other software",
    effort=3,
)
def _provenance(seen: Seen) -> Iterator[Part]:
    yield seen.every("code.self", lambda f: f.flag("provenance"), "its provenance is signed by a key you gave")
    yield seen.every("code.self", lambda f: f.flag("dependencies"), "its dependencies are those of the list")


@check(
    "SL4-WMO-02",
    step="name witnesses on other machines, and publish the log to a store that deletes nothing",
    command="strongroom audit publish",
    left="that hardware keeps the log from being edited",
    effort=4,
)
def _protected_log(seen: Seen) -> Iterator[Part]:
    yield from _followed(seen)
    yield seen.every("log.witnesses", lambda f: f.flag("named") and f.flag("quorum"), "a quorum of others saw it")


@check(
    "SL3-TDR-01",
    step="plant decoys, and start the responder",
    command="strongroom decoy plant",
    effort=1,
)
def _decoys(seen: Seen) -> Iterator[Part]:
    yield seen.every("detection.responder", lambda f: f.number("decoys") > 0, "decoys are planted")
    yield seen.every("detection.responder", lambda f: f.flag("running"), "the responder guards them")
    yield seen.every("detection.responder", lambda f: f.flag("record_whole"), "its record is whole", vital=False)


@check(
    "SL2-NST-04",
    step="connect the sensors of the hosts to the responder",
    command="strongroom responder run",
    left="detection on other devices",
    effort=3,
)
def _integrated(seen: Seen) -> Iterator[Part]:
    yield seen.every("detection.responder", lambda f: f.flag("running"), "the responder runs")
    yield seen.every("detection.responder", lambda f: bool(f.names("sensors")), "it hears sensors of several kinds")


@check(
    "SL1-NAC-06",
    step="make a backup, and try to restore it",
    command="strongroom backup make",
    left="devices and accounts outside this deployment, and that restoring was tried",
    effort=1,
)
def _recovery(seen: Seen) -> Iterator[Part]:
    days = seen.limit("backup_days")
    yield seen.every("log.events", lambda f: 0 <= f.number("backup_days") <= days, f"a backup of {days} days at most")


@check("SL2-NCM-02", step="assess again, and record it", command="strongroom assess --record", effort=1)
def _watched_settings(seen: Seen) -> Iterator[Part]:
    days = seen.limit("assessment_days")
    yield seen.every(
        "log.events",
        lambda f: 0 <= f.number("assessment_days") <= days,
        f"an assessment was recorded within {days} days before this one",
    )


@check("SL3-ARA-01", step="write the security plan, and have it signed", command="strongroom assess plan", effort=2)
def _risk_register(seen: Seen) -> Iterator[Part]:
    days = seen.limit("review_days")
    yield seen.every("assurance.plan", lambda f: f.flag("signed"), "a signed security plan is there")
    yield seen.every(
        "assurance.plan",
        lambda f: f.flag("reviewed") and f.number("reviewed_days") <= days,
        f"reviewed within {days} days",
    )
    yield seen.none("assurance.plan", "unowned", "each gap up to its goal has an owner")
    yield seen.none("assurance.plan", "overdue", "nothing in it is overdue", vital=False)


@check(
    "SL4-ART-01",
    step="run the attack suite, and give its report with --attacks",
    command="strongroom attack run",
    left="that people look for new ways in, too",
    effort=1,
)
def _red_team(seen: Seen) -> Iterator[Part]:
    days = seen.limit("suite_days")
    yield seen.every("attacks.suite", lambda f: f.number("age_days") <= days, f"attacks of {days} days at most")
    least = seen.limit("suite_attacks")
    yield seen.every("attacks.suite", lambda f: f.number("executed") >= least, f"{least} attacks were executed")
    yield seen.none("attacks.suite", "passed", "none got through")
    yield seen.none("attacks.suite", "broken", "none broke off", vital=False)


@check(
    "SL4-ARA-01",
    step="run the probes in an enclave, and give the report with --attacks",
    command="strongroom attack run",
    left="that the probes go on trying, in the enclaves that serve",
    effort=2,
)
def _probes(seen: Seen) -> Iterator[Part]:
    days = seen.limit("suite_days")
    yield seen.every("attacks.suite", lambda f: f.number("probes") > 0, "probes tried to get out of an enclave")
    yield seen.none("attacks.suite", "probes_passed", "none got out")
    yield seen.every("attacks.suite", lambda f: f.number("age_days") <= days, f"within {days} days")


def _layers(seen: Seen, least: int) -> Iterator[Part]:
    """RAND: each layer is believed to hold if the others fall, is tested on its own, and one that fails is a failure.

    So it isn't enough that some layers have another behind them: no attack may be left to one layer alone.
    """
    days, attacks = seen.limit("suite_days"), seen.limit("suite_attacks")
    # With attacks picked out, what one layer alone stops could be left out.
    yield seen.every("attacks.suite", lambda f: f.number("executed") >= attacks, f"{attacks} attacks were executed")
    yield seen.every(
        "attacks.layers",
        lambda f: f.number("independent") >= least,
        f"without any of {least} layers, others stop what it stops",
    )
    yield seen.none("attacks.layers", "alone", "each attack on them is stopped by a second layer, too")
    yield seen.none("attacks.layers", "untried", "none was left out because its trial broke off, or had nothing to try")
    yield seen.every("attacks.layers", lambda f: f.number("age_days") <= days, f"tried within {days} days")


_LAYERS_LEFT = "that each layer would hold if all others fell at once, physical ones included"


@check(
    "SL3-OOP-01",
    step="run the suite with layers turned off, and give its report with --attacks",
    command="strongroom attack run --layers",
    left=_LAYERS_LEFT,
    effort=2,
)
def _two_layers(seen: Seen) -> Iterator[Part]:
    yield from _layers(seen, 2)


@check(
    "SL4-OOP-04",
    step="run the suite with layers turned off, and give its report with --attacks",
    command="strongroom attack run --layers",
    left=_LAYERS_LEFT,
    effort=4,
)
def _four_layers(seen: Seen) -> Iterator[Part]:
    yield from _layers(seen, 4)


@check(
    "SL5-OOP-01",
    step="run the suite with layers turned off, and give its report with --attacks",
    command="strongroom attack run --layers",
    left=_LAYERS_LEFT,
    effort=5,
)
def _eight_layers(seen: Seen) -> Iterator[Part]:
    yield from _layers(seen, 8)
