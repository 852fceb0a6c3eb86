"""How servers and models answer, one by one: what AIDE's requests make of it. One process of real AIDE asks them all."""

import json
import os
import subprocess

import pytest
from agent_support import AGENTS, AIDE_PYTHON, Service

CODE = "A plan.\n\n```python\nprint(1)\n```"
DRAFT = "Let me think.\n```python\nprint('draft')\n```\nNo, better:\n"
REVIEW = {"is_bug": False, "summary": "fine", "metric": 0.5, "lower_is_better": False}
TEXT = json.dumps(REVIEW)
CUTTER = "A plan.\n\n```python\nre.sub('<think>.*</think> *', '', x)\n```"
THOUGHTS = {"type": "thinking", "thinking": [{"type": "text", "text": DRAFT}]}
BROKEN = {"error": {"message": "upstream"}, "message": {"content": ""}, "finish_reason": "error"}
PRINTED = "Fold 1 RMSE: 0.9\nTraining RMSE: 0.1\nMean RMSE over 5 folds: 0.7 +- 0.1\nExecution time: 3 seconds."


def said(content, finish="stop", usage=(10, 3), **message):
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content} | message, "finish_reason": finish}
    return {
        "object": "chat.completion",
        "choices": [choice],
        "usage": dict(zip(("prompt_tokens", "completion_tokens"), usage, strict=True)),
    }


