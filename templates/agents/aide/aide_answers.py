"""What models and their servers say, read leniently: servers differ in where they put an answer, models in how they form it."""

import ast
import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from agent_models import error_in
from agent_settings import one_line

LONGEST_REVIEW = 200_000  # characters of a review that are read
MOST_OBJECTS = 200  # places in a review where JSON may begin

# how OpenAI, vLLM, SGLang, TGI, llama.cpp, Ollama, LiteLLM, Anthropic, Gemini and Mistral word it
TOO_LONG = re.compile(
    r"context.{0,3}(length|window|size|limit)|max_model_len|max(imum)?.{0,20}(context|tokens|length|input)|too (long|large|many tokens)"
    r"|(token|input|prompt|messages).{0,40}(exceed|greater than|longer than|must have less)|max_(new_)?tokens.{0,20}must be"
    r"|reduce the (length|size)|reduce your (message|prompt)|exceed_context|max_(seq|total|input)_(len|tokens|length)",
    re.I,
)
# how servers refuse a tool, or that it must be called
NO_TOOLS = re.compile(r"\btools?\b|tool_choice|tool use|tool-call|function.?call|--jinja", re.I)

_NAMES = r"(?:seed:)?(?:think|thinking|thoughts?|reasoning|reflection|scratchpad)"
_OPENING = rf"(?:<{_NAMES}>|\[THINK\]|◁think▷|<\|START_THINKING\|>|<\|begin_of_thought\|>|<unused94>|<\|channel\|?>(?:analysis|thought))"
OPENS = re.compile(rf"^[ \t]*{_OPENING}", re.I | re.M)
OPENS_ANYWHERE = re.compile(_OPENING, re.I)
# not where it is quoted: a program may well deal with such marks
CLOSES = re.compile(
    rf"(?:</{_NAMES}>|\[/THINK\]|◁/think▷|<\|END_THINKING\|>|<\|end_of_thought\|>|<unused95>|<channel\|>)(?!\s?[\"'`\\)\]])",
    re.I,
)
FINAL = re.compile(r"<\|channel\|>final(?:<\|[^|]*\|>[^<]*)?<\|message\|>", re.I)  # of gpt-oss, where nobody parsed it
SPECIAL = re.compile(r"<\|(?:end|return|start|START_RESPONSE|END_RESPONSE|begin_of_solution|end_of_solution)\|>")

FENCE = re.compile(r"^[ \t]*(?:```|~~~)[ \t]*(?:py(?:thon)?3?|ipython|pycon)?[ \t]*(?:\{[^\n]*\})?$", re.I | re.M)
BLOCK = re.compile(r"```.*?```", re.S)
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


class NoAnswer(Exception):
    """The server has answered, with something that is no answer of a model; the message says what it is."""


class Unreadable(Exception):
    """A review says nothing that could be used."""


@dataclass
class Answer:
    """One answer: its text without what the model thought, the arguments of its calls, whether a limit cut it off."""

    text: str = ""
    calls: list[Any] = field(default_factory=list)
    cut: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0


