"""What the journal keeps of a transaction, and with it the archive: the envelope in one canonical form."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from daemons.smtp.transaction import Addressee, Origin
from protocol.smtp.command import Mail

_CANONICAL = msgspec.json.Encoder(order="sorted")


def journal_envelope(
    mail: Mail, addressees: Sequence[Addressee], origin: Origin, transaction_id: str, received_at: datetime
) -> bytes:
    """The transaction as the archive keeps it: JSON, keys sorted, no white space, UTF-8; the same octets for the same words."""
    parameters = mail.parameters
    return _CANONICAL.encode(
        {
            "body": parameters.body,
            "envid": parameters.envid,
            "forward_paths": [
                {
                    "address": str(addressee.rcpt.forward_path),
                    "notify": addressee.rcpt.parameters.notify,
                    "orcpt": addressee.rcpt.parameters.orcpt,
                }
                for addressee in addressees
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
