"""Which addresses may be called: no name may lead inside, whatever form the address has."""

from ipaddress import IPv4Address, ip_network

import pytest

from ocrfleet.addresses import is_allowed

UNSPECIFIED = str(IPv4Address(0))
INSIDE = [
    UNSPECIFIED, "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.1.2.3", "169.254.169.254",
    "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1",
    "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "100.100.100.200", "168.63.129.16", "::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254",
    "fd12:3456::1", "ff02::1", "2001:db8::1", "100::1", "5f00::1",
]  # fmt: skip
EMBEDDED = [
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1", "::127.0.0.1",
    "2002:7f00:1::1", "2002:0a00:0001::", "2001:0:5ef5:79fd::1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254",
    "64:ff9b:1::1", "64:ff9b:1::8.8.8.8",
]  # fmt: skip
NONSENSE = ["", "localhost", "127.1", "0x7f000001", "2130706433", "1.2.3", "1.2.3.4.5", "::g"]
PUBLIC = ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450:4001::1"]
PUBLIC += ["::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]


@pytest.mark.parametrize("address", INSIDE + EMBEDDED + NONSENSE)
def test_no_address_inside_is_called(address: str) -> None:
    assert not is_allowed(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_ones_are(address: str) -> None:
    assert is_allowed(address)


def test_networks_that_a_setting_names_are_called_in_every_form() -> None:
    networks = (ip_network("10.1.0.0/16"), ip_network("fd12::/16"))
    assert all(is_allowed(one, networks) for one in ("10.1.2.3", "::ffff:10.1.2.3", "fd12::9", "8.8.8.8"))
    assert not any(is_allowed(one, networks) for one in ("10.2.0.1", "::ffff:10.2.0.1", "fd13::9"))


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "::ffff:169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254",
                "fe80::1", "224.0.0.1", UNSPECIFIED, "::", "ff02::1"],
)  # fmt: skip
def test_a_clouds_metadata_is_never_called(address: str) -> None:
    assert not is_allowed(address, (ip_network("0.0.0.0/0"), ip_network("::/0")))
