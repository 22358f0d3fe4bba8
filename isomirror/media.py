"""What a disc is: independent marks, read from the image, and the rules that judge a set of discs.

Marks: .discinfo, .treeinfo, the volume id, the centos-release package and the size. No single one
is trusted, because real discs exist without each of them.
"""

import configparser
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from core.documents import Document
from core.errors import BadDocument
from core.rules import Outcome, Rule, Severity, failed, passed, unknown
from isomirror.iso9660 import SECTOR, BadDisc, Index, read_file, read_index

IMPLANT = re.compile(rb"ISO MD5SUM = ([0-9a-f]{32});SKIPSECTORS = (\d{1,6});")
PVD = 16 * SECTOR
APPLICATION_USE = PVD + 883
SMALL = 64 * 1024
RELEASE = re.compile(r"\d{1,3}\.\d{1,3}")
ARCH = re.compile(r"[a-z0-9_]{1,16}")  # becomes a part of addresses


class Medium(Document):
    """One disc image: the file, what it says it is, and what is on it. Sizes are bytes."""

    path: str
    name: str
    size: int
    inode: int
    modified: int
    volume: str
    application: str
    volume_size: int
    disc_id: str = ""
    release: str = ""
    arch: str = ""
    discs: tuple[int, ...] = ()
    every_disc: bool = False
    tree_release: str = ""
    tree_arch: str = ""
    tree_needs: tuple[str, ...] = ()
    tree_lacks: tuple[str, ...] = ()
    package_release: str = ""
    package_arch: str = ""
    packages: int = 0
    repodata: bool = False
    comps: bool = False
    implanted: str = ""
    skip: int = 0

    @property
    def identity(self) -> str:
        """Changes when the file does: place, size, inode, time and the disc's own marks."""
        marks = f"{self.path}|{self.size}|{self.inode}|{self.modified}|{self.volume}|"
        return hashlib.sha256(f"{marks}{self.disc_id}|{self.implanted}".encode()).hexdigest()[:24]

    @property
    def numbered(self) -> bool:
        """Whether .discinfo tells which disc of its set this is."""
        return bool(self.discs) or self.every_disc

    @property
    def told_release(self) -> str:
        """The release, from the first mark that tells it; that all agree is a rule's matter."""
        told = (self.release, self.tree_release, self.package_release, _release(self.volume))
        return next(filter(None, told), "")

    @property
    def told_arch(self) -> str:
        """The architecture, likewise."""
        return next(filter(None, (self.arch, self.tree_arch, self.package_arch)), "")

    def unchanged(self) -> bool:
        """Whether the file is still the one that was looked at."""
        try:
            now = Path(self.path).stat()
        except OSError:
            return False
        return (now.st_size, now.st_ino, now.st_mtime_ns) == (self.size, self.inode, self.modified)


def look(image: Path) -> tuple[Medium, Index]:
    """Read a disc's marks and its index. Raises BadDisc or BadDocument."""
    image = written(image.absolute())
    if not image.is_file():
        raise no_file(image, "name the ISO files of the DVDs")
    index = read_index(image)
    facts = image.stat()
    with image.open("rb") as file:

        def text(path: str) -> str:
            try:
                raw = read_file(file, index.files[path], SMALL)
            except (KeyError, BadDisc):
                return ""
            return raw.decode("utf-8", "replace")

        disc_id, release, arch, discs, every = _discinfo(text(".discinfo"))
        tree_release, tree_arch, needs = _treeinfo(text(".treeinfo"))
    implant = IMPLANT.search(index.volume.application_use)
    packages = [name for name in index.files if name.endswith(".rpm")]
    return Medium(
        path=str(image), name=image.name, size=facts.st_size, inode=facts.st_ino,
        modified=facts.st_mtime_ns, volume=index.volume.id, application=index.volume.application,
        volume_size=index.volume.size, disc_id=disc_id, release=release, arch=arch, discs=discs,
        every_disc=every, tree_release=tree_release, tree_arch=tree_arch,
        tree_needs=needs, tree_lacks=tuple(name for name in needs if name not in index.files),
        package_release=_package_release(packages), package_arch=_package_arch(packages),
        packages=len(packages),
        repodata="repodata/repomd.xml" in index.files,
        comps=any(re.fullmatch(r"repodata/[^/]*comps[^/]*\.xml", name) for name in index.files),
        implanted=implant[1].decode() if implant else "", skip=int(implant[2]) if implant else 0,
    ), index  # fmt: skip


