"""The authenticator of a process, with what it works on."""

from daemons.authentication.authenticator import Authenticator
from daemons.authentication.channel_binding import ChannelBindings
from daemons.context import Context
from storage.credentials import Credentials


def build_authenticator(context: Context) -> Authenticator:
    """One per process; whoever builds it calls close(). Reads the certificate: blocking I/O."""
    settings = context.settings
    bindings = ChannelBindings(settings.tls.certificate) if context.tls is not None else None
    return Authenticator(context.directory, Credentials(context.pool), settings.authentication, bindings=bindings)
