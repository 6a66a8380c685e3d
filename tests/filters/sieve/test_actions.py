"""Actions: what scripts decide, one by one and together."""

import pytest

from filters.sieve.actions import Discard, Fcc, FileInto, Keep, Notify, Redirect, Reject, Vacation
from filters.sieve.limits import Limits
from filters.sieve.script import compile_script
from protocol.sieve.errors import SieveError
from tests.filters.sieve.running import MAIL, Outside, result

KEPT = Keep(is_implicit=True)


def actions(source: str, **more: object) -> tuple[object, ...]:
    found = result(source, **more)  # type: ignore[arg-type]
    assert found.error is None, found.error
    return found.actions


def refused(source: str) -> str:
    with pytest.raises(SieveError) as told:
        compile_script(source)
    return told.value.text


def test_implicit_keep() -> None:
    """Without an action, and with :copy, the message stays in the inbox, RFC 5228 §2.10.2 and RFC 3894 §3."""
    assert actions("") == (KEPT,)
    assert actions("keep;") == (Keep(),)
    assert actions("discard;") == (Discard(),)
    assert actions('require "fileinto"; fileinto "a"; discard;') == (FileInto("a"),)
    assert actions('require ["fileinto", "copy"]; fileinto :copy "a";') == (FileInto("a"), KEPT)
    assert actions('redirect "c@example.com";') == (Redirect("c@example.com"),)
    assert actions('require "copy"; redirect :copy "c@example.com";') == (Redirect("c@example.com"), KEPT)


def test_the_same_action_twice_is_done_once() -> None:
    """Storing in one mailbox twice, or sending to one address twice, RFC 5228 §2.10.3."""
    assert actions('require "fileinto"; keep; fileinto "INBOX"; fileinto "a"; fileinto "a"; keep;') == (
        Keep(),
        FileInto("a"),
    )
    assert actions('redirect "c@example.com"; redirect "C@example.com";') == (Redirect("c@example.com"),)


def test_where_to_file() -> None:
    """Flags, :create, :mailboxid and :specialuse go with the action."""
    source = 'require ["fileinto", "imap4flags", "mailbox", "mailboxid", "special-use", "variables"];'
    assert actions(source + r'fileinto :create :flags ["\\seen", "A b"] "x";') == (
        FileInto("x", ("\\Seen", "A", "b"), create=True),
    )
    assert actions(source + 'fileinto :mailboxid "F1" "x";') == (FileInto("x", mailbox_id="F1"),)
    assert actions(source + r'fileinto :specialuse "\\Junk" "x";') == (FileInto("x", special_use="\\Junk"),)
    assert "exclude each other" in refused(source + r'fileinto :specialuse "\\Junk" :mailboxid "F1" "x";')
    assert "invalid special-use attribute" in refused(source + 'fileinto :specialuse "Junk" "x";')
    assert "control characters" in refused(source + 'fileinto "a\tb";')


def test_flags() -> None:
    """The internal variable goes with later actions and the implicit keep, :flags replaces it, RFC 5232 §5."""
    source = 'require ["imap4flags", "variables"];'
    assert actions(source + r'addflag ["\\Seen", "a"]; removeflag "A"; addflag "b";') == (
        Keep(("\\Seen", "b"), is_implicit=True),
    )
    assert actions(source + 'setflag "v" "a b"; addflag "v" "c"; keep :flags "${v}";') == (Keep(("a", "b", "c")),)
    assert actions(source + r'setflag "\\Nonsense (x) y";') == (Keep(("y",), is_implicit=True),)


def test_redirect() -> None:
    """A name is left out, an address list and DSN parameters are passed on, bad ones refused; RFC 6134, RFC 6009."""
    assert actions('redirect "Carol <carol@example.com>";') == (Redirect("carol@example.com"),)
    source = 'require ["redirect-dsn", "extlists"]; redirect '
    assert actions(source + ':notify "failure, delay" :ret "hdrs" "c@example.com";') == (
        Redirect("c@example.com", notify=("FAILURE", "DELAY"), ret="HDRS"),
    )
    assert actions(source + ':list "tag:example.org,2026:all";') == (
        Redirect("", list_name="tag:example.org,2026:all"),
    )
    for bad in (':notify "NEVER,DELAY" "c@example.com"', ':ret "SOME" "c@example.com"', '"nobody"', '"a@b.c, d@e.f"'):
        assert "invalid" in refused(source + bad + ";")


