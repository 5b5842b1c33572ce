"""A model as judge of sentences: asked once for each, against the context (K2 §3.2, faithfulness)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pydantic import BaseModel

from openk2.llm.endpoint import Endpoint
from openk2.llm.structured import Form, structured
from openk2.schema import Message, Sampling
from openk2.worlds.endpoint.quote import RULE, quoted

SAMPLING = Sampling(temperature=0.0, max_tokens=1024)
INSTRUCTIONS = f"""You judge whether a context supports one sentence of a reply. Read the context, list what the sentence claims,
and look for each claim in the context. The sentence is supported when the context states everything it claims; a sentence
that adds, changes, blurs or doubts anything is not. What the reply says before the sentence only shows what its pronouns stand
for: it is no evidence. That the context does not tell something is supported when the context indeed does not tell it.

{RULE}"""


class Verdict(BaseModel):
    """The judge's reason, then its decision."""

    reason: str
    supported: bool


class ChatJudge:
    """A ``SupportJudge`` behind an endpoint. ``num_unparsable`` answers counted as "unsupported"."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.num_asked = 0
        self.num_unparsable = 0

    async def unsupported(self, context: str, sentences: Sequence[str]) -> list[float]:
        """1 for each sentence that the model does not call supported, 0 for the others."""
        asked = (self._supports(context, sentences[:place], said) for place, said in enumerate(sentences))
        return [float(not supported) for supported in await asyncio.gather(*asked)]

    async def _supports(self, context: str, before: Sequence[str], sentence: str) -> bool:
        """An answer that cannot be read, after repairs, is a no."""
        shown = (quoted("context", context), quoted("before", list(before)), quoted("sentence", sentence))
        messages = [Message("system", INSTRUCTIONS), Message("user", "\n".join((*shown, "Is the sentence supported?")))]
        verdict = (await structured(self._endpoint, messages, Form.of(Verdict), SAMPLING)).value
        self.num_asked += 1
        self.num_unparsable += verdict is None
        return verdict is not None and verdict.supported
