"""Ways to domains, with a real name server: RFC 5321 §5.1, RFC 7505, DANE, MTA-STS, REQUIRETLS, routes of the configuration."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from config.routes import Route as Configured
from config.transport import Transport
from config.units import Seconds
from daemons.context import Context
from daemons.relay.routes import Credentials, Route, RouteError, Source
from daemons.relay.transport import TransportSecurity, open_transport
from storage import transport as stored
from tests.conftest import Owner, Person
from tests.internet.dns import NameServer, name_server

SENDER = "alice@example.test"


@pytest.fixture
async def names() -> AsyncIterator[NameServer]:
    """The name server, which knows example.net with two mail exchangers."""
    async with name_server() as server:
        server.add("example.net", "MX", "20 mx2.example.net.", "10 mx1.example.net.")
        server.add("mx1.example.net", "A", "1.1.1.1")
        server.add("mx1.example.net", "AAAA", "2606:4700::1")
        server.add("mx2.example.net", "A", "1.1.1.3")
        yield server


@asynccontextmanager
async def _opened(context: Context, names: NameServer, **settings: Any) -> AsyncIterator[TransportSecurity]:
    given: dict[str, Any] = {"resolvers": [names.address], "resolver_timeout": Seconds(10)}
    made = Transport(**given | settings)
    changed = replace(context, settings=msgspec.structs.replace(context.settings, transport=made))
    async with open_transport(changed) as transport:
        yield transport


async def _route(
    context: Context, names: NameServer, domain: str = "example.net", sender: str = SENDER, **options: Any
) -> Route:
    asked = {name: options.pop(name) for name in ("is_requiretls", "ignores_tls") if name in options}
    async with _opened(context, names, **options) as transport:
        return await transport.routes.of(domain, 1, sender, **asked)


async def _refusal(context: Context, names: NameServer, domain: str = "example.net", **options: Any) -> str:
    with pytest.raises(RouteError) as caught:
        await _route(context, names, domain, **options)
    assert caught.value.text
    assert caught.value.permanent is (str(caught.value.enhanced)[0] == "5")
    return str(caught.value.enhanced)


# ---------------------------------------------------------------- mail exchangers


async def test_exchangers_in_the_order_of_preference(context: Context, names: NameServer) -> None:
    """Hosts come by preference, with addresses of both families in turn, IPv6 first, and opportunistic TLS."""
    route = await _route(context, names)
    assert [(host.name, host.addresses, host.preference, host.port) for host in route.hosts] == [
        ("mx1.example.net", ("2606:4700::1", "1.1.1.1"), 10, 25),
        ("mx2.example.net", ("1.1.1.3",), 20, 25),
    ]
    assert {host.policy.mode for host in route.hosts} == {"may"}
    assert route.policy.server_name == "mx1.example.net"
    assert (route.domain, route.credentials, route.source, route.is_reported) == ("example.net", None, Source(), False)


async def test_equals_are_tried_in_random_order(context: Context, names: NameServer) -> None:
    """Hosts of one preference share the load; the route to them is the same one for reuse."""
    names.add("example.net", "MX", *(f"10 mx{number}.example.net." for number in range(1, 5)))
    for number in range(1, 5):
        names.add(f"mx{number}.example.net", "A", f"1.1.1.{number}")
    async with _opened(context, names) as transport:
        routes = [await transport.routes.of("example.net", 1, SENDER) for _ in range(40)]
    assert len({route.hosts[0].name for route in routes}) > 1
    assert len({route.key for route in routes}) == 1


async def test_routes_are_remembered_for_a_moment(context: Context, names: NameServer) -> None:
    """Many messages to a domain cost one look at it; hosts of another policy are no part of that."""
    names.add("example.net", "MX", "10 mx1.example.net.", ttl=0)
    names.secure("example.net")
    async with _opened(context, names) as transport:
        for _ in range(20):
            await transport.routes.of("example.net", 1, SENDER)
        assert names.asked["example.net", "MX"] == 1
        strict = await transport.routes.of("example.net", 1, SENDER, is_requiretls=True)
        assert strict.policy.mode == "verify"
        assert (await transport.routes.of("example.net", 1, SENDER)).policy.mode == "may"


async def test_limits_of_hosts_and_addresses(context: Context, names: NameServer) -> None:
    """No more hosts and addresses are tried than the configuration says, the best ones first."""
    names.add("mx1.example.net", "A", "1.1.1.1", "1.1.1.2", "1.1.1.4")
    route = await _route(context, names, host_limit=1, address_limit=2)
    (host,) = route.hosts
    assert (host.name, len(host.addresses), host.addresses[0]) == ("mx1.example.net", 2, "2606:4700::1")
    assert ("mx2.example.net", "A") not in names.asked


async def test_implicit_exchanger(context: Context, names: NameServer) -> None:
    """A domain with addresses and without MX records is its own mail exchanger (RFC 5321 §5.1)."""
    names.add("plain.example", "A", "1.1.1.9")
    route = await _route(context, names, "plain.example")
    assert [(host.name, host.addresses) for host in route.hosts] == [("plain.example", ("1.1.1.9",))]


async def test_no_implicit_exchanger_beside_records(context: Context, names: NameServer) -> None:
    """Where there are MX records the domain's own addresses do not count, even if no host has any (RFC 5321 §5.1)."""
    names.add("odd.example", "A", "1.1.1.9")
    names.add("odd.example", "MX", "10 nowhere.example.")
    assert await _refusal(context, names, "odd.example") == "5.4.4"


