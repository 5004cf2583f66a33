import json
import resource
from pathlib import Path
from typing import Any

import pytest
from command import inside, one_object, vlmrecipes

from vlmrecipes.errors import InputError
from vlmrecipes.evaluate.answers_file import read, score_file

ROWS = [
    {"id": "a", "prediction": "TOTAL 5", "references": ["TOTAL 5", "5"], "page": 1, "shop": "north"},
    {"prediction": "cash", "reference": "CASH", "page": 1, "shop": "south"},
    {"prediction": None, "reference": "tax", "page": 2},
]


def written(path: Path, *lines: object) -> Path:
    texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join(texts) + b"\n")
    return path


def test_rows_are_read_with_ids_clusters_and_labels(tmp_path: Path) -> None:
    found = read(written(tmp_path / "p.jsonl", *ROWS[:2], b" ", ROWS[2]), by=["shop"], cluster="page")
    assert [(row.id, row.cluster, row.labels, row.references) for row in found] == [
        ("a", "1", {"shop": "north"}, ("TOTAL 5", "5")),
        ("line 2", "1", {"shop": "south"}, ("CASH",)),
        ("line 4", "2", {}, ("tax",)),
    ]
    assert found[2].prediction is None


def test_every_bad_line_is_told(tmp_path: Path) -> None:
    bad: list[Any] = [
        b"{",
        b"\xff",
        [1],
        {"reference": "x"},
        {"prediction": 5, "reference": "x"},
        {"prediction": "x"},
        {"prediction": "x", "references": []},
        {"prediction": "x", "references": "x"},
        {"prediction": "x", "references": [1]},
        {"prediction": "x", "reference": ["x"]},
        {"prediction": "x", "reference": "x", "references": ["x"]},
        {"prediction": "x", "reference": "x", "shop": {}},
        {"prediction": "x", "reference": "x", "shop": "\ud800"},
        {"prediction": "x", "reference": "x", "id": "\ud800"},
        b"[" * 100_000,
    ]
    file = written(tmp_path / "p.jsonl", ROWS[0], *bad)
    with pytest.raises(InputError) as caught:
        score_file(file, ["cer"], by=["shop"])
    assert [problem.key.partition(":")[0] for problem in caught.value.problems] == [
        f"line {n}" for n in range(2, len(bad) + 2)
    ]
    assert all(problem.file == str(file) for problem in caught.value.problems)


def test_a_row_without_its_cluster_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 1: book: is missing; rows are clustered by it"):
        read(written(tmp_path / "p.jsonl", ROWS[0]), cluster="book")


@pytest.mark.parametrize(("content", "said"), [(None, "cannot be read"), (b"\n \n", "has no rows")])
def test_no_rows_are_a_problem(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "p.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=said):
        read(tmp_path / "p.jsonl")


def test_score_prints_one_object_keyed_as_asked_and_writes_it(tmp_path: Path) -> None:
    file = written(tmp_path / "p.jsonl", *ROWS)
    words = ["--metrics", "cer,exact@nocase", "--by", "shop", "--cluster", "page", "--seed", "3", "-o", "out.json"]
    found = one_object(vlmrecipes("score", file, *words, "--json", cwd=tmp_path))
    assert found == json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert (found["rows"], list(found["metrics"])) == (3, ["cer", "exact@nocase"])
    cer, exact = found["metrics"].values()
    assert (cer["spec"], cer["n"], cer["failed"], cer["seed"]) == ("cer/ws@1", 3, 1, 3)
    assert cer["value"] == 7 / 14
    assert exact["value"] == pytest.approx(2 / 3)
    assert set(cer["by"]["shop"]) == {"north", "south", "(none)"}


def test_score_prints_a_table(tmp_path: Path) -> None:
    done = vlmrecipes("score", written(tmp_path / "p.jsonl", *ROWS), "--metrics", "cer", "--by", "shop")
    assert (done.returncode, done.stdout.count("\n")) == (0, 5)
    assert done.stdout.splitlines()[1].startswith("cer/ws@1")


def test_a_result_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    file = written(tmp_path / "p.jsonl", *ROWS)
    found = one_object(inside("score", file, "--metrics", "cer", "--json", "-o", tmp_path / "absent" / "x.json"), 2)
    assert found["problems"][0] == {
        "file": str(tmp_path / "absent" / "x.json"),
        "key": "--output",
        "problem": "cannot be written: No such file or directory",
    }


def test_score_refuses_with_all_reasons(tmp_path: Path) -> None:
    file = written(tmp_path / "p.jsonl", {"prediction": "你好", "reference": "你好世界"})
    words = ["--metrics", "vqa@official,wer,nope", "--by", "shop"]
    problems = one_object(vlmrecipes("score", file, *words, "--json"), 2)["problems"]
    said = " ".join(problem["problem"] for problem in problems)
    for part in ("fewer than 3 references", "without spaces", "unknown metric 'nope'", "no row has the column 'shop'"):
        assert part in said
    assert one_object(vlmrecipes("score", file, "--metrics", ",", "--json"), 2)["problems"][0]["key"] == "metrics"


def cpu_seconds() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def test_score_starts_at_once_and_takes_seconds_for_many_rows(tmp_path: Path) -> None:
    rows = [
        {"prediction": f"total {n % 97}.{n % 13}", "reference": f"total {n % 89}.{n % 13} cash"} for n in range(30_000)
    ]
    few, many = written(tmp_path / "few.jsonl", rows[0]), written(tmp_path / "many.jsonl", *rows)
    spent = [cpu_seconds()]
    for file in (few, many):
        done = vlmrecipes("score", file, "--metrics", "wer,cer", "--json")
        assert one_object(done)["metrics"]["wer"]["n"] in (1, 30_000)
        spent.append(cpu_seconds())
    assert spent[1] - spent[0] < 1.0, "about 0.4 s are usual"
    assert spent[2] - spent[1] < 6.0, "about 1.3 s are usual"
    assert "reading many.jsonl: 30000" in done.stderr
    assert "scoring: 60000/60000" in done.stderr
