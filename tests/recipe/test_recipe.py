"""The recipes that ship: they load, say what was published, and survive being written."""

from pathlib import Path

import pytest

from openk2.recipe import Recipe, override

RECIPES = Path(__file__).parents[2] / "recipes"
ALL = sorted(
    file.stem for file in RECIPES.glob("*.toml") if file.stem not in ("synthesis", "execution")
)  # no training runs


def load(name: str) -> Recipe:
    return Recipe.load(RECIPES / f"{name}.toml")


def test_which_recipes_there_are():
    assert ALL == ["deepseek-v3", "kimi-k2", "micro", "moonlight-16b", "nano", "rl", "study-rl", "study-synthesis"]


@pytest.mark.parametrize("name", ALL)
def test_a_resolved_recipe_reads_back_equal(name: str, tmp_path: Path):
    recipe = load(name)
    recipe.save(tmp_path / "recipe.toml")
    again = Recipe.load(tmp_path / "recipe.toml")
    assert again == recipe
    assert again.fingerprint == recipe.fingerprint
    assert recipe.name == name


def test_the_fingerprint_sees_every_change():
    nano = load("nano")
    prints = {nano.fingerprint}
    for flags in (["--seed", "1"], ["--pretrain.optim.lr", "0.5"], ["--model.init_std", "0.03"]):
        prints.add(override(nano, flags, prog="p").fingerprint)
    assert len(prints) == 4


@pytest.mark.parametrize(
    ("name", "tokens"), [("kimi-k2", 15.96e12), ("deepseek-v3", 15.96e12), ("moonlight-16b", 5.7e12)]
)
def test_published_schedules_cover_the_published_tokens(name: str, tokens: float):
    stage = load(name).pretrain
    assert sum(phase.length for phase in stage.schedule.phases) == pytest.approx(tokens, rel=1e-12)
    assert stage.steps * stage.batch_rows * stage.row_length == pytest.approx(tokens, rel=1e-5)


def test_kimi_k2_ends_at_the_printed_learning_rates():
    stage = load("kimi-k2").pretrain
    rates = [stage.optim.lr * phase.to for phase in stage.schedule.phases]
    assert rates == pytest.approx([2e-4, 2e-4, 2e-5, 7e-6])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--tokenizer.vocab_size", "4096"], "tokenizer.vocab_size 4096 exceeds model.vocab_size"),
        (["--pretrain.row_length", "2048"], "pretrain.row_length 2048 exceeds model.max_positions"),
        (["--name", "a/b"], "should match pattern"),
        (["--tokenizer.vocab_size", "300"], "tokenizer.vocab_size 300 is too small: bytes and fixed tokens take"),
    ],
)
def test_rooms_that_do_not_fit_together_are_refused(flags: list[str], words: str):
    with pytest.raises(ValueError, match=words):
        override(load("nano"), flags, prog="p")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rl.families = { tols = 1.0 }", "rl.families: there is no family 'tols', there are math, logic, tools"),
        ("sft.questions = { maths = 20 }", "sft.questions: there is no family 'maths'"),
        ('worlds.unseen = ["garrage"]', "there is no 'garrage', there are shop"),
    ],
)
def test_a_name_that_nothing_has_is_refused_when_the_recipe_is_read(tmp_path: Path, line: str, words: str):
    path = tmp_path / "mine.toml"
    path.write_text(f'base = "{RECIPES / "nano.toml"}"\n{line}\n')
    with pytest.raises(ValueError, match=words) as refused:
        Recipe.load(path)
    assert str(path) in str(refused.value)
