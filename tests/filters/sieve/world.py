"""A mail system in memory for the conformance runner: mailboxes, sent mail, configuration, and what scripts ask."""

import re
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filters.sieve.actions import Action, FileInto, Keep, Notify, Redirect, Reject, Vacation
from filters.sieve.addresses import is_address, mailbox_of
from filters.sieve.limits import Limits
from filters.sieve.message import Message
from filters.sieve.outgoing import Outgoing, notification_mail, vacation_reply
from filters.sieve.ports import Envelope, Owner, Surroundings
from filters.sieve.script import ALL, Dialect, Script, compile_script
from protocol.sieve.errors import Fault, SieveError

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DEFAULT_MESSAGE = b"From: sender@example.com\r\nTo: recipient@example.org\r\nSubject: Message\r\n\r\n"


@dataclass
class Stored:
    """A message in a mailbox."""

    octets: bytes
    flags: tuple[str, ...]


@dataclass
class World:
    """All that is outside of a script."""

    directory: Path
    config: dict[str, str] = field(default_factory=dict)
    active: dict[str, str] = field(default_factory=dict)  # the configuration as it was last loaded
    mailboxes: dict[str, list[Stored]] = field(default_factory=lambda: {"INBOX": []})
    sent: list[Outgoing] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    envelope: Envelope = field(
        default_factory=lambda: Envelope("sender@example.com", "recipient@example.org", login="")
    )
    answers: dict[Hashable, Any] = field(default_factory=dict)
    compiled: Script | None = None
    dialect: Dialect = field(default_factory=Dialect)
    is_enveloped: set[str] = field(default_factory=set)  # what the test set itself

    def take_envelope(self, message: Message) -> None:
        """Senders and recipients of the message are those of the envelope, until a test sets these."""
        for part, name in (("from", "from"), ("to", "to")):
            found = [address for address in message.view.addresses(name) if is_address(address)]
            if part not in self.is_enveloped and found:
                text = f"{(found[0].mailbox or b'').decode()}@{(found[0].host or b'').decode()}"
                self.envelope = replace(self.envelope, **{"reverse_path" if part == "from" else "forward_path": text})

    @property
    def limits(self) -> Limits:
        """The limits that the configuration asks for."""
        limits = Limits(part_depth=4)  # as many as Pigeonhole takes
        if "sieve_variables_max_variable_size" in self.active:
            limits = replace(limits, variable_octets=int(self.active["sieve_variables_max_variable_size"]))
        if "sieve_variables_max_value_size" in self.active:
            limits = replace(limits, variable_octets=int(self.active["sieve_variables_max_value_size"]))
        if "sieve_include_max_includes" in self.active:
            limits = replace(limits, includes=int(self.active["sieve_include_max_includes"]))
        if "sieve_include_max_nesting_depth" in self.active:
            limits = replace(limits, include_depth=int(self.active["sieve_include_max_nesting_depth"]))
        if "sieve_notify_max_notifications" in self.active:
            limits = replace(limits, notifications=int(self.active["sieve_notify_max_notifications"]))
        return limits

    def surroundings(self, message: Message) -> Surroundings:
        """What a run is told."""
        email = self.active.get("sieve_user_email")
        return Surroundings(
            self.envelope,
            Owner((email,) if email else (), delimiter=self.active.get("recipient_delimiter", "+")),
            {"name": "Postwerk", "version": "1", "location": "MS", "phase": "during", "host": "", "domain": ""},
            self._spam_score(message),
        )

    def _spam_score(self, message: Message) -> float | None:
        """The score that Pigeonhole's settings read out of header fields."""
        found = self._from_header("sieve_spamtest_status_header", message)
        if found is None:
            return None
        kind = self.active.get("sieve_spamtest_status_type", "score")
        if kind == "text":
            words = {
                text: int(name.rpartition("/")[2])
                for name, text in self.active.items()
                if name.startswith("sieve_spamtest_text_value/")
            }
            return (words[found] - 1) / 9 if found in words else None
        most = self._from_header("sieve_spamtest_score_max_header", message) or self.active.get(
            "sieve_spamtest_score_max_value"
        )
        score = float(len(found)) if kind == "strlen" else float(found)
        return None if most is None else min(max(score / float(most), 0.0), 1.0)

    def _from_header(self, setting: str, message: Message) -> str | None:
        name, _, pattern = self.active.get(setting, "").partition(":")
        values = message.view.texts(name.strip()) if name else []
        if not values:
            return None
        if not pattern:
            return values[0]
        found = re.search(pattern.strip(), values[0])
        return found[1] if found else None

    # What scripts ask

    def __contains__(self, question: object) -> bool:
        return True

    def __getitem__(self, question: Hashable) -> Any:
        match question:
            case ("mailbox", name):
                return name in self.mailboxes
            case ("script", location, name):
                return self.script(str(name), str(location))
            case ("list", name, tuple() as values):
                return next((value for value in values if value.lower() in self._list(str(name))), None)
            case ("list exists", name):
                return str(name) in (":addrbook:default", "urn:ietf:params:sieve:addrbook:default", ":addrbook:empty")
            case ("metadata", *_):
                return None
        return False

    def _list(self, name: str) -> set[str]:
        if not name.endswith(":addrbook:default"):
            return set()
        return {"user35@example.org"}  # the file that the test names is not part of the corpus

    def script(self, name: str, location: str) -> Script | None:
        """A script to include."""
        name = name.removesuffix(".sieve")
        place = self.directory / ("included" if location == "personal" else "included-global") / f"{name}.sieve"
        if not place.exists():
            return None
        return self._compiled(place.read_bytes(), name)

    def _compiled(self, source: bytes, name: str) -> Script:
        allowed = ALL | {"vnd.dovecot.testsuite"}
        return compile_script(source, name=name, capabilities=allowed, limits=self.limits, dialect=self.dialect)

    def compile(self, name: str) -> bool:
        """Compile a script, and those that it includes."""
        self.errors = []
        place = self.directory / name
        if not place.exists():
            self.errors = [f"{name} does not exist"]
            return False
        try:
            script = self._compiled(place.read_bytes(), name)
            self._check_includes(script, [], [0])
        except SieveError as error:
            self.errors = [*(fault.text for fault in error.faults), "validation failed"]
            return False
        self.compiled = script
        return True

    def _check_includes(self, script: Script, chain: list[tuple[str, str]], count: list[int]) -> None:
        """Errors that Pigeonhole tells when it compiles, and we when the script runs."""
        for full_name, location, place in script.includes:
            name = full_name.removesuffix(".sieve")
            if (name, location) in chain:
                raise SieveError(*[Fault(place.line, place.column, "circular include")] * (1 + len(chain)))
            count[0] += 1
            if len(chain) >= self.limits.include_depth or count[0] > self.limits.includes:
                raise SieveError(*[Fault(place.line, place.column, "too many includes")] * (1 + len(chain)))
            included = self.script(name, location)
            if included is not None:
                self._check_includes(included, [*chain, (name, location)], count)

    # What becomes of actions

    def execute(self, actions: list[Action], message: Message) -> bool:
        """Carry the actions out; whether all of them worked."""
        told: set[str] = set()
        worked = [self._one(action, message, told) for action in actions]
        return all(worked)

    def _one(self, action: Action, message: Message, told: set[str]) -> bool:
        octets = getattr(action, "message", None)
        octets = octets if isinstance(octets, bytes) else bytes(message.octets)
        match action:
            case Keep():
                self.mailboxes["INBOX"].append(Stored(octets, action.flags))
            case FileInto():
                return self._store(action, octets)
            case Redirect():
                self._redirect(action, octets)
            case Reject():
                if self.envelope.reverse_path:
                    text = f"From: Postmaster <postmaster@example.org>\r\nTo: {self.envelope.reverse_path}\r\n\r\n"
                    self.sent.append(Outgoing("", (self.envelope.reverse_path,), (text + action.reason).encode()))
            case Vacation() | Notify():
                self._send(action, message, told)
        return True

    def _store(self, action: FileInto, octets: bytes) -> bool:
        name = "INBOX" if action.mailbox.upper() == "INBOX" else action.mailbox
        if name not in self.mailboxes:
            if re.search(r"[~*%]|^\.|\.\.|/$|//", name):
                self.errors = [f"failed to store into mailbox '{name}': invalid name"]
                return False
            if not action.create:
                self.errors = [f"failed to store into mailbox '{name}': it does not exist"]
                return False
            self.mailboxes[name] = []
        self.mailboxes[name].append(Stored(octets, (*action.flags, "$HasNoAttachment")))  # Dovecot sets this keyword
        return True

    def _redirect(self, action: Redirect, octets: bytes) -> None:
        envelope, setting = self.envelope, self.active.get("sieve_redirect_envelope_from", "sender").strip()
        owner = self.active.get("sieve_user_email", envelope.forward_path)
        if {owner, envelope.forward_path} & set(Message(octets).view.texts("x-sieve-redirected-from")):  # a loop
            self.mailboxes["INBOX"].append(Stored(octets, ()))
            return
        sender = {
            "recipient": envelope.forward_path,
            "orig_recipient": envelope.original_recipient,
            "user_email": owner,
        }.get(setting, envelope.reverse_path)
        if setting.startswith("<"):
            sender = setting.strip("<>")
        head = f"X-Sieve-Redirected-From: {owner}\r\n".encode()
        self.sent.append(Outgoing(sender if envelope.reverse_path else "", (action.address,), head + octets))

    def _send(self, action: Vacation | Notify, message: Message, told: set[str]) -> None:
        around, message_id = self.surroundings(message), f"<{len(self.sent)}@example.org>"
        if isinstance(action, Vacation):
            made = vacation_reply(action, message.view, around, now=NOW, message_id=message_id)
        else:
            path = {
                "sender": self.envelope.reverse_path,
                "recipient": self.envelope.forward_path,
                "user_email": self.active.get("sieve_user_email"),
            }.get(self.active.get("sieve_notify_mailto_envelope_from", ""), mailbox_of(action.from_address or ""))
            path = path or "postmaster@example.org"
            made = notification_mail(
                action, message.view, around, now=NOW, message_id=message_id, told=told, reverse_path=path
            )
        if isinstance(made, Outgoing):
            for path in made.forward_paths:  # Pigeonhole sends one mail to each
                self.sent.append(Outgoing(made.reverse_path, (path,), made.octets))


_ROUTE = re.compile(r"<@[a-z.]+(?:,@[a-z.]+)*:")
_PATH = re.compile(r"[^@<>,: ]+(?:@[^@<>,: ]+)?")


def path_of(text: str) -> str:
    """The address of an envelope setting; what is none is as good as the null path."""
    path = _ROUTE.sub("<", text) if not re.search(r"\.\.|@\.", text.partition(":")[0]) or ":" not in text else ""
    path = path[1:-1] if path.startswith("<") and path.endswith(">") else path
    return path if _PATH.fullmatch(path) else ""
