"""The site that the tests of deploy begin with, and how to say what differs."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from core.documents import parse
from deploy.site import Site

CLOUD = Path("tests/golden/inventory/cloud.yml")
Data = dict[str, Any]


def data() -> Data:
    loaded: Data = copy.deepcopy(yaml.safe_load(CLOUD.read_text()))
    return loaded


def site(change: Callable[[Data], object] = lambda _: None) -> Site:
    """The golden site after ``change`` was made to it."""
    changed = data()
    change(changed)
    return parse(yaml.safe_dump(changed).encode(), Site, "cloud.yml")


ROOT_HASH = "$6$Zm9vYmFy$" + "A" * 86
PUBLIC_KEY = "ssh-rsa " + "B" * 372 + " site@laptop"
# A site whose machines are bare: its addresses lie in 192.0.2.0/24, the controller is 192.0.2.1.
INSTALLING = """version: 1
site: harbour
mirror: {url: "http://192.0.2.1:8077/centos/6.3/os/x86_64/"}
ssh: {key: keys/id_rsa, known_hosts: keys/known_hosts}
install: {root_password: keys/root_hash}
networks:
  - {name: management, cidr: 192.0.2.0/24, gateway: 192.0.2.1, bridge: br0}
nodes:
  - {name: mgmt1, address: 192.0.2.11, roles: [management, storage], mac: "52:54:00:99:00:11"}
  - {name: hv1, address: 192.0.2.21, roles: [hypervisor], mac: "52:54:00:99:00:21",
     disk: cciss/c0d0, disk_gib: 136}
  - {name: hv2, address: 192.0.2.22, roles: [hypervisor]}
pools: [{name: local, path: /var/lib/libvirt/local}]
sources:
  - name: old1
    address: 192.0.2.50
    mac: "52:54:00:99:00:50"
    target: {hypervisor: hv1, pool: local, network: management}
"""


def installing(change: Callable[[Data], object] = lambda _: None) -> Site:
    """The site of bare machines after ``change`` was made to it."""
    changed: Data = yaml.safe_load(INSTALLING)
    change(changed)
    return parse(yaml.safe_dump(changed).encode(), Site, "cloud.yml")
