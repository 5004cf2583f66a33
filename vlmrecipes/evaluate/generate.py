"""Predictions for a side of a snapshot: by whichever engine, gone on with after a kill, and probed for two ways to mislead.

Two probes are part of it. `batch_vs_single` answers a few rows again one at a time, because padding can change what some
models say. `blank` answers rows with their pictures replaced by white ones of the same size: a model that scores as well
does not look.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vlmrecipes.errors import RunError
from vlmrecipes.evaluate.engines import Engine, Images, Prediction

if TYPE_CHECKING:
    from vlmrecipes.data.sample import Sample
    from vlmrecipes.evaluate.cache import Cache
    from vlmrecipes.evaluate.journal import Journal

SINGLE_ROWS = 16
"""Rows that are answered again one at a time."""
BLANK_ROWS = 64
"""Rows that are answered again without their pictures, at most: an eighth of all, but no fewer than `SINGLE_ROWS`."""
SHARE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """Predictions and how they came about."""

    predictions: list[Prediction]
    """One for every sample, in their order."""
    stats: dict[str, Any]
    """JSON: what the engine tells, `truncated, empty, failed, resumed, cached, seconds`, and `probes`.

    `resumed` rows were in the journal and `cached` ones in the cache: `seconds` is the time of the others, and the probes.
    """


def generate(  # noqa: PLR0913
    engine: Engine,
    samples: Sequence[Sample],
    images: Images,
    *,
    journal: Journal | None = None,
    cache: Cache | None = None,
    probe: bool = True,
    on_progress: Callable[[int], object] = lambda _: None,
) -> Generated:
    """Answer every sample, those in `journal` and `cache` excepted, and probe; probes always ask the engine.

    A row that cannot be answered becomes a prediction without text. `on_progress` is called with the number of samples
    done since the last call. Raises RunError when no row at all could be answered.
    """
    began = time.monotonic()
    done = journal.finished(samples) if journal else {}
    resumed = len(done)
    done = (cache.known(samples) if cache else {}) | done
    cached = len(done) - resumed
    on_progress(len(done))
    left = [place for place in range(len(samples)) if place not in done]
    for answered in engine.answers([samples[place] for place in left], images):
        some = {left[place]: prediction for place, prediction in answered}
        done |= some
        if journal:
            journal.add(some.values())
        if cache:
            cache.add((samples[place], prediction) for place, prediction in some.items())
        on_progress(len(some))
    found = [done[place] for place in range(len(samples))]
    _check(found)
    probes = _probes(engine, samples, found, images) if probe else {}
    return Generated(
        predictions=found,
        stats=engine.about()
        | {
            "truncated": sum(prediction.truncated for prediction in found),
            "empty": sum(prediction.text is not None and not prediction.text.strip() for prediction in found),
            "failed": sum(prediction.text is None for prediction in found),
            "resumed": resumed,
            "cached": cached,
            "seconds": time.monotonic() - began,
            "probes": probes,
        },
    )


def _check(found: Sequence[Prediction]) -> None:
    if found and all(prediction.text is None for prediction in found):
        raise RunError(f"none of {len(found)} rows could be answered; the first: {found[0].error}")


def _probes(
    engine: Engine, samples: Sequence[Sample], found: Sequence[Prediction], images: Images
) -> dict[str, dict[str, Any]]:
    """Return the probes that these rows allow, by name."""
    there = [place for place, prediction in enumerate(found) if prediction.text is not None]
    probes: dict[str, dict[str, Any]] = {}
    if some := _spread(there, SINGLE_ROWS):
        alone = [_answer(engine, [samples[place]], images)[0].text for place in some]
        equal = sum(text == found[place].text for text, place in zip(alone, some, strict=True))
        probes["batch_vs_single"] = {"rows": len(some), "equal": equal}
    most = min(BLANK_ROWS, max(SINGLE_ROWS, len(samples) // SHARE))
    if seen := _spread([place for place in there if samples[place].images], most):
        blank = _answer(engine, [samples[place] for place in seen], Blank(images))
        probes["blank"] = {"rows": len(seen), "predictions": [asdict(prediction) for prediction in blank]}
    return probes


def _spread(places: Sequence[int], most: int) -> list[int]:
    """Return up to `most` of the places, spread evenly over all."""
    step = max(1, len(places) // most)
    return list(places[::step][:most])


def _answer(engine: Engine, samples: Sequence[Sample], images: Images) -> list[Prediction]:
    done = {place: one for answered in engine.answers(samples, images) for place, one in answered}
    return [done[place] for place in range(len(samples))]


@dataclass(frozen=True, slots=True)
class Blank:
    """Reads a white picture of the same size in place of every image."""

    images: Images

    def read(self, keys: Sequence[str]) -> list[bytes]:
        """Return PNG bytes in the order of `keys`."""
        return [_white(data) for data in self.images.read(keys)]


def _white(data: bytes) -> bytes:
    from PIL import Image

    from vlmrecipes.models.chat import blank

    with Image.open(io.BytesIO(data)) as image:
        size = image.size
    file = io.BytesIO()
    blank(*size).save(file, "PNG", compress_level=1)
    return file.getvalue()
