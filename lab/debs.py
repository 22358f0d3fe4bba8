"""Debian packages as a source of real software: which are needed, where they lie."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from core.errors import OutsideFailed
from lab.source_run import run

# Nothing counts as installed, so that the answer does not depend on this machine.
_EMPTY = ("-o", "Dir::State::status=/dev/null", "-o", "APT::Install-Recommends=0")


@dataclass(frozen=True, slots=True)
class Deb:
    """One downloaded package."""

    name: str
    path: Path
    depends: tuple[str, ...]


def closure(names: Iterable[str]) -> frozenset[str]:
    """The packages that an installation of ``names`` on an empty system would bring."""
    wanted = sorted(names)
    try:
        said = run(["apt-get", *_EMPTY, "-s", "install", *wanted], timeout=120)
    except OutsideFailed:
        run(["apt-get", "update", "-q"], timeout=300)
        said = run(["apt-get", *_EMPTY, "-s", "install", *wanted], timeout=120)
    return frozenset(re.findall(r"^Inst (\S+)", said, re.MULTILINE))


def download(names: Iterable[str], cache: Path) -> tuple[Deb, ...]:
    """The packages as files in ``cache``; what lies there is not fetched again."""
    cache.mkdir(parents=True, exist_ok=True)
    wanted = sorted(names)
    missing = [name for name in wanted if not _kept(name, cache)]
    if missing:
        run(["env", "-C", str(cache), "apt-get", "download", "-q", *missing], timeout=900)
    return tuple(_read(name, cache) for name in wanted)


def _kept(name: str, cache: Path) -> list[Path]:
    return sorted(cache.glob(f"{name}_*.deb"))


def _read(name: str, cache: Path) -> Deb:
    files = _kept(name, cache)
    if not files:
        raise OutsideFailed(
            f"the Debian package {name} could not be downloaded",
            hint="look at `apt-get download` on this machine, then run the command again",
            where=str(cache),
        )
    fields = run(["dpkg-deb", "-f", str(files[-1]), "Depends", "Pre-Depends"])
    first = re.findall(r"(?:^[A-Z][A-Za-z-]*:|,)\s*([a-z0-9][a-z0-9+.-]+)", fields, re.MULTILINE)
    return Deb(name, files[-1], tuple(dict.fromkeys(first)))


def unpack(deb: Deb, target: Path) -> None:
    """Its files below ``target``."""
    run(["dpkg-deb", "-x", str(deb.path), str(target)], timeout=300)


def host_sources(suite: str) -> list[str]:
    """This machine's own sources of Debian packages: the only ones known to answer."""
    directory = Path("/etc/apt")
    found = [directory / "sources.list", *sorted((directory / "sources.list.d").glob("*.list"))]
    found += sorted((directory / "sources.list.d").glob("*.sources"))
    fitting = [str(file) for file in found if file.exists() and suite in file.read_text()]
    if not fitting:
        raise OutsideFailed(
            f"no source of {suite} packages in {directory}",
            hint="the lab needs a Debian 12 machine with its apt sources in place",
        )
    return fitting


def host_options() -> list[str]:
    """What this machine says about dates of package lists, and its proxy, hold for a tree too."""
    said = run(["apt-config", "dump"]).splitlines()
    wanted = ("Acquire::Check-Valid-Until ", "Acquire::Check-Date ", "Acquire::http::Proxy ")
    return [f"--aptopt={line.rstrip(';')}" for line in said if line.startswith(wanted)]
