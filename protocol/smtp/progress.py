"""How far the running transaction of a client's session is: which recipients are decided, and whether content may go."""

from protocol.smtp.data import DataWriter
from protocol.smtp.reply import Reply
from protocol.smtp.transmission import Outcome, State, Transaction, state_of

_TOO_MANY = (5, 3)  # X.5.3, too many recipients


class Progress:
    """One transaction. Every recipient is decided once; the first word about it counts."""

    __slots__ = (
        "_outcomes",
        "accepted",
        "has_go_ahead",
        "is_chunked",
        "is_content_ended",
        "is_eager",
        "transaction",
        "unanswered",
        "undecided",
        "writer",
    )

    def __init__(self, transaction: Transaction, *, is_chunked: bool, is_eager: bool) -> None:
        self.transaction = transaction
        self.is_chunked = is_chunked  # by BDAT
        self.is_eager = is_eager  # content goes before the recipients are answered
        self.writer = None if is_chunked else DataWriter()
        self.has_go_ahead = False  # 354
        self.is_content_ended = False  # all of it was handed out for sending
        self.unanswered = len(transaction.recipients)  # replies to RCPT that are missing
        self.undecided = self.unanswered
        self.accepted: list[int] = []
        self._outcomes: list[Outcome | None] = [None] * len(transaction.recipients)

    def __repr__(self) -> str:
        return f"<Progress unanswered={self.unanswered} accepted={len(self.accepted)} undecided={self.undecided}>"

    @property
    def has_hope(self) -> bool:
        """Whether a recipient was accepted that is not decided yet."""
        return bool(self.accepted) and self.undecided > 0

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """The outcomes so far, in the recipients' order."""
        return tuple(outcome for outcome in self._outcomes if outcome is not None)

    def answer_recipient(self, index: int, answer: Reply) -> None:
        """RCPT was answered."""
        self.unanswered -= 1
        if answer.is_positive:
            self.accepted.append(index)
            return
        self._decide(index, answer, "RCPT", is_surplus=bool(self.accepted) and _says_too_many(answer))

    def answer_one(self, index: int, answer: Reply, phase: str) -> None:
        """The end of the message was answered for one recipient (LMTP)."""
        self._decide(index, answer, phase)

    def answer_all(self, answer: Reply, phase: str, *, is_remote: bool = True, is_uncertain: bool = False) -> None:
        """Decide all that are undecided alike."""
        for index, outcome in enumerate(self._outcomes):
            if outcome is None:
                self._decide(index, answer, phase, is_remote=is_remote, is_uncertain=is_uncertain)

    def _decide(
        self,
        index: int,
        answer: Reply,
        phase: str,
        *,
        is_remote: bool = True,
        is_uncertain: bool = False,
        is_surplus: bool = False,
    ) -> None:
        if self._outcomes[index] is None:
            self.undecided -= 1
            recipient = self.transaction.recipients[index]
            state: State = "deferred" if is_surplus else state_of(answer)
            self._outcomes[index] = Outcome(recipient, state, answer, phase, is_remote, is_uncertain, is_surplus)


def _says_too_many(answer: Reply) -> bool:
    """452, or 552 that old servers say instead, without a code that means something else (RFC 5321 §4.5.3.1.10)."""
    if answer.enhanced is not None:
        return answer.enhanced[1:] == _TOO_MANY
    return answer.code in (452, 552)