@pytest.mark.parametrize("name", ["reject", "ereject"])
def test_reject(name: str) -> None:
    """Refuses with its text, with notify at most, and once; an event of a mailbox cannot be refused; RFC 5429 §2."""
    require = f'require ["{name}", "enotify", "vacation", "fileinto"]; '
    assert actions(require + f'{name} "No.";') == (Reject("No.", name == "ereject"),)
    notify = 'notify "mailto:bob@example.org";'
    assert len(actions(require + f'{notify} {name} "No.";')) == 2
    for other in ("keep;", 'fileinto "a";', 'redirect "c@example.com";', f'{name} "No.";', 'vacation "Away";'):
        for script in (f'{name} "No."; {other}', f'{other} {name} "No.";'):
            found = result(require + script)
            assert found.error is not None
            assert found.actions == (KEPT,)
    assert result(require + f'{name} "No.";', is_event=True).error is not None


def test_vacation() -> None:
    """Period, handle and arguments; the handle is made of the text when none is given, RFC 5230 §4."""
    require = 'require ["vacation", "vacation-seconds", "fcc", "imap4flags", "mailbox"]; vacation '
    found, kept = actions(
        require
        + r':days 3 :subject "S" :from "Bob <bob@example.org>" :addresses ["b@example.org"] :handle "h" '
        + r':fcc "Sent" :flags "\\Seen" :create "Away";'
    )
    assert found == Vacation(
        *("Away", "h", 3 * 86_400, "S", "Bob <bob@example.org>", ("b@example.org",)),
        fcc=Fcc("Sent", ("\\Seen",), create=True),
    )
    assert kept == KEPT
    periods = {
        "": 7 * 86_400,
        ":days 0": 86_400,
        ":days 1000": 60 * 86_400,
        ":seconds 0": 0,
        ":seconds 90": 90,
        ":seconds 99999999": 60 * 86_400,
    }
    for option, seconds in periods.items():
        (found, _) = actions(f'{require} {option} "Away";')
        assert isinstance(found, Vacation)
        assert found.period_seconds == seconds
    handles = {actions(f"{require} {more};")[0].handle for more in ('"a"', '"b"', ':subject "s" "a"', ':mime "a"')}  # type: ignore[attr-defined]
    assert len(handles) == 4
    assert "requires the :fcc tag" in refused(require + ':create "Away";')
    assert result(require + '"a"; vacation "b";').error is not None


def test_notify() -> None:
    """Methods are checked when the script is stored, or when it runs if they vary; RFC 5435 §3."""
    require = 'require ["enotify", "variables"]; '
    found, _ = actions(
        require + 'notify :from "bob@example.org" :importance "1" :options "a=b=c" :message "M" "mailto:c@example.com";'
    )
    assert found == Notify("mailto:c@example.com", "M", "bob@example.org", 1, (("a", "b=c"),))
    assert actions(require + 'notify "https://example.org/hook?x=1";')[0] == Notify("https://example.org/hook?x=1")
    for bad in ("tel:+123", "mailto:nobody", "mailto:a@b.c?x<=1", "https:nothing", "https://a b"):
        assert refused(require + f'notify "{bad}";')
        assert result(require + f'set "u" "{bad}"; notify "${{u}}";').error is not None
    assert result(require + 'notify "mailto:a@example.org";' * 11).error is not None


def test_limits_of_actions() -> None:
    """Too many actions or redirects are an error, and then the message stays where it is."""
    many = 'require "fileinto";' + "".join(f'fileinto "a{at}";' for at in range(40))
    found = result(many)
    assert found.actions == (KEPT,)
    assert found.error is not None
    assert "total number of actions" in found.error.text
    found = result("".join(f'redirect "a{at}@example.com";' for at in range(5)))
    assert found.error is not None
    assert (
        result("".join(f'redirect "a{at}@example.com";' for at in range(5)), limits=Limits(redirects=5)).error is None
    )


