"""Reading a disc to its end: its own checksum and every package on it, in one sequential pass.

One thread reads the disc in order, another sums it, and workers verify packages, all on the same
bytes in memory. Hashing releases the GIL, so they use every processor.
"""

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from core.documents import Document
from core.progress import Meter, Report, Unit, track
from core.state import publish_model
from isomirror.iso9660 import SECTOR, BadDisc, Extent, Index, read_extents
from isomirror.media import APPLICATION_USE, Medium
from isomirror.openpgp import KeyRing
from isomirror.sums import Sum
from isomirror.verify import Verdict, verify
from isomirror.window import NOTHING, Passed, Window

PIECE = 1 << 20
Pieces = Generator[bytes | memoryview, None, None]
STRONG = ("sha256", "sha512")
HEAD = 1 << 16  # nearly every package's headers are in this


class Verified(Document):
    """A package that was read to its end and is what its maker signed. ``head`` is the length of
    its lead and headers."""

    path: str
    nevra: str
    size: int
    sha256: str
    head: int


class BadPackage(Document):
    """A package that did not verify: where it lies, and why."""

    path: str
    offset: int
    faults: tuple[str, ...]


class DiscCheck(Document):
    """What reading a whole disc came to. ``sum_right`` is None when no md5 is implanted and no sum
    ``listed``; it is about the listed one when there is one."""

    version: Literal[2] = 2
    identity: str
    fingerprint: str
    sum_right: bool | None
    sum_fault: str = ""
    listed: str = ""
    packages: tuple[Verified, ...]
    bad: tuple[BadPackage, ...]


def recalled(
    checked: Path, identity: str, ring: KeyRing, listed: Sum | None, read: Callable[[], DiscCheck]
) -> DiscCheck:
    """What reading a medium came to, from ``checked``, or else from ``read``, kept when good."""
    fingerprint = ring.primary.fingerprint
    kept = checked / f"{identity}-{fingerprint}.json"
    try:
        check = DiscCheck.model_validate_json(kept.read_bytes())
        if (check.identity, check.fingerprint, check.listed) == (
            identity, fingerprint, str(listed or ""),
        ):  # fmt: skip
            return check
    except (OSError, ValueError):
        pass  # not read yet, or written by something else: reading it is always right
    check = read()
    if not check.bad and check.sum_right is not False:
        publish_model(kept, check)  # a bad disc is read again: its reader may have been at fault
    return check


def read_disc(
    medium: Medium, index: Index, ring: KeyRing, report: Report, listed: Sum | None = None
) -> DiscCheck:
    """Read ``medium`` to its end. Faults are in the result, for every package that has one.

    A sum that a checksum file lists stands for the implanted md5: it covers every byte, and it came
    another way than the disc. When it is a strong one, it stands for the packages' MD5 as well.
    """
    names = sorted(
        (name for name in index.files if name.endswith(".rpm")),
        key=lambda name: index.files[name][0].offset,
    )
    total = sum(index.size(name) for name in names) + _summed(medium, listed)
    with track(report, f"verify {medium.name}", total, Unit.BYTES) as meter:
        return _Pass(medium, index, ring, names, meter, listed).run()


def _summed(medium: Medium, listed: Sum | None) -> int:
    """Bytes that are summed: a listed sum covers the file, the implanted md5 all but the last
    ``skip`` sectors of the volume."""
    if listed:
        return medium.size
    return max(medium.volume_size - medium.skip * SECTOR, 0) if medium.implanted else 0


