"""Domain names as the DNS has them: A-labels, RFC 5890 §2.3.2.1."""

from contextlib import suppress

import idna


def a_labels(domain: str) -> str:
    """The domain in lower-case A-labels. What IDNA 2008 has no form for stays as it is, lower-case: the DNS will not know it."""
    name = domain.lower().rstrip(".")
    if not name.isascii():
        with suppress(idna.IDNAError):
            return idna.encode(name, uts46=True).decode("ascii")
    return name
