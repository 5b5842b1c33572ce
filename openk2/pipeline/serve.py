"""Serve a model over HTTP in OpenAI's words: a run's newest one, or one in Hugging Face layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from openk2.engine.compiled import can_compile
from openk2.engine.config import EngineConfig
from openk2.engine.engine import Engine
from openk2.engine.server.config import ServerConfig
from openk2.engine.server.serve import serve as serve_engine
from openk2.engine.server.vocabulary import Vocabulary
from openk2.model.hf import load_hf
from openk2.model.transformer import Transformer
from openk2.pipeline.export import newest_stage
from openk2.pipeline.folder import Run
from openk2.text.chat import ChatFormat
from openk2.text.tokenizer import Tokenizer

# Beyond this the latents of many rows outgrow a small machine; --max-context says otherwise.
_MOST_CONTEXT = 8192


def serve(
    folder: Path, config: ServerConfig, *, max_rows: int, max_context: int | None, cache_tokens: int | None
) -> None:
    """Serve what is in ``folder``, under the folder's name, until told to stop.

    Args:
        folder: a run's, or one with ``config.json``, safetensors and ``tokenizer.json``.
        config: where to listen, and limits.
        max_rows: answers sampled at once.
        max_context: tokens of a prompt and its answer; None for the model's own, up to 8192.
        cache_tokens: tokens cached in all; None for ``max_rows`` full contexts.

    Raises:
        ValueError: ``folder`` holds neither, or half of it.
    """
    model, tokenizer_json, stop_ids = _open_run(folder) if (folder / "recipe.toml").is_file() else _open_hf(folder)
    chat_format = _chat_format(tokenizer_json)
    if chat_format is not None:
        stop_ids |= chat_format.stop_ids
    context = max_context or min(model.config.max_positions, _MOST_CONTEXT)
    if can_compile(model):
        from openk2.engine.decoder import warm_up

        _say("compiling the decoder: half a minute, unless it has been done before")
        warm_up()
    engine_config = EngineConfig(max_rows=max_rows, max_context=context, cache_tokens=cache_tokens)
    engine = Engine(model, chat_format, engine_config, stop_ids=stop_ids, threaded=True)
    vocabulary = Vocabulary(tokenizer_json, model.config.vocab_size, stop_ids)
    if chat_format is None:
        _say("the tokenizer lacks K2's special tokens: completions only, no chat")
    serve_engine(folder.resolve().name, engine, vocabulary, config, _say)


def _say(words: str) -> None:
    print(words, flush=True)


def _open_run(folder: Path) -> tuple[Transformer, str, frozenset[int]]:
    run = Run.reopen(folder)
    return run.model_after(newest_stage(run)), run.tokenizer().to_json(), frozenset()


def _open_hf(folder: Path) -> tuple[Transformer, str, frozenset[int]]:
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is neither a run's folder (recipe.toml) nor a model's (config.json)")
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ValueError(f"{path} is missing: without it no text can be read")
    return load_hf(folder), path.read_text(encoding="utf-8"), _end_ids(folder)


def _end_ids(folder: Path) -> frozenset[int]:
    """The ids that end a text, as the model's own files say: ``generation_config.json`` before ``config.json``."""
    for name in ("generation_config.json", "config.json"):
        if (folder / name).is_file():
            found: Any = json.loads((folder / name).read_text(encoding="utf-8")).get("eos_token_id")
            if found is not None:
                return frozenset(found if isinstance(found, list) else [found])
    return frozenset()


def _chat_format(tokenizer_json: str) -> ChatFormat | None:
    """K2's chat format; None for a tokenizer without its special tokens."""
    try:
        return ChatFormat(Tokenizer.from_json(tokenizer_json))
    except ValueError:
        return None
