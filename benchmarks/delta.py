"""`make bench NAME=delta`: our deltas against rsync's, after the same changes.

The disk and the line are those of transfer.py. Every round changes the disk as a running server
does: for 8 GiB of disk 40 MB of used blocks overwritten in pieces of 64 KiB here and there, and
10 MB of new files. Both then bring their own copy up to date, in turns first. Ours is a round of
several, whose agents stay (`migrate transfer --pass delta --every`, `migrate warm`); with --alone a
command of its own, which begins with the login as rsync does every time. ``wire_per_changed``
counts all that crossed the line, headers included, against the 4 KiB blocks that are different. In
the same turns the bare reading of what is in use is timed (bare.py), which no program that compares
the disk gets below. The last line is JSON; ``ratio_rsync`` is the worst over all lines and caches,
``floors_rsync`` the bare reading's share of rsync's time.
"""

import argparse
import itertools
import json
import random
import re
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from adapters.local import LocalHost
from adapters.ssh import SshHost
from benchmarks import bare, bed, peers
from benchmarks.bed import Disk, Line
from benchmarks.transfer import OURS, RSYNC, Runs, check, ours, show
from migrate.transfer import Rounds
from tests.unit.transfer import estate, images
from tests.unit.transfer.images import MIB

BLOCK, PIECE = 4096, 65536
BARE = "bare reading"


def metadata(disk: Disk, start: int) -> list[tuple[int, int]]:
    """Where the root file system keeps its own tables: nobody overwrites those with data."""
    told = images.run("dumpe2fs", f"{disk.path}?offset={start}").decode()
    size = int(re.findall(r"Block size: +(\d+)", told)[0])
    kinds = "bitmap|Inode table|superblock|descriptors|GDT blocks|journal"
    found = re.findall(rf"(?:{kinds}) at (\d+)(?:-(\d+))?", told)
    journal = images.run("debugfs", "-R", "blocks <8>", f"{disk.path}?offset={start}")
    blocks = enumerate(sorted(int(block) for block in journal.decode().split()))
    for _, run in itertools.groupby(blocks, lambda pair: pair[1] - pair[0]):
        first, *rest = (block for _, block in run)
        found.append((first, rest[-1] if rest else first))
    return [(start + int(a) * size, start + (int(b or a) + 1) * size) for a, b in found]


def change(disk: Disk, top: Path, seed: int) -> None:
    """Overwrite used blocks, and add files."""
    dice = random.Random(seed)
    _, start, _ = disk.parts[-1]
    tables = metadata(disk, start)
    places = [
        at
        for first, last in images.extents(disk.path)
        for at in range(first + -first % PIECE, last - PIECE, PIECE)
        if at > start + 64 * MIB and not any(a < at + PIECE and at < b for a, b in tables)
    ]
    scale = disk.size / (8 * 1024 * MIB)
    with disk.path.open("r+b") as file:
        for at in dice.sample(places, int(640 * scale)):
            file.seek(at)
            file.write(dice.randbytes(PIECE))
    for number in range(max(1, int(10 * scale))):
        path = top / f"new-{seed}-{number}"
        path.write_bytes(dice.randbytes(MIB))
        order = f"write {path} new-{seed}-{number}"
        images.run("debugfs", "-w", "-R", order, f"{disk.path}?offset={start}")
        path.unlink()
    images.run("sync", "-f", disk.path)
    images.run("blockdev", "--flushbufs", disk.loop)


def masked(disk: Disk, path: Path) -> Path:
    return images.masked(disk.path, path, images.extents(disk.path))


def difference(old: Path, new: Path) -> int:
    """Bytes in blocks that differ."""
    total = 0
    with old.open("rb") as before, new.open("rb") as after:
        while (left := before.read(MIB)) and (right := after.read(MIB)):
            if left != right:
                for at in range(0, len(left), BLOCK):
                    total += BLOCK * (left[at : at + BLOCK] != right[at : at + BLOCK])
    return total


@contextmanager
def deltas(line: Line, disk: Disk, root: Path, *, alone: bool) -> Iterator[Callable[[], object]]:
    """What makes one delta of ours."""
    if alone:
        yield lambda: ours(line, disk, root, "delta")
        return
    plan = estate.plan(Path(disk.loop), root / "pool", disk.size)
    source = SshHost("old", line.login)
    try:
        with Rounds(source, LocalHost("hv1"), plan, root / "state") as rounds:
            rounds.go("delta")  # nothing has changed: it starts the agents
            yield lambda: rounds.go("delta")
    finally:
        source.close()


