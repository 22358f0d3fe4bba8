"""Which algorithms a server is offered: named sets, chosen by the version in its banner.

A set holds what servers of that age need and nothing weaker. Only the servers that know nothing
better get SHA-1 signatures, and only those before 4.4 a SHA-1 key exchange.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

SHA2 = ("rsa-sha2-512", "rsa-sha2-256")
RSA = "ssh-rsa"
ED25519 = "ssh-ed25519"
ECDSA = ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
ELLIPTIC = (
    *("curve25519-sha256", "curve25519-sha256@libssh.org"),
    *("ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521"),
)
GROUP_SHA256 = "diffie-hellman-group-exchange-sha256"
COUNTER = ("aes128-ctr", "aes192-ctr", "aes256-ctr")
SEALED = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com")
MACS = (
    *("umac-128-etm@openssh.com", "hmac-sha2-256-etm@openssh.com"),
    *("hmac-sha2-512-etm@openssh.com", "umac-128@openssh.com"),
    *("hmac-sha2-256", "hmac-sha2-512"),
)


@dataclass(frozen=True, slots=True)
class Algorithms:
    """One named set. ``weak`` tells a person what is old about it; empty for the modern one."""

    name: str
    kex: tuple[str, ...]
    host_keys: tuple[str, ...]
    signatures: tuple[str, ...]
    ciphers: tuple[str, ...]
    macs: tuple[str, ...]
    weak: str = ""

    def host_keys_for(self, pinned: Iterable[str]) -> tuple[str, ...]:
        """Only kinds that are pinned: a server must not get to show another of its keys."""
        kinds = set(pinned)
        if RSA in kinds:
            kinds.update(SHA2)
        return tuple(kind for kind in self.host_keys if kind in kinds) or self.host_keys


MODERN = Algorithms(
    name="modern",
    kex=(*ELLIPTIC, GROUP_SHA256, "diffie-hellman-group16-sha512", "diffie-hellman-group14-sha256"),
    host_keys=(ED25519, *ECDSA, *SHA2),
    signatures=(ED25519, *ECDSA, *SHA2),
    ciphers=(*SEALED, *COUNTER),
    macs=MACS,
)
BEFORE_7_2 = Algorithms(
    name="before-7.2",
    kex=(*ELLIPTIC, GROUP_SHA256),
    host_keys=(ED25519, *ECDSA, *SHA2, RSA),
    signatures=(ED25519, *ECDSA, RSA),
    ciphers=(*SEALED, *COUNTER),
    macs=MACS,
    weak="RSA signatures with SHA-1",
)
BEFORE_5_9 = Algorithms(
    name="before-5.9",
    kex=("ecdh-sha2-nistp256", GROUP_SHA256),
    host_keys=(*ECDSA, RSA),
    signatures=(*ECDSA, RSA),
    ciphers=COUNTER,
    macs=("umac-64@openssh.com", "hmac-sha1"),
    weak="RSA signatures and packet checksums with SHA-1",
)
BEFORE_4_4 = Algorithms(
    name="before-4.4",
    kex=("diffie-hellman-group-exchange-sha1", "diffie-hellman-group14-sha1"),
    host_keys=(RSA,),
    signatures=(RSA,),
    ciphers=COUNTER,
    macs=("hmac-sha1",),
    weak="key exchange, RSA signatures and packet checksums with SHA-1",
)
SETS = {entry.name: entry for entry in (MODERN, BEFORE_7_2, BEFORE_5_9, BEFORE_4_4)}
AGES = (((4, 4), BEFORE_4_4), ((5, 9), BEFORE_5_9), ((7, 2), BEFORE_7_2))


def version(banner: str) -> tuple[int, int] | None:
    """(major, minor) of an OpenSSH; None for any other server."""
    found = re.match(r"SSH-[\d.]+-OpenSSH_(\d{1,3})\.(\d{1,3})", banner)
    return (int(found[1]), int(found[2])) if found else None


def chosen(banner: str, named: str = "") -> Algorithms:
    """The set that ``named`` asks for, else the one for the age in the banner. What is no OpenSSH
    is taken for modern."""
    if named:
        return SETS[named]
    age = version(banner)
    for limit, entry in AGES:
        if age is not None and age < limit:
            return entry
    return MODERN
