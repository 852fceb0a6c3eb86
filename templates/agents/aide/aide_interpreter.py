"""AIDE's interpreter, made safe: whatever a program does, its run ends in time, with a result and without leftovers."""

import multiprocessing
import os
import signal
import threading
import time

from agent_processes import die_with, end_descendants, kill_descendants
from aide.interpreter import ExecutionResult
from aide.interpreter import Interpreter as AideInterpreter

# AIDE interrupts at the time limit, kills 5 s later and reads the output for 5 s more: by then it hangs
LAST_RESORT = 12.0
LONGEST_OUTPUT = 100_000  # characters kept of a program's output; AIDE shows the model 5,000

multiprocessing.set_start_method("fork", force=True)  # AIDE relies on it; Python 3.14 has another default


class Interpreter(AideInterpreter):
    """Runs the model's programs, each in a process group of its own."""

    def child_proc_setup(self, result_outq) -> None:
        os.setsid()
        die_with(self.parent)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # AIDE's time limit; may be inherited as ignored
        super().child_proc_setup(result_outq)

    def create_process(self) -> None:
        self.parent = os.getpid()
        super().create_process()
        # with our copies of the writing ends closed, the end of the child is the end of its pipes
        for queue in (self.result_outq, self.event_outq):
            queue._writer.close()
        # AIDE can still wait for ever, where a daemon holds a pipe open
        self.last_resort = threading.Timer(self.timeout + LAST_RESORT, end_descendants)
        self.last_resort.start()

    def run(self, code: str, reset_session: bool = True) -> ExecutionResult:
        """Run a program. If its process dies, the program has failed, not the agent. No process of it stays behind."""
        started = time.monotonic()
        try:
            result = super().run(code, reset_session)
        except Exception:
            result = self._result_of_death(time.monotonic() - started)
        self._end()
        result.term_out = shortened(result.term_out)
        result.exc_info, result.exc_stack = clipped(result.exc_info), clipped(result.exc_stack)
        return result

    def _result_of_death(self, seconds: float) -> ExecutionResult:
        exit_code = self._end()
        output = []
        try:
            while len(output) < 100_000:
                output.append(self.result_outq.get(timeout=0.5))
        except Exception:  # the end of the pipe, or half a message
            pass
        if seconds >= self.timeout:
            kind, text = "TimeoutError", f"Execution exceeded the time limit of {self.timeout:.0f} seconds"
        else:
            kind, text = "RuntimeError", f"The process running the code ended early ({how_it_ended(exit_code)})"
        return ExecutionResult([str(part) for part in output] + [f"\n{kind}: {text}"], seconds, kind, {}, [])

    def _end(self) -> int | None:
        """End the program and everything that it has started; its exit code where known."""
        exit_code = None
        if self.process is not None:
            # all at once: joining waits for everyone who has inherited the program's pipes
            kill_descendants()
            try:
                self.process.join(5)
                exit_code = self.process.exitcode
            except ValueError:
                pass  # AIDE has closed it already
            self.process = None
        end_descendants()
        # joined too: it must not fire when the next program runs
        self.last_resort.cancel()
        self.last_resort.join()
        return exit_code


def clipped(value: object) -> object:
    """What a program's exception told of itself, with bounds on its texts and lists: it goes into the journal."""
    if isinstance(value, dict):
        return {str(key)[:100]: clipped(value[key]) for key in list(value)[:20]}
    if isinstance(value, list | tuple):
        return [clipped(part) for part in value[:50]]
    return value[:2000] if isinstance(value, str) else value


def how_it_ended(exit_code: int | None) -> str:
    if exit_code is None:
        return "it was killed"
    if exit_code < 0:
        name = signal.Signals(-exit_code).name
        return f"{name}, out of memory?" if name == "SIGKILL" else name
    return f"exit code {exit_code}"


def shortened(output: list) -> list[str]:
    """The beginning and the end of a program's output, as a list of one string."""
    text = "".join(str(part) for part in output)
    if len(text) > LONGEST_OUTPUT:
        half = LONGEST_OUTPUT // 2
        text = f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
    return [text]
