"""Circuit breaker: a service that gives no answer, time after time, is left alone for a while, and nobody waits for it.

closed --(so many failures in a row)--> open --(the pause is over: one question is let through)--> closed, or open again

While it is open every question fails at once, as it would have failed after its time limit; what becomes of the mail is the
policy of the filter that asked, as ever. The next pause is twice as long, up to a limit.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

State = Literal["closed", "open", "trying"]

FAILURES = 5
PAUSE_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 300.0

_Answer = TypeVar("_Answer")


class ServiceAwayError(OSError):
    """The service was not asked: it has not answered for some time."""


class Breaker:
    """One per service and process. Whatever is asked of the service is asked through `call`."""

    def __init__(
        self,
        service: str,
        *,
        failures: int = FAILURES,
        pause_seconds: float = PAUSE_SECONDS,
        longest_pause_seconds: float = LONGEST_PAUSE_SECONDS,
        changed: Callable[[str, State], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """failures in a row open it; changed is told of the service's name and each new state."""
        self.service = service
        self._limit = failures
        self._first_pause = pause_seconds
        self._longest_pause = longest_pause_seconds
        self._changed = changed
        self._clock = clock
        self._state: State = "closed"
        self._failures = 0
        self._pause = pause_seconds
        self._opened_at = 0.0

    def __repr__(self) -> str:
        return f"<Breaker {self.service}: {self._state}, {self._failures} failures>"

    @property
    def state(self) -> State:
        """What it does with the next question."""
        return self._state

    async def call(self, work: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Ask the service. Raises ServiceAwayError without asking it, and whatever the work raises.

        OSError, which TimeoutError is, means that the service gave no answer; any other exception is an answer. The time limit
        belongs into the work: who is cancelled from outside has learned nothing of the service.
        """
        is_trial = self._admit()
        try:
            answer = await work()
        except OSError:
            self._failed()
            raise
        except Exception:
            self._answered()
            raise
        except BaseException:
            if is_trial:
                self._enter("open")  # the pause is over: the next question is the trial
            raise
        self._answered()
        return answer

    def _admit(self) -> bool:
        """Whether this question is the trial. Raises ServiceAwayError."""
        if self._state == "closed":
            return False
        if self._state == "trying" or self._clock() < self._opened_at + self._pause:
            raise ServiceAwayError(f"{self.service} gave no answer lately")
        self._enter("trying")
        return True

    def _answered(self) -> None:
        self._failures = 0
        self._pause = self._first_pause
        self._enter("closed")

    def _failed(self) -> None:
        self._failures += 1
        if self._state == "trying":
            self._pause = min(self._pause * 2, self._longest_pause)
        elif self._state == "open" or self._failures < self._limit:
            return  # it was asked before the breaker opened; or this may be chance
        self._opened_at = self._clock()
        self._enter("open")

    def _enter(self, state: State) -> None:
        if state != self._state:
            self._state = state
            if self._changed is not None:
                self._changed(self.service, state)
