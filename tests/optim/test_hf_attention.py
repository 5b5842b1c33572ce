"""On tiny random transformers models, against scores kept whole in float64."""

import copy
import importlib
import math
import sys

import pytest
import torch

transformers = pytest.importorskip("transformers")

from openk2.optim import MuonClip, QKClip  # noqa: E402
from openk2.optim.hf_attention import observe  # noqa: E402
from openk2.optim.qk_clip import clippable  # noqa: E402

COMMON = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "pad_token_id": 0}
LATENT = COMMON | {
    "num_key_value_heads": 4,
    "kv_lora_rank": 12,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
    "v_head_dim": 10,
    "moe_intermediate_size": 16,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
CONFIGS = {
    "llama": lambda **more: transformers.LlamaConfig(**COMMON, num_key_value_heads=2, **more),
    "mha": lambda **more: transformers.LlamaConfig(**COMMON, num_key_value_heads=4, attention_bias=True, **more),
    "qwen2": lambda **more: transformers.Qwen2Config(**COMMON, num_key_value_heads=2, **more),
    "deepseek": lambda **more: transformers.DeepseekV3Config(**LATENT, q_lora_rank=None, **more),
    "deepseek lora": lambda **more: transformers.DeepseekV3Config(**LATENT, q_lora_rank=14, **more),
}


def build(kind, layers=2, attention="sdpa", seed=0):
    """A random model in training mode whose heads have logits of different size."""
    torch.manual_seed(seed)
    config = CONFIGS[kind](num_hidden_layers=layers)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention).train()
    undo = observe(model)
    with torch.no_grad():
        for module in clippable(model):
            for name, view in module.qk_views().items():
                view.normal_(0, 0.3)
                if name.startswith("q"):
                    view.mul_(torch.tensor([1.0, 4.0, 9.0, 20.0]).view(-1, *[1] * (view.ndim - 1)))
        for name, parameter in model.named_parameters():
            if name.endswith(("q_proj.bias", "k_proj.bias")):
                parameter.normal_()
    undo()
    return model


