from __future__ import annotations

from typing import Any

import pytest

from vlmrecipes.data.sample import Sample
from vlmrecipes.exports.judge import LOOSE_TOKENS, TOKENS, as_recorded, judge, most_apart
from vlmrecipes.records.scoring import Evaluated

TEXTS = ("water", "bread", "salt!", "sugar")


def samples() -> Evaluated:
    return [("lines@1", sample(str(number), text)) for number, text in enumerate(TEXTS)]


def sample(name: str, text: str) -> Sample:
    user = {"role": "user", "content": [{"type": "text", "text": "Read."}]}
    about = {"group": name, "split": "eval", "source": "s", "metadata": {}}
    return Sample(id=name, images=(), messages=(user,), references=(text,), **about)


def said(text: str, followed: str = "", margin: float = 3.0) -> dict[str, Any]:
    """Return an answer of a token a letter; `followed` is what the model would say at each place of the live answer."""
    first = [ord(letter) for letter in followed or text]
    own = {
        "first": first,
        "second": [ord("?")] * len(first),
        "margin": [margin] * len(first),
        "log": [-0.1] * len(first),
    }
    return {"text": text, "tokens": [ord(letter) for letter in text], "followed": [own]}


def judged(export: list[dict[str, Any]], *, margin: float = 3.0, loose: bool = False) -> dict[str, Any]:
    live = [said(text, margin=margin) for text in TEXTS]
    return judge(samples(), live, export, 0, ["cer"], loose)


def test_the_same_answers_agree() -> None:
    found = judged([said(text) for text in TEXTS])
    assert found["problems"] == []
    assert found["tokens"] == {"n": 20, "agree": 20, "ties": 0, "agreement": 1.0}
    assert found["answers"] == {"same": 4, "tied": 0, "different": 0}
    assert found["metrics"] == {"cer": {"live": 0.0, "export": 0.0, "difference": 0.0}}


def test_another_answer_fails_by_its_tokens_and_its_metric() -> None:
    found = judged([said("vwxyz"), said("vwxyz"), *(said(text) for text in TEXTS[2:])])
    assert found["tokens"]["agree"] == 10
    assert found["answers"] == {"same": 2, "tied": 0, "different": 2}
    assert found["metrics"]["cer"]["export"] == pytest.approx(10 / 20)
    assert found["problems"] == [
        f"the export agrees on 10 of 20 tokens (0.500, at least {TOKENS} is needed)",
        "cer is 0.5 where the run's model has 0: more than 0.25 apart",
    ]


def test_of_few_rows_one_may_part_of_many_a_metric_may_move_little() -> None:
    assert [most_apart(rows, loose=False) for rows in (4, 16, 100)] == [0.25, 0.0625, 0.02]
    assert [most_apart(rows, loose=True) for rows in (4, 16, 100)] == [0.5, 0.125, 0.10]


def test_fewer_bits_are_held_to_wider_limits() -> None:
    export = [said("wateX"), *(said(text) for text in TEXTS[1:])]
    assert judged(export)["problems"]
    assert judged(export, loose=True)["problems"] == []
    assert judged(export, loose=True)["tolerance"]["token_agreement"] == LOOSE_TOKENS


def test_a_tie_may_fall_either_way() -> None:
    export = [said("wate?", followed="wate?"), *(said(text) for text in TEXTS[1:])]
    apart = judged(export, margin=3.0)
    assert apart["answers"]["different"] == 1
    assert apart["problems"]
    tied = judged(export, margin=0.1)
    assert tied["tokens"] == {"n": 20, "agree": 19, "ties": 1, "agreement": 1.0}
    assert tied["answers"] == {"same": 3, "tied": 1, "different": 0}
    assert tied["problems"] == []


def test_answers_other_than_the_recorded_ones_tell_of_another_base() -> None:
    recorded = {str(number): text for number, text in enumerate(TEXTS)}
    live = [said(text) for text in TEXTS]
    assert as_recorded(samples(), live, recorded) == {"same": 4, "tied": 0, "different": 0, "problems": []}
    live[0] = said("wxyzr")
    told = "the run's model gives 1 of 4 answers otherwise than the run recorded: the base model or the software is another"
    assert as_recorded(samples(), live, recorded)["problems"] == [told]
    live[0] = said("wxyzr", margin=0.1)
    assert as_recorded(samples(), live, recorded) == {"same": 3, "tied": 1, "different": 0, "problems": []}
