import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmrecipes.evaluate import answers
from vlmrecipes.evaluate.metrics import DEFAULTS, METRICS, known, resolve

ANSWER = st.text(alphabet="abAB ,.1ß\n", max_size=6)


def test_short_names_stand_for_their_default() -> None:
    assert {name: resolve(name).spec for name in DEFAULTS} == dict(DEFAULTS)
    assert all(resolve(name).name == name for name in DEFAULTS)


def test_every_known_name_resolves() -> None:
    assert set(METRICS) <= set(known())
    assert all(resolve(name).spec in METRICS for name in known())


@pytest.mark.parametrize(
    ("name", "meant"), [("CER", "cer"), ("cer/wss@1", "cer/ws@1"), ("vqa/offical@1", "vqa/official@1")]
)
def test_an_unknown_name_tells_what_is_known(name: str, meant: str) -> None:
    with pytest.raises(ValueError, match="did you mean") as caught:
        resolve(name)
    assert f"did you mean {meant!r}?" in str(caught.value)
    assert all(spec in str(caught.value) for spec in known())


def test_a_name_like_no_other_gets_no_hint() -> None:
    with pytest.raises(ValueError, match=r"unknown metric 'zzz' \(known: wer, cer"):
        resolve("zzz")


UNDEFINED = {"vqa/evalai@1", "anls/pix2struct@1", "anls/mmf@1"}  # for some of the answers below
NOT_PERFECT = {
    "vqa",
    "relaxed",
    "rouge_l",
    "cider",
    "bleu",
    "chrf",
    "teds",
}  # the reference itself may score less than 1


@pytest.mark.parametrize("spec", [spec for spec in METRICS if spec not in UNDEFINED])
@settings(max_examples=50, deadline=None)
@given(prediction=ANSWER, references=st.lists(ANSWER, min_size=1, max_size=5))
def test_scores_stay_in_their_range(spec: str, prediction: str, references: list[str]) -> None:
    metric = METRICS[spec]
    score = metric.score(prediction, references)
    assert score.numerator >= 0
    assert score.denominator >= 0
    if metric.bounded:
        assert score.denominator == 1
        assert score.numerator <= 1
    if metric.name == "exact":
        assert score.numerator in {0, 1}
    if metric.name not in NOT_PERFECT:
        assert metric.rate(metric.score(references[0], references)) == metric.best
    if metric.better == "higher":
        assert metric.rate(score) <= metric.best + 1e-9


def test_exact_match_folds_only_what_it_names() -> None:
    values = {
        spec: METRICS[spec].score(" Yes ", ["no", "yes"]).numerator
        for spec in ("exact/raw@1", "exact/ws@1", "exact/nocase@1")
    }
    assert values == {"exact/raw@1": 0, "exact/ws@1": 0, "exact/nocase@1": 1}
    assert resolve("exact").score("a\n b", ["a b"]).numerator == 1


def test_anls_specs_part_at_one_half() -> None:
    assert (answers.anls_rrc("ab", ["ac"]), answers.anls_paper("ab", ["ac"])) == (0.5, 0.0)


@pytest.mark.parametrize("spec", ["wer/ws@1", "wer/jiwer4@1"])
@pytest.mark.parametrize("references", [[["你好世界"]], [["ภาษาไทย"], ["สวัสดี"], ["two words"]]])
def test_wer_is_refused_where_there_are_no_words(spec: str, references: list[list[str]]) -> None:
    assert "use cer" in (resolve(spec).refusal(references) or "")
    assert resolve("cer").refusal(references) is None


@pytest.mark.parametrize("references", [[], [["yes"]], [["你好 世界"]], [["你好世界"], ["hello"]], [["안녕하세요"]]])
def test_wer_is_accepted_elsewhere(references: list[list[str]]) -> None:
    assert resolve("wer").refusal(references) is None


@pytest.mark.parametrize("count", [1, 2])
def test_vqa_is_refused_below_three_references(count: int) -> None:
    reason = resolve("vqa").refusal([["yes"] * 10, ["yes"] * count])
    assert reason is not None
    assert reason.startswith("1 of 2 rows have fewer than 3 references")
    assert resolve("vqa").refusal([["yes"] * 3]) is None


def test_evalai_is_refused_unless_there_are_ten() -> None:
    assert resolve("vqa/evalai@1").refusal([["yes"] * 10]) is None
    assert "do not have 10 references" in (resolve("vqa/evalai@1").refusal([["yes"] * 11]) or "")


@pytest.mark.parametrize("name", ["vqa@official", "vqa/official", "vqa/official@1", "vqa"])
def test_a_spec_may_be_named_without_its_version(name: str) -> None:
    assert resolve(name).spec == "vqa/official@1"


@pytest.mark.parametrize(
    ("prediction", "reference", "chartqa", "strict"),
    [
        ("1950", "2020", 1, 0),
        ("2020", "2020", 1, 1),
        ("1,000", "1000", 0, 1),
        ("$12", "12", 0, 1),
        ("12%", "12", 0, 0),
        ("12.4 %", "12%", 1, 1),
        ("0.0", "0", 0, 1),
        ("0.1", "0", 0, 0),
        ("1e3", "1000", 1, 0),
        ("nan", "nan", 0, 1),
        ("yes.", "Yes", 0, 1),
        ("95", "100", 1, 1),
        ("94.9", "100", 0, 0),
        ("\u221212", "-12", 0, 1),
        ("-12", "12", 0, 0),
        ("1,00", "100", 0, 0),
        ("", "5", 0, 0),
        ("$", "5", 0, 0),
    ],
)
def test_where_strict_parts_from_chartqa(prediction: str, reference: str, chartqa: int, strict: int) -> None:
    found = [METRICS[f"relaxed/{name}@1"].score(prediction, [reference]).numerator for name in ("chartqa", "strict")]
    assert found == [chartqa, strict]


def test_containment_is_refused_where_every_answer_contains_the_reference() -> None:
    assert "every answer contains" in (resolve("contains").refusal([["a"], ["", "b"]]) or "")


def test_cider_is_refused_where_all_references_are_the_same() -> None:
    assert "chrf" in (resolve("cider").refusal([["a cat"], ["a cat"]]) or "")
    assert resolve("cider").refusal([["a cat"], ["a dog"]]) is None


def test_a_signature_names_what_a_number_depends_on() -> None:
    assert resolve("cer").signature == "cer/ws@1"
    assert "version:2.6.0" in resolve("bleu").signature
    assert "regex 20" in resolve("cer/graphemes").signature


def test_graphemes_are_what_a_reader_calls_characters() -> None:
    family, man = "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f468"
    rates = [resolve(name).rate(resolve(name).score(man, [family])) for name in ("cer", "cer/graphemes")]
    assert rates == [0.8, 1.0]
