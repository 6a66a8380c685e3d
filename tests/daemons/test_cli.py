"""The command line: what administrators add, list, show and remove, and how it says that something is wrong."""

import asyncio
import fcntl
import io
import json
import os
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
from argon2 import PasswordHasher

from bench.suite import POSTWERK
from config.loader import dump, parse
from config.settings import Settings
from daemons.authentication.passwords import app_password_digest
from daemons.cli import main
from daemons.cli.common import size
from protocol import sasl

Postwerk = Callable[..., str]


class Ended(Exception):
    """A command ended with an exit code that is not 0."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(f"{code}: {said}")
        self.code = code
        self.said = said


@pytest.fixture
def configuration(settings: Settings, state: Path) -> Path:
    """A configuration file of the test's settings."""
    path = state / "postwerk.toml"
    path.write_text(dump(settings))
    return path


@pytest.fixture
def postwerk(
    configuration: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Run a command with this configuration; gives what it prints, raises Ended when it fails."""

    def run(*arguments: str, stdin: str = "") -> str:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main.main([*arguments, "--config", str(configuration)])
        said = capsys.readouterr()
        if ended.value.code != 0:
            assert isinstance(ended.value.code, int)
            raise Ended(ended.value.code, said.err)
        return said.out

    return run


@pytest.fixture
def populated(postwerk: Postwerk) -> Postwerk:
    """The same, with a tenant, a domain and an account."""
    postwerk("tenant", "add", "example", "--quota", "10G")
    postwerk("domain", "add", "Example.Test")
    postwerk("account", "add", "alice@example.test", "--quota", "1G", "--password-stdin", stdin="secret\n")
    return postwerk


def test_tenants(postwerk: Postwerk) -> None:
    """Tenants are added, listed, shown and removed; a second one of the same name is refused."""
    assert json.loads(postwerk("tenant", "list", "--json")) == []
    postwerk("tenant", "add", "example", "--quota", "10G")
    (row,) = json.loads(postwerk("tenant", "show", "example", "--json"))
    assert (row["name"], row["quota_octets"], row["accounts"]) == ("example", 10 << 30, 0)
    assert "10 GiB" in postwerk("tenant", "list")
    with pytest.raises(Ended, match="exists already") as refused:
        postwerk("tenant", "add", "example")
    assert refused.value.code == os.EX_CANTCREAT
    postwerk("tenant", "remove", "example", "--yes")
    with pytest.raises(Ended, match="no tenant example") as missing:
        postwerk("tenant", "show", "example")
    assert missing.value.code == os.EX_NOUSER


def test_language_of_a_tenant(postwerk: Postwerk, settings: Settings) -> None:
    """What is written to a tenant's people is German until it is said otherwise; other languages there are not."""

    async def language() -> object:
        connection = await asyncpg.connect(settings.database.dsn)
        found = await connection.fetchval("SELECT language FROM tenant WHERE name = 'example'")
        await connection.close()
        return found

    postwerk("tenant", "add", "example")
    assert asyncio.run(language()) == "de"
    postwerk("tenant", "language", "example", "en")
    assert asyncio.run(language()) == "en"
    with pytest.raises(Ended, match="not one of"):
        postwerk("tenant", "language", "example", "fr")
    with pytest.raises(Ended, match="no tenant nobody"):
        postwerk("tenant", "language", "nobody", "de")


def test_antivirus_of_a_tenant(postwerk: Postwerk) -> None:
    """What becomes of a tenant's infected mail is as configured until it chooses, and again when it says so."""
    postwerk("tenant", "add", "example")
    assert postwerk("tenant", "antivirus", "example") == "reject, as configured\n"
    assert postwerk("tenant", "antivirus", "example", "strip") == "strip\n"
    assert postwerk("tenant", "antivirus", "example") == "strip\n"
    assert postwerk("tenant", "antivirus", "example", "default") == "reject, as configured\n"
    with pytest.raises(Ended, match="not one of"):
        postwerk("tenant", "antivirus", "example", "burn")
    for action in ((), ("strip",)):
        with pytest.raises(Ended, match="no tenant nobody"):
            postwerk("tenant", "antivirus", "nobody", *action)


def test_domains(postwerk: Postwerk) -> None:
    """A domain belongs to the only tenant, or to the one that is named; it is stored in lower case."""
    with pytest.raises(Ended, match="no tenant yet"):
        postwerk("domain", "add", "example.test")
    postwerk("tenant", "add", "one")
    postwerk("domain", "add", "Example.TEST")
    postwerk("tenant", "add", "two")
    with pytest.raises(Ended, match="which tenant"):
        postwerk("domain", "add", "example.org")
    postwerk("domain", "add", "example.org", "--tenant", "two")
    rows = json.loads(postwerk("domain", "list", "--json"))
    assert [(row["name"], row["tenant"]) for row in rows] == [("example.org", "two"), ("example.test", "one")]
    assert [row["name"] for row in json.loads(postwerk("domain", "list", "--tenant", "one", "--json"))] == [
        "example.test"
    ]
    postwerk("domain", "remove", "example.org", "--yes")
    with pytest.raises(Ended, match=r"no domain example\.org"):
        postwerk("domain", "show", "example.org")
    with pytest.raises(Ended, match="is not a domain"):
        postwerk("domain", "add", "a..b", "--tenant", "one")


def test_accounts(populated: Postwerk) -> None:
    """An account is added with its address and quota, listed, shown and removed."""
    (row,) = json.loads(populated("account", "show", "Alice@example.test", "--json"))
    assert (row["login"], row["tenant"], row["quota_octets"]) == ("alice@example.test", "example", 1 << 30)
    assert "1 GiB" in populated("account", "list")
    assert len(populated("account", "add", "bob@example.test", "--generate").strip()) == 20
    assert len(json.loads(populated("account", "list", "--json"))) == 2
    populated("account", "remove", "bob@example.test", "--yes")
    with pytest.raises(Ended, match=r"no account bob@example\.test") as missing:
        populated("account", "show", "bob@example.test")
    assert missing.value.code == os.EX_NOUSER


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["account", "add", "alice@example.test", "--generate"], os.EX_CANTCREAT, "exists already"),
        (["account", "add", "x@elsewhere.test", "--generate"], os.EX_NOUSER, "no domain elsewhere.test"),
        (["account", "add", "nonsense", "--generate"], os.EX_DATAERR, "nonsense is not an address"),
        (["account", "add", "x@example.test"], os.EX_USAGE, "give --password-stdin or --generate"),
        (["account", "add", "x@example.test", "--password-stdin"], os.EX_DATAERR, "the password is empty"),
        (["account", "add", "x@example.test", "--generate", "--password-stdin"], os.EX_USAGE, "exclude each other"),
        (["account", "add", "x@example.test", "--quota", "1X"], os.EX_USAGE, "unknown unit 'X'"),
        (["account", "add", "x@example.test", "--tenant", "y", "--generate"], os.EX_NOUSER, "not a domain of y"),
        (["account", "passwd", "x@example.test", "--generate"], os.EX_NOUSER, "no account x@example.test"),
        (["account", "remove", "x@example.test", "--yes"], os.EX_NOUSER, "no account x@example.test"),
        (["account", "remove", "alice@example.test"], os.EX_USAGE, "--yes"),
        (["account", "nonsense"], os.EX_USAGE, "No such command 'nonsense'"),
        (["address", "add", "info@example.test", "x@example.test"], os.EX_NOUSER, "no account x@example.test"),
        (["address", "add", "alice@example.test", "alice@example.test"], os.EX_CANTCREAT, "exists already"),
        (["address", "remove", "x@example.test"], os.EX_NOUSER, "no address x@example.test"),
        (["address", "forward", "x@elsewhere.test", "y@example.net"], os.EX_NOUSER, "none of ours"),
        (["address", "forward", "x@example.test", "X@Example.Test"], os.EX_DATAERR, "would forward to itself"),
        (["address", "forward", "x@example.test", "nonsense"], os.EX_DATAERR, "nonsense is not an address"),
        (["address", "unforward", "x@example.test"], os.EX_NOUSER, "x@example.test does not forward"),
        (["tenant", "remove", "example", "--yes"], os.EX_CANTCREAT, "still in use"),
    ],
)
def test_errors_are_one_line(populated: Postwerk, arguments: list[str], code: int, complaint: str) -> None:
    """What cannot be done is said in one clear line on standard error, with an exit code of sysexits.h."""
    with pytest.raises(Ended) as ended:
        populated(*arguments)
    assert ended.value.code == code
    assert ended.value.said.startswith("postwerk: ")
    assert ended.value.said.count("\n") == 1
    assert complaint in ended.value.said


