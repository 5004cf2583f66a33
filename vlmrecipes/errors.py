"""The errors a caller treats differently.

    VlmRecipesError                 base; the CLI prints it as one line, exit 1
    ├── InputError                  the input is wrong; carries every Problem at once, exit 2
    ├── MissingExtraError           an optional package is not installed, exit 2
    ├── StoreError                  the store cannot be read or written
    ├── TooManyDropsError           more rows dropped than the declaration allows
    └── RunError                    a run started and failed

A new class is added only when a caller would do something different about it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one input: where it is, and what to do about it."""

    file: str
    """The file as the user named it; empty when the problem is not in a file."""
    key: str
    """Dotted path inside the file (``source[0].path``); empty for the file as a whole."""
    problem: str
    """What was found and the way out, one sentence."""

    def __str__(self) -> str:
        """`file: key: problem`, without the parts that are empty."""
        return ": ".join(part for part in (self.file, self.key, self.problem) if part)


class VlmRecipesError(Exception):
    """Anything this package expects to go wrong."""

    exit_code = 1


class InputError(VlmRecipesError):
    """The input is wrong. `problems` holds all of it."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Keep `problems` in the order found."""
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @classmethod
    def one(cls, problem: str, *, file: str = "", key: str = "") -> InputError:
        """Make an error of a single problem."""
        return cls([Problem(file, key, problem)])


class MissingExtraError(VlmRecipesError):
    """A package that this feature needs is not installed."""

    exit_code = 2


class StoreError(VlmRecipesError):
    """The store cannot be read or written."""


class TooManyDropsError(VlmRecipesError):
    """More rows were dropped than `max_dropped` allows."""


class RunError(VlmRecipesError):
    """A run started and failed; its record says why."""