class _Pass:
    def __init__(
        self, medium: Medium, index: Index, ring: KeyRing, names: list[str], meter: Meter,
        listed: Sum | None,
    ) -> None:  # fmt: skip
        self.medium, self.index, self.ring = medium, index, ring
        self.names, self.meter = names, meter
        self.listed = listed
        self.strong = listed is not None and listed.algorithm in STRONG
        self.end = _summed(medium, listed)
        self.window = Window(medium.path, medium.size if self.end else 0)
        self.lock = threading.Lock()
        self.idle: set[int] = set()
        self.begun = 0

    def run(self) -> DiscCheck:
        with ThreadPoolExecutor(max_workers=2 + (os.cpu_count() or 1)) as workers:
            try:
                self.window.need("sum", 0 if self.end else NOTHING)
                workers.submit(self.window.fill)
                summing = workers.submit(self.sum) if self.end else None
                verdicts = list(workers.map(self.package, self.names))
                right, fault = summing.result() if summing else (None, "")
            finally:
                self.window.stop()
        pairs = list(zip(self.names, verdicts, strict=True))
        return DiscCheck(
            identity=self.medium.identity,
            fingerprint=self.ring.primary.fingerprint,
            sum_right=right,
            sum_fault=fault,
            listed=str(self.listed or ""),
            packages=tuple(_verified(n, v) for n, v in pairs if not v.faults),
            bad=tuple(
                BadPackage(path=n, offset=self.index.files[n][0].offset, faults=v.faults)
                for n, v in pairs
                if v.faults
            ),
        )

    def sum(self) -> tuple[bool, str]:
        """Whether the listed sum is right, or the implanted md5; the field that holds that counts
        as spaces."""
        expected = self.listed or Sum("md5", self.medium.implanted)
        digest = hashlib.new(expected.algorithm, usedforsecurity=False)
        position = 0
        try:
            for piece in self.window.read("sum", 0, self.end, PIECE):
                if position == 0 and not self.listed:
                    field = slice(APPLICATION_USE, APPLICATION_USE + 512)
                    digest.update(piece[: field.start])
                    digest.update(b" " * 512)
                    digest.update(piece[field.stop :])
                else:
                    digest.update(piece)
                position += len(piece)
                self.advance(len(piece))
        except Passed:  # nothing passes before it is summed: the reader has met a fault
            return False, f"reading stopped at byte {position}: {_said(self.window.fault)}"
        finally:
            self.window.need("sum", NOTHING)
        found = digest.hexdigest()
        right = found == expected.value
        return right, "" if right else f"the data's {expected.algorithm} is {found}"

    def advance(self, count: int) -> None:
        with self.lock:
            self.meter.advance(count)

    def package(self, name: str) -> Verdict:
        extents = self.index.files[name]
        try:
            with self.turn() as who, contextlib.closing(self.pieces(who, extents)) as pieces:
                verdict = verify(pieces, self.ring, md5=not self.strong)
        except (BadDisc, OSError) as fault:
            verdict = Verdict(
                "", self.index.size(name), "", b"", (f"can't be read: {_said(fault)}",)
            )
        self.advance(verdict.size)
        return verdict

    @contextlib.contextmanager
    def turn(self) -> Iterator[int]:
        """This thread's name for the window. Between two packages it goes on needing the place
        where it was: the next package lies behind it, and is not to pass meanwhile."""
        who = threading.get_ident()
        with self.lock:
            self.idle.discard(who)
            self.begun += 1
        self.release()
        try:
            yield who
        finally:
            with self.lock:
                self.idle.add(who)
            self.release()

    def release(self) -> None:
        """When the last package has begun, a thread without one needs nothing more."""
        with self.lock:
            over = set(self.idle) if self.begun == len(self.names) else set()
        for thread in over:
            self.window.need(thread, NOTHING)

    def pieces(self, who: int, extents: tuple[Extent, ...]) -> Pieces:
        """A file's bytes from the window; from the disc what it can not give."""
        for extent in extents:
            end = extent.offset + extent.length
            try:
                head = min(end, extent.offset + HEAD)
                yield from self.window.read(who, extent.offset, head, HEAD)
                yield from self.window.read(who, head, end, PIECE)
            except Passed as passed:
                rest = (Extent(passed.at, end - passed.at),)
                with Path(self.medium.path).open("rb") as file:
                    yield from read_extents(file, rest, PIECE)


def _verified(name: str, verdict: Verdict) -> Verified:
    return Verified(
        path=name, nevra=verdict.nevra, size=verdict.size,
        sha256=verdict.sha256, head=len(verdict.head),
    )  # fmt: skip


def _said(fault: BadDisc | OSError | None) -> str:
    return str((fault.strerror or fault) if isinstance(fault, OSError) else fault)
