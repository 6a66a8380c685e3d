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
BDAT_ONLY = reply(503, "5.5.1", "BINARYMIME needs BDAT")  # RFC 3030 §3
NO_EXTENSIONS = reply(555, "5.5.4", "parameters need EHLO")

# Logging in, RFC 4954 §4 and §6
AUTH_OK = reply(235, "2.7.0", "logged in")
AUTH_FIRST = reply(530, "5.7.0", "log in first")
TLS_FIRST = reply(530, "5.7.0", "send STARTTLS first")  # RFC 3207 §4
AUTH_NEEDS_TLS = reply(538, "5.7.11", "send STARTTLS first: no login without TLS")
AUTH_TWICE = reply(503, "5.5.1", "logged in already")
AUTH_IN_TRANSACTION = reply(503, "5.5.1", "no AUTH within a transaction")
AUTH_FAILED = reply(535, "5.7.8", "login or password is wrong")
AUTH_ACTING = reply(535, "5.7.8", "nobody may act for another here")
AUTH_CANCELLED = reply(501, "5.7.0", "login cancelled")
AUTH_MALFORMED = reply(501, "5.5.2", "response is not what the mechanism wants")
AUTH_LINE_TOO_LONG = reply(500, "5.5.6", "line of the exchange is too long")
AUTH_UNAVAILABLE = reply(454, "4.7.0", "logins cannot be checked now, try again later")
MECHANISM_UNKNOWN = reply(504, "5.5.4", "mechanism is not offered")

# Senders
SENDER_NOT_OWN = reply(550, "5.7.1", "MAIL FROM: not an address that you may send as")
AUTHOR_NOT_OWN = reply(550, "5.7.1", "From or Sender: not an address that you may send as")
AUTHOR_MISSING = reply(550, "5.6.0", "message has no From field with an address")
AUTHOR_AMBIGUOUS = reply(550, "5.6.0", "message has more than one From or Sender field")
AUTHORS_TOO_MANY = reply(550, "5.7.1", "too many addresses in From and Sender")
HOLD_IS_OVER = reply(501, "5.5.4", "HOLDUNTIL is over already")
HOLD_TOO_LONG = reply(501, "5.5.4", "message cannot be held back for so long")

# Recipients
DOMAIN_UNROUTABLE = reply(550, "5.1.2", "no such domain can exist")
MAILBOX_UNKNOWN = reply(550, "5.1.1", "no such mailbox here")
RELAY_DENIED = reply(550, "5.7.1", "relaying denied")
MAILBOX_DISABLED = reply(550, "5.2.1", "mailbox is disabled")
MAILBOX_FULL_FOR_NOW = reply(452, "4.2.2", "mailbox is full, try again later")
MAILBOX_FULL = reply(552, "5.2.2", "mailbox is full")
FORWARDS_TOO_FAR = reply(550, "5.2.4", "mailbox forwards to too many addresses")
FORWARDS_IN_CIRCLES = reply(550, "5.4.6", "mailbox forwards in circles")
TOO_MANY_RECIPIENTS = reply(452, "4.5.3", "too many recipients in one transaction")
MAILBOX_GONE = reply(451, "4.2.1", "mailbox has just changed, try again later")

# Content
TOO_BIG = reply(552, "5.3.4", "message is larger than SIZE allows")
NOT_CONVERTIBLE = reply(554, "5.6.3", "binary message cannot be encoded for recipients elsewhere")
BARE_LINE_END = reply(550, "5.6.0", "message has a CR or LF outside CRLF")
POLICY = reply(550, "5.7.1", "message refused by policy")
HOP_LIMIT = reply(554, "5.4.6", "message goes in circles: too many Received fields")

# Lines
LINE_TOO_LONG = reply(500, "5.5.2", "command line is too long")
LINE_WITHOUT_CRLF = reply(500, "5.5.2", "command line does not end in CRLF")

# Ours
UNAVAILABLE = reply(451, "4.3.0", "cannot be handled now, try again later")
DISK_FULL = reply(452, "4.3.1", "no room for the message now, try again later")

# The end of the connection
TOO_MANY_COMMANDS = reply(421, "4.7.0", "too many commands, goodbye")
TOO_MANY_LOGINS = reply(421, "4.7.0", "too many failed logins, goodbye")
TOO_MANY_ERRORS = reply(421, "4.7.0", "too many errors, goodbye")
TIMED_OUT = reply(421, "4.4.2", "timed out, goodbye")
SHUTTING_DOWN = reply(421, "4.3.2", "shutting down, come back later")
TOO_MANY_CONNECTIONS = reply(421, "4.3.2", "too many connections, come back later")
TOO_MANY_FROM_NETWORK = reply(421, "4.7.0", "too many connections from your network, come back later")
INTERNAL_ERROR = reply(421, "4.3.0", "internal error, come back later")
