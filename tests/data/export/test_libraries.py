"""What others' own code makes of the exports. ``datasets`` and ``trl`` are no dependencies: pip install datasets trl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openk2.data.export.write import write_export
from tests.data.export.conftest import rows

CHATML = (
    "{% if tools %}{{ '<|im_start|>tools\n' + (tools | tojson) + '<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + (message.content or '') }}"
    "{% for call in message.tool_calls or [] %}{{ call.function.name + ' ' + (call.function.arguments | tojson) }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


def load(folder: Path, cache: Path, split: str) -> Any:
    datasets = pytest.importorskip("datasets", reason="no datasets: pip install datasets")
    return datasets.load_dataset(str(folder), split=split, cache_dir=str(cache))


def test_datasets_reads_parquet_back_without_filling_keys(source: Path, kept: list[Any], tmp_path: Path) -> None:
    write_export(source, tmp_path / "there", "parquet")
    data = load(tmp_path / "there", tmp_path / "cache", "train")
    wanted = [record for record in kept if record["split"] == "train"]
    assert [dict(row) for row in data] == [{name: record.get(name) for name in data.column_names} for record in wanted]
    assert set(data.column_names) == {*wanted[0], "task"}


@pytest.mark.parametrize("form", ["openai", "trl", "llamafactory"])
def test_datasets_reads_the_folder_by_its_card(source: Path, tmp_path: Path, form: str) -> None:
    write_export(source, tmp_path / "there", form)
    data = load(tmp_path / "there", tmp_path / "cache", "heldout")
    wanted = rows(tmp_path / "there" / "heldout.jsonl")
    assert len(data) == len(wanted)
    if form == "llamafactory":
        assert list(data) == wanted
    else:
        assert [row["messages"] for row in data] == [row["messages"] for row in wanted]


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_trl_trains_a_step(source: Path, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl", reason="no trl: pip install trl")
    import tokenizers
    import transformers

    write_export(source, tmp_path / "there", "trl")
    data = load(tmp_path / "there", tmp_path / "cache", "train")
    texts = [json.dumps(row) for row in data]
    bpe = tokenizers.ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=600, special_tokens=["<|im_start|>", "<|im_end|>"])
    bpe.save(str(tmp_path / "tokenizer.json"))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"),
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        chat_template=CHATML,
    )
    ids = tokenizer.apply_chat_template(data[0]["messages"], tools=data[0]["tools"], return_dict=False)
    said = tokenizer.decode(ids)
    call = next(c for m in data[0]["messages"] for c in m.get("tool_calls") or ())
    assert f"{call['function']['name']} {json.dumps(call['function']['arguments'])}" in said
    assert "null" not in said
    assert data[0]["tools"][0]["function"]["description"] in said

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=600, num_key_value_heads=2, **shape))
    arguments = trl.SFTConfig(
        str(tmp_path / "run"), max_steps=1, per_device_train_batch_size=4, max_length=1024, report_to=[], use_cpu=True,
        bf16=False, gradient_checkpointing=False, save_strategy="no", logging_steps=1, disable_tqdm=True,
    )  # fmt: skip
    trainer = trl.SFTTrainer(model, arguments, train_dataset=data, processing_class=tokenizer)
    assert tokenizer.decode(trainer.train_dataset[0]["input_ids"]) == said
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert 5 < losses[0] < 8  # the entropy of 600 tokens is 6.4


def test_llamafactory_reads_every_turn(source: Path, kept: list[Any], tmp_path: Path) -> None:
    converter = pytest.importorskip(
        "llamafactory.data.converter", reason="no llamafactory, which wants a venv of its own"
    )
    parser = pytest.importorskip("llamafactory.data.parser")
    formatter = pytest.importorskip("llamafactory.data.formatter")
    write_export(source, tmp_path / "there", "llamafactory")
    (entry,) = parser.get_dataset_list(["synthetic_train"], str(tmp_path / "there"))
    assert (entry.load_from, entry.dataset_name) == ("file", "train.jsonl")
    convert = converter.SharegptDatasetConverter(entry, None)
    wanted = [record for record in kept if record["split"] == "train"]
    calls = formatter.FunctionFormatter(slots=["{{content}}"], tool_format="default")
    tools = formatter.ToolFormatter(tool_format="default")
    for row, record in zip(rows(tmp_path / "there" / "train.jsonl"), wanted, strict=True):
        read = convert(row)
        turns = [*read["_prompt"], *read["_response"]]
        assert [turn["content"] for turn in turns if turn["role"] == "assistant"] == [record["messages"][-1]["content"]]
        assert len(turns) == len(record["messages"])
        said = [calls.apply(content=turn["content"])[0] for turn in turns if turn["role"] == "function"]
        assert len(said) == len(record["calls"])
        assert all(called["name"] in text for called, text in zip(record["calls"], said, strict=True))
        shown = tools.apply(content=read["_tools"])[0]
        assert all(tool["function"]["name"] in shown for tool in record["tools"])
