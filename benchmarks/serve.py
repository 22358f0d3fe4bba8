"""`make bench NAME=serve`: our server out of an ISO file against nginx on an exported tree.

Both on loopback, files in the page cache, the same clients: processes of this program that read
with keep-alive and throw away. Asked for: one large file by one client and by 64, and many small
files by 1 and 64 clients; the server's memory is read meanwhile. The median of REPEATS each, in
turn; the last line is JSON, ``ratio`` is the worst throughput, ours by nginx's.
Needs the program nginx (Debian: nginx-light); an nginx of our own runs, not the system's.
"""

import http.client
import json
import multiprocessing
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.unit.isomirror.conftest import sh

REPEATS = 5
LARGE, SMALL, FILES = 64 << 20, 16 << 10, 2000
ROOT = Path(__file__).parents[1]
NGINX = """worker_processes auto; daemon off; pid {top}/nginx.pid; error_log {top}/error.log;
events {{ worker_connections 1024; }}
http {{ access_log {top}/access.log; sendfile on; tcp_nopush on; keepalive_requests 1000;
client_body_temp_path {top}/t1; proxy_temp_path {top}/t2; fastcgi_temp_path {top}/t3;
uwsgi_temp_path {top}/t4; scgi_temp_path {top}/t5;
server {{ listen 127.0.0.1:{port}; root {tree}; }} }}
"""


@dataclass(frozen=True)
class Peer:
    """A server: its process, port, and the prefix of its paths."""

    name: str
    pid: int
    port: int
    prefix: str

    def memory(self) -> int:
        """Resident bytes of the process and its children, pages shared with files not counted."""
        total = 0
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                text = status.read_text()
            except OSError:
                continue
            fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
            if str(self.pid) in (fields["Pid"], fields["PPid"]):
                total += int(fields.get("RssAnon", "0").split()[0]) * 1024
        return total


def work(port: int, paths: list[str], counter: "multiprocessing.Queue[int]") -> None:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    total, buffer = 0, bytearray(1 << 20)
    for path in paths:
        line.request("GET", path)
        answer = line.getresponse()
        assert answer.status == 200, (path, answer.status)
        while count := answer.readinto(buffer):
            total += count
        if answer.will_close:
            line.close()
    counter.put(total)


def load(peer: Peer, clients: int, paths: Callable[[int], list[str]]) -> tuple[float, int]:
    """Seconds and the server's memory, while ``clients`` fetch their paths."""
    counter: multiprocessing.Queue[int] = multiprocessing.Queue()
    crew = [
        multiprocessing.Process(target=work, args=(peer.port, paths(number), counter))
        for number in range(clients)
    ]
    start, most = time.monotonic(), 0
    for one in crew:
        one.start()
    for _ in crew:
        while counter.empty() and any(one.is_alive() for one in crew):
            most = max(most, peer.memory())
            time.sleep(0.02)
        counter.get(timeout=60)
    spent = time.monotonic() - start
    for one in crew:
        one.join()
    return spent, most


@contextmanager
def process(name: str, argv: list[str], port: int, prefix: str) -> Iterator[Peer]:
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL) as child:
        try:
            for _ in range(200):
                try:
                    http.client.HTTPConnection("127.0.0.1", port, timeout=5).connect()
                    break
                except OSError:
                    time.sleep(0.05)
            yield Peer(name, child.pid, port, prefix)
        finally:
            child.send_signal(signal.SIGTERM)


