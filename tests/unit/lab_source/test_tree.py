"""The source server's files and the key they are cached under."""

from dataclasses import replace

from lab import source_tree
from lab.source_tree import Machine, files, key


def test_the_name_of_the_card_is_pinned_to_the_address_of_the_card():
    rule, mode = files(Machine(mac="00:11:22:33:44:55"))[
        "/etc/udev/rules.d/70-persistent-net.rules"
    ]
    assert 'ATTR{address}=="00:11:22:33:44:55"' in rule
    assert rule.rstrip().endswith('NAME="eth0"')
    assert mode == 0o644


def test_the_address_is_configured_by_interface():
    text, _ = files(Machine(address="192.0.2.7", gateway="192.0.2.1"))["/etc/network/interfaces"]
    assert "iface eth0 inet static\n    address 192.0.2.7\n" in text
    assert "    gateway 192.0.2.1\n" in text


def test_a_neighbour_is_written_down_by_its_address():
    text, _ = files(Machine())["/etc/webapp/webapp.ini"]
    assert "address = 10.77.0.60" in text


def test_the_key_is_the_same_for_the_same_server():
    assert key(Machine()) == key(Machine())


def test_another_address_needs_another_tree():
    assert key(Machine()) != key(replace(Machine(), address="10.77.0.51"))


def test_a_changed_application_needs_another_tree(tmp_path, monkeypatch):
    before = key(Machine())
    for file in source_tree.APP.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(source_tree, "APP", tmp_path)
    assert key(Machine()) == before
    (tmp_path / "customize.sh").write_text("#!/bin/sh\n")
    assert key(Machine()) != before
