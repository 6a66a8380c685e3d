"""What servers write into bounces, by what they mean: regular expressions, one per line, for text in any case.

They were gathered from real bounces (tests/corpora), are tried in the order of the table, and look no further than a sentence.
Names in angle brackets stand for the groups of words below.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Literal

Reason = Literal[
    "unknown-mailbox", "unknown-domain", "moved", "disabled", "full", "too-large", "expired", "network", "blocked",
    "authentication", "spam", "virus", "policy", "rate", "system", "other",
]  # fmt: skip

_GROUPS: Mapping[str, str] = {
    "<account>": "account mail_?box user recipient address e?-?mail",
    "<person>": "user mail_?box recipient account address addressee local[-_]part alias customer e?-?mail person destination "
    "name inbox",
    "<store>": "mail_?(?:box|folder|dir(?:ectory)?) account inbox user quota disk storage",
    "<peer>": "ip host client server sender address domain you access connection network been mail messages?",
    "<program>": "system internal server software local configuration program i/?o pipe mailer database ldap ipc agent",
    "<absent>": "unknown not_(?:found|known|exist|listed|recogni[sz]ed|valid|here|local|match) not_(?:a_valid|a_known) "
    "not_(?:in|on)_(?:virtual|our|my|the|this) does(?:_not|n'?t)_(?:exist|have) invalid unavailable non-?existent no_longer "
    "could_?n[o']t_be_found wasn'?t_found undeliverable has_been_(?:removed|deleted)",
    "<wrong>": "unknown invalid illegal non-?existent bad inexistent undeliverable incorrect no-?such unavailable unroutable",
    "<shut>": "disabled suspended inactive deactivated discontinued locked not_active frozen expired closed terminated "
    "been_cancel\\w+",
    "<overfull>": "full over_?quota exceed\\w* exhausted over_limit out_of",
    "<nowhere>": "not_(?:found|exist|resolve|reachable) does_not_exist doesn'?t_exist may_not_exist non-?existent invalid unknown "
    "could_?n[o']t_be_found is_not_valid illegal",
}  # "_" is a space, words are alternatives

_TABLE = r"""
[virus]
virus (?:found|detected|infected|in (?:your|the))
infected (?:with|by|message|file)
malware
contains? (?:a )?virus
message was infected

[policy]
duplicate header
rfc ?5322
multiple (?:subject|from|to)\b
potential security
sender (?:was |address )?rejected

[authentication]
\b(?:dmarc|spf|dkim)\b
sender policy framework
authentication (?:checks?|information) (?:failed|has|is|or)
(?:unauthenticated|not authenticated|passing authentication)
sender id \(pra\)
authentication[- ]results.*fail

[blocked]
reverse (?:dns|lookup|hostname)
\b(?:no )?ptr\b
rdns
cannot find your (?:reverse )?host
unverified client host
client host rejected: cannot find
cannot resolve your (?:ip|address)
fix reverse
ip (?:address )?(?:name )?(?:lookup|does not resolve)
domain name of ip
resolvable hostname
after initial connection: [45]
unverifyable sending
(?:low|poor|bad) reputation
mismatches client
invalid ip
messages? from \S{1,50} weren't sent
smtp server of your isp
blocked by ldap

[full]
<store>\b[^.\n]{0,60}\b<overfull>
over[- ]?(?:disk[- ])?quota
quota\b[^.\n]{0,40}\b(?:exceed|full|reach)
exceed\w*\b[^.\n]{0,50}\bquota
exceeded (?:the |its |his |their )?(?:mail ?box|storage|allocated|disk)
not enough (?:storage )?space
insufficient (?:system |disk )?(?:storage|space)
mailbox too large
too much mail data
no (?:space left|room in)
(?:out of (?:storage |disk )?space|disk space|out of memory)
mailbox is at its limit
over the maximum allowed (?:mailbox|quota)
(?:mailbox_?full|mailfolder is full)
limit of the mailbox
cannot accept any more (?:mail|messages)