def called(arguments, name="submit_review", **message):
    return said(
        None,
        "tool_calls",
        tool_calls=[{"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}],
        **message,
    )


def error(message, **more):
    return {"error": {"message": message, "type": "BadRequestError"} | more}


# what is answered to a request for code (the last again and again): the text that AIDE gets
TEXTS = {
    "plain": ([said(CODE)], CODE),
    "thinking before": ([said(f"<think>\n{DRAFT}</think>\n\n{CODE}")], CODE),
    "thinking opened by the template": ([said(f"{DRAFT}</think>\n\n{CODE}")], CODE),
    "thinking never closed": ([said(f"A plan.\n<think>{DRAFT}")], "A plan."),
    "thinking twice": ([said(f"<think>{DRAFT}</think>\n<think>{DRAFT}</think>{CODE}")], CODE),
    "thinking in the middle": ([said(f"Sure.\n<thinking>{DRAFT}</thinking>\n{CODE}")], f"Sure.\n\n{CODE}"),
    "magistral": ([said(f"[THINK]{DRAFT}[/THINK]{CODE}")], CODE),
    "kimi": ([said(f"◁think▷{DRAFT}◁/think▷{CODE}")], CODE),
    "gpt-oss without a parser": (
        [said(f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>{CODE}<|return|>")],
        CODE,
    ),
    "a program about thinking": (
        [said("A plan.\n\n```python\ntext = text.split('</think>')[-1]\n<think>\n```")],
        "A plan.\n\n```python\ntext = text.split('</think>')[-1]\n<think>\n```",
    ),
    "a program that cuts tags": ([said(CUTTER)], CUTTER),
    "parts": ([said([{"type": "text", "text": CODE[:9]}, {"type": "text", "text": CODE[9:]}])], CODE),
    "parts with thoughts": ([said([THOUGHTS, {"type": "text", "text": CODE}])], CODE),
    "reasoning beside": ([said(CODE, reasoning_content=DRAFT)], CODE),
    "all in reasoning_content": ([said(None, reasoning_content=f"{DRAFT}{CODE}")], f"No, better:\n{CODE}"),
    "all in reasoning": ([said("", reasoning=CODE)], CODE),
    "cut off while thinking": ([said(None, "length", (10, 5000), reasoning_content=DRAFT)], ""),
    "no plan": ([said("```py\nprint(1)\n```")], "The model told no plan.\n\n```python\nprint(1)\n```"),
    "fence left open": ([said("A plan.\n```Python\nprint(1)")], "A plan.\n```python\nprint(1)\n```"),
    "completions of old": ([{"choices": [{"text": CODE}]}], CODE),
    "html": ([b"<html>log in</html>", said(CODE)], CODE),
    "nothing": ([b"", said(CODE)], CODE),
    "error in 200": ([error("no worker"), said(CODE)], CODE),
    "choices null": ([{"choices": None}, said(CODE)], CODE),
    "no choices": ([{"choices": []}, said(CODE)], CODE),
    "error in a choice": ([{"choices": [BROKEN]}, said(CODE)], CODE),
    "a list": ([[1], said(CODE)], CODE),
    "no temperature": ([(400, error("Unsupported value: 'temperature'")), said(CODE)], CODE),
    "busy": ([(429, error("rate limit reached for input tokens per minute")), (503, b"away"), said(CODE)], CODE),
    "almost no room": ([said("A pl", "length", (8000, 2)), said(CODE)], CODE),
}  # fmt: skip

# the same for requests for a review: its metric, is_bug and lower_is_better, and whether it was made of what was printed
GOOD, JUDGED = (0.5, False, False, False), (0.7, False, True, True)
QWEN = "<function=submit_review>\n" + "".join(
    f"<parameter={key}>\n{value}\n</parameter>\n"
    for key, value in (("is_bug", "false"), ("metric", 0.5), ("lower_is_better", "false"))
)
REVIEWS = {
    "a call": ([called(TEXT)], GOOD),
    "arguments as an object": ([called(REVIEW)], GOOD),
    "another name": ([called(TEXT, "functions.submit_review:0")], GOOD),
    "a call of the old kind": ([said(None, function_call={"name": "submit_review", "arguments": TEXT})], GOOD),
    "values as text": ([called(json.dumps({"is_bug": "false", "metric": "0.5", "lower_is_better": "False"}))], GOOD),
    "a number with words": ([called(json.dumps(REVIEW | {"metric": "accuracy: 0.5 (5 folds)"}))], GOOD),
    "per cent": ([called(json.dumps(REVIEW | {"metric": "50%"}))], GOOD),
    "no direction": ([called('{"is_bug": false, "metric": 0.5}')], (0.5, False, True, False)),
    "a bug": ([called(json.dumps(REVIEW | {"is_bug": True}))], (None, True, False, False)),
    "text: JSON": ([said(TEXT)], GOOD),
    "text: a fence": ([said(f"Here it is:\n```json\n{TEXT}\n```\nDone {{.")], GOOD),
    "text: thinking first": ([said(f"<think>{json.dumps(REVIEW | {'metric': 0.1})}</think>{TEXT}")], GOOD),
    "text: hermes": ([said(f'<tool_call>\n{{"name": "submit_review", "arguments": {TEXT}}}\n</tool_call>')], GOOD),
    "text: llama": ([said(f'<|python_tag|>{{"name": "submit_review", "parameters": {TEXT}}}')], GOOD),
    "text: mistral": ([said(f'[TOOL_CALLS][{{"name": "submit_review", "arguments": {TEXT}}}]')], GOOD),
    "text: qwen": ([said(QWEN)], GOOD),
    "text: pythonic": ([said("[submit_review(is_bug=False, summary='fine', metric=0.5, lower_is_better=False)]")], GOOD),
    "text: python": ([said("{'is_bug': False, 'metric': 0.5, 'lower_is_better': False,}")], GOOD),
    "text: lines": ([said("**is_bug**: false\n**Metric:** 0.5\n- `lower_is_better`: no")], GOOD),
    "parts and reasoning": ([said([], reasoning_content=f"So I say: {TEXT}")], GOOD),
    "prose": ([said("The code ran well and the result is good.")], JUDGED),
    "whatever a limit left": ([called('{"is_bug": false, "summary": "The')], JUDGED),
    "empty arguments": ([called("")], JUDGED),
    "not a number": ([called('{"is_bug": false, "metric": NaN, "lower_is_better": true}')], JUDGED),
    "braces without end": ([said("{" * 100_000)], JUDGED),
    "tools refused by vLLM": ([(400, error("tool_choice=function requires --tool-call-parser to be set")), said(TEXT)], GOOD),
    "tools refused by Ollama": ([(400, error("registry.ollama.ai/library/gemma:2b does not support tools")), said(TEXT)], GOOD),
    "tools refused by OpenRouter": ([(404, error("No endpoints found that support tool use.")), said(TEXT)], GOOD),
    "tools refused by llama.cpp": ([(500, error("tools param requires --jinja flag")), said(TEXT)], GOOD),
}  # fmt: skip

# how the prompt's being too long is told: status, body
TOO_LONG = {
    "vLLM, max_tokens": (400, error("max_tokens must be at least 1, got -200. (parameter=max_tokens, value=-200)")),
    "vLLM": (400, error("This model's maximum context length is 1024 tokens. However, your request has 2000 input tokens.")),
    "vLLM, input": (400, error("Input length (11680) exceeds model's maximum context length (4096).")),
    "vLLM, decoder": (400, error("The decoder prompt (length 9000) is longer than the maximum model length of 4096.")),
    "SGLang": (400, error("The input (70000 tokens) is longer than the model's context length (32768 tokens).")),
    "SGLang, count": (400, error("Requested token count exceeds the model's maximum context length of 32768 tokens.")),
    "TGI": (422, {"error": "Input validation error: `inputs` must have less than 4096 tokens. Given: 9000", "error_type": "validation"}),
    "TGI, sum": (422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 9000"}),
    "llama.cpp": (400, error("the request exceeds the available context size, try increasing it", type="exceed_context_size_error")),
    "llama.cpp, 500": (500, error("Context size has been exceeded.")),
    "Ollama": (400, error("prompt too long; exceeded max context length by 200 tokens")),
    "OpenAI": (400, error("Your input exceeds the context window of this model.", code="context_length_exceeded")),
    "Groq": (413, error("Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 7000")),
    "OpenAI, minute": (429, error("Request too large for gpt on tokens per min (TPM): Limit 30000, Requested 40000.")),
    "Anthropic": (400, error("prompt is too long: 210000 tokens > 200000 maximum")),
    "LiteLLM": (400, error("litellm.ContextWindowExceededError: litellm.BadRequestError: OpenAIException")),
    "Gemini": (400, error("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).")),
    "Mistral": (400, error("Prompt contains 40000 tokens, too large for model with 32768 maximum context length")),
    "xAI": (400, error("This model's maximum prompt length is 131072 but the request contains 537812 tokens.")),
    "nginx": (413, b"<html>413 Request Entity Too Large</html>"),
    "in 200": (200, error("This model's maximum context length is 1024 tokens.")),
}  # fmt: skip

# what ends a run at once: status, body, a part of the message
FINAL = {
    "401": (401, error("Invalid API key"), "HTTP 401: Invalid API key (check its key)"),
    "403": (403, b"<html>Forbidden</html>", "HTTP 403: <html>Forbidden</html> (check its key)"),
    "404": (404, error("The model `m` does not exist."), "does not exist. (check its name and address)"),
    "quota": (429, error("You exceeded your current quota", code="insufficient_quota"), "(its quota is used up)"),
    "credit": (400, error("Your credit balance is too low to access the API."), "(its quota is used up)"),
    "balance": (402, error("Insufficient Balance"), "(its quota is used up)"),
    "budget": (400, error("Budget has been exceeded! Current cost: 1.2, Max budget: 1.0"), "(its quota is used up)"),
}

ASKER = """
import json, os, sys, time
agent, endpoints_file = sys.argv[1:]
sys.path.insert(0, agent)
from driver import spare_imports
spare_imports()
from pathlib import Path
from types import SimpleNamespace
import agent_models, aide_models
from agent_settings import Usage
from aide.agent import review_func_spec
agent_models.LONGEST_PAUSE = 0.05
settings = SimpleNamespace(endpoints_file=Path(endpoints_file), request_timeout=20, token_limit=0, patience=60)
results = {}
for name, (kind, url) in json.load(sys.stdin).items():
    lines = {"AGENT_CODE_MODEL": "m", "AGENT_CODE_BASE_URL": url, "AGENT_DEADLINE": time.time() + 60}
    settings.endpoints_file.write_text("".join(f"{key}='{value}'\\n" for key, value in lines.items()))
    usage = Usage(Path(endpoints_file).with_name("usage.json"))
    models = aide_models.Models(settings, usage)
    long = {"Introduction": "Hello.", "Task description": "Scored by RMSE.\\n" * 300, "Memory": "m" * 9000}
    long["Execution output"] = json.loads(os.environ["PRINTED"])
    spec = review_func_spec if kind == "review" else None
    try:
        said = models.query(long, temperature=0.5, func_spec=spec)
        if spec:  # a second one, to see how it is asked for
            models.query(long, temperature=0.5, func_spec=spec)
        results[name] = {"said": said, "usage": usage.counts, "cut_short": usage.cut_short}
    except Exception as error:
        results[name] = {"error": f"{type(error).__name__}: {error}", "usage": usage.counts, "cut_short": usage.cut_short}
json.dump(results, open(Path(endpoints_file).with_name("results.json"), "w"))
"""


class Manners(Service):
    """A server whose address says how it answers."""

    def __init__(self, scripts: dict[str, list]):
        self.scripts = {number: list(answers) for number, answers in enumerate(scripts.values())}
        super().__init__()

    def answer(self, call):
        script = self.scripts[int(call["path"].split("/")[1])]
        answer = script.pop(0) if len(script) > 1 else script[0]
        return answer if isinstance(answer, tuple) else (200, answer)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What came of each manner: by its name, with the requests that the server had."""
    folder = tmp_path_factory.mktemp("manners")
    for source in ("aide", "common"):
        for path in (AGENTS / source).glob("*.py"):
            (folder / path.name).symlink_to(path)
    scripts = {f"text {name}": answers for name, (answers, *_) in TEXTS.items()}
    scripts |= {f"review {name}": answers for name, (answers, *_) in REVIEWS.items()}
    scripts |= {f"long {name}": [answer, answer, said(CODE)] for name, answer in TOO_LONG.items()}
    scripts |= {f"final {name}": [(status, body)] for name, (status, body, _) in FINAL.items()}
    server = Manners(scripts)
    jobs = {name: [name.split()[0], f"{server.url}/{number}/v1"] for number, name in enumerate(scripts)}
    process = [AIDE_PYTHON, "-c", ASKER, folder, folder / "env"]
    done = subprocess.run(
        process,
        input=json.dumps(jobs),
        env=os.environ | {"PRINTED": json.dumps(PRINTED), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    server.close()
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "results.json").read_text())
    for number, name in enumerate(scripts):
        found[name]["calls"] = [
            json.loads(call["body"]) for call in server.calls if call["path"].startswith(f"/{number}/")
        ]
    return found


@pytest.mark.parametrize("name", TEXTS)
def test_plan_and_code(results, name):
    answers, text = TEXTS[name]
    result = results[f"text {name}"]
    assert result.get("said") == text, result
    assert result["usage"]["answers"] == (2 if name == "almost no room" else 1)
    assert result["usage"]["requests"] == len(result["calls"]) == len(answers)
    assert result["cut_short"] is None
    assert all(message["role"] == "user" for call in result["calls"] for message in call["messages"])


@pytest.mark.parametrize("name", REVIEWS)
def test_reviews(results, name):
    answers, (metric, bug, lower, printed) = REVIEWS[name]
    result = results[f"review {name}"]
    review = result["said"]
    assert (review["metric"], review["is_bug"], review["lower_is_better"]) == (metric, bug, lower), review
    assert ("Mean RMSE over 5 folds: 0.7" in review["summary"]) == printed
    # who doesn't call the tool is asked for text from then on
    as_text = ["tools" not in call for call in result["calls"]]
    takes_tools = (
        json.dumps(answers[0]).find('"arguments": ""') < 0
        and "_call" in json.dumps(answers[0])
        and "<tool_call>" not in json.dumps(answers[0])
    )
    assert as_text == ([False, False] if takes_tools else [False, True] if len(answers) == 1 else [False, True, True])
    assert all(
        ("one JSON object" in call["messages"][0]["content"]) == ("tools" not in call) for call in result["calls"]
    )


@pytest.mark.parametrize("name", TOO_LONG)
def test_a_prompt_that_is_too_long_is_shortened(results, name):
    result = results[f"long {name}"]
    assert result.get("said") == CODE, result
    sizes = [len(call["messages"][0]["content"]) for call in result["calls"]]
    assert len(sizes) == 3 and sizes[1] < 0.7 * sizes[0] and sizes[2] < 0.7 * sizes[1], sizes
    # what is known least goes first
    assert result["calls"][1]["messages"][0]["content"].count("Scored by RMSE.") == 300


@pytest.mark.parametrize("name", FINAL)
def test_what_no_second_try_can_help(results, name):
    result = results[f"final {name}"]
    assert result["error"].startswith("AgentError: code model 'm' at http") and FINAL[name][2] in result["error"]
    assert result["cut_short"] in result["error"]
    assert len(result["calls"]) == 1 and result["usage"]["answers"] == 0


def test_scores_that_programs_print(monkeypatch):
    for folder in ("aide", "common"):
        monkeypatch.syspath_prepend(str(AGENTS / folder))
    from aide_scores import lower_is_better, printed_score

    for output, value in {
        "Validation score: 0.5": 0.5,
        "Epoch 1 loss: 0.9\nval_auc=0.81": 0.81,
        "OOF AUC 0.8123": 0.8123,
        "Accuracy: 93": 93.0,
        "CV RMSE: 0.7\nTest rows: 200\nTrain RMSE: 0.01": 0.7,
        "Fold 1 F1: 0.5\nFold 2 F1: 0.7\nAverage F1 = 0.6\nFold times: 3": 0.6,
        "log loss -> 0.3\nCV logloss: nan": None,
        "mapping: 3\nscored 5 rows\ncovid: 7": None,
        "": None,
        "score: " * 100_000: None,
    }.items():
        found = printed_score(output)
        assert (found and found[0]) == value, output[:80]
    assert lower_is_better("Validation score: 0.5", "", "Scored by root mean squared error (RMSE).")
    assert lower_is_better("cv logloss 0.3") and lower_is_better("score: 1 (lower is better)", "accuracy")
    assert (
        not lower_is_better("val accuracy: 1")
        and not lower_is_better("score: 1")
        and not lower_is_better("AUC: 1, loss: 2")
    )
