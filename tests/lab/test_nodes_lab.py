"""The nodes: shaped like EL6, offline, and sure to come and go. Tried on spare ones."""

import functools
import http.server
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import Locked
from core.progress import silent
from lab import claim, network, nodes, nodes_container, pins, pool
from lab.estate import CONTROLLER, SPARE, Estate
from lab.groups import comps

pytestmark = pytest.mark.lab
SPARE_ONE = SPARE[1]
PAIR = SPARE[2:]


def on(estate: Estate, node, script: str, *, timeout: float = 120) -> str:
    done = subprocess.run(
        [*nodes_container.ssh(estate, node), "bash", "-eus"],
        input=script,
        text=True,
        capture_output=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass


@pytest.fixture(scope="module")
def repository(estate: Estate, tmp_path_factory) -> Iterator[str]:
    """The packages of both discs on the lab's bridge; the product's mirror is not on trial."""
    root = tmp_path_factory.mktemp("repository")
    (root / "Packages").symlink_to(estate.packages)
    (root / "comps.xml").write_text(comps())
    (root / "key").write_bytes(estate.public_key.read_bytes())
    kind = ("--general-compress-type=gz", "-q", "-g", str(root / "comps.xml"))
    subprocess.run(["createrepo_c", *kind, str(root)], check=True)
    handler = functools.partial(Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer((CONTROLLER, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{CONTROLLER}:{server.server_port}/"
        server.shutdown()


def use(url: str) -> str:
    lines = ("[discs]", "name=discs", f"baseurl={url}", "gpgcheck=1", f"gpgkey={url}key")
    return f"printf '%s\\n' {' '.join(lines)} > /etc/yum.repos.d/discs.repo\n"


@pytest.fixture
def node(estate: Estate):
    nodes.destroy(estate, [SPARE_ONE])
    nodes.up(estate, silent, [SPARE_ONE])
    yield SPARE_ONE
    nodes.destroy(estate, [SPARE_ONE])


def test_a_node_looks_like_a_minimal_centos_6_3(estate: Estate, node):
    assert on(estate, node, "cat /etc/redhat-release") == "CentOS release 6.3 (Final)\n"
    assert on(estate, node, "ls /etc/os-release /etc/debian_version 2> /dev/null | wc -l") == "0\n"
    assert on(estate, node, "rpm -qa --qf '%{NAME}\\n' | sort").split() == [
        "centos-release",
        "lab-minimal-host",
    ]
    assert on(estate, node, "hostname") == "mol2\n"
    assert on(estate, node, "systemctl is-system-running --wait") == "running\n"


def test_a_node_has_no_way_out_of_the_lab(estate: Estate, node):
    assert (
        on(estate, node, "ip -4 route") == "10.77.0.0/24 dev eth0 proto kernel scope link src "
        "10.77.0.32 \n"
    )
    assert on(estate, node, "cat /etc/resolv.conf") == ""


def test_a_service_of_the_discs_starts_and_starts_again_with_the_node(
    estate: Estate, node, repository: str
):
    on(estate, node, use(repository) + "dnf -q -y install ntp httpd")
    on(estate, node, "chkconfig ntpd on; service ntpd start; service ntpd status")
    assert (
        on(estate, node, "chkconfig --list ntpd; systemctl is-enabled ntpd 2> /dev/null")
        .split("\t")[-1]
        .endswith("enabled\n")
    )
    nodes._stop(estate, node)
    nodes.up(estate, silent, [node])
    assert "NTP" in on(
        estate, node, "for i in $(seq 20); do ntpq -c rv && break; sleep 0.5; done"
    ) or on(estate, node, "pgrep -x ntpd")
    assert on(estate, node, "systemctl is-enabled httpd 2> /dev/null || true") == "disabled\n"


def test_the_network_restarts_into_a_bridge_under_an_ssh_session(estate: Estate, node):
    scripts = "/etc/sysconfig/network-scripts"
    on(
        estate,
        node,
        f"""
cat > {scripts}/ifcfg-br0 <<END
DEVICE=br0
TYPE=Bridge
ONBOOT=yes
DELAY=0
STP=off
IPADDR={node.address}
NETMASK=255.255.255.0
END
printf 'DEVICE=eth0\\nONBOOT=yes\\nBRIDGE=br0\\n' > {scripts}/ifcfg-eth0
service network restart
""",
    )
    assert f"{node.address}/24" in on(estate, node, "ip -br address show br0")
    assert on(estate, node, "cat /sys/class/net/br0/brif/eth0/state") == "3\n"
    nodes._stop(estate, node)
    nodes.up(estate, silent, [node])
    assert f"{node.address}/24" in on(estate, node, "ip -br address show br0")


def test_a_node_whose_starter_was_killed_comes_up_again_without_leftovers(estate: Estate, node):
    on(estate, node, "echo kept > /root/file; sync")
    first = nodes_container.first_process(estate, node)
    os.kill(nodes_container.pid(estate, node), signal.SIGKILL)
    time.sleep(0.3)
    assert nodes.status(estate, [node])[0].pid is None
    nodes.up(estate, silent, [node])
    assert on(estate, node, "cat /root/file") == "kept\n"
    assert nodes_container.first_process(estate, node) not in (None, first)


def test_a_destroyed_node_leaves_nothing(estate: Estate):
    nodes.up(estate, silent, [SPARE_ONE])
    nodes.destroy(estate, [SPARE_ONE])
    assert not network.namespace(SPARE_ONE).exists()
    assert not Path("/sys/class/net", network.name(SPARE_ONE)).exists()
    assert str(estate.node("mol2")) not in Path("/proc/mounts").read_text()
    assert not estate.node("mol2").exists()
    assert f"{SPARE_ONE.address} " not in estate.known_hosts.read_text()
    nodes.destroy(estate, [SPARE_ONE])


def test_the_lab_of_another_directory_is_kept_off_this_machine(estate: Estate, tmp_path):
    with pytest.raises(Locked, match="another lab runs on this machine"):
        claim.take(Estate(tmp_path))
    assert claim.holder() == estate


def test_the_pool_is_mounted_anew_when_its_process_was_killed(estate: Estate, tmp_path):
    away = Estate(tmp_path)
    pool.up(away)
    (away.pool_mount / "disk").write_text("content")
    mine = [
        entry
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit()
        and str(away.pool_mount).encode() in _argv(entry)
        and b"bindfs" in _argv(entry)[:10]
    ]
    for entry in mine:
        os.kill(int(entry.name), signal.SIGKILL)
    time.sleep(0.3)
    pool.up(away)
    assert (away.pool_mount / "disk").read_text() == "content"
    pool.down(away)
    assert not pool.mounted(away.pool_mount)


def _argv(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


DOMAIN = """<domain type="qemu"><name>lab-move</name><memory unit="MiB">128</memory><vcpu>1</vcpu>
<os><type arch="x86_64" machine="pc">hvm</type></os><features><acpi/></features><devices>
<emulator>/usr/libexec/qemu-kvm</emulator><disk type="file" device="disk">
<driver name="qemu" type="qcow2" cache="none"/>
<source file="/var/lib/libvirt/shared/lab-move.qcow2"/><target dev="vda" bus="virtio"/></disk>
<serial type="pty"/></devices></domain>"""


@pytest.fixture
def pair(estate: Estate, repository: str):
    nodes.destroy(estate, PAIR)
    nodes.up(estate, silent, PAIR)
    names = "".join(f"echo {one.address} {one.name} >> /etc/hosts\n" for one in PAIR)
    pins.key_pair(estate.node("mol3") / "peer", "peer")
    private = (estate.node("mol3") / "peer").read_text()
    public = (estate.node("mol3") / "peer.pub").read_text()
    key = (estate.node("mol4") / "ssh_host_rsa_key.pub").read_text()
    for one in PAIR:
        on(
            estate,
            one,
            use(repository) + names + "dnf -q -y install libvirt qemu-kvm\n"
            "chkconfig libvirtd on; service libvirtd start",
        )
    on(
        estate,
        PAIR[0],
        f"cat > /root/.ssh/id_rsa <<'END'\n{private}END\n"
        f"chmod 600 /root/.ssh/id_rsa; echo 'mol4 {key.strip()}' > /root/.ssh/known_hosts",
    )
    on(estate, PAIR[1], f"echo '{public.strip()}' >> /root/.ssh/authorized_keys")
    yield PAIR
    nodes.destroy(estate, PAIR)
    (estate.pool / "lab-move.qcow2").unlink(missing_ok=True)


def test_a_running_domain_moves_between_two_nodes_over_the_pool(estate: Estate, pair):
    here, there = pair
    disk = "/var/lib/libvirt/shared/lab-move.qcow2"
    on(
        estate,
        here,
        f"qemu-img create -q -f qcow2 {disk} 64M\ncat > /root/d.xml <<'END'\n{DOMAIN}\n"
        "END\nvirsh -q define /root/d.xml; virsh -q start lab-move; sleep 1\n"
        "virsh migrate --live --persistent --undefinesource lab-move qemu+ssh://root@mol4/system",
    )
    assert on(estate, here, "virsh -q list --all --name").strip() == ""
    assert on(estate, there, "virsh -q domstate lab-move").strip() == "running"
    on(estate, there, "virsh -q destroy lab-move; virsh -q undefine lab-move")