def batches(padding="right"):
    """Two micro-batches whose padding tokens are a vocabulary word, so that they would make logits."""
    torch.manual_seed(1)
    made = []
    for _ in range(2):
        ids, mask = torch.randint(1, 61, (3, 14)), torch.ones(3, 14, dtype=torch.long)
        mask[0, slice(9, None) if padding == "right" else slice(None, 5)] = 0
        made.append({"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)})
    if padding == "none":
        made = [{"input_ids": b["input_ids"], "labels": b["input_ids"]} for b in made]
    return made


def whole_scores(model, inputs):
    """The masked scores [B, H, T, S] of each layer, from a copy in float64 that runs its eager attention."""
    kept = []

    def keep(module, query, key, value, attention_mask, scaling, **_):
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
        scores = torch.einsum("bhtk,bhsk->bhts", query, key) * scaling
        kept.append(scores.masked_fill(attention_mask != 0, -math.inf))
        return ((scores + attention_mask).softmax(-1) @ value).transpose(1, 2), None

    transformers.AttentionInterface.register("keep_scores", keep)
    transformers.AttentionMaskInterface.register("keep_scores", transformers.masking_utils.eager_mask)
    model = copy.deepcopy(model).double()
    model.set_attn_implementation("keep_scores")
    model.set_experts_implementation("eager")  # grouped products know no float64
    with torch.no_grad():
        model(**inputs)
    return kept


def accumulate(model, inputs):
    for batch in inputs:
        model(**batch).loss.backward()


def recorded(model):
    return torch.stack([module.max_logits_H.clone() for module in clippable(model)])


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("padding", ["right", "left", "none"])
def test_recorded_maxima_are_those_of_whole_scores(kind, attention, padding):
    model, inputs = build(kind, attention=attention), batches(padding)
    layers = zip(*(whole_scores(model, batch) for batch in inputs), strict=True)
    expected = torch.stack([torch.cat([s.flatten(2) for s in scores]).amax((0, 2)) for scores in layers])
    observe(model)
    accumulate(model, inputs)
    torch.testing.assert_close(recorded(model).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reentrant", [True, False])
def test_recomputation_changes_nothing(reentrant):
    model = build("llama")
    again = copy.deepcopy(model)
    again.activation_checkpointing_enable({"use_reentrant": reentrant})
    for one in (model, again):
        observe(one)
        accumulate(one, batches())
    assert torch.equal(recorded(model), recorded(again))


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_observing_changes_no_loss_no_gradient_and_no_checkpoint(kind, attention):
    model, inputs = build(kind, attention=attention), batches()
    observed = copy.deepcopy(model)
    observe(observed)
    for batch in inputs:
        losses = [one(**batch).loss for one in (model, observed)]
        assert torch.equal(*losses)
        for loss in losses:
            loss.backward()
    for one, other in zip(model.parameters(), observed.parameters(), strict=True):
        assert (one.grad is None and other.grad is None) or torch.equal(one.grad, other.grad)
    assert model.state_dict().keys() == observed.state_dict().keys()


def test_evaluation_and_generation_work_and_record_nothing():
    model = build("llama").eval()
    prompt = {key: value for key, value in batches("left")[0].items() if key != "labels"}
    expected = model.generate(**prompt, max_new_tokens=5, do_sample=False)
    observe(model)
    assert torch.equal(model.generate(**prompt, max_new_tokens=5, do_sample=False), expected)
    assert recorded(model).isneginf().all()


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_clip_brings_clipped_heads_under_tau_and_leaves_the_others(kind):
    """One layer: what follows a clipped layer sees other inputs."""
    model, inputs = build(kind, layers=1), batches("none")
    before = [whole_scores(model, batch)[0] for batch in inputs]
    tau = torch.cat(before).amax((0, 2, 3)).sort().values[1].item() * 1.01  # two heads lie below
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    clip = QKClip(model, optimizer, tau)
    accumulate(model, inputs)
    optimizer.step()
    assert (clip.last_clip.clipped_heads, clip.last_clip.num_heads) == (2, 4)
    assert recorded(model).isneginf().all()
    accumulate(model, inputs)
    assert 0.999 * tau < recorded(model).max() <= tau * (1 + 1e-5)
    clip.remove()
    for scores, batch in zip(before, inputs, strict=True):
        expected = scores * clip.last_clip.gamma_S.double()[:, None, None]
        torch.testing.assert_close(whole_scores(model, batch)[0], expected, rtol=1e-5, atol=1e-5 * tau)


class Lion(torch.optim.Optimizer):
    """An optimizer of a reader's own: the sign of a momentum."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                p.sub_(torch.sign(0.9 * momentum + 0.1 * p.grad), alpha=group["lr"])
                momentum.lerp_(p.grad, 0.01)


OPTIMIZERS = {
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), lr=1e-3),
    "muon": lambda model: torch.optim.Muon([p for p in model.model.layers.parameters() if p.ndim == 2], lr=1e-3),
    "lion": lambda model: Lion(model.parameters(), lr=1e-4),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["qwen2", "deepseek lora"])
def test_any_optimizer_learns_while_logits_stay_under_tau(name, kind):
    model, inputs = build(kind), batches()
    optimizer = OPTIMIZERS[name](model)
    seen, losses = [], []
    with QKClip(model, optimizer, tau=10.0) as clip:
        for _ in range(12):
            optimizer.zero_grad()
            losses.append(sum(model(**batch).loss.item() for batch in inputs))
            accumulate(model, inputs)
            optimizer.step()
            seen.append(clip.last_clip.max_logit)
    assert seen[0] > 20 > 12 > max(seen[4:])
    assert losses[-1] < losses[4]


def test_muonclip_clips_an_observed_model():
    model, inputs = build("llama"), batches()
    observe(model)
    optimizer = MuonClip.for_model(model, lr=1e-3, tau=10.0)
    accumulate(model, inputs)
    optimizer.step()
    assert optimizer.last_clip.max_logit > 20
    optimizer.zero_grad()
    accumulate(model, inputs)
    assert recorded(model).max() < 12


def test_copies_and_checkpoints_of_an_observed_model(tmp_path):
    model, inputs = build("llama"), batches()
    observe(model)
    copied = copy.deepcopy(model)
    accumulate(copied, inputs)
    assert recorded(model).isneginf().all()
    assert recorded(copied).isfinite().all()
    views = clippable(copied)[0].qk_views()
    assert views["q"].data_ptr() == copied.model.layers[0].self_attn.q_proj.weight.data_ptr()
    model.save_pretrained(tmp_path)
    loaded = transformers.LlamaForCausalLM.from_pretrained(tmp_path)
    assert loaded.config._attn_implementation == "sdpa"
    assert loaded.state_dict().keys() == model.state_dict().keys()


def test_under_autocast_the_maxima_are_those_of_the_rounded_queries_and_keys():
    model, inputs = build("llama"), batches()
    observe(model)
    accumulate(model, inputs)
    exact = recorded(model)
    for module in clippable(model):
        module.max_logits_H.fill_(-math.inf)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        accumulate(model, inputs)
    torch.testing.assert_close(recorded(model), exact, rtol=0.03, atol=0.1)


def test_remove_gives_the_model_back():
    model = build("llama", attention="eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    clip = QKClip(model, optimizer, tau=1.0)
    assert model.config._attn_implementation == "eager_max_logits"
    clip.remove()
    clip.remove()
    assert model.config._attn_implementation == "eager"
    assert not clippable(model)
    accumulate(model, batches())
    optimizer.step()
    assert clip.last_clip is None
    QKClip(model, optimizer)  # and again


def test_a_model_that_shares_the_configuration_trains_unobserved():
    model = build("llama")
    other = transformers.LlamaForCausalLM(model.config).train()
    observe(model)
    accumulate(other, batches())
    assert not clippable(other)
    assert recorded(model).isneginf().all()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            lambda: transformers.Qwen3Config(**COMMON, num_key_value_heads=2, head_dim=8, num_hidden_layers=1),
            r"layers\.0\.self_attn \(Qwen3Attention\) normalises q and k \(q_norm, k_norm\)",
        ),
        (
            lambda: transformers.GPT2Config(n_embd=32, n_layer=1, n_head=4, vocab_size=61),
            r"h\.0\.attn \(GPT2Attention\) is not known to QK-Clip: it needs",
        ),
        (
            lambda: transformers.LlamaConfig(**COMMON, num_hidden_layers=1, attn_implementation="flex_attention"),
            "runs as flex_attention; logits are observed in sdpa or eager",
        ),
    ],
)
def test_what_cannot_be_clipped_is_refused_by_name(config, message):
    model = transformers.AutoModelForCausalLM.from_config(config())
    before = model.config._attn_implementation
    with pytest.raises(ValueError, match=message):
        QKClip(model, torch.optim.SGD(model.parameters()))
    assert model.config._attn_implementation == before


def test_a_projection_that_is_more_than_its_weight_is_refused():
    """As adapters make them: the weight alone does not make the logits."""
    model = build("llama")
    model.model.layers[1].self_attn.k_proj = torch.nn.Sequential(model.model.layers[1].self_attn.k_proj)
    with pytest.raises(ValueError, match=r"layers\.1\.self_attn \(LlamaAttention\) is not known"):
        observe(model)


def test_a_model_is_observed_once():
    model = build("llama")
    observe(model)
    with pytest.raises(ValueError, match="LlamaForCausalLM is observed already"):
        observe(model)


def test_a_wrapped_model_is_refused():
    with pytest.raises(TypeError, match="unwrapped, not Sequential"):
        observe(torch.nn.Sequential(build("llama")))


def test_without_transformers_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "openk2.optim.hf_attention")
    with pytest.raises(ImportError, match=r'pip install "openk2\[hf\]"'):
        importlib.import_module("openk2.optim.hf_attention")
