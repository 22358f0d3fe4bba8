"""Bare machines: what they are told, who is wiped, and what is believed of what they say."""

import os
import socket
import stat
import threading
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadDocument, UsageProblem
from core.ports import Fetched
from core.progress import silent
from deploy import kickstart, pxe, watch
from deploy.kickstart import Secrets
from deploy.provision import TRIES, Floor, Machine, Wanted, floor_of, read, write
from deploy.pxe import Line
from tests.unit.deploy.sites import PUBLIC_KEY, ROOT_HASH, Data, installing

SECRETS = Secrets(ROOT_HASH, PUBLIC_KEY)
NOW = datetime(2026, 1, 2, tzinfo=UTC)
MAC = "52:54:00:99:00:21"


def line(mode: pxe.Mode = "full", address: str = "192.0.2.1") -> Line:
    import ipaddress

    return Line("eth1", ipaddress.IPv4Address(address), mode, 8078)


def text_of(change: Any = lambda _: None) -> str:
    site = installing(change)
    node = next(node for node in site.nodes if node.name == "hv1")
    floor = floor_of(site, Wanted(frozenset({"hv1"})), None)
    machine = floor.by_name("hv1")
    assert machine
    return kickstart.installing(site, node, machine, SECRETS, line().base)


def test_a_kickstart_touches_one_disk_and_says_where_everything_comes_from() -> None:
    text = text_of()
    lines = text.splitlines()
    assert "ignoredisk --only-use=cciss/c0d0" in lines
    assert "clearpart --drives=cciss/c0d0 --all --initlabel" in lines
    assert "url --url=http://192.0.2.1:8077/centos/6.3/os/x86_64/" in lines
    assert f"rootpw --iscrypted {ROOT_HASH}" in lines
    assert "/sys/block/cciss!c0d0" in text  # the kernel writes the slash so
    assert f"{136 * 2 * 1024 * 1024}" in text
    (network,) = [found for found in lines if found.startswith("network ")]
    assert "--ip=192.0.2.21 --netmask=255.255.255.0 --gateway=192.0.2.1" in network
    assert "expected" not in text_of(lambda d: d["nodes"][1].pop("disk_gib"))


@pytest.mark.parametrize("word", ["--vlanid=7", "--bondslaves=eth0,eth1", "--bondopts=mode=1"])
def test_words_that_6_3_does_not_know_yet_are_refused_though_pykickstart_takes_them(
    word: str,
) -> None:
    bad = text_of().replace("--noipv6", f"--noipv6 {word}")
    with pytest.raises(BadDocument) as caught:
        kickstart.judge(bad, "x.ks")
    (fault,) = caught.value.errors
    assert fault.startswith("x.ks:7:1: " + word.split("=")[0])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("firstboot --disable", "eula --agreed", "eula"),
        ("clearpart --drives=cciss/c0d0 --all", "clearpart --all", "every disk"),
        ("reboot\n", "rebot\n", "rebot"),
        ("%pre\n", "%pree\n", "pree"),
    ],
)
def test_faults_of_a_kickstart_are_named(old: str, new: str, said: str) -> None:
    with pytest.raises(BadDocument) as caught:
        kickstart.judge(text_of().replace(old, new), "x.ks")
    assert said in " ".join(caught.value.errors)


def test_the_rescue_system_mounts_and_wipes_nothing() -> None:
    site = installing()
    floor = floor_of(site, Wanted(rescue=frozenset({"old1"})), None)
    machine = floor.by_name("old1")
    assert machine
    text = kickstart.rescuing(site, machine, SECRETS)
    assert "rescue --nomount" in text
    for word in ("clearpart", "part ", "zerombr", "bootloader", "%pre", "%post"):
        assert word not in text


@pytest.mark.parametrize("secret", ["secret", "$1$ab$cdef", "$6$a$b\nrootpw x", ""])
def test_a_password_that_is_no_hash_never_gets_into_a_kickstart(secret: str) -> None:
    with pytest.raises(BadDocument, match=r"install\.root_password"):
        Secrets(secret, PUBLIC_KEY)


@pytest.mark.parametrize("key", ["ssh-ed25519 AAAA x", "ssh-rsa A'; rm -rf / #", ""])
def test_a_key_that_el6_does_not_take_is_refused(key: str) -> None:
    with pytest.raises(BadDocument, match=r"install\.authorized_key"):
        Secrets(ROOT_HASH, key)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda d: d["nodes"][0].update(mac="52:54:00"), "nodes"),
        (lambda d: d["nodes"][0].update(mac="01:00:5e:00:00:01"), "nodes"),
        (lambda d: d["nodes"][0].update(disk="../sda"), "nodes"),
        (lambda d: d["nodes"][0].update(disk="sda --all"), "nodes"),
        (lambda d: d["install"].update(keyboard="us; x"), "install"),
    ],
)
def test_fields_that_could_lead_elsewhere_are_refused_with_their_place(
    change: Any, place: str
) -> None:
    with pytest.raises(BadDocument) as caught:
        installing(change)
    assert any(place in error for error in caught.value.errors)


