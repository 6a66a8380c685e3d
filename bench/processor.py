"""CPU seconds and memory of whole process trees, read from /proc. Dead children are counted through their parents.

user + system of a living process plus what it has collected from children it waited for (proc_pid_stat(5)), summed over
the tree below the given roots: no process that ran between two readings is missed unless it left the tree.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def tree(roots: Iterable[int]) -> list[int]:
    """The processes below and including `roots` that live now."""
    children: dict[int, list[int]] = defaultdict(list)
    for pid, fields in _stats():
        children[int(fields[1])].append(pid)
    found: list[int] = []
    waiting = list(dict.fromkeys(roots))
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children[pid]
    return list(dict.fromkeys(found))


def seconds(roots: Iterable[int]) -> float:
    """CPU seconds used so far by the trees under `roots`, children that ended included."""
    members = set(tree(roots))
    return sum(sum(map(int, fields[11:15])) for pid, fields in _stats() if pid in members) / _TICKS


def seconds_by_name(roots: Iterable[int]) -> Counter[str]:
    """The same by a readable process name; dead children stand with their parent."""
    members = set(tree(roots))
    named: Counter[str] = Counter()
    for pid, fields in _stats():
        if pid in members:
            named[_name(pid)] += sum(map(int, fields[11:15])) / _TICKS  # type: ignore[assignment]  # a Counter of floats
    return named


def resident_octets(roots: Iterable[int]) -> int:
    """Memory of the trees: the sum of PSS, in which a shared page counts once."""
    total = 0
    for pid in tree(roots):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        total += next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0) * 1024
    return total


def _stats() -> Iterable[tuple[int, list[str]]]:
    """(pid, fields of /proc/PID/stat from the third one on) of every process."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                text = Path(f"/proc/{entry.name}/stat").read_text("ascii", "replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            yield int(entry.name), text[text.rindex(")") + 2 :].split()


def _name(pid: int) -> str:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return "gone"
    text = [argument.decode("utf-8", "replace") for argument in arguments]
    if "serve" in text[:-1]:
        return text[text.index("serve") + 1]
    if text[0].startswith("postgres:"):
        words = text[0].split()
        return "postgres " + ("backend" if len(words) > 3 and "[local]" in text[0] else " ".join(words[1:3]))
    name = os.path.basename(text[0].split()[0] if text[0] else "")
    return f"{name} up" if "up" in text else name