def answer_in(body: str) -> Answer:
    """Read the body of a chat completion. Raises NoAnswer."""
    try:
        completion = json.loads(body)
    except (ValueError, RecursionError):
        raise NoAnswer(f"no JSON but {one_line(body)[:200]!r}" if body.strip() else "nothing") from None
    choices = completion.get("choices") if isinstance(completion, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message", {"content": choice["text"]} if "text" in choice else None)
    content = message.get("content") if isinstance(message, dict) else 0
    if not isinstance(content, str | list | None) or choice.get("finish_reason") == "error" or choice.get("error"):
        raise NoAnswer(error_in(choice.get("error") and choice or completion))
    answer = Answer(without_thinking(joined(content)), calls_in(message), choice.get("finish_reason") == "length")
    if not answer.text.strip() and not answer.calls and not answer.cut:
        # some servers take all that a model says for thinking
        answer.text = last_words(joined(message.get("reasoning_content") or message.get("reasoning")))
    counts = completion.get("usage")
    for name in ("prompt_tokens", "completion_tokens"):
        count = counts.get(name) if isinstance(counts, dict) else None
        setattr(answer, name, count if type(count) is int and 0 <= count < 2**40 else 0)
    return answer


def joined(content: Any) -> str:
    """The text of a content that may come as a list of parts, of which some are thoughts or pictures."""
    if isinstance(content, str):
        return content
    texts = []
    for part in content if isinstance(content, list) else []:
        if isinstance(part, dict) and part.get("type", "text") in ("text", "output_text"):
            part = part.get("text")
        if isinstance(part, dict):
            part = part.get("value")
        if isinstance(part, str):
            texts.append(part)
    return "".join(texts)


def calls_in(message: dict) -> list[Any]:
    """The arguments of all calls of tools, of today's kind and of the one before it; text or objects."""
    calls = message.get("tool_calls")
    functions = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    functions.append(message.get("function_call"))
    return [function["arguments"] for function in functions if isinstance(function, dict) and function.get("arguments")]


def without_thinking(text: str) -> str:
    """The text without what stands between marks of thinking; an opening or a closing one may be missing."""
    if finals := list(FINAL.finditer(text)):
        text = text[finals[-1].end() :]
    closing, opening = CLOSES.search(text), OPENS_ANYWHERE.search(text)
    if closing and not (opening and opening.start() < closing.start()):
        text = text[closing.end() :]
    place = 0
    while opening := OPENS.search(text, place):
        place = opening.end()
        if text.count("```", 0, opening.start()) % 2:
            continue  # in a program
        closing = CLOSES.search(text, place)
        text = text[: opening.start()] + (text[closing.end() :] if closing else "")
        place = opening.start()
    return SPECIAL.sub("", text)


def last_words(thoughts: str) -> str:
    """What stands for an answer where there are thoughts alone: of several programs in them the last."""
    text = without_thinking(thoughts)
    blocks = list(BLOCK.finditer(text))
    return text[blocks[-2].end() :] if len(blocks) > 1 else text


def program_text(answer: Answer) -> str:
    """An answer as AIDE wants it: a plan, then code between ```python and ```."""
    text = answer.text.strip()
    lines = []
    for line in text.split("\n"):
        if FENCE.match(line):
            inside = sum(line.startswith("```") for line in lines) % 2
            line = "```" if inside else "```python"
        lines.append(line)
    text = "\n".join(lines)
    if text.count("```") % 2 and not answer.cut:
        text += "\n```"
    return f"The model told no plan.\n\n{text}" if text.startswith("```") else text


def review_in(answer: Answer) -> dict:
    """A review's is_bug, summary, metric (None: not told) and lower_is_better (None: not told). Raises Unreadable."""
    for source in (*answer.calls, answer.text):
        found = object_in(source)
        if found is not None:
            break
    else:
        found = words_in(answer.text[:LONGEST_REVIEW])
    bug, metric = as_bool(found.get("is_bug")), as_number(found.get("metric"))
    if bug is None and metric is None:
        raise Unreadable("it tells neither whether there is a bug nor a metric")
    summary = found.get("summary")
    return {
        "is_bug": bool(bug),
        "summary": printable(summary if isinstance(summary, str) else "")[:LONGEST_REVIEW],
        "metric": metric,
        "lower_is_better": as_bool(found.get("lower_is_better")),
    }


def object_in(source: Any) -> dict | None:
    """The review in an object, or the last in a text that holds some: as JSON, as Python, in a call of the tool."""
    if isinstance(source, dict):
        if "is_bug" in source or "metric" in source:
            return source
        inner = (source.get(key) for key in ("arguments", "parameters", "args", "input", "function", "submit_review"))
        return next((found for value in inner if value and (found := object_in(value)) is not None), None)
    if isinstance(source, list):
        return next((found for value in source[-5:] if (found := object_in(value)) is not None), None)
    if not isinstance(source, str):
        return None
    text, place, found = source[:LONGEST_REVIEW], 0, None
    decoder = json.JSONDecoder(strict=False)
    for _ in range(MOST_OBJECTS):
        place = text.find("{", place)
        if place < 0:
            break
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            value, end = None, place + 1
        found, place = object_in(value) or found, end
    return found or python_object_in(text)


def python_object_in(text: str) -> dict | None:
    """The same where it isn't quite JSON: single quotes, True and None, a comma too many."""
    start, end = text.find("{"), text.rfind("}") + 1
    if not 0 <= start < end <= start + 20_000:
        return None
    literal = re.sub(
        r"\b(true|false|null|NaN)\b", lambda m: {"true": "True", "false": "False"}.get(m[0], "None"), text[start:end]
    )
    try:
        return object_in(ast.literal_eval(literal))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def words_in(text: str) -> dict:
    """The values of a review that come as lines, tags or arguments: `is_bug: false`, `<parameter=metric>0.9`, `metric=0.9`."""
    found = {}
    for key in ("is_bug", "metric", "lower_is_better", "summary"):
        name = key.replace("_", "[_ ]")
        between = r"[\"'`*>]{0,4}[ \t]{0,3}(?:value[ \t]?)?(?:[:=]|\bis\b|(?<=>))[ \t]{0,3}[*\"'`]{0,4}\s{0,3}"
        match = re.search(rf"(?<![A-Za-z_]){name}{between}([^\n<]{{1,300}})", text, re.I)
        if match:
            found[key] = match[1] if key == "summary" else re.split(r"[,;)\]}<*\"'`]|\.(?!\d)", match[1], maxsplit=1)[0]
    return found


def as_bool(value: Any) -> bool | None:
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    word = str(value).strip().lower()
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(word)


def as_number(value: Any) -> float | None:
    """A finite number, also from a text with one number, or with one behind a colon; None for all else."""
    if isinstance(value, dict):
        value = value.get("value")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        numbers = NUMBER.findall(re.split(r"±|\+/-|\(", value.rpartition(":")[2].rpartition("=")[2])[0])
        value = float(numbers[0]) / (100 if "%" in value else 1) if len(numbers) == 1 else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def printable(text: str) -> str:
    """The text without lone surrogates, which no file and no request can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
