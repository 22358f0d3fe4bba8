"""Reader and writer behind a real sshd: the way every byte of a migration goes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.ssh import SshHost
from core.errors import OutsideFailed
from migrate import transfer
from migrate.transfer_wire import session
from tests.contract.sshd import Server, sshd
from tests.unit.transfer import estate, images


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("sshd")
    with sshd(root) as running:
        yield running


def test_a_disk_goes_through_two_ssh_connections_bit_for_bit(
    server: Server, tmp_path: Path
) -> None:
    old = estate.make(tmp_path, estate.disk(tmp_path, 24 * images.MIB))
    source, target = SshHost("old", server.login), SshHost("hv1", server.login)
    try:
        (full,) = transfer.copy(source, target, old.plan, old.folder)
        estate.change(old.disk, 1)
        (delta,) = transfer.copy(source, target, old.plan, old.folder, "delta")
    finally:
        source.close()
        target.close()
    part = old.replica.with_name(old.replica.name + ".part")
    assert part.read_bytes() == old.expected()
    assert full.wire <= 1.03 * full.used
    assert delta.sent <= 8 * 2 * 65536


def test_a_cut_line_is_said_and_what_was_copied_is_kept(server: Server, tmp_path: Path) -> None:
    host = SshHost("old", server.login)
    try:
        with session(host, "reader") as agent:
            agent.kill()
            with pytest.raises(OutsideFailed, match="the connection") as caught:
                agent.receive()
        assert "run again" in caught.value.hint
    finally:
        host.close()
