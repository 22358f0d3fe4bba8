"""`make bench NAME=mirror`: our build, everything verified, against extracting and createrepo_c.

Two discs of together 2 GiB with 3,000 signed packages, made anew; then in the same run:
- ours: groundlift mirror build (implanted md5, every digest and signature, metadata, publication)
- peer: xorriso -osirrox of both discs into one tree, createrepo_c on it (verifies nothing)
The median of REPEATS each; the last line is JSON.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
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
    size, batch = BYTES // PACKAGES, 500
    for first in range(0, PACKAGES, batch):
        (top / "p.spec").write_text(spec(first, batch, size))
        macros = ("-D", f"_topdir {top}/rpm", "-D", "_binary_payload w0.gzdio")
        sh("rpmbuild", "-bb", "--quiet", *macros, str(top / "p.spec"))
        shutil.rmtree(top / "rpm" / "BUILDROOT", ignore_errors=True)
    built = sorted((top / "rpm").rglob("*.rpm"))
    sh("rpmsign", "--define", "__gpg /usr/bin/gpg", "--define", "_gpg_name bench", "--define",
       f"_gpg_path {home}", "--rpmv3", "--resign", *map(str, built))  # fmt: skip
    images = []
    for disc in (1, 2):
        tree = top / f"d{disc}"
        (tree / "Packages").mkdir(parents=True)
        (tree / ".discinfo").write_text(f"{DISC_ID}\n6.3\nx86_64\n{disc}\n")
        (tree / ".treeinfo").write_text(TREEINFO.format(disc=disc))
        (tree / "RPM-GPG-KEY-CentOS-6").write_text(sh(*gpg, "--armor", "--export", "bench"))
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


def timed(*commands: tuple[str, ...]) -> float:
    """Seconds of wall clock, with nothing left to write from what ran before."""
    os.sync()
    start = time.monotonic()
    for command in commands:
        sh(*command)
    return time.monotonic() - start


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name:
        top = Path(name)
        one, two, fingerprint = make_discs(top)
        cli = (sys.executable, "-m", "cli", "--state")
        ours, peer, again = [], [], []
        for turn in range(REPEATS):
            state, tree = str(top / f"s{turn}"), top / f"t{turn}"
            discs = (str(one), str(two), "--fingerprint", fingerprint)
            build = (*cli, state, "mirror", "build", *discs)
            ours.append(timed(build))
            again.append(timed(build))
            extract = [
                ("xorriso", "-osirrox", "on", "-indev", str(image), "-extract", "/Packages",
                 f"{tree}/P{disc}")
                for disc, image in enumerate((one, two))
            ]  # fmt: skip
            peer.append(timed(*extract, ("createrepo_c", "-q", "--compatibility", str(tree))))
            sh("chmod", "-R", "u+w", str(tree))
            shutil.rmtree(tree)
            load = os.getloadavg()[0]
            print(f"ours {ours[-1]:.1f} s, peer {peer[-1]:.1f} s, again {again[-1]:.1f} s, "
                  f"load {load:.1f}", flush=True)  # fmt: skip
        extra = sum(f.stat().st_size for f in (top / "s0").rglob("*") if f.is_file())
        total = one.stat().st_size + two.stat().st_size
        result = {
            "bench": "mirror",
            "ratio": round(statistics.median(ours) / statistics.median(peer), 3),
            "ours_seconds": round(statistics.median(ours), 2),
            "peer_seconds": round(statistics.median(peer), 2),
            "again_seconds": round(statistics.median(again), 2),
            "packages": PACKAGES,
            "disc_bytes": total,
            "load": round(os.getloadavg()[0], 1),
            "extra_disk": round(extra / total, 4),
        }
        print(json.dumps(result))


if __name__ == "__main__":
    subprocess.run(("sync",), check=False)
    main()
