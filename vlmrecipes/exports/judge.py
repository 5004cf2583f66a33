"""Two models' answers to the same samples held against each other, by stated tolerances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vlmrecipes.records.scoring import Evaluated, rows_of, values

TOKENS, METRIC = 0.98, 0.02
"""Least share of tokens on which both agree, and most difference of a metric, where nothing but rounding may differ."""
LOOSE_TOKENS, LOOSE_METRIC = 0.85, 0.10
"""The same where weights of different precision are compared: quantised ones with others."""
ROWS, LOOSE_ROWS = 1, 2
"""So many rows may go another way, even where they alone move a metric of few rows by more."""
TIE = 0.25
"""Nats. A token that was no more than so much likelier than the next one falls either way by rounding in 16 bits."""

OUTCOMES = ("same", "tied", "different")

Said = Sequence[Mapping[str, Any]]


def judge(  # noqa: PLR0913, PLR0917
    samples: Evaluated, live: Said, export: Said, place: int, metrics: Sequence[str], loose: bool
) -> dict[str, Any]:
    """Return how the answers of `export` agree with those of `live`; the export has followed them as its `place`th.

    - `tokens`: `n` of the answers of `live`, `agree` those where both name the same next token, `ties` those where the
      export takes the second choice of `live` and that was no more than TIE behind, `agreement` (agree + ties) / n.
    - `answers`: rows with the `same` text, those that part at a `tied` token, and `different` ones.
    - `metrics`: each metric on both sides and their difference; a problem when the rows that are not tied differ.
    - `drift`: mean difference of the log-probability of a token, in nats.
    """
    followed = [row["followed"][place] for row in export]
    own = [row["followed"][0] for row in live]
    tokens = _tokens(own, followed)
    parted = [_parted(*pair) for pair in zip(live, export, own, strict=True)]
    counts = {word: parted.count(word) for word in OUTCOMES}
    found = _metrics(samples, live, export, metrics)
    settled = [number for number, word in enumerate(parted) if word != "tied"]
    sides = [_some(side, settled) for side in (samples, live, export)]
    decided = _metrics(sides[0], sides[1], sides[2], metrics) if settled else {}
    least, most = LOOSE_TOKENS if loose else TOKENS, most_apart(len(samples), loose=loose)
    problems = [
        *([_few(tokens, least)] if tokens["agreement"] < least else []),
        *(
            f"{name} is {each['export']:.4g} where the run's model has {each['live']:.4g}: more than {most:.3g} apart"
            for name, each in decided.items()
            if each["difference"] is not None and abs(each["difference"]) > most
        ),
    ]
    return {
        "samples": len(samples),
        "tokens": tokens,
        "token_agreement": tokens["agreement"],
        "answers": counts,
        "metrics": found,
        "drift": _drift(own, followed),
        "tolerance": {"token_agreement": least, "metric_difference": most, "tie_nats": TIE},
        "problems": problems,
    }


def most_apart(rows: int, *, loose: bool) -> float:
    """Return by how much a metric of `rows` rows may differ."""
    return max(LOOSE_METRIC, LOOSE_ROWS / rows) if loose else max(METRIC, ROWS / rows)


def as_recorded(samples: Evaluated, live: Said, recorded: Mapping[str, str]) -> dict[str, Any]:
    """Return how many answers of `live` are the `same` as in the run's record, differ after a tie, or are `different`.

    A run answers in batches, so that answers with a tie in them may differ. A problem when too many others do.
    """
    found = [
        "same" if row["text"] == recorded.get(sample.id) else "tied" if _has_tie(row["followed"][0]) else "different"
        for (_, sample), row in zip(samples, live, strict=True)
    ]
    counts: dict[str, Any] = {word: found.count(word) for word in OUTCOMES}
    settled = counts["same"] + counts["different"]
    few = counts["same"] < LOOSE_TOKENS * settled
    told = f"the run's model gives {counts['different']} of {settled} answers otherwise than the run recorded"
    return counts | {"problems": [f"{told}: the base model or the software is another"] if few else []}


def _has_tie(own: Mapping[str, Any]) -> bool:
    return any(margin <= TIE for margin in own["margin"])


def _few(tokens: Mapping[str, Any], least: float) -> str:
    return (
        f"the export agrees on {tokens['agree'] + tokens['ties']} of {tokens['n']} tokens "
        f"({tokens['agreement']:.3f}, at least {least} is needed)"
    )


def _tokens(own: Said, followed: Said) -> dict[str, Any]:
    agree = ties = n = 0
    for live, export in zip(own, followed, strict=True):
        places = zip(live["first"], live["second"], live["margin"], export["first"], strict=True)
        for first, second, margin, other in places:
            n += 1
            agree += first == other
            ties += first != other and second == other and margin <= TIE
    return {"n": n, "agree": agree, "ties": ties, "agreement": (agree + ties) / n if n else 1.0}


def _parted(live: Mapping[str, Any], export: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Tell whether two answers are the same, or part at a tie, or are different."""
    if live["text"] == export["text"]:
        return "same"
    pairs = zip(live["tokens"], export["tokens"], strict=False)
    place = next((number for number, (mine, other) in enumerate(pairs) if mine != other), None)
    if place is None:
        return "different"
    tied = own["second"][place] == export["tokens"][place] and own["margin"][place] <= TIE
    return "tied" if tied else "different"


def _metrics(samples: Evaluated, live: Said, export: Said, names: Sequence[str]) -> dict[str, Any]:
    """Return `{live, export, difference}` by metric; metrics of a corpus are those of these few samples."""
    sides = [values(rows_of("tuned", samples, _answers(samples, said)), names) for said in (live, export)]
    return {
        name: {"live": mine, "export": other, "difference": _difference(mine, other)}
        for name, mine, other in ((name, sides[0][name], sides[1][name]) for name in names)
    }


def _difference(live: float | None, export: float | None) -> float | None:
    return None if live is None or export is None else export - live


def _answers(samples: Evaluated, said: Said) -> list[dict[str, Any]]:
    return [
        {"id": sample.id, "text": row["text"], "tokens": len(row["tokens"]), "truncated": False}
        for (_, sample), row in zip(samples, said, strict=True)
    ]


def _drift(own: Said, followed: Said) -> float:
    apart = [
        abs(mine - other)
        for live, export in zip(own, followed, strict=True)
        for mine, other in zip(live["log"], export["log"], strict=True)
    ]
    return sum(apart) / len(apart) if apart else 0.0


def _some(side: Sequence[Any], places: Sequence[int]) -> list[Any]:
    return [side[place] for place in places]
