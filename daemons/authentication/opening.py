"""The authenticator of a process, with what it works on."""

from daemons.authentication.authenticator import Authenticator, Tokens
from daemons.authentication.channel_binding import ChannelBindings
from daemons.context import Context
from storage.credentials import Credentials


def build_authenticator(context: Context) -> Authenticator:
    """One per process; whoever builds it calls close(). Reads the certificate: blocking I/O."""
    settings, authentication = context.settings, context.settings.authentication
    bindings = ChannelBindings(settings.tls.certificate) if context.tls is not None else None
    tokens: Tokens | None = None
    if authentication.issuers:
        from daemons.authentication.issuers import Issuers  # brings an HTTP client: 15 MB that few need

        tokens = Issuers(authentication.issuers, cache_entries=authentication.token_cache_entries)
    return Authenticator(context.directory, Credentials(context.pool), authentication, bindings=bindings, tokens=tokens)