[too-large]
message (?:is |was )?(?:too (?:big|large|long)|size)
(?:size|message) (?:of (?:the|this) message )?exceed
too large
exceeds? (?:the )?(?:maximum|fixed|allowed|size)[^.\n]{0,30}(?:size|length|limit)
max(?:imum)? (?:message )?(?:size|length)
exceeded (?:the )?maximum (?:message )?size
message (?:length|too)
(?:line|size) limit

[moved]
(?:has|have) moved
(?:mailbox|user) (?:was |has )?moved
address (?:has )?changed
new address
no longer with
has been replaced by
please (?:forward to|try) <
moved to another

[spam]
\b(?:ube|uce)\b
blacklisted (?:url|link)
\bspam(?!haus|cop)\w*\b
(?:unsolicited|junk mail|bulk mail)
\bofr_?506\b
appears? to be unwanted
mail rejete

[rate]
too many (?:connections?|concurrent|simultaneous|sessions|messages|mails?|emails?|recipients)
rate[- ]?limit
(?:connection|message|mail|sending) (?:rate|frequency)
throttl
too (?:fast|quickly)
(?:unusual rate|at a rate that)
frequency (?:is )?limited
exceeded .{0,30}connections
connection limit
slow down

[disabled]
account is blocked

[blocked]
(?:black ?|block ?|deny ?)list
\b(?:rbl|dnsbl|spamhaus|spamcop|sorbs|barracudacentral)\b
<peer>[^.\n]{0,40}\b(?:blocked|banned)
reputation
client host rejected
connections? (?:will not be|not) accepted
dynamic(?:ally)? (?:ip|assigned)
residential
(?:mail|messages?) from (?:your )?(?:\[?\d|ip|host|this (?:ip|host))[^\n]{0,60}(?:refused|rejected|denied|not accepted)
helo\b[^\n]{0,60}(?:reject|invalid|bad|refused|not)
we do not accept mail from (?:hosts|dynamic|this)
temporarily deferred due to (?:user|unexpected)
refused to talk to me
no smtp service here
not authorized to connect
closing (?:transmission|connection) due to
service refused
your access to this mail system

[disabled]
<account>\b[^.\n]{0,40}\b<shut>
(?:disabled|suspended|inactive|deactivated|locked|dormant|closed) <account>
not accepting (?:mail|messages|any)
temporarily disabled
account (?:is )?(?:not |un)available
out of service

[network]
host not found, try again

[unknown-domain]
host \S{1,255} not found
indicated no smtp service
host (?:or domain name )?(?:not found|unknown|unreachable for)
unknown (?:host|domain)
domain\b[^.\n]{0,60}<nowhere>
no such (?:host|domain)
nxdomain
no (?:mx|mail exchanger?)(?: or a)? (?:record|host|entr)
name (?:or service )?(?:not known|service error)
couldn'?t find any host
non-?existent (?:host|domain)
(?:not|does not|doesn't) accept (?:e?-?mail|any mail)
null ?mx
all relevant mx records point
no a(?:aaa)?/?(?:mx)? record
unrouteable (?:mail )?(?:domain|address)
bad destination system
host ?name lookup fail
unable to (?:find|resolve)[^.\n]{0,40}(?:host|domain|mx)
invalid domain
address(?:es)? not found for
illegal host

[unknown-mailbox]
5\.4\.1 [^\n]{0,100}access denied
<person>(?:'s|\(s\)|es)?\b[^.\n]{0,80}\b<absent>
no (?:such|valid|mailbox|account|user|local)[^.\n]{0,30}(?:<person>|here)
<wrong> (?:or (?:illegal|invalid) )?(?:local )?<person>
(?:unknown|invalid) final delivery userid
user_?unknown
(?:recipnotfound|recipientnotfound)
not listed in
is unknown
not a known user
not our customer
nobody by that name
not a valid (?:user|mailbox|recipient)
does not like recipient
destination server rejected recipients
delivery to (?:this|that) (?:address|user) (?:is )?not
dest(?:ination)? not (?:found|known)
who does not exist
no valid recipient
check if address
not a registered

[expired]
timed? ?out
retry time(?:out)?(?: was)? (?:exceeded|not reached)
deliver(?:y|y time) expired
(?:message|mail|letter|it) (?:has )?(?:expired|been (?:in|on) the (?:mail )?(?:queue|mailq))
(?:queue|retry|delivery)[- ](?:time|period|timeout|lifetime|interval)[^.\n]{0,30}(?:expired|exceeded|reached|long)
in the queue too long
too long in (?:the )?queue
multiple retries
giving up
(?:could not|unable to|cannot|can't|not) (?:be )?(?:deliver|sen[dt])\w*[^.\n]{0,40} (?:in|for|after) [^.\n]{0,9}\d+ (?:hour|day|min)
for (?:more than )?\d+ (?:hours|days|minutes)
host (?:is )?(?:not reachable|unreachable)
not (?:yet )?been delivered
undeliverable for
maximum (?:retry|queue)
no longer (?:be )?retr(?:y|ied)
within the allowed
\d+ attempts
will be retried
still being retried
delayed \d
failing for a long time

[network]
accept our requests to connect
socket error
connection (?:was )?(?:refused|reset|dropped|lost|closed|died|failed|broken|unexpectedly)
lost connection
no route to host
network (?:is )?(?:unreachable|error|problem)
connect(?:ion)? to [^\n]{0,80}(?:failed|refused)
(?:mail|message|routing)[^.\n]{0,15}loop
(?:too many hops|hop count|loops? back|forwarded more than)
(?:name ?server|name service)
dns (?:server|lookup|error|query|fail|problem)
(?:lookup (?:failure|failed)|mx (?:lookup|query))
unable to (?:connect|establish|route)
wasn'?t able to establish
could ?n[o']t (?:connect|reach)
(?:not responding|unreachable)
temporar(?:y|ily)[^.\n]{0,20}resolv
remote host
\bdns\s

[system]
internal system
ldap server
service currently unavailable
pipe to \|
local delivery failed
text was generated during

[policy]
relay(?:ing)?\b[^.\n]{0,40}\b(?:denied|not (?:permitted|allowed)|prohibited|disallowed|access)
not (?:permitted|allowed|authori[sz]ed|accept\w*)
(?:policy|policies|content|administrat\w+|prohibit\w*|refus\w*|reject\w*|denied|violat\w*|forbidden)
(?:suspicious|unacceptable|permission|filtered|attachments?|non-?compliant|not compliant|greylist\w*|moderat\w+|members? only|group)
(?:must issue a starttls|tls (?:required|is required)|encryption)
rfc ?\d{4}
sender (?:address )?verif\w+
verify sender
message header
bare (?:lf|cr)

[system]
<program>[^.\n]{0,25}(?:error|failure|fail|problem|exception|exited|crash)
service (?:not |un)available
try (?:again )?later
unable to (?:write|open|lock|create|read)
cannot (?:open|create|write|exec)
(?:not implemented|could not load)
command (?:unknown|unrecogni[sz]ed|not|sequence|died|failed|output|time)
(?:syntax error|unrecogni[sz]ed command|bad sequence|configuration|resources|overload|busy|daemon)
exit (?:code|status)
exec(?:v|ution)
transport (?:error|unavailable)
"""

ADDRESS = re.compile(r"[^\s<>\[\]()]{1,64}@[^\s<>\[\]()]{1,255}")

# Sentences that stand in every bounce of a service, whatever the reason.
FORMULAS = re.compile(
    r"it was rejected by the (?:recipient|server for the recipient) domain|we recommend contacting the other email provider[^.]*\.|"
    r"recipient address rejected:|to reduce the amount of spam[^.]*\.|https?://\S+|for further assistance[^.]*\.",
    re.IGNORECASE,
)


def _read(table: str) -> Iterator[tuple[Reason, re.Pattern[str]]]:
    groups = {name: "(?:" + words.replace(" ", "|").replace("_", " ") + ")" for name, words in _GROUPS.items()}
    for block in table.strip().split("\n\n"):
        title, *lines = block.splitlines()
        pattern = "|".join(lines)
        for name, group in groups.items():
            pattern = pattern.replace(name, group)
        reason: Reason = title.strip("[]")  # type: ignore[assignment]
        yield reason, re.compile(pattern, re.IGNORECASE)


PATTERNS = tuple(_read(_TABLE))
