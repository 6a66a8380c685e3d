"""One measured number, and what it compares to on the other systems."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """What one system took, or did, in one operation. is_rate: more is better."""

    system: str
    operation: str
    unit: str
    value: float
    is_rate: bool = False
