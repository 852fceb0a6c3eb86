"""Many calls at a time, in threads, of a list that may have no end: results as they come, and nothing left running behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def as_they_come(
    function: Callable[[Item], Result],
    items: Iterator[tuple[Item, Result | None]],
    at_once: int,
    abort: Callable[[], None],
    is_fatal: Callable[[BaseException], bool],
) -> Iterator[tuple[int, Result | None, BaseException | None]]:
    """Call a function of each item, `at_once` at a time; yields each one's number, and its result or its error.

    items: each with its result, where that is there already. At most 2 × at_once are taken beforehand.
    is_fatal: whether an error ends all: no further one is begun, those under way are waited for, then it is raised.
    abort: makes the calls under way end soon; called where nobody waits for them any more (Ctrl-C, the generator is closed).
    """
    done: SimpleQueue[tuple[int, Future[Result]]] = SimpleQueue()
    numbered, fault = enumerate(items), None
    waiting: dict[int, Future[Result]] = {}
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="generate")
    try:
        while True:
            while fault is None and len(waiting) < 2 * at_once and (taken := next(numbered, None)) is not None:
                number, (item, result) = taken
                if result is not None:
                    yield number, result, None
                    continue
                waiting[number] = future = pool.submit(function, item)
                future.add_done_callback(lambda ended, number=number: done.put((number, ended)))
            if not waiting:
                break
            number, ended = done.get()
            del waiting[number]
            if ended.cancelled():
                continue
            error = ended.exception()
            if error is None:
                yield number, ended.result(), None
            elif not is_fatal(error):
                yield number, None, error
            elif fault is None:
                fault = error
                for other in list(waiting.values()):
                    other.cancel()
    finally:
        if waiting:
            abort()
        pool.shutdown(wait=True, cancel_futures=True)
    if fault is not None:
        raise fault
