"""Each rule about a site fires on what it is for, and is silent about the golden site."""

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

import pytest

from core.rules import Answer, Severity
from deploy import bundle, rules
from deploy.addressing import usable
from tests.unit.deploy.bundles import CONTENT
from tests.unit.deploy.sites import Data, site

VARIABLES = bundle.variables(CONTENT)


def put(path: str, value: object) -> Callable[[Data], object]:
    def change(data: Data) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
        place: Any = data
        for part in parents:
            place = place[part]
        place[last] = value

    return change


BOTH, SECOND, STORE = "nodes/0", "nodes/1", "nodes/2"
FIRING: tuple[tuple[str, Callable[[Data], object], str], ...] = (
    ("names_unique", put(f"{SECOND}/name", "both"), "both is used twice"),
    ("names_unique", put("pools/1/name", "local"), "local is used twice"),
    ("names_free", put(f"{SECOND}/name", "hypervisor"), "has a meaning of its own"),
    ("names_free", put(f"{SECOND}/name", "all"), "has a meaning of its own"),
    ("roles_once", put(f"{STORE}/roles", ["storage", "storage"]), "storage is written twice"),
    ("addresses_unique", put(f"{SECOND}/address", "192.0.2.11"), "both and second"),
    ("addresses_unique", put(f"{SECOND}/address", "192.0.2.1"), "gateway of management"),
    ("addresses_unique", put("rehearsal_probe", "192.0.2.50/24"), "source old1"),
    ("nodes_in_network", put(f"{STORE}/address", "203.0.113.1"), "belongs to none"),
    ("addresses_usable", put(f"{STORE}/address", "198.51.100.127"), "its broadcast"),
    ("networks_apart", put("networks/1/cidr", "192.0.2.128/25"), "overlap"),
    ("gateways_inside", put("networks/0/gateway", "192.0.3.1"), "is not in"),
    ("one_gateway", put("networks/1/gateway", "198.51.100.1"), "management, backup"),
    ("devices_once", put("networks/1/bridge", "br0"), "bridge br0"),
    ("devices_once", put("networks/1/device", "br0"), "a bridge and a device"),
    ("rehearsal_apart", put("networks/0/bridge", "br-rehearse"), "has br-rehearse"),
    ("hypervisors_bridged", put("networks/0/bridge", None), "a network without a bridge"),
    ("has_management", put(f"{BOTH}/roles", ["hypervisor"]), "no node has it"),
    ("has_hypervisor", lambda data: [n.update(roles=["management"]) for n in data["nodes"]], "no"),
    ("has_two_hypervisors", put(f"{SECOND}/roles", ["storage"]), "one"),
    ("has_shared_pool", put("pools/1/shared", False), "none of local, shared"),
    ("pools_apart_from_system", put("pools/0/path", "/usr/local/images"), "overlaps /usr"),
    ("pools_apart_from_system", put("pools/0/path", "/var"), "overlaps /var/log"),
    ("pools_apart", put("pools/0/path", "/data/shared/local"), "overlap"),
    ("has_time", put("time/servers", []), "is empty"),
    ("time_from_management", put("time/servers", ["second"]), "none for management"),
    ("time_from_management", put("time/servers", ["192.0.2.12"]), "none for management"),
    ("sources_have_targets", put("sources/0/target/hypervisor", "store"), "no hypervisor store"),
    ("sources_have_targets", put("sources/0/target/pool", "x"), "no pool x"),
    ("sources_have_targets", put("sources/0/target/network", "x"), "no network x"),
    ("sources_have_targets", put("sources/0/group", "x"), "no traffic group x"),
    ("direct_by_both", put("sources/0/direct", True), "both does not say it"),
    ("targets_bridged", put("sources/0/target/network", "backup"), "backup has no bridge"),
    ("sources_in_network", put("sources/0/address", "203.0.113.50"), "is not in"),
    ("probe_in_network", put("rehearsal_probe", "203.0.113.1/24"), "no usable address"),
    ("probe_in_network", put("rehearsal_probe", "192.0.2.254/25"), "another mask"),
    ("mirror_of_release", put("release", "6.4"), "does not end in /centos/6.4"),
    ("variables_known", put("vars", {"base_firewal": True}), "a variable base_firewal"),
    ("variables_known", put(f"{SECOND}/vars", {"x": 1}), "a variable x"),
)


@pytest.mark.parametrize(("name", "change", "evidence"), FIRING)
def test_a_rule_fires(name: str, change: Callable[[Data], object], evidence: str) -> None:
    found = [
        finding
        for finding in rules.check(site(change), VARIABLES)
        if finding.rule == f"site.{name}" and finding.answer is Answer.FAIL
    ]
    assert any(evidence in finding.evidence for finding in found)
    assert all(finding.remediation for finding in found)


def test_all_rules_are_silent_about_the_golden_site() -> None:
    findings = rules.check(site(), VARIABLES)
    assert [finding for finding in findings if finding.answer is not Answer.PASS] == []


def test_every_rule_has_a_firing_case() -> None:
    asked = {finding.rule for finding in rules.check(site(), VARIABLES)}
    assert asked == {f"site.{name}" for name, _, _ in FIRING}


def test_rules_have_severities_an_engineer_can_work_with() -> None:
    warnings = {rule.id for rule in rules.RULES if rule.severity is Severity.WARNING}
    assert warnings == {
        "site.roles_once",
        "site.one_gateway",
        "site.has_two_hypervisors",
        "site.has_shared_pool",
        "site.has_time",
        "site.direct_by_both",
    }


def test_both_addresses_of_a_point_to_point_network_are_usable() -> None:
    network = site(put("networks/1/cidr", "198.51.100.2/31")).networks[1].cidr
    assert usable(network, IPv4Address("198.51.100.2"))