def test_only_named_nodes_are_wiped_and_done_ones_only_again() -> None:
    site = installing()
    floor = floor_of(site, Wanted(), None)
    assert [m.name for m in floor.machines] == ["mgmt1", "hv1"]
    assert not any(m.boots_installer for m in floor.machines)
    floor = floor_of(site, Wanted(frozenset({"hv1"})), floor)
    assert [m.name for m in floor.machines if m.boots_installer] == ["hv1"]
    machine = floor.by_name("hv1")
    assert machine
    done = floor.changed(machine.model_copy(update={"done": NOW}))
    assert not any(
        m.boots_installer for m in floor_of(site, Wanted(frozenset({"hv1"})), done).machines
    )
    again = floor_of(site, Wanted(again=frozenset({"hv1"})), done).by_name("hv1")
    assert again
    assert again.boots_installer
    assert again.token != machine.token
    for wanted in (Wanted(frozenset({"hv2"})), Wanted(rescue=frozenset({"hv1"}))):
        with pytest.raises(UsageProblem, match="with a hardware address"):
            floor_of(site, wanted, None)


def test_a_machine_whose_card_was_exchanged_begins_anew() -> None:
    floor = floor_of(installing(), Wanted(frozenset({"hv1"})), None)
    machine = floor.by_name("hv1")
    assert machine
    done = floor.changed(machine.model_copy(update={"done": NOW}))

    def other(data: Data) -> None:
        data["nodes"][1]["mac"] = "52:54:00:99:00:99"

    fresh = floor_of(installing(other), Wanted(frozenset({"hv1"})), done).by_name("hv1")
    assert fresh
    assert fresh.done is None


def desk(wanted: Wanted, said: list[str] | None = None) -> watch.Desk:
    floor = floor_of(installing(), wanted, None)

    def changed(_: Floor, machine: Machine, what: str) -> None:
        if said is not None:
            said.append(f"{machine.name} {what}")

    return watch.Desk(floor, lambda: NOW, lambda m: f"ks of {m.name}", changed)


def test_dnsmasq_s_own_words_are_understood() -> None:
    said: list[str] = []
    book = desk(Wanted(frozenset({"hv1"})), said)
    for heard in (
        "dnsmasq-dhcp[7]: 1 DHCPDISCOVER(eth1) 52:54:00:99:00:21",
        "dnsmasq-dhcp[7]: 1 DHCPREQUEST(eth1) 192.0.2.21 52:54:00:99:00:21",
        "dnsmasq-dhcp[7]: 1 DHCPDISCOVER(eth1) 52:54:00:99:00:ff ignored",
        "dnsmasq-tftp[7]: sent /x/tftp/pxelinux.0 to 192.0.2.21",
        "dnsmasq-tftp[7]: sent /x/tftp/vmlinuz to 192.0.2.21",
        "dnsmasq-tftp[7]: sent /x/tftp/vmlinuz to 192.0.2.99",
    ):
        book.heard(heard)
    assert said == ["hv1 asked", "hv1 kernel"]


def test_a_kickstart_goes_to_its_machine_alone_and_not_for_ever() -> None:
    said: list[str] = []
    book = desk(Wanted(frozenset({"hv1"})), said)
    assert book.kickstart("hv1", "192.0.2.77", ())[0] == HTTPStatus.FORBIDDEN
    assert book.kickstart("nobody", "192.0.2.21", ())[0] == HTTPStatus.NOT_FOUND
    assert book.kickstart("mgmt1", "192.0.2.11", ())[0] == HTTPStatus.FORBIDDEN
    assert said == ["mgmt1 asked for its kickstart: refused, nobody consented to wipe it"]
    assert book.kickstart("hv1", "192.0.2.21", ()) == (HTTPStatus.OK, "ks of hv1")
    assert book.kickstart("hv1", "192.0.2.77", (MAC,))[0] == HTTPStatus.OK
    for _ in range(TRIES - 2):
        assert book.kickstart("hv1", "192.0.2.21", ())[0] == HTTPStatus.OK
    status, why = book.kickstart("hv1", "192.0.2.21", ())
    assert (status, "never reported done" in why) == (HTTPStatus.FORBIDDEN, True)


def test_a_report_is_believed_with_the_token_of_the_kickstart_alone() -> None:
    book = desk(Wanted(frozenset({"hv1"})))
    machine = book.floor.by_name("hv1")
    assert machine
    assert book.done("hv1", "") == HTTPStatus.FORBIDDEN
    assert book.done("hv1", "f" * 32) == HTTPStatus.FORBIDDEN
    assert book.done("hv2", machine.token) == HTTPStatus.NOT_FOUND
    assert book.done("hv1", machine.token) == HTTPStatus.OK
    after = book.floor.by_name("hv1")
    assert after
    assert after.done == NOW
    assert not after.boots_installer


