"""The Trainer of transformers drives both, with accumulation, a schedule and its own checkpoints."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers

from openk2.optim import MuonClip, QKClip
from openk2.optim.hf_attention import observe

DATA = [{"input_ids": (ids := torch.arange(i, i + 32) % 256), "labels": ids} for i in range(64)]


def made() -> transformers.LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=256, num_key_value_heads=2, **shape))


def train(model: transformers.LlamaForCausalLM, optimizer: torch.optim.Optimizer, folder: Path) -> list[float]:
    arguments = transformers.TrainingArguments(
        str(folder), max_steps=12, per_device_train_batch_size=4, gradient_accumulation_steps=2, logging_steps=4,
        save_steps=6, report_to=[], use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = transformers.Trainer(model, arguments, train_dataset=DATA, optimizers=(optimizer, None))
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def test_muonclip_under_the_trainer(tmp_path: Path) -> None:
    model = made()
    observe(model)
    optimizer = MuonClip.for_model(model, lr=0.02, tau=0.5)
    losses = train(model, optimizer, tmp_path)
    assert losses[-1] < 0.5 * losses[0]
    assert optimizer.last_clip.max_logit > 0
    again = MuonClip.for_model(model, lr=0.02, tau=0.5)
    again.load_state_dict(torch.load(tmp_path / "checkpoint-12" / "optimizer.pt", weights_only=True))


def test_qk_clip_under_the_trainer(tmp_path: Path) -> None:
    model = made()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    with QKClip(model, optimizer, tau=1e-3) as clip:
        losses = train(model, optimizer, tmp_path)
    assert losses[-1] < losses[0]
    assert clip.last_clip.clipped_heads > 0
