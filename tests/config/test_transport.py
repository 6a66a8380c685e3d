"""The section [transport]."""

import re
from pathlib import Path

import pytest

from config.loader import ConfigError, parse


def test_routes_are_read_in_order() -> None:
    """Routes keep their order; what is not said is the default."""
    text = "[[transport.routes]]\ndomains = ['example.net']\nhost = 'a.example'\n"
    text += "[[transport.routes]]\nhost = 'b.example'\nport = 587\n"
    first, second = parse(text).transport.routes
    assert (first.domains, first.host, first.tls) == (["example.net"], "a.example", "may")
    assert (second.domains, second.host, second.port) == ([], "b.example", 587)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("resolvers = ['127.0.0.1']", r"resolvers: expected"),
        ("resolvers = ['localhost:53']", r"resolvers: .*localhost"),
        ("private_networks = ['10.0.0.0/33']", r"private_networks: "),
        ("own_addresses = ['10.0.0.0/8']", r"own_addresses: "),
        ("port = 0", r"transport.port"),
        ("report_from = 'nobody'", r"report_from: an address"),
        ("routes = [{login = 'x'}]", r"login and password_file"),
        ("routes = [{login = 'x', password_file = '/x', host = 'a.example'}]", r"a login needs"),
        ("routes = [{login = 'x', password_file = '/x', tls = 'verify'}]", r"a login needs a host"),
        ("routes = [{starts_with_tls = true}]", r"starts_with_tls needs"),
        ("routes = [{is_domain = true}]", r"is_domain needs"),
        ("routes = [{tls = 'dane'}]", r"routes\[0\].tls"),
    ],
)
def test_what_cannot_be_is_refused(text: str, complaint: str) -> None:
    """A value that makes no sense is an error that names the key."""
    with pytest.raises(ConfigError, match=complaint):
        parse(f"[transport]\n{text}\n")


def test_example_of_the_manual() -> None:
    """The routes in docs/sending.md are a configuration."""
    manual = (Path(__file__).parents[2] / "docs" / "sending.md").read_text("utf-8")
    (example,) = [text for text in re.findall(r"```toml\n(.*?)```", manual, re.DOTALL) if "transport.routes" in text]
    assert len(parse(example).transport.routes) == 3
