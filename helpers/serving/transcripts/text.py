"""Requests for text, of whoever asks without tools: a fixed sentence that says what it is, and one word where one token is asked for."""

from __future__ import annotations

from helpers.serving.transcripts.base import OWNER, Answer, Request, Transcript

SENTENCE = f"This is {OWNER}: it says this sentence, whatever it is asked."


class Text(Transcript):
    """Answers all that asks for text."""

    ASKED = "requests for text, without tools"

    def takes(self, request: Request) -> bool:
        return request.tools is None

    def answer(self, request: Request) -> Answer:
        if request.most == 1:
            return Answer("ping", "replay", finish="length")
        return Answer("text", SENTENCE)
