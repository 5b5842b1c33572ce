from openk2.worlds.domains import APPS
from openk2.worlds.state import State

SHOP = APPS["shop"]
CUSTOMER = SHOP.entity("customer")
ROWS = [{"customer": f"C-{n}", "name": "Talu", "email": f"a{n}@b.org", "city": "velo", "points": n} for n in (3, 1, 2)]


def state(rows=ROWS):
    return State(SHOP, {"customer": rows}, {"customer": ["C-9"]})


def test_equal_states_hash_alike_whatever_their_history():
    one, two = state(), state(list(reversed(ROWS)))
    assert one.hash() == two.hash()
    one.update(CUSTOMER, "C-1", "points", 50)
    assert one.hash() != two.hash()
    one.update(CUSTOMER, "C-1", "points", 1)
    assert one.hash() == two.hash()


def test_snapshot_and_restore():
    world = state()
    before, start = world.hash(), world.snapshot()
    key = world.next_key(CUSTOMER)
    assert key == "C-9"
    assert world.next_key(CUSTOMER) is None
    world.insert(CUSTOMER, ROWS[0] | {"customer": key})
    other = state([])
    other.restore(world.snapshot())
    assert other.hash() == world.hash() != before
    assert other.next_key(CUSTOMER) is None
    world.restore(start)
    assert world.hash() == before
    assert world.next_key(CUSTOMER) == "C-9"


def test_values_never_become_sql():
    world = state()
    world.update(CUSTOMER, "C-1", "city", "'; DROP TABLE customer; --")
    assert world.get(CUSTOMER, "C-1")["city"] == "'; DROP TABLE customer; --"
    assert world.get(CUSTOMER, "' OR 1=1 --") is None
