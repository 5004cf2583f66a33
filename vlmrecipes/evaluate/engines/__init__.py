"""Engines: what turns samples into predictions. One protocol for a model in this process, a server, and plain OCR."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vlmrecipes.masking import without_secrets

if TYPE_CHECKING:
    from vlmrecipes.data.sample import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What was answered to one sample."""

    id: str
    """The sample's."""
    text: str | None
    """None when generating failed."""
    tokens: int
    """Generated tokens, the end of the turn included; 0 where the engine does not tell."""
    truncated: bool
    """Whether `max_new_tokens` came before the end of the turn."""
    error: str = ""
    """Why `text` is None."""

    def __post_init__(self) -> None:
        """Make Unicode of `text`: a lone half of a surrogate pair, which a server may send, can be kept in no file."""
        if self.text and not self.text.isascii():
            whole = self.text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
            object.__setattr__(self, "text", whole)


def failed(sample: Sample, error: BaseException | str) -> Prediction:
    """Return the prediction of a row that could not be answered; its reason is the error's first line, without secrets."""
    said = without_secrets(f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else error)
    return Prediction(id=sample.id, text=None, tokens=0, truncated=False, error=(said.splitlines() or [""])[0])


class Images(Protocol):
    """Encoded images by key."""

    def read(self, keys: Sequence[str]) -> list[bytes]:
        """Return the bytes of the images in the order of `keys`."""


Answered = tuple[int, Prediction]
"""The place of a sample among those given, and its prediction."""


class Engine(Protocol):
    """Answers samples greedily; a row that cannot be answered becomes a prediction without text, never an exception."""

    def answers(self, samples: Sequence[Sample], images: Images) -> Iterator[list[Answered]]:
        """Yield every sample's prediction once, in lists as they are done, in any order.

        Raises RunError when going on is pointless: a server that is gone, a key that is refused.
        """

    def about(self) -> dict[str, Any]:
        """Return what the record says about how predictions came about, as JSON: `engine` and its settings."""
