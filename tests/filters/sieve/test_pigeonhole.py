"""Side by side with another implementation: Pigeonhole's sieve-test (package dovecot-sieve), on generated scripts and mails."""

import os
import random
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from filters.sieve.actions import Action, FileInto, Keep, Redirect
from filters.sieve.interpreter import attempt
from filters.sieve.limits import DEFAULT_LIMITS
from filters.sieve.message import Message
from filters.sieve.ports import Envelope, Owner, Surroundings
from filters.sieve.script import compile_script
from filters.sieve.state import Shared

SIEVE_TEST = shutil.which("sieve-test")
REQUIRE = (
    'require ["fileinto", "copy", "imap4flags", "variables", "relational", "comparator-i;ascii-numeric", "envelope", '
    '"subaddress", "regex", "body", "date", "index", "encoded-character", "mime"];\n'
)
WORDS = (
    *("alpha", "Beta", "GAMMA delta", "re: [list] News", "100%", "50 apples", "007", "a*b?c", "back\\slash", "x" * 20),
    *(
        "Grüße aus Köln",
        "=?utf-8?q?Gr=C3=BC=C3=9Fe?=",
        "=?iso-8859-1?B?S/ZsbiA=?= =?utf-8?q?caf=C3=A9?=",
        "",
        " spaced  out ",
    ),
)
PEOPLE = (
    *("alice@example.org", "Bob <bob+lists@Example.NET>", '"C. Carol" <carol.c@sub.example.com>', "dave@[192.0.2.1]"),
    *("team: eve@example.org, frank+a+b@example.org;", "=?utf-8?q?J=C3=BCrgen?= <juergen@example.de>"),
)
DATES = ("Fri, 2 Jan 2026 03:04:05 +0100", "Wed, 31 Dec 2025 23:59:59 -0800", "1 Feb 2024 00:00:00 GMT", "nonsense")
NAMES = ("Subject", "X-Word", "X-Number", "Comments", "X-Missing")
ADDRESS_NAMES = ("From", "To", "Cc", "Reply-To", "Sender")
DATE_VALUES = ("2026", "01", "02", "5")
PARTS = (
    "year",
    "month",
    "day",
    "date",
    "julian",
    "hour",
    "minute",
    "second",
    "time",
    "iso8601",
    "std11",
    "zone",
    "weekday",
)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Maker:
    """Makes mails, and scripts that ask about them, from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.values: list[str] = []

    def mail(self) -> bytes:
        pick, lines = self.random.choice, []
        for _ in range(self.random.randrange(2, 9)):
            value = pick(WORDS)
            self.values.append(value)
            lines.append(f"{pick(NAMES[:4])}: {value}")
        lines.append(f"X-Number: {self.random.randrange(200)}")
        for name in ADDRESS_NAMES[: self.random.randrange(1, 6)]:
            people = self.random.sample(PEOPLE, self.random.randrange(1, 4))
            self.values.extend(people)
            lines.append(f"{name}: {', '.join(people)}")
        lines.append(f"Date: {pick(DATES)}")
        lines.append("Received: from a by b;" + f"\r\n\t{pick(DATES)}")
        body = "\r\n".join(pick(WORDS[:9]) for _ in range(5))
        return ("\r\n".join(lines) + "\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + body + "\r\n").encode()

    def key(self) -> str:
        """Some text, most often out of the mail, whole or a part, perhaps in another case."""
        text = self.random.choice([*self.values, *WORDS, "alice", "example.org", "lists", "3"])
        if "=?" in text:
            text = "Grüße"
        if self.random.random() < 0.6 and text:
            start = self.random.randrange(len(text))
            text = text[start : start + self.random.randrange(1, 12)]
        return self.random.choice([text, text.upper(), text.lower()]) if text.isascii() else text

    def pattern(self) -> str:
        text: str = "".join(f"\\{each}" if each in "*?\\" else each for each in self.key())
        for _ in range(self.random.randrange(3)):
            at = self.random.randrange(len(text) + 1)
            if not text[:at].endswith("\\"):
                text = text[:at] + "*" + text[at:]  # that version has faults with "?"
        return self.random.choice([f"*{text}*", f"*{text}", f"{text}*", text, "*", ""])

    def matching(self) -> tuple[str, str]:
        """A match type with comparator, and keys for it."""
        comparator = self.random.choice(["", "", ' :comparator "i;octet"', ' :comparator "i;ascii-casemap"'])
        kind = self.random.choice(["is", "contains", "matches", "contains", "matches", "count", "value", "regex"])
        if kind in ("count", "value"):
            relation = self.random.choice(["gt", "ge", "lt", "le", "eq", "ne"])
            numeric = ' :comparator "i;ascii-numeric"' if kind == "count" or self.random.random() < 0.5 else comparator
            return f':{kind} "{relation}"{numeric}', quoted(str(self.random.randrange(4 if kind == "count" else 200)))
        if kind == "regex":
            pattern = self.random.choice(
                ["^[a-z ]+$", "[0-9]{2,3}", "(alice|bob)", "^.a", "a.*e", "[[:digit:]]+", "^$", "x{3}"]
            )
            return f":regex{comparator}", quoted(pattern)
        keys = [quoted(self.pattern() if kind == "matches" else self.key()) for _ in range(self.random.randrange(1, 4))]
        return f":{kind}{comparator}", f"[{', '.join(keys)}]"

    def test(self, depth: int = 0) -> str:
        pick = self.random.choice
        match, keys = self.matching()
        if depth < 2 and self.random.random() < 0.25:
            inner = ", ".join(self.test(depth + 1) for _ in range(self.random.randrange(1, 4)))
            return pick([f"not {self.test(depth + 1)}", f"allof ({inner})", f"anyof ({inner})"])
        parts = ["", " :all", " :localpart", " :domain", " :user", " :detail"]
        part = pick(parts[:-1] if ":count" in match else parts)  # what is without detail counts there
        index = pick(["", "", " :index 1", " :index 2", " :last :index 1"]) if ":count" not in match else ""
        return pick(
            [
                f'header {match}{index} ["{pick(NAMES)}", "{pick(NAMES)}"] {keys}',
                f'header {match}{index} "{pick(NAMES)}" {keys}',
                f'address {match}{part} ["{pick(ADDRESS_NAMES)}", "{pick(ADDRESS_NAMES)}"] {keys}',
                f'address {match}{part}{index} "{pick(ADDRESS_NAMES)}" {keys}',
                f'envelope {match}{part} "{pick(["from", "to"])}" {keys}',
                f'exists ["{pick(NAMES)}", "{pick(ADDRESS_NAMES)}"]',
                f"size :{pick(['over', 'under'])} {self.random.randrange(300, 900)}",
                f"body :{pick(['raw', 'text'])} {match} {keys}" if ":value" not in match else "true",
                f'date :{pick(["originalzone", "zone " + quoted("+0200")])} :is "date" "{pick(PARTS)}" "{pick(DATE_VALUES)}"',
                f'date {match} :originalzone "{pick(["date", "received"])}" "{pick(PARTS)}" {keys}',
            ]
        )

    def script(self) -> str:
        rules = [f'if {self.test()} {{ fileinto :copy "r{at}"; }}' for at in range(20)]
        rules.append(
            f'if header :matches "subject" {quoted(self.pattern())} {{ fileinto :copy "m${{0}}-${{1}}-${{2}}"; }}'
        )
        rules.append(
            self.random.choice(["keep;", "discard;", 'redirect "x@example.org";', "", 'addflag "\\\\Seen a"; keep;'])
        )
        return REQUIRE + "\n".join(rules)


def ours(script: str, mail: bytes) -> list[str]:
    around = Surroundings(Envelope("sender+tag@example.net", "alice@example.org"), Owner(("alice@example.org",)))
    shared = Shared(Message(mail), around, datetime(2026, 1, 1, tzinfo=UTC), DEFAULT_LIMITS)
    result = attempt([compile_script(script)], shared)
    assert result.error is None, result.error
    return [text for action in result.actions if (text := told(action))]


def told(action: Action) -> str:
    match action:
        case Keep():
            return f"store INBOX {' '.join(sorted(flag.lower() for flag in action.flags))}".strip()
        case FileInto():
            return f"store {action.mailbox} {' '.join(sorted(flag.lower() for flag in action.flags))}".strip()
        case Redirect():
            return f"redirect {action.address}"
    return ""


def theirs(script: str, mail: bytes, place: Path) -> list[str]:
    (place / "script.sieve").write_text(script, "utf-8")
    (place / "mail.eml").write_bytes(mail)
    user, group = (os.getuid(), os.getgid()) if os.getuid() else (65534, 65534)  # it refuses to run as root
    settings = f"mail_location = maildir:{place}/mail\nmail_uid = {user}\nmail_gid = {group}\nssl = no\n"
    settings += "log_path = /dev/stderr\nplugin {\n sieve_max_actions = 100\n}\n"
    (place / "dovecot.conf").write_text(settings)
    command = [SIEVE_TEST or "", "-c", "dovecot.conf", "-f", "sender+tag@example.net", "-r", "alice@example.org"]
    done = subprocess.run(
        [*command, "script.sieve", "mail.eml"], cwd=place, capture_output=True, timeout=20, check=False
    )
    if b"Panic" in done.stderr:
        pytest.skip("sieve-test crashed")
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace") + script
    found: list[str] = []
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        if store := re.match(r" \* store message in folder: (.*)", line):
            found.append(f"store {store[1]}".strip())
        elif redirect := re.match(r" \* redirect message to: <(.*)>", line):
            found.append(f"redirect {redirect[1]}")
        elif flags := re.match(r"\s+\+ add IMAP flags: (.*)", line):
            found[-1] += " " + " ".join(sorted(flags[1].lower().split()))
    return found


@pytest.mark.skipif(SIEVE_TEST is None, reason="sieve-test is not installed")
@pytest.mark.parametrize("seed", range(40))
def test_same_decisions(seed: int) -> None:
    """About 22 random rules over a random mail come to the same actions."""
    maker = Maker(seed)
    mail = maker.mail()
    script = maker.script()
    with TemporaryDirectory() as name:  # not tmp_path, whose parents nobody but us may enter
        place = Path(name)
        place.chmod(0o777)
        assert ours(script, mail) == theirs(script, mail, place), script + "\n" + mail.decode()
