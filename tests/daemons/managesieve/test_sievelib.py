"""sievelib, the client library for Python, through all that it can do."""

import asyncio

import pytest
from sievelib.managesieve import Client

from daemons.certificates import Issued
from tests.conftest import Person
from tests.daemons.managesieve.conftest import Stage

SCRIPT = 'require ["fileinto"];\nif header :contains "subject" "Grüße" {\n  fileinto "Grüße";\n}\n'


@pytest.fixture
def library(stage: Stage, certificate: Issued, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Its client, which trusts what the system trusts: for now our authority."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.authority))
    return Client("127.0.0.1", stage.port, srvhostname="localhost")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", None])
async def test_sievelib(library: Client, account: Person, mechanism: str | None) -> None:
    """It logs in behind STARTTLS, stores, lists, activates, reads, renames and deletes scripts, and reads our errors."""

    def work() -> None:
        assert library.connect(account.login, account.password, starttls=True, authmech=mechanism)
        assert library.get_implementation() == "Postwerk"
        assert "fileinto" in library.get_sieve_capabilities()
        assert not library.has_tls_support()
        assert library.havespace("first", len(SCRIPT))
        assert not library.havespace("first", 1 << 31)
        assert library.errcode == b"QUOTA/MAXSIZE"
        assert library.checkscript(SCRIPT)
        assert library.putscript("first", SCRIPT)
        assert library.putscript("my second one", "keep;")
        assert library.listscripts() == (None, ["first", "my second one"])
        assert library.setactive("first")
        assert library.listscripts() == ("first", ["my second one"])
        assert library.getscript("first") == SCRIPT.rstrip("\n")
        assert not library.deletescript("first")
        assert library.errcode == b"ACTIVE"
        assert library.renamescript("first", "third")
        assert library.setactive("")
        assert library.deletescript("third")
        assert not library.putscript("wrong", "keep;\nfrobnicate;\n")
        assert library.errmsg == b"line 2, column 1: unknown command 'frobnicate'"
        assert not library.putscript("wrong", "one;\ntwo;\n")
        assert library.errmsg.splitlines() == [
            b"line 1, column 1: unknown command 'one'",
            b"line 2, column 1: unknown command 'two'",
        ]
        assert library.listscripts() == (None, ["my second one"])
        library.logout()

    await asyncio.to_thread(work)


async def test_sievelib_with_a_wrong_password(library: Client, account: Person) -> None:
    """It is told that the login failed, and the connection goes on."""

    def work() -> None:
        assert not library.connect(account.login, "wrong", starttls=True, authmech="PLAIN")
        assert library.errmsg == b"authentication failed"
        library.logout()

    await asyncio.to_thread(work)
