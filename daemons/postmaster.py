"""Who runs the host, for those who write to it and for what it writes itself."""

from config.smtp import Smtp
from protocol.address import AddressError, AddrSpec, parse_addr_spec
from storage.errors import StorageError


def postmaster_of(limits: Smtp, hostname: str) -> AddrSpec:
    """Who gets the mail for <Postmaster>. Raises StorageError when the setting is no address."""
    try:
        return parse_addr_spec(limits.postmaster) if limits.postmaster else AddrSpec("postmaster", hostname)
    except AddressError as error:
        raise StorageError(f"smtp.postmaster: {error}") from error
