"""`make bench NAME=mirror`: our build, everything verified, against extracting and createrepo_c.

Two discs of together 4.3 GB with 5,200 signed packages in CentOS 6's shape, made anew; in one run:
- ours: groundlift mirror build (implanted md5, every digest and signature, metadata, publication)
- peer: xorriso -osirrox of both discs into one tree, createrepo_c on it (verifies nothing)
- the peer's way to ours: besides, checkisomd5 of both discs and rpmkeys -K of every package
Both start with discs that no cache holds and end with the result on the disk. The floor is what
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
    return images[0], images[1], fingerprint


def speed(algorithm: str) -> float:
    """Bytes per second of one processor."""
    data, count, begun = bytes(1 << 20), 0, time.monotonic()
    digest = hashlib.new(algorithm, usedforsecurity=False)
    while time.monotonic() - begun < 1:
        digest.update(data)
        count += len(data)
    return count / (time.monotonic() - begun)


def floor(total: int) -> tuple[dict[str, float], float]:
    """GB/s of each digest, and the seconds of wall clock that the digests of ``total`` bytes need
    on all processors: md5 of the disc, and of each package md5 and SHA-256 (file, signature)."""
    speeds = {name: speed(name) for name in ("md5", "sha1", "sha256")}
    seconds = 2 * total / speeds["md5"] + 2 * total / speeds["sha256"]
    shown = {name: round(value / 1e9, 2) for name, value in speeds.items()}
    return shown, seconds / (os.cpu_count() or 1)


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


def compare(top: Path, one: Path, two: Path, fingerprint: str) -> None:
    cli = (sys.executable, "-m", "cli", "--state")
    ours, peer, checked, again, processor = [], [], [], [], []
    for turn in range(REPEATS):
        state, tree = top / f"s{turn}", top / f"t{turn}"
        discs = (str(one), str(two), "--fingerprint", fingerprint)
        build = (*cli, str(state), "mirror", "build", *discs)
        wall, used = timed((one, two), build)
        ours.append(wall)
        again.append(timed((one, two), build)[0])
        extract = [
            ("xorriso", "-osirrox", "on", "-indev", str(image), "-extract", "/Packages",
             f"{tree}/P{disc}")
            for disc, image in enumerate((one, two))
        ]  # fmt: skip
        wall, theirs = timed(
            (one, two), *extract, ("createrepo_c", "-q", "--compatibility", str(tree))
        )
        peer.append(wall)
        processor.append((used, theirs))
        packages = [str(path) for path in tree.rglob("*.rpm")]
        keys = ("rpmkeys", "--dbpath", str(top / "db"))
        sh(*keys, "--import", str(top / "key.asc"))
        sums = [("checkisomd5", str(image)) for image in (one, two)]
        checked.append(wall + timed((one, two), *sums, (*keys, "-K", *packages))[0])
        extra = sum(f.stat().st_size for f in state.rglob("*") if f.is_file())
        sh("chmod", "-R", "u+w", str(tree))
        shutil.rmtree(tree)
        shutil.rmtree(state)
        print(
            f"ours {ours[-1]:.1f} s (processor {used:.1f} s), peer {wall:.1f} s "
            f"(processor {theirs:.1f} s), verifying {checked[-1]:.1f} s, "
            f"again {again[-1]:.1f} s, load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
    total = one.stat().st_size + two.stat().st_size
    speeds, least = floor(total)
    result = {
        "bench": "mirror",
        "ratio": round(statistics.median(ours) / statistics.median(peer), 3),
        "ours_seconds": round(statistics.median(ours), 2),
        "peer_seconds": round(statistics.median(peer), 2),
        "peer_verifying_seconds": round(statistics.median(checked), 2),
        "ratio_verifying": round(statistics.median(ours) / statistics.median(checked), 3),
        "ours_processor": round(statistics.median(used for used, _ in processor), 2),
        "peer_processor": round(statistics.median(theirs for _, theirs in processor), 2),
        "rebuild_seconds": round(statistics.median(again), 2),
        "digest_gigabytes_per_second": speeds,
        "floor_seconds": round(least, 2),
        "packages": PACKAGES,
        "disc_bytes": total,
        "extra_disk": round(extra / total, 4),
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(result))


def main() -> None:
    kept = os.environ.get("BENCH_DIR")
    with contextlib.ExitStack() as stack:
        top = Path(kept or stack.enter_context(tempfile.TemporaryDirectory()))
        note = top / "discs.json"
        if not note.exists():
            note.write_text(json.dumps([str(thing) for thing in make_discs(top)]))
        one, two, fingerprint = json.loads(note.read_text())
        compare(top, Path(one), Path(two), fingerprint)


if __name__ == "__main__":
    main()
