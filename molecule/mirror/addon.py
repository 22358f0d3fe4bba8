"""An add-on medium for the test: a tar with one package that needs one of the DVDs, signed by a key
of its own. `python addon.py DIRECTORY` writes add-on.tar, key.asc and fingerprint."""

import sys
import tarfile
from pathlib import Path

from lab.keyring import keyring, stop_agent
from lab.source_run import run

SPEC = """Name: site-greeting
Version: 1.0
Release: 1.el6
Summary: A package that is on no DVD
License: none
BuildArch: noarch
Requires: bc
%description
Says what the site is.
%install
mkdir -p %{buildroot}/usr/share/site
echo 'the add-on medium works' > %{buildroot}/usr/share/site/greeting
%files
/usr/share/site/greeting
"""


def make(directory: Path) -> None:
    """The tar, its key and the key's fingerprint."""
    directory.mkdir(parents=True, exist_ok=True)
    ring = keyring(directory / "key")
    spec = directory / "package.spec"
    spec.write_text(SPEC)
    top = directory / "rpm"
    run(["rpmbuild", "-bb", "--quiet", "-D", f"_topdir {top}", "-D", "_binary_payload w2.xzdio",
         "-D", "_build_id_links none", str(spec)])  # fmt: skip
    (package,) = top.rglob("*.rpm")
    run(["rpmsign", "-D", "__gpg /usr/bin/gpg", "-D", f"_gpg_path {ring.new}", "-D",
         f"_gpg_name {ring.fingerprint}", "--rpmv3", "--resign", str(package)])  # fmt: skip
    stop_agent(ring)
    with tarfile.open(directory / "add-on.tar", "w") as archive:
        archive.add(package, f"x86_64/{package.name}")
    (directory / "key.asc").write_text(ring.public)
    (directory / "fingerprint").write_text(ring.fingerprint + "\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
