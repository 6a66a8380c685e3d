"""Train a zstd dictionary for small blobs from the permissively licensed corpus: python -m bench.train_dictionary NUMBER.

Prints the ratio on mails that were not trained on. A dictionary that was ever released is never changed or deleted:
stored records name it. A better one gets the next number, and codec.NEWEST_DICTIONARY names it.
"""

import random
import sys
from pathlib import Path

import zstandard

from tests.mails import MAILS, as_sent

Samples = list[bytes | bytearray | memoryview[int]]

_LEVEL = 3
_DICTIONARY_OCTETS = 64 << 10
_SMALL_OCTETS = 64 << 10
_DIRECTORY = Path(__file__).parent.parent / "storage" / "blobs" / "dictionaries"


def _ratio(mails: Samples, compressor: zstandard.ZstdCompressor) -> float:
    return sum(map(len, mails)) / sum(len(compressor.compress(mail)) for mail in mails)


def main() -> None:
    """Write the dictionary and print what it gains."""
    path = _DIRECTORY / f"{int(sys.argv[1])}.zdict"
    if path.exists():
        raise SystemExit(f"{path.name} exists: released dictionaries stay as they are")
    mails: Samples = [mail for mail in map(as_sent, MAILS) if len(mail) <= _SMALL_OCTETS]
    random.Random(1).shuffle(mails)
    half = len(mails) // 2
    trial = zstandard.train_dictionary(_DICTIONARY_OCTETS, mails[:half], level=_LEVEL)
    primed = zstandard.ZstdCompressor(level=_LEVEL, dict_data=trial)
    plain = zstandard.ZstdCompressor(level=_LEVEL)
    print(f"held out: {_ratio(mails[half:], plain):.2f} without, {_ratio(mails[half:], primed):.2f} with a dictionary")
    path.write_bytes(zstandard.train_dictionary(_DICTIONARY_OCTETS, mails, level=_LEVEL).as_bytes())


if __name__ == "__main__":
    main()
