"""Every metric that there is, by its spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from vlmrecipes.evaluate import answers, error_rate, machine, refusals, relaxed, spans, text
from vlmrecipes.evaluate.captions import cider, rouge_l
from vlmrecipes.evaluate.error_rate import Edits
from vlmrecipes.evaluate.metric import Metric, References, Score, accepts, unsigned

Units = Callable[[str], Sequence[str]]
Measure = Callable[[str, Sequence[str]], float]
Refusal = Callable[[References], str | None]


def _uax29() -> str:
    """Return the library that says where words and grapheme clusters end: its Unicode version moves the numbers."""
    import regex

    return f"regex {regex.__version__}"


def _over_reference(edits: Edits) -> Score:
    hits, substitutions, deletions, insertions = edits
    wrong = substitutions + deletions  # the sums of `Edits.errors` and `.length`, without the time of two properties
    return Score(float(wrong + insertions), float(hits + wrong), edits._asdict())


def _over_alignment(edits: Edits) -> Score:
    return Score(float(edits.errors), float(edits.length + edits.insertions), edits._asdict())


def _information_lost(edits: Edits) -> Score:
    return Score(edits.information_lost, 1.0, edits._asdict())


def _edited(count: Callable[[Edits], Score], units: Units, prediction: str, references: Sequence[str]) -> Score:
    return count(error_rate.best(prediction, references, units))


def _error(  # noqa: PLR0913 - a spec is a row of a table
    spec: str,
    units: Units,
    definition: str,
    *,
    count: Callable[[Edits], Score] = _over_reference,
    jiwer: bool = False,
    library: Callable[[], str] = unsigned,
) -> Metric:
    return Metric(
        spec=spec,
        definition=definition,
        better="lower",
        score=partial(_edited, count, units),
        refusal=accepts if spec.startswith("cer") else refusals.unspaced,
        bounded=count is _information_lost,
        counts_insertions=jiwer,
        library=library,
    )


def _measured(measure: Measure, prediction: str, references: Sequence[str]) -> Score:
    return Score(measure(prediction, references), 1.0)


def _answer(spec: str, measure: Measure, definition: str, refusal: Refusal = accepts) -> Metric:
    return Metric(
        spec=spec,
        definition=definition,
        better="higher",
        score=partial(_measured, measure),
        refusal=refusal,
        bounded=True,
    )


def _distance(folding: text.Folding, prediction: str, references: Sequence[str]) -> Score:
    """Return the edits over the longer text, against the reference where that is least."""
    folded = folding(prediction)
    edits = [error_rate.edits(folding(reference), folded) for reference in references]
    scores = [Score(float(one.errors), float(max(one.length, one.predicted)), one._asdict()) for one in edits]
    return min(scores, key=lambda score: error_rate.ratio(score.numerator, score.denominator, undefined=1.0))


def _ned(spec: str, folding: text.Folding, definition: str) -> Metric:
    return Metric(spec=spec, definition=definition, better="lower", score=partial(_distance, folding))


def _caption_words(caption: str) -> Sequence[str]:
    return text.words(text.nfkc_casefold_nopunct_ws(caption))


def _rouge_l(prediction: str, references: Sequence[str]) -> float:
    return rouge_l(_caption_words(prediction), [_caption_words(one) for one in references])


def _teds(prediction: str, references: Sequence[str], *, structure: bool = False) -> float:
    from vlmrecipes.evaluate.teds import teds  # the standard library's parser of HTML would slow every start

    return teds(prediction, references, structure=structure)


def _cider(predictions: Sequence[str], references: References) -> list[Score]:
    split = [[_caption_words(one) for one in row] for row in references]
    return [Score(value, 1.0) for value in cider([_caption_words(one) for one in predictions], split)]


def _alone(corpus: Callable[[Sequence[str], References], list[Score]], prediction: str, row: Sequence[str]) -> Score:
    return corpus([prediction], [row])[0]


def _corpus(  # noqa: PLR0913 - as `_error`
    spec: str,
    corpus: Callable[[Sequence[str], References], list[Score]],
    definition: str,
    *,
    refusal: Refusal = accepts,
    most: float,
    whole: Callable[[Mapping[str, int]], float] | None = None,
    library: Callable[[], str] = unsigned,
) -> Metric:
    return Metric(
        spec=spec,
        definition=definition,
        better="higher",
        most=most,
        score=partial(_alone, corpus),
        refusal=refusal,
        corpus=corpus,
        whole=whole,
        library=library,
    )


_FOLDED = {
    "raw": "the text as it is",
    "ws": "white space runs are one space",
    "nfc+ws": "NFC, then `ws`",
    "nfkc+casefold+nopunct+ws": "NFKC, case and punctuation folded, then `ws`",
}


def _ladder(name: str, what: str, units: Callable[[text.Folding], Units]) -> list[Metric]:
    return [
        _error(f"{name}/{variant}@1", units(folding), f"{what}; {_FOLDED[variant]}")
        for variant, folding in text.FOLDINGS.items()
    ]


_ALL = (
    *_ladder("wer", "word edits / reference words", error_rate.words_of),
    _error("wer/jiwer4@1", error_rate.jiwer4_words, "jiwer 4's default: a lone newline glues two words", jiwer=True),
    _error("wer/jiwer4-standardize@1", error_rate.jiwer4_standardized, "jiwer 4's `wer_standardize`", jiwer=True),
    _error(
        "wer/jiwer4-lower+nopunct@1", error_rate.jiwer4_plain_words, "a usual chain of jiwer's transforms", jiwer=True
    ),
    _error("wer/uax29@1", error_rate.dinglehopper_words, "NFC, words of UAX #29, as dinglehopper", library=_uax29),
    *_ladder("cer", "code point edits / reference code points", error_rate.characters_of),
    _error("cer/jiwer4@1", error_rate.jiwer4_characters, "jiwer 4's default: stripped only", jiwer=True),
    _error("cer/jiwer4-lower+nopunct@1", error_rate.jiwer4_plain, "the same chain of jiwer's, code points", jiwer=True),
    _error("cer/graphemes@1", error_rate.grapheme_units, "NFC, `ws`, grapheme clusters of UAX #29", library=_uax29),
    _error("cer/dinglehopper@1", error_rate.dinglehopper_characters, "as dinglehopper: NFC, graphemes", library=_uax29),
    _error("mer/ws@1", error_rate.words_of(text.ws), "word edits / aligned words, at most 1", count=_over_alignment),
    _error("mer/jiwer4@1", error_rate.jiwer4_words, "the same on jiwer 4's words", count=_over_alignment),
    _error("wil/ws@1", error_rate.words_of(text.ws), "word information lost, mean of rows", count=_information_lost),
    _error("wil/jiwer4@1", error_rate.jiwer4_words, "the same on jiwer 4's words", count=_information_lost),
    _ned("ned/codepoint@1", text.raw, "code point edits / the longer text's code points"),
    _ned("ned/alnum@1", text.alnum, "the same on word characters only (VLMEvalKit's OmniDocBench port)"),
    _answer("exact/raw@1", partial(answers.exact, folding=text.raw), "equal as it is (HF evaluate, lmms-eval)"),
    _answer("exact/ws@1", partial(answers.exact, folding=text.ws), "equal after `ws`"),
    _answer("exact/nocase@1", partial(answers.exact, folding=text.ws_casefold), "equal after `ws` and case folding"),
    _answer(
        "exact/hf-nocase-nopunct@1",
        partial(answers.exact, folding=spans.ascii_nopunct),
        "HF evaluate's with ignore_case and ignore_punctuation; blanks count",
    ),
    _answer("exact/squad@1", partial(answers.exact, folding=spans.squad_fold), "SQuAD 2.0's exact match"),
    _answer("exact/stvqa@1", partial(answers.exact, folding=answers.evalai_fold), "mmf's ST-VQA accuracy"),
    _answer("token_f1/squad@1", spans.token_f1, "SQuAD 2.0's F1 of shared words", refusals.unspaced),
    _answer("vqa/official@1", answers.vqa_official, "the VQA v2 script, oddities kept", refusals.few),
    _answer("vqa/evalai@1", answers.vqa_evalai, "TextVQA's (mmf): ten references", refusals.not_ten),
    _answer(
        "vqa/lmms-vqav2@1",
        partial(answers.vqa_folded, fold=answers.vqa_fold),
        "as lmms-eval's VQAv2: the script, but always folded",
        refusals.few,
    ),
    _answer(
        "vqa/lmms-textvqa@1",
        partial(answers.vqa_folded, fold=answers.evalai_fold),
        "as lmms-eval's TextVQA: mmf's folding, any number of references",
        refusals.few,
    ),
    _answer(
        "vqa/vlmevalkit@1",
        partial(answers.vqa_folded, fold=answers.vlmevalkit_fold),
        "as VLMEvalKit: always folded, `5.` is not `5`",
        refusals.few,
    ),
    _answer("anls/rrc@1", answers.anls_rrc, "the RRC script's: 0.5 stands, length before folding"),
    _answer("anls/paper@1", answers.anls_paper, "Biten 2019's equation 1: 0.5 scores 0; as the `anls` package"),
    _answer("anls/pix2struct@1", answers.anls_pix2struct, "as pix2struct: lower case only, 0.5 scores 0"),
    _answer("anls/mmf@1", answers.anls_mmf, "as mmf's ST-VQA: lower case, stripped, 0.5 stands"),
    _answer("relaxed/chartqa@1", relaxed.relaxed_chartqa, "within 5 % (pix2struct, lmms-eval), oddities kept"),
    _answer("relaxed/vlmevalkit@1", relaxed.relaxed_vlmevalkit, "the same, the prediction stripped (VLMEvalKit)"),
    _answer("relaxed/strict@1", relaxed.relaxed_strict, "ours: separators and currency read, years and 0 exact"),
    _answer("contains/ocrbench@1", spans.contains, "a reference is in the answer (VLMEvalKit)", refusals.empty),
    _answer(
        "contains/ocrbench-lmms@1",
        partial(spans.contains, half_width=True),
        "the same with full-width ASCII folded (lmms-eval)",
        refusals.empty,
    ),
    _answer("contains/ocrbench2@1", spans.contains_or_like, "OCRBench v2: long references by likeness", refusals.empty),
    _answer(
        "teds/pubtabnet@1",
        _teds,
        "HTML tables by tree edit distance (PubTabNet's script), never below 0",
        refusals.no_table,
    ),
    _answer(
        "teds/structure@1",
        partial(_teds, structure=True),
        "the same with the cells emptied: TEDS-Struct",
        refusals.no_table,
    ),
    _answer("rouge_l/words@1", _rouge_l, "longest common subsequence, β 1.2, on folded words"),
    _corpus(
        "cider/words@1",
        _cider,
        "CIDEr-D, 0 to 10, on folded words; comparable within one corpus only",
        refusal=refusals.alike,
        most=10.0,
    ),
    _corpus(
        "bleu/sacrebleu@1",
        machine.bleu,
        "sacreBLEU of the corpus, 0 to 100 (13a)",
        refusal=refusals.unspaced,
        most=100.0,
        whole=machine.bleu_whole,
        library=machine.bleu_signature,
    ),
    _corpus(
        "chrf/sacrebleu@1",
        machine.chrf,
        "sacreBLEU's chrF2 of the corpus, 0 to 100",
        most=100.0,
        whole=machine.chrf_whole,
        library=machine.chrf_signature,
    ),
)

METRICS: Mapping[str, Metric] = MappingProxyType({metric.spec: metric for metric in _ALL})
"""Every metric by its spec."""

DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        "wer": "wer/ws@1",
        "cer": "cer/ws@1",
        "mer": "mer/ws@1",
        "wil": "wil/ws@1",
        "ned": "ned/codepoint@1",
        "exact": "exact/ws@1",
        "token_f1": "token_f1/squad@1",
        "vqa": "vqa/official@1",
        "anls": "anls/rrc@1",
        "relaxed": "relaxed/chartqa@1",
        "contains": "contains/ocrbench@1",
        "bleu": "bleu/sacrebleu@1",
        "chrf": "chrf/sacrebleu@1",
        "cider": "cider/words@1",
        "rouge_l": "rouge_l/words@1",
        "teds": "teds/pubtabnet@1",
    }
)
"""What a short name stands for."""
