"""Ansible as a process: its own group, an environment and a configuration made here, and events as
JSON lines over a pipe."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from adapters.process import ENVIRONMENT, readable
from core.errors import OutsideFailed
from core.ports import PlayEvent, PlayResult
from core.state import publish

CALLBACK = Path(__file__).parent / "callback"
GRACE = 10.0
LONGEST = 1024 * 1024
# OpenSSH 5.3, which EL6 has, signs with SHA-1 only.
OLD_SSH = ("HostKeyAlgorithms=+ssh-rsa", "PubkeyAcceptedAlgorithms=+ssh-rsa")


@dataclass(frozen=True, slots=True)
class Access:
    """How Ansible logs in. Without a key nothing is said about SSH (local connections)."""

    user: str = "root"
    key: Path | None = None
    known_hosts: Path | None = None


@dataclass(slots=True)
class _Seen:
    """What a run told so far."""

    stats: dict[str, dict[str, int]] = field(default_factory=dict)
    failures: list[PlayEvent] = field(default_factory=list)
    changes: list[PlayEvent] = field(default_factory=list)


def mitogen() -> Path | None:
    """The strategy plugins of Mitogen, four times as quick as SSH alone on EL6."""
    path = Path(sysconfig.get_path("purelib"), "ansible_mitogen", "plugins", "strategy")
    return path if path.is_dir() else None


class AnsiblePlaybooks:
    """core.ports.Playbooks. ``folder`` gets ansible.cfg and one log per playbook; ``root`` is
    where roles/ lies. ``strategy`` is ``linear`` or empty for the best there is."""

    def __init__(self, root: Path, folder: Path, access: Access, strategy: str = "") -> None:
        self._root, self._folder, self._access = root, folder, access
        plugins = None if strategy == "linear" else mitogen()
        self._plugins = plugins

    def run(
        self,
        playbook: Path,
        inventory: Path,
        *,
        check: bool = False,
        limit: str = "",
        on_event: Callable[[PlayEvent], None] = lambda _: None,
    ) -> PlayResult:
        """Run to the end. Hosts that failed are an answer; Ansible that can't start is an error."""
        argv = [self._program(), "-i", str(inventory), *(["--check", "--diff"] if check else [])]
        argv += [*(["--limit", limit] if limit else []), str(playbook)]
        self._folder.mkdir(parents=True, exist_ok=True)
        log = self._folder / f"{playbook.stem}.log"
        seen = _Seen()
        with (
            tempfile.TemporaryDirectory(prefix="groundlift-") as home,
            log.open("wb") as output,
            self._process(argv, Path(home), output) as (process, events),
        ):
            for event in _events(process, events):
                _note(seen, event)
                on_event(event)
            code = process.wait()
        if not seen.stats and not seen.failures:
            raise OutsideFailed(
                f"ansible-playbook ended with code {code}: {_end(log)}",
                hint="the log says more",
                where=str(log),
            )
        return PlayResult(code, seen.stats, tuple(seen.failures), tuple(seen.changes))

    def _program(self) -> str:
        """Of our own environment: another Ansible on this machine may be too new for EL6."""
        own = Path(sys.executable).with_name("ansible-playbook")
        found = str(own) if own.exists() else shutil.which("ansible-playbook")
        if found is None:
            raise OutsideFailed("ansible-playbook is not installed", hint="run ./setup")
        return found

    @contextmanager
    def _process(
        self, argv: list[str], home: Path, output: BinaryIO
    ) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        """The running process and the end of its events; leaving ends the whole group."""
        config = self._folder / "ansible.cfg"
        publish(config, self._configuration())
        ours, theirs = os.pipe()
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment(home, config, theirs),
                cwd=home,
                pass_fds=(theirs,),
                start_new_session=True,
            )
        except OSError as fault:
            os.close(ours)
            raise OutsideFailed(f"can't start {argv[0]}: {fault.strerror}") from fault
        finally:
            os.close(theirs)
        try:
            yield process, ours
        finally:
            os.close(ours)
            _end_group(process)

    def _environment(self, home: Path, config: Path, descriptor: int) -> dict[str, str]:
        """From scratch: what the engineer's shell has set is no part of a run."""
        return {
            **ENVIRONMENT,
            "LC_ALL": "C.UTF-8",
            "PATH": f"{Path(sys.executable).parent}:{ENVIRONMENT['PATH']}",
            "HOME": str(home),
            "ANSIBLE_CONFIG": str(config),
            "ANSIBLE_LOCAL_TEMP": str(home / "tmp"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(home / "cp"),
            "PYTHONWARNINGS": "ignore",
            "GROUNDLIFT_EVENTS": str(descriptor),
        }

    def _configuration(self) -> str:
        access = self._access
        options = [
            *OLD_SSH,
            *("BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes"),
            *("ConnectTimeout=15", "ServerAliveInterval=10", "ServerAliveCountMax=3"),
            "GlobalKnownHostsFile=/dev/null",
        ]
        if access.known_hosts is not None:
            options.append(f'UserKnownHostsFile="{access.known_hosts}"')
        if self._plugins is None:  # Mitogen keeps its one connection by itself
            options += ["ControlMaster=auto", "ControlPersist=15s"]
        defaults: dict[str, object] = {
            "roles_path": self._root / "roles",
            "callback_plugins": CALLBACK,
            "callbacks_enabled": "groundlift",
            "strategy": "linear" if self._plugins is None else "mitogen_linear",
            **({} if self._plugins is None else {"strategy_plugins": self._plugins}),
            "remote_user": access.user,
            **({} if access.key is None else {"private_key_file": access.key}),
            "host_key_checking": True,
            "deprecation_warnings": False,
            "retry_files_enabled": False,
            "display_skipped_hosts": False,
            "nocows": True,
            "forks": 10,
            # A service that was configured is restarted even if a later task fails: the next run
            # finds the file as it should be and would not know.
            "force_handlers": True,
            "timeout": 20,
            # Here and below [connection]: Ansible 2.12 ignores it below [ssh_connection].
            "pipelining": True,
        }
        ssh = "-F none " + " ".join(f"-o {shlex.quote(option)}" for option in options)
        sections: dict[str, dict[str, object]] = {
            "defaults": defaults,
            "connection": {"pipelining": True},
            "ssh_connection": {"ssh_args": ssh},
        }
        lines = ["# generated by Groundlift; edits are overwritten"]
        for name, settings in sections.items():
            lines.append(f"[{name}]")
            # A percent sign would be an interpolation.
            lines += [f"{key} = {str(value).replace('%', '%%')}" for key, value in settings.items()]
        return "\n".join(lines) + "\n"


def _events(process: subprocess.Popen[bytes], descriptor: int) -> Iterator[PlayEvent]:
    """Events as they come, until the process has ended and nothing is left to read."""
    kept = b""
    while True:
        if not readable(descriptor, 0.5):
            if process.poll() is not None:
                return
            continue
        data = os.read(descriptor, 65536)
        if not data:
            return
        *lines, kept = (kept + data).split(b"\n")
        yield from (event for line in lines if (event := _event(line)) is not None)
        if len(kept) > LONGEST:
            kept = b""


def _event(line: bytes) -> PlayEvent | None:
    try:
        data: dict[str, Any] = json.loads(line)
        return PlayEvent(**data)
    except (ValueError, TypeError):
        return None


def _note(seen: _Seen, event: PlayEvent) -> None:
    if event.kind in ("failed", "unreachable"):
        seen.failures.append(event)
    elif event.kind == "changed":
        seen.changes.append(event)
    elif event.kind == "stats":
        seen.stats = {host: dict(counts) for host, counts in event.stats.items()}


def _end(log: Path) -> str:
    """What Ansible said when it gave up, else its last lines, as one."""
    text = log.read_text("utf-8", "replace").partition("ERROR! ")
    words = (text[2] or " ".join(text[0].splitlines()[-6:])).split()
    return " ".join(words)[:600] or "it said nothing"


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End Ansible and all that it started; harmless when they have ended."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        end = time.monotonic() + 1.0
        while _alive(process.pid) and time.monotonic() < end:
            time.sleep(0.02)
        if not _alive(process.pid):
            return


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
