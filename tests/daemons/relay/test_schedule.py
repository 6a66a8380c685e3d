"""The schedule, the windows of destinations, and heads: values in, values out."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.relay import Relay
from config.units import HOUR, MINUTE
from daemons.relay.attempt import Attempt, text_of
from daemons.relay.content import without_return_path
from daemons.relay.destinations import Destination
from daemons.relay.parcel import Parcel
from daemons.relay.route import Host, Route
from daemons.relay.schedule import settle, wait_seconds
from protocol.smtp.reply import reply
from protocol.status import enhanced
from storage.outbound import Leased

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SETTINGS = Relay()
BUSY = Attempt("deferred", enhanced("4.2.1"), "450 4.2.1 busy", NOW)


def leased(**values: object) -> Leased:
    """One recipient, first tried now."""
    made: dict[str, object] = {
        "recipient_id": 1, "outbound_id": 1, "tenant_id": 1, "account_id": 1, "trace_id": "0" * 16,
        "forward_path": "bob@example.net", "domain": "example.net", "notify": None, "orcpt": None, "attempts": 1, "tries": 0,
        "reverse_path": "alice@example.test", "envid": None, "ret": None, "body": "7BIT", "is_smtputf8": False,
        "is_requiretls": False, "priority": 0, "created_at": NOW, "expires_at": NOW + timedelta(days=5), "deliver_by": None,
        "deliver_by_mode": None, "content_id": 1, "delay_told_at": None, "leased_until": NOW + timedelta(minutes=5),
    }  # fmt: skip
    return Leased(**(made | values))  # type: ignore[arg-type]


def test_the_default_schedule() -> None:
    """Waits of 5, 10, 20, 40 and 60 minutes, then of an hour for the first day, then of four hours for the rest of five days."""
    waits = [wait_seconds(SETTINGS, attempts) for attempts in range(1, 60)]
    assert waits[:6] == [5 * MINUTE, 10 * MINUTE, 20 * MINUTE, 40 * MINUTE, HOUR, HOUR]
    assert waits[26] == HOUR
    assert set(waits[27:]) == {4 * HOUR}
    assert 23 * HOUR < sum(waits[:27]) < 26 * HOUR
    assert 45 < sum(1 for at in range(1, 60) if sum(waits[:at]) < SETTINGS.lifetime) < 60


@given(st.integers(0, 100), st.floats(0, 5 * 24))
def test_the_next_attempt_is_near_its_time_and_never_past_the_end(tries: int, age_hours: float) -> None:
    """Jitter moves an attempt by a tenth at most, and the end comes first."""
    one = leased(
        tries=tries, created_at=NOW - timedelta(hours=age_hours), expires_at=NOW + timedelta(hours=120 - age_hours)
    )
    settled = settle(SETTINGS, one, BUSY)
    if one.expires_at <= NOW:
        assert settled.attempt.kind == "failed"
        return
    assert settled.next_attempt_at is not None
    wait = (settled.next_attempt_at - NOW).total_seconds()
    planned = wait_seconds(SETTINGS, tries + 1)
    assert settled.next_attempt_at <= one.expires_at
    assert wait <= planned * 1.1
    assert wait >= planned * 0.9 - 1e-3 or settled.next_attempt_at == one.expires_at
    assert settled.is_delay_due == (age_hours >= 4)


def test_jitter_spreads() -> None:
    """Recipients that were deferred together do not come back together."""
    assert len({settle(SETTINGS, leased(), BUSY).next_attempt_at for _ in range(50)}) > 40


def test_the_end_of_the_time_is_a_failure_with_the_last_reply() -> None:
    """What is deferred when its lifetime is over fails with 5.4.7; what was delivered or refused then stays so."""
    late = leased(expires_at=NOW - timedelta(seconds=1))
    failed = settle(SETTINGS, late, BUSY)
    assert (failed.attempt.kind, str(failed.attempt.status), failed.attempt.reply) == (
        "failed",
        "5.4.7",
        "450 4.2.1 busy",
    )
    delivered = Attempt("delivered", enhanced("2.0.0"), "250 ok", NOW)
    assert settle(SETTINGS, late, delivered).attempt is delivered


def test_deadlines_of_deliver_by() -> None:
    """Mode R ends at its time, mode N has an attempt then, so that the sender can be told."""
    by = NOW + timedelta(minutes=2)
    returned = settle(SETTINGS, leased(deliver_by=by, deliver_by_mode="R"), BUSY)
    assert returned.next_attempt_at == by
    told = settle(SETTINGS, leased(deliver_by=by, deliver_by_mode="N"), BUSY)
    assert (told.next_attempt_at, told.is_delay_due) == (by, False)
    over = leased(deliver_by=NOW - timedelta(minutes=2), deliver_by_mode="R")
    assert settle(SETTINGS, over, BUSY).attempt.kind == "failed"
    late = leased(deliver_by=NOW - timedelta(minutes=2), deliver_by_mode="N")
    assert settle(SETTINGS, late, BUSY).is_delay_due
    assert not settle(SETTINGS, leased(delay_told_at=NOW, created_at=NOW - timedelta(days=1)), BUSY).is_delay_due


def test_what_was_to_be_sent_later_is_not_late_for_that() -> None:
    """The time until a delay is told begins with the release, as the lifetime does."""
    released = leased(created_at=NOW - timedelta(days=2), expires_at=NOW + timedelta(days=5) - timedelta(minutes=5))
    assert not settle(SETTINGS, released, BUSY).is_delay_due
    late = leased(created_at=NOW - timedelta(days=2), expires_at=NOW + timedelta(days=5) - timedelta(hours=5))
    assert settle(SETTINGS, late, BUSY).is_delay_due


def parcel() -> Parcel:
    """A transaction for one recipient."""
    return Parcel([leased()], Route((Host("mx.example.net", ("192.0.2.1",)),)))


def test_a_window_grows_with_success_and_shrinks_with_refusals() -> None:
    """One more connection for each success, half of them at a refusal, once for all that were open then."""
    destination = Destination("example.net", SETTINGS)
    assert destination.window == SETTINGS.destination_connection_start
    for _ in range(100):
        destination.succeeded()
    assert destination.window == SETTINGS.destination_connection_limit
    destination.refused(1.0, 2.0)
    destination.refused(1.5, 3.0)  # opened before the window was halved
    assert destination.window == SETTINGS.destination_connection_limit / 2
    destination.refused(2.5, 4.0)
    assert destination.window == SETTINGS.destination_connection_limit / 4
    for at in range(10, 30):
        destination.refused(at, at + 0.5)
    assert destination.window == 1.0


def test_a_destination_dies_and_comes_back() -> None:
    """After three failures in a row it is closed for a pause that doubles; then one transaction at a time probes it."""
    destination = Destination("example.net", SETTINGS)
    assert not destination.failed(BUSY, 0.0, 1.0)
    assert not destination.failed(BUSY, 0.0, 2.0)
    assert destination.failed(BUSY, 0.0, 3.0)
    assert destination.is_closed(4.0)
    after = 3.0 + SETTINGS.destination_pause
    assert not destination.is_closed(after)
    destination.waiting.add("a", parcel())
    assert destination.may_open()
    assert destination.is_closed(after)  # somebody is about to probe it
    destination.waiting.take()
    destination.connections = 1
    assert destination.is_closed(after)
    destination.waiting.add("a", parcel())
    assert not destination.may_open()
    assert destination.failed(BUSY, after, after)
    assert destination.dead_until == after + 2 * SETTINGS.destination_pause
    for _ in range(40):
        destination.failed(BUSY, after, after)
    assert destination.dead_until == after + SETTINGS.destination_pause_limit
    destination.answered()
    assert not destination.is_closed(after)


def test_destinations_without_work_are_forgotten() -> None:
    """A failure is remembered for an hour, nothing else is once there is neither work nor connection."""
    destination = Destination("example.net", SETTINGS)
    assert destination.is_forgettable(0.0)
    destination.failed(BUSY, 0.0, 10.0)
    assert not destination.is_forgettable(11.0)
    assert destination.is_forgettable(10_000.0)
    destination.waiting.add("a", parcel())
    assert not destination.is_forgettable(10_000.0)


@pytest.mark.parametrize(
    ("head", "left"),
    [
        (b"Return-Path: <a@example.test>\r\nReceived: x\r\n", b"Received: x\r\n"),
        (b"return-path:\r\n <a@example.test>\r\n\tb\r\nReceived: x\r\n", b"Received: x\r\n"),
        (b"Received: x\r\nReturn-Path: <a@example.test>\r\n", b"Received: x\r\nReturn-Path: <a@example.test>\r\n"),
        (b"Return-Path: <>\r\n", b""),
        (b"", b""),
    ],
)
def test_return_path_is_not_sent(head: bytes, left: bytes) -> None:
    """RFC 5321 §4.4: what final delivery added at the start does not leave us."""
    assert without_return_path(head) == left


def test_a_reply_is_one_line() -> None:
    """Code, status code and all lines of its text."""
    assert text_of(reply(550, "5.1.1", "no", "such user")) == "550 5.1.1 no such user"
    assert text_of(reply(250, "", "ok")) == "250 ok"
