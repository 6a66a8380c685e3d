"""Postfix and Dovecot of the distribution as private instances in a temporary directory, on high loopback ports.

What a user would otherwise pick, with its default durability: Postfix takes the mail into its queue and hands it over
LMTP to Dovecot, which stores it as Maildir or mdbox. Logins are Dovecot's tuned ones (processes reused). No filter, no
Sieve, no compression, as the suite under load has no filters either. Never writes to /etc. Needs root, because
Postfix's master and Dovecot change their user.
"""

import asyncio
import os
import pwd
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import argon2

from bench.certificate import write_certificate
from bench.connection import connect
from bench.postfix import PROGRAMS, lay_out
from bench.suite import free_port_offset
from bench.system import DOMAIN, READER, Account, System

_PORTS = (21525, 21587, 21993, 21995)  # of smtp, submission, imaps and pop3s, before an offset at which they are free
_STORE_UID = 50000  # owner of all stored mail; needs no passwd entry

_MAIN_CF = """
myhostname = peer.{domain}
virtual_mailbox_maps = hash:{directory}/postfix/mailboxes
virtual_transport = lmtp:unix:{directory}/lmtp
smtpd_tls_security_level = none
transport_maps = hash:{directory}/postfix/transport
smtpd_sender_login_maps = hash:{directory}/postfix/mailboxes
smtpd_sasl_type = dovecot
held = check_recipient_access regexp:{directory}/postfix/held
smtpd_sasl_path = {directory}/auth-client
"""

_MASTER_CF = """
127.0.0.1:{submission} inet n - n - - smtpd
  -o smtpd_tls_security_level=encrypt
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_sender_restrictions=reject_sender_login_mismatch
  -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject
  -o smtpd_data_restrictions=
  -o smtpd_relay_restrictions=$held,permit_sasl_authenticated,reject
pickup unix n - n 60 1 pickup
lmtp unix - - n - - lmtp
"""

_DOVECOT_CONF = """
base_dir = {directory}/run
state_dir = {directory}/dovecot-state
log_path = {directory}/dovecot.log
protocols = imap pop3 lmtp
listen = 127.0.0.1
ssl = yes
ssl_cert = <{certificate}
ssl_key = <{key}
ssl_min_protocol = TLSv1.2
disable_plaintext_auth = no
auth_mechanisms = plain
auth_cache_size = 10M
mail_location = {location}
mail_uid = {uid}
mail_gid = {uid}
first_valid_uid = {uid}
mail_max_userip_connections = 10000
mail_plugins = zlib
imap_hibernate_timeout = {hibernate}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {directory}/passwords
}}
userdb {{
  driver = static
  args = uid={uid} gid={uid} home={directory}/mail/%n
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
service auth {{
  client_limit = 16384
}}
service anvil {{
  client_limit = 16384
}}
service stats {{
  client_limit = 16384
}}
service auth {{
  unix_listener {directory}/auth-client {{
    mode = 0666
  }}
}}
service lmtp {{
  unix_listener {directory}/lmtp {{
    mode = 0666
  }}
}}
service imap-login {{
  service_count = 0
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service pop3-login {{
  service_count = 0
  inet_listener pop3 {{
    port = 0
  }}
  inet_listener pop3s {{
    port = {pop3s}
    ssl = yes
  }}
}}
service imap {{
  service_count = 1000
  process_limit = 4096
  unix_listener imap-master {{
    mode = 0666
  }}
}}
service imap-hibernate {{
  client_limit = 16384
  unix_listener imap-hibernate {{
    mode = 0666
  }}
}}
protocol imap {{
  mail_plugins = $mail_plugins imap_zlib
}}
service pop3 {{
  service_count = 1000
}}
protocol pop3 {{
  pop3_no_flag_updates = yes
}}
"""
HASHED = 1  # the account of this number has an argon2id hash with our parameters
_HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, hash_len=32, salt_len=16)
_HIBERNATE_SECONDS = 2
LOCATIONS = {"maildir": "maildir:~/Maildir", "mdbox": "mdbox:~/mdbox"}


class PeerError(Exception):
    """The peer cannot run here; the text says why."""