def test_addresses(populated: Postwerk) -> None:
    """An account gets more addresses, a catch-all among them."""
    populated("address", "add", "info@example.test", "alice@example.test")
    populated("address", "add", "@example.test", "alice@example.test")
    rows = json.loads(populated("address", "list", "--account", "alice@example.test", "--json"))
    assert [row["address"] for row in rows] == ["@example.test", "alice@example.test", "info@example.test"]
    assert json.loads(populated("address", "show", "info@example.test", "--json"))[0]["login"] == "alice@example.test"
    populated("address", "remove", "info@example.test")
    assert len(json.loads(populated("address", "list", "--json"))) == 2


def test_addresses_that_forward(populated: Postwerk) -> None:
    """An address forwards to others, of nobody's account or of one that keeps a copy or not, until that is ended."""
    populated("address", "forward", "Sales@example.test", "x@example.net", "y@example.net", "x@example.net")
    populated("address", "forward", "alice@example.test", "z@example.net")
    populated("address", "forward", "alice@example.test", "alice@example.net", "--no-keep")
    assert json.loads(populated("address", "forwards", "--json")) == [
        {
            "address": "alice@example.test",
            "forward_paths": ["alice@example.net"],
            "keeps": False,
            "login": "alice@example.test",
        },
        {
            "address": "sales@example.test",
            "forward_paths": ["x@example.net", "y@example.net"],
            "keeps": True,
            "login": None,
        },
    ]
    assert "x@example.net y@example.net" in populated("address", "forwards")
    populated("address", "unforward", "alice@example.test")
    populated("address", "remove", "sales@example.test")
    assert json.loads(populated("address", "forwards", "--json")) == []
    assert len(json.loads(populated("address", "list", "--json"))) == 1


