"""What a Host does with files by running commands: the same on every machine, however old.

Only dd, head, wc, chmod and mv are needed, as they were in 2005.
"""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from core.errors import OutsideFailed
from core.ports import Completed, Host

OUTPUT_LIMIT = 64 * 1024 * 1024
BLOCK = 256 * 1024
# The size is compared before the rename: a broken connection looks like an end of file to dd.
PLACE = (
    "umask 077; trap 'rm -f \"$1\"' 0 1 2 15; "
    'dd of="$1" bs=65536 conv=fsync 2>/dev/null && '
    'test `wc -c < "$1"` -eq "$2" && chmod "$3" "$1" && mv -f "$1" "$4"'
)


def read(host: Host, path: str, limit: int) -> bytes:
    """Host.read by ``head``, which also serves /proc, whose files have no size."""
    done = host.run(("head", "-c", str(limit + 1), checked(path)))
    if done.code:
        raise OutsideFailed(
            f"can't read {path}: {reason(done)}", hint="check the path", where=host.name
        )
    if len(done.stdout) > limit:
        raise OutsideFailed(f"{path} is longer than {limit} bytes", where=host.name)
    return done.stdout


def write(host: Host, path: str, data: bytes, mode: int) -> None:
    """Host.write: beside, synced, renamed."""
    done = host.run(_placing(path, len(data), mode), stdin=data, timeout=300)
    if done.code:
        raise OutsideFailed(f"can't write {path}: {reason(done)}", where=host.name)


def upload(host: Host, source: Path, path: str) -> None:
    """Host.upload: like write, but never with the whole file in memory."""
    size = source.stat().st_size
    with host.stream(_placing(path, size, 0o644)) as channel, source.open("rb") as file:
        try:
            while block := file.read(BLOCK):
                channel.stdin.write(block)
            channel.stdin.close()
        except OSError as fault:
            raise OutsideFailed(
                f"sending {source.name} to {path} broke off: {channel.errors().strip() or fault}",
                hint="check the room on the target and run again",
                where=host.name,
            ) from fault
        if channel.wait(600):
            raise OutsideFailed(
                f"can't write {path}: {channel.errors().strip() or 'not all of it arrived'}",
                hint="check the room on the target and run again",
                where=host.name,
            )


def checked(path: str) -> str:
    """``path`` if it can be handed to a program; else OutsideFailed."""
    if not path.startswith("/") or any(sign in path for sign in "\0\n\r"):
        raise OutsideFailed(f"{path!r} is not an absolute path")
    return path


def reason(done: Completed) -> str:
    """The last line of standard error, or the exit code."""
    lines = done.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
    return lines[-1][:500] if lines else f"exit code {done.code}"


def _placing(path: str, size: int, mode: int) -> Sequence[str]:
    directory, name = os.path.split(checked(path))
    beside = f"{directory.rstrip('/')}/.{name}.{secrets.token_hex(4)}.new"
    return ("sh", "-c", PLACE, "sh", beside, str(size), f"{mode:04o}", path)
