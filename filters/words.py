"""What filters said, in words for people who read a trace, a log or an explanation."""

from collections.abc import Mapping, Sequence

from filters.pipeline import Result
from filters.verdict import AddField, Drop, Finding, Junk, Quarantine, Refuse, RemoveField, Score, StripPart, Verdict

NO_OBJECTION = "pass"

_KINDS: Mapping[type[Verdict], str] = {
    Score: "score",
    AddField: "field",
    Quarantine: "quarantine",
    Junk: "junk",
    StripPart: "strip",
    Drop: "discard",
    RemoveField: "remove",
}


def kinds_of(result: Result) -> list[str]:
    """For the metrics: what a filter came to, each kind of verdict once; "pass" when it has no objection."""
    if result.failure:
        return ["failed"]
    kinds = {kind_of(verdict) for verdict in result.verdicts} - {""}
    return sorted(kinds) if kinds - {"field"} else [*kinds, NO_OBJECTION]


def kind_of(verdict: Verdict) -> str:
    """One word; "" when it says nothing about the message."""
    if isinstance(verdict, Refuse):
        return "defer" if verdict.reply.is_temporary else "refuse"
    if isinstance(verdict, Score) and not verdict.points:
        return ""
    return _KINDS.get(type(verdict), "")


def said(verdict: Verdict) -> str:
    """One verdict; "" when it says nothing about the message."""
    match verdict:
        case Refuse(reply=reply, reason=reason):
            return f"{'defer' if reply.is_temporary else 'refuse'} ({reason})"
        case Score(points=points, reason=reason):
            return f"{points:+g} ({reason})"
        case AddField(name=name, value=value):
            return f"{name}: {' '.join(value.split())}"
        case Quarantine(reason=reason):
            return f"quarantine ({reason})"
        case Junk(reason=reason):
            return f"junk ({reason})"
        case Drop(reason=reason):
            return f"discard ({reason})"
        case StripPart(part=part, reason=reason):
            return f"strip {'.'.join(map(str, part))} ({reason})"
        case RemoveField(reason=reason):
            return f"remove field {reason}"
        case Finding():
            return ""


def told(result: Result, accounts: Mapping[int, str]) -> str:
    """What a filter came to, on one line: what concerns all, and what concerns these accounts, by their names here."""
    return ", ".join(parts(result, accounts))


def parts(result: Result, accounts: Mapping[int, str]) -> Sequence[str]:
    """The same verdict by verdict, in order; what is said of several accounts alike is said once."""
    concerned: dict[str, list[str]] = {}
    for verdict in result.verdicts:
        text = said(verdict)
        account_id = getattr(verdict, "account_id", None)
        if not text or (account_id is not None and account_id not in accounts):
            continue
        names = concerned.setdefault(text, [])
        if account_id is not None:
            names.append(accounts[account_id])
    found = [f"{text} for {', '.join(names)}" if names else text for text, names in concerned.items()]
    if result.failure:
        found.append(f"failed ({result.failure})")
    return found or [NO_OBJECTION]
