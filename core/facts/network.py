"""Facts about the network, from /proc and /sys: interfaces, addresses, routes, sockets."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface

from core.facts.fact import Fact, Unreadable, clean, number, records, rows, word
from core.facts.machine import Interface, Listener

INTERFACES = """
test -d /sys/class/net || exit 3
for d in /sys/class/net/*; do
  n=${d##*/}; test -d $d || continue
  for k in address mtu type flags; do
    test -r $d/$k && printf '%s\\t%s\\t%s\\n' "$n" $k "`cat $d/$k 2>/dev/null`"
  done
  test -e $d/device/driver && printf '%s\\tdriver\\t%s\\n' "$n" "`readlink $d/device/driver`"
  test -d $d/bonding && printf '%s\\tkind\\tbond\\n' "$n"
  test -d $d/bridge && printf '%s\\tkind\\tbridge\\n' "$n"
  test -d $d/device && printf '%s\\thardware\\t1\\n' "$n"
  test -e /proc/net/vlan/$n && printf '%s\\tkind\\tvlan\\n' "$n"
done
exit 0
"""
SOCKETS = """
for f in tcp tcp6 udp udp6; do
  test -r /proc/net/$f && sed "1d; s/^/$f /" /proc/net/$f
done
exit 0
"""
OWNERS = "netstat -lntup 2>/dev/null || ss -lntup"
UP, ETHERNET = 1, "1"
ESTABLISHED, LISTEN, UDP_OPEN = "01", "0A", "07"


def _interfaces(text: str) -> tuple[Interface, ...]:
    found = tuple(
        Interface(
            name=name,
            mac=_mac(values.get("address", "")),
            mtu=number(values.get("mtu", "1500"), 2**20),
            up=bool(int(values.get("flags", "0x0"), 16) & UP),
            driver=clean(values.get("driver", "").rpartition("/")[2], 64),
            kind=values.get("kind", "hardware" if "hardware" in values else "virtual"),
        )
        for name, values in records(text).items()
        if values.get("type") == ETHERNET and _known(values.get("kind", ""))
    )
    if not found:
        raise Unreadable("no Ethernet interface is listed")
    return found


def _known(kind: str) -> bool:
    if kind not in ("", "bond", "bridge", "vlan"):
        raise Unreadable(f"{clean(kind)!r} is no kind of interface")
    return True


def _mac(text: str) -> str:
    if not re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", text.lower()):
        raise Unreadable(f"{clean(text)!r} is no MAC address")
    return text.lower()


def _addresses(text: str) -> dict[str, tuple[str, ...]]:
    """Interface → addresses with prefix, of `ip -o addr`."""
    found: dict[str, tuple[str, ...]] = {}
    for words in rows(text):
        if len(words) >= 4 and words[2] in ("inet", "inet6"):
            name = word(words[1].rstrip(":").split("@")[0])
            local = words[3] if "/" in words[3] else f"{words[3]}/32"  # a peer's address stands 5th
            found[name] = (*found.get(name, ()), str(ip_interface(local)))
    if not found:
        raise Unreadable("no address is listed")
    return found


def _gateway(text: str) -> str:
    for words in list(rows(text))[1:]:
        if len(words) < 8:
            raise Unreadable("a route has eight words or more")
        if words[1] == "00000000" and words[7] == "00000000" and int(words[3], 16) & 2:
            return _hex4(words[2])
    return ""


def _nameservers(text: str) -> tuple[str, ...]:
    return tuple(
        str(ip_address(words[1].split("%")[0]))
        for words in rows(text)
        if words[0] == "nameserver" and len(words) > 1
    )


def _sockets(text: str) -> tuple[tuple[Listener, ...], tuple[str, ...]]:
    """Listening sockets, and who is connected: ``address:port`` that this machine went to, or
    ``address -> port`` of those who came to a port of this one."""
    listeners: set[tuple[str, str, int]] = set()
    connections: set[tuple[int, str, int]] = set()
    for words in rows(text):
        if len(words) < 5:
            raise Unreadable("a socket has five words or more")
        protocol, local, remote, state = words[0], words[2], words[3], words[4]
        address, port = _end(local)
        if (protocol[:3], state) in (("tcp", LISTEN), ("udp", UDP_OPEN)):
            listeners.add((word(protocol), address, port))
        elif protocol.startswith("tcp") and state == ESTABLISHED:
            connections.add((port, *_end(remote)))
    served = {port for protocol, _, port in listeners if protocol.startswith("tcp")}
    named = (Listener(protocol=p, address=a, port=n) for p, a, n in sorted(listeners))
    peers = {
        f"{far} -> {port}" if port in served else f"{far}:{far_port}"
        for port, far, far_port in connections
        if not ip_address(far).is_loopback
    }
    return tuple(named), tuple(sorted(peers))


def _end(text: str) -> tuple[str, int]:
    address, _, port = text.partition(":")
    name = _hex4(address) if len(address) == 8 else _hex6(address)
    return name, int(port, 16) & 0xFFFF


def _hex4(text: str) -> str:
    return str(IPv4Address(bytes.fromhex(text)[::-1]))  # x86 writes its own byte order


def _hex6(text: str) -> str:
    raw = bytes.fromhex(text)
    address = IPv6Address(b"".join(raw[at : at + 4][::-1] for at in range(0, 16, 4)))
    return str(address.ipv4_mapped or address)


def _owners(text: str) -> dict[tuple[str, int], str]:
    """(tcp or udp, port) → program, from netstat's or ss's table."""
    found: dict[tuple[str, int], str] = {}
    for words in rows(text):
        protocol = words[0][:3]
        if protocol not in ("tcp", "udp") or len(words) < 6:
            continue
        local = words[4] if words[1].isalpha() else words[3]
        program = re.search(r'(?:\d+/|users:\(\(")([A-Za-z0-9_.+-]{1,64})', " ".join(words[5:]))
        if program:
            found[protocol, number(local.rpartition(":")[2], 65535)] = program[1]
    return found


interfaces = Fact("interfaces", "network interfaces", ("sh", "-c", INTERFACES), _interfaces)
addresses = Fact("addresses", "addresses of interfaces", ("ip", "-o", "addr", "show"), _addresses)
gateway = Fact("gateway", "default gateway", ("cat", "/proc/net/route"), _gateway)
nameservers = Fact("nameservers", "name servers", ("cat", "/etc/resolv.conf"), _nameservers)
sockets = Fact(
    "sockets",
    "listening sockets and connected peers",
    ("sh", "-c", SOCKETS),
    _sockets,
    limit=8 * 1024 * 1024,
)
owners = Fact("owners", "which program listens where", ("sh", "-c", OWNERS), _owners)
