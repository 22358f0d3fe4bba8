"""The direct route: data goes from the source to its hypervisor by the source's own ssh.

The controller keeps the order, the manifest and the journal: it is told every digest, passes it on,
and only then does the writer take the data that came straight. So nothing is overwritten before its
digest is withdrawn, on this way as on the other. The key is made for one pass, reaches the source's
memory alone, and lets its holder in to one program, from one address, while that pass runs.
"""

import base64
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from core.progress import Event, Report
from core.progress import Kind as EventKind
from migrate.transfer_speed import without_python
from migrate.transfer_wire import Kind, Session

PARTED = "\x1f"
PATIENCE = 30  # seconds for the door to answer
BITS = 2048  # OpenSSH 5.3 takes RSA alone; the key lives for one pass
# For a new ssh and a hypervisor as old as EL6; an old ssh does not know these words.
OLD = ("-o", "HostKeyAlgorithms=+ssh-rsa", "-o", "PubkeyAcceptedKeyTypes=+ssh-rsa")


@dataclass(frozen=True, slots=True)
class Direct:
    """A way that both sides' owners agreed on: the hypervisor's ``address``, ``port`` and ``user``,
    its ``known`` host keys as the controller pinned them (kind and base64), and ``origin``, the
    address that the source comes from."""

    address: str
    port: int
    user: str
    known: tuple[str, ...]
    origin: str


@contextmanager
def routed(
    direct: Direct | None, found: Sequence[Session], writer: Session, report: Report
) -> Iterator[bool]:
    """Whether every reader's data goes straight. When it can't, that is said, with the reason, and
    the pass is relayed."""
    if direct is None or any(without_python(reader) for reader in found):
        yield False
        return
    key = rsa.generate_private_key(public_exponent=65537, key_size=BITS)
    why = _open(writer, direct, key)
    for reader in found:
        why = why or _lead(reader, direct, key)
    route = f"{found[0].host} → {writer.host}"
    told = f"relayed through this machine: {why}" if why else "straight, not through this machine"
    report(Event(EventKind.NOTE, route, text=told))
    yield not why
    writer.say(Kind.DOOR)
    writer.expect(Kind.DOOR)


def _open(writer: Session, direct: Direct, key: rsa.RSAPrivateKey) -> str:
    """The door at the hypervisor; why it did not open."""
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    token = secrets.token_hex(16)
    writer.say(Kind.DOOR, token=token, origin=direct.origin, key=public.decode())
    answer = writer.expect(Kind.DOOR).fields
    return "" if answer.get("ok") == "1" else f"{writer.host}: {answer.get('why', '?')[:300]}"


def _lead(reader: Session, direct: Direct, key: rsa.RSAPrivateKey) -> str:
    """Let a reader find the door; why it did not."""
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    known = "".join(f"{_alias(direct)} {line}\n" for line in direct.known).encode()
    why = ""
    for more in ((), OLD):
        reader.say(
            Kind.ROUTE,
            argv=PARTED.join(_argv(direct, more)),
            key=base64.b64encode(private).decode(),
            known=base64.b64encode(known).decode(),
            seconds=PATIENCE,
        )
        answer = reader.expect(Kind.ROUTE).fields
        if answer.get("ok") == "1":
            return ""
        why = why or f"{reader.host}: {answer.get('why', '?')[:300]}"
    return why


def _alias(direct: Direct) -> str:
    return f"groundlift-{direct.address}"


def _argv(direct: Direct, more: Sequence[str]) -> tuple[str, ...]:
    """The source's ssh, as old as OpenSSH 5.3. @key@ and @known@ become files in its memory."""
    settings = (
        "BatchMode=yes",
        "PreferredAuthentications=publickey",
        "StrictHostKeyChecking=yes",
        "UserKnownHostsFile=@known@",
        "GlobalKnownHostsFile=/dev/null",
        f"HostKeyAlias={_alias(direct)}",
        "CheckHostIP=no",
        "IdentitiesOnly=yes",
        "ForwardAgent=no",
        "ControlMaster=no",
        f"ConnectTimeout={PATIENCE // 3}",
        "ServerAliveInterval=15",
        "ServerAliveCountMax=4",
        "Compression=no",
        "LogLevel=ERROR",
    )
    flags = (part for setting in settings for part in ("-o", setting))
    login = ("-p", str(direct.port), f"{direct.user}@{direct.address}")
    return ("ssh", "-F", "/dev/null", "-T", *flags, *more, "-i", "@key@", *login, "door")
