"""How sessions with other servers are opened: addresses in their order, TLS as the policy wants it, authentication."""

import asyncio
import itertools
import ssl
from dataclasses import replace
from typing import Any

import pytest

from daemons.certificates import Issued
from daemons.relay.connection import OpenError
from daemons.relay.routes import Credentials, Host, Source
from daemons.relay.tls_policy import TlsPolicy
from tests.daemons.relay.sessions import MESSAGE, PLAIN, SETTINGS, beside, host_of, limited, opened, to
from tests.internet.mx import mx_server


@pytest.fixture
def tls(certificate: Issued) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    return context


# -- addresses ----------------------------------------------------------------------------------------------------------


async def test_addresses_are_tried_in_their_order() -> None:
    """The first address that answers is taken, whatever comes behind it; the refusing ones are told."""
    async with mx_server(host="127.0.0.3") as third, beside(third, 4) as fourth:
        host = Host("mx.example.net", ("127.0.0.2", third.host, fourth.host), port=third.port, policy=PLAIN)
        connection = await opened(host)
        assert connection.address == third.host
        (failure,) = connection.failures
        assert (failure.address, failure.phase, str(failure.reply.enhanced)) == ("127.0.0.2", "connect", "4.4.1")
        assert failure.reply.lines == ("connection refused",)
        connection.close()
        assert fourth.sessions == 0


async def test_address_without_answer_costs_its_head_start_only() -> None:
    """While an address does not answer, the next one is tried beside it (RFC 8305 §5)."""
    async with mx_server() as mx:
        # 192.0.2.1 is nobody's: packets to it are dropped or refused, never answered.
        host = Host("mx.example.net", ("192.0.2.1", mx.host), port=mx.port, policy=PLAIN)
        async with asyncio.timeout(30):
            connection = await opened(host, settings=limited(connect_delay=0.05, connect_timeout=60))
        assert connection.address == mx.host
        connection.close()


async def test_next_host_is_tried() -> None:
    """A host that refuses to serve us is followed by the next one (RFC 5321 §5.1)."""
    async with (
        mx_server(faults={"GREETING": ["554 5.3.2 not today"]}) as first,
        beside(first, 2, faults={"EHLO": ["421 4.3.2 busy"]}) as second,
        beside(first, 3) as third,
    ):
        connection = await opened(first, second, third)
        assert connection.address == third.host
        told = [(failure.phase, failure.reply.code, failure.is_remote) for failure in connection.failures]
        assert told == [("greeting", 554, True), ("EHLO", 421, True)]
        connection.close()


async def test_no_host_at_all() -> None:
    """When nobody serves us the failures say why, and the most telling is what a server said."""
    async with mx_server(faults={"GREETING": ["421 4.3.2 busy"]}) as mx:
        nobody = Host("mx1.example.net", ("127.0.0.2",), port=mx.port, policy=PLAIN)
        nowhere = Host("mx2.example.net", (), port=mx.port, policy=PLAIN)
        with pytest.raises(OpenError) as raised:
            await opened(nobody, mx, nowhere)
    error = raised.value
    assert [str(failure.reply.enhanced) for failure in error.failures] == ["4.4.1", "4.3.2", "4.4.4"]
    assert error.telling.reply.code == 421


async def test_sessions_of_one_attempt_are_limited() -> None:
    """A destination with many servers that refuse us costs no more than the configured number of sessions."""
    async with mx_server(faults={"GREETING": itertools.repeat("554 5.3.2 no")}) as mx:
        hosts = [host_of(mx) for _ in range(10)]
        with pytest.raises(OpenError) as raised:
            await opened(*hosts)
        assert len(raised.value.failures) == mx.sessions == SETTINGS.session_limit


async def test_source_address_and_name() -> None:
    """A tenant's own address is where its connections come from, and its name is what EHLO says."""
    async with mx_server() as mx:
        connection = await opened(mx, source=Source(ipv4="127.0.0.9", hostname="tenant.example.test"))
        await connection.deliver(to("b@example.net"), MESSAGE)
        assert connection.local_address == "127.0.0.9"
        connection.close()
    assert mx.received[0].helo == "tenant.example.test"


# -- TLS ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["may", "encrypt", "verify"])
async def test_tls_is_taken_where_it_is_offered(mode: Any, tls: ssl.SSLContext, certificate: Issued) -> None:
    """STARTTLS is used by every policy but none, and what it came to is told."""
    policy = TlsPolicy(mode=mode, server_name="localhost", names=("localhost",), authority=str(certificate.authority))
    async with mx_server(tls=tls) as mx:
        connection = await opened(host_of(mx, policy=policy))
        (outcome,) = await connection.deliver(to("b@example.net"), MESSAGE)
        connection.close()
    assert outcome.state == "delivered"
    assert mx.received[0].tls == "TLSv1.3" == connection.tls.version
    assert (connection.tls.verified == "pkix") == (mode == "verify")


async def test_tls_from_the_start(tls: ssl.SSLContext) -> None:
    """A port that begins with TLS is spoken to in TLS from the first octet."""
    async with mx_server(tls=tls, starts_with_tls=True) as mx:
        connection = await opened(host_of(mx, policy=TlsPolicy(mode="encrypt", starts_with_tls=True)))
        await connection.deliver(to("b@example.net"), MESSAGE)
        connection.close()
    assert mx.received[0].tls == "TLSv1.3"