def test_pop3_policies(populated: Postwerk) -> None:
    """Rules of POP3 for one account are set, listed and given up; what makes none is refused."""
    assert json.loads(populated("pop3", "list", "--json")) == []
    populated("pop3", "set", "alice@example.test", "--login-delay", "5 min", "--expire-days", "30")
    populated("pop3", "set", "alice@example.test", "--login-delay", "60")
    (row,) = json.loads(populated("pop3", "list", "--json"))
    assert row == {"login": "alice@example.test", "login_delay_seconds": 60, "expire_days": None}
    populated("pop3", "reset", "alice@example.test")
    for arguments, code in (
        (("reset", "alice@example.test"), os.EX_NOUSER),
        (("set", "nobody@example.test", "--expire-days", "1"), os.EX_NOUSER),
        (("set", "alice@example.test"), os.EX_USAGE),
        (("set", "alice@example.test", "--login-delay", "soon"), os.EX_USAGE),
        (("set", "alice@example.test", "--login-delay", "2 d"), os.EX_USAGE),
    ):
        with pytest.raises(Ended) as ended:
            populated("pop3", *arguments)
        assert ended.value.code == code


def test_passwords(populated: Postwerk, database: str) -> None:
    """A password is stored as an argon2id hash, and replaced by `account passwd`."""
    query = "SELECT password_hash FROM account"
    assert PasswordHasher().verify(str(fetched(database, query)), "secret")
    populated("account", "passwd", "alice@example.test", "--password-stdin", stdin="other\n")
    assert PasswordHasher().verify(str(fetched(database, query)), "other")


def test_passwords_have_verifiers(populated: Postwerk, database: str) -> None:
    """A new account has its SCRAM verifier at once, and another one after `account passwd`."""
    verifiers = []
    for _ in range(2):
        verifiers.append(fetched(database, "SELECT scram_sha_256 FROM account"))
        populated("account", "passwd", "alice@example.test", "--password-stdin", stdin="other\n")
    first, second = (sasl.Verifier.parse(str(verifier)) for verifier in verifiers)
    assert first.salt == second.salt
    assert first == sasl.derive("secret", first.salt, first.iterations)
    assert second.keys != first.keys


def test_app_passwords(populated: Postwerk, database: str) -> None:
    """An app password is shown once, listed without itself, and taken back."""
    arguments = ("--scope", "imap", "--scope", "smtp", "--network", "192.0.2.0/24", "--expires", "90 d")
    shown = populated("app-password", "add", "Alice@example.test", "phone", *arguments).strip()
    assert re.fullmatch("[a-z2-7]{32}", shown)
    assert fetched(database, "SELECT digest FROM app_password") == app_password_digest(shown)
    (row,) = json.loads(populated("app-password", "list", "--account", "alice@example.test", "--json"))
    assert (row["label"], row["scopes"], row["networks"]) == ("phone", ["imap", "smtp"], ["192.0.2.0/24"])
    assert row["last_used_at"] is None
    populated("app-password", "add", "alice@example.test", "tablet")
    table = populated("app-password", "list")
    assert "imap pop3 smtp sieve" in table
    assert shown not in table
    populated("app-password", "remove", "alice@example.test", "phone")
    for command, code in (
        (("remove", "alice@example.test", "phone"), os.EX_NOUSER),
        (("add", "alice@example.test", "tablet"), os.EX_CANTCREAT),
        (("add", "nobody@example.test", "phone"), os.EX_NOUSER),
        (("add", "alice@example.test", "x", "--network", "192.0.2.1/24"), os.EX_DATAERR),
        (("add", "alice@example.test", "x", "--expires", "soon"), os.EX_DATAERR),
    ):
        with pytest.raises(Ended) as ended:
            populated("app-password", *command)
        assert ended.value.code == code


