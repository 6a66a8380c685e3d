"""The language of Pigeonhole's conformance tests on top of ours: commands that set the stage and look at what happened."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from filters.sieve.actions import Action, Discard, FileInto, Keep, Reject, Vacation
from filters.sieve.building import Builder, Meaning, number
from filters.sieve.interpreter import failed, result_of, run_all
from filters.sieve.message import Message
from filters.sieve.script import ALL, MEANING, Dialect, compile_script
from filters.sieve.state import Check, Op, Run, ScriptError, Shared, Signal
from protocol.sieve.language import LANGUAGE, join
from protocol.sieve.matching import COMPARE, MATCH
from protocol.sieve.signatures import Kind, Language, Option, Signature, table
from protocol.sieve.validation import Node
from tests.filters.sieve.world import DEFAULT_MESSAGE, NOW, World, path_of

S, L, N = Kind.STRING, Kind.STRINGS, Kind.NUMBER
_NEEDS = ("vnd.dovecot.testsuite",)
_WHERE = (Option("smtp", group="where"), Option("folder", S, group="where"))
_SCRIPT_RUN = (Option("append_result"),)


def _own(name: str, *positional: tuple[str, Kind], **more: object) -> Signature:
    return Signature(name, positional, needs=_NEEDS, **more)  # type: ignore[arg-type]


_COMMANDS = table(
    _own("test", ("name", S), has_block=True),
    _own("test_set", ("name", S), ("value", S)),
    _own("test_fail", ("reason", S)),
    _own("test_result_reset"),
    _own("test_result_print"),
    _own("test_message", ("index", N), options=_WHERE),
    _own("test_mailbox_create", ("mailbox", S)),
    _own("test_config_set", ("name", S), ("value", S)),
    _own("test_config_unset", ("name", S)),
    _own("test_config_reload", options=(Option("extension", S),)),
    _own("test_binary_load", ("name", S)),
    _own("test_binary_save", ("name", S)),
)
_MATCHING = (Option("index", N), *COMPARE, *MATCH)
_TESTS = table(
    _own("test_script_compile", ("script", S), is_test=True),
    _own("test_script_run", options=_SCRIPT_RUN, is_test=True),
    _own("test_multiscript", ("scripts", L), is_test=True),
    _own("test_result_execute", is_test=True),
    _own("test_result_action", ("keys", L), options=_MATCHING, is_test=True),
    _own("test_error", ("keys", L), options=_MATCHING, is_test=True),
    _own("test_message", ("index", N), options=_WHERE, is_test=True),
)


class FailedError(Exception):
    """test_fail."""


@dataclass
class Outcome:
    """What one file came to: by the name of each test, "" or what failed."""

    tests: dict[str, str] = field(default_factory=dict)
    broken: str = ""  # the file itself cannot be used


class Stage:
    """One file's run."""

    def __init__(self, path: Path) -> None:
        self.world = World(path.parent)
        self.outcome = Outcome()
        self.appended: list[Action] | None = None  # the result of scripts that were run, instead of the file's own
        self.executed = 0  # actions that were carried out already
        self.shared: Shared

    def actions(self) -> list[Action]:
        """The actions of the result in question."""
        if self.appended is not None:
            return self.appended
        return list(result_of(self.shared).actions)

    def reload(self, run: Run) -> None:
        """Make the configuration the active one."""
        self.world.active = dict(self.world.config)
        run.shared.limits = self.world.limits
        run.shared.surroundings = self.world.surroundings(run.shared.message)

    def reset(self, run: Run) -> None:
        """Forget the result, and what was sent."""
        shared = run.shared
        shared.actions, shared.edits, shared.tracked, shared.keeps = [], [], [], True
        shared.flags, shared.work = [], 0
        self.appended, self.executed = None, 0
        self.world.sent = []

    # Commands

    def test(self, builder: Builder, node: Node) -> Op:
        name, block = builder.constant(node.positional[0]) or "", builder.block(node.block)

        def execute(run: Run) -> None:
            run.shared.work = 0
            self.outcome.tests[name] = ""
            try:
                signal = block(run)
                if signal is Signal.STOP:
                    run.shared.is_stopped = False
            except FailedError as error:
                self.outcome.tests[name] = str(error) or "failed"
            except ScriptError as error:
                self.outcome.tests[name] = f"runtime error: {error.text}"

        return execute

    def set(self, builder: Builder, node: Node) -> Op:
        name, value = builder.text(node.positional[0]), builder.text(node.positional[1])

        def execute(run: Run) -> None:
            text, world = value(run), self.world
            match name(run):
                case "message":
                    run.shared.message = Message(text.encode("utf-8", "surrogateescape"))
                    world.take_envelope(run.shared.message)
                case "envelope.from":
                    world.envelope = replace(world.envelope, reverse_path=path_of(text))
                    world.is_enveloped.add("from")
                case "envelope.to":
                    world.envelope = replace(world.envelope, forward_path=path_of(text))
                    world.is_enveloped.add("to")
                case "envelope.orig_to":
                    world.envelope = replace(world.envelope, original_recipient=path_of(text))
                case "envelope.auth":
                    world.envelope = replace(world.envelope, login=text)
            run.shared.surroundings = world.surroundings(run.shared.message)

        return execute

    def fail(self, builder: Builder, node: Node) -> Op:
        reason = builder.text(node.positional[0])

        def execute(run: Run) -> None:
            raise FailedError(reason(run))

        return execute

    def result_reset(self, builder: Builder, node: Node) -> Op:
        return lambda run: self.reset(run)

    def nothing(self, builder: Builder, node: Node) -> Op:
        return lambda run: None

    def mailbox_create(self, builder: Builder, node: Node) -> Op:
        name = builder.text(node.positional[0])

        def execute(run: Run) -> None:
            self.world.mailboxes.setdefault(name(run), [])

        return execute

    def config_set(self, builder: Builder, node: Node) -> Op:
        name, value = builder.text(node.positional[0]), builder.text(node.positional[1])

        def execute(run: Run) -> None:
            self.world.config[name(run)] = value(run)

        return execute

    def config_unset(self, builder: Builder, node: Node) -> Op:
        name = builder.text(node.positional[0])

        def execute(run: Run) -> None:
            self.world.config.pop(name(run), None)

        return execute

    def config_reload(self, builder: Builder, node: Node) -> Op:
        return lambda run: self.reload(run)

    def message_command(self, builder: Builder, node: Node) -> Op:
        take = self.message(builder, node)

        def execute(run: Run) -> None:
            if not take(run):
                raise FailedError("there is no such message")

        return execute

    # Tests

    def message(self, builder: Builder, node: Node) -> Check:
        index, folder = number(node.positional[0]) or 0, builder.optional_text(node.options.get("folder"))

        def check(run: Run) -> bool:
            name = folder(run)
            if name is not None:
                stored = self.world.mailboxes.get(name, [])
                if index >= len(stored):
                    return False
                run.shared.message = Message(stored[index].octets)
                run.shared.flags = list(stored[index].flags)
                return True
            if index >= len(self.world.sent):
                return False
            sent = self.world.sent[index]
            run.shared.message = Message(sent.octets)
            envelope = replace(self.world.envelope, reverse_path=sent.reverse_path, forward_path=sent.forward_paths[0])
            run.shared.surroundings = replace(run.shared.surroundings, envelope=envelope)
            return True

        return check

    def script_compile(self, builder: Builder, node: Node) -> Check:
        name = builder.text(node.positional[0])
        return lambda run: self.world.compile(name(run))

    def script_run(self, builder: Builder, node: Node) -> Check:
        appends = "append_result" in node.options

        def check(run: Run) -> bool:
            if not appends:
                self.appended, self.executed = None, 0
            return self._run_script(run)

        return check

    def _run_script(self, run: Run) -> bool:
        script, world = self.world.compiled, self.world
        if script is None:
            return False
        world.errors = []
        shared = self._shared(bytes(run.shared.message.octets))
        try:
            run_all(shared, [script])
        except ScriptError as error:
            found = failed(shared, error).error
            world.errors = [found.text if found else ""]
            return False
        actions = list(result_of(shared).actions)
        before = self.appended
        if before is not None:  # a later script of several: what contradicts the earlier ones is left out
            actions = [action for action in actions if not _contradicts(action, before)]
            before = [action for action in before if not (isinstance(action, Keep) and action.is_implicit)] or before
        self.appended = [*(before or []), *(action for action in actions if action not in (before or []))]
        return True

    def _shared(self, octets: bytes) -> Shared:
        message, world = Message(octets), self.world
        return Shared(message, world.surroundings(message), NOW, world.limits, world)  # type: ignore[arg-type]

    def multiscript(self, builder: Builder, node: Node) -> Check:
        names = builder.texts(node.positional[0])

        def check(run: Run) -> bool:
            self.appended, self.executed = None, 0
            scripts = []
            for name in names(run):
                if not self.world.compile(name) or self.world.compiled is None:
                    return False
                scripts.append(self.world.compiled)
            octets = bytes(run.shared.message.octets)
            shared = self._shared(octets)
            run_all(shared, scripts)
            return self.world.execute(list(result_of(shared).actions), Message(octets))

        return check

    def result_execute(self, builder: Builder, node: Node) -> Check:
        def check(run: Run) -> bool:
            self.world.errors = []
            actions = self.actions()
            worked = self.world.execute(actions[self.executed :], run.shared.message)
            if self.appended is not None:
                self.executed = len(actions)
            return worked

        return check

    def result_action(self, builder: Builder, node: Node) -> Check:
        return self._listed(
            builder, node, lambda: [_name(action) for action in self.actions() if not _is_implicit(action)]
        )

    def error(self, builder: Builder, node: Node) -> Check:
        return self._listed(builder, node, lambda: self.world.errors)

    def _listed(self, builder: Builder, node: Node, read: Callable[[], Sequence[str]]) -> Check:
        index, matches = number(node.options.get("index")), builder.matcher(node, node.positional[0])

        def check(run: Run) -> bool:
            found = read()
            return matches(run, found if index is None else found[index - 1 : index])

        return check