def publish(top: Path) -> str:
    """A disc with one large file and many small ones, published; its prefix."""
    from core.progress import silent
    from isomirror.build import build
    from tests.unit.isomirror import conftest

    key = conftest._key(top / "h", "Bench <bench@example.invalid>")
    (tree := top / "d1").mkdir()
    (tree / "Packages").mkdir()
    built = conftest.rpm(top / "rpm", "alpha", "")
    conftest.sign(built, key, "sha256")
    shutil.copy(built, tree / "Packages")
    (tree / ".discinfo").write_text(f"{conftest.DISC_ID}\n6.3\nx86_64\nALL\n")
    (tree / ".treeinfo").write_text(conftest.TREEINFO.format(disc=1))
    shutil.copy(key.public, tree / "RPM-GPG-KEY-CentOS-6")
    (tree / "repodata").mkdir()
    (tree / "repodata/repomd.xml").write_text("<repomd/>")
    (tree / "repodata/x-comps.xml").write_text(conftest.COMPS)
    (tree / "images/pxeboot").mkdir(parents=True)
    for name in ("vmlinuz", "initrd.img"):
        (tree / "images/pxeboot" / name).write_bytes(b"x")
    (tree / "images/install.img").write_bytes(os.urandom(1 << 20) * (LARGE >> 20))
    (tree / "small").mkdir()
    for number in range(FILES):
        (tree / f"small/{number}").write_bytes(os.urandom(SMALL))
    image = top / "CentOS-6.3-x86_64-bin-DVD1.iso"
    sh("genisoimage", "-quiet", "-R", "-V", "CentOS_6.3_Final", "-A", "CentOS_6.3_Final",
       "-o", str(image), str(tree))  # fmt: skip
    sh("implantisomd5", "-f", str(image))
    built_ = build((image,), top / "state" / "mirror", silent, fingerprint=key.fingerprint)
    assert built_.published
    return built_.published.url_path


def main() -> None:
    nginx = shutil.which("nginx")
    if nginx is None:
        sys.exit("nginx is not here: apt-get install nginx-light")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        top = Path(name)
        prefix = publish(top)
        config = top / "nginx.conf"
        (top / "empty").mkdir()
        exported = top / "export"
        cli = [sys.executable, "-m", "cli", "--state", str(top / "state"), "mirror"]
        sh(*cli, "export", str(exported))
        tree = next(path.parent for path in exported.rglob(".discinfo"))
        config.write_text(NGINX.format(top=top, port=8178, tree=tree))
        top.chmod(0o755)  # nginx's workers are another user
        ours = [*cli, "serve", "--port", "8177"]
        theirs = [nginx, "-c", str(config), "-p", str(top)]
        with (
            process("groundlift", ours, 8177, prefix) as one,
            process("nginx", theirs, 8178, "/") as two,
        ):
            print(json.dumps(measure(one, two)))


def measure(one: Peer, two: Peer) -> dict[str, object]:
    cases: dict[str, tuple[int, int, Callable[[str], Callable[[int], list[str]]]]] = {
        "large, 1 client": (1, 4 * LARGE, lambda p: lambda _: [f"{p}images/install.img"] * 32),
        "large, 64 clients": (64, 64 * LARGE // 8, lambda p: lambda _: [f"{p}images/install.img"]),
        "small, 1 client": (
            1, FILES * SMALL, lambda p: lambda _: [f"{p}small/{n}" for n in range(FILES)],
        ),
        "small, 64 clients": (
            64, 64 * 100 * SMALL,
            lambda p: lambda c: [f"{p}small/{(c * 31 + n) % FILES}" for n in range(100)],
        ),
    }  # fmt: skip
    ratios, memory = {}, {}
    for name, (clients, _, paths) in cases.items():
        seconds: dict[str, list[float]] = {}
        for turn in range(REPEATS):
            for peer in (one, two) if turn % 2 else (two, one):
                spent, most = load(peer, clients, paths(peer.prefix))
                seconds.setdefault(peer.name, []).append(spent)
                memory[f"{peer.name}, {name}"] = max(memory.get(f"{peer.name}, {name}", 0), most)
        mine, other = (statistics.median(seconds[peer.name]) for peer in (one, two))
        ratios[name] = round(other / mine, 2)
        print(f"{name:18} groundlift {mine:6.2f} s, nginx {other:6.2f} s", file=sys.stderr)
    for name, count in memory.items():
        print(f"  {name:32} {count / (1 << 20):6.1f} MiB of memory", file=sys.stderr)
    return {"bench": "serve", "ratio": min(ratios.values()), "ratios": ratios,
            "memory_mib": {k: round(v / (1 << 20), 1) for k, v in memory.items()}}  # fmt: skip


if __name__ == "__main__":
    main()
