"""`make bench NAME=transfer`: our first copy against its peers, the same disk, in the same run.

Every round runs each method once, in an order that turns; medians over --repeats rounds, for a cold
and a warm cache of the source's disk, over a line as fast as this machine goes and over 1 Gbit/s
with 50 ms. bed.py says what disk and line are. Read through a real sshd, every method with the
same ssh and cipher but virt-p2v's path, which names none and gets ssh's first; written to this
machine's disk and synced. The last line is JSON: ``ratio`` is ours to virt-p2v's path, the worst
over all conditions, ``ratios_same_cipher`` to the same path with the others' cipher;
``wire_per_used`` is of medians, too, ``wire_per_used_most`` of the worst run.
"""

import argparse
import json
import shutil
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from adapters.local import LocalHost
from adapters.ssh import SshHost
from benchmarks import bed, peers
from benchmarks.bed import Disk, Line
from migrate import transfer
from migrate.transfer import Options
from tests.unit.transfer import estate, images
from tests.unit.transfer.images import MIB

OURS = "groundlift"
P2V, GCM, RSYNC = "virt-p2v path", "p2v by AES-GCM", "rsync"


@dataclass
class Runs:
    """What one method took under one condition."""

    seconds: list[float] = field(default_factory=list)
    wire: list[int] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def ours(line: Line, disk: Disk, root: Path, kind: str = "full") -> None:
    """The pass as `groundlift migrate transfer` does it, start-up included."""
    (root / "pool").mkdir(parents=True, exist_ok=True)
    plan = estate.plan(Path(disk.loop), root / "pool", disk.size)
    source = SshHost("old", line.login)
    try:
        transfer.copy(source, LocalHost("hv1"), plan, root / "state", kind, Options())
    finally:
        source.close()


def replica(root: Path) -> Path:
    (found,) = (root / "pool").iterdir()
    return found


def check(disk: Disk, root: Path, top: Path) -> int:
    """The replica is the disk's used bytes and zeros. How many are used."""
    spans = images.extents(Path(disk.loop))
    expected = images.masked(Path(disk.loop), top / "expected", spans)
    images.run("cmp", replica(root), expected)
    expected.unlink()
    return sum(end - start for start, end in spans)


def one(name: str, line: Line, disk: Disk, top: Path, runs: Runs) -> None:
    root, before, start = top / "work", line.bytes(), time.monotonic()
    root.mkdir()
    if name == OURS:
        ours(line, disk, root)
    else:
        peers.FIRST[name](line, disk, root / "copy")
    runs.seconds.append(time.monotonic() - start)
    runs.wire.append(line.bytes() - before)
    shutil.rmtree(root)


def measure(
    line: Line, cache: str, disk: Disk, top: Path, names: list[str], repeats: int
) -> dict[str, Runs]:
    table = {name: Runs() for name in names}
    for number in range(repeats):
        turn = number % len(names)
        for name in (*names[turn:], *names[:turn]):
            (disk.cool if cache == "cold" else disk.warm)()
            one(name, line, disk, top, table[name])
            last = f"{table[name].seconds[-1]:.2f} s, {table[name].wire[-1] / MIB:.0f} MiB"
            print(f"{line.name} {cache} {number + 1} {name}: {last}", file=sys.stderr)
    return table


def show(line: str, cache: str, table: dict[str, Runs]) -> None:
    print(f"\n{line}, {cache} cache")
    for name, runs in sorted(table.items(), key=lambda item: item[1].median):
        low, high = min(runs.seconds), max(runs.seconds)
        wire = statistics.median(runs.wire) / MIB
        print(f"  {name:14} {runs.median:7.2f} s ({low:.2f} to {high:.2f})  {wire:8.0f} MiB")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="8G")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--lines", default="uncapped,capped")
    parser.add_argument("--caches", default="cold,warm")
    parser.add_argument("--methods", default=",".join((OURS, *peers.FIRST)))
    return parser.parse_args()


def main() -> None:
    bed.alone()
    given = arguments()
    names, size = given.methods.split(","), bed.bytes_of(given.size)
    results: dict[str, dict[str, Runs]] = {}
    with bed.folder() as top:
        print("making the disk …", file=sys.stderr)
        with bed.disk(top, size) as disk, bed.source(top) as server:
            with bed.line("uncapped", server) as line:
                ours(line, disk, top / "first")
                used = check(disk, top / "first", top)
            for name in given.lines.split(","):
                with bed.line(name, server) as line:
                    for cache in given.caches.split(","):
                        table = measure(line, cache, disk, top, names, given.repeats)
                        results[f"{name} {cache}"] = table
    print(f"disk {size // MIB} MiB, {used // MIB} MiB in use, {given.repeats} rounds, medians")
    for condition, table in results.items():
        show(*condition.split(), table)
    print(json.dumps(summary(results, used, size)))


def summary(results: dict[str, dict[str, Runs]], used: int, size: int) -> dict[str, object]:
    def ratios(peer: str) -> dict[str, float]:
        return {
            condition: round(table[OURS].median / table[peer].median, 3)
            for condition, table in results.items()
            if OURS in table and peer in table
        }

    wires = [table[OURS].wire for table in results.values()]
    return {
        "bench": "transfer",
        "size_mib": size // MIB,
        "used_mib": used // MIB,
        "ratio": max(ratios(P2V).values(), default=None),
        "ratio_rsync": max(ratios(RSYNC).values(), default=None),
        "ratios": ratios(P2V),
        "ratios_same_cipher": ratios(GCM),
        "ratios_rsync": ratios(RSYNC),
        "ratios_dd": ratios("dd|ssh"),
        "seconds": {key: round(table[OURS].median, 2) for key, table in results.items()},
        "wire_per_used": round(max(map(statistics.median, wires)) / used, 4),
        "wire_per_used_most": round(max(map(max, wires)) / used, 4),
    }


if __name__ == "__main__":
    main()
