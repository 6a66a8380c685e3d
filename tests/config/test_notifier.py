"""The section [notifier]: gateways whose templates cannot work are refused when the configuration is read."""

import re
from pathlib import Path

import pytest

from config.loader import ConfigError, parse

GATEWAY = '[[notifier.gateways]]\nurl = "https://sms.example.net/send"\n'


def test_a_gateway_is_read() -> None:
    """A gateway needs a URL and nothing else; there may be several, each for its numbers."""
    text = GATEWAY + f'prefixes = ["+49"]\n{GATEWAY}method = "GET"\nheaders = {{X-Key = "$$1"}}\n'
    first, second = parse(text).notifier.gateways
    assert (first.prefixes, first.method, second.method, second.headers) == (["+49"], "POST", "GET", {"X-Key": "$$1"})


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ('url = "ftp://sms.example.net/"', "url: https"),
        ('body = "{$number}"', "body: what may be filled in is \\$to, \\$digits"),
        ('body = \'{"to": "$to}\'', "body: not JSON"),
        ('body = "100 $ each"', "body: what may be filled in"),
        ('headers = {Authorization = "Bearer $secret"}', "headers.Authorization: \\$secret needs secret_file"),
        ('prefixes = ["0049"]', "prefixes: a plus and digits"),
        ('accepted = "("', "accepted: "),
        ("parts = 11", "parts"),
        ("price = -1", "price"),
    ],
)
def test_what_cannot_work_is_refused(line: str, rule: str) -> None:
    """The error names the key and its rule."""
    text = f"[[notifier.gateways]]\n{line}\n" if line.startswith("url") else GATEWAY + line
    with pytest.raises(ConfigError, match=rule):
        parse(text)


def test_networks_are_checked() -> None:
    """Networks that webhooks may reach are networks."""
    with pytest.raises(ConfigError, match="private_networks"):
        parse('[notifier]\nprivate_networks = ["10.0.0.0/99"]\n')


def test_example_of_the_manual() -> None:
    """The gateways in docs/sieve.md are a configuration."""
    manual = (Path(__file__).parents[2] / "docs" / "sieve.md").read_text("utf-8")
    (example,) = [text for text in re.findall(r"```toml\n(.*?)```", manual, re.DOTALL) if "notifier.gateways" in text]
    assert [gateway.price for gateway in parse(example).notifier.gateways] == [75, 90]
