"""Parts from what a model publishes of its parameters."""

import pytest
import torch

from openk2.engine.weights.local import SameProcess
from openk2.engine.weights.parts import Part
from openk2.engine.weights.plan import Held, make_plan
from openk2.engine.weights.published import model_parts, pieces
from openk2.model.config import ModelConfig
from openk2.model.hf import released_tensors
from openk2.model.transformer import Transformer


@pytest.fixture
def model() -> Transformer:
    config = ModelConfig(
        vocab_size=32, hidden_size=16, num_layers=2, intermediate_size=24, moe_intermediate_size=8, num_heads=2,
        kv_lora_rank=8, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8, num_experts=4, num_experts_per_token=2,
    )  # fmt: skip
    return Transformer(config).initialize(0)


def test_ranks_of_expert_parallelism_make_up_the_model(model):
    whole = model_parts(model)
    halves = [
        [
            Part(part.name, part.tensor[chosen], part.shape, (chosen,))
            for part in whole
            if part.name.endswith(("experts.gate_up", "experts.down"))
        ]
        for chosen in (slice(0, 2), slice(2, 4))
    ]
    rest = [part for part in whole if not part.name.endswith(("experts.gate_up", "experts.down"))]
    plan = make_plan([[Held.of(part) for part in [*half, *rest]] for half in halves], 4096)
    assert plan.shapes == {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def test_a_stack_of_some_experts_is_a_part_of_all(model):
    parts = {part.name: part for part in model_parts(model, experts=slice(4, 8), num_experts=16)}
    stack = next(part for name, part in parts.items() if name.endswith("experts.gate_up"))
    assert (stack.shape[0], stack.box[0]) == (16, (4, 8))
    assert parts["norm.weight"].box == ((0, 16),)


def test_a_replica_that_keeps_experts_apart_is_filled_from_stacks(model):
    targets, unfused = [], {}
    for name, parameter in model.named_parameters():
        for piece, expert, index in pieces(parameter):
            if expert is not None:
                own = torch.zeros_like(parameter[index])
                unfused[name, piece, expert] = own
                targets.append(Part(name, own, tuple(parameter.shape), index))
    SameProcess(model_parts(model), targets)
    released = dict(released_tensors(model))
    for (name, piece, expert), tensor in unfused.items():
        layer = name.rpartition(".")[0]
        assert torch.equal(tensor, released[f"model.{layer}.{expert}.{piece or 'down'}_proj.weight"])
    assert len(unfused) == 12