async def test_domain_that_is_a_cname(context: Context, names: NameServer) -> None:
    """An alias is followed to the mail exchangers of what it stands for."""
    names.add("alias.example", "CNAME", "example.net.")
    route = await _route(context, names, "alias.example")
    assert route.hosts[0].name == "mx1.example.net"


async def test_exchanger_that_is_a_cname(context: Context, names: NameServer) -> None:
    """An alias as mail exchanger breaks RFC 5321 §5.1, but is found, and taken."""
    names.add("odd.example", "MX", "10 mail.odd.example.")
    names.add("mail.odd.example", "CNAME", "mx2.example.net.")
    route = await _route(context, names, "odd.example")
    assert [(host.name, host.addresses) for host in route.hosts] == [("mail.odd.example", ("1.1.1.3",))]


async def test_circle_of_cnames(context: Context, names: NameServer) -> None:
    """A circle of aliases is no way now."""
    names.add("a.example", "CNAME", "b.example.")
    names.add("b.example", "CNAME", "a.example.")
    assert await _refusal(context, names, "a.example") == "4.4.3"


@pytest.mark.parametrize(
    ("domain", "records", "status"),
    [
        ("absent.example", {}, "5.1.2"),
        ("null.example", {"MX": ["0 ."]}, "5.1.10"),  # RFC 7505
        ("empty.example", {"TXT": ['"nothing"']}, "5.4.4"),
        ("a..example", {}, "5.1.2"),
        ("x" * 64 + ".example", {}, "5.1.2"),
    ],
)
async def test_no_way_for_good(
    context: Context, names: NameServer, domain: str, records: dict[str, list[str]], status: str
) -> None:
    """What does not exist, takes no mail or has no address is told at once."""
    for kind, texts in records.items():
        names.add(domain, kind, *texts)
    assert await _refusal(context, names, domain) == status


async def test_null_mx_among_others_is_left_out(context: Context, names: NameServer) -> None:
    """A null MX beside real ones is a mistake that costs nothing."""
    names.add("odd.example", "MX", "0 .", "10 mx2.example.net.")
    route = await _route(context, names, "odd.example")
    assert [host.name for host in route.hosts] == ["mx2.example.net"]


async def test_no_way_for_now(context: Context, names: NameServer) -> None:
    """What cannot be looked up now is tried later; a host that can be found is used meanwhile."""
    names.fail("mx1.example.net", "A")
    names.fail("mx1.example.net", "AAAA")
    route = await _route(context, names)
    assert [host.name for host in route.hosts] == ["mx2.example.net"]
    names.fail("mx2.example.net", "A")
    names.fail("mx2.example.net", "AAAA")
    assert await _refusal(context, names) == "4.4.3"
    names.fail("example.net", "MX")
    assert await _refusal(context, names) == "4.4.3"


async def test_one_family_is_enough(context: Context, names: NameServer) -> None:
    """A host whose IPv6 addresses cannot be looked up is reached by IPv4."""
    names.fail("mx1.example.net", "AAAA")
    route = await _route(context, names)
    assert route.hosts[0].addresses == ("1.1.1.1",)


# ---------------------------------------------------------------- circles and forbidden addresses


