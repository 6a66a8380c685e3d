"""The filter `shouting`: mail whose subject is all capital letters gets points towards being spam."""

from collections.abc import Sequence

from filters.authentication.results import Results
from filters.foreign import Surroundings
from filters.ports import OnFailure
from filters.subject import Subject
from filters.verdict import Score, Verdict
from protocol.message.header import unfold


class Shouting:
    """One for all messages of a process; `check` may run for several at the same time."""

    name = "shouting"
    on_failure: OnFailure = "pass"  # mail that was not looked at is still mail
    needs: Sequence[str] = ("authentication",)
    limit_seconds = 1.0

    def __init__(self, points: float) -> None:
        self._points = points

    async def check(self, subject: Subject) -> Sequence[Verdict]:
        """Judge the message."""
        if subject.envelope.is_authenticated:
            return ()  # people of ours may shout
        results = subject.noted(Results)  # None when the filter `authentication` is off or has failed
        if results is not None and results.dmarc.result == "pass":
            return ()
        bodies = [body for name, body, _ in subject.scanned.fields if name == b"SUBJECT"]
        text = unfold(bodies[0]).decode("utf-8", "replace").strip() if bodies else ""
        return [Score(self._points, "the subject shouts")] if text.isupper() else ()


def build(surroundings: Surroundings) -> Shouting:
    """Called once per process. What it raises stops the process, with the filter's name in the message."""
    points = surroundings.options.get("points", 1.0)
    if not isinstance(points, int | float):
        raise ValueError("points: a number is needed")
    return Shouting(points)