async def test_mail_goes_without_tls_where_it_may() -> None:
    """Opportunistic: no STARTTLS, or STARTTLS refused, is no reason not to deliver."""
    async with mx_server() as mx:
        connection = await opened(host_of(mx, policy=TlsPolicy(mode="may")))
        (outcome,) = await connection.deliver(to("b@example.net"), MESSAGE)
        assert (outcome.state, str(connection.tls)) == ("delivered", "")
        connection.close()


async def test_failed_handshake_is_tried_again_without_tls_where_it_may(tls: ssl.SSLContext) -> None:
    """A handshake that fails costs one more connection; the failure is kept for reports."""
    tls.minimum_version = tls.maximum_version = ssl.TLSVersion.TLSv1_2
    async with mx_server(tls=tls) as mx:
        connection = await opened(host_of(mx, policy=TlsPolicy(mode="may", minimum="TLSv1.3")))
        (outcome,) = await connection.deliver(to("b@example.net"), MESSAGE)
        assert (outcome.state, str(connection.tls), mx.sessions) == ("delivered", "", 2)
        assert [failure.phase for failure in connection.failures] == ["TLS"]
        assert connection.failures[0].tls is not None
        connection.close()


async def test_refused_starttls_goes_on_in_the_clear_where_it_may(tls: ssl.SSLContext) -> None:
    """A server that offers STARTTLS and refuses it is used in the same session."""
    async with mx_server(tls=tls, faults={"STARTTLS": ["454 4.7.0 not now"]}) as mx:
        connection = await opened(host_of(mx, policy=TlsPolicy(mode="may")))
        (outcome,) = await connection.deliver(to("b@example.net"), MESSAGE)
        assert (outcome.state, mx.sessions) == ("delivered", 1)
        connection.close()


@pytest.mark.parametrize("case", ["not offered", "refused", "old version", "wrong name", "unknown authority"])
async def test_mandatory_tls_is_never_gone_without(case: str, tls: ssl.SSLContext, certificate: Issued) -> None:
    """What must be encrypted or verified is not sent otherwise; the next host is tried."""
    policy = TlsPolicy(mode="verify", names=("localhost",), authority=str(certificate.authority))
    options: dict[str, Any] = {"tls": tls}
    if case == "not offered":
        options = {}
    elif case == "refused":
        options["faults"] = {"STARTTLS": ["454 4.7.0 not now"]}
    elif case == "old version":
        tls.minimum_version = tls.maximum_version = ssl.TLSVersion.TLSv1_2
        policy = replace(policy, minimum="TLSv1.3")
    elif case == "wrong name":
        policy = replace(policy, names=("mx.example.net",))
    else:
        policy = replace(policy, authority="")
    async with mx_server(**options) as mx:
        with pytest.raises(OpenError) as raised:
            await opened(host_of(mx, policy=policy))
        assert mx.verbs["MAIL"] == 0
    assert raised.value.telling.tls is not None
    assert raised.value.telling.reply.code // 100 == 4


async def test_requiretls_needs_a_server_that_promises_it(tls: ssl.SSLContext, certificate: Issued) -> None:
    """A host that does not announce REQUIRETLS is passed over; one that does gets the parameter."""
    policy = TlsPolicy(mode="verify", names=("localhost",), authority=str(certificate.authority), needs_requiretls=True)
    async with mx_server(tls=tls) as first, beside(first, tls=tls) as second:
        second.offers.add("REQUIRETLS")
        connection = await opened(host_of(first, policy=policy), host_of(second, policy=policy))
        assert [failure.reply.code for failure in connection.failures] == [550]
        (outcome,) = await connection.deliver(to("b@example.net", is_requiretls=True), MESSAGE)
        assert outcome.state == "delivered"
        connection.close()
    assert "REQUIRETLS" in second.received[0].mail_parameters


# -- authentication -----------------------------------------------------------------------------------------------------


async def test_smarthost_is_logged_in_to(tls: ssl.SSLContext) -> None:
    """With credentials the session authenticates before anything is sent."""
    policy = TlsPolicy(mode="encrypt")
    async with mx_server(tls=tls, logins={"user": "secret"}) as mx:
        connection = await opened(host_of(mx, policy=policy), credentials=Credentials("user", "secret"))
        await connection.deliver(to("b@example.net"), MESSAGE)
        connection.close()
        with pytest.raises(OpenError) as raised:
            await opened(host_of(mx, policy=policy), credentials=Credentials("user", "wrong"))
    assert mx.received[0].login == "user"
    (failure,) = raised.value.failures
    assert (failure.phase, failure.reply.code, failure.is_remote) == ("AUTH", 535, True)


async def test_password_is_never_told_in_the_clear() -> None:
    """Credentials and a server without TLS lead nowhere, whatever the policy."""
    async with mx_server(logins={"user": "secret"}) as mx:
        with pytest.raises(OpenError):
            await opened(host_of(mx, policy=TlsPolicy(mode="may")), credentials=Credentials("user", "secret"))
        assert mx.verbs["AUTH"] == 0
