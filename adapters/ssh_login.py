"""How to get into a machine, and what proves that it is the one that was meant."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import paramiko

from core.errors import OutsideFailed, TurnedAway


@dataclass(frozen=True, slots=True)
class Login:
    """``key`` logs in if it is set, else ``password``, which also answers sudo's question.
    ``sudo``: every command runs as root by way of sudo. ``jump``: the machine on the way, with its
    own pinned host key. ``algorithms`` names a set of ssh_algorithms; empty: by the banner."""

    address: str
    user: str
    key: Path | None
    known_hosts: Path
    port: int = 22
    jump: "Login | None" = None
    password: str | None = field(default=None, repr=False)
    sudo: bool = False
    algorithms: str = ""

    @property
    def host_id(self) -> str:
        """The name under which known_hosts files list the host."""
        return self.address if self.port == 22 else f"[{self.address}]:{self.port}"


def fingerprint(key: paramiko.PKey) -> str:
    """As `ssh-keygen -l` prints it; the MD5 form too, the only one that old systems show."""
    md5 = ":".join(f"{byte:02x}" for byte in key.get_fingerprint())
    return f"{key.fingerprint} MD5:{md5}"


def pins(login: Login, name: str) -> paramiko.HostKeys:
    """The pinned host keys; none when there is no file yet."""
    found = paramiko.HostKeys()
    try:
        found.load(str(login.known_hosts))
    except FileNotFoundError:
        return found
    except (OSError, paramiko.SSHException) as fault:
        raise OutsideFailed(f"can't read {login.known_hosts}: {fault}", where=name) from fault
    return found


def pinned_kinds(login: Login, name: str) -> Iterable[str]:
    """The kinds of key that are pinned for this host."""
    return tuple(pins(login, name).lookup(login.host_id) or ())


def check_host_key(login: Login, key: paramiko.PKey, name: str) -> None:
    """Raises TurnedAway unless ``key`` is the pinned one."""
    book = pins(login, name)
    if book.check(login.host_id, key):
        return
    known = book.lookup(login.host_id)
    where = f"{key.get_name()} {fingerprint(key)}"
    if known is not None and key.get_name() in known:
        raise TurnedAway(
            f"{login.address} shows another host key than the pinned one: {where}",
            hint="find out why before going on: another machine may be answering. If the key was "
            f"really changed, remove {login.host_id} from {login.known_hosts} and pin it again",
            where=name,
        )
    raise TurnedAway(
        f"the host key of {login.address} is not pinned: {where}",
        hint=f"compare the fingerprint on the host's own screen, then "
        f"`groundlift migrate pin {name}`",
        where=name,
    )


def private_key(path: Path, name: str) -> paramiko.PKey:
    """The key in ``path``, of any kind."""
    try:
        return paramiko.PKey.from_path(path)
    except paramiko.PasswordRequiredException as fault:
        raise OutsideFailed(
            f"the key {path} is locked by a passphrase",
            hint="use a key of this project alone, without a passphrase, readable by you only",
            where=name,
        ) from fault
    except (OSError, ValueError, TypeError, paramiko.SSHException) as fault:
        raise OutsideFailed(
            f"can't use {path} as a private key: {fault}",
            hint="make one with `ssh-keygen -t rsa -b 3072 -m PEM`: CentOS 6 reads no newer kind",
            where=name,
        ) from fault
