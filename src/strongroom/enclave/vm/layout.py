"""Where things lie inside the machine, and the script that finds the root. Pure; builder and guest share it."""

from __future__ import annotations

from typing import Final

from strongroom.enclave.sandbox import SandboxProfile, process_profile

PYTHON: Final = "/usr/bin/python3"
CODE: Final = "/srv/code"
SEALED: Final = "/sealed"
PROFILE: Final = "/etc/strongroom/profile.json"
COMMAND: Final = "/etc/strongroom/command.json"
GUEST: Final = "strongroom.enclave.vm.guest.wiring"
AGENT: Final = "strongroom.enclave.vm.agent.wiring"
PORT_NAME: Final = "strongroom"
EMPTY_FOLDERS: Final = ("dev", "mnt", "proc", "run", SEALED[1:], "sys", "tmp", "srv/code", "etc/strongroom")
LINKS: Final = (("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("sbin", "usr/bin"))
MODULES: Final = ("virtio_blk", "dm-verity", "squashfs")
"""What a cloud kernel doesn't have built in; what these depend on comes along."""
CHIP_MODULES: Final = ("sev-guest", "tdx-guest")
"""The kernel's interfaces to chips that keep a machine's memory; they load on such a machine only."""
INIT: Final = f"""#!/bin/busybox sh
# Opens the root that the measured command line names, and nothing else. Any failure ends the machine.
set -eu
export PATH=/bin DM_DISABLE_UDEV=1
busybox mount -t devtmpfs none /dev
busybox mount -t proc none /proc
busybox mount -t sysfs none /sys
while read -r module; do busybox insmod "/modules/$module"; done < /modules/order
while read -r module; do busybox insmod "/modules/$module" 2>/dev/null || true; done < /modules/chips
root= data=
for word in $(busybox cat /proc/cmdline); do
    case "$word" in
        strongroom.root=*) root="${{word#*=}}" ;;
        strongroom.data=*) data="${{word#*=}}" ;;
    esac
done
tries=0
until [ -b /dev/vda ]; do tries=$((tries + 1)); [ "$tries" -lt 100 ]; busybox usleep 50000; done
veritysetup open /dev/vda root /dev/vda "$root" --hash-offset="$data" --panic-on-corruption
busybox mount -t squashfs -o ro,nosuid,nodev /dev/mapper/root /newroot
for folder in dev proc sys; do busybox mount -o move "/$folder" "/newroot/$folder"; done
exec busybox switch_root /newroot {PYTHON} -I -B -m {GUEST}
"""


def guest_profile(*, model_bytes: int, environment: tuple[tuple[str, str], ...] = ()) -> SandboxProfile:
    """Return the sandbox around agent and command: the same as without a machine, over the machine's own folders."""
    return process_profile(
        code_roots=("/usr",),
        data_roots=(CODE,),
        sealed_roots=(SEALED,),
        links=(("/lib", "usr/lib"), ("/lib64", "usr/lib64")),
        model_bytes=model_bytes,
        environment=environment,
    )
