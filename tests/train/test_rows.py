from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
from tiny import MemoryReader, assistant, lines, png, sample, user

from vlmrecipes.data.sample import to_table
from vlmrecipes.models.turns import mixture, rows_in, rows_of
from vlmrecipes.train.rows import dataset


def test_a_row_for_every_answer() -> None:
    turns = [user("What is it?"), assistant("A line."), user("Compare it.", 1)]
    first, last = rows_of(sample(1, turns, "Shorter.", ["a", "b"]))
    assert (first.answer, first.images, len(first.messages())) == ("A line.", ("a",), 1)
    assert (last.answer, last.images, len(last.messages())) == ("Shorter.", ("a", "b"), 3)


def test_the_commonest_reference_is_learned() -> None:
    one = sample(1, [user("?")], "x", ["a"])
    several = type(one)(**{name: getattr(one, name) for name in one.__slots__} | {"references": ("b", "a", "a")})
    assert [row.answer for row in rows_of(several)] == ["a"]


def test_a_table_of_samples_gives_the_rows_of_each() -> None:
    odd = 'He said "type": "image" and "role": "assistant".'
    chats = [
        [user("What is it?"), assistant("A line."), user("Compare it.", 1), assistant(odd), user("So?", 0)],
        [user(odd, 0)],
        [user(odd, 2)],
        [assistant("I begin."), user("Read.")],
    ]
    pictures = [["a", "b"], [], ["a", "a"], ["c"]]
    samples = [sample(n, chat, odd, some) for n, (chat, some) in enumerate(zip(chats, pictures, strict=True))]
    rows = list(rows_in(to_table(samples), 3))
    assert rows == [row for one in samples for row in rows_of(one, 3)]
    assert [(row.answer, row.images) for row in rows] == [
        ("A line.", ("a",)),
        (odd, ("a", "b")),
        (odd, ("a", "b")),
        (odd, ()),
        (odd, ("a", "a")),
        (odd, ("c",)),
    ]
    assert [row.messages() for row in rows[2:]] == chats
    assert [row.messages() for row in rows[:2]] == [chats[0][:1], chats[0][:3]]


def test_weights_repeat_rows_and_choose_among_them() -> None:
    reader = MemoryReader()
    many, few = ([row for one in lines(reader, n) for row in rows_of(one, part)] for part, n in ((0, 10), (1, 4)))
    rows = mixture([(many, 0.5), (few, 2.5)], seed=1)
    assert [row.part for row in rows] == [0] * 5 + [1] * 10
    assert rows == mixture([(many, 0.5), (few, 2.5)], seed=1)
    assert rows != mixture([(many, 0.5), (few, 2.5)], seed=2)
    assert all(rows.count(row) in {2, 3} for row in few)


def test_rows_come_with_the_images_of_their_part(tmp_path: Path) -> None:
    left, right = MemoryReader(), MemoryReader()
    pictures = [left.add(png(20, 20, 1)), right.add(png(30, 20, 2)), right.add(png(40, 20, 3))]
    samples = [sample(1, [user("?", 0)], "none", []), sample(2, [user("?")], "one", pictures[:1])]
    rows = [row for one in samples for row in rows_of(one, 0)]
    rows += rows_of(sample(3, [user("?", 2)], "two", pictures[1:]), 1)
    stored = dataset(rows, np.arange(3, dtype=np.int32), [left, right], tmp_path / "rows.arrow")
    copy = pickle.loads(pickle.dumps(stored))  # as a loader process receives it
    assert [item["images"] for item in copy.__getitems__([0, 1, 2])] == [
        [],
        left.read(pictures[:1]),
        right.read(pictures[1:]),
    ]
    assert copy[2]["completion"] == [assistant("two")]
    assert [item["tokens"] for item in copy] == [0, 1, 2]
    assert copy[2]["prompt"] == [user("?", 2)]


def test_images_are_not_part_of_the_dataset(tmp_path: Path) -> None:
    reader = MemoryReader()
    rows = [row for one in lines(reader, 3) for row in rows_of(one)]
    dataset(rows, np.arange(len(rows), dtype=np.int32), [reader], tmp_path / "rows.arrow")
    assert b"PNG" not in (tmp_path / "rows.arrow").read_bytes()
