"""The source server itself, in a network of its own: it serves, stands still, and goes on.

It starts on a new disk over the cached image, so the lab that may be up is left alone.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.progress import silent
from core.quantities import MIB
from lab import source, source_image
from lab.estate import Estate
from tests.unit.transfer import images

pytestmark = pytest.mark.lab
SPACE = "gl-test-src"
SERVICES = ("cron", "writer", "webapp", "mariadb")
CALL = """
import sys
from pathlib import Path
from core.progress import silent
from lab import source
from lab.estate import Estate
estate = Estate(Path(sys.argv[2]))
source.up(estate, silent) if sys.argv[1] == "up" else source.down(estate)
"""


@dataclass(frozen=True)
class Server:
    """The running server, seen from inside its network."""

    estate: Estate

    def inside(self, *argv: str, **options) -> subprocess.CompletedProcess[str]:
        prefix = ("ip", "netns", "exec", SPACE)
        return subprocess.run((*prefix, *argv), text=True, capture_output=True, **options)

    def lab(self, verb: str) -> None:
        done = self.inside(sys.executable, "-c", CALL, verb, str(self.estate.directory))
        assert done.returncode == 0, done.stderr

    def ssh(self, command: str) -> str:
        done = self.inside(
            *("ssh", "-i", str(self.estate.key), "-o", "StrictHostKeyChecking=yes"),
            *("-o", f"UserKnownHostsFile={self.estate.known_hosts}", "-o", "BatchMode=yes"),
            *("root@10.77.0.50", command),
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, path: str) -> str:
        # a unit that has just been started may take seconds to listen here
        patience = ("--retry", "30", "--retry-delay", "1", "--retry-connrefused", "-m", "60")
        done = self.inside("curl", "-sSf", *patience, f"http://10.77.0.50{path}")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def job(self, what: str, home: Path) -> object:
        """What tests/lab/moment_job.py prints."""
        argv = (sys.executable, "-m", "tests.lab.moment_job", what, home)
        known = (self.estate.key, self.estate.known_hosts)
        done = self.inside(*map(str, (*argv, *known)), timeout=550)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def rows(self) -> int:
        return int(json.loads(self.get("/rows"))["rows"])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if os.geteuid():
        pytest.skip("needs root")
    shared = Estate(Path(os.environ.get("GROUNDLIFT_STATE", ".state")).absolute() / "lab")
    image = source.build(shared, silent)
    own = Estate(tmp_path_factory.mktemp("state") / "lab")
    home = own.directory / "source"
    home.mkdir(parents=True)
    (home / image.name).symlink_to(image)
    for key in (shared.key, image.with_name("ssh_host_rsa_key")):
        target = own.key if key == shared.key else home / key.name
        shutil.copy(key, target)
        shutil.copy(f"{key}.pub", f"{target}.pub")
    subprocess.run(["ip", "netns", "delete", SPACE], capture_output=True)
    subprocess.run(["ip", "netns", "add", SPACE], check=True)
    server = Server(own)
    try:
        server.inside("ip", "link", "set", "lo", "up")
        server.lab("up")
        yield server
    finally:
        server.lab("down")
        subprocess.run(["ip", "netns", "delete", SPACE], check=True)


def test_it_is_an_old_physical_server(server):
    assert server.ssh("dmidecode -s system-product-name") == "ProLiant DL380 G5\n"
    assert "/dev/sda1 /boot ext4" in server.ssh("cat /proc/mounts")
    assert "lvm  /\n" in server.ssh("lsblk -o NAME,MAJ:MIN,RM,SIZE,RO,TYPE,MOUNTPOINTS")
    assert server.ssh("basename $(readlink /sys/class/net/eth0/device/driver)") == "e1000\n"
    assert server.ssh("systemctl --failed --no-legend") == ""


def test_its_page_stays_the_same_while_its_writer_goes_on(server):
    page, rows = server.get("/"), server.rows()
    time.sleep(2)
    assert server.get("/") == page
    assert server.rows() > rows


def test_a_visitor_gets_a_session_that_is_a_file(server):
    for _ in range(2):
        server.inside("curl", "-sS", "-b", f"SID={'ab' * 16}", "http://10.77.0.50/", check=True)
    assert server.ssh(f"cat /var/lib/webapp/sessions/sess_{'ab' * 16}") == "visits=2\n"


def test_it_stands_still_for_the_last_pass_and_goes_on_afterwards(server):
    server.ssh(f"systemctl stop {' '.join(SERVICES)}")
    server.ssh("mount -o remount,ro /boot && mount -o remount,ro /")
    committed = int(server.ssh("tail -n 1 /var/lib/webapp/committed"))
    written = "sync; awk '{print $7}' /sys/block/sda/stat"  # sectors
    before = server.ssh(written)
    time.sleep(8)  # longer than ext4 keeps anything back
    assert server.ssh(written) == before

    server.ssh("mount -o remount,rw / && mount -o remount,rw /boot")
    server.ssh(f"systemctl start {' '.join(reversed(SERVICES))}")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        ledger = server.ssh("tail -n 1 /var/lib/webapp/committed")
        if int(ledger) > committed:
            break
        time.sleep(1)
    assert server.rows() > committed


@pytest.fixture(scope="module")
def moved(server, tmp_path_factory) -> Path:
    """A place with a proved copy of one moment: / by a snapshot, /boot frozen."""
    home = tmp_path_factory.mktemp("moment")
    before = server.rows()
    done = server.job("frozen", home)
    assert done["differing"] == 0
    assert server.rows() > before  # its services stood still for seconds only
    return home


def checked(home: Path) -> subprocess.CompletedProcess[str]:
    """What e2fsck finds in the copy's root file system, without a look at its journal."""
    root = home / "root.img"
    with (home / "pool/web1-sda.replica.raw").open("rb") as file, root.open("wb") as part:
        file.seek(source_image.LVM_FIRST * 512 + MIB)
        for _ in range(source_image.ROOT // MIB):
            block = file.read(MIB)
            part.seek(len(block), 1) if block == bytes(len(block)) else part.write(block)
        part.truncate(source_image.ROOT)
    return subprocess.run(["e2fsck", "-fn", root], text=True, capture_output=True)


def test_a_moment_of_it_is_copied_while_it_works(server, moved):
    held = json.loads((moved / "migrate/quiesce.json").read_text())
    assert held["snapshots"] == ["vg_web1/groundlift-lv_root"]
    assert held["services"] == []
    found = checked(moved)
    assert found.returncode == 0, found.stdout
    agent = images.agent()
    start = source_image.LVM_FIRST * 512
    with (moved / "pool/web1-sda.replica.raw").open("rb") as file:
        view = agent["Slice"](
            lambda at, size: os.pread(file.fileno(), size, at), start, source_image.SIZE - start
        )
        assert "groundlift" not in agent["metadata"](view)[1]
    assert server.job("released", moved) is True
    assert "groundlift" not in server.ssh("lvs")


def test_sysrq_cuts_off_who_will_not_close_its_files(server, moved):
    hold = "exec 3> /root/held; while echo still >&3; do sleep 0.1; done"
    server.ssh(f"nohup sh -c '{hold}' > /dev/null 2>&1 < /dev/null & sleep 1; test -s /root/held")
    assert server.job("stopped", moved)["error"].find("can't become read-only") > 0
    assert server.job("sysrq", moved)["differing"] == 0
    committed = int(server.ssh("tail -n 1 /var/lib/webapp/committed"))
    found = checked(moved)
    assert found.returncode == 0, found.stdout
    assert server.job("released", moved) is True
    deadline = time.monotonic() + 60
    while server.rows() <= committed and time.monotonic() < deadline:
        time.sleep(1)
    assert server.rows() > committed


def test_a_snapshot_that_overflows_is_no_copy_and_is_taken_away(server, tmp_path_factory):
    home = tmp_path_factory.mktemp("overflow")
    done = server.job("overflow", home)
    assert "groundlift-lv_root" in done["error"]
    assert not list(home.glob("pool/*.raw"))
    assert "groundlift" not in server.ssh("lvs")
    assert not (home / "migrate/quiesce.json").exists()
    rows = server.rows()
    time.sleep(2)
    assert server.rows() > rows


def test_switched_off_and_on_it_has_every_committed_row(server):
    server.lab("down")
    console = (server.estate.directory / "source/serial.log").read_text(errors="replace")
    assert "reboot: Power down" in console
    server.lab("up")
    committed = {int(line) for line in server.ssh("cat /var/lib/webapp/committed").split()}
    found = server.ssh("mariadb -N -e 'SELECT seq FROM webapp.orders'")
    assert committed
    assert not committed - {int(line) for line in found.split()}
