"""Machines without a system, booted from the network in a namespace of their own: real DHCP, real
TFTP, real HTTP, a real PXE ROM, and the lab disc's kernel and initrd."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.progress import silent
from core.state import State
from lab import estate as lab_estate
from lab import media
from tests.unit.deploy.sites import INSTALLING, ROOT_HASH

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(400),
    pytest.mark.skipif(os.getuid() != 0, reason="network namespaces need root"),
]
ROOT = Path(__file__).parents[2]
SPACE, BRIDGE = "gl-pxe", "gl-pxe0"
PATIENCE = 200


def sh(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def space() -> Iterator[tuple[str, ...]]:
    """A namespace with a bridge; the words that run a command in it."""
    inside = ("ip", "netns", "exec", SPACE)
    subprocess.run(("ip", "netns", "delete", SPACE), capture_output=True)
    sh("ip", "netns", "add", SPACE)
    try:
        sh(*inside, "ip", "link", "set", "lo", "up")
        sh(*inside, "ip", "link", "add", BRIDGE, "type", "bridge", "forward_delay", "0")
        sh(*inside, "ip", "address", "add", "10.99.0.1/24", "dev", BRIDGE)
        sh(*inside, "ip", "link", "set", BRIDGE, "up")
        yield inside
    finally:
        sh("ip", "netns", "delete", SPACE)


@pytest.fixture(scope="module")
def call() -> Iterator[Callable[..., tuple[str, ...]]]:
    """The words that call groundlift on a state directory that dnsmasq can read as nobody: pytest
    closes its own directories to others."""
    with tempfile.TemporaryDirectory(prefix="gl-pxe-", dir="/var/tmp") as name:
        top = Path(name)
        top.chmod(0o711)
        _fill(top)
        yield lambda *words: (sys.executable, "-m", "cli", "--state", str(top), *words)


def _fill(top: Path) -> None:
    (top / "keys").mkdir()
    sh("ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", str(top / "keys/id_rsa"))
    (top / "keys/root_hash").write_text(ROOT_HASH + "\n")
    (top / "keys/known_hosts").touch()
    (top / "cloud.yml").write_text(INSTALLING.replace("192.0.2.", "10.99.0."))


@contextlib.contextmanager
def running(argv: tuple[str, ...], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with (
        log.open("wb") as file,
        subprocess.Popen(argv, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def seen(
    space: tuple[str, ...], call: Callable[..., tuple[str, ...]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, object]:  # fmt: skip
    """One machine boots until it has reported done, one without consent beside it."""
    here = lab_estate.of(State(Path(os.environ.get("GROUNDLIFT_STATE", ".state")).absolute()))
    if not all(disc.exists() for disc in here.discs):
        media.build(here, silent)
    top = tmp_path_factory.mktemp("pxe")
    pin = f"@{here.media / 'fingerprint'}"
    subprocess.run(
        call("mirror", "build", *map(str, here.discs), "--fingerprint", pin), cwd=ROOT, check=True
    )
    site = str(Path(call("x")[4]) / "cloud.yml")
    offer = call(
        "provision", "serve", site, "--interface", BRIDGE, "--consent", "hv1", "--rescue", "old1"
    )
    result: dict[str, object] = {}
    with contextlib.ExitStack() as stack:
        mirror = (*space, *call("mirror", "serve", "--bind", "10.99.0.1"))
        stack.enter_context(running(mirror, top / "mirror.log"))
        wait(lambda: "serving http" in (top / "mirror.log").read_text(), top / "mirror.log")
        stack.enter_context(running((*space, *offer), top / "offer.log"))
        wait(lambda: "serving on" in (top / "offer.log").read_text(), top / "offer.log")
        for number, last in enumerate(("21", "11", "50")):
            machine = (*space, *qemu(number, f"52:54:00:99:00:{last}", top))
            stack.enter_context(running(machine, top / f"machine{number}.log"))

        def told() -> dict[str, dict[str, object]]:
            said = json.loads(sh(*call("provision", "status", site, "--json")))
            return {machine["name"]: machine for machine in said["machines"]}

        wait(lambda: told()["hv1"]["done"] and told()["old1"]["kickstart"], top / "offer.log")
        result["machines"] = told()
        result["log"] = (top / "offer.log").read_text()
        result["menu"] = menus(Path(call("x")[4]))
        result["shown"] = sh(*call("provision", "status", site))
    result["again"] = sh(*space, *call("provision", "serve", site, "--interface", BRIDGE,
                                       "--consent", "hv1", "--dry-run"))  # fmt: skip
    return result


def menus(state: Path) -> dict[str, str]:
    folder = state / "deploy/harbour/provision/tftp/pxelinux.cfg"
    return {path.name: path.read_text() for path in folder.iterdir()}


def qemu(number: int, mac: str, top: Path) -> tuple[str, ...]:
    tap = f"pxe{number}"
    for words in (
        ("ip", "tuntap", "add", tap, "mode", "tap"),
        ("ip", "link", "set", tap, "master", BRIDGE, "up"),
    ):
        sh("ip", "netns", "exec", SPACE, *words)
    return (
        "qemu-system-x86_64", "-machine", "pc,accel=tcg", "-m", "512", "-nodefaults",
        "-display", "none", "-serial", f"file:{top}/serial{number}", "-no-reboot", "-boot", "n",
        "-netdev", f"tap,id=n,ifname={tap},script=no,downscript=no",
        "-device", f"virtio-net-pci,netdev=n,mac={mac}",
    )  # fmt: skip


def wait(reached: Callable[[], object], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, AssertionError, KeyError):
            if reached():
                return
        time.sleep(1)
    raise AssertionError(log.read_text()[-3000:])


def test_a_machine_asks_gets_kernel_and_kickstart_and_reports_done(
    seen: dict[str, object],
) -> None:
    machine = seen["machines"]["hv1"]  # type: ignore[index]
    stages = [machine[stage] for stage in ("asked", "kernel", "kickstart", "done")]
    assert all(stages)
    assert stages == sorted(stages)
    assert machine["fetched"] == 1
    assert "hv1: reported done" in str(seen["log"])
    assert "done, " in str(seen["shown"]).split("hv1")[1]


def test_once_installed_it_starts_from_its_own_disk_even_when_consent_is_given_again(
    seen: dict[str, object],
) -> None:
    assert "localboot" in seen["menu"]["01-52-54-00-99-00-21"]  # type: ignore[index]
    assert "installed already" in str(seen["again"])
    assert "WILL BE WIPED" not in str(seen["again"])


def test_a_machine_without_consent_is_told_to_start_from_its_own_disk(
    seen: dict[str, object],
) -> None:
    machine = seen["machines"]["mgmt1"]  # type: ignore[index]
    assert machine["asked"]
    assert not machine["kernel"]
    assert not machine["kickstart"]
    assert "localboot" in seen["menu"]["01-52-54-00-99-00-11"]  # type: ignore[index]


def test_an_old_server_is_offered_the_rescue_system(seen: dict[str, object]) -> None:
    machine = seen["machines"]["old1"]  # type: ignore[index]
    assert machine["kickstart"]
    assert not machine["done"]
    menu = seen["menu"]["01-52-54-00-99-00-50"]  # type: ignore[index]
    assert " rescue sshd=1 " in menu


def test_nothing_is_left_behind(seen: dict[str, object]) -> None:
    assert shutil.which("dnsmasq")
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert b"deploy/harbour/provision/dnsmasq.conf" not in path.read_bytes()
