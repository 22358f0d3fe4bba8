"""The two discs as their readers find them."""

import re
import subprocess

import pytest

from lab import media
from lab.catalogue import PACKAGES
from lab.estate import Estate

pytestmark = pytest.mark.lab


def told(*argv: str) -> str:
    done = subprocess.run(argv, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def inside(disc, path: str) -> str:
    return told("isoinfo", "-R", "-i", str(disc), "-x", path)


def listing(disc) -> set[str]:
    return set(told("isoinfo", "-R", "-f", "-i", str(disc)).split())


@pytest.fixture(scope="module")
def discs(estate: Estate):
    return estate.discs


def test_a_second_build_finds_nothing_to_do(estate: Estate):
    before = [disc.stat().st_mtime_ns for disc in estate.discs]
    media.build(estate, lambda event: pytest.fail(f"something was built: {event}"))
    assert [disc.stat().st_mtime_ns for disc in estate.discs] == before


def test_both_discs_carry_the_identity_of_release_6_3(discs):
    for disc in discs:
        said = told("isoinfo", "-d", "-i", str(disc))
        for field in (
            "System id: LINUX",
            "Volume id: CentOS_6.3_Final",
            "Publisher id: CentOS Project",
            "Data preparer id: CentOS",
            "Application id: CentOS_6.3_Final",
            "Joliet with UCS level 3 found",
            "Rock Ridge signatures version 1 found",
        ):
            assert field in said


def test_the_first_disc_starts_a_machine_and_the_second_does_not(discs):
    assert "El Torito VD version 1 found" in told("isoinfo", "-d", "-i", str(discs[0]))
    assert "El Torito" not in told("isoinfo", "-d", "-i", str(discs[1]))


def test_both_discs_carry_a_sum_of_themselves_that_holds(discs):
    for disc in discs:
        done = subprocess.run(["checkisomd5", str(disc)], text=True, capture_output=True)
        assert (done.returncode, "PASS" in done.stdout + done.stderr) == (0, True)


def test_each_disc_tells_its_number(discs):
    stamps = [inside(disc, "/.discinfo").splitlines() for disc in discs]
    assert stamps == [["1341569670.539525", "6.3", "x86_64", number] for number in "12"]


def test_only_the_first_disc_has_metadata_and_it_lists_both(discs):
    assert "/repodata/repomd.xml" in listing(discs[0])
    assert not [name for name in listing(discs[1]) if name.startswith("/repodata")]
    index = inside(discs[0], "/repodata/repomd.xml")
    assert index.count('xml:base="media://1341569670.539525#1"') == index.count("<data ")


def test_the_packages_of_the_catalogue_lie_on_their_discs(discs):
    for number, disc in enumerate(discs, 1):
        lying = {name for name in listing(disc) if name.endswith(".rpm")}
        assert lying == {f"/Packages/{p.nevra}.rpm" for p in PACKAGES if p.disc == number}


def test_every_package_is_signed_by_the_lab_as_the_catalogue_says(estate: Estate, tmp_path):
    keys = ("--dbpath", str(tmp_path))
    told("rpmkeys", *keys, "--import", str(estate.public_key))
    for package in PACKAGES:
        file = estate.packages / f"{package.nevra}.rpm"
        said = told("rpmkeys", *keys, "-Kv", str(file))
        found = set(re.findall(r"(V[34] RSA/SHA\d+) Signature, key ID \w+: OK", said))
        assert found == {package.signature.value}
        assert "NOT OK" not in said and "NOKEY" not in said


def test_payloads_are_packed_with_xz_as_on_el6(estate: Estate):
    files = [str(estate.packages / f"{package.nevra}.rpm") for package in PACKAGES]
    packed = told("rpm", "-qp", "--nosignature", "--qf", "%{PAYLOADCOMPRESSOR}\n", *files)
    assert set(packed.split()) == {"xz"}


def test_installing_from_the_first_disc_alone_can_not_work(estate: Estate):
    near = {package.name for package in PACKAGES if package.disc == 1}
    far = {package.name for package in PACKAGES if package.disc == 2}
    libvirt = next(package for package in PACKAGES if package.name == "libvirt")
    file = str(estate.packages / f"{libvirt.nevra}.rpm")
    needed = set(told("rpm", "-qp", "--nosignature", "--requires", file).split())
    assert needed & near
    assert needed & far
