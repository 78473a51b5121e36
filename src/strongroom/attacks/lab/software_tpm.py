"""A real software TPM (swtpm) with its own certificate authority, for tests and demonstrations.

Everything lies in one folder: state, CA, configuration, socket. Nothing is written to a home folder or below /var,
and no privilege is needed. What it makes is simulated, says so in its certificates, and appraises as nothing better.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.ipc.adapters.children import end_with_parent

PROGRAMS: Final = ("swtpm", "swtpm_setup", "swtpm_localca")
START_SECONDS: Final = 10.0
SETUP_SECONDS: Final = 60.0
MAX_SOCKET_PATH: Final = 100


class SoftwareTPM:
    """One swtpm process over a folder of its own. Making the state happens once; it survives power cycles."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.state = self.folder / "state"
        self.authority = self.folder / "ca"
        self.socket_path = self.folder / "tpm.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def available() -> bool:
        """Tell whether the programs are installed."""
        return all(shutil.which(program) for program in PROGRAMS)

    def start(self) -> Self:
        """Make the state and certificates if there are none, and power the TPM on."""
        if not (self.state / "tpm2-00.permall").exists():
            self._manufacture()
        self._power_on()
        return self

    def stop(self) -> None:
        """Power the TPM off; its state stays."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self.socket_path.unlink(missing_ok=True)

    def power_cycle(self) -> None:
        """Power off and on: every PCR is fresh again, every loaded key and session is gone."""
        self.stop()
        self._power_on()

    @property
    def root_certificate(self) -> bytes:
        """The CA's self-signed root (DER): what reference values pin, as ``vm-simulated``."""
        return _der(self.authority / "swtpm-localca-rootca-cert.pem")

    @property
    def intermediates(self) -> tuple[bytes, ...]:
        """The CA certificates (DER) between the endorsement certificate and the root."""
        return (_der(self.authority / "issuercert.pem"),)

    def connect(self) -> socket.socket:
        """Open the data channel; swtpm serves one connection at a time."""
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            channel.connect(str(self.socket_path))
        except OSError:
            channel.close()
            raise
        return channel

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _listening(self) -> bool:
        # The socket's file is there before anyone listens on it, so only a connection tells.
        try:
            self.connect().close()
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    def _manufacture(self) -> None:
        for folder in (self.state, self.authority):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        options = self.folder / "localca.options"
        options.write_text(
            "--platform-manufacturer Strongroom\n--platform-version 1\n--platform-model simulated\n", encoding="ascii"
        )
        authority = self.folder / "localca.conf"
        authority.write_text(
            f"statedir = {self.authority}\n"
            f"signingkey = {self.authority}/signkey.pem\n"
            f"issuercert = {self.authority}/issuercert.pem\n"
            f"certserial = {self.authority}/certserial\n",
            encoding="utf-8",
        )
        setup = self.folder / "setup.conf"
        setup.write_text(
            f"create_certs_tool = {shutil.which('swtpm_localca')}\n"
            f"create_certs_tool_config = {authority}\n"
            f"create_certs_tool_options = {options}\n"
            "active_pcr_banks = sha256\n",
            encoding="utf-8",
        )
        log = self.folder / "setup.log"
        command = ["swtpm_setup", "--tpm2", "--tpm-state", str(self.state), "--config", str(setup)]
        command += ["--create-ek-cert", "--create-platform-cert", "--logfile", str(log), "--overwrite"]
        # The setup program looks for configuration below these when it has none; it has, but must find nothing either.
        environment = {**os.environ, "HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)}
        done = subprocess.run(  # noqa: S603 - programs of swtpm, with paths of our own
            command, env=environment, capture_output=True, timeout=SETUP_SECONDS, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"swtpm_setup failed: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}")

    def _power_on(self) -> None:
        if len(str(self.socket_path)) > MAX_SOCKET_PATH:
            raise RuntimeError("the software TPM's folder has too long a path for a Unix socket")
        self.socket_path.unlink(missing_ok=True)
        command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.state}"]
        command += ["--server", f"type=unixio,path={self.socket_path}", "--flags", "not-need-init,startup-clear"]
        command += ["--log", f"file={self.folder / 'swtpm.log'}"]
        self._process = subprocess.Popen(  # noqa: S603 - as above
            command,
            stdin=subprocess.DEVNULL,
            cwd=self.folder,
            preexec_fn=end_with_parent,  # noqa: PLW1509 - it calls nothing that takes a lock
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._listening():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError("swtpm didn't start")
            time.sleep(0.005)


def _der(path: Path) -> bytes:
    return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)
