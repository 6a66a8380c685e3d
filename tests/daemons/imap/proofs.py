"""Which test proves which capability token. A test file of this directory marks its tests; the check reads all the marks."""

import importlib
from pathlib import Path

from tests.daemons.proofs import Proofs

proves = Proofs[bytes]()  # a token whose value is configured is named up to its "="


def proofs() -> dict[bytes, str]:
    """Token -> test, from all test files of this directory."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        importlib.import_module(f"{__package__}.{path.stem}")
    return dict(proves.tests)


def token_name(token: bytes) -> bytes:
    """The token without what is configured: APPENDLIMIT=35651584 is APPENDLIMIT=, SORT=DISPLAY stays."""
    name, _, value = token.partition(b"=")
    return name + b"=" if value.isdigit() or name in (b"RIGHTS", b"IMAPSIEVE") else token