def test_attack_events(populated: Postwerk, database: str) -> None:
    """Failed logins are listed with address and login, for all tenants or one."""
    fetched(
        database,
        "INSERT INTO attack_event (happened_at, service, mechanism, reason, peer, login) "
        "VALUES (now(), 'imap', 'PLAIN', 'password', '192.0.2.1', 'root') RETURNING 1",
    )
    (row,) = json.loads(populated("attack-events", "list", "--json"))
    assert (row["peer"], row["login"], row["tenant"]) == ("192.0.2.1", "root", None)
    assert "192.0.2.1" in populated("attack-events", "list")
    assert json.loads(populated("attack-events", "list", "--tenant", "example", "--json")) == []


def fetched(database: str, query: str) -> object:
    """The first value of the query's first row."""

    async def fetch() -> object:
        connection = await asyncpg.connect(database)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    with asyncio.Runner() as runner:
        return runner.run(fetch())


def test_check_is_good(populated: Postwerk) -> None:
    """`postwerk check` finds nothing wrong with a migrated database, readable blobs and a valid certificate."""
    rows = json.loads(populated("check", "--json"))
    assert [(row["check"], row["good"]) for row in rows] == [
        ("database", True),
        ("migrations", True),
        ("search", True),
        ("blobs", True),
        ("certificate", True),
    ]


def test_check_names_what_is_bad(configuration: Path, settings: Settings, postwerk: Postwerk) -> None:
    """Without a database and certificate `postwerk check` says so and ends with 69."""
    text = configuration.read_text().replace(str(settings.tls.certificate), "/nonexistent/server.pem")
    text = text.replace(settings.database.dsn or "", "postgresql://nobody@/nothing?host=/nonexistent")
    configuration.write_text(text)
    with pytest.raises(Ended) as ended:
        postwerk("check")
    assert ended.value.code == os.EX_UNAVAILABLE
    with pytest.raises(Ended, match="not reachable") as unreachable:
        postwerk("account", "list")
    assert unreachable.value.code == os.EX_UNAVAILABLE


def test_migrate_is_done(postwerk: Postwerk) -> None:
    """`postwerk migrate` on a current database applies nothing."""
    assert postwerk("migrate") == ""


def test_example_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    """The generated example is the default as it stands, and stays valid with every key taken out of its comment."""
    with pytest.raises(SystemExit):
        main.main(["config", "example"])
    text = capsys.readouterr().out
    assert parse(text) == Settings()
    lines = [line.removeprefix("# ") for line in text.splitlines() if not line.startswith("##")]
    active = parse("\n".join(line for line in lines if not line.startswith(("certificate", "key"))))
    assert active.listen.smtp == ["0.0.0.0:25", "[::]:25"]
    assert len([line for line in text.splitlines() if line.startswith("# ")]) > 40


def test_nothing_is_lost_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """Output is whole though the process is stopped and continued while a reader keeps it waiting, unbuffered too."""
    with pytest.raises(SystemExit):
        main.main(["config", "example"])
    whole = capsys.readouterr().out
    with subprocess.Popen(
        [str(POSTWERK), "config", "example"], stdout=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as process:
        assert process.stdout is not None
        capacity = fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        assert capacity < len(whole)
        while int.from_bytes(fcntl.ioctl(process.stdout, termios.FIONREAD, bytes(4)), sys.byteorder) < capacity:
            assert process.poll() is None, "ended before the pipe was full"
        process.send_signal(signal.SIGSTOP)
        assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
        process.send_signal(signal.SIGCONT)
        assert process.stdout.read().decode() == whole


def test_a_bad_configuration_ends_with_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown key is one line that names file, key and rule."""
    path = tmp_path / "postwerk.toml"
    path.write_text("[smtp]\nnonsense = 1\n")
    with pytest.raises(SystemExit) as ended:
        main.main(["config", "check", str(path)])
    assert ended.value.code == os.EX_CONFIG
    assert capsys.readouterr().err == f"postwerk: {path}: smtp.nonsense: unknown key\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["up", "--help"], ["account", "add", "-h"], ["--version"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Every command explains itself."""
    with pytest.raises(SystemExit) as ended:
        main.main(arguments)
    assert ended.value.code in (0, os.EX_USAGE)
    said = capsys.readouterr()
    assert len(said.out + said.err) > 10


@pytest.mark.parametrize(
    ("octets", "text"),
    [(None, "-"), (0, "0 B"), (9999, "9999 B"), (10_001, "9.8 KiB"), (1 << 30, "1 GiB"), (5_000_000_000, "4.7 GiB")],
)
def test_sizes(octets: int | None, text: str) -> None:
    """Sizes are shown as people read them."""
    assert size(octets) == text
