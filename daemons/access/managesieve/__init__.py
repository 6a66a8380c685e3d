"""ManageSieve: how people put Sieve scripts on the server, RFC 5804."""
