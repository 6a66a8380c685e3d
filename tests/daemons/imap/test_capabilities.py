"""What the capability line says is tested: one test for each token, found by the name in its mark."""

import base64

from daemons.access.imap import capabilities
from tests.conftest import PASSWORD
from tests.daemons.imap.conftest import Service, mail
from tests.daemons.imap.conversation import Client
from tests.daemons.imap.proofs import proofs, proves, token_name


async def _advertised(client: Client) -> set[bytes]:
    (line,) = await client.ok(b"CAPABILITY")
    return set(line.removeprefix(b"* CAPABILITY ").split())


async def test_every_advertised_token_has_a_test(service: Service) -> None:
    """A token that is advertised in any state is the mark of a test in this directory."""
    async with await Client.connect(service.endpoints["imap"]) as client:
        advertised = await _advertised(client)
        await client.ok(b"STARTTLS")
        await client.start_tls(service.tls)
        advertised |= await _advertised(client)
        await client.login(service.person.login)
        advertised |= await _advertised(client)
    assert {token_name(token) for token in advertised} == proofs().keys()
    assert advertised >= {*capabilities.BEFORE_LOGIN, *capabilities.AFTER_LOGIN}


@proves(b"IMAP4rev1")
async def test_imap4rev1(service: Service) -> None:
    """A message that was delivered is listed, searched and read (RFC 3501)."""
    (uid,) = await service.deliver(mail("found"))
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        assert await client.ok(b"UID SEARCH SUBJECT found") == [b"* SEARCH %d" % uid]
        (line,) = await client.ok(b"UID FETCH %d BODY.PEEK[]" % uid)
        whole = b"Return-Path: <>\r\n" + mail("found")
        assert line == b"* 1 FETCH (UID %d BODY[] {%d}\r\n%b)" % (uid, len(whole), whole)


@proves(b"STARTTLS")
async def test_starttls(service: Service) -> None:
    """STARTTLS goes on in TLS, where what was said in the clear behind it counts nothing (CVE-2011-0411)."""
    async with await Client.connect(service.endpoints["imap"]) as client:
        client.write(b"a STARTTLS\r\nb LOGOUT\r\n")
        assert (await client.line()).startswith(b"a OK ")
        await client.start_tls(service.tls)
        offered = await _advertised(client)
        assert b"STARTTLS" not in offered
        assert b"AUTH=PLAIN" in offered


@proves(b"LOGINDISABLED")
async def test_logindisabled(service: Service) -> None:
    """Without TLS no password is taken, however right it is (RFC 3501 §6.2.3)."""
    async with await Client.connect(service.endpoints["imap"]) as client:
        assert b"LOGINDISABLED" in client.greeting
        *_, login = await client.command(f'LOGIN {service.person.login} "{PASSWORD}"'.encode())
        assert login.startswith(b"t NO [PRIVACYREQUIRED] ")
        *_, authenticate = await client.command(b"AUTHENTICATE PLAIN")
        assert authenticate.startswith(b"t NO [PRIVACYREQUIRED] ")


@proves(b"AUTH=PLAIN")
async def test_auth_plain(service: Service) -> None:
    """AUTHENTICATE PLAIN asks for the credentials and takes them (RFC 4616)."""
    async with await Client.connect(service.endpoints["imaps"], service.tls) as client:
        client.write(b"t AUTHENTICATE PLAIN\r\n")
        assert (await client.line()).startswith(b"+ ")
        client.write(base64.b64encode(f"\0{service.person.login}\0{PASSWORD}".encode()) + b"\r\n")
        assert (await client.line()).startswith(b"t OK ")


@proves(b"SASL-IR")
async def test_sasl_ir(service: Service) -> None:
    """AUTHENTICATE takes the initial response on its own line (RFC 4959)."""
    async with await Client.connect(service.endpoints["imaps"], service.tls) as client:
        given = base64.b64encode(f"\0{service.person.login}\0{PASSWORD}".encode())
        assert await client.ok(b"AUTHENTICATE PLAIN " + given) == []


@proves(b"LITERAL+")
async def test_literal_plus(service: Service) -> None:
    """A literal that does not wait is taken in any command (RFC 7888)."""
    async with await Client.connect(service.endpoints["imaps"], service.tls) as client:
        login = service.person.login.encode()
        given = b"{%d+}\r\n%b {%d+}\r\n%b" % (len(login), login, len(PASSWORD), PASSWORD.encode())
        assert await client.ok(b"LOGIN " + given) == []


@proves(b"ID")
async def test_id(service: Service) -> None:
    """ID answers with the product's name (RFC 2971)."""
    async with await service.client() as client:
        assert await client.ok(b'ID ("name" "test")') == [b'* ID ("name" "Postwerk")']


