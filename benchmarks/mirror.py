"""`make bench NAME=mirror`: our build, everything verified, against extracting and createrepo_c.

Two discs of together 4.3 GB with 5,200 signed packages in CentOS 6's shape, made anew; in one run:
- ours: groundlift mirror build --sums sha256sum.txt, as publishers give it with their discs (every
  disc's SHA-256, every package's digests and signatures, metadata, publication)
- ours without a checksum file: the implanted md5 instead, and the packages' own MD5 besides
- peer: xorriso -osirrox of both discs into one tree, createrepo_c on it (verifies nothing)
- the peer's way to ours: besides, checkisomd5 of both discs and rpmkeys -K of every package
All start with discs that no cache holds and end with the result on the disk. The floor is what
the processors need for the digests alone. The median of REPEATS each; the last line is JSON.
BENCH_DIR keeps the discs for the next run, BENCH_SCALE=0.1 takes a tenth of the packages.
"""

import contextlib
import hashlib
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.packages import signer, write_all
from tests.unit.isomirror.conftest import COMPS, DISC_ID, TREEINFO, sh

SCALE = float(os.environ.get("BENCH_SCALE", "1"))
PACKAGES, SIZE, REPEATS = int(5200 * SCALE), 800_000, int(os.environ.get("BENCH_REPEATS", "3"))


def make_discs(top: Path) -> tuple[Path, Path, str]:
    home = top / "gpg"
    home.mkdir(mode=0o700)
    gpg = ("gpg", "--homedir", str(home), "--batch", "-q")
    sh(*gpg, "--passphrase", "", "--quick-generate-key", "bench", "rsa2048", "sign", "0")
    listed = sh(*gpg, "--with-colons", "--list-keys")
    fingerprint = next(line.split(":")[9] for line in listed.split("\n") if line[:3] == "fpr")
    (top / "key.asc").write_text(sh(*gpg, "--armor", "--export", "bench"))
    trees = (top / "d1", top / "d2")
    for disc, tree in enumerate(trees, 1):
        (tree / "Packages").mkdir(parents=True)
        (tree / ".discinfo").write_text(f"{DISC_ID}\n6.3\nx86_64\n{disc}\n")
        (tree / ".treeinfo").write_text(TREEINFO.format(disc=disc))
        (tree / "RPM-GPG-KEY-CentOS-6").write_text((top / "key.asc").read_text())
    (trees[0] / "repodata").mkdir()
    (trees[0] / "repodata" / "repomd.xml").write_text("<repomd/>")
    (trees[0] / "repodata" / "x-comps.xml").write_text(COMPS)
    folders = tuple(tree / "Packages" for tree in trees)
    write_all(folders, signer(home, fingerprint), PACKAGES, SIZE)
    images = []
    for tree in trees:
        image = top / f"{tree.name}.iso"
        marks = ("-V", "CentOS_6.3_Final", "-A", "CentOS_6.3_Final")
        sh("genisoimage", "-quiet", "-R", "-J", *marks, "-o", str(image), str(tree))
        sh("implantisomd5", str(image))
        shutil.rmtree(tree)
        images.append(image)
    (top / "sha256sum.txt").write_text(sh("sha256sum", *map(str, images)))
    return images[0], images[1], fingerprint


def speed(algorithm: str) -> float:
    """Bytes per second of one processor."""
    data, count, begun = bytes(1 << 20), 0, time.monotonic()
    digest = hashlib.new(algorithm, usedforsecurity=False)
    while time.monotonic() - begun < 1:
        digest.update(data)
        count += len(data)
    return count / (time.monotonic() - begun)


def floor(total: int) -> tuple[dict[str, float], float, float]:
    """GB/s of each digest, and the seconds of wall clock that the digests of ``total`` bytes need
    on all processors: SHA-256 of disc, package and signature; without a checksum file md5 of the
    disc and SHA-256 twice and md5 of the packages."""
    speeds = {name: speed(name) for name in ("md5", "sha1", "sha256")}
    each = {name: total / value / (os.cpu_count() or 1) for name, value in speeds.items()}
    shown = {name: round(value / 1e9, 2) for name, value in speeds.items()}
    return shown, 3 * each["sha256"], 2 * each["sha256"] + 2 * each["md5"]