def test_limits_of_questions() -> None:
    """A script may ask about many mailboxes, not about any number, and little after much work: asking begins it anew."""
    asking = 'require ["mailbox", "fileinto"];' + "".join(
        f'if mailboxexists "a{at}" {{ fileinto "a{at}"; }}' for at in range(150)
    )
    outside = Outside()
    found = result(asking, outside=outside)
    assert (found.actions, len(outside.asked)) == ((KEPT,), 100)
    assert found.error is not None
    assert "asks more" in found.error.text
    working, outside = "".join(f'if header "subject" "{at}" {{ stop; }}' for at in range(400)), Outside()
    found = result(asking.replace(";", ";" + working, 1), outside=outside, limits=Limits(work=4000))
    assert found.actions == (KEPT,)
    assert found.error is not None
    assert len(outside.asked) < 10
    assert result([working, asking], limits=Limits(work=4000)).actions == (KEPT,)


def test_a_sequence_of_scripts() -> None:
    """The next script runs when the message is kept, and takes over flags, edits and actions."""
    first = 'require ["imap4flags", "editheader", "copy", "fileinto"]; addheader "X-A" "1"; setflag "a"; fileinto :copy "Copies";'
    second = 'require ["fileinto"]; if exists "X-A" { fileinto "Second"; }'
    found = result([first, second, 'redirect "c@example.com";'])
    assert [type(action) for action in found.actions] == [FileInto, FileInto]
    assert found.actions[1] == FileInto("Second", ("a",), message=b"X-A: 1\r\n" + MAIL)
    assert result(["keep; stop;", 'require "fileinto"; fileinto "a";']).actions == (FileInto("a"),)
    assert result(["discard;", 'require "fileinto"; fileinto "a";']).actions == (Discard(),)
    found = result(["", 'require "ihave"; error "Broken";'])
    assert (found.error_script, found.actions) == ("script1", (KEPT,))


def test_a_mistake_undoes_nothing_of_earlier_scripts() -> None:
    """What the scripts before decided, edited and flagged holds, and the message is kept; what the broken one did is gone."""
    first = 'require ["imap4flags", "editheader", "copy"]; addheader "X-A" "1"; setflag "a"; redirect :copy "c@example.com";'
    second = (
        'require ["ihave", "copy", "imap4flags", "editheader"]; setflag "b"; addheader "X-B" "2"; '
        'redirect "d@example.com"; error "Broken";'
    )
    found = result([first, second])
    edited = b"X-A: 1\r\n" + MAIL
    assert found.error_script == "script1"
    assert found.actions == (Redirect("c@example.com", message=edited), Keep(("a",), edited, is_implicit=True))
    assert (found.message, found.flags, len(found.edits)) == (edited, ("a",), 1)


def test_only_one_script_answers() -> None:
    """A second vacation in one script is a mistake, RFC 5230 §4.7; in a later script it is left out."""
    require = 'require ["vacation"]; vacation '
    found = result([require + '"a";', require + '"b";'])
    assert found.error is None
    assert [action.reason for action in found.actions if isinstance(action, Vacation)] == ["a"]
    assert result(["", require + '"a"; vacation "b";']).error is not None
    assert result([require + '"a";', require + '"b"; vacation "c";']).error is None


def test_steps_are_told() -> None:
    """A traced run tells each condition and action with its line."""
    found = result('require "fileinto";\nif size :over 1M {\n stop;\n} elsif true {\n fileinto "a";\n}\n')
    assert [(step.script, step.line, step.text) for step in found.steps] == [
        ("script0", 2, "if size: no"),
        ("script0", 4, "elsif true: yes"),
        ("script0", 5, 'file into "a"'),
    ]


def test_an_error_tells_its_place() -> None:
    """A mistake at run time is told with script and line, in included scripts too."""
    outside = Outside(scripts={("personal", "inner"): 'require "ihave";\n\nerror "Oh ${x}";'})
    found = result('require ["include", "variables"];\ninclude "inner";', outside=outside)
    assert found.error is not None
    assert (found.error_script, found.error.line, found.error.text) == ("inner", 3, "Oh ${x}")
    assert [step.text for step in found.steps] == ['include "inner"']