@proves(b"ENABLE")
async def test_enable(service: Service) -> None:
    """ENABLE tells what it enabled: of unknown extensions none (RFC 5161 §3.1)."""
    async with await service.client() as client:
        assert await client.ok(b"ENABLE X-UNKNOWN") == [b"* ENABLED"]


@proves(b"IDLE")
async def test_idle(service: Service) -> None:
    """During IDLE a new message is told without being asked for (RFC 2177)."""
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        client.write(b"t IDLE\r\n")
        assert (await client.line()).startswith(b"+ ")
        await service.deliver(mail())
        assert await client.line() == b"* 1 EXISTS"
        assert await client.line() == b"* 1 RECENT"
        client.write(b"DONE\r\n")
        assert (await client.line()).startswith(b"t OK ")


@proves(b"NAMESPACE")
async def test_namespace(service: Service) -> None:
    """There is one personal namespace, without a prefix, one of other persons and one of teams (RFC 2342)."""
    async with await service.client() as client:
        (line,) = await client.ok(b"NAMESPACE")
        assert line == b'* NAMESPACE (("" "/")) (("Other Users/" "/")) (("Shared/" "/"))'


@proves(b"CHILDREN")
async def test_children(service: Service) -> None:
    r"""LIST says \HasChildren and \HasNoChildren (RFC 3348)."""
    async with await service.client() as client:
        await client.ok(b"CREATE Work/Sub")
        assert await client.ok(b"LIST Work %") == [rb'* LIST (\HasChildren) "/" Work']
        assert await client.ok(b"LIST Work/ %") == [rb'* LIST (\HasNoChildren) "/" Work/Sub']


@proves(b"UNSELECT")
async def test_unselect(service: Service) -> None:
    r"""UNSELECT leaves the mailbox and its \Deleted messages (RFC 3691)."""
    await service.deliver(mail(), flags=r"\Deleted")
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        await client.ok(b"UNSELECT")
        assert await client.ok(b"STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 1)"]


@proves(b"UIDPLUS")
async def test_uidplus(service: Service) -> None:
    r"""APPENDUID, COPYUID, and UID EXPUNGE that spares other \Deleted messages (RFC 4315)."""
    async with await service.client() as client:
        *_, appended = await client.command(b"APPEND INBOX (\\Deleted) {6+}\r\nA: b\r\n")
        assert appended.startswith(b"t OK [APPENDUID ")
        assert appended.split()[4] == b"1]"
        await client.command(b"APPEND INBOX (\\Deleted) {6+}\r\nA: b\r\n")
        await client.ok(b"SELECT INBOX")
        *_, copied = await client.command(b"COPY 2 Trash")
        assert copied.startswith(b"t OK [COPYUID ")
        assert copied.split()[4:6] == [b"2", b"1]"]
        assert await client.ok(b"UID EXPUNGE 2") == [b"* 2 EXPUNGE"]
        assert await client.ok(b"UID SEARCH DELETED") == [b"* SEARCH 1"]


@proves(b"MOVE")
async def test_move(service: Service) -> None:
    """MOVE tells COPYUID before it tells the expunge (RFC 6851)."""
    await service.deliver(mail())
    async with await service.client() as client:
        await client.ok(b"SELECT INBOX")
        moved, expunged = await client.ok(b"MOVE 1 Trash")
        assert moved.startswith(b"* OK [COPYUID ")
        assert expunged == b"* 1 EXPUNGE"
        assert await client.ok(b"STATUS Trash (MESSAGES)") == [b"* STATUS Trash (MESSAGES 1)"]


@proves(b"SPECIAL-USE")
async def test_special_use(service: Service) -> None:
    """LIST names the special uses of a new account's mailboxes (RFC 6154 §2)."""
    async with await service.client() as client:
        lines = await client.ok(b"LIST '' *".replace(b"'", b'"'))
        uses = {line.rsplit(b" ", 1)[1]: line.split(b"\\")[-1].split(b")")[0] for line in lines}
        assert uses == {
            b"INBOX": b"HasNoChildren",
            b"Drafts": b"Drafts",
            b"Sent": b"Sent",
            b"Trash": b"Trash",
            b"Junk": b"Junk",
            b"Archive": b"Archive",
        }


@proves(b"CREATE-SPECIAL-USE")
async def test_create_special_use(service: Service) -> None:
    """CREATE gives a special use that no other mailbox has (RFC 6154 §3)."""
    async with await service.client() as client:
        *_, refused = await client.command(rb"CREATE Spam (USE (\Junk))")
        assert refused.startswith(b"t NO [USEATTR] ")
        await client.ok(b"DELETE Junk")
        await client.ok(rb"CREATE Spam (USE (\Junk))")
        assert await client.ok(b'LIST "" Spam') == [rb'* LIST (\HasNoChildren \Junk) "/" Spam']
