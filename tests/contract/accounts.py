"""A sshd with accounts and sudoers of its own, in a mount namespace: those of this machine are not
used nor changed. Needs root."""

import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.contract.sshd import Server, sshd

PASSWORD = "correct horse, 密码"
NOISE = "echo Welcome to the server; echo a warning >&2; printf 'no end of line'\n"
# account: its line in sudoers, its shell
ACCOUNTS = {
    "easy": ("ALL=(root) NOPASSWD: /bin/sh", "/bin/bash"),
    "asked": ("ALL=(ALL) ALL", "/bin/bash"),
    "tty": ("ALL=(ALL) NOPASSWD: ALL", "/bin/bash"),
    "ttyasked": ("ALL=(ALL) ALL", "/bin/bash"),
    "csh": ("ALL=(ALL) NOPASSWD: ALL", "/bin/csh"),
    "nobody2": ("", "/bin/bash"),
    "menu": ("", "/bin/echo"),
}


@contextmanager
def accounts() -> Iterator[Server]:
    """The sshd; ``login`` is that of the account ``easy``."""
    with tempfile.TemporaryDirectory(prefix="accounts-") as name:
        root = Path(name)
        root.chmod(0o755)
        with sshd(root, within=_world(root), user="easy", passwords=True) as server:
            (root / "authorized_keys").chmod(0o644)
            yield server


def _world(root: Path) -> tuple[str, ...]:
    """Files to lie over those of /etc, and the command that lays them there."""
    secret = subprocess.run(
        ["openssl", "passwd", "-6", "-stdin"], input=PASSWORD.encode(), capture_output=True
    ).stdout.decode()
    passwd, shadow, sudoers = (
        "",
        "",
        "Defaults:tty,ttyasked requiretty, !use_pty\nDefaults !lecture\n",
    )
    for number, (account, (rule, shell)) in enumerate(ACCOUNTS.items(), 42_000):
        home = root / account
        home.mkdir()
        (home / ".bashrc").write_text(NOISE)
        (home / ".cshrc").write_text("echo Welcome\n")
        passwd += f"{account}:x:{number}:{number}::{home}:{shell}\n"
        shadow += f"{account}:{secret.strip()}:19000:0:99999:7:::\n"
        sudoers += f"{account} {rule}\n" if rule else ""
    over = {
        "passwd": Path("/etc/passwd").read_text() + passwd,
        "shadow": Path("/etc/shadow").read_text() + shadow,
        "sudoers": f"root ALL=(ALL) ALL\n{sudoers}",
    }
    script = "mkdir -p /run/sudo && mount -t tmpfs none /run/sudo"
    for file, text in over.items():
        path = root / f"etc-{file}"
        path.touch(mode={"passwd": 0o644, "shadow": 0o600, "sudoers": 0o440}[file])
        path.write_text(text)
        script += f" && mount --bind {shlex.quote(str(path))} /etc/{file}"
    script += ' && exec "$@"'
    return ("unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh")
