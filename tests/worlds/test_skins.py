from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.worlds.config import WorldsConfig
from openk2.worlds.domains import APPS
from openk2.worlds.skins import rename
from openk2.worlds.spec import check
from openk2.worlds.wordbank import FIELDS, NOUNS, STATES, VERBS


def words_of(app):
    fields = [field for entity in app.entities for field in entity.fields]
    states = {value for field in fields for value in field.values}
    nouns = {entity.name for entity in app.entities}
    return nouns | {field.name for field in fields[1:]} | states | {tool.verb for tool in app.tools if tool.verb}


@settings(max_examples=60)
@given(st.sampled_from(list(APPS)), st.integers(0, 10**9))
def test_a_skin_keeps_the_structure_and_changes_the_words(name, seed):
    app = APPS[name]
    skin = rename(app, Random(seed))
    check(skin)
    assert [tool.op for tool in skin.tools] == [tool.op for tool in app.tools]
    assert [len(tool.params) for tool in skin.tools] == [len(tool.params) for tool in app.tools]
    assert [len(tool.requires) for tool in skin.tools] == [len(tool.requires) for tool in app.tools]
    assert rename(app, Random(seed)) == skin
    assert not {tool.name for tool in skin.tools} & {tool.name for tool in app.tools}


def test_skins_differ_in_verbs_parameters_and_order():
    skins = [rename(APPS["bank"], Random(seed)) for seed in range(60)]
    transfers = [tool for skin in skins for tool in skin.tools if tool.op == "transfer"]
    assert len({tool.name for tool in transfers}) > 55
    assert len({tuple(param.role for param in tool.params) for tool in transfers}) >= 4
    assert len({tuple(sorted(param.name for param in tool.params)) for tool in transfers}) >= 10


def test_what_demonstrations_leave_out_is_in_no_word_list():
    config = WorldsConfig()
    bank = {*NOUNS, *FIELDS, *VERBS, *STATES}
    shown = set().union(*(words_of(APPS[name]) for name in config.demonstrated))
    for name in (*config.undemonstrated, *config.unseen):
        nouns = {entity.name for entity in APPS[name].entities}
        verbs = {tool.verb for tool in APPS[name].tools if tool.verb}
        assert not words_of(APPS[name]) & bank, name
        assert not (nouns | verbs) & shown, name
