"""The section [notifier]: notifications that rules ask for, by mail, to web servers (webhooks), and by SMS gateways."""

import json
import re
from ipaddress import ip_network
from string import Template
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from config.units import DAY, HOUR, MINUTE, Seconds

PLACES = ("to", "digits", "text", "id", "secret")  # what templates of gateways may name
_FORM, _JSON = "application/x-www-form-urlencoded", "application/json"
_MOST_PARTS = 10


class Gateway(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An SMS gateway: what is asked of it over HTTP. $to is the number with its plus, $digits the same without, $text the message,
    $id what makes it recognisable when it is sent again, $secret the first line of secret_file; $$ is a dollar sign.
    """

    url: Annotated[
        str,
        Meta(
            description="Where requests go. What is filled in is percent-encoded. https; http only to addresses in "
            "transport.private_networks.",
            examples=["https://sms.example.net/send"],
        ),
    ]
    method: Annotated[Literal["POST", "GET"], Meta(description="The request's method. GET has no body.")] = "POST"
    media_type: Annotated[
        Literal["application/json", "application/x-www-form-urlencoded"],
        Meta(description="Of the body; what is filled into it is escaped accordingly."),
    ] = "application/json"
    body: Annotated[str, Meta(description="The body of a POST.", examples=['{"to": "$to", "text": "$text"}'])] = (
        '{"to": "$to", "text": "$text"}'
    )
    headers: Annotated[
        dict[str, str],
        Meta(description="Further fields of the request.", examples=[{"Authorization": "Bearer $secret"}]),
    ] = {}
    secret_file: Annotated[str, Meta(description="File with the password or key that $secret stands for.")] = ""
    accepted: Annotated[
        str,
        Meta(
            description="Regular expression that the body of an answer must match besides having a status of 200 to 299, for "
            "gateways that tell failures in it. Empty: the status is enough."
        ),
    ] = ""
    prefixes: Annotated[
        list[str],
        Meta(
            description="Numbers it is for, by their first digits. Empty: all. The first gateway that fits is taken.",
            examples=[["+49", "+43"]],
        ),
    ] = []
    parts: Annotated[
        int,
        Meta(
            ge=1,
            le=_MOST_PARTS,
            description="Most short messages (160 characters, 70 where others than GSM's occur) for one text.",
        ),
    ] = 1
    price: Annotated[
        int,
        Meta(
            ge=0,
            description="What one part costs, in thousandths of your currency: 75 is 0.075. It is counted per account.",
        ),
    ] = 0

    def __post_init__(self) -> None:
        """Check the templates. Raises ValueError, which names the key."""
        if not self.url.startswith(("https://", "http://")):
            raise ValueError("url: https, or http in networks of your own")
        for key, text in (
            ("url", self.url),
            ("body", self.body),
            *((f"headers.{name}", value) for name, value in self.headers.items()),
        ):
            template = Template(text)
            if not template.is_valid() or not set(template.get_identifiers()) <= set(PLACES):
                raise ValueError(f"{key}: what may be filled in is {', '.join(f'${place}' for place in PLACES)}")
            if "secret" in template.get_identifiers() and not self.secret_file:
                raise ValueError(f"{key}: $secret needs secret_file")
        if self.method == "POST" and self.media_type == _JSON:
            try:
                json.loads(Template(self.body).substitute(dict.fromkeys(PLACES, "0")))
            except ValueError:
                raise ValueError("body: not JSON") from None
        for prefix in self.prefixes:
            if not re.fullmatch(r"\+[0-9]+", prefix):
                raise ValueError('prefixes: a plus and digits, as in "+49"')
        try:
            re.compile(self.accepted)
        except re.error as error:
            raise ValueError(f"accepted: {error}") from None


class Notifier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Notifications by rule. Limits are for an account and a day (UTC); `postwerk notifier limit` gives an account others."""

    mail_limit: Annotated[int, Meta(ge=0, description="Notifications by mail. 0: none.")] = 200
    web_limit: Annotated[
        int, Meta(ge=0, description="Notifications to web servers that users name (webhooks). 0: none.")
    ] = 200
    sms_limit: Annotated[
        int, Meta(ge=0, description="SMS. 0: none, which is for accounts that pay for them alone.")
    ] = 10
    text_limit: Annotated[
        int, Meta(ge=1, le=10_000, description="Characters of a webhook's message and subject; the rest is cut.")
    ] = 1000
    timeout: Annotated[Seconds, Meta(description="What a web server or gateway has for its answer.")] = Seconds(15)
    retry_waits: Annotated[
        list[Seconds],
        Meta(
            min_length=1,
            description="Waits between attempts; the last one repeats. A server may ask for longer ones (Retry-After).",
        ),
    ] = msgspec.field(default_factory=lambda: [Seconds(wait) for wait in (MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR)])
    lifetime: Annotated[
        Seconds, Meta(description="After this time a notification is given up: later it tells nothing new.")
    ] = Seconds(12 * HOUR)
    at_once: Annotated[int, Meta(ge=1, le=1000, description="Requests under way in one relay process.")] = 20
    account_at_once: Annotated[
        int, Meta(ge=1, le=1000, description="Requests of one account under way: its server may be dead.")
    ] = 2
    private_networks: Annotated[
        list[str],
        Meta(
            description="Networks (CIDR) that are not public and that users' webhooks may reach all the same. Default: none. "
            "Gateways may reach those of transport.private_networks.",
            examples=[["10.20.0.0/16"]],
        ),
    ] = []
    authority: Annotated[
        str, Meta(description="PEM file with the authority of the servers' certificates. Empty: those of the system.")
    ] = ""
    count_memory: Annotated[
        Seconds, Meta(description="How long it is remembered what an account caused, and what it cost.")
    ] = Seconds(400 * DAY)
    gateways: Annotated[
        list[Gateway], Meta(description="SMS gateways. Without one nobody can be notified by `sms:`.")
    ] = []

    def __post_init__(self) -> None:
        """Check the networks. Raises ValueError, which names the key."""
        for network in self.private_networks:
            try:
                ip_network(network, strict=False)
            except ValueError as error:
                raise ValueError(f"private_networks: {error}") from None