async def test_we_and_what_is_worse_are_left_out(context: Context, names: NameServer) -> None:
    """Of a list that we are in only what is better than us is used (RFC 5321 §5.1)."""
    names.add(
        "shared.example",
        "MX",
        "10 mx1.example.net.",
        "20 mail.example.test.",
        "20 mx2.example.net.",
        "30 mx2.example.net.",
    )
    route = await _route(context, names, "shared.example")
    assert [host.name for host in route.hosts] == ["mx1.example.net"]
    route = await _route(context, names, "shared.example", own_names=["mx1.example.org"])
    assert [host.name for host in route.hosts] == ["mx1.example.net"]
    assert await _refusal(context, names, "shared.example", own_names=["MX1.example.net."]) == "5.4.6"


async def test_our_addresses_are_we(context: Context, names: NameServer) -> None:
    """A host with an address of ours is us, whatever its name."""
    names.add("shared.example", "MX", "10 mx1.example.net.", "20 other.example.", "30 mx2.example.net.")
    names.add("other.example", "A", "1.1.1.77")
    route = await _route(context, names, "shared.example", own_addresses=["1.1.1.77"])
    assert [host.name for host in route.hosts] == ["mx1.example.net"]
    names.add("ours.example", "MX", "10 other.example.")
    assert await _refusal(context, names, "ours.example", own_addresses=["1.1.1.77"]) == "5.4.6"


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "::1", "fe80::1", "fd00::1"]
)
async def test_names_do_not_lead_into_our_network(context: Context, names: NameServer, address: str) -> None:
    """A mail exchanger inside is refused for good, as name and as address literal, unless its network is configured."""
    kind = "AAAA" if ":" in address else "A"
    names.add("evil.example", "MX", "10 inside.evil.example.")
    names.add("inside.evil.example", kind, address)
    literal = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
    assert await _refusal(context, names, "evil.example") == "5.4.4"
    assert await _refusal(context, names, literal) == "5.4.4"
    for domain in ("evil.example", literal):
        route = await _route(
            context, names, domain, private_networks=[f"{address}/64" if ":" in address else f"{address}/16"]
        )
        assert route.hosts[0].addresses == (address,)


async def test_forbidden_addresses_among_good_ones_are_left_out(context: Context, names: NameServer) -> None:
    """Of a host with addresses inside and outside only those outside are used."""
    names.add("mx1.example.net", "A", "127.0.0.1", "1.1.1.1", "10.0.0.1")
    route = await _route(context, names)
    assert route.hosts[0].addresses == ("2606:4700::1", "1.1.1.1")


@pytest.mark.parametrize(("literal", "address"), [("[1.1.1.1]", "1.1.1.1"), ("[ipv6:2606:4700::1]", "2606:4700::1")])
async def test_address_literals(context: Context, names: NameServer, literal: str, address: str) -> None:
    """An address literal is its own host, without a name to ask for."""
    route = await _route(context, names, literal)
    assert [(host.name, host.addresses, host.policy.server_name) for host in route.hosts] == [
        (literal, (address,), None)
    ]
    assert not names.asked


# ---------------------------------------------------------------- DANE


def _publish_tlsa(names: NameServer, name: str = "_25._tcp.mx1.example.net", text: str = "3 1 1 " + "ab" * 32) -> None:
    names.add(name, "TLSA", text)


async def test_dane_by_authentic_records(context: Context, names: NameServer) -> None:
    """A host with TLSA records gets a policy by them when all of the way to them is signed; each host its own."""
    _publish_tlsa(names)
    names.secure("example.net")
    route = await _route(context, names)
    first, second = route.hosts
    assert (first.policy.mode, first.policy.server_name) == ("dane", "mx1.example.net")
    assert first.policy.names == ("mx1.example.net", "example.net")
    assert [str(record) for record in first.policy.tlsa] == ["3 1 1 " + "ab" * 32]
    assert second.policy.mode == "may"


@pytest.mark.parametrize("unsigned", ["the domain", "the host", "the resolver"])
async def test_no_dane_without_signatures(context: Context, names: NameServer, unsigned: str) -> None:
    """An unsigned domain or host, or a resolver that is not trusted: TLSA records are not even asked for (RFC 7672 §2.2.1)."""
    names.add("example.net", "MX", "10 mx1.example.org.")
    names.add("mx1.example.org", "A", "1.1.1.1")
    _publish_tlsa(names, "_25._tcp.mx1.example.org")
    names.secure(
        *{"example.net", "example.org"} - {{"the domain": "example.net", "the host": "example.org"}.get(unsigned, "")}
    )
    trusted = "none" if unsigned == "the resolver" else "loopback"
    route = await _route(context, names, trusted_resolvers=trusted)
    assert route.policy.mode == "may"
    assert ("_25._tcp.mx1.example.org", "TLSA") not in names.asked


