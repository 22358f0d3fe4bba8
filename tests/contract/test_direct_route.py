"""Data that goes from the source to the hypervisor by the source's own ssh: through a real sshd,
with a key for one pass."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import OutsideFailed
from core.progress import Event
from migrate import transfer, transfer_wire
from migrate.transfer import Options, Rounds
from migrate.transfer_direct import Direct
from migrate.transfer_wire import Kind, session
from tests.contract.pythons import PYTHONS
from tests.contract.sshd import Server, direct, sshd
from tests.unit.transfer import estate, images


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with sshd(tmp_path / "home" / ".ssh") as running:
        yield running


@pytest.fixture
def way(server: Server) -> Direct:
    return direct(server.root, server.port, server.login.user)


@pytest.fixture
def old(tmp_path: Path) -> estate.Estate:
    made = estate.make(tmp_path, estate.disk(tmp_path, 24 * images.MIB))
    made.target = estate.Target(tmp_path / "home")
    return made


def copy(
    old: estate.Estate, way: Direct, kind: str = "full", **more: object
) -> tuple[transfer.PassResult, list[str]]:
    """One pass, and what was said about its way."""
    told: list[str] = []

    def report(event: Event) -> None:
        told.append(f"{event.task}: {event.text}" if " → " in event.task else "")

    options = replace(Options(direct=way), **more)  # type: ignore[arg-type]
    (result,) = transfer.copy(old.source, old.target, old.plan, old.folder, kind, options, report)
    return result, [text for text in told if text]


def doors(server: Server) -> int:
    """Keys that only open a door."""
    return (server.root / "authorized_keys").read_text().count("groundlift-door")


def test_data_goes_straight_and_the_controller_sees_digests_alone(
    old: estate.Estate, way: Direct, server: Server
) -> None:
    before = (server.root / "authorized_keys").read_bytes()
    full, told = copy(old, way)
    assert told == ["old → hv1: straight, not through this machine"]
    assert full.direct > 0.99 * full.used
    assert full.wire - full.direct < 0.005 * full.direct
    assert full.wire <= 1.03 * full.used
    estate.change(old.disk, 1)
    delta, _ = copy(old, way, "delta")
    assert 0 < delta.direct <= 1.1 * delta.sent
    estate.change(old.disk, 2)
    options = Options(direct=way)
    result = transfer.finish(old.source, old.target, old.plan, old.folder, options)
    assert old.replica.read_bytes() == old.expected()
    assert result.disks[0].passes[0].direct == full.direct
    assert (server.root / "authorized_keys").read_bytes() == before
    assert not list(Path("/dev/shm").glob("groundlift-*"))


def keys() -> list[str]:
    """Descriptors of keys in memory that any process holds."""
    found = []
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            target = str(path.readlink())
            found += [target] if "/groundlift-" in target else []
    return found


def test_rounds_go_straight_each_with_a_key_of_its_own(
    old: estate.Estate, way: Direct, server: Server
) -> None:
    copy(old, way)
    with Rounds(old.source, old.target, old.plan, old.folder, Options(direct=way)) as rounds:
        for seed in range(3):
            estate.change(old.disk, seed)
            (found,) = rounds.go("delta")
            assert 0 < found.direct <= 1.1 * found.sent
            assert doors(server) == 0
            end = time.monotonic() + 10  # the reader ends its ssh after its last word
            while keys() and time.monotonic() < end:
                time.sleep(0.05)
            assert keys() == []
    transfer.finish(old.source, old.target, old.plan, old.folder)
    assert old.replica.read_bytes() == old.expected()


@pytest.mark.parametrize("version", sorted(PYTHONS))
def test_the_way_is_found_on(
    version: str, old: estate.Estate, way: Direct, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer_wire, "PYTHONS", (PYTHONS[version],))
    full, _ = copy(old, way)
    assert full.direct > 0.99 * full.used
    part = old.replica.with_name(old.replica.name + ".part")
    assert part.read_bytes() == old.expected()


def test_several_connections_each_find_their_way(
    old: estate.Estate, way: Direct, monkeypatch: pytest.MonkeyPatch
) -> None:
    estate.narrow_stripes(monkeypatch)
    full, _ = copy(old, way, connections=3)
    assert full.direct > 0.99 * full.used
    transfer.finish(old.source, old.target, old.plan, old.folder)
    assert old.replica.read_bytes() == old.expected()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"origin": "192.0.2.7"}, "Permission denied"),
        ({"known": ("ssh-rsa " + "A" * 372,)}, "Host key verification failed"),
        ({"port": 1}, "Connection refused"),
    ],
)
def test_who_can_not_go_straight_is_relayed_and_told_why(
    old: estate.Estate, way: Direct, server: Server, change: dict[str, object], reason: str
) -> None:
    full, (told,) = copy(old, replace(way, **change))  # type: ignore[arg-type]
    assert told.startswith("old → hv1: relayed through this machine: old: ")
    assert reason in told
    assert full.direct == 0
    assert doors(server) == 0
    transfer.finish(old.source, old.target, old.plan, old.folder)
    assert old.replica.read_bytes() == old.expected()


def test_an_account_without_authorized_keys_is_no_obstacle(
    old: estate.Estate, way: Direct, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    old.target = estate.Target(tmp_path / "empty")
    _, (told,) = copy(old, way)
    assert "relayed through this machine: hv1: " in told
    assert "No such file" in told


def test_the_key_opens_nothing_but_the_door(
    old: estate.Estate, way: Direct, server: Server, tmp_path: Path
) -> None:
    """Whoever has it gets no shell, no forwarding, and nothing at all once the door is shut."""
    key = tmp_path / "key"
    images.run("ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f", str(key))
    public = " ".join(key.with_suffix(".pub").read_text().split()[:2])
    with session(old.target, "writer") as writer:
        writer.say(Kind.DOOR, token="ab" * 16, origin="127.0.0.1", key=public)
        assert writer.expect(Kind.DOOR).fields["ok"] == "1"
        (line,) = [
            line
            for line in (server.root / "authorized_keys").read_text().splitlines()
            if "groundlift-door" in line
        ]
        for word in ("no-pty", "no-port-forwarding", "no-agent-forwarding", 'from="127.0.0.1"'):
            assert word in line
        options = ("BatchMode=yes", "IdentitiesOnly=yes",
                   f"UserKnownHostsFile={server.login.known_hosts}")  # fmt: skip
        settings = [word for option in options for word in ("-o", option)]
        command = ["ssh", "-F", "/dev/null", *settings, "-i", str(key), "-p", str(server.port),
                   f"{way.user}@127.0.0.1"]  # fmt: skip
        done = subprocess.run([*command, "id"], stdin=subprocess.DEVNULL, capture_output=True)
        assert done.stdout == b"groundlift-door\n"
        writer.say(Kind.DOOR)
        writer.expect(Kind.DOOR)
        writer.bye()
    done = subprocess.run([*command, "id"], stdin=subprocess.DEVNULL, capture_output=True)
    assert done.returncode == 255
    assert b"Permission denied" in done.stderr


def test_the_next_door_removes_what_a_killed_writer_left(
    old: estate.Estate, way: Direct, server: Server
) -> None:
    keys = server.root / "authorized_keys"
    mine = keys.read_text()
    left = f'command="x" ssh-rsa AAAA groundlift-door-{"0" * 32}\n'
    keys.write_text(f"{left}{mine}")
    copy(old, way)
    assert keys.read_text() == mine


@pytest.mark.parametrize("who", ["ssh", "carrier", "writer"])
def test_a_way_that_breaks_costs_a_window_and_nothing_else(
    old: estate.Estate, way: Direct, who: str, server: Server
) -> None:
    mark = {
        "ssh": f"HostKeyAlias=groundlift-{way.address}",
        "carrier": "groundlift-door-",
        "writer": f"size={len(transfer_wire.program('writer'))};",
    }[who]
    victims: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 20
        while not victims and time.monotonic() < deadline:
            journal = old.folder / "disks" / "old-sda.journal"
            if journal.exists() and '"upto"' in journal.read_text():
                victims.extend(_processes(mark))
            time.sleep(0.02)
        for pid in victims:
            os.kill(pid, 9)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(OutsideFailed) as caught:
        copy(old, way, rate=6 * images.MIB)
    killer.join()
    assert victims
    assert "run again" in caught.value.hint
    full, _ = copy(old, way)
    assert full.direct > 0
    transfer.finish(old.source, old.target, old.plan, old.folder, Options(direct=way))
    assert old.replica.read_bytes() == old.expected()
    assert doors(server) == 0


def _processes(mark: str) -> list[int]:
    """Descendants of this test, and of its sshd, with ``mark`` on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if mark in line and not line.startswith(("bash", "sh ", "env", "grep", sys.executable)):
                found.append(int(entry.name))
    return found


def test_data_that_is_not_what_was_told_is_refused(
    old: estate.Estate, way: Direct, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that tells the controller one thing and the hypervisor another."""
    plain = transfer_wire.program
    monkeypatch.setattr(
        transfer_wire,
        "program",
        lambda role: plain(role).replace(
            b"    digests = whole(payload[:-(-length // CHUNK) * width])\n",
            b"    digests = ZEROS[:-(-length // CHUNK) * width]\n",
        ),
    )
    with pytest.raises(OutsideFailed, match="came straight is not the one that was told"):
        copy(old, way)


def test_more_than_was_to_come_is_refused(
    old: estate.Estate, way: Direct, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that floods the hypervisor's memory is let go."""
    plain = transfer_wire.program
    monkeypatch.setattr(
        transfer_wire,
        "program",
        lambda role: (
            plain(role)
            .replace(b"ROOM = 64 * 1048576", b"ROOM = 1 * 1048576")
            .replace(
                b"    link.send(DIRECT,",
                b"    route.send(payload, offset + 1, length, codec)\n    link.send(DIRECT,",
            )
        ),
    )
    with pytest.raises(OutsideFailed, match="more came through the door than was to come"):
        copy(old, way)
