"""The circuit breaker: who gives no answer is left alone, is tried again, and nobody waits meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from filters.breaker import Breaker, ServiceAwayError, State


class Service:
    """Something that is asked, behind its breaker, with a clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked = 0
        self.states: list[State] = []
        self.breaker = Breaker(
            "test",
            failures=3,
            pause_seconds=10,
            longest_pause_seconds=30,
            changed=lambda _, state: self.states.append(state),
            clock=lambda: self.now,
        )

    async def answers(self) -> str:
        self.asked += 1
        return "answer"

    async def fails(self) -> str:
        self.asked += 1
        raise TimeoutError

    async def times(self, number: int, work: Callable[[], Awaitable[str]]) -> None:
        """Ask so many times, whatever comes of it."""
        for _ in range(number):
            await asyncio.gather(self.breaker.call(work), return_exceptions=True)


@pytest.fixture
def service() -> Service:
    """One that has never been asked."""
    return Service()


async def test_who_gives_no_answer_is_left_alone(service: Service) -> None:
    """After so many failures in a row questions fail at once, and the service is not bothered."""
    await service.times(3, service.fails)
    assert service.states == ["open"]
    with pytest.raises(ServiceAwayError, match="test gave no answer lately"):
        await service.breaker.call(service.answers)
    assert service.asked == 3


async def test_failures_now_and_then_change_nothing(service: Service) -> None:
    """Only failures in a row count."""
    for _ in range(5):
        await service.times(2, service.fails)
        assert await service.breaker.call(service.answers) == "answer"
    assert service.states == []


async def test_an_error_may_be_an_answer(service: Service) -> None:
    """What is no OSError was said by a service that is there."""

    async def refuses() -> str:
        raise ValueError("no such thing")

    await service.times(2, service.fails)
    with pytest.raises(ValueError, match="no such thing"):
        await service.breaker.call(refuses)
    await service.times(2, service.fails)
    assert service.breaker.state == "closed"


async def test_one_question_tries_it_after_the_pause(service: Service) -> None:
    """Of many questions after the pause one goes through; its answer lets all others through again."""
    await service.times(3, service.fails)
    service.now += 10
    answered = asyncio.Event()

    async def slow() -> str:
        await answered.wait()
        return "answer"

    trial = asyncio.create_task(service.breaker.call(slow))
    await asyncio.sleep(0)
    with pytest.raises(ServiceAwayError):
        await service.breaker.call(service.answers)
    answered.set()
    assert await trial == "answer"
    assert await service.breaker.call(service.answers) == "answer"
    assert service.states == ["open", "trying", "closed"]


async def test_pauses_grow_up_to_a_limit(service: Service) -> None:
    """Each trial that fails doubles the pause; an answer makes it short again."""
    await service.times(3, service.fails)
    for pause in (10, 20, 30, 30):
        service.now += pause - 1
        with pytest.raises(ServiceAwayError):
            await service.breaker.call(service.fails)
        service.now += 1
        with pytest.raises(TimeoutError):
            await service.breaker.call(service.fails)
    service.now += 30
    assert await service.breaker.call(service.answers) == "answer"
    await service.times(3, service.fails)
    service.now += 10
    assert await service.breaker.call(service.answers) == "answer"


async def test_a_trial_that_nobody_waits_for_is_none(service: Service) -> None:
    """A cancelled trial says nothing about the service: the next question is the trial."""
    await service.times(3, service.fails)
    service.now += 10
    trial = asyncio.create_task(service.breaker.call(asyncio.Event().wait))
    await asyncio.sleep(0)
    trial.cancel()
    await asyncio.wait([trial])
    assert await service.breaker.call(service.answers) == "answer"


async def test_an_answer_that_was_under_way_counts(service: Service) -> None:
    """A question asked before the breaker opened, and answered after, shows that the service is there."""
    answered = asyncio.Event()
    early = asyncio.create_task(service.breaker.call(answered.wait))
    await asyncio.sleep(0)
    await service.times(3, service.fails)
    answered.set()
    await early
    assert service.states == ["open", "closed"]
