"""The catalogue of the discs: what must hold before anything is built from it."""

import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from lab import groups, rpms
from lab.catalogue import BASE, LEFT_OUT, PACKAGES, Signature, carried

NAMES = {package.name for package in PACKAGES}
SCRIPTS = sorted(rpms.FILES.glob("*/root/etc/rc.d/init.d/*"))
NODE = Path("lab/node")


def test_every_package_has_a_name_of_its_own_and_a_file_of_its_own():
    assert len(NAMES) == len(PACKAGES) == len({package.nevra for package in PACKAGES})


def test_both_discs_and_both_forms_of_signature_are_used_by_many_packages():
    assert len(PACKAGES) >= 40
    for disc in (1, 2):
        assert sum(package.disc == disc for package in PACKAGES) >= 15
    for signature in Signature:
        assert sum(package.signature is signature for package in PACKAGES) >= 15


def test_no_debian_package_is_carried_twice_or_belongs_to_the_base_tree():
    assert len(carried()) == len(set(carried()))
    assert not set(carried()) & (set(BASE) | LEFT_OUT)


def test_what_packages_require_by_hand_lies_on_the_discs():
    assert {name for package in PACKAGES for name in package.requires} <= NAMES


def test_every_folder_of_files_belongs_to_a_package():
    assert {folder.name for folder in rpms.FILES.iterdir()} <= NAMES


def test_groups_name_only_packages_of_the_discs():
    named = {
        name
        for group in groups.GROUPS
        for name in (*group.mandatory, *group.default, *group.optional)
    }
    assert named <= NAMES


def test_the_comps_file_has_the_groups_that_a_cloud_is_installed_from():
    tree = ElementTree.fromstring(groups.comps())
    found = {group.findtext("id") for group in tree.iter("group")}
    assert found >= {
        *("core", "base", "virtualization", "virtualization-client", "virtualization-platform"),
        *("nfs-file-server", "mysql", "web-server", "storage-server"),
    }
    known = {ident for _, _, members in groups.CATEGORIES for ident in members}
    assert known <= found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_an_init_script_tells_chkconfig_and_systemd_the_same_name(script: Path):
    text = script.read_text()
    assert f"# Provides: {script.name}\n" in text
    levels, start, stop = text.split("# chkconfig: ")[1].split("\n")[0].split()
    assert levels == "-" or set(levels) <= set("0123456")
    assert 0 < int(start) < 100 and 0 < int(stop) < 100
    assert script.stat().st_mode & 0o111
    package = script.relative_to(rpms.FILES).parts[0]
    assert f"chkconfig --add {script.name}\n" in (rpms.FILES / package / "post").read_text()
    assert f"chkconfig --del {script.name}\n" in (rpms.FILES / package / "preun").read_text()


@pytest.mark.parametrize(
    "script",
    [*SCRIPTS, *NODE.rglob("init.d/*"), NODE / "usr/sbin/chkconfig"],
    ids=lambda path: path.name,
)
def test_a_shell_accepts_every_script(script: Path):
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True).stderr == b""


def test_the_network_script_counts_the_bits_of_a_mask():
    text = (NODE / "etc/rc.d/init.d/network").read_text()
    function = text[text.index("bits() {") : text.index("make_bridges()")]
    masks = {"255.255.255.0": "24", "255.255.240.0": "20", "255.255.255.255": "32", "0.0.0.0": "0"}
    for mask, bits in masks.items():
        done = subprocess.run(["bash", "-c", f"{function}\nbits {mask}"], capture_output=True)
        assert done.stdout.decode().strip() == bits