def written(path: Path) -> Path:
    """A path that can stand in published.json. Raises BadDocument."""
    try:
        str(path).encode()
    except UnicodeEncodeError as fault:
        raise BadDocument(
            f"the path is no UTF-8: {os.fsencode(path)!r}", hint="call it by letters that are"
        ) from fault
    return path


def no_file(path: Path, hint: str) -> BadDocument:
    """What to say of a medium that is none: a drive is no file that could be served later."""
    if not path.exists():
        return BadDocument("there is no such file", where=str(path), hint=hint)
    return BadDocument(
        "this is no regular file", where=str(path),
        hint=f"{hint}; of a disc in a drive make one first: `dd if=/dev/sr0 of=disc.iso bs=1M`",
    )  # fmt: skip


def _discinfo(text: str) -> tuple[str, str, str, tuple[int, ...], bool]:
    lines = [line.strip()[:80] for line in text.split("\n")[:4]]
    if len(lines) < 3 or not re.fullmatch(r"\d+(\.\d+)?", lines[0]):
        return "", "", "", (), False
    numbers = lines[3] if len(lines) > 3 else "ALL"
    every = numbers.upper() in ("ALL", "")
    discs = tuple(int(part) for part in numbers.split(",") if part.strip().isdigit())
    arch = lines[2] if ARCH.fullmatch(lines[2]) else ""
    return lines[0], _release(lines[1]), arch, discs[:16], every


def _release(text: str) -> str:
    found = RELEASE.search(text)
    return found[0] if found else ""


