"""Why a metric means nothing on some references, and the way out."""

from __future__ import annotations

from vlmrecipes.evaluate import answers, text
from vlmrecipes.evaluate.metric import References


def unspaced(references: References) -> str | None:
    """Refuse word errors where more than half of the rows are in a script without spaces, and none of those has one."""
    found = sum(any(text.is_unspaced(one) for one in row) for row in references)
    if 2 * found <= len(references):
        return None
    return (
        f"{found} of {len(references)} rows are in a script written without spaces and have none, "
        "so a whole line is one word; use cer"
    )


def few(references: References) -> str | None:
    """Refuse VQA accuracy below three references a row."""
    found = sum(len(row) < answers.MIN_ANNOTATORS for row in references)
    if not found:
        return None
    return (
        f"{found} of {len(references)} rows have fewer than {answers.MIN_ANNOTATORS} references, where a right answer "
        "cannot score more than 0 (one reference) or 1/3 (two); use exact or anls"
    )


def not_ten(references: References) -> str | None:
    """Refuse the EvalAI accuracy unless each row has ten references."""
    found = sum(len(row) != answers.EVALAI_ANNOTATORS for row in references)
    if not found:
        return None
    return (
        f"{found} of {len(references)} rows do not have {answers.EVALAI_ANNOTATORS} references, for which alone it is "
        "defined; use vqa/official@1, or exact or anls where there are fewer than 3"
    )


def empty(references: References) -> str | None:
    """Refuse containment where a reference is blank: any answer contains it."""
    found = sum(any(not text.ws(one) for one in row) for row in references)
    if not found:
        return None
    return f"{found} of {len(references)} rows have an empty reference, which every answer contains; use exact or anls"


def alike(references: References) -> str | None:
    """Refuse CIDEr where all rows have the same references: its weights are then all 0."""
    if not references or len({tuple(sorted(row)) for row in references}) > 1:
        return None
    return "its weights come from how the rows' references differ, and here they do not; use chrf"


def no_table(references: References) -> str | None:
    """Refuse TEDS where no reference holds a table."""
    if not references or any("<table" in one.lower() for row in references for one in row):
        return None
    return "no reference holds an HTML table, and so every score would be 0; use cer for other text"
