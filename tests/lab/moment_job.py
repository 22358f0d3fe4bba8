"""Copies the disk of the lab's source from one moment of it, and prints JSON. Run in its network:
`python -m tests.lab.moment_job frozen|overflow|stopped|sysrq|released HOME KEY KNOWN_HOSTS`."""

import json
import sys
import threading
import uuid
from dataclasses import replace
from pathlib import Path

from adapters.local import LocalHost
from adapters.ssh import SshHost
from adapters.ssh_login import Login
from core.errors import Problem
from core.progress import silent
from core.quantities import GIB, MIB
from migrate import quiesce, transfer
from migrate.plan import DiskPlan, NicPlan, Plan, Quiesce, Rehearsal
from migrate.transfer import Options

ADDRESS = "10.77.0.50"
SERVICES = ("cron", "writer", "webapp", "mariadb")


def plan(pool: Path, what: str) -> Plan:
    return Plan(
        host="web1", address=ADDRESS, source_sha256="0" * 64, hypervisor="here", pool="here",
        pool_path=str(pool), domain="web1", uuid=str(uuid.UUID(int=1)), vcpus=1, memory=512 * MIB,
        disks=(
            DiskPlan(
                source="/dev/sda", size=4 * GIB, replica="web1-sda.replica.raw", target="vda",
                bus="virtio",
            ),
        ),
        nics=(NicPlan(mac="52:54:00:00:00:01", bridge="br0"),),
        quiesce=Quiesce(
            services=SERVICES, mountpoints=("/boot", "/"), rehearse="frozen", freeze_seconds=900,
            last_resort="sysrq" if what == "sysrq" else "",
        ),
        rehearsal=Rehearsal(probe="10.77.0.99/24"),
    )  # fmt: skip


def main(what: str, home: Path, key: Path, known_hosts: Path) -> None:
    login = Login(ADDRESS, "root", key, known_hosts)
    source, target, pool = SshHost("web1", login), LocalHost("here"), home / "pool"
    pool.mkdir(exist_ok=True)
    folder = home / "migrate"
    if what == "released":
        sys.stdout.write(json.dumps(quiesce.release(source, folder, silent)))
        return
    options = Options(rehearsal=True, slowdown=0, connections=1)
    result: dict[str, object] = {}
    try:
        if what == "overflow":
            options = replace(options, rate=MIB // 4)
            threading.Timer(1, flood, (login, home)).start()
        elif what != "frozen":
            options = replace(options, again=True, rehearsal=False)
        done = transfer.finish(source, target, plan(pool, what), folder, options)
        result = done.disks[0].model_dump(mode="json")
    except Problem as problem:
        result = {"error": str(problem)}
    sys.stdout.write(json.dumps(result))


def flood(login: Login, home: Path) -> None:
    """As soon as the snapshot is there, write more than it can hold."""
    host = SshHost("web1", login)
    wait = "until lvs --noheadings -o lv_name | grep -q groundlift; do sleep 0.2; done"
    write = "dd if=/dev/zero of=/var/tmp/flood bs=1M count=260 conv=fsync 2>/dev/null"
    host.run(("sh", "-c", f"{wait}; {write}; rm /var/tmp/flood"), timeout=300)
    host.close()


if __name__ == "__main__":
    main(sys.argv[1], *(Path(name) for name in sys.argv[2:]))
