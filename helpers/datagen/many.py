"""Many calls at a time, in threads, of a list that may have no end: results as they come, and nothing left running behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Generic, TypeVar

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
    pool = _Pool(function, at_once)
    numbered, fault = enumerate(items), None
    try:
        while True:
            while fault is None and len(pool.waiting) < 2 * at_once and (taken := next(numbered, None)) is not None:
                number, (item, result) = taken
                if result is None:
                    pool.begin(number, item)
                else:
                    yield number, result, None
            if not pool.waiting:
                break
            number, result, error = pool.next_ended()
            if error is None or (fault is None and not is_fatal(error)):
                yield number, result, error
            elif fault is None:
                fault = error
                pool.forget_the_rest()
    finally:
        if pool.waiting:
            abort()
        pool.threads.shutdown(wait=True, cancel_futures=True)
    if fault is not None:
        raise fault


class _Pool(Generic[Item, Result]):
    """Calls in threads, and those of them that nobody has looked at yet, by number."""

    def __init__(self, function: Callable[[Item], Result], at_once: int):
        self.function = function
        self.threads = ThreadPoolExecutor(at_once, thread_name_prefix="generate")
        self.waiting: dict[int, Future[Result]] = {}
        self._ended: SimpleQueue[int] = SimpleQueue()

    def begin(self, number: int, item: Item) -> None:
        self.waiting[number] = future = self.threads.submit(self.function, item)
        future.add_done_callback(lambda _: self._ended.put(number))

    def next_ended(self) -> tuple[int, Result | None, BaseException | None]:
        number = self._ended.get()
        future = self.waiting.pop(number)
        if future.cancelled():
            return number, None, CancelledError()
        error = future.exception()
        return number, None if error else future.result(), error

    def forget_the_rest(self) -> None:
        """Begin none of those that only wait."""
        for future in list(self.waiting.values()):
            future.cancel()
