"""The configuration file: what it accepts, and how an error names file, key and rule."""

from pathlib import Path

import msgspec
import pytest

from config.example import example
from config.loader import ConfigError, dump, load, parse
from config.settings import Settings
from config.units import DAY, MIB, Octets, Seconds, spell


def test_empty_file_is_the_default() -> None:
    """Every key has a default."""
    assert parse("") == Settings()


def test_dump_reads_back() -> None:
    """What dump() writes, load() reads to an equal value."""
    settings = parse('hostname = "mx.test"\n[listen]\nsmtp = ["[::1]:2525"]\n[smtp]\nsize_limit = "3 MiB"\n')
    assert settings.smtp.size_limit == 3 * MIB
    assert parse(dump(settings)) == settings


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nonsense = 1", "x.toml: nonsense: unknown key"),
        ("[smtp]\nsizelimit = 1", "x.toml: smtp.sizelimit: unknown key"),
        ("[smtp]\nsize_limit = '1 XB'", "x.toml: smtp.size_limit: unknown unit 'XB'; sizes are in B, KiB"),
        ("[smtp]\nsize_limit = true", "x.toml: smtp.size_limit: expected a size such as"),
        ("hostname = 1", "x.toml: hostname: Expected `str`, got `int`"),
        ("[database]\npool_size = 0", "x.toml: database.pool_size: Expected `int` >= 1"),
        ("[listen]\nimap = ['localhost']", 'x.toml: listen: imap: expected "host:port"'),
        ("[listen]\nimap = ['::1:143']", 'x.toml: listen: imap: expected "host:port"'),
        ("trusted_networks = ['10.0.0.0/64']", "x.toml: trusted_networks: '10.0.0.0/64'"),
        ("[tls]\ncertificate = 'a.pem'", "x.toml: tls: certificate and key must both be given"),
        ("[", "x.toml: not TOML: "),
    ],
)
def test_error_names_file_key_and_rule(text: str, complaint: str) -> None:
    """An unknown key, a wrong type, a bad unit or a bad address is an error that names file, key and rule."""
    with pytest.raises(ConfigError) as raised:
        parse(text, "x.toml")
    assert str(raised.value).startswith(complaint)


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A file that is not there is an error that names it."""
    with pytest.raises(ConfigError, match=r"absent\.toml: no such file"):
        load(tmp_path / "absent.toml")


@pytest.mark.parametrize("value", ["1 GiB", "28 MiB", "512 KiB", "1000 B", "0 B"])
def test_octets_round_trip(value: str) -> None:
    """A size reads back as it is spelled."""
    assert spell(Octets.parse(value)) == value


@pytest.mark.parametrize("value", ["90 d", "1 h", "5 min", "30 s", "250 ms"])
def test_seconds_round_trip(value: str) -> None:
    """A time span reads back as it is spelled."""
    assert spell(Seconds.parse(value)) == value


def test_quantities_are_plain_numbers_in_text() -> None:
    """In replies a quantity shows as the bare number."""
    assert f"SIZE {Octets.parse('28 MiB')}" == "SIZE 29360128"
    assert float(Seconds.parse("90 d")) == 90.0 * DAY


@pytest.mark.parametrize("value", ["", "MiB", "-1", "1 MiB x", "1e3", None, [], -1])
def test_bad_quantities(value: object) -> None:
    """What is no quantity is refused, negative numbers included."""
    with pytest.raises(ValueError, match="expected"):
        Octets.parse(value)
    with pytest.raises(ValueError, match="expected"):
        Seconds.parse(value)


def test_the_example_is_a_configuration() -> None:
    """With its comments taken away it is the default, but for what has none: issuers, routes, policies, gateways."""
    lines = (line.removeprefix("# ") for line in example().splitlines() if not line.startswith("##"))
    settings = parse("\n".join(line for line in lines if not line.endswith(" =")))
    (issuer,) = settings.authentication.issuers
    assert issuer.audience == ["postwerk"]
    assert parse(dump(settings)) == settings
    for section, default in msgspec.structs.asdict(Settings()).items():
        found = getattr(settings, section)
        if not isinstance(default, msgspec.Struct):
            assert found == default
            continue
        for key, value in msgspec.structs.asdict(default).items():
            assert (
                value is None
                or key in ("issuers", "routes", "policies", "lists", "gateways")
                or getattr(found, key) == value
            ), f"{section}.{key}"


def test_a_filter_has_one_entry() -> None:
    """What differs for a filter stands in one place; what is left out is not written out either."""
    entry = "[[filtering.policies]]\nfilter='mime'\ntime_limit='5 s'\n"
    settings = parse(entry)
    policy = settings.filtering.of("mime")
    assert policy is not None
    assert policy.time_limit == Seconds(5)
    assert policy.on_failure is None
    assert settings.filtering.of("spam") is None
    assert parse(dump(settings)) == settings
    with pytest.raises(ConfigError, match="filtering: policies: mime has two entries"):
        parse(entry + entry)
    with pytest.raises(ConfigError, match="time_limit: more than 0 s"):
        parse("[[filtering.policies]]\nfilter='mime'\ntime_limit='0 s'")


def test_issuers_are_checked() -> None:
    """An entry of a list is checked like every other key."""
    with pytest.raises(ConfigError, match=r"x.toml: authentication.issuers\[0\].algorithms"):
        parse(
            "[[authentication.issuers]]\ntenant='t'\nissuer='https://a.test'\naudience=['p']\nalgorithms=['HS256']",
            "x.toml",
        )
    with pytest.raises(ConfigError, match=r"issuer: an https URL is needed"):
        parse("[[authentication.issuers]]\ntenant='t'\nissuer='http://a.test'\naudience=['p']", "x.toml")
