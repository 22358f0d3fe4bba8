"""The key that signs the lab's packages: made on this machine, once, and good for nothing else."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from lab.source_run import run

NAME = "Groundlift lab signing key (good for nothing else)"


@dataclass(frozen=True, slots=True)
class Keyring:
    """Two homes of one RSA key: GnuPG 1 can still make V3 signatures, GnuPG 2 can't."""

    old: Path
    new: Path
    fingerprint: str

    @property
    def public(self) -> str:
        """The public key, armoured."""
        return run(["gpg1", "--homedir", str(self.old), "--armor", "--export", self.fingerprint])


def keyring(home: Path) -> Keyring:
    """The key below ``home``, made now unless it is there."""
    old, new = home / "gnupg1", home / "gnupg2"
    ready = home / "fingerprint"
    if not ready.exists():
        for directory in (home, old, new):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        secret = _make(old)
        run(["gpg", "--homedir", str(new), "--batch", "--import"], stdin=secret)
        run(["gpgconf", "--homedir", str(new), "--kill", "all"])
        listed = run(["gpg1", "--homedir", str(old), "--with-colons", "--fingerprint"])
        found = re.search(r"^fpr:+([0-9A-F]{40}):", listed, re.MULTILINE)
        assert found, listed
        ready.write_text(found[1])
    return Keyring(old, new, ready.read_text().strip())


def _make(home: Path) -> str:
    for stale in home.iterdir():
        if stale.is_file():
            stale.unlink()
    # Entropy is what a fresh machine is short of; a throw-away key may take it from urandom.
    run(
        ["gpg1", "--homedir", str(home), "--batch", "--quick-random", "--gen-key"],
        stdin=f"Key-Type: RSA\nKey-Length: 2048\nKey-Usage: sign\nName-Real: {NAME}\n"
        "Expire-Date: 0\n%commit\n",
        timeout=300,
    )
    return run(["gpg1", "--homedir", str(home), "--armor", "--export-secret-keys"])


def stop_agent(ring: Keyring) -> None:
    """GnuPG 2 leaves an agent behind; the lab leaves nothing."""
    if any(os.scandir(ring.new)):
        run(["gpgconf", "--homedir", str(ring.new), "--kill", "all"])
