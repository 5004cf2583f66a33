import jiwer
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vlmrecipes.evaluate import error_rate, text
from vlmrecipes.evaluate.error_rate import Edits
from vlmrecipes.evaluate.metrics import resolve

SHORT = st.text(alphabet="ab \n\u00a0\u00e9", max_size=12)
ANY = st.one_of(SHORT, st.text(max_size=20))


@given(reference=ANY, prediction=ANY)
@example(reference="", prediction="")
@example(reference="", prediction="abc def")
@example(reference="hello\nworld", prediction="hello world")
def test_jiwer4_specs_agree_with_jiwer(reference: str, prediction: str) -> None:
    for spec, theirs, process in (
        ("wer/jiwer4@1", jiwer.wer, jiwer.process_words),
        ("cer/jiwer4@1", jiwer.cer, jiwer.process_characters),
    ):
        metric = resolve(spec)
        score = metric.score(prediction, [reference])
        assert metric.rate(score) == pytest.approx(theirs(reference, prediction))
        output = process(reference, prediction)
        assert score.detail == {key: getattr(output, key) for key in score.detail}


@given(reference=ANY, prediction=ANY)
@example(reference="total : 12 euros", prediction="total :\u00a0 12 euros")
def test_jiwer4_standardize_agrees_with_jiwer(reference: str, prediction: str) -> None:
    metric, chain = resolve("wer/jiwer4-standardize@1"), jiwer.wer_standardize
    theirs = jiwer.wer(reference, prediction, reference_transform=chain, hypothesis_transform=chain)
    assert metric.rate(metric.score(prediction, [reference])) == pytest.approx(theirs)


@given(reference=ANY, prediction=ANY)
def test_ws_rates_agree_with_jiwer_on_folded_text(reference: str, prediction: str) -> None:
    folded = text.ws(reference), text.ws(prediction)
    wer, cer = resolve("wer"), resolve("cer")
    ours = wer.score(prediction, [reference]), cer.score(prediction, [reference])
    if folded[0]:
        # Nothing but single U+0020 is white space in folded text, except what only Python calls so.
        if not any(c in "\x1c\x1d\x1e\x1f" for c in "".join(folded)):
            assert wer.rate(ours[0]) == pytest.approx(jiwer.wer(*folded))
            assert cer.rate(ours[1]) == pytest.approx(jiwer.cer(*folded))
    else:
        assert [wer.rate(ours[0]), cer.rate(ours[1])] == [float(folded[1] != "")] * 2


@given(reference=SHORT, prediction=SHORT)
def test_counts_add_up(reference: str, prediction: str) -> None:
    edits = error_rate.edits(reference, prediction)
    assert (edits.length, edits.predicted) == (len(reference), len(prediction))
    assert min(edits.hits, edits.substitutions, edits.deletions, edits.insertions) >= 0
    assert (edits.errors == 0) == (reference == prediction)
    assert 0 <= edits.match_error_rate <= 1
    assert 0 <= edits.information_lost <= 1


def test_the_reference_with_the_lowest_rate_counts() -> None:
    units = error_rate.words_of(text.ws)
    long, short = "one two three four five six seven eight nine ten", "six"
    assert error_rate.best(long.replace("ten", "11"), [short, long], units) == Edits(9, 1, 0, 0)
    assert error_rate.best("a b", ["c d", "c d e", "a"], units) == Edits(1, 0, 0, 1)


def test_an_empty_reference_is_chosen_only_when_it_fits() -> None:
    units = error_rate.characters_of(text.ws)
    assert error_rate.best("", ["abc", ""], units) == Edits(0, 0, 0, 0)
    assert error_rate.best("xyz", ["", "abc"], units) == Edits(0, 3, 0, 0)


def test_no_references_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one reference"):
        error_rate.best("a", [], error_rate.words_of(text.ws))


@pytest.mark.parametrize(("spec", "prediction", "rate"), [("cer/ws@1", "abcd", 1.0), ("cer/jiwer4@1", "abcd", 4.0)])
def test_text_read_where_there_is_none(spec: str, prediction: str, rate: float) -> None:
    metric = resolve(spec)
    assert metric.rate(metric.score(prediction, [""])) == rate
    assert metric.rate(metric.score("", [""])) == 0.0
