"""The machines that were looked at (RAND's NSW, NHW, NST, NCM, PFM). Other devices are for people to attest."""

from __future__ import annotations

from collections.abc import Iterator

from strongroom.assurance.checks.registry import check
from strongroom.assurance.seen import Part, Seen

_OTHERS = "devices other than the hosts that were looked at"


def _updated(seen: Seen, name: str) -> Iterator[Part]:
    days = seen.limit(name)
    yield seen.every("host.updates", lambda f: f.number("pending_security") == 0, "no security update is pending")
    yield seen.every(
        "host.updates", lambda f: 0 <= f.number("lists_days") <= days, f"the list of updates is {days} days old at most"
    )
    yield seen.every("host.updates", lambda f: not f.flag("reboot_needed"), "no restart is due for one", vital=False)


@check("SL1-NSW-01", step="install updates: apt-get update, then upgrade", effort=1, left=_OTHERS)
def _updates_fortnight(seen: Seen) -> Iterator[Part]:
    yield from _updated(seen, "updates_sl1_days")


@check("SL2-NSW-01", step="install updates: apt-get update, then upgrade", effort=1, left=_OTHERS)
def _updates_frequent(seen: Seen) -> Iterator[Part]:
    yield from _updated(seen, "updates_sl2_days")
    yield seen.every("host.cpu", lambda f: bool(f.text("microcode")), "the processor's microcode is known", vital=False)


@check("SL3-NSW-01", step="have updates installed by themselves: unattended-upgrades", effort=1, left=_OTHERS)
def _updates_weekly(seen: Seen) -> Iterator[Part]:
    yield from _updated(seen, "updates_sl3_days")
    yield seen.every("host.updates", lambda f: f.flag("automatic"), "updates install themselves", vital=False)


@check("SL1-NHW-01", step="turn the TPM on in the firmware", effort=2, left=f"{_OTHERS}, and how old they are")
def _root_of_trust(seen: Seen) -> Iterator[Part]:
    yield seen.every("host.boot", lambda f: f.flag("tpm"), "the host has a TPM")
    yield seen.every("host.boot", lambda f: f.flag("secure_boot"), "it boots what its firmware verified", vital=False)


@check("SL1-NHW-02", step="boot with the kernel's mitigations on, and current microcode", effort=2, left=_OTHERS)
def _cpu(seen: Seen) -> Iterator[Part]:
    yield seen.none("host.cpu", "missing", "the processor has NX, SMEP and SMAP")
    yield seen.none("host.cpu", "vulnerable", "the kernel knows of no open hole in it")


@check("SL1-NST-02", step="let the firewall drop what isn't allowed", effort=1, left="the network's own firewalls")
def _firewall(seen: Seen) -> Iterator[Part]:
    yield seen.every("host.firewall", lambda f: f.flag("drops"), "the host drops what isn't allowed in")


@check("SL1-NST-03", step="install an endpoint agent", effort=2, left=_OTHERS)
def _endpoint(seen: Seen) -> Iterator[Part]:
    yield seen.every("host.endpoint", lambda f: bool(f.names("agents")), "an endpoint agent runs")


@check(
    "SL2-PFM-01", step="install an endpoint agent before a host joins", effort=2, left=f"{_OTHERS}, before they join"
)
def _monitored_first(seen: Seen) -> Iterator[Part]:
    yield seen.every("host.endpoint", lambda f: bool(f.names("agents")), "an endpoint agent runs")
    yield seen.every("host.endpoint", lambda f: f.flag("audited"), "the kernel's audit runs", vital=False)


@check("SL2-NST-01", step="put the disks under LUKS with a 512-bit XTS key", effort=3, left=_OTHERS)
def _disks(seen: Seen) -> Iterator[Part]:
    yield seen.every("host.disk", lambda f: f.flag("encrypted"), "the disk is encrypted")
    yield seen.every("host.disk", lambda f: f.number("bits") >= 256, "under 256 bits or more", vital=False)
    yield seen.every("host.memory", lambda f: f.flag("swap_safe"), "so is what is swapped out", vital=False)


@check("SL2-NST-02", step="close the ports that speak in the clear", effort=1, left="other hosts and networks")
def _no_clear_ports(seen: Seen) -> Iterator[Part]:
    yield seen.none("host.listeners", "cleartext", "no port speaks in the clear")
    yield seen.every("network.broker", lambda f: f.flag("plaintext_refused"), "the broker refuses calls in the clear")


@check("SL1-NCM-01", step="lock screens after a minute", effort=1, left="the screens of staff devices")
def _screens(seen: Seen) -> Iterator[Part]:
    yield seen.every("host.machine", lambda f: not f.flag("graphical"), "the host has no screen to leave open")


@check(
    "SL3-NSC-01",
    step="take programs that no package owns off the hosts",
    effort=2,
    left="software on other devices, and which of it is wanted",
)
def _inventory(seen: Seen) -> Iterator[Part]:
    yield seen.every("host.software", lambda f: f.number("packages") > 0, "the packages installed are listed")
    yield seen.none("host.software", "unowned", "no program in the path is of no package")


@check("SL4-NSW-01", step="serve from a small system that is made for it", effort=4, left=_OTHERS)
def _small_systems(seen: Seen) -> Iterator[Part]:
    yield seen.every("host.machine", lambda f: f.flag("reduced"), "the host runs a small, purpose-made system")


@check(
    "SL4-WST-04", step="take camera, sound, radio and USB storage out", effort=2, left="what can't be seen by software"
)
def _peripherals(seen: Seen) -> Iterator[Part]:
    yield seen.none("host.peripherals", "radios", "no radio")
    yield seen.none("host.peripherals", "senses", "no camera and no sound")
    yield seen.none("host.peripherals", "storage", "USB storage is off")


@check(
    "SL2-MNT-01",
    step="install what is pending, and keep the clock right",
    effort=1,
    left="that the team looks for holes of its own",
)
def _vulnerabilities(seen: Seen) -> Iterator[Part]:
    yield seen.every("host.updates", lambda f: f.number("pending_security") == 0, "no security update is pending")
    yield seen.none("host.cpu", "vulnerable", "no open hole in the processor", vital=False)
    yield seen.every("host.time", lambda f: f.flag("synchronised"), "the clock is right", vital=False)
