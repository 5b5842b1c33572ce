import itertools
from dataclasses import replace

import numpy as np
import pytest

from openk2.schema import ToolSpec
from openk2.worlds.evolve.author import app_ids, evolve
from openk2.worlds.evolve.config import EvolveConfig
from openk2.worlds.evolve.coverage import breadth, jaccard, near_duplicates, shingles, skeleton, words_of
from openk2.worlds.evolve.map import Labelled, draw_map, purity
from openk2.worlds.tools import compile_tools
from tests.worlds.evolve.apps import KENNEL

TWO = EvolveConfig(categories=("energy", "games"), num_applications=2)


def spec(name, description, *params):
    properties = {param: {"type": "string"} for param in params}
    return ToolSpec(name, description, {"type": "object", "properties": properties, "required": list(params)})


def test_words_of_compound_names():
    assert words_of(spec("getHTTPLog2", "Reads it.", "log_id")) == [
        "get",
        "http",
        "log",
        "2",
        "reads",
        "it",
        "log",
        "id",
        "string",
    ]


def test_skeletons_leave_out_nouns():
    assert skeleton(KENNEL, KENNEL.find_tool("groom")) == "add  (amount, key) -> [] if ['filled date']"
    assert (
        skeleton(KENNEL, KENNEL.find_tool("add_pet"))
        == "create  (code, date?, enum?, ref, ref?) -> [] if ['in enum via']"
    )
    assert skeleton(KENNEL, KENNEL.find_tool("list_pets")) == (
        "search  (amount<=?, date>=?, enum?, limit?, ref?) -> ['amount', 'enum'] if []"
    )


def test_near_duplicates_are_those_that_comparing_all_pairs_finds():
    specs = [tool for app in evolve(TWO) for tool in compile_tools(app)][:300]
    specs += [replace(tool, name=f"{tool.name}_now") for tool in specs[:100:5]]
    sets = [shingles(tool) for tool in specs]
    wanted = {
        i
        for pair in itertools.combinations(range(len(specs)), 2)
        if jaccard(*(sets[i] for i in pair)) >= 0.8
        for i in pair
    }
    near = near_duplicates(specs)
    assert len(wanted) >= 4
    assert set(near) <= wanted
    assert len(near) >= 0.9 * len(wanted)
    for i, (j, alike) in near.items():
        assert alike == jaccard(sets[i], sets[j]) >= 0.8


def test_breadth_of_some_apps():
    found = breadth(evolve(TWO))
    assert found.num_apps == 4
    assert found.num_distinct == found.num_tools > 300
    assert found.num_skeletons > 150
    assert found.share_near_duplicates <= 0.02
    again = breadth([KENNEL, KENNEL])
    assert again.share_near_duplicates == 1
    assert again.num_distinct * 2 == again.num_tools


@pytest.mark.slow
def test_the_default_config_is_as_broad_as_promised():
    found = breadth(evolve(EvolveConfig()))
    assert found.num_apps >= 200
    assert found.num_distinct >= 20_000
    assert found.num_skeletons >= 500
    assert found.share_near_duplicates <= 0.05


def test_a_map_tells_categories_apart_and_shows_real_tools(tmp_path):
    labelled = [
        Labelled(s, i.category) for i, app in zip(app_ids(TWO), evolve(TWO), strict=True) for s in compile_tools(app)
    ]
    real = [Labelled(spec("read_meter", "Read a smart meter.", "serial"), "energy", is_real=True)]
    found = draw_map([*labelled, *real], tmp_path / "map.png", num_drawn=120)
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert found["num_evolved"] == 120
    assert found["num_real"] == 1
    assert found["purity_in_plane"] > 0.7 > 0.6 > found["purity_by_chance"] > 0.4
    with pytest.raises(ValueError, match="needs 50 tools"):
        draw_map(labelled[:10], tmp_path / "small.png")


def test_purity_is_1_for_clusters_and_chance_for_noise():
    categories = ["a", "b"] * 50
    apart = np.array([[float(i), 100.0 * (i % 2)] for i in range(100)])
    assert purity(apart, categories) == 1
    assert abs(purity(np.random.default_rng(0).normal(size=(100, 2)), categories) - 0.5) < 0.15
