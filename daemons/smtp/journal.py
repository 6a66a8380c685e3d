"""What the journal keeps of a transaction, and with it the archive: the envelope in one canonical form."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from daemons.smtp.transaction import Origin
from protocol.smtp.command import Mail, Rcpt

_CANONICAL = msgspec.json.Encoder(order="sorted")


def journal_envelope(
    mail: Mail,
    rcpts: Sequence[Rcpt],
    origin: Origin,
    transaction_id: str,
    received_at: datetime,
    mark: Mapping[str, object] | None = None,
) -> bytes:
    """The transaction as the archive keeps it: JSON, keys sorted, no white space, UTF-8; the same octets for the same words.

    What only users may say (when to deliver, how urgently) is there when it was said; so is the login of who submitted, and the
    mark of what was not delivered as it came.
    """
    parameters = mail.parameters
    return _CANONICAL.encode(
        _submission_of(mail, origin)
        | ({"treatment": mark} if mark is not None else {})
        | {
            "body": parameters.body,
            "envid": parameters.envid,
            "forward_paths": [
                {
                    "address": str(rcpt.forward_path),
                    "notify": rcpt.parameters.notify,
                    "orcpt": rcpt.parameters.orcpt,
                }
                for rcpt in rcpts
            ],
            "helo": origin.helo,
            "id": transaction_id,
            "peer": origin.peer,
            "protocol": origin.protocol,
            "received_at": received_at,
            "ret": parameters.ret,
            "reverse_path": str(mail.reverse_path) if mail.reverse_path is not None else None,
            "smtputf8": parameters.is_smtputf8,
            "tls": {"version": origin.tls[0], "cipher": origin.tls[1]} if origin.tls is not None else None,
        }
    )


def _submission_of(mail: Mail, origin: Origin) -> dict[str, Any]:
    parameters, by = mail.parameters, mail.parameters.deliver_by
    told = {
        "deliver_by": {"mode": by.mode, "seconds": by.seconds, "trace": by.is_traced} if by is not None else None,
        "hold_for": parameters.hold_for_seconds,
        "hold_until": parameters.hold_until,
        "login": origin.identity.login if origin.identity is not None else None,
        "priority": parameters.priority,
        "requiretls": parameters.is_requiretls or None,
    }
    return {key: value for key, value in told.items() if value is not None}
