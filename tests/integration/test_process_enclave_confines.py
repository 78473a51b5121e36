"""A command beside opened weights can't read, write, reach, start or change anything outside: each way was tried."""

from __future__ import annotations

import json
import os
import py_compile
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from strongroom.attacks.inside.escape_attempts import ATTEMPTS
from strongroom.enclave.sandbox import ExecRule, WritableCode
from support.enclave_lab import ATTEMPTS as PROGRAM
from support.enclave_lab import SUPPORT, Outcome, lab_profile, require_sandbox, run_inside
from support.escape_calls import CALLS, NEEDS_MORE, OPEN

pytestmark = pytest.mark.integration
ORDINARY_UID = 65534
ALL = [name for name in ATTEMPTS if name not in OPEN]

# What would succeed outside, for root or for the owner, on any Linux: the proof that the attempts are real ones.
# The rest need a kernel feature, a privilege or a state that not every host has.
REAL = (
    "read_passwd",
    "read_sealed_files_sibling",
    "read_sealed_files",
    "list_host_root",
    "climb_out_by_dotdot",
    "write_tmp",
    "write_home",
    "write_model",
    "open_model_file_for_writing",
    "inet_socket",
    "netlink_socket",
    "unix_socket_to_keeper",
    "abstract_socket",
    "start_shell",
    "start_measured_interpreter",
    "fork_a_process",
    "list_other_processes",
    "memfd_and_exec",
    "exec_from_scratch",
    "map_scratch_file_as_code",
    "signal_parent",
    "signal_parent_thread",
    "signal_by_file_owner",
    "map_writable_code",
    "turn_data_into_code",
    "become_dumpable",
    "escape_by_thread",
    "write_own_code_by_proc",
    "write_own_code_by_thread_entry",
    "change_how_much_a_core_holds",
    "change_who_is_killed_when_memory_ends",
    "list_the_machines_hardware",
    "use_shared_memory_folder",
    "reach_a_file_through_a_link",
    "link_weights_into_scratch",
    "move_weights_into_scratch",
    "exchange_weights_with_scratch",
    "reopen_weights_writable",
    "map_weights_writable",
    "make_a_nameless_file_beside_weights",
    "make_a_pipe_with_a_name",
    "make_a_program_of_another_user",
    "load_a_library_from_scratch",
    "send_to_a_named_socket_by_a_nameless_one",
    "send_to_an_abstract_socket_by_a_nameless_one",
    "learn_where_the_parents_locks_are",
    "queue_a_signal_to_the_parent",
    "socket inet6",
)
# The same for root alone.
REAL_FOR_ROOT = ("learn_physical_addresses", "open_a_device")


@dataclass(frozen=True)
class Place:
    folder: Path
    facts: dict[str, str]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    require_sandbox()
    # Not pytest's own folder: that one only its owner can enter, and one of the runs is another user's.
    folder = Path(tempfile.mkdtemp(prefix="strongroom-enclave-"))
    folder.chmod(0o755)
    for name in ("sealed", "code", "tmp", "home"):
        (folder / name).mkdir()
        (folder / name).chmod(0o777)
    (folder / "sealed-sibling.txt").write_text("not for the enclave")
    address = str(folder / "keeper.sock")
    abstract = f"strongroom-test-{os.getpid()}"
    with ExitStack() as sockets:
        for number, kind in enumerate((socket.SOCK_STREAM, socket.SOCK_DGRAM)):
            named, unnamed = (sockets.enter_context(socket.socket(socket.AF_UNIX, kind)) for _ in range(2))
            end = "-datagram" * number
            named.bind(address + end)
            Path(address + end).chmod(0o777)
            unnamed.bind("\0" + abstract + end)
            if not number:
                named.listen()
                unnamed.listen()
        yield Place(
            folder,
            {
                "sibling": str(folder / "sealed-sibling.txt"),
                "sealed": str(folder / "sealed"),
                "tmp": str(folder / "tmp"),
                "home": str(folder / "home"),
                "socket": address,
                "abstract": abstract,
            },
        )
    shutil.rmtree(folder)


