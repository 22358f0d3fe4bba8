"""`make bench NAME=mirror`: our build, everything verified, against extracting and createrepo_c.

Two discs of together 2 GiB with 3,000 signed packages, made anew; then in the same run:
- ours: groundlift mirror build (implanted md5, every digest and signature, metadata, publication)
- peer: xorriso -osirrox of both discs into one tree, createrepo_c on it (verifies nothing)
- the peer's way to ours: besides, checkisomd5 of both discs and rpmkeys -K of every package
Both start with discs that no cache holds and end with the result on the disk. The median of REPEATS
each; the last line is JSON. BENCH_DIR keeps the discs for the next run.
"""

import contextlib
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.unit.isomirror.conftest import COMPS, DISC_ID, TREEINFO, sh

PACKAGES, BYTES, REPEATS = 3000, 2 << 30, 3
SPEC = """Name: p
Version: 1
Release: 1
Summary: x
License: x
BuildArch: noarch
%description
x
%install
mkdir -p %{buildroot}/usr/share/p
"""


def spec(first: int, count: int, size: int) -> str:
    """One build with many subpackages: a rpmbuild for each would take minutes."""
    parts = [SPEC]
    for number in range(first, first + count):
        parts.append(f"head -c {size} /dev/urandom > %{{buildroot}}/usr/share/p/{number}\n")
    for number in range(first, first + count):
        name = f"package-{number:04d}"
        parts.append(
            f"%package -n {name}\nSummary: x\nProvides: thing({number})\n"
            f"Requires: thing({(number * 7) % PACKAGES})\n%description -n {name}\nx\n"
            f"%files -n {name}\n/usr/share/p/{number}\n"
        )
    return "".join(parts)


def make_discs(top: Path) -> tuple[Path, Path, str]:
    home = top / "gpg"
    home.mkdir(mode=0o700)
    gpg = ("gpg", "--homedir", str(home), "--batch", "-q")
    sh(*gpg, "--passphrase", "", "--quick-generate-key", "bench", "rsa2048", "sign", "0")
    listed = sh(*gpg, "--with-colons", "--list-keys")
    fingerprint = next(line.split(":")[9] for line in listed.split("\n") if line[:3] == "fpr")
    (top / "key.asc").write_text(sh(*gpg, "--armor", "--export", "bench"))
    size, batch = BYTES // PACKAGES, 500
    for first in range(0, PACKAGES, batch):
        (top / "p.spec").write_text(spec(first, batch, size))
        macros = ("-D", f"_topdir {top}/rpm", "-D", "_binary_payload w0.gzdio")
        sh("rpmbuild", "-bb", "--quiet", *macros, str(top / "p.spec"))
        shutil.rmtree(top / "rpm" / "BUILDROOT", ignore_errors=True)
    built = sorted((top / "rpm").rglob("*.rpm"))
    sign = ("rpmsign", "--define", "__gpg /usr/bin/gpg", "--define", "_gpg_name bench", "--define",
            f"_gpg_path {home}", "--rpmv3", "--resign")  # fmt: skip
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(sh, *sign, *map(str, built[part::4])) for part in range(4)]:
            done.result()
    images = []
    for disc in (1, 2):
        tree = top / f"d{disc}"
        (tree / "Packages").mkdir(parents=True)
        (tree / ".discinfo").write_text(f"{DISC_ID}\n6.3\nx86_64\n{disc}\n")
        (tree / ".treeinfo").write_text(TREEINFO.format(disc=disc))
        (tree / "RPM-GPG-KEY-CentOS-6").write_text((top / "key.asc").read_text())
        for package in built[disc - 1 :: 2]:
            package.rename(tree / "Packages" / package.name)
        if disc == 1:
            (tree / "repodata").mkdir()
            (tree / "repodata" / "repomd.xml").write_text("<repomd/>")
            (tree / "repodata" / "x-comps.xml").write_text(COMPS)
        image = top / f"DVD{disc}.iso"
        marks = ("-V", "CentOS_6.3_Final", "-A", "CentOS_6.3_Final")
        sh("genisoimage", "-quiet", "-R", "-J", *marks, "-o", str(image), str(tree))
        sh("implantisomd5", str(image))
        shutil.rmtree(tree)
        images.append(image)
    return images[0], images[1], fingerprint


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
    result = {
        "bench": "mirror",
        "ratio": round(statistics.median(ours) / statistics.median(peer), 3),
        "ours_seconds": round(statistics.median(ours), 2),
        "peer_seconds": round(statistics.median(peer), 2),
        "peer_verifying_seconds": round(statistics.median(checked), 2),
        "ratio_verifying": round(statistics.median(ours) / statistics.median(checked), 3),
        "ours_processor": round(statistics.median(used for used, _ in processor), 2),
        "peer_processor": round(statistics.median(theirs for _, theirs in processor), 2),
        "again_seconds": round(statistics.median(again), 2),
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