def timed(discs: tuple[Path, Path], *commands: tuple[str, ...]) -> tuple[float, float]:
    """Seconds of wall clock and of processor: from discs that no cache holds to a result that is
    on the disk, with nothing left to write from what ran before."""
    os.sync()
    for disc in discs:
        with disc.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    for command in commands:
        sh(*command)
    os.sync()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - start, processor


class Compared:
    """What each way took, repetition by repetition."""

    def __init__(self, top: Path, one: Path, two: Path, fingerprint: str) -> None:
        self.top, self.discs, self.fingerprint = top, (one, two), fingerprint
        self.seconds: dict[str, list[float]] = {}
        self.processor: dict[str, list[float]] = {}
        self.extra = 0

    def take(self, name: str, *commands: tuple[str, ...]) -> None:
        wall, processor = timed(self.discs, *commands)
        self.seconds.setdefault(name, []).append(wall)
        self.processor.setdefault(name, []).append(processor)

    def turn(self) -> None:
        state, plain, tree = self.top / "state", self.top / "plain", self.top / "tree"
        one, two = map(str, self.discs)
        cli = (sys.executable, "-m", "cli", "--state")
        what = ("mirror", "build", one, two, "--fingerprint", self.fingerprint)
        sums = ("--sums", str(self.top / "sha256sum.txt"))
        self.take("ours", (*cli, str(state), *what, *sums))
        self.take("rebuild", (*cli, str(state), *what, *sums))
        self.extra = sum(file.stat().st_size for file in state.rglob("*") if file.is_file())
        self.take("without_sums", (*cli, str(plain), *what))
        extract = [
            ("xorriso", "-osirrox", "on", "-indev", image, "-extract", "/Packages", f"{tree}/P{n}")
            for n, image in enumerate((one, two))
        ]
        self.take("peer", *extract, ("createrepo_c", "-q", "--compatibility", str(tree)))
        keys = ("rpmkeys", "--dbpath", str(self.top / "db"))
        sh(*keys, "--import", str(self.top / "key.asc"))
        packages = [str(path) for path in tree.rglob("*.rpm")]
        checks = [("checkisomd5", one), ("checkisomd5", two), (*keys, "-K", *packages)]
        self.take("checks", *checks)
        sh("chmod", "-R", "u+w", str(tree))
        for place in (state, plain, tree):
            shutil.rmtree(place)
        told = ", ".join(f"{name} {taken[-1]:.1f} s" for name, taken in self.seconds.items())
        print(f"{told}, load {os.getloadavg()[0]:.1f}", flush=True)

    def result(self) -> dict[str, object]:
        middle = {name: statistics.median(taken) for name, taken in self.seconds.items()}
        checked = statistics.median(
            sum(pair) for pair in zip(self.seconds["peer"], self.seconds["checks"], strict=True)
        )
        total = sum(disc.stat().st_size for disc in self.discs)
        speeds, least, least_without = floor(total)
        return {
            "bench": "mirror",
            "ratio": round(middle["ours"] / middle["peer"], 3),
            "ratio_without_sums": round(middle["without_sums"] / middle["peer"], 3),
            "ratio_verifying": round(middle["ours"] / checked, 3),
            "seconds": {name: round(value, 2) for name, value in middle.items()},
            "processor_seconds": {
                name: round(statistics.median(used), 2) for name, used in self.processor.items()
            },
            "rebuild_seconds": round(middle["rebuild"], 2),
            "extra_disk": round(self.extra / total, 4),
            "digest_gigabytes_per_second": speeds,
            "floor_seconds": {"ours": round(least, 2), "without_sums": round(least_without, 2)},
            "packages": PACKAGES,
            "disc_bytes": total,
            "load": round(os.getloadavg()[0], 1),
        }


def main() -> None:
    kept = os.environ.get("BENCH_DIR")
    with contextlib.ExitStack() as stack:
        top = Path(kept or stack.enter_context(tempfile.TemporaryDirectory()))
        note = top / "discs.json"
        if not note.exists():
            note.write_text(json.dumps([str(thing) for thing in make_discs(top)]))
        one, two, fingerprint = json.loads(note.read_text())
        compared = Compared(top, Path(one), Path(two), fingerprint)
        for _ in range(REPEATS):
            compared.turn()
        print(json.dumps(compared.result()))


if __name__ == "__main__":
    main()
