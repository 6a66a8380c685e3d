"""Our SMTP client with a server that says anything."""

from protocol.smtp.client import Client, Ended, Event, Finished, Recipient, TlsAllowed, Transaction

_RECIPIENTS = (Recipient("one@y.test", ("FAILURE",), "rfc822;one@y.test"), Recipient("two@y.test"))


def client(octets: bytes) -> None:
    """Whatever a server says: each transaction has one outcome for each recipient, and the session has one end.

    The first octet says what kind of session it is, and how the others are cut.
    """
    kind, says = octets[:1] or b"\0", octets[1:]
    session = Client("us.test", is_lmtp=bool(kind[0] & 1), uses_chunking=bool(kind[0] & 2))
    transaction = Transaction("a@x.test", _RECIPIENTS, 6 if kind[0] & 4 else None, ret="HDRS", envid="id")
    step = 1 + (kind[0] >> 4)
    begun = finished = ends = 0

    def note(events: list[Event]) -> None:
        nonlocal finished, ends
        for event in events:
            ends += isinstance(event, Ended)
            if isinstance(event, TlsAllowed):
                session.tls_started()
            elif isinstance(event, Finished):
                finished += 1
                assert [outcome.recipient for outcome in event.outcomes] == list(_RECIPIENTS)
                assert all(outcome.is_remote for outcome in event.outcomes if outcome.state == "delivered")
                assert not any(outcome.is_remote for outcome in event.outcomes if outcome.is_uncertain)

    for start in range(0, len(says), step):
        note(session.receive(says[start : start + step]))
        while session.is_idle and begun < 3:
            if session.capabilities.has_starttls and not session.is_secure:
                session.start_tls()
                break
            begun += 1
            note(session.send(transaction))
        if session.is_content_wanted:
            note(session.content(b"x\r\n", is_last=bool(start & 1)))
        session.take_output()
    note(session.receive_eof())
    assert ends == 1
    assert finished == begun
    assert session.take_output() == b""