async def test_bogus_tlsa_records_make_a_host_unusable(context: Context, names: NameServer) -> None:
    """A host whose TLSA records cannot be had is not used; where it is the only one, mail waits (RFC 7672 §2.1.3)."""
    names.fail("_25._tcp.mx1.example.net", "TLSA")
    names.secure("example.net")
    route = await _route(context, names)
    assert [host.name for host in route.hosts] == ["mx2.example.net"]
    names.add("example.net", "MX", "10 mx1.example.net.")
    assert await _refusal(context, names) == "4.7.5"
    assert (await _route(context, names, dane=False)).policy.mode == "may"
    assert (await _route(context, names, ignores_tls=True)).policy.mode == "may"


async def test_tlsa_base_domain_of_an_alias(context: Context, names: NameServer) -> None:
    """TLSA records stand where aliases lead to, or else at the alias itself (RFC 7672 §2.2.2)."""
    names.add("example.net", "MX", "10 mail.example.net.")
    names.add("mail.example.net", "CNAME", "mx1.example.net.")
    names.secure("example.net")
    _publish_tlsa(names, "_25._tcp.mail.example.net", "3 1 1 " + "11" * 32)
    policy = (await _route(context, names)).policy
    assert (policy.server_name, policy.tlsa[0].association) == ("mail.example.net", b"\x11" * 32)
    _publish_tlsa(names)
    policy = (await _route(context, names)).policy
    assert (policy.server_name, policy.tlsa[0].association) == ("mx1.example.net", b"\xab" * 32)
    assert set(policy.names) == {"mx1.example.net", "mail.example.net", "example.net"}


async def test_tlsa_records_of_the_port(context: Context, names: NameServer) -> None:
    """TLSA records are those of the port that is connected to."""
    _publish_tlsa(names, "_2525._tcp.mx1.example.net")
    names.secure("example.net")
    route = await _route(context, names, port=2525)
    assert (route.hosts[0].port, route.policy.mode) == (2525, "dane")


# ---------------------------------------------------------------- REQUIRETLS


async def test_requiretls_without_a_proved_name(context: Context, names: NameServer) -> None:
    """A message that must stay in TLS is given back when nothing proves the names of the hosts (RFC 8689 §4.2.1)."""
    assert await _refusal(context, names, is_requiretls=True) == "5.7.10"
    assert await _refusal(context, names, "[1.1.1.1]", is_requiretls=True) == "5.7.10"


async def test_requiretls_by_dnssec(context: Context, names: NameServer) -> None:
    """With signed MX records the hosts have to show a certificate, and to promise the same."""
    names.secure("example.net")
    policy = (await _route(context, names, is_requiretls=True)).policy
    assert (policy.mode, policy.basis, policy.names) == ("verify", "requiretls", ("mx1.example.net",))
    assert policy.needs_requiretls


# ---------------------------------------------------------------- routes of the configuration


async def test_smarthost(context: Context, names: NameServer, tmp_path: Path) -> None:
    """Mail that a route fits goes to its host, wherever that is, with its login, port and TLS."""
    names.add("smart.example", "A", "10.0.0.25")
    password = tmp_path / "password"
    password.write_text("s3cret\n")
    smarthost = Configured(
        host="smart.example", port=587, tls="verify", authority="", login="postwerk", password_file=str(password)
    )
    route = await _route(context, names, routes=[smarthost])
    (host,) = route.hosts
    assert (host.name, host.addresses, host.port) == ("smart.example", ("10.0.0.25",), 587)
    assert (host.policy.mode, host.policy.names, host.policy.basis) == ("verify", ("smart.example",), "route")
    assert route.credentials == Credentials("postwerk", "s3cret")
    assert "s3cret" not in repr(route)
    password.unlink()
    assert await _refusal(context, names, routes=[smarthost]) == "4.3.5"