@pytest.mark.parametrize(
    "raw",
    [b"GET http://[ HTTP/1.0\r\n\r\n", b"GET /ks/\xff%00 HTTP/1.0\r\n\r\n", b"\0\r\n\r\n",
     b"GET /done/hv1?token=%ff&token=x&&&= HTTP/1.0\r\n\r\n", b"PUT / HTTP/1.0\r\n\r\n", b""],
)  # fmt: skip
def test_whoever_speaks_nonsense_to_the_reception_gets_no_kickstart_and_fills_no_screen(
    raw: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    book = desk(Wanted(frozenset({"hv1"})))
    with watch.Reception(("127.0.0.1", 0), book) as reception:
        thread = threading.Thread(target=reception.serve_forever, args=(0.05,))
        thread.start()
        with socket.create_connection(reception.server_address[:2], timeout=5) as visitor:
            visitor.sendall(raw)
            visitor.shutdown(socket.SHUT_WR)
            answer = visitor.makefile("rb").read()
        reception.shutdown()
        thread.join(5)
    assert b"200" not in answer[:40]
    assert b"ks of" not in answer
    assert capfd.readouterr().err == ""
    assert all(machine.kickstart is None for machine in book.floor.machines)


@given(st.text(max_size=300))
def test_any_line_of_a_log_is_survived(text: str) -> None:
    desk(Wanted()).heard(text)


class Mirror:
    def __init__(self, status: int = 200) -> None:
        self.status = status

    def fetch(self, url: str, *, timeout: float = 0, limit: int = 0) -> Fetched:
        return Fetched(self.status, url.rsplit("/", 1)[1].encode())


@pytest.mark.parametrize("mode", ["full", "proxy"])
def test_what_is_written_answers_the_site_s_machines_on_one_card(
    mode: pxe.Mode, tmp_path: Path
) -> None:
    site = installing()
    floor = floor_of(site, Wanted(frozenset({"hv1"}), rescue=frozenset({"old1"})), None)
    config = pxe.write(site, floor, line(mode), tmp_path, Mirror(), silent).read_text()
    assert {"interface=eth1", "bind-interfaces", "dhcp-ignore=tag:!known"} <= set(
        config.split("\n")
    )
    assert config.count("dhcp-host=") == 3
    assert ("proxy" in config) == (mode == "proxy")
    assert ("192.0.2.21" in config) == (mode == "full")
    menus = {p.name: p.read_text() for p in (tmp_path / "tftp/pxelinux.cfg").iterdir()}
    assert "localboot" in menus["default"]
    assert "localboot" in menus["01-52-54-00-99-00-11"]
    assert "ks=http://192.0.2.1:8078/ks/hv1" in menus["01-52-54-00-99-00-21"]
    assert "rescue sshd=1" in menus["01-52-54-00-99-00-50"]
    assert (tmp_path / "tftp/vmlinuz").read_bytes() == b"vmlinuz"


def test_what_dnsmasq_reads_is_open_to_it_whatever_root_s_umask_is(tmp_path: Path) -> None:
    floor = floor_of(installing(), Wanted(), None)
    before = os.umask(0o077)
    try:
        pxe.write(installing(), floor, line(), tmp_path, Mirror(), silent)
    finally:
        os.umask(before)
    for path in (tmp_path / "tftp", *(tmp_path / "tftp").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


def test_a_card_outside_the_site_s_networks_or_a_mirror_without_installer_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = installing()
    floor = floor_of(site, Wanted(), None)
    with pytest.raises(UsageProblem, match="none of the site's networks"):
        pxe.write(site, floor, line(address="10.1.1.1"), tmp_path, Mirror(), silent)
    with pytest.raises(Exception, match="no images/pxeboot/vmlinuz"):
        pxe.write(site, floor, line(), tmp_path, Mirror(404), silent)
    with monkeypatch.context() as patch, pytest.raises(Exception, match="larger than any"):
        patch.setattr(pxe, "LIMIT", 5)
        pxe.write(site, floor, line(), tmp_path, Mirror(), silent)


def test_what_was_seen_survives_a_restart(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    floor = floor_of(installing(), Wanted(frozenset({"hv1"})), None)
    write(tmp_path, floor)
    assert read(tmp_path) == floor


def test_a_book_that_can_t_be_written_wipes_nobody_twice_and_is_written_later() -> None:
    said: list[str] = []
    full = [False]

    def changed(_: Floor, machine: Machine, what: str) -> None:
        if full[0]:
            raise OSError(28, "No space left on device")
        said.append(f"{machine.name} {what}")

    floor = floor_of(installing(), Wanted(frozenset({"hv1"})), None)
    book = watch.Desk(floor, lambda: NOW, lambda m: f"ks of {m.name}", changed)
    full[0] = True
    book.heard(f"dnsmasq-dhcp[7]: 1 DHCPDISCOVER(eth1) {MAC}")  # ends nothing
    token = floor.machines[1].token
    with pytest.raises(OSError, match="No space"):
        book.done("hv1", token)
    machine = book.floor.by_name("hv1")
    assert machine
    assert not machine.boots_installer
    full[0] = False
    assert book.done("hv1", token) == HTTPStatus.OK  # the machine reports several times
    assert said == ["hv1 done"]
    assert book.done("hv1", token) == HTTPStatus.OK
    assert said == ["hv1 done"]
