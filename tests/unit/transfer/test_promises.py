"""What the agents and the pump promise each other, one by one."""

import contextlib
import os
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adapters.local import LocalHost
from core.errors import OutsideFailed
from migrate import transfer, transfer_pass, transfer_wire, transfer_work
from migrate.transfer import Options
from migrate.transfer_pass import Pump
from migrate.transfer_wire import session
from tests.faults.harness import agents, descendants
from tests.unit.transfer import estate, images


def test_no_more_is_under_way_than_the_window_and_more_than_one_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window, plain = 3 * images.MIB, Pump.pass_on
    monkeypatch.setattr(transfer_pass, "WINDOW", window)
    seen: list[tuple[int, int]] = []

    def watched(pump: Pump, *args: Any, **more: Any) -> None:
        plain(pump, *args, **more)
        with pump._lock:
            seen.append((sum(sent.cost for sent in pump._pending), len(pump._pending)))

    monkeypatch.setattr(Pump, "pass_on", watched)
    old = estate.make(tmp_path, estate.disk(tmp_path, 24 * images.MIB))
    (full,) = transfer.copy(old.source, old.target, old.plan, old.folder)
    assert full.wire > 2 * window
    assert max(size for size, _ in seen) <= window
    assert max(count for _, count in seen) > 1  # nobody waits for one before sending the next


def test_nothing_is_acknowledged_before_it_is_synced(tmp_path: Path) -> None:
    names: dict[str, Any] = images.agent("writer")
    sent: list[int] = []
    link = SimpleNamespace(send=lambda kind, *_: sent.append(kind))
    fields = {"directory": str(tmp_path), "name": "a.raw", "size": str(images.MIB), "hash": "md5"}
    keeper, synced = names["Keeper"](link, fields), threading.Event()
    keeper.replica.sync = lambda: synced.wait(30)
    keeper.zero(0, 0, 65536, b"")
    keeper.hurry = True
    time.sleep(1.5 * names["SYNC_SECONDS"])
    assert names["ACK"] not in sent
    synced.set()
    keeper.flush()
    assert sent == [names["ACK"], names["FLUSH"]]


def test_a_live_pass_leaves_processor_and_disk_to_others(tmp_path: Path) -> None:
    old = estate.make(tmp_path, estate.disk(tmp_path, 24 * images.MIB))
    options = Options(rate=4 * images.MIB)
    copying = threading.Thread(
        target=transfer.copy, args=(old.source, old.target, old.plan, old.folder, "full", options)
    )
    copying.start()
    expected = {("reader", 19, "idle"), ("worker", 19, "idle")}
    seen: set[tuple[str, int, str]] = set()
    while copying.is_alive() and not expected <= seen:  # asked for when the pass begins
        mine = descendants(os.getpid())
        for pid, role in agents().items():
            if pid in mine:
                told = subprocess.run(["ionice", "-p", str(pid)], capture_output=True, text=True)
                with contextlib.suppress(ProcessLookupError):
                    nice = os.getpriority(os.PRIO_PROCESS, pid)
                    seen.add((role, nice, told.stdout.strip()))
        time.sleep(0.05)
    copying.join()
    assert expected <= seen


@pytest.mark.parametrize(
    ("reader", "writer", "expected"),
    [
        ({"sha256": 250, "md5": 500}, {"sha256": 900, "md5": 900}, "sha256"),  # two workers: enough
        ({"sha256": 60, "md5": 300}, {"sha256": 900, "md5": 900}, "md5"),
        ({"sha256": 60, "md5": 100}, {"sha256": 900, "md5": 900}, "sha256"),  # no great gain
        ({"md5": 90, "sha1": 80}, {"md5": 900, "sha256": 900}, "md5"),  # Python 2.4
        ({"sha256": 300}, {"md5": 900}, ""),
    ],
)
def test_the_hash_is_what_both_sides_have_and_do_quickly(
    reader: dict[str, int], writer: dict[str, int], expected: str
) -> None:
    ends: list[Any] = [
        SimpleNamespace(hello=transfer_wire.Hello("3", hashes, 2), host=name)
        for name, hashes in (("old", reader), ("hv1", writer))
    ]
    if expected:
        assert transfer_work._choose(*ends) == expected
        return
    with pytest.raises(OutsideFailed, match="no hash in common"):
        transfer_work._choose(*ends)


def test_zeros_that_nobody_understands_travel_as_a_word(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(24 * images.MIB))
    old = estate.make(tmp_path, disk)
    (full,) = transfer.copy(old.source, old.target, old.plan, old.folder)
    assert full.used == full.read == 24 * images.MIB
    assert full.sent == 0
    assert full.wire < 65536


def test_an_agent_of_another_version_is_not_talked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = transfer_wire.program
    monkeypatch.setattr(
        transfer_wire, "program", lambda role: plain(role).replace(b"VERSION = 2", b"VERSION = 3")
    )
    with (
        pytest.raises(OutsideFailed, match="speaks another version"),
        session(LocalHost("old"), "reader"),
    ):
        pass