def synced(
    name: str, delta: Callable[[], object], line: Line, disk: Disk, top: Path, runs: Runs
) -> None:
    spans = images.extents(Path(disk.loop)) if name == BARE else []
    if name == BARE:  # to know what is in use brought some of it into memory
        images.run("blockdev", "--flushbufs", disk.loop)
    before, start = line.bytes(), time.monotonic()
    if name == OURS:
        delta()
    elif name == BARE:
        bare.read(disk.loop, spans)
    else:
        peers.rsync(line, disk, top / "rsynced")
    runs.seconds.append(time.monotonic() - start)
    runs.wire.append(line.bytes() - before)


def prepare(cache: str, disk: Disk, top: Path) -> None:
    """The source and both copies of it in memory, or on the disk alone. Nothing that the changes
    left to be written is written on a method's time."""
    images.run("sync")
    copies = [top / "rsynced", *(top / "ours" / "pool").iterdir()]
    if cache == "warm":
        disk.warm()
        for path in copies:
            images.run("dd", f"if={path}", "of=/dev/null", "bs=4M", "status=none")
        return
    disk.cool()
    for path in copies:
        out = f"of={path}"
        images.run("dd", out, "oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none")


def measure(
    delta: Callable[[], object], line: Line, cache: str, disk: Disk, top: Path, seeds: range
) -> tuple[dict[str, Runs], list[int]]:
    names = (OURS, RSYNC, BARE)
    table, changed = {name: Runs() for name in names}, []
    for seed in seeds:
        old = masked(disk, top / "old")
        change(disk, top, seed)
        new = masked(disk, top / "new")
        changed.append(difference(old, new))
        old.unlink()
        new.unlink()
        turn = seed % len(names)
        for name in (*names[turn:], *names[:turn]):
            prepare(cache, disk, top)
            synced(name, delta, line, disk, top, table[name])
            last = f"{table[name].seconds[-1]:.2f} s, {table[name].wire[-1] / MIB:.1f} MiB"
            print(
                f"{line.name} {cache} {seed}: {changed[-1] / MIB:.1f} MiB changed, {name} {last}",
                file=sys.stderr,
            )
        images.run("cmp", top / "rsynced", disk.loop)
        check(disk, top / "ours", top)
    return table, changed


def main() -> None:
    bed.alone()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="8G")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--lines", default="uncapped,capped")
    parser.add_argument("--caches", default="cold,warm")
    parser.add_argument("--alone", action="store_true")
    given = parser.parse_args()
    size = bed.bytes_of(given.size)
    results: dict[str, tuple[dict[str, Runs], list[int]]] = {}
    with bed.folder() as top:
        print("making the disk …", file=sys.stderr)
        with bed.disk(top, size) as disk, bed.source(top) as server:
            with bed.line("uncapped", server) as line:
                peers.rsync(line, disk, top / "rsynced")
            first = 0
            for name in given.lines.split(","):
                with bed.line(name, server) as line:
                    shutil.rmtree(top / "ours", ignore_errors=True)
                    ours(line, disk, top / "ours")  # finds how many connections pay on this line
                    used = check(disk, top / "ours", top)
                    for cache in given.caches.split(","):
                        seeds = range(first, first + given.repeats)
                        first += 100
                        with deltas(line, disk, top / "ours", alone=given.alone) as delta:
                            found = measure(delta, line, cache, disk, top, seeds)
                        results[f"{name} {cache}"] = found
    print(f"disk {size // MIB} MiB, {used // MIB} MiB in use, {given.repeats} rounds, medians")
    for name, (table, changed) in results.items():
        show(*name.split(), table)
        print(f"  changed: {statistics.median(changed) / MIB:.1f} MiB")
    print(json.dumps({"alone": given.alone, **summary(results, used, size)}))


def summary(
    results: dict[str, tuple[dict[str, Runs], list[int]]], used: int, size: int
) -> dict[str, object]:
    def ratios(one: str, other: str) -> dict[str, float]:
        return {
            name: round(table[one].median / table[other].median, 3)
            for name, (table, _) in results.items()
        }

    wires = [
        sent / changed
        for table, sizes in results.values()
        for sent, changed in zip(table[OURS].wire, sizes, strict=True)
    ]
    return {
        "bench": "delta",
        "size_mib": size // MIB,
        "used_mib": used // MIB,
        "ratio": max(ratios(OURS, RSYNC).values()),
        "ratio_rsync": max(ratios(OURS, RSYNC).values()),
        "ratios_rsync": ratios(OURS, RSYNC),
        "floors_rsync": ratios(BARE, RSYNC),
        "ratios_bare": ratios(OURS, BARE),
        "seconds": {name: round(table[OURS].median, 2) for name, (table, _) in results.items()},
        "wire_per_changed": round(statistics.median(wires), 4),
    }


if __name__ == "__main__":
    main()
