"""`@gpu_required`: this generator's tasks are made with a model of our own; and how that is seen without running its script."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from helpers.datagen.schemas import InputValidationError

MARK, NAME = "_gpu_required", "gpu_required"
HOOK = "run_task_generation"

Marked = TypeVar("Marked", bound=Callable[..., Any])


def gpu_required(function: Marked) -> Marked:
    """Mark a function, or a class, whose work needs a model server on GPUs: the launcher starts one first."""
    setattr(function, MARK, True)
    return function


def needs_gpu(path: str | Path) -> bool:
    """Whether a generator's script asks for a model server, by its syntax tree: nothing of it is run.

    A marked function, a marked class, or a class whose run_task_generation is marked or comes from one in the same file. Where the file
    calls some of its classes, only those count. Raises InputValidationError where it can't be read, or isn't Python.
    """
    try:
        tree = ast.parse(Path(path).read_bytes())
    except OSError as error:
        raise InputValidationError(f"{path}: can't be read ({error.strerror})", error) from error
    except (SyntaxError, ValueError) as error:
        line = f" (line {error.lineno})" if isinstance(error, SyntaxError) and error.lineno else ""
        raise InputValidationError(f"{path}: not valid Python{line}: {getattr(error, 'msg', error)}", error) from error
    return _Script(tree).needs_gpu()


class _Script:
    def __init__(self, tree: ast.Module):
        self.names = set(_names_of_mark(tree))
        self.functions = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
        self.classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        called = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        self.used = [name for name in self.classes if name in called] or list(self.classes)

    def needs_gpu(self) -> bool:
        return any(map(self._is_marked, self.functions)) or any(self._class_needs(name, set()) for name in self.used)

    def _is_marked(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
        return any(
            one.id in self.names if isinstance(one, ast.Name) else isinstance(one, ast.Attribute) and one.attr == NAME
            for one in node.decorator_list
        )

    def _class_needs(self, name: str, seen: set[str]) -> bool:
        """By what the class says itself, else by its bases, in their order."""
        if name not in self.classes or name in seen:
            return False
        node = self.classes[name]
        if self._is_marked(node):
            return True
        own = [
            one for one in node.body if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef)) and one.name == HOOK
        ]
        if own:
            return self._is_marked(own[-1])
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
        return any(self._class_needs(base, seen | {name}) for base in bases)


def _names_of_mark(tree: ast.Module) -> Iterator[str]:
    """What the script calls gpu_required: by its imports, and by `other = gpu_required`."""
    yield NAME
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names if alias.name == NAME)
        elif isinstance(node, ast.Assign) and isinstance(node.value, (ast.Name, ast.Attribute)):
            if (node.value.id if isinstance(node.value, ast.Name) else node.value.attr) == NAME:
                yield from (target.id for target in node.targets if isinstance(target, ast.Name))
