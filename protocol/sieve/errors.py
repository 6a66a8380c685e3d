"""What is wrong with a script, and where. Lines and columns count from 1, columns in characters."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One error or warning in a script."""

    line: int
    column: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.text}"


class SieveError(Exception):
    """The script cannot be used. Line, column and text are those of the first fault; `faults` holds all that were found."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__(str(faults[0]))
        self.faults = faults

    @property
    def line(self) -> int:
        """The line of the first fault."""
        return self.faults[0].line

    @property
    def column(self) -> int:
        """The column of the first fault."""
        return self.faults[0].column

    @property
    def text(self) -> str:
        """What is wrong there."""
        return self.faults[0].text
