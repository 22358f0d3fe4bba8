"""What must hold for a site's networks and addresses."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network

from core.rules import Outcome, Rule, Severity, failed, passed
from deploy.site import Network, Node, Role, Site

REHEARSAL = "br-rehearse"
Judge = Callable[[Site], Outcome | Iterable[Outcome]]
BLOCKER, WARNING = Severity.BLOCKER, Severity.WARNING


def repeated(names: Iterable[object]) -> Iterator[str]:
    """What stands there more than once."""
    return (str(name) for name, count in Counter(names).items() if count > 1)


def all_of(faults: Iterable[Outcome]) -> Outcome | tuple[Outcome, ...]:
    """The faults, or that there is none."""
    return tuple(faults) or passed()


def having(site: Site, role: Role) -> tuple[Node, ...]:
    """The nodes with a role."""
    return tuple(node for node in site.nodes if role in node.roles)


def rule(name: str, title: str, severity: Severity, remediation: str, judged: Judge) -> Rule[Site]:
    """A rule about sites."""
    return Rule(f"site.{name}", title, severity, remediation, judged)


def network_of(site: Site, address: IPv4Address) -> Network | None:
    """The network that ``address`` belongs to."""
    return next((network for network in site.networks if address in network.cidr), None)


def addresses_unique(site: Site) -> Outcome | Iterable[Outcome]:
    owners: list[tuple[IPv4Address | None, str]] = [
        (node.address, node.name) for node in site.nodes
    ]
    owners += [(network.gateway, f"gateway of {network.name}") for network in site.networks]
    owners += [(source.address, f"source {source.name}") for source in site.sources]
    if site.rehearsal_probe is not None:
        owners.append((site.rehearsal_probe.ip, "rehearsal_probe"))
    shared = repeated(address for address, _ in owners if address is not None)
    return all_of(
        failed(" and ".join(who for address, who in owners if str(address) == one), where=one)
        for one in shared
    )


def nodes_in_network(site: Site) -> Outcome | Iterable[Outcome]:
    return all_of(
        failed(f"{node.address} belongs to none of the site's networks", where=node.name)
        for node in site.nodes
        if network_of(site, node.address) is None
    )


def addresses_usable(site: Site) -> Outcome | Iterable[Outcome]:
    owners = [(node.name, node.address) for node in site.nodes]
    owners += [(net.name, net.gateway) for net in site.networks if net.gateway is not None]
    return all_of(
        failed(f"{address} is the address of the network itself or its broadcast", where=name)
        for name, address in owners
        for network in (network_of(site, address),)
        if network is not None and not usable(network.cidr, address)
    )


def usable(network: IPv4Network, address: IPv4Address) -> bool:
    """Whether a host may have ``address`` in ``network``."""
    if network.prefixlen >= 31:
        return True
    return address not in (network.network_address, network.broadcast_address)


def networks_apart(site: Site) -> Outcome | Iterable[Outcome]:
    pairs = [(one, two) for at, one in enumerate(site.networks) for two in site.networks[at + 1 :]]
    return all_of(
        failed(f"{one.cidr} and {two.cidr} overlap", where=f"{one.name}, {two.name}")
        for one, two in pairs
        if one.cidr.overlaps(two.cidr)
    )


def gateways_inside(site: Site) -> Outcome | Iterable[Outcome]:
    return all_of(
        failed(f"{network.gateway} is not in {network.cidr}", where=network.name)
        for network in site.networks
        if network.gateway is not None and network.gateway not in network.cidr
    )


def one_gateway(site: Site) -> Outcome:
    having = [network.name for network in site.networks if network.gateway is not None]
    return failed(", ".join(having)) if len(having) > 1 else passed()


def devices_once(site: Site) -> Outcome | Iterable[Outcome]:
    bridged = [network for network in site.networks if network.bridge is not None]
    faults = [f"device {name}" for name in repeated(network.device for network in bridged)]
    faults += [f"bridge {name}" for name in repeated(network.bridge for network in bridged)]
    faults += [
        f"{network.bridge} is a bridge and a device"
        for network in bridged
        if network.bridge in {other.device for other in site.networks}
    ]
    return all_of(failed(fault) for fault in faults)


def rehearsal_apart(site: Site) -> Outcome | Iterable[Outcome]:
    return all_of(
        failed(f"{network.name} has {REHEARSAL}", where=network.name)
        for network in site.networks
        if REHEARSAL in (network.bridge, network.device)
    )


def hypervisors_bridged(site: Site) -> Outcome | Iterable[Outcome]:
    return all_of(
        failed(f"{node.address} lies in a network without a bridge", where=node.name)
        for node in having(site, Role.HYPERVISOR)
        for network in (network_of(site, node.address),)
        if network is not None and network.bridge is None
    )


def targets_bridged(site: Site) -> Outcome | Iterable[Outcome]:
    bridges = {network.name: network.bridge for network in site.networks}
    return all_of(
        failed(f"{source.target.network} has no bridge", where=source.name)
        for source in site.sources
        if bridges.get(source.target.network, "") is None
    )


def sources_in_network(site: Site) -> Outcome | Iterable[Outcome]:
    cidrs = {network.name: network.cidr for network in site.networks}
    return all_of(
        failed(f"{source.address} is not in {cidrs[source.target.network]}", where=source.name)
        for source in site.sources
        if source.target.network in cidrs and source.address not in cidrs[source.target.network]
    )


def probe_in_network(site: Site) -> Outcome:
    probe = site.rehearsal_probe
    if probe is None:
        return passed("none")
    network = network_of(site, probe.ip)
    if network is None or not usable(network.cidr, probe.ip):
        return failed(f"{probe.ip} is no usable address of a network of the site")
    if probe.network != network.cidr:
        return failed(f"{probe} has another mask than {network.name}, {network.cidr}")
    return passed(str(probe))


RULES: tuple[Rule[Site], ...] = (
    rule(
        "addresses_unique",
        "No address has two owners",
        BLOCKER,
        "give one of them another address",
        addresses_unique,
    ),
    rule(
        "nodes_in_network",
        "Every node lies in a network of the site",
        BLOCKER,
        "correct the address, or add its network under `networks:`",
        nodes_in_network,
    ),
    rule(
        "addresses_usable",
        "Addresses are ones that hosts may have",
        BLOCKER,
        "choose an address between the first and the last of the network",
        addresses_usable,
    ),
    rule(
        "networks_apart",
        "Networks do not overlap",
        BLOCKER,
        "correct `cidr` of one of them",
        networks_apart,
    ),
    rule(
        "gateways_inside",
        "Gateways lie in their networks",
        BLOCKER,
        "correct `gateway` or `cidr`",
        gateways_inside,
    ),
    rule(
        "one_gateway",
        "One network has the way out",
        WARNING,
        "keep `gateway` in one network: a node with two default routes uses either",
        one_gateway,
    ),
    rule(
        "devices_once",
        "Every bridge has its own device",
        BLOCKER,
        "give each network its own `bridge` and `device`",
        devices_once,
    ),
    rule(
        "rehearsal_apart",
        "No network uses the rehearsal bridge",
        BLOCKER,
        f"{REHEARSAL} must lead nowhere: name the network's bridge otherwise",
        rehearsal_apart,
    ),
    rule(
        "hypervisors_bridged",
        "Hypervisors lie in a bridged network",
        BLOCKER,
        "set `bridge` of that network: domains are plugged into it",
        hypervisors_bridged,
    ),
    rule(
        "targets_bridged",
        "Target networks have bridges",
        BLOCKER,
        "set `bridge` of the network: the moved server is plugged into it",
        targets_bridged,
    ),
    rule(
        "sources_in_network",
        "Sources keep their addresses in the target network",
        BLOCKER,
        "choose the network of the server's address as its target",
        sources_in_network,
    ),
    rule(
        "probe_in_network",
        "The rehearsal's probe lies in a network",
        BLOCKER,
        "write a free address with the network's mask, such as 10.0.0.254/24",
        probe_in_network,
    ),
)