def _treeinfo(text: str) -> tuple[str, str, tuple[str, ...]]:
    """Release, architecture, and the files that an installation over the network fetches first."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(text)
        general = parser["general"]
        arch = general.get("arch", "")
        named = [
            (f"images-{arch}", "kernel"),
            (f"images-{arch}", "initrd"),
            ("stage2", "mainimage"),
        ]
        needs = [parser.get(section, key, fallback="") for section, key in named]
        release = _release(general.get("version", ""))
        return release, arch if ARCH.fullmatch(arch) else "", tuple(filter(None, needs))
    except (configparser.Error, KeyError):
        return "", "", ()


def _package_release(names: list[str]) -> str:
    for name in names:
        found = re.search(r"centos-release-(\d+)-(\d+)\.el\d+", name)
        if found:
            return f"{found[1]}.{found[2]}"
    return ""


def _package_arch(names: list[str]) -> str:
    """A disc for 64 bits holds packages of 32 bits as well."""
    if any(name.endswith(".x86_64.rpm") for name in names):
        return "x86_64"
    return "i386" if any(re.search(r"\.i[3-6]86\.rpm$", name) for name in names) else ""


Media = tuple[Medium, ...]


def _each(ask: Callable[[Medium], Outcome]) -> Callable[[Media], Iterator[Outcome]]:
    def judge(media: Media) -> Iterator[Outcome]:
        for medium in media:
            outcome = ask(medium)
            yield Outcome(outcome.answer, outcome.evidence, medium.name)

    return judge


def _whole(medium: Medium) -> Outcome:
    seen = f"{medium.size} bytes, the volume descriptor says {medium.volume_size}"
    return passed(seen) if medium.size >= medium.volume_size else failed(seen)


def _is_centos(medium: Medium) -> Outcome:
    marks = {
        "volume id": medium.volume.startswith("CentOS"),
        "application id": medium.application.startswith("CentOS"),
        ".discinfo": bool(medium.disc_id),
        "Packages": medium.packages > 0,
    }
    seen = ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in marks.items())
    return passed(seen) if sum(marks.values()) >= 3 and medium.packages else failed(seen)


def _says_release(medium: Medium) -> Outcome:
    told = {
        ".discinfo": medium.release,
        ".treeinfo": medium.tree_release,
        "volume id": _release(medium.volume),
        "centos-release": medium.package_release,
    }
    told = {mark: release for mark, release in told.items() if release}
    seen = ", ".join(f"{mark} {release}" for mark, release in told.items())
    if not told:
        return unknown("no mark tells the release")
    return passed(seen) if len(set(told.values())) == 1 else failed(seen)


def _says_arch(medium: Medium) -> Outcome:
    told = {
        ".discinfo": medium.arch,
        ".treeinfo": medium.tree_arch,
        "packages": medium.package_arch,
    }
    told = {mark: arch for mark, arch in told.items() if arch}
    seen = ", ".join(f"{mark} {arch}" for mark, arch in told.items())
    if not told:
        return unknown("no mark tells the architecture")
    return passed(seen) if len(set(told.values())) == 1 else failed(seen)


def _sum(medium: Medium) -> Outcome:
    return passed(medium.implanted) if medium.implanted else unknown("no md5 is implanted")


def _one_release(media: Media) -> Outcome:
    """A mark that a disc lacks tells nothing against it."""
    seen = "; ".join(
        f"{m.name}: {m.disc_id or '?'} {m.told_release or '?'} {m.told_arch or '?'}" for m in media
    )
    kinds = [
        {told for told in marks if told}
        for marks in zip(*((m.disc_id, m.told_release, m.told_arch) for m in media), strict=True)
    ]
    if any(len(kind) > 1 for kind in kinds):
        return failed(seen)
    return passed(" ".join(told for kind in kinds for told in kind))


def _no_repeat(media: Media) -> Outcome:
    taken: dict[int | str, str] = {}
    for medium in media:
        # what .discinfo does not tell apart is known by its contents' sum, or by its file
        file = f"{medium.inode} {medium.size} {medium.modified}"
        marks: list[int | str] = [*medium.discs, file]
        marks += [medium.implanted] if medium.implanted else []
        for mark in marks:
            if mark in taken:
                which = f"disc {mark} is" if isinstance(mark, int) else "one disc is"
                return failed(f"{which} both {taken[mark]} and {medium.name}")
        taken |= dict.fromkeys(marks, medium.name)
    numbers = sorted(mark for mark in taken if isinstance(mark, int))
    return passed(f"discs {', '.join(map(str, numbers)) or 'without a number'}")


def _complete(media: Media) -> Outcome:
    """As far as .discinfo tells; the packages that disc 1 lists are looked for afterwards."""
    blank = [medium.name for medium in media if not medium.numbered]
    if blank:
        return passed(f"{', '.join(blank)} without a number: disc 1's list of packages decides")
    if any(medium.every_disc for medium in media) and any(medium.repodata for medium in media):
        return passed("a disc says that it is all of them")
    numbers = {number for medium in media for number in medium.discs}
    missing = sorted({1, 2} - numbers)
    if missing:
        return failed(f"disc {' and '.join(map(str, missing))} is not among the images given")
    return passed(f"discs {', '.join(map(str, sorted(numbers)))}")


def _first_disc(media: Media) -> Outcome:
    first = [medium.name for medium in media if medium.repodata and medium.comps]
    return (
        passed(first[0]) if len(first) == 1 else failed(f"found on: {', '.join(first) or 'none'}")
    )


def _tree(media: Media) -> Outcome:
    first = next((medium for medium in media if medium.comps), None)
    if first is None:
        return passed("not asked: there is no disc 1")
    if first.tree_lacks:
        return failed(f"absent: {', '.join(first.tree_lacks)}", where=first.name)
    if not first.tree_needs:
        return unknown("its .treeinfo names no kernel and no initrd", where=first.name)
    return passed(", ".join(first.tree_needs), where=first.name)


BLOCKER = Severity.BLOCKER
EACH: tuple[Rule[Media], ...] = (
    Rule(
        "media.image_whole", "The image is as long as its volume", BLOCKER,
        "the copy is cut short: copy the disc again", _each(_whole),
    ),
    Rule(
        "media.disc_known", "The disc is a CentOS installation disc", BLOCKER,
        "give the ISO files of the installation DVDs, not another disc", _each(_is_centos),
    ),
    Rule(
        "media.release_agreed", "All marks of a disc tell the same release", BLOCKER,
        "the disc was put together from different releases: take an original", _each(_says_release),
    ),
    Rule(
        "media.arch_agreed", "All marks of a disc tell the same architecture", BLOCKER,
        "the disc was put together from different discs: take an original", _each(_says_arch),
    ),
    Rule(
        "media.sum_implanted", "The disc carries its own checksum", Severity.WARNING,
        "compare the ISO file with the publisher's checksum file by hand", _each(_sum),
    ),
)  # fmt: skip
SET: tuple[Rule[Media], ...] = (
    Rule(
        "media.release_same", "All discs are of one release", BLOCKER,
        "give the discs of one set: same disc id, release and architecture", _one_release,
    ),
    Rule(
        "media.disc_once", "No disc is given twice", BLOCKER,
        "replace one of the two by the disc that is missing", _no_repeat,
    ),
    Rule(
        "media.set_complete", "The set is complete", BLOCKER,
        "add the missing disc: the metadata of disc 1 lists packages of every disc", _complete,
    ),
    Rule(
        "media.first_disc", "One disc has the install tree and the groups", BLOCKER,
        "add disc 1 of the set", _first_disc,
    ),
    Rule(
        "media.tree_whole", "Machines can be installed from the tree", Severity.WARNING,
        "packages are not concerned; for bare machines take a disc with the installer", _tree,
    ),
)  # fmt: skip
