"""The model of mini-swe-agent: LiteLLM's client, asked with the manners that all agents here have."""

from typing import Any

import litellm
import openai
from agent_models import Away, Endpoint, Endpoints, no_try_helps, refusal_in, seconds_asked
from minisweagent.models.litellm_model import LitellmModel
from minisweagent.models.utils.actions_toolcall import BASH_TOOL
from post_submission import pinned

litellm.suppress_debug_info = True
litellm.telemetry = False


class Model(LitellmModel):
    """Asks the model of role CODE, wherever it answers at the moment."""

    abort_exceptions = [Exception]  # trying again is Endpoints' matter

    def __init__(self, endpoints: Endpoints, **config: Any):
        super().__init__(**config)
        self.endpoints = endpoints
        self._clients: dict[Endpoint, openai.OpenAI] = {}

    def _query(self, messages: list[dict[str, Any]], **kwargs: Any) -> Any:
        """One answer. Raises AgentError, TimeIsOver and TokensUsedUp."""
        self.endpoints.check_tokens()
        return self.endpoints.ask("CODE", lambda *where: self._attempt(*where, messages, kwargs))

    def _attempt(
        self, endpoint: Endpoint, seconds: float, messages: list[dict[str, Any]], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, int]]:
        self.endpoints.usage.add(requests=1)
        try:
            answer = litellm.completion(
                model=f"openai/{endpoint.name}",
                messages=messages,
                tools=[BASH_TOOL],
                client=self._client(endpoint),
                timeout=seconds,
                max_retries=0,
                **(self.config.model_kwargs | kwargs),
            )
        except Exception as error:
            self._judge(endpoint, error)
            raise
        if not answer.choices or answer.choices[0].message is None:
            raise Away(f"{endpoint} answers with nothing")
        return answer, counted(answer)

    def _client(self, endpoint: Endpoint) -> openai.OpenAI:
        """The client of an endpoint. Raises OSError where its certificate can't be read."""
        if endpoint not in self._clients:
            # a server of the run itself is reached directly, and nobody else is trusted in its place
            own: dict[str, Any] = (
                {"verify": pinned(endpoint.certificate), "trust_env": False} if endpoint.certificate else {}
            )
            self._clients[endpoint] = openai.OpenAI(
                api_key=endpoint.key,
                base_url=endpoint.url,
                max_retries=0,
                http_client=openai.DefaultHttpxClient(**own),
            )
        return self._clients[endpoint]

    def _judge(self, endpoint: Endpoint, error: Exception) -> None:
        """Raise what an error means: another try, later or at once, or none. What is none of a request's is left alone."""
        chain = causes(error)
        # LiteLLM's own errors stand before what the server said
        for one in reversed(chain):
            if isinstance(one, openai.APIStatusError) and not type(one).__module__.startswith("litellm"):
                text, headers = one.response.text[:20_000], one.response.headers
                is_final = no_try_helps(one.status_code, text)
                self.endpoints.refused(endpoint, one.status_code, refusal_in(text), is_final, seconds_asked(headers))
        if any(isinstance(one, (openai.OpenAIError, OSError)) for one in chain):
            self._clients.pop(endpoint, None)
            raise self.endpoints.unreachable(endpoint, next(filter(None, map(str, reversed(chain))), "no answer"))


def causes(error: BaseException) -> list[BaseException]:
    """An error and what it was raised from, the first cause last."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain and len(chain) < 20:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    return chain


def counted(answer: Any) -> dict[str, int]:
    """The numbers of tokens that an answer tells of itself; 0 where it doesn't."""
    usage = getattr(answer, "usage", None)
    counts = {}
    for name in ("prompt_tokens", "completion_tokens"):
        count = getattr(usage, name, None)
        counts[name] = count if type(count) is int and 0 <= count < 2**40 else 0
    return counts
