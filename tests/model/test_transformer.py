import pytest
import torch

from openk2.model.config import ModelConfig
from openk2.model.moe import Routing
from openk2.model.transformer import Transformer

CONFIG = ModelConfig(
    vocab_size=50, hidden_size=16, num_layers=3, intermediate_size=24, moe_intermediate_size=8, num_heads=2,
    kv_lora_rank=8, qk_nope_head_dim=4, qk_rope_head_dim=4, v_head_dim=4, num_experts=4, num_experts_per_token=2,
)  # fmt: skip


def batch(rows=2, tokens=12):
    ids = torch.randint(50, (rows, tokens), generator=torch.Generator().manual_seed(0))
    return ids, torch.arange(tokens).expand(rows, -1)


def slices():
    first = Transformer(CONFIG, layers=[0], head=False)
    middle = Transformer(CONFIG, layers=[1], embedding=False, head=False)
    last = Transformer(CONFIG, layers=[2], embedding=False)
    return [stage.initialize(3) for stage in (first, middle, last)]


def test_pipeline_slices_compose_to_the_whole():
    tokens, positions = batch()
    whole, stages = Transformer(CONFIG).initialize(3), slices()
    x = tokens
    for stage in stages:
        x = stage(x, positions=positions)
    assert torch.equal(x, whole(tokens, positions=positions))


def test_names_and_initial_weights_do_not_depend_on_the_split():
    whole = dict(Transformer(CONFIG).initialize(3).named_parameters())
    split = {name: p for stage in slices() for name, p in stage.named_parameters()}
    assert whole.keys() == split.keys()
    assert all(torch.equal(whole[name], split[name]) for name in whole)


def test_the_seed_decides_the_weights():
    a, b, c = (Transformer(CONFIG).initialize(seed).lm_head.weight for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_every_parameter_publishes_a_layout():
    assert {p.published.role for p in Transformer(CONFIG).parameters()} == {
        "embedding", "head", "norm", "matrix", "experts", "router"
    }  # fmt: skip


def test_packed_documents_equal_documents_alone():
    model = Transformer(CONFIG).initialize(0).double().eval()
    a, b = torch.randint(50, (1, 7)), torch.randint(50, (1, 5))
    packed = model(
        torch.cat((a, b), dim=1),
        positions=torch.cat((torch.arange(7), torch.arange(5))).unsqueeze(0),
        doc_ids=torch.tensor([[0] * 7 + [1] * 5]),
    )
    alone = [model(x, positions=torch.arange(x.shape[1]).unsqueeze(0)) for x in (a, b)]
    torch.testing.assert_close(packed, torch.cat(alone, dim=1))


def test_a_later_token_changes_nothing_before_it():
    tokens, positions = batch()
    model = Transformer(CONFIG).initialize(0).eval()
    before = model(tokens, positions=positions)
    changed = tokens.clone()
    changed[:, 8] = (changed[:, 8] + 1) % 50
    after = model(changed, positions=positions)
    torch.testing.assert_close(after[:, :8], before[:, :8])
    assert not torch.allclose(after[:, 8:], before[:, 8:])


def test_scoring_equals_training_bit_for_bit():
    tokens, positions = batch()
    model = Transformer(CONFIG).initialize(0)
    with torch.no_grad():
        scored = model.eval()(tokens, positions=positions)
    assert torch.equal(scored, model.train()(tokens, positions=positions))


def test_routing_covers_the_routed_layers():
    tokens, positions = batch()
    routing = Routing()
    Transformer(CONFIG).initialize(0)(tokens, positions=positions, routing=routing)
    assert sorted(routing.experts) == [1, 2]


@pytest.mark.parametrize("with_documents", [False, True])
def test_gradients_equal_finite_differences(with_documents):
    torch.manual_seed(0)
    tokens, positions = batch(1, 6)
    doc_ids = torch.tensor([[0, 0, 0, 1, 1, 1]]) if with_documents else None
    model = Transformer(CONFIG).initialize(0).double()
    for p in model.parameters():
        p.data *= 10 if p.published.role != "norm" else 1
    routing = Routing()
    model(tokens, positions=positions, doc_ids=doc_ids, routing=routing)  # fixed routing: the loss is smooth

    def loss():
        logits = model(tokens, positions=positions, doc_ids=doc_ids, routing=Routing(routing.experts))
        return torch.nn.functional.cross_entropy(logits[0], tokens[0].roll(-1))

    loss().backward()
    for name, p in model.named_parameters():
        direction = torch.randn_like(p)
        with torch.no_grad():
            p += 1e-5 * direction
            up = loss()
            p -= 2e-5 * direction
            down = loss()
            p += 1e-5 * direction
        slope = (up - down) / 2e-5
        torch.testing.assert_close((p.grad * direction).sum(), slope, rtol=1e-2, atol=1e-6, msg=name)
