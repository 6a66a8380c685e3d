"""`make fuzz`: each target coverage-guided for a bounded time, with libFuzzer by way of atheris.

    python -m tests.fuzz [--seconds 25] [TARGET …]       all targets, or these, one after the other
    python -m tests.fuzz --one TARGET …                  one target, in this process; what follows are libFuzzer's options

What was found interesting stays in .fuzz/TARGET, so that the next run goes on from there. What breaks a target is kept as
tests/fuzz/crashes/TARGET/…, which the tests replay from then on.
"""

import argparse
import hashlib
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE.parent.parent / ".fuzz"
INSTRUMENTED = ["protocol", "filters", "daemons.compression"]
SECONDS = 25
_ONE_INPUT_SECONDS, _MEMORY_MIB = 10, 1024
_LAST = re.compile(r"#(\d+)\s+DONE\s+cov: (\d+) ft: (\d+) corp: (\d+)")


def one(name: str, options: list[str]) -> None:
    """Fuzz a target in this process; never returns."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.targets import TARGETS
    atheris.Setup([sys.argv[0], *options], TARGETS[name].run)
    atheris.Fuzz()


def _begin(name: str) -> Path:
    """The target's corpus, its seeds written."""
    from tests.fuzz.targets import MAX_OCTETS, TARGETS

    directory = CORPUS / name
    directory.mkdir(parents=True, exist_ok=True)
    for octets in TARGETS[name].seeds():
        cut = octets[:MAX_OCTETS]
        (directory / hashlib.sha1(cut).hexdigest()).write_bytes(cut)
    return directory


def _fuzz(name: str, seconds: int) -> bool:
    """Run a target for so long and tell what came of it: whether it held."""
    from tests.fuzz.targets import MAX_OCTETS

    corpus, crashes = _begin(name), HERE / "crashes" / name
    crashes.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={MAX_OCTETS}",
        f"-timeout={_ONE_INPUT_SECONDS}",
        f"-rss_limit_mb={_MEMORY_MIB}",
        f"-artifact_prefix={crashes}/",
        str(corpus),
    ]
    command = [sys.executable, "-m", "tests.fuzz", "--one", name, *options]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=HERE.parent.parent)
    told = _LAST.search(ended.stderr)
    if ended.returncode == 0 and told is not None:
        print(
            f"{name:<15} {told[1]:>9} executions, coverage {told[2]}, features {told[3]}, corpus {told[4]}", flush=True
        )
    else:
        print(
            f"{name:<15} BROKEN; the input is kept in {crashes}", ended.stdout[-3000:], ended.stderr[-3000:], sep="\n"
        )
    if not any(crashes.iterdir()):
        crashes.rmdir()
    return ended.returncode == 0


def main() -> int:
    """The status is 1 when a target broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for each target (%(default)s)")
    parser.add_argument("target", nargs="*")
    arguments = parser.parse_args()
    if find_spec("atheris") is None:
        print("NOTE: atheris is not there for this platform; the coverage-guided fuzzing is skipped.", file=sys.stderr)
        return 0
    from tests.fuzz.targets import TARGETS

    held = [_fuzz(name, arguments.seconds) for name in arguments.target or TARGETS]
    return 0 if all(held) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], sys.argv[3:])
    sys.exit(main())
