"""RPMs with EL6 names around Debian's software, each built once and signed as its entry says."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path

from core.errors import OutsideFailed
from core.progress import Report, Unit, track
from lab import debs
from lab.catalogue import BASE, LEFT_OUT, PACKAGES, RUNTIME, Package, Signature, carried
from lab.keyring import Keyring
from lab.source_run import run

FILES = Path(__file__).parent / "el6"
# Debian's service files, manuals and policies of things that an EL6 host does not have.
DROPPED = (
    *("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/bug", "usr/share/lintian"),
    *("usr/share/bash-completion", "usr/share/augeas", "usr/share/apport", "usr/share/menu"),
    *("etc/init.d", "etc/default", "etc/apparmor*", "etc/insserv*", "etc/logcheck", "etc/init"),
    *("etc/rsyslog.d", "usr/lib/systemd", "usr/lib/tmpfiles.d", "usr/lib/sysusers.d"),
    *("usr/share/apparmor*", "usr/share/doc-base", "usr/share/icons", "usr/share/polkit-1"),
)
MERGED = ("bin", "sbin", "lib", "lib64")


def plan(cache: Path) -> Mapping[str, tuple[debs.Deb, ...]]:
    """Package name → the Debian packages it carries, the leftovers in the package of libraries."""
    wanted = frozenset(carried())
    needed = (debs.closure([*BASE, *wanted]) - debs.closure(BASE) - LEFT_OUT) | wanted
    unknown = needed - wanted
    if odd := sorted(name for name in unknown if not name.startswith("lib")):
        raise OutsideFailed(
            f"Debian's packages need more than the lab's catalogue names: {', '.join(odd)}",
            hint="name them in lab/catalogue.py",
        )
    found = {deb.name: deb for deb in debs.download(needed, cache)}
    chosen = {package.name: package.debs for package in PACKAGES}
    chosen[RUNTIME.name] = tuple(sorted(unknown))
    return {name: tuple(found[deb] for deb in names) for name, names in chosen.items()}


def build(
    ring: Keyring, sources: Mapping[str, tuple[debs.Deb, ...]], target: Path, report: Report
) -> dict[str, Path]:
    """Every package of the catalogue as a signed file in ``target``."""
    target.mkdir(parents=True, exist_ok=True)
    owner = {deb.name: name for name, kept in sources.items() for deb in kept}
    ready: dict[str, Path] = {}
    todo: list[tuple[Package, str]] = []
    for package in PACKAGES:
        file = target / f"{package.nevra}.rpm"
        key = _key(package, sources[package.name], ring)
        note = file.with_suffix(".key")
        if file.exists() and note.exists() and note.read_text() == key:
            ready[package.name] = file
        else:
            todo.append((package, key))
    with track(report, "media: packages", len(todo), Unit.ITEMS) as meter:
        with ThreadPoolExecutor(os.cpu_count() or 2) as pool:
            requests = [
                pool.submit(_build, package, key, sources[package.name], owner, ring, target)
                for package, key in sorted(todo, key=lambda one: -_weight(sources[one[0].name]))
            ]
            for request in requests:
                file = request.result()
                meter.advance(text=file.name)
        ready |= {package.name: target / f"{package.nevra}.rpm" for package, _ in todo}
    for stale in target.glob("*.rpm"):
        if stale not in ready.values():
            stale.with_suffix(".key").unlink(missing_ok=True)
            stale.unlink()
    return ready


def _weight(kept: Iterable[debs.Deb]) -> int:
    return sum(deb.path.stat().st_size for deb in kept)


def _key(package: Package, kept: Sequence[debs.Deb], ring: Keyring) -> str:
    digest = hashlib.sha256(f"{package} {ring.fingerprint} {DROPPED}".encode())
    for deb in kept:
        digest.update(f"{deb.path.name} {deb.depends}\0".encode())
    for file in sorted((FILES / package.name).rglob("*")):
        if file.is_symlink():
            digest.update(f"{file.relative_to(FILES)} {file.readlink()}\0".encode())
        elif file.is_file():
            digest.update(f"{file.relative_to(FILES)} {file.stat().st_mode:o}\0".encode())
            digest.update(file.read_bytes())
    digest.update((FILES.parent / "minimal.txt").read_bytes())
    return digest.hexdigest()


def _build(
    package: Package,
    key: str,
    kept: Sequence[debs.Deb],
    owner: Mapping[str, str],
    ring: Keyring,
    target: Path,
) -> Path:
    work = target / f".{package.name}.work"
    shutil.rmtree(work, ignore_errors=True)
    root = work / "root"
    root.mkdir(parents=True)
    for deb in kept:
        debs.unpack(deb, root)
    _reshape(package, root, ring)
    requires = {owner[name] for deb in kept for name in deb.depends if name in owner}
    spec = work / "package.spec"
    spec.write_text(_spec(package, root, sorted((requires | {*package.requires}) - {package.name})))
    macros = {
        "_topdir": str(work),
        "_rpmdir": str(work / "out"),
        "_binary_payload": "w2.xzdio",
        "_unpackaged_files_terminate_build": "0",
        "_build_id_links": "none",
        "_source_filedigest_algorithm": "8",
        "_binary_filedigest_algorithm": "8",
        "_buildhost": "lab.localdomain",
        "__os_install_post": "%{nil}",
        "debug_package": "%{nil}",
    }
    defines = [word for name, value in macros.items() for word in ("-D", f"{name} {value}")]
    cpu = "noarch" if package.arch == "noarch" else "x86_64"
    run(["rpmbuild", "-bb", "--target", f"{cpu}-redhat-linux", *defines, str(spec)], timeout=600)
    made = next((work / "out").rglob("*.rpm"))
    _sign(made, package.signature, ring)
    final = target / f"{package.nevra}.rpm"
    made.replace(final)
    final.with_suffix(".key").write_text(key)
    shutil.rmtree(work)
    return final


def _reshape(package: Package, root: Path, ring: Keyring) -> None:
    """From Debian's layout to EL6's."""
    for name in MERGED:  # on the nodes these are links into usr
        if (root / name).is_dir():
            (root / "usr").mkdir(exist_ok=True)
            shutil.copytree(root / name, root / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(root / name)
    here = FILES / package.name
    for line in _lines(here / "moves"):
        old, new = line.split()
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        (root / old).rename(root / new)
    drops = (*DROPPED, *_lines(here / "drops"))
    for path in sorted(root.rglob("*"), reverse=True):
        if not path.exists() and not path.is_symlink():
            continue  # went with its directory
        if any(fnmatch(str(path.relative_to(root)), pattern) for pattern in drops):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
            _prune(path.parent, root)
    _add(here, root)
    if package.name == "centos-release":
        pinned = root / "etc/pki/rpm-gpg/RPM-GPG-KEY-CentOS-6"
        pinned.parent.mkdir(parents=True)
        pinned.write_text(ring.public)


def _add(here: Path, root: Path) -> None:
    """What we write ourselves: files, and the empty directories, which git does not keep."""
    for line in _lines(here / "dirs"):
        (root / line).mkdir(parents=True, exist_ok=True)
    if (here / "root").exists():
        shutil.copytree(here / "root", root, symlinks=True, dirs_exist_ok=True)


def _prune(directory: Path, root: Path) -> None:
    """Directories that held nothing but what was dropped go as well."""
    while directory != root and not any(directory.iterdir()):
        directory.rmdir()
        directory = directory.parent


def _lines(file: Path) -> tuple[str, ...]:
    return tuple(file.read_text().split("\n")[:-1]) if file.exists() else ()


def _spec(package: Package, root: Path, requires: Sequence[str]) -> str:
    provides = (*package.provides, *_minimal(package))
    scripts = [
        f"%{name}\n{file.read_text()}"
        for name in ("pre", "post", "preun")
        if (file := FILES / package.name / name).exists()
    ]
    if any(path.suffix == ".so" or ".so." in path.name for path in root.rglob("*")) and not any(
        script.startswith("%post\n") for script in scripts
    ):
        scripts.append("%post -p /sbin/ldconfig\n")
    return "\n".join(
        (
            f"Name: {package.name}",
            f"Epoch: {package.epoch}" if package.epoch else "",
            f"Version: {package.version}",
            f"Release: {package.release}",
            f"Summary: {package.summary}",
            "License: See the Debian packages this was made of",
            "Vendor: Groundlift lab",
            "Group: System Environment/Base",
            "BuildArch: noarch" if package.arch == "noarch" else "",
            "AutoReqProv: no",
            *(f"Requires: {name}" for name in requires),
            *(f"Provides: {text}" for text in provides),
            f"%description\n{package.summary}.",
            f"%install\nmkdir -p %{{buildroot}}\ncp -al {root}/. %{{buildroot}}/",
            *scripts,
            "%files",
            *_files(root),
            "",
        )
    )


def _files(root: Path) -> list[str]:
    """Files, and only such directories as nobody else has: rpm would replace links to others."""
    listed = []
    for path in sorted(root.rglob("*")):
        name = f"/{path.relative_to(root)}".replace("%", "%%")
        if path.is_symlink() or not path.is_dir():
            config = name.startswith("/etc/") and not name.startswith("/etc/rc.d/")
            listed.append(f'{"%config(noreplace) " if config else ""}"{name}"')
        elif not any(path.iterdir()):
            listed.append(f'%dir "{name}"')
    return listed


def _minimal(package: Package) -> tuple[str, ...]:
    """What the base tree's software is called on EL6, for the one package that stands for it."""
    if package.name != "lab-minimal-host":
        return ()
    own = {other.name for other in PACKAGES}
    provided = ["/bin/sh", "/sbin/ldconfig", "/sbin/chkconfig", "/sbin/service"]
    for line in _lines(FILES.parent / "minimal.txt"):
        name, version, release = line.rsplit("-", 2)
        if name not in own:
            provided.append(f"{name} = {version}-{release}")
    return tuple(provided)


def _sign(file: Path, signature: Signature, ring: Keyring) -> None:
    if signature is Signature.V3:
        macros = {
            "__gpg": "/usr/bin/gpg1",
            "_gpg_path": str(ring.old),
            "_gpg_digest_algo": "sha1",
            "_gpg_sign_cmd_extra_args": "--force-v3-sigs --no-secmem-warning",
        }
    else:
        macros = {
            "__gpg": "/usr/bin/gpg",
            "_gpg_path": str(ring.new),
            "_gpg_digest_algo": "sha256",
        }
    macros["_gpg_name"] = ring.fingerprint
    defines = [word for name, value in macros.items() for word in ("-D", f"{name} {value}")]
    # CentOS 6 packages carry a signature over header and payload besides the header's own.
    run(["rpmsign", *defines, "--addsign", "--rpmv3", str(file)], timeout=120)
