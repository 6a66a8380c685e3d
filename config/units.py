"""Quantities with a unit, as they stand in the configuration file: octets and seconds. Knows no file and no key."""

import re
from typing import Any

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
MINUTE, HOUR, DAY = 60, 3600, 86400

_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")
_OCTET_UNITS = {"": 1, "B": 1, "KIB": KIB, "MIB": MIB, "GIB": GIB, "TIB": TIB, "K": KIB, "M": MIB, "G": GIB, "T": TIB}
_SECOND_UNITS = {"": 1, "ms": 0.001, "s": 1, "min": MINUTE, "h": HOUR, "d": DAY}


class Octets(int):
    """A size in octets. In the file: "28 MiB", "512 KiB", "1 GiB", or a plain integer."""

    @classmethod
    def parse(cls, value: object) -> "Octets":
        """Read what the file holds. Raises ValueError, which tells the rule."""
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return cls(value)
        number, unit = _split(value, 'a size such as 4096, "512 KiB", "28 MiB" or "1 GiB"')
        factor = _OCTET_UNITS.get(unit.upper())
        if factor is None:
            raise ValueError(f"unknown unit {unit!r}; sizes are in B, KiB, MiB, GiB or TiB")
        return cls(number * factor)


class Seconds(float):
    """A time span in seconds. In the file: "250 ms", "30 s", "5 min", "1 h", "90 d", or a plain number."""

    @classmethod
    def parse(cls, value: object) -> "Seconds":
        """Read what the file holds. Raises ValueError, which tells the rule."""
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
            return cls(value)
        number, unit = _split(value, 'a time span such as 30, "250 ms", "30 s", "5 min", "1 h" or "90 d"')
        factor = _SECOND_UNITS.get(unit)
        if factor is None:
            raise ValueError(f"unknown unit {unit!r}; time spans are in ms, s, min, h or d")
        return cls(number * factor)


def _split(value: object, wanted: str) -> tuple[float, str]:
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"expected {wanted}")
    return float(match[1]), match[2]


def decode_quantity(wanted: type, value: Any) -> Any:
    """msgspec's dec_hook for the types above."""
    if issubclass(wanted, Octets | Seconds):
        return wanted.parse(value)
    raise NotImplementedError(wanted)


def spell(quantity: Octets | Seconds) -> str:
    """The shortest form that reads back as the same number. (str() stays the bare number: it goes into replies.)"""
    if isinstance(quantity, Octets):
        for name, factor in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
            if quantity and quantity % factor == 0:
                return f"{quantity // factor} {name}"
        return f"{int(quantity)} B"
    for name, factor in (("d", DAY), ("h", HOUR), ("min", MINUTE), ("s", 1)):
        if quantity and quantity % factor == 0:
            return f"{int(quantity // factor)} {name}"
    return f"{float(quantity) * 1000:.12g} ms"
