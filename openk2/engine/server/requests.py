"""What clients send: OpenAI's request bodies, as far as they are served.

Parameters that would change the answer and are not served may only be said at the value that changes
nothing; those that only label a request are read and dropped.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from openk2.schema import Sampling

Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
TokenIds = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]
StopText = Annotated[str, Field(min_length=1, max_length=256)]
ToolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Schema = dict[str, Any]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Part(BaseModel):
    """A part of something; clients send back more keys than they were given."""

    model_config = ConfigDict(extra="ignore")


class StreamOptions(_Body):
    """How to stream."""

    include_usage: bool | None = None


class _Request(_Body):
    model: str
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, lt=2**31, description="not OpenAI's: 0 means no cut")
    n: int | None = Field(None, ge=1, le=2**31)
    seed: Int64 | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # Served at the value that changes nothing.
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    # Labels.
    user: str | None = None

    @property
    def num_choices(self) -> int:
        """Answers to each prompt."""
        return self.n or 1

    @property
    def stop_texts(self) -> tuple[str, ...]:
        """Texts that end an answer, and are no part of it."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def sampling(self, max_tokens: int) -> list[Sampling]:
        """One for each choice: with a seed, choice i draws with seed + i.

        Stop texts are looked for where text is made, which a model without a chat format can do too.
        """
        temperature = 1.0 if self.temperature is None else self.temperature
        return [
            Sampling(
                temperature=temperature,
                top_p=1.0 if self.top_p is None else self.top_p,
                top_k=self.top_k or 0,
                max_tokens=max_tokens,
                seed=None if self.seed is None else self.seed + choice,
            )
            for choice in range(self.num_choices)
        ]


class CompletionRequest(_Request):
    """Body of ``/v1/completions``."""

    prompt: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
        | TokenIds
        | Annotated[list[TokenIds], Field(min_length=1)]
    )
    max_tokens: int | None = Field(None, ge=0, lt=2**31, description="16 unless said; 0 only with echo")
    echo: bool | None = None
    logprobs: int | None = Field(None, ge=0, le=20)
    best_of: Annotated[int, Field(ge=1, le=1)] | None = None
    suffix: None = None


class TextPart(_Part):
    """A piece of a message's text."""

    type: Literal["text"]
    text: str


Content = str | list[TextPart]


class CalledFunction(_Part):
    """What was called, with the arguments as written."""

    name: str
    arguments: str


class CallMade(_Part):
    """A call in an earlier turn."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class SystemMessage(_Part):
    """Instructions."""

    role: Literal["system", "developer"]
    content: Content
    name: str | None = None


class UserMessage(_Part):
    """What a person said."""

    role: Literal["user"]
    content: Content
    name: str | None = None


class AssistantMessage(_Part):
    """An earlier turn of the model's."""

    role: Literal["assistant"]
    content: Content | None = None
    name: str | None = None
    tool_calls: list[CallMade] | None = None


class ToolMessage(_Part):
    """The result of a call."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str


ChatMessage = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class Function(_Part):
    """A tool: its name, what it does, and the JSON schema of its arguments."""

    name: ToolName
    description: str | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class Tool(_Part):
    """A tool."""

    type: Literal["function"]
    function: Function


class FunctionName(_Part):
    """Which tool."""

    name: str


class NamedTool(_Part):
    """The tool that has to be called."""

    type: Literal["function"]
    function: FunctionName


class NamedSchema(_Part):
    """What an answer has to look like."""

    name: str | None = None
    description: str | None = None
    schema_: Schema = Field(alias="schema")
    strict: bool | None = None


class TextFormat(_Part):
    """Any text."""

    type: Literal["text"]


class ObjectFormat(_Part):
    """A JSON object."""

    type: Literal["json_object"]


class SchemaFormat(_Part):
    """JSON of a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


class ChatRequest(_Request):
    """Body of ``/v1/chat/completions``."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: int | None = Field(None, ge=1, lt=2**31, description="up to the end of the context unless said")
    max_completion_tokens: int | None = Field(None, ge=1, lt=2**31)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: Annotated[TextFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")] | None = None
    # Labels.
    metadata: dict[str, str] | None = None
    store: bool | None = None
