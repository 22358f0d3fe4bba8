"""Pins, claims and paths of the lab, without a lab."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from core.errors import Locked
from core.state import State
from lab import claim, media, network, nodes, nodes_container, nodes_tree, pins
from lab import commands as lab_commands
from lab import estate as lab_estate
from lab.estate import NODES, SPARE, Estate


def test_every_machine_has_an_address_of_its_own():
    everyone = (*NODES, *SPARE)
    addresses = {node.address for node in everyone} | {"10.77.0.1", "10.77.0.50", "10.77.0.60"}
    assert len(addresses) == len(everyone) + 3
    assert all(len(network.name(node)) <= 15 for node in everyone)  # IFNAMSIZ - 1


def test_the_lab_s_site_file_names_the_lab_s_nodes():
    text = Path("inventories/lab/cloud.yml").read_text()
    for node in NODES:
        assert f"name: {node.name}\n    address: {node.address}\n" in text


def test_a_pin_replaces_that_of_the_same_address_and_leaves_others(tmp_path):
    known = tmp_path / "known_hosts"
    for name in ("a", "b"):
        (tmp_path / f"{name}.pub").write_text(f"ssh-rsa KEY{name} comment\n")
    pins.pin(known, "10.77.0.1", tmp_path / "a")
    pins.pin(known, "10.77.0.11", tmp_path / "a")
    pins.pin(known, "10.77.0.1", tmp_path / "b")
    assert known.read_text() == "10.77.0.11 ssh-rsa KEYa\n10.77.0.1 ssh-rsa KEYb\n"
    pins.unpin(known, "10.77.0.11")
    assert known.read_text() == "10.77.0.1 ssh-rsa KEYb\n"


def test_a_key_pair_is_made_once_in_the_form_that_el6_reads(tmp_path):
    private = tmp_path / "id_rsa"
    pins.key_pair(private, "engineer")
    first = private.read_bytes()
    pins.key_pair(private, "engineer")
    assert private.read_bytes() == first
    assert first.startswith(b"-----BEGIN RSA PRIVATE KEY-----")
    assert private.stat().st_mode & 0o077 == 0


def test_the_machine_goes_to_who_asks_when_the_former_lab_is_off(tmp_path, monkeypatch):
    monkeypatch.setattr(claim, "CLAIM", tmp_path / "claim")
    first, second = Estate(tmp_path / "one"), Estate(tmp_path / "two")
    claim.take(first)
    monkeypatch.setattr(claim, "alive", lambda estate: estate == first)
    with pytest.raises(Locked) as caught:
        claim.take(second)
    assert f"--state {tmp_path} lab down" in caught.value.hint
    monkeypatch.setattr(claim, "alive", lambda estate: False)
    claim.take(second)
    claim.drop(first)
    assert claim.holder() == second


def test_a_process_number_taken_by_another_program_is_no_node(tmp_path):
    here = Estate(tmp_path)
    home = here.node("hv1")
    home.mkdir(parents=True)
    (home / "pid").write_text("1")
    assert nodes_container.pid(here, lab_estate.named("hv1")) is None


def test_discs_made_of_other_inputs_are_not_taken_for_built(tmp_path):
    here = Estate(tmp_path)
    here.media.mkdir()
    for file in (*here.discs, here.fingerprint):
        file.touch()
    (here.media / "made-of").write_text(media.key())
    assert media.built(here)
    (here.media / "made-of").write_text("an older key")
    assert not media.built(here)


def test_what_the_base_tree_is_made_of_is_read_from_its_files(tmp_path, monkeypatch):
    before = nodes_tree.key()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/file").write_text("other")
    monkeypatch.setattr(nodes_tree, "FILES", tmp_path)
    assert nodes_tree.key() != before


def test_status_of_an_empty_directory_says_that_nothing_is_made(tmp_path):
    done = CliRunner().invoke(lab_commands.lab, ["status", "--json"], obj=State(tmp_path))
    told = json.loads(done.stdout)
    assert done.exit_code == 0
    assert told["media"]["built"] is False
    assert [node["made"] for node in told["nodes"]] == [False] * 3
    assert list(tmp_path.iterdir()) == []


def test_only_spare_nodes_can_be_made_and_destroyed_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(lab_commands.os, "geteuid", lambda: 0)
    done = CliRunner().invoke(lab_commands.lab, ["destroy", "hv1"], obj=State(tmp_path))
    assert "no spare node" in str(done.exception)


@pytest.fixture
def cables(monkeypatch) -> list[str]:
    """What was done to the network, which is the machine's and not this test's."""
    done: list[str] = []
    for name in ("plug", "unplug", "bridge", "drop_bridge"):
        monkeypatch.setattr(network, name, lambda *given, name=name: done.append(name))
    return done


def test_forgetting_nodes_empties_their_pool_too(tmp_path, monkeypatch, cables):
    monkeypatch.setattr(claim, "CLAIM", tmp_path / "claim")
    here = Estate(tmp_path / "lab")
    here.pool.mkdir(parents=True)
    (here.pool / "web1-sda.replica.raw").write_text("replica")
    nodes.forget(here)
    assert not here.pool.exists()
    assert cables == ["unplug"] * len(NODES)


def test_a_lab_that_does_not_have_the_machine_leaves_its_network_alone(
    tmp_path, monkeypatch, cables
):
    monkeypatch.setattr(claim, "CLAIM", tmp_path / "claim")
    (tmp_path / "claim").write_text("/srv/other/.state/lab\n")
    here = Estate(tmp_path / "lab")
    nodes.down(here)
    nodes.destroy(here, (*NODES, *SPARE))
    assert cables == []
