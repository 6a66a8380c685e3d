"""Addresses that may be connected to, and those that must not."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.transport import Transport
from daemons.relay.reach import Reach, in_turn


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "9.9.9.9", "172.15.0.1", "193.0.0.1", "2606:4700::1111", "2a00:1450::1", "64:ff9b::101:101"]
)
def test_public_addresses(address: str) -> None:
    """Addresses of the public internet are allowed."""
    assert Reach(Transport()).allows(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",  # where clouds keep their secrets
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",  # 127.0.0.1, translated
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "2002:7f00:1::1",  # 127.0.0.1 by 6to4
        "2002:a00:1::",
        "2001::1",
        "2001:db8::1",
        "100::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fe80::1%lo",
        "fec0::1",
        "ff02::1",
        "no address",
        "",
    ],
)
def test_special_addresses(address: str) -> None:
    """Loopback, private, link-local and other special addresses are not, nor what hides one of them."""
    assert not Reach(Transport()).allows(address)


def test_configured_networks() -> None:
    """Networks that the configuration names are allowed, and only these."""
    reach = Reach(Transport(private_networks=["10.0.0.0/8", "fd00::/8", "127.0.0.2/32"]))
    assert all(map(reach.allows, ["10.1.2.3", "fd12::1", "127.0.0.2", "::ffff:10.1.2.3"]))
    assert not any(map(reach.allows, ["127.0.0.1", "192.168.0.1", "fc00::1", "::1"]))


@given(st.ip_addresses(v=4))
def test_mapped_addresses_count_as_what_they_are(address: object) -> None:
    """However an IPv4 address is written in IPv6, it is allowed or not as itself."""
    reach = Reach(Transport())
    assert reach.allows(f"::ffff:{address}") == reach.allows(str(address)) == reach.allows(f"64:ff9b::{address}")


def test_own_addresses() -> None:
    """An address that is configured to be ours is; the loopback and strange addresses are not."""
    reach = Reach(Transport(own_addresses=["198.51.100.7"]))
    assert reach.is_own("198.51.100.7")
    assert not reach.is_own("127.0.0.1")
    assert not reach.is_own("1.1.1.1")


def test_own_addresses_of_interfaces() -> None:
    """Addresses of this machine's interfaces are ours without being configured."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("there is no way out of this machine")
        own = probe.getsockname()[0]
    assert Reach(Transport()).is_own(own)


def test_families_in_turn() -> None:
    """The first family goes first, then they take turns."""
    assert in_turn(["a", "b", "c"], ["1"]) == ["a", "1", "b", "c"]
    assert in_turn([], ["1", "2"]) == ["1", "2"]
