"""The forms in which a conversation is given away: all text, roles that take turns, calls and their answers."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from trajectories.left_by_agents import mini_swe

from helpers.datagen import trace_messages
from helpers.datagen.trace_messages import Message, Unfit
from helpers.trajectories import mini_swe as mini


def conversation(steps: list[Any], **agent: Any) -> trace_messages.Conversation:
    return trace_messages.read({"steps": steps, "agent": agent})


def agents(text: str, calls: list[str], results: list[tuple[str | None, str]]) -> dict[str, Any]:
    return {
        "source": "agent",
        "message": text,
        "tool_calls": [{"tool_call_id": one, "function_name": "bash", "arguments": {"at": one}} for one in calls],
        "observation": {"results": [{"source_call_id": call, "content": said} for call, said in results]},
    }


def test_openais_form_of_mini_swe_agents_trajectory() -> None:
    found = trace_messages.read(mini.trajectory(mini_swe(), "mini-swe").document())
    first = {"name": "bash", "arguments": '{"command": "ls"}'}
    last = {"name": "bash", "arguments": '{"command": "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"}'}
    assert trace_messages.openai(found.episode(2)) == [
        {"role": "system", "content": "You can."},
        {"role": "user", "content": "Mend it."},
        {
            "role": "assistant",
            "content": "<think>Hm.</think>\nThought 1.",
            "tool_calls": [{"id": "call_0", "type": "function", "function": first}],
        },
        {"role": "tool", "tool_call_id": "call_0", "content": "code.py\n"},
        {"role": "assistant", "content": "No call."},
        {"role": "user", "content": "Tool call error."},
        {
            "role": "assistant",
            "content": "<think>Hm.</think>\nThought 2.",
            "tool_calls": [{"id": "call_1", "type": "function", "function": last}],
        },
    ]


def test_every_call_has_one_answer_and_what_answers_none_is_the_users() -> None:
    first = agents("a", ["x", "y", "x"], [("y", "2"), ("x", "1"), (None, "?"), ("y", "3")])
    steps = [{"source": "user", "message": "Do."}, first, agents("b", ["x"], [(None, "alone")]), agents("c", [], [])]
    made = trace_messages.openai(conversation(steps).episode(2))
    assert [(one["role"], one.get("tool_call_id"), one["content"]) for one in made] == [
        ("user", None, "Do."),
        ("assistant", None, "a"),
        ("tool", "call_0", "1"),
        ("tool", "call_1", "2\n3"),
        ("tool", "call_2", ""),
        ("user", None, "?"),
        ("assistant", None, "b"),
        ("tool", "call_3", "alone"),
        ("assistant", None, "c"),
    ]


def test_sharegpts_roles_take_turns() -> None:
    steps = [
        {"source": "system", "message": "Be good."},
        {"source": "user", "message": "Do."},
        {"source": "user", "message": "Now."},
        agents("a", [], []),
        agents("b", [], [(None, "out")]),
        {"source": "user", "message": "On."},
        agents("c", [], [(None, "left out")]),
        {"source": "system", "message": "The end."},
    ]
    assert trace_messages.sharegpt(conversation(steps).episode(2)) == [
        {"from": "system", "value": "Be good."},
        {"from": "human", "value": "Do.\n\nNow."},
        {"from": "gpt", "value": "a\n\nb"},
        {"from": "human", "value": "out\n\nOn."},
        {"from": "gpt", "value": "c"},
    ]


def test_sharegpts_tools_are_the_systems_words() -> None:
    found = conversation(
        [{"source": "user", "message": "Do."}, agents("a", [], [])], tool_definitions=[{"name": "t"}, 7]
    )
    system, human, _ = trace_messages.sharegpt(found.episode(0), found.tools)
    assert system == {"from": "system", "value": '<tools>\n[\n  {\n    "name": "t"\n  }\n]\n</tools>'}
    both = trace_messages.sharegpt([Message("system", "Be good."), *found.episode(0)], found.tools)
    assert both[0]["value"] == f"{system['value']}\n\nBe good." and both[1] == human


STEPS = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {"source": st.sampled_from(["system", "user", "agent", 7]), "message": st.text(max_size=5)}
        ),
        st.builds(
            agents,
            st.text(max_size=3),
            st.lists(st.sampled_from("xyz"), max_size=3),
            st.lists(st.tuples(st.sampled_from([None, "x", "y", "q"]), st.text(max_size=3)), max_size=3),
        ),
        st.integers(),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_whatever_the_steps_are_every_form_holds_its_rules(steps: list[Any]) -> None:
    try:
        found = conversation(steps)
    except Unfit:
        assert not any(isinstance(one, dict) and one["source"] == "agent" for one in steps)
        return
    for number in range(len(found.ends)):
        messages = found.episode(number)
        plain, turns, chat = (
            form(messages) for form in (trace_messages.harbor, trace_messages.sharegpt, trace_messages.openai)
        )
        assert plain[-1]["role"] == "assistant" and {one["role"] for one in plain} <= {"user", "assistant"}
        roles = [one["from"] for one in turns]
        assert roles[-1] == "gpt" and all(a != b for a, b in zip(roles, roles[1:], strict=False))
        asked = [call["id"] for one in chat[:-1] for call in one.get("tool_calls", ())]
        assert [one["tool_call_id"] for one in chat if one["role"] == "tool"] == asked == list(dict.fromkeys(asked))
        assert chat[-1]["role"] == "assistant" and json.dumps(chat, allow_nan=False)
