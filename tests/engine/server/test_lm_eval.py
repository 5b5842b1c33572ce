"""The evaluation harness others use, pointed at the server. Everything it reads lies on this disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openk2.text.tokenizer import Tokenizer
from tests.engine.server.conftest import Running

lm_eval = pytest.importorskip("lm_eval", reason="no lm-eval: pip install 'openk2[lm-eval]'")

QUESTIONS = [("the color of the sky is", ["blue", "a tuple"], 0), ("def parse(self):", ["return 1", "é"], 1)]


def evaluate(kind: str, path: str, server: Running, folder: Path, task: dict[str, Any], **how: Any) -> Any:
    arguments = {"base_url": f"{server.address}/v1/{path}", "model": "tiny", "tokenizer_backend": "huggingface",
                 "tokenizer": str(folder), "num_concurrent": 2, "max_length": 512, "max_retries": 1}  # fmt: skip
    return lm_eval.simple_evaluate(
        model=kind, model_args=arguments, tasks=[task], log_samples=True, bootstrap_iters=0, **how
    )


def task(tmp_path: Path, **more: Any) -> dict[str, Any]:
    rows = [{"question": question, "choices": choices, "gold": gold} for question, choices, gold in QUESTIONS]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {
        "task": "local", "dataset_path": "json", "dataset_kwargs": {"data_files": str(tmp_path / "rows.jsonl")},
        "test_split": "train", "doc_to_text": "{{question}}", **more,
    }  # fmt: skip


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "[EOS]"}'
    )


@pytest.mark.usefixtures("offline")
def test_it_scores_choices_as_the_engine_does(
    server: Running, folder: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    choices = task(tmp_path, output_type="multiple_choice", doc_to_choice="choices", doc_to_target="gold")
    found = evaluate("local-completions", "completions", server, folder, choices)
    samples = sorted(found["samples"]["local"], key=lambda sample: sample["doc_id"])
    for sample, (question, options, _) in zip(samples, QUESTIONS, strict=True):
        for (logprob, _greedy), option in zip(sample["filtered_resps"], options, strict=True):
            given = tokenizer.encode(question)
            whole = given + tokenizer.encode(f"{question} {option}")[len(given) :]  # its way to part the two
            expected = sum(server.served.engine.score([whole])[0][len(given) - 1 :])
            assert logprob == pytest.approx(expected, abs=1e-3)
    assert 0 <= found["results"]["local"]["acc,none"] <= 1


@pytest.mark.usefixtures("offline")
def test_it_reads_chat_answers(server: Running, folder: Path, tmp_path: Path) -> None:
    written = task(
        tmp_path, output_type="generate_until", doc_to_target="{{choices[0]}}",
        generation_kwargs={"until": ["\n"], "max_gen_toks": 12, "temperature": 0},
    )  # fmt: skip
    found = evaluate("local-chat-completions", "chat/completions", server, folder, written, apply_chat_template=True)
    answers = [sample["resps"][0][0] for sample in found["samples"]["local"]]
    assert len(answers) == 2
    assert all(isinstance(answer, str) and "\n" not in answer for answer in answers)
