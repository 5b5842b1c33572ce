from random import Random

import pytest

from openk2.worlds.spec import Field
from openk2.worlds.values import Pool, is_heldout

TYPES = ("code", "name", "word", "email", "date", "time", "amount")


@pytest.mark.parametrize("kind", TYPES)
def test_the_pools_are_apart_and_open(kind):
    def draw(heldout):
        return {Pool(Random(seed), heldout=heldout).value(Field("x", kind)) for seed in range(400)}

    train, heldout = draw(False), draw(True)
    assert not train & heldout
    assert len(train) > 150
    assert len(heldout) > 100


def test_the_parts_of_a_value_are_in_its_pool_too():
    for heldout in (False, True):
        pool = Pool(Random(1), heldout=heldout)
        for _ in range(50):
            user, host = str(pool.value(Field("x", "email"))).split("@")
            assert is_heldout(user) == is_heldout(host.split(".")[0]) == heldout
            assert is_heldout(str(pool.value(Field("x", "name"))).lower()) == heldout


def test_a_pool_never_repeats_itself():
    pool = Pool(Random(0), heldout=True)
    codes = [pool.code() for _ in range(100)]
    assert len(set(codes)) == 100
    few = [amount for amount in range(10, 21) if is_heldout(amount)]
    assert sorted(pool.amount(10, 20) for _ in few) == few
    with pytest.raises(ValueError, match="no amount"):
        pool.amount(10, 20)
