"""Which addresses we connect to for a caller: public ones, and networks that a setting names."""

from collections.abc import Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Written out, since what Python calls global differs from one of its releases to the next.
_NOT_PUBLIC: tuple[Network, ...] = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",  # multicast, reserved, broadcast
            "2001::/23",  # Teredo, ORCHID, benchmarks
            "2001:db8::/32",
            "2002::/16",  # 6to4
            "2620:4f:8000::/48",
            "3fff::/20",
        ),
    )
)
_PUBLIC_V6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
# Whatever is allowed: where clouds keep their credentials, and what is no host's address.
_NEVER: tuple[Network, ...] = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",
            "100.100.100.200/32",
            "168.63.129.16/32",
            "169.254.0.0/16",
            "192.0.0.192/32",
            "224.0.0.0/3",
            "::/128",
            "fd00:ec2::/32",
            "fe80::/10",
            "ff00::/8",
        ),
    )
)


def is_allowed(address: str, networks: Sequence[Network] = ()) -> bool:
    """Whether an address is public, or in one of the networks; never a cloud's metadata service."""
    try:
        return _allowed(ip_address(address.partition("%")[0]), networks)
    except ValueError:
        return False


def _allowed(address: Address, networks: Sequence[Network]) -> bool:
    if isinstance(address, IPv6Address) and (inner := _embedded(address)) is not None:
        return _allowed(inner, networks)
    if _within(address, _NEVER):
        return False
    if _within(address, networks):
        return True
    return not _within(address, _NOT_PUBLIC) and (address.version == 4 or address in _PUBLIC_V6)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The address that the connection would end at, of the forms whose use is current; the others are refused."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
