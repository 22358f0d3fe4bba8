"""The lab's two discs: built once from the catalogue, kept until what they are made of changes."""

import hashlib
import shutil
from pathlib import Path

from core.progress import Report, track
from core.state import lock, publish
from lab import keyring, media_disc, rpms
from lab.estate import Estate

HERE = Path(__file__).parent
INPUTS = (
    *("catalogue.py", "debs.py", "groups.py", "media_disc.py", "media_init.sh"),
    *("minimal.txt", "rpms.py"),
)


def key() -> str:
    """What the discs are made of, as far as this repository decides it."""
    digest = hashlib.sha256()
    files = [HERE / name for name in INPUTS] + sorted((HERE / "el6").rglob("*"))
    for file in files:
        if file.is_symlink():
            digest.update(f"{file.relative_to(HERE)} {file.readlink()}\0".encode())
        elif file.is_file():
            digest.update(f"{file.relative_to(HERE)} {file.stat().st_mode:o}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def built(estate: Estate) -> bool:
    """Whether both discs are there and made of the present inputs."""
    note = estate.media / "made-of"
    return (
        all(disc.exists() for disc in estate.discs)
        and estate.fingerprint.exists()
        and note.exists()
        and note.read_text() == key()
    )


def build(estate: Estate, report: Report) -> None:
    """Both discs with their key, made now unless they are there."""
    with lock(estate.directory / "media.lock", "the lab's media"):
        if built(estate):
            return
        (estate.media / "made-of").unlink(missing_ok=True)
        made_of = key()
        ring = keyring.keyring(estate.directory / "keyring")
        with track(report, "media: download"):
            sources = rpms.plan(estate.cache / "debs")
        files = rpms.build(ring, sources, estate.packages, report)
        keyring.stop_agent(ring)
        work = estate.directory / "media.work"
        shutil.rmtree(work, ignore_errors=True)
        with track(report, "media: discs", 2) as meter:
            trees = media_disc.trees(files, ring.public, work)
            for number, (tree, disc) in enumerate(zip(trees, estate.discs, strict=True), 1):
                half = work / disc.name
                media_disc.burn(tree, half, bootable=number == 1)
                disc.parent.mkdir(parents=True, exist_ok=True)
                half.rename(disc)
                meter.advance()
        shutil.rmtree(work)
        publish(estate.public_key, ring.public)
        publish(estate.fingerprint, ring.fingerprint + "\n")
        publish(estate.media / "made-of", made_of)
