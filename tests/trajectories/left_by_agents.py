"""Files as agents leave them among their logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

USAGE = {"steps": 3, "requests": 6, "answers": 6, "prompt_tokens": 1200, "completion_tokens": 340, "cut_short": None}


def journal() -> dict[str, Any]:
    """AIDE's, of three nodes: a good one, a bug made of it, and another of no plan."""
    nodes = [
        {
            **{
                "code": "print(1)",
                "plan": "A plan.",
                "step": 0,
                "id": "a",
                "ctime": 1795859850.25,
                "parent": None,
                "children": [],
            },
            **{
                "_term_out": ["one\n", "two\n"],
                "exec_time": 1.5,
                "exc_type": None,
                "analysis": "Fine.",
                "is_buggy": False,
            },
            "metric": {"value": 0.75, "maximize": True},
        },
        {
            **{
                "code": "1/0",
                "plan": "Worse.",
                "step": 1,
                "id": "b",
                "ctime": 1795859860.0,
                "_term_out": ["Traceback"],
            },
            **{"exec_time": 0.1, "exc_type": "ZeroDivisionError", "analysis": "A bug.", "is_buggy": True},
            "metric": {"value": None, "maximize": None},
        },
        {"code": None, "plan": None, "id": "c", "_term_out": None, "metric": None, "is_buggy": None},
    ]
    return {"nodes": nodes, "node2parent": {"b": "a"}, "__version": "2"}


def answer(number: int, command: str, **extra: Any) -> dict[str, Any]:
    """A message of the model, as mini-swe-agent keeps it."""
    usage = {"prompt_tokens": 100 * number, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 7}}
    arguments = json.dumps({"command": command})
    return {
        "role": "assistant",
        "content": f"Thought {number}.",
        "reasoning_content": "Hm.",
        "tool_calls": [
            {"id": f"call-{number}", "type": "function", "function": {"name": "bash", "arguments": arguments}}
        ],
        "extra": {
            "actions": [{"command": command, "tool_call_id": f"call-{number}"}],
            "response": {"model": "served", "usage": usage},
            "cost": 0.01,
            "timestamp": 1795859850.5 + number,
            **extra,
        },
    }


def output(number: int, text: str, code: int = 0) -> dict[str, Any]:
    extra = {"raw_output": text, "returncode": code, "timestamp": 1795859851.0 + number, "exception_info": ""}
    return {"role": "tool", "tool_call_id": f"call-{number}", "content": text, "extra": extra}


def mini_swe() -> dict[str, Any]:
    """mini-swe-agent's, with an answer that held no command, up to its end."""
    bad = {"choices": [{"message": {"content": "No call."}}], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}
    refused = {"interrupt_type": "FormatError", "response": bad, "cost": 0.0}
    return {
        "info": {
            "model_stats": {"instance_cost": 0.02, "api_calls": 3},
            "config": {"model": {"model_name": "openai/served"}},
            "mini_version": "2.4.6",
            "exit_status": "Submitted",
            "submission": "done\n",
        },
        "messages": [
            {"role": "system", "content": "You can."},
            {"role": "user", "content": [{"type": "text", "text": "Mend it."}]},
            answer(1, "ls"),
            output(1, "code.py\n"),
            {"role": "user", "content": "Tool call error.", "extra": refused},
            answer(2, "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"),
            {"role": "exit", "content": "done\n", "extra": {"exit_status": "Submitted", "submission": "done\n"}},
        ],
        "trajectory_format": "mini-swe-agent-1.1",
    }


def make_run(folder: Path, files: dict[str, Any], **metadata: Any) -> Path:
    """A run's folder with such files among its logs; bytes and texts as they are, all else as JSON."""
    logs = folder / "logs"
    logs.mkdir(parents=True)
    told = {"agent": "aide", "model": "30b", "competition": "toy", "state": "scored", **metadata}
    (folder / "run_metadata.json").write_text(json.dumps(told))
    for name, content in files.items():
        if isinstance(content, bytes):
            (logs / name).write_bytes(content)
        else:
            (logs / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder
