"""The house rules that a machine can hold: layers, sizes, names, licences, references."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import distribution, distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT: dict[str, set[str]] = {
    "protocol": set(),
    "storage": set(),
    "config": set(),
    "filters": {"protocol"},
    "daemons": {"config", "protocol", "storage", "filters"},
}
MODULES = [path for layer in MAY_IMPORT for path in sorted((ROOT / layer).rglob("*.py"))]
ALL = MODULES + [path for place in ("bench", "tests") for path in sorted((ROOT / place).rglob("*.py"))]
ALL = [path for path in ALL if "corpora" not in path.parts]

MODULE_LINES, FUNCTION_LINES = 500, 60
VAGUE = {"utils", "util", "helpers", "helper", "manager", "data", "info", "misc", "common_utils"}
# Copyleft that would bind the whole program (docs/dependencies.md): such code may stand beside it, never inside.
KEPT_OUT = {"aioimaplib", "spf_engine", "html2text", "clamav_client", "pyvalve", "managesieve", "radicale", "xandikos"}
WORLD = {"asyncio", "socket", "ssl", "selectors", "time", "random", "secrets", "logging", "structlog", "subprocess"}
WORLD |= {"threading", "asyncpg", "uvloop", "uuid"}


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def _imports(path: Path) -> frozenset[str]:
    """Dotted names of the modules that are imported anywhere in the file."""
    names: set[str] = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{_name(path)}:{node.lineno}: relative import"
            names.add(node.module or "")
    return frozenset(names)


def _tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in _imports(path)}


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_module_keeps_to_its_layer(path: Path) -> None:
    """Imports point down only: daemons to all, filters to protocol, the rest to nothing of ours."""
    layer = path.relative_to(ROOT).parts[0]
    ours = _tops(path) & (MAY_IMPORT.keys() | {"tests", "bench"})
    assert ours <= MAY_IMPORT[layer] | {layer}


@pytest.mark.parametrize("path", sorted((ROOT / "protocol").rglob("*.py")), ids=_name)
def test_protocol_does_no_io(path: Path) -> None:
    """Protocol code has no coroutines, sockets, clocks, randomness or logs: they come in as arguments."""
    assert not _tops(path) & WORLD
    for node in ast.walk(_tree(path)):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith), node.lineno


@pytest.mark.parametrize("path", ALL, ids=_name)
def test_modules_and_functions_are_short(path: Path) -> None:
    """No module has more than 500 lines, no function more than 60."""
    assert len(path.read_text("utf-8").splitlines()) <= MODULE_LINES
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_modules_are_named_and_described(path: Path) -> None:
    """A module says what it is, is not named vaguely, and not like one of the standard library."""
    if path.stat().st_size:
        assert ast.get_docstring(_tree(path)), "no docstring"
    names = {part.removesuffix(".py") for part in path.relative_to(ROOT).parts} - {"__init__", "__main__"}
    names -= {"data"} if path.is_relative_to(ROOT / "protocol" / "smtp") else set()  # the command DATA
    assert not names & VAGUE
    # A package below ours shadows nothing, but `from email import …` in it would puzzle a reader.
    assert path.stem not in sys.stdlib_module_names - {"__main__"}


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_product_keeps_copyleft_out(path: Path) -> None:
    """The product imports nothing whose licence would bind the whole."""
    assert not _tops(path) & KEPT_OUT


def test_dependencies_have_permissive_licences() -> None:
    """What the product is installed with is permissive or LGPL or MPL; aioimaplib (GPL-3) is for tests alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    direct = {re.split(r"[<>=~!\[ ;]", line)[0].lower() for line in project["dependencies"]}
    assert "aioimaplib" not in direct
    locked = set(re.findall(r"^([a-z0-9_.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert direct <= locked
    installed = {found.name.lower().replace("_", "-") for found in distributions()}
    for name in sorted(locked & installed):
        metadata = distribution(name).metadata
        told = " ".join([*(metadata.get_all("License-Expression") or []), *(metadata.get_all("Classifier") or [])])
        told = told.replace("LGPL", "").replace("Lesser General Public License", "")
        assert not re.search(r"\bA?GPL|General Public License", told), f"{name}: {told}"


@pytest.mark.parametrize("path", ALL, ids=_name)
def test_references_have_one_form(path: Path) -> None:
    """References read "RFC 9051" or "RFC 9051 §6.4.6", so that a search finds them all. (RFC822 is an item of FETCH.)"""
    for match in re.finditer(
        r"RFC(?!822(?!\d))[ -]?\d+(?:,? (?:section|Section|sec\.|Sec\.) ?[\d.]+)?", path.read_text("utf-8")
    ):
        assert re.fullmatch(r"RFC \d{3,5}", match[0]), match[0]


def test_every_rfc_that_the_product_names_is_listed() -> None:
    """protocol/RFCS.md has a row (number, title, yes, partial or no, where) for every RFC that the code refers to."""
    table = ROOT / "protocol" / "RFCS.md"
    listed = set(
        re.findall(
            r"^\| *(?:RFC )?(\d+) *\|[^|]+\| *(?:yes|partial|no)\b", table.read_text("utf-8"), re.MULTILINE | re.I
        )
    )
    assert listed
    for path in MODULES:
        named = set(re.findall(r"RFC (\d+)", path.read_text("utf-8")))
        assert named <= listed, f"{_name(path)}: {', '.join(sorted(named - listed))}"


def test_migrations_are_numbered_without_gaps() -> None:
    """storage/schema holds 0001_…, 0002_…, each number once."""
    names = sorted(path.name for path in (ROOT / "storage" / "schema").iterdir() if path.suffix == ".sql")
    assert names
    for number, name in enumerate(names, 1):
        assert re.fullmatch(rf"{number:04d}_[a-z_]+\.sql", name), name


@pytest.mark.parametrize("path", [path for path in ALL if path.name.startswith("test_")], ids=_name)
def test_tests_say_what_they_hold(path: Path) -> None:
    """Every test has a docstring of one sentence and checks something."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"