def run_as(place: Place, uid: int | None) -> Outcome:
    before = [] if uid is None else [sys.executable, str(SUPPORT / "as_ordinary_user.py"), str(uid)]
    program = [sys.executable, str(SUPPORT / "escape_run.py"), str(place.folder), json.dumps(place.facts)]
    ran = subprocess.run([*before, *program], capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return Outcome(**{**json.loads(ran.stdout), "agent": None})


@pytest.fixture(scope="module")
def inside(place: Place) -> Outcome:
    return run_as(place, None)


@pytest.fixture(scope="module")
def inside_ordinary(place: Place, inside: Outcome) -> Outcome:
    if os.geteuid() != 0:
        return inside
    return run_as(place, ORDINARY_UID)


@pytest.mark.parametrize("name", ALL)
def test_attempt_is_blocked(inside: Outcome, name: str) -> None:
    assert inside.result()[name][0] == "blocked", inside.result()[name]


@pytest.mark.parametrize("name", ALL)
def test_attempt_is_blocked_when_started_by_an_ordinary_user(inside_ordinary: Outcome, name: str) -> None:
    assert inside_ordinary.result()[name][0] == "blocked", inside_ordinary.result()[name]


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_refused_by_the_filter_before_the_kernel_looks_at_it(inside: Outcome, name: str) -> None:
    assert inside.result()[f"call {name}"] == ["blocked", "EPERM"]


def test_the_kernel_itself_would_not_have_refused_these_calls(place: Place, tmp_path: Path) -> None:
    if not may_administer():
        pytest.skip("the kernel refuses many of them to who may not administer")
    results = outside(place, tmp_path, [f"call {name}" for name in CALLS if name not in NEEDS_MORE])
    assert {name: result for name, result in results.items() if result == ["blocked", "EPERM"]} == {}


def test_attempts_are_real_ones(place: Place, tmp_path: Path) -> None:
    names = [name for name in (*REAL, *(REAL_FOR_ROOT if os.geteuid() == 0 else ())) if Path("/etc/passwd").exists()]
    results = outside(place, tmp_path, names)
    assert {name: result for name, result in results.items() if result[0] != "escaped"} == {}


def may_administer() -> bool:
    """Tell whether this process has CAP_SYS_ADMIN; a container's root often hasn't."""
    status = Path("/proc/self/status").read_text().splitlines()
    return bool(int(next(line.split()[1] for line in status if line.startswith("CapEff:")), 16) >> 21 & 1)


def outside(place: Place, tmp_path: Path, names: list[str]) -> dict[str, list[str]]:
    """Make attempts without an enclave."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights.txt").write_text("plain")
    ran = subprocess.run(
        [sys.executable, PROGRAM, json.dumps(place.facts), json.dumps(names)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"STRONGROOM_MODEL": str(model), "TMPDIR": str(tmp_path)},
    )
    results: dict[str, list[str]] = json.loads(ran.stdout)
    return results


@pytest.mark.parametrize("name", OPEN)
def test_what_the_documents_call_open_is_open(inside: Outcome, name: str) -> None:
    # Should one of these be closed one day, it belongs to the attempts above, and the documents lose a line.
    assert inside.result()[name][0] == "escaped", inside.result()[name]


def test_root_gives_up_its_uid(inside: Outcome) -> None:
    assert inside.entered["dedicated_uid"] is (os.geteuid() == 0)


def test_an_ordinary_user_needs_no_privilege(inside_ordinary: Outcome) -> None:
    assert inside_ordinary.entered["dedicated_uid"] is False


def test_foreign_numbering_of_system_calls_is_fatal(tmp_path: Path) -> None:
    require_sandbox()
    if os.uname().machine != "x86_64":
        pytest.skip("only x86-64 has a second numbering (x32)")
    script = tmp_path / "code" / "x32.py"
    profile = lab_profile(tmp_path)
    script.write_text(
        "import ctypes\nprint('before', flush=True)\nctypes.CDLL(None).syscall(0x40000000 + 39)\nprint('after')\n"
    )
    outcome = run_inside(profile, [str(script)])
    assert outcome.stdout == "before\n"
    assert outcome.signal == 31  # SIGSYS


def test_a_crash_leaves_no_core(tmp_path: Path) -> None:
    require_sandbox()
    script = tmp_path / "code" / "crash.py"
    profile = lab_profile(tmp_path)
    script.write_text(
        "import ctypes, os, resource\n"
        "os.chdir(os.environ['TMPDIR'])\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE)[1] <= 1, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True)\n"
        "import atexit, signal\n"
        "ctypes.string_at(0)\n"
    )
    outcome = run_inside(profile, [str(script)])
    assert outcome.stdout == "True 0\n"  # no room for a core, and not dumpable
    assert outcome.signal == 11
    assert not list(tmp_path.rglob("core*"))


def test_measured_rule_starts_only_measured_programs(tmp_path: Path) -> None:
    # Landlock and the mounts alone, without the closed door of the `once` rule.
    require_sandbox()
    profile = lab_profile(tmp_path, exec_rule=ExecRule.MEASURED)
    data = tmp_path / "code" / "program"
    data.write_bytes(Path(sys.executable).resolve().read_bytes())
    data.chmod(0o755)
    script = tmp_path / "code" / "starts.py"
    script.write_text(
        "import os, subprocess, sys\n"
        "def tried(*words):\n"
        "    try:\n"
        "        return subprocess.run(words, capture_output=True, text=True).stdout.strip()\n"
        "    except OSError as error:\n"
        "        return type(error).__name__\n"
        "copy = os.environ['TMPDIR'] + '/program'\n"
        "open(copy, 'wb').write(open(sys.argv[1], 'rb').read())\n"
        "inner = 'import os, socket\\ntry:\\n  socket.socket()\\nexcept OSError as e: print(e.errno)'\n"
        "print(tried(sys.executable, '-c', inner), tried(sys.argv[1], '-V'), tried('/bin/sh', '-c', 'echo out'))\n"
    )
    outcome = run_inside(profile, [sys.executable, str(script), str(data)])
    assert outcome.stdout == "1 PermissionError FileNotFoundError\n", outcome.stderr


def test_compiled_code_rule_still_refuses_writable_code(tmp_path: Path) -> None:
    require_sandbox()
    profile = lab_profile(tmp_path, writable_code=WritableCode.COMPILED)
    wanted = ["map_writable_code", "turn_data_into_code"]
    outcome = run_inside(profile, ["python", PROGRAM, "{}", json.dumps(wanted)])
    assert outcome.result()["map_writable_code"][0] == "blocked"
    assert outcome.result()["turn_data_into_code"][0] == "escaped"  # that is what the rule is for


def test_environment_and_input_are_the_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_sandbox()
    monkeypatch.setenv("SECRET_OF_THE_LAUNCHER", "token")
    profile = lab_profile(tmp_path)
    script = tmp_path / "code" / "env.py"
    script.write_text(
        "import json, os, sys\nprint(json.dumps([dict(os.environ), sys.stdin.read(), sys.flags.isolated]))\n"
    )
    environment, stdin, isolated = json.loads(run_inside(profile, [str(script)]).stdout)
    environment.pop("LC_CTYPE", None)  # the interpreter's own
    assert environment == dict(profile.environment)
    assert stdin == ""
    assert isolated == 1


def test_no_bytecode_is_read_or_written(tmp_path: Path) -> None:
    # Beside the sources it isn't measured; in the scratch folder the command could change what the agent runs next.
    require_sandbox()
    profile = lab_profile(tmp_path)
    code = tmp_path / "code"
    script, module = code / "imports.py", code / "told.py"
    module.write_text("SAYS = 'bytecode'\n")
    stale = py_compile.compile(str(module), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    assert stale is not None
    module.write_text("SAYS = 'source'\n")
    script.write_text("import os, told\nprint(told.SAYS, os.listdir(os.environ['TMPDIR']))\n")
    outside = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, env={"TMPDIR": "."}
    )
    assert outside.stdout.startswith("bytecode")
    assert run_inside(profile, [str(script)]).stdout == "source []\n"
