"""The engineer's key of the lab, the hosts' keys, and the file in which these are pinned."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.state import publish
from lab.source_run import run


def key_pair(private: Path, comment: str) -> None:
    """An RSA key in PEM, which is what EL6's OpenSSH reads; made once, then kept."""
    with alone(private):
        if not private.exists():
            half = private.with_name(f"{private.name}.new")
            half.unlink(missing_ok=True)
            kind = ("-q", "-t", "rsa", "-b", "2048", "-m", "PEM")
            run(["ssh-keygen", *kind, "-N", "", "-C", comment, "-f", str(half)])
            half.with_name(f"{half.name}.pub").rename(f"{private}.pub")
            half.rename(private)


def pin(known_hosts: Path, address: str, private: Path) -> None:
    """Write a host's key into ``known_hosts``, in place of a former one."""
    kind, key = Path(f"{private}.pub").read_text().split()[:2]
    _keep(known_hosts, address, f"{address} {kind} {key}")


def unpin(known_hosts: Path, address: str) -> None:
    """Forget a host that is gone."""
    _keep(known_hosts, address, "")


def _keep(known: Path, address: str, line: str) -> None:
    with alone(known):
        lines = known.read_text().splitlines() if known.exists() else []
        wanted = [other for other in lines if other.split(" ")[0] != address]
        wanted += [line] if line else []
        if lines != wanted:
            publish(known, "".join(f"{entry}\n" for entry in wanted))


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Be the only one to change ``file``: nodes and source may come up at the same time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(f".{file.name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
