"""Every reply that the SMTP and LMTP sessions give, in one place; those of syntax errors stand in protocol/smtp/command.py.

The texts are what strangers read: they say what to do, never what is behind it.
"""

from protocol.smtp.reply import reply

# RFC 5321 §4.3.2, by command
QUIT_OK = reply(221, "2.0.0", "closing connection")
RSET_OK = reply(250, "2.0.0", "transaction dropped")
NOOP_OK = reply(250, "2.0.0", "ok")
SENDER_OK = reply(250, "2.1.0", "sender ok")
RECIPIENT_OK = reply(250, "2.1.5", "recipient ok")
VRFY_UNSAID = reply(252, "2.5.0", "send mail to find out")
HELP_TEXT = reply(214, "2.0.0", "EHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP STARTTLS QUIT", "see RFC 5321")
HELP_TEXT_LMTP = reply(214, "2.0.0", "LHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP STARTTLS QUIT", "see RFC 2033")
GO_AHEAD = reply(354, "", "end with <CRLF>.<CRLF>")
TLS_READY = reply(220, "2.0.0", "ready to start TLS")

# Order of commands
HELLO_FIRST = reply(503, "5.5.1", "send EHLO first")
LHLO_FIRST = reply(503, "5.5.1", "send LHLO first")
WRONG_HELLO = reply(500, "5.5.1", "this is SMTP: send EHLO")
WRONG_HELLO_LMTP = reply(500, "5.5.1", "this is LMTP: send LHLO")  # RFC 2033 §4.1
NESTED_MAIL = reply(503, "5.5.1", "a transaction is open already")
MAIL_FIRST = reply(503, "5.5.1", "send MAIL first")
RCPT_FIRST = reply(503, "5.5.1", "send RCPT first")
NO_RECIPIENTS = reply(554, "5.5.1", "no valid recipients")  # RFC 5321 §4.1.1.4
NO_RECIPIENTS_LMTP = reply(503, "5.5.1", "no valid recipients")  # RFC 2033 §4.2
CHUNKS_BEGUN = reply(503, "5.5.1", "message was begun with BDAT")  # RFC 3030 §2
TLS_TWICE = reply(503, "5.5.1", "TLS is on already")
NO_TLS = reply(502, "5.5.1", "TLS is not offered")
NO_AUTH = reply(502, "5.5.1", "AUTH is not offered")
NO_EXTENSIONS = reply(555, "5.5.4", "parameters need EHLO")

# Recipients
MAILBOX_UNKNOWN = reply(550, "5.1.1", "no such mailbox here")
RELAY_DENIED = reply(550, "5.7.1", "relaying denied")
MAILBOX_DISABLED = reply(550, "5.2.1", "mailbox is disabled")
MAILBOX_FULL_FOR_NOW = reply(452, "4.2.2", "mailbox is full, try again later")
MAILBOX_FULL = reply(552, "5.2.2", "mailbox is full")
TOO_MANY_RECIPIENTS = reply(452, "4.5.3", "too many recipients in one transaction")
MAILBOX_GONE = reply(451, "4.2.1", "mailbox has just changed, try again later")

# Content
TOO_BIG = reply(552, "5.3.4", "message is larger than SIZE allows")
BARE_LINE_END = reply(550, "5.6.0", "message has a CR or LF outside CRLF")
HOP_LIMIT = reply(554, "5.4.6", "message goes in circles: too many Received fields")

# Lines
LINE_TOO_LONG = reply(500, "5.5.2", "command line is too long")
LINE_WITHOUT_CRLF = reply(500, "5.5.2", "command line does not end in CRLF")

# Ours
UNAVAILABLE = reply(451, "4.3.0", "cannot be handled now, try again later")
DISK_FULL = reply(452, "4.3.1", "no room for the message now, try again later")

# The end of the connection
TOO_MANY_COMMANDS = reply(421, "4.7.0", "too many commands, goodbye")
TOO_MANY_ERRORS = reply(421, "4.7.0", "too many errors, goodbye")
TIMED_OUT = reply(421, "4.4.2", "timed out, goodbye")
SHUTTING_DOWN = reply(421, "4.3.2", "shutting down, come back later")
TOO_MANY_CONNECTIONS = reply(421, "4.3.2", "too many connections, come back later")
TOO_MANY_FROM_NETWORK = reply(421, "4.7.0", "too many connections from your network, come back later")
INTERNAL_ERROR = reply(421, "4.3.0", "internal error, come back later")
