"""The machine as a process: what is ours and what is not, without starting it."""

import http.server
import json
import os
import socket
import threading
from pathlib import Path

import pytest

from core.errors import OutsideFailed
from lab import source_machine
from lab.source_machine import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, "127.0.0.1", "00:11:22:33:44:55")


def test_a_process_id_that_belongs_to_another_program_by_now_is_not_ours(machine):
    machine.pid_file.write_text(str(os.getpid()))
    assert source_machine.pid(machine) is None


@pytest.mark.parametrize("text", ["", "rubbish", "999999999"])
def test_a_useless_pid_file_means_not_running(machine, text):
    machine.pid_file.write_text(text)
    assert source_machine.pid(machine) is None


def test_the_disk_is_ide_and_the_card_is_an_e1000(machine):
    line = " ".join(machine.argv)
    assert "ide-hd,drive=disk0" in line
    assert "e1000,netdev=net0,mac=00:11:22:33:44:55" in line
    assert "product=ProLiant DL380 G5" in line
    assert "kvm" not in line


def test_a_machine_that_ends_early_is_reported_with_its_last_words(machine):
    machine.console.write_text("one\nGRUB: no such disk")
    with pytest.raises(OutsideFailed, match="no such disk"):
        source_machine.wait_until_served(machine, 5)


def test_commands_reach_a_control_socket_in_a_directory_with_a_long_name(tmp_path):
    directory = tmp_path / ("x" * 120)
    directory.mkdir()
    said: list[str] = []
    home = Path.cwd()
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(directory)
        try:
            server.bind("control")
        finally:
            os.chdir(home)
        server.listen(1)

        def answer() -> None:
            connection, _ = server.accept()
            with connection, connection.makefile("rw") as stream:
                stream.write('{"QMP": {}}\n')
                stream.flush()
                for _ in range(2):
                    said.append(json.loads(stream.readline())["execute"])
                    stream.write('{"event": "NICE"}\n{"return": {}}\n')
                    stream.flush()

        thread = threading.Thread(target=answer)
        thread.start()
        source_machine.command(Machine(directory, "127.0.0.1", ""), "system_powerdown")
        thread.join(5)
    assert said == ["qmp_capabilities", "system_powerdown"]


def test_a_page_that_fails_is_no_page(monkeypatch):
    class Broken(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(503)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert source_machine.page(f"127.0.0.1:{server.server_port}", "/") is None
        server.shutdown()
    assert source_machine.page("127.0.0.1:1", "/") is None