async def test_smarthost_with_tls_from_the_start(context: Context, names: NameServer) -> None:
    """A route to a port that begins with TLS goes to 465 unless it says otherwise, and may name the certificate's name."""
    smarthost = Configured(host="192.0.2.25", tls="verify", starts_with_tls=True, names=["mail.internal"])
    (host,) = (await _route(context, names, routes=[smarthost])).hosts
    assert (host.name, host.addresses, host.port) == ("192.0.2.25", ("192.0.2.25",), 465)
    assert (host.policy.starts_with_tls, host.policy.names) == (True, ("mail.internal",))


@pytest.mark.parametrize(
    ("domains", "senders", "fits"),
    [
        ([], [], True),
        (["example.net"], [], True),
        (["EXAMPLE.net"], [], True),
        (["*"], [], True),
        ([".net"], [], True),
        ([".example.net"], [], False),
        (["example.org"], [], False),
        ([], ["alice@example.test"], True),
        ([], ["@example.test"], True),
        ([], ["bob@example.test"], False),
        ([], ["@test"], False),
        ([], ["<>"], False),
        (["example.net"], ["@example.org"], False),
    ],
)
async def test_which_mail_a_route_fits(
    context: Context, names: NameServer, domains: list[str], senders: list[str], fits: bool
) -> None:
    """A route fits by the recipient's domain and by the sender; the first that fits is taken."""
    routes = [
        Configured(domains=domains, senders=senders, host="192.0.2.1"),
        Configured(host="192.0.2.2"),
    ]
    route = await _route(context, names, routes=routes)
    assert route.hosts[0].addresses == (("192.0.2.1",) if fits else ("192.0.2.2",))


async def test_route_of_the_null_sender(context: Context, names: NameServer) -> None:
    """Reports, which have no sender, can have a route of their own."""
    routes = [Configured(senders=["<>"], host="192.0.2.1")]
    assert (await _route(context, names, sender="", routes=routes)).hosts[0].addresses == ("192.0.2.1",)
    assert (await _route(context, names, routes=routes)).hosts[0].name == "mx1.example.net"


async def test_route_to_a_domain(context: Context, names: NameServer) -> None:
    """A route can lead to the mail exchangers of another domain."""
    routes = [Configured(domains=["other.example"], host="example.net", is_domain=True)]
    route = await _route(context, names, "other.example", routes=routes)
    assert [host.name for host in route.hosts] == ["mx1.example.net", "mx2.example.net"]
    assert route.domain == "other.example"


async def test_route_that_only_asks_for_more(context: Context, names: NameServer) -> None:
    """A route without a host changes what the domain's own hosts must show; TLSA records decide all the same."""
    routes = [Configured(domains=["example.net"], tls="encrypt")]
    assert (await _route(context, names, routes=routes)).policy.mode == "encrypt"
    names.secure("example.net")
    _publish_tlsa(names)
    assert (await _route(context, names, routes=routes)).policy.mode == "dane"
    routes = [Configured(domains=["example.net"], tls="none")]
    assert (await _route(context, names, routes=routes)).policy.mode == "none"


async def test_smarthost_and_requiretls(context: Context, names: NameServer) -> None:
    """Our own configuration proves a smarthost's name; its certificate is asked for, and that it goes on in TLS."""
    routes = [Configured(host="192.0.2.25", tls="encrypt", names=["smart.example"])]
    policy = (await _route(context, names, routes=routes, is_requiretls=True)).policy
    assert (policy.mode, policy.names, policy.needs_requiretls) == ("verify", ("smart.example",), True)
    routes = [Configured(host="192.0.2.25", tls="none")]
    assert await _refusal(context, names, routes=routes, is_requiretls=True) == "5.7.10"


# ---------------------------------------------------------------- sources of tenants


async def test_source_of_a_tenant(context: Context, names: NameServer, owner: Owner, account: Person) -> None:
    """Mail of a tenant with addresses of its own comes from there; that of others as the system has it."""
    await stored.set_source(owner, "example", ipv4="192.0.2.7", ipv6="2001:db8::7", hostname="mail.customer.example")
    async with _opened(context, names) as transport:
        route = await transport.routes.of("example.net", account.tenant_id, SENDER)
        other = await transport.routes.of("example.net", account.tenant_id + 1, SENDER)
    assert route.source == Source("192.0.2.7", "2001:db8::7", "mail.customer.example")
    assert other.source == Source()
    assert route.key != other.key
