"""Addresses, names and cards: what a domain keeps, and what it may collide with."""

from collections.abc import Iterable
from ipaddress import ip_address, ip_interface

from core.rules import Outcome, Rule, Severity, failed, passed
from migrate.rules.subject import Subject, each, needs, one


def own_addresses(subject: Subject) -> set[str]:
    """All addresses of the host, without prefix; loopback and link-local left out."""
    found = (ip_interface(a).ip for card in subject.host.interfaces for a in card.addresses)
    return {str(a) for a in found if not a.is_loopback and not a.is_link_local}


@needs("addresses", "interfaces")
def _outside(subject: Subject) -> Outcome:
    network = next(n for n in subject.site.networks if n.name == subject.target.network)
    v4 = [a for a in own_addresses(subject) if ip_address(a).version == 4]
    if any(ip_address(address) in network.cidr for address in v4):
        return passed(f"in {network.cidr}")
    return failed(
        f"{', '.join(sorted(v4)) or 'no address'}: none is in {network.name} {network.cidr}"
    )


@needs("addresses", "interfaces", "uname")
def _duplicate(subject: Subject) -> Iterable[Outcome]:
    """Whatever two machines of one site may not both have."""
    own, host = own_addresses(subject), subject.host
    macs = {card.mac for card in host.interfaces if card.mac and card.kind == "hardware"}
    taken: list[tuple[str, str]] = []
    for node in subject.site.nodes:
        if str(node.address) in own:
            taken.append((f"address {node.address}", f"node {node.name}"))
        if node.name in (host.name, host.hostname.split(".")[0]):
            taken.append((f"name {node.name}", f"node {node.name}"))
    for other in subject.others:
        theirs = {c.mac for c in other.interfaces if c.mac and c.kind == "hardware"}
        taken += [(f"MAC {mac}", f"server {other.name}") for mac in sorted(macs & theirs)]
        if other.address in own:
            taken.append((f"address {other.address}", f"server {other.name}"))
        if host.hostname and other.hostname == host.hostname:
            taken.append((f"host name {host.hostname}", f"server {other.name}"))
    return each(taken)


@needs("uname")
def _nameless(subject: Subject) -> Outcome:
    name = subject.host.hostname
    return failed(name) if name.split(".")[0] in ("localhost", "(none)", "") else passed(name)


@needs("addresses", "interfaces")
def _address(subject: Subject) -> Outcome:
    """Discovery by one address, and the host itself has another: address translation between."""
    seen = subject.host.address
    if seen in own_addresses(subject):
        return passed(seen)
    return failed(f"reached as {seen}, but its own are {', '.join(sorted(own_addresses(subject)))}")


@needs("interfaces")
def _layered(subject: Subject) -> Iterable[Outcome]:
    return each(
        (card.kind, card.name)
        for card in subject.host.interfaces
        if card.kind in ("bond", "vlan", "bridge")
    )


@needs("interfaces")
def _mtu(subject: Subject) -> Iterable[Outcome]:
    return each(
        (f"MTU {card.mtu}", card.name)
        for card in subject.host.interfaces
        if card.kind == "hardware" and card.up and card.mtu != 1500
    )


@needs("interfaces")
def _random_mac(subject: Subject) -> Outcome:
    """No card with a MAC, nothing to keep."""
    cards = [card for card in subject.host.interfaces if card.kind == "hardware" and card.mac]
    return passed(f"{len(cards)}") if cards else failed("no network card with a MAC address")


@needs("nameservers")
def _resolver(subject: Subject) -> Outcome:
    return one(a for a in subject.host.nameservers if ip_address(a).is_loopback)


RULES: tuple[Rule[Subject], ...] = (
    Rule(
        "network.address_outside_site",
        "Its address does not belong to the target network",
        Severity.WARNING,
        "Bring that network to the hypervisors (a bridge of its own in cloud.yml), or re-address "
        "the server and all who depend on it.",
        _outside,
    ),
    Rule(
        "network.duplicate_identity",
        "A name, MAC or address is taken by another machine of the site",
        Severity.BLOCKER,
        "Rename or re-address one of the two before the migration.",
        _duplicate,
    ),
    Rule(
        "network.nameless",
        "The server has no name of its own",
        Severity.WARNING,
        "Give it a host name, restart its services, and discover again.",
        _nameless,
    ),
    Rule(
        "network.translated",
        "The server is reached by an address it does not have",
        Severity.WARNING,
        "Find the device that translates addresses between; it must point to the domain after "
        "cutover.",
        _address,
    ),
    Rule(
        "network.layered",
        "Bonds, VLANs or bridges are configured",
        Severity.INFO,
        "Correct `nics` in plan.yml: one card per network, the redundancy lies in the hypervisor.",
        _layered,
    ),
    Rule(
        "network.mtu",
        "A card has an MTU of its own",
        Severity.INFO,
        "Give the hypervisor's bridge the same MTU, or set 1500 in the domain.",
        _mtu,
    ),
    Rule(
        "network.no_card",
        "No network card was found",
        Severity.BLOCKER,
        "Write its `nics` into plan.yml by hand with the MAC from the machine's label, and waive "
        "this.",
        _random_mac,
    ),
    Rule(
        "network.local_resolver",
        "It asks a name server of its own",
        Severity.INFO,
        "Check in the rehearsal that its name server starts before those who need it.",
        _resolver,
    ),
)
