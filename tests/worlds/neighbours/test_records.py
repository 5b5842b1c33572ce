from openk2.worlds.neighbours.records import Records

DATA = {
    "users": {
        "u2": {"name": {"first": "Ann", "last": "Ray"}, "zip": "1"},
        "u1": {"name": {"first": "ann", "last": "Roe"}, "zip": "1"},
    },
    "orders": {"#1": {"items": [{"price": 1.5}]}},
}


def test_what_is_read_is_a_copy_until_it_is_put():
    records = Records(DATA)
    order = records.get("orders", "#1")
    order["items"].append({})
    assert records.get("orders", "#1") == DATA["orders"]["#1"]
    records.put("orders", "#1", order)
    assert records.get("orders", "#1") == order
    assert records.get("orders", "#2") is None
    assert records.get("users", "#1") is None


def test_records_are_found_by_texts_in_any_case_in_the_order_of_keys():
    records = Records(DATA)
    assert records.find("users", {"name.first": "ANN", "zip": "1"}) == [DATA["users"]["u1"], DATA["users"]["u2"]]
    assert records.find("users", {"name.first": "Ann", "name.last": "ray"}) == [DATA["users"]["u2"]]
    assert records.find("users", {"name.first": "' OR 1=1 --"}) == []
    assert records.find("users", {"name.middle": "x"}) == []


def test_a_copy_changes_apart_and_equal_states_hash_alike():
    records = Records(DATA)
    copy = records.copy()
    before = records.hash()
    assert copy.hash() == before == Records(DATA).hash()
    copy.put("orders", "#2", {"b": 1, "a": 2})
    assert (records.hash(), records.get("orders", "#2")) == (before, None)
    records.put("orders", "#2", {"a": 2, "b": 1})
    assert records.hash() == copy.hash() != before
    assert records.rows()["orders"]["#2"] == {"record": '{"a": 2, "b": 1}'}
