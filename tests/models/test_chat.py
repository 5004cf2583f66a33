from __future__ import annotations

import pickle
from typing import Any

import pytest

from vlmrecipes.models.chat import Chat, Pair

TRIMS = (
    "{% for m in messages %}[{{ m.role }}]"
    "{% for p in m.content %}{{ p.text | trim if p.type == 'text' else '<i>' }}{% endfor %};"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
SHOUTS = TRIMS.replace("| trim", "| upper")


class Templated:
    """A processor that is a template only, and counts how often it is used."""

    def __init__(self, template: str) -> None:
        self.template, self.calls = template, 0

    def apply_chat_template(self, messages: Any, *, tokenize: bool, add_generation_prompt: bool = False) -> str:
        import jinja2

        assert not tokenize
        self.calls += 1
        template = jinja2.Environment(autoescape=False).from_string(self.template)
        return template.render(messages=messages, add_generation_prompt=add_generation_prompt)


def user(*texts: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "image"}, *({"type": "text", "text": text} for text in texts)]}


@pytest.mark.parametrize("template", [TRIMS, SHOUTS])
@pytest.mark.parametrize(
    ("texts", "answer"),
    [
        (("Read it.",), "A line"),
        (("  spaces ", "more"), " outside "),
        (("<b>tags</b>",), "a < b"),
        (("",), ""),
        (("\ue0000\ue001",), "\ue0001\ue001"),
        (("one", "two"), "\ue0000"),
    ],
)
def test_equals_rendering_in_full(template: str, texts: tuple[str, ...], answer: str) -> None:
    processor = Templated(template)
    messages = [user(*texts)]
    reply = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
    prompt = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    whole = processor.apply_chat_template([*messages, reply], tokenize=False)
    chat = Chat(processor)
    assert chat.prompt(messages) == prompt
    assert chat.pair(messages, answer) == Pair(prompt, whole[len(prompt) :])


def test_a_template_is_rendered_once_for_like_messages() -> None:
    processor = Templated(TRIMS)
    chat = Chat(processor)
    chat.pair([user("First.")], "one")
    calls = processor.calls
    pairs = [chat.pair([user(f"Question {n}?")], f"answer {n}") for n in range(50)]
    assert processor.calls == calls
    assert pairs[7] == Pair("[user]<i>Question 7?;[assistant]", "answer 7;")


def test_text_content_is_a_text_part() -> None:
    chat = Chat(Templated(TRIMS))
    plain = chat.prompt([{"role": "user", "content": "Hello"}])
    assert plain == chat.prompt([{"role": "user", "content": [{"type": "text", "text": "Hello"}]}])


def test_may_be_pickled() -> None:
    chat = Chat(Templated(TRIMS))
    chat.prompt([user("Read it.")])
    assert pickle.loads(pickle.dumps(chat)).prompt([user("Read it.")]) == chat.prompt([user("Read it.")])
