"""The transcripts that there are. A new one is a module with a subclass of Transcript, and its line in TRANSCRIPTS."""

from __future__ import annotations

from collections.abc import Sequence

from helpers.serving.server import Rejected
from helpers.serving.transcripts.aide import Aide
from helpers.serving.transcripts.base import OWNER, Answer, Request, Transcript
from helpers.serving.transcripts.shell import Shell
from helpers.serving.transcripts.text import Text

TRANSCRIPTS: tuple[type[Transcript], ...] = (Aide, Shell, Text)  # the first that takes a request answers it


def load() -> list[Transcript]:
    """Make all transcripts ready. Raises OSError and SyntaxError where what they are made of can't be read."""
    return [transcript() for transcript in TRANSCRIPTS]


def answer(request: Request, transcripts: Sequence[Transcript]) -> Answer:
    """The answer of the first transcript that takes a request. Raises Rejected, with a list, where none does."""
    for transcript in transcripts:
        if transcript.takes(request):
            return transcript.answer(request)
    known = "; ".join(transcript.ASKED for transcript in transcripts)
    raise Rejected(400, f"{OWNER}: none of its transcripts takes this request. It answers: {known}")