def _contradicts(action: Action, before: Sequence[Action]) -> bool:
    if isinstance(action, Keep) and action.is_implicit:
        return any(not isinstance(each, Vacation) for each in before)
    return isinstance(action, Reject) and any(isinstance(each, Reject) for each in before)


def _is_implicit(action: Action) -> bool:
    return isinstance(action, Keep) and action.is_implicit


def _name(action: Action) -> str:
    if isinstance(action, FileInto) or (isinstance(action, Keep) and not action.is_implicit):
        return "store" if isinstance(action, FileInto) else "keep"
    return "discard" if isinstance(action, Discard) else type(action).__name__.lower()


_PRESET = {  # Pigeonhole has this comparator without require
    "i-unicode-casemap.svtest": b'require "comparator-i;unicode-casemap"; ',
}


def run_file(path: Path) -> Outcome:
    """Run one file of tests."""
    stage = Stage(path)
    commands = {
        "test": stage.test,
        "test_set": stage.set,
        "test_fail": stage.fail,
        "test_result_reset": stage.result_reset,
        "test_result_print": stage.nothing,
        "test_message": stage.message_command,
        "test_mailbox_create": stage.mailbox_create,
        "test_config_set": stage.config_set,
        "test_config_unset": stage.config_unset,
        "test_config_reload": stage.config_reload,
        "test_binary_load": stage.nothing,
        "test_binary_save": stage.nothing,
    }
    tests = {
        "test_script_compile": stage.script_compile,
        "test_script_run": stage.script_run,
        "test_multiscript": stage.multiscript,
        "test_result_execute": stage.result_execute,
        "test_result_action": stage.result_action,
        "test_error": stage.error,
        "test_message": stage.message,
    }
    language = join(LANGUAGE, Language(_COMMANDS, _TESTS, {"vnd.dovecot.testsuite": ()}))
    meaning = Meaning(
        {**MEANING.commands, **commands},
        {**MEANING.tests, **tests},
        {"tst": lambda run, name: str(path.parent) if name == "path" else ""},
    )
    stage.world.dialect = Dialect(language, meaning)
    script = compile_script(
        _PRESET.get(path.name, b"") + path.read_bytes(),
        name=path.name,
        capabilities=ALL | {"vnd.dovecot.testsuite"},
        dialect=stage.world.dialect,
    )
    message = Message(DEFAULT_MESSAGE)
    shared = Shared(message, stage.world.surroundings(message), NOW, stage.world.limits, stage.world)  # type: ignore[arg-type]
    stage.shared = shared
    try:
        script.main(Run(shared, path.name, (("personal", path.name),)))
    except FailedError as error:
        stage.outcome.broken = f"outside of a test: {error}"
    except ScriptError as error:
        stage.outcome.broken = f"runtime error outside of a test: {error.text}"
    return stage.outcome
