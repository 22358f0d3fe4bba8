"""From Debian's layout to EL6's, and the spec files that follow from it."""

from pathlib import Path

import pytest

from lab import debs, rpms
from lab.catalogue import PACKAGES, Package
from lab.keyring import Keyring

RING = Keyring(Path("/nowhere"), Path("/nowhere"), "0" * 40)


def package(name: str) -> Package:
    return next(one for one in PACKAGES if one.name == name)


def lay(root: Path, *names: str) -> None:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def test_directories_that_are_links_on_a_node_are_merged_into_usr(tmp_path):
    lay(tmp_path, "lib/x86_64-linux-gnu/liba.so.1", "usr/lib/x86_64-linux-gnu/libb.so.1", "sbin/c")
    rpms._reshape(package("libaio"), tmp_path, RING)
    assert files(tmp_path) == [
        "usr/lib/x86_64-linux-gnu/liba.so.1",
        "usr/lib/x86_64-linux-gnu/libb.so.1",
        "usr/sbin/c",
    ]


def test_debian_s_ways_go_with_the_directories_that_held_nothing_else(tmp_path):
    lay(tmp_path, "etc/init.d/x", "lib/systemd/system/x.service", "usr/share/doc/x/copyright")
    lay(tmp_path, "usr/bin/x")
    rpms._reshape(package("libaio"), tmp_path, RING)
    assert files(tmp_path) == ["usr/bin/x"]
    assert not (tmp_path / "usr/share").exists()
    assert not (tmp_path / "etc").exists()


def test_an_empty_directory_that_software_expects_is_kept(tmp_path):
    (tmp_path / "var/lib/libvirt/boot").mkdir(parents=True)
    rpms._reshape(package("libaio"), tmp_path, RING)
    assert rpms._files(tmp_path) == ['%dir "/var/lib/libvirt/boot"']


def test_programs_move_to_where_el6_has_them(tmp_path):
    lay(tmp_path, "usr/bin/qemu-system-x86_64", "usr/bin/qemu-system-i386")
    (tmp_path / "usr/bin/kvm").symlink_to("qemu-system-x86_64")
    rpms._reshape(package("qemu-kvm"), tmp_path, RING)
    assert files(tmp_path) == ["usr/libexec/qemu-kvm"]


def test_configuration_is_kept_on_update_and_scripts_are_not():
    root = rpms.FILES / "ntp/root"
    listed = rpms._files(root)
    assert '%config(noreplace) "/etc/ntp.conf"' in listed
    assert '"/etc/rc.d/init.d/ntpd"' in listed


def test_the_minimal_host_provides_what_no_package_of_the_discs_is():
    provided = {text.split(" ")[0] for text in rpms._minimal(package("lab-minimal-host"))}
    assert {"bash", "glibc", "python", "openssh-server", "/bin/sh"} <= provided
    assert not provided & {one.name for one in PACKAGES}
    assert rpms._minimal(package("ntp")) == ()


def test_a_package_is_built_anew_when_a_file_or_a_link_laid_over_it_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(rpms, "FILES", tmp_path / "el6")
    (tmp_path / "minimal.txt").write_text("")
    lay(tmp_path / "el6/ntp/root", "etc/ntp.conf")
    link = tmp_path / "el6/ntp/root/usr/sbin/link"
    link.parent.mkdir(parents=True)
    link.symlink_to("a")
    keys = [rpms._key(package("ntp"), (), RING)]
    link.unlink()
    link.symlink_to("b")
    keys.append(rpms._key(package("ntp"), (), RING))
    (tmp_path / "el6/ntp/root/etc/ntp.conf").write_text("other")
    keys.append(rpms._key(package("ntp"), (), RING))
    (tmp_path / "el6/ntp/root/etc/ntp.conf").chmod(0o600)
    keys.append(rpms._key(package("ntp"), (), RING))
    assert len(set(keys)) == 4


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ("Depends: libc6 (>= 2.36), libaio1 | libaio2\nPre-Depends: adduser", ["libc6", "libaio1"]),
        ("Depends: libnl-3-200 (>= 3.2.7), perl:any", ["libnl-3-200", "perl"]),
        ("", []),
    ],
)
def test_of_alternatives_the_first_counts(tmp_path, monkeypatch, said: str, names: list[str]):
    (tmp_path / "x_1_amd64.deb").touch()
    monkeypatch.setattr(debs, "run", lambda argv: said)
    assert [name for name in debs._read("x", tmp_path).depends if name != "adduser"] == names
