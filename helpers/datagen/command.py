"""A generator as a command: its exit code, and one sentence for whatever goes wrong."""

from __future__ import annotations

import logging
import sys
import sysconfig
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from helpers.datagen.schemas import GenerationError, GenerationResult, GenerationStatus
from helpers.lib.errors import ConfigError, Infrastructure, Refused, fault_code
from helpers.lib.signals import catch_signals
from helpers.lib.text import clean

FAILED, INTERRUPTED = 1, 130


def run(
    function: Callable[[Sequence[str] | None], GenerationResult], logger: logging.Logger, argv: Sequence[str] | None
) -> int:
    """Call a generator's `run`: 0 done, or done in part; 1 failed by its own account, or by an error in its code; 2 asked wrongly; 3 what
    it met (a model, a disk, a service); 130 ended by a signal."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    # what a library has set up for all loggers would say it a second time
    level, propagates = logger.level, logger.propagate
    logger.propagate = False
    logger.setLevel(logging.INFO)
    catch_signals()
    try:
        return _told(function(argv))
    except GenerationError as error:
        return _failed(error.code, str(error))
    except ConfigError as error:
        return _failed(2, *error.problems)
    except Infrastructure as error:
        return _failed(3, str(error))
    except Refused as error:
        return _failed(error.code, str(error))
    except KeyboardInterrupt:
        return _failed(INTERRUPTED, "interrupted")
    except OSError as error:
        if not error.filename:
            return _failed(fault_code(error), _where(error))
        return _failed(fault_code(error), f"{error.filename}: {error.strerror}")
    except MemoryError:
        return _failed(3, "this machine hasn't enough memory for it")
    except Exception as error:  # of a generator's own code: its author wants the line
        return _failed(FAILED, _where(error))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates


def _told(result: GenerationResult) -> int:
    if result.status is GenerationStatus.failed:
        said = result.metadata.get("error") or result.metadata.get("reason") or "the generator says so, and not why"
        return _failed(FAILED, f"the generation failed: {said}")
    if result.status is GenerationStatus.partial:
        print("only a part of it was made", file=sys.stderr)
    if result.dataset_path is not None:
        print(result.dataset_path)
    return 0


def _where(error: BaseException) -> str:
    """An error, and the last line of a generator's own code that led to it."""
    frames = traceback.extract_tb(error.__traceback__)
    ours, libraries = Path(__file__).parent, {Path(path) for path in sysconfig.get_paths().values()}
    own = [
        frame
        for frame in frames
        if (path := Path(frame.filename)).parent != ours and libraries.isdisjoint(path.parents)
    ]
    last = (own or frames)[-1]
    return f"{type(error).__name__}: {error} ({last.filename}, line {last.lineno}, in {last.name})"


def _failed(code: int, *problems: str) -> int:
    for problem in problems:
        print(clean(f"error: {problem}").replace("\n", " "), file=sys.stderr)
    return code