@asynccontextmanager
async def peer(
    directory: Path,
    accounts: list[Account],
    store: str,
    *,
    hibernates: bool = False,
    transports: Mapping[str, str] | None = None,
) -> AsyncIterator[System]:
    """Run Postfix and Dovecot below `directory` (store: maildir or mdbox). Raises PeerError where that cannot be.

    transports: where Postfix sends mail for a domain, as in transport(5).
    hibernates: sessions that idle for 2 s are handed to one process for all of them (imap_hibernate_timeout).
    """
    _require()
    certificate, key = write_certificate(directory)
    offset = free_port_offset(_PORTS, range(9000))
    smtp, submission, imaps, pop3s = (port + offset for port in _PORTS)
    keys: dict[str, object] = {"certificate": certificate, "key": key}
    _write_postfix(directory, accounts, {**keys, "port": smtp, "submission": submission}, transports)
    hibernate = f"{_HIBERNATE_SECONDS} s" if hibernates else "0"
    _write_dovecot(directory, accounts, store, {**keys, "imaps": imaps, "pop3s": pop3s, "hibernate": hibernate})
    tls = ssl.create_default_context(cafile=str(certificate))
    commands = [
        [f"{PROGRAMS}/master", "-c", f"{directory}/postfix", "-d"],
        ["/usr/sbin/dovecot", "-F", "-c", f"{directory}/dovecot.conf"],
    ]
    processes = [subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) for command in commands]
    endpoints: dict[str, tuple[str, int] | str] = {
        "smtp": ("127.0.0.1", smtp),
        "submission": ("127.0.0.1", submission),
        "lmtp": f"{directory}/lmtp",
        "imaps": ("127.0.0.1", imaps),
        "pop3s": ("127.0.0.1", pop3s),
    }
    try:
        for endpoint in endpoints.values():
            await _answering(endpoint, processes, directory)
        roots = [process.pid for process in processes]
        name = f"postfix+dovecot {store}{' hibernating' if hibernates else ''}"
        settling_seconds = 3.0 * _HIBERNATE_SECONDS if hibernates else 0.0
        yield System(
            name,
            endpoints,
            accounts,
            READER,
            tls,
            roots,
            settling_seconds,
            let_go=lambda: _command(directory, ["postsuper", "-H", "ALL"], ["postqueue", "-f"]),
            discard=lambda: _command(directory, ["postsuper", "-d", "ALL"]),
        )
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)


def _require() -> None:
    missing = [
        path for path in (f"{PROGRAMS}/master", "/usr/sbin/dovecot", "/usr/sbin/postmap") if not os.path.exists(path)
    ]
    if missing:
        raise PeerError(
            f"not installed: {', '.join(missing)} (apt-get install postfix dovecot-imapd dovecot-lmtpd dovecot-pop3d)"
        )
    if os.geteuid() != 0:
        raise PeerError("Postfix and Dovecot need root to start")


def _command(directory: Path, *commands: list[str]) -> None:
    """Commands for Postfix's queue."""
    for command in commands:
        subprocess.run([f"/usr/sbin/{command[0]}", "-c", f"{directory}/postfix", *command[1:]], check=True)


def _write_postfix(
    directory: Path, accounts: list[Account], given: Mapping[str, object], transports: Mapping[str, str] | None
) -> None:
    lay_out(directory, _MAIN_CF, _MASTER_CF, {"domain": DOMAIN, **given})
    configuration = directory / "postfix"
    mailboxes = configuration / "mailboxes"
    mailboxes.write_text("".join(f"{account.login} {account.login}\n" for account in (*accounts, READER)))
    transport = configuration / "transport"
    transport.write_text("".join(f"{domain} {where}\n" for domain, where in (transports or {}).items()))
    (configuration / "held").write_text("/^held.*[.]sink[.]test$/ HOLD\n")
    for table in (mailboxes, transport):
        subprocess.run(["/usr/sbin/postmap", "-c", configuration, f"hash:{table}"], check=True)


def _write_dovecot(directory: Path, accounts: list[Account], store: str, values: Mapping[str, object]) -> None:
    text = _DOVECOT_CONF.format(directory=directory, location=LOCATIONS[store], uid=_STORE_UID, **values)
    (directory / "dovecot.conf").write_text(text)
    secrets = {account.login: account.password for account in (*accounts, READER)}
    secrets[accounts[HASHED].login] = "{ARGON2ID}" + _HASHER.hash(accounts[HASHED].password)
    lines = [f"{login}:{secret}\n" for login, secret in secrets.items()]
    (directory / "passwords").write_text("".join(lines))
    dovecot = pwd.getpwnam("dovecot")
    os.chown(directory / "passwords", dovecot.pw_uid, dovecot.pw_gid)
    (directory / "dovecot-state").mkdir()
    (directory / "mail").mkdir()
    shutil.chown(directory / "mail", _STORE_UID, _STORE_UID)


async def _answering(
    endpoint: tuple[str, int] | str, processes: list[subprocess.Popen[bytes]], directory: Path
) -> None:
    """Wait until the endpoint takes connections."""
    for _ in range(200):
        ended = [process for process in processes if process.poll() is not None]
        if ended:
            logs = [path.read_text()[-1500:] for path in directory.glob("*.log")]
            raise PeerError(f"{ended[0].args!r} ended at start\n" + "\n".join(logs))
        try:
            (await connect(endpoint)).close()
        except OSError:
            await asyncio.sleep(0.05)
        else:
            return
    raise PeerError(f"nothing listens on {endpoint}")
