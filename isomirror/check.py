"""Reading a disc to its end: its own checksum and every package on it, in one sequential pass.

One thread reads and sums the disc in order; workers verify packages close behind it, so that the
disk is read once and the rest comes from the page cache. Hashing releases the GIL, so the workers
use every processor.
"""

import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Literal

from core.documents import Document
from core.progress import Meter, Report, Unit, track
from isomirror.iso9660 import SECTOR, BadDisc, Extent, Index, read_extents
from isomirror.media import APPLICATION_USE, Medium
from isomirror.openpgp import KeyRing
from isomirror.sums import Sum
from isomirror.verify import Verdict, verify

PIECE = 1 << 20
STRONG = ("sha256", "sha512")
AHEAD = 256 << 20  # bytes the summing thread may be ahead of the packages: they stay cached


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

    version: Literal[1] = 1
    identity: str
    fingerprint: str
    sum_right: bool | None
    sum_fault: str = ""
    listed: str = ""
    packages: tuple[Verified, ...]
    bad: tuple[BadPackage, ...]


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


class _Stopped(Exception):
    """The pass was called off; nobody sees this."""


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
        self.change = threading.Condition()
        self.position = 0 if self.end else medium.size  # bytes the summing thread has read
        self.open = {index.files[name][0].offset for name in names}
        self.stop = False

    def run(self) -> DiscCheck:
        with ThreadPoolExecutor(max_workers=1 + (os.cpu_count() or 1)) as workers:
            try:
                summing = workers.submit(self.sum) if self.end else None
                verdicts = list(workers.map(self.package, self.names))
                right, fault = summing.result() if summing else (None, "")
            finally:
                with self.change:
                    self.stop = True
                    self.change.notify_all()
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
        try:
            with Path(self.medium.path).open("rb") as file:
                for piece in self.pieces(file, (Extent(0, self.end),)):
                    if self.position == 0 and not self.listed:
                        field = slice(APPLICATION_USE, APPLICATION_USE + 512)
                        piece = piece[: field.start] + b" " * 512 + piece[field.stop :]  # noqa: PLW2901
                    digest.update(piece)
                    self.advance(len(piece))
            found = digest.hexdigest()
            right = found == expected.value
            return right, "" if right else f"the data's {expected.algorithm} is {found}"
        except (BadDisc, OSError) as fault:
            return False, f"reading stopped at byte {self.position}: {_said(fault)}"
        finally:
            with self.change:  # nobody needs to wait for this thread any more
                self.position = 1 << 62
                self.change.notify_all()

    def advance(self, count: int) -> None:
        """Say how far the disc was read; wait when the packages are far behind."""
        with self.change:
            self.position += count
            self.meter.advance(count)
            self.change.notify_all()
            while self.open and not self.stop and self.position - min(self.open) > AHEAD:
                self.change.wait()

    def package(self, name: str) -> Verdict:
        extents = self.index.files[name]
        try:
            self.wait_for(extents)
            with Path(self.medium.path).open("rb") as file:
                verdict = verify(self.pieces(file, extents), self.ring, md5=not self.strong)
        except (BadDisc, OSError) as fault:
            verdict = Verdict(
                "", self.index.size(name), "", b"", (f"can't be read: {_said(fault)}",)
            )
        with self.change:
            self.open.discard(extents[0].offset)
            self.meter.advance(verdict.size)
            self.change.notify_all()
        return verdict

    def wait_for(self, extents: tuple[Extent, ...]) -> None:
        """Until the summing thread has read this package: it is the only one to wait for disks.
        A package larger than the lead is waited for as far as the lead goes."""
        first, last = extents[0], extents[-1]
        wanted = min(last.offset + last.length, first.offset + AHEAD // 2)
        with self.change:
            while self.position < wanted and not self.stop:
                self.change.wait()

    def pieces(self, file: BinaryIO, extents: tuple[Extent, ...]) -> Iterator[bytes]:
        for piece in read_extents(file, extents, PIECE):
            if self.stop:
                raise _Stopped
            yield piece


def _verified(name: str, verdict: Verdict) -> Verified:
    return Verified(
        path=name, nevra=verdict.nevra, size=verdict.size,
        sha256=verdict.sha256, head=len(verdict.head),
    )  # fmt: skip


def _said(fault: BadDisc | OSError) -> str:
    return str((fault.strerror or fault) if isinstance(fault, OSError) else fault)
