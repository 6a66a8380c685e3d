"""A private Postfix: the lines that every one of ours has, and its directories. Never writes to /etc; needs root."""

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

PROGRAMS = "/usr/lib/postfix/sbin"

_MAIN_CF = f"""
compatibility_level = 3.6
config_directory = {{directory}}/postfix
queue_directory = {{directory}}/queue
data_directory = {{directory}}/postfix-state
command_directory = /usr/sbin
daemon_directory = {PROGRAMS}
meta_directory = /etc/postfix
maillog_file = {{directory}}/postfix.log
maillog_file_prefixes = /var, /dev/stdout, {{directory}}
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
virtual_mailbox_domains = {{domain}}
virtual_mailbox_limit = 0
message_size_limit = 52428800
smtpd_tls_cert_file = {{certificate}}
smtpd_tls_key_file = {{key}}
"""
_MASTER_CF = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""
_SPOOLS = ("incoming", "active", "bounce", "defer", "deferred", "flush", "saved", "trace", "corrupt", "hold")


def lay_out(directory: Path, main: str, master: str, values: Mapping[str, object]) -> None:
    """Its directories below `directory`, and its configuration: our lines, then those of main and master.

    values: for what stands in braces, such as the port, the certificate and its key, and the domain that it takes mail for.
    """
    values = {"directory": directory, **values}
    configuration = directory / "postfix"
    configuration.mkdir()
    (configuration / "main.cf").write_text((_MAIN_CF + main.lstrip("\n")).format(**values))
    (configuration / "master.cf").write_text((_MASTER_CF + master.lstrip("\n")).format(**values))
    owner = pwd.getpwnam("postfix")
    (directory / "postfix-state").mkdir()
    os.chown(directory / "postfix-state", owner.pw_uid, owner.pw_gid)
    queue = directory / "queue"
    queue.mkdir(mode=0o755)
    private = {"public": 0o710, "private": 0o700, "maildrop": 0o730, "pid": 0o755}
    for name, mode in {**private, **dict.fromkeys(_SPOOLS, 0o700)}.items():
        (queue / name).mkdir()
        (queue / name).chmod(mode)
        if name != "pid":
            os.chown(queue / name, owner.pw_uid, owner.pw_gid)
