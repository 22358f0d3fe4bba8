"""A replica on a block device of the hypervisor, as conversion reads it."""

import random
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from adapters import nbdkit_device
from adapters.local import LocalHost
from core.errors import OutsideFailed
from migrate.convert import Share, _device

SIZE = 8 << 20
pytestmark = pytest.mark.skipif(
    shutil.which("nbdkit") is None or shutil.which("nbdcopy") is None,
    reason="nbdkit and nbdcopy are not installed; ./setup does it",
)


@pytest.fixture
def share(tmp_path: Path) -> Share:
    """As over ssh: the far side's shell gets one string."""
    program = tmp_path / "far"
    program.write_text('#!/bin/sh\nexec sh -c "$2"\n')
    program.chmod(0o755)
    return Share("root@hypervisor", program, Path(nbdkit_device.__file__))


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "device 'with' a name"
    path.write_bytes(random.Random(7).randbytes(SIZE))
    return path


def copied(socket: Path, to: Path) -> bytes:
    argv = ("nbdcopy", f"nbd+unix:///?socket={socket}", str(to))
    subprocess.run(argv, check=True, timeout=60)
    return to.read_bytes()


def test_a_device_arrives_byte_for_byte_and_an_overlay_on_it_takes_the_writes(
    share: Share, device: Path, tmp_path: Path
) -> None:
    socket, local = tmp_path / "a.socket", LocalHost()
    before = device.read_bytes()
    overlay = tmp_path / "a.qcow2"
    with _device(local, local, share, str(device), socket):
        assert copied(socket, tmp_path / "copy") == before
        uri = f"nbd+unix:///?socket={socket}"
        made = ("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", uri, str(overlay))
        subprocess.run(made, check=True, timeout=60)
        wrote = ("qemu-io", "-c", "write -P 7 64k 64k", "-c", "read -P 7 64k 64k", str(overlay))
        subprocess.run(wrote, check=True, timeout=60)
    assert device.read_bytes() == before
    assert overlay.stat().st_size < SIZE


def test_the_window_is_closed_when_conversion_ends(
    share: Share, device: Path, tmp_path: Path
) -> None:
    socket = tmp_path / "a.socket"
    with _device(LocalHost(), LocalHost(), share, str(device), socket):
        pass
    with pytest.raises(subprocess.CalledProcessError):
        copied(socket, tmp_path / "copy")


def test_a_connection_that_breaks_is_an_error_and_no_zeros(
    share: Share, device: Path, tmp_path: Path
) -> None:
    share.program.write_text('#!/bin/sh\nexec timeout -s KILL 1 sh -c "exec $2"\n')
    with device.open("r+b") as file:
        file.truncate(64 << 30)  # more than a second's reading, and no room taken
    socket = tmp_path / "a.socket"
    with (
        _device(LocalHost(), LocalHost(), share, str(device), socket),
        pytest.raises(subprocess.CalledProcessError),
    ):
        copied(socket, tmp_path / "copy")


def test_without_nbdkit_it_is_said_what_to_install(
    share: Share, device: Path, tmp_path: Path
) -> None:
    wrong = Share(share.login, share.program, tmp_path / "no-plugin.py")
    with ExitStack() as open_, pytest.raises(OutsideFailed) as caught:
        open_.enter_context(
            _device(LocalHost(), LocalHost(), wrong, str(device), tmp_path / "a.socket")
        )
    assert "nbdkit" in caught.value.hint
