"""Each tool on a shop of one user, two orders and two products: its effect, whole, and what it turns down."""

import json

import pytest

from openk2.schema import ToolCall
from openk2.worlds.neighbours.desk import Desk
from openk2.worlds.neighbours.records import Records
from openk2.worlds.neighbours.retail import TOOLS

HOME = {"address1": "1 Elm", "address2": "", "city": "Austin", "state": "TX", "country": "USA", "zip": "78701"}
AWAY = {**HOME, "address1": "2 Oak"}


def variant(item_id, price, *, available=True, **options):
    return {"item_id": item_id, "price": price, "available": available, "options": options}


def item(item_id, price, product_id="p1", **options):
    return {"name": "Mug", "product_id": product_id, "item_id": item_id, "price": price, "options": options}


def order(order_id, status, *, paid="card"):
    items = [item("i1", 10.0, size="S"), item("i1", 10.0, size="S"), item("j1", 5.5, "p2")]
    payment = {"transaction_type": "payment", "amount": 25.5, "payment_method_id": paid}
    return {
        "order_id": order_id, "user_id": "ann_1", "address": HOME, "items": items, "status": status, "fulfillments": [],
        "payment_history": [payment],
    }  # fmt: skip


METHODS = {
    "card": {"source": "credit_card", "id": "card"},
    "gift": {"source": "gift_card", "id": "gift", "balance": 3.0},
    "paypal": {"source": "paypal", "id": "paypal"},
}
SHOP = {
    "users": {
        "ann_1": {
            "user_id": "ann_1", "name": {"first_name": "Ann", "last_name": "Ray"}, "email": "Ann@x.org", "address": HOME,
            "payment_methods": METHODS, "orders": ["#1", "#2", "#3"],
        }
    },
    "orders": {
        "#1": order("#1", "pending"), "#2": order("#2", "delivered"), "#3": order("#3", "pending", paid="gift"),
    },
    "products": {
        "p1": {"name": "Mug", "product_id": "p1", "variants": {
            "i1": variant("i1", 10.0, size="S"), "i2": variant("i2", 12.25, size="M"), "i3": variant("i3", 8.0, size="L"),
            "i4": variant("i4", 99.0, size="XL", available=False),
        }},
        "p2": {"name": "Lid", "product_id": "p2", "variants": {"j1": variant("j1", 5.5)}},
    },
}  # fmt: skip


@pytest.fixture
def desk():
    return Desk(TOOLS, Records(SHOP))


def run(desk, name, **arguments):
    return json.loads(desk.run(ToolCall("", name, json.dumps(arguments))))


def balance(desk):
    return desk.records.get("users", "ann_1")["payment_methods"]["gift"]["balance"]


def changed(desk):
    """What is no longer as it was: by record, the fields and what is in them now."""
    now = {
        (entity, key): json.loads(row["record"])
        for entity, table in desk.records.rows().items()
        for key, row in table.items()
    }
    return {
        key: {name: value for name, value in record.items() if SHOP[entity][key].get(name) != value}
        for (entity, key), record in now.items()
        if record != SHOP[entity][key]
    }


def refund(method, amount):
    return {"transaction_type": "refund", "amount": amount, "payment_method_id": method}


def payment(method, amount):
    return {"transaction_type": "payment", "amount": amount, "payment_method_id": method}


def test_looking_up_changes_nothing(desk):
    assert run(desk, "find_user_id_by_email", email="ann@x.org") == {"user_id": "ann_1"}
    name = {"first_name": "ann", "last_name": "RAY", "zip": "78701"}
    assert run(desk, "find_user_id_by_name_zip", **name) == {"user_id": "ann_1"}
    assert run(desk, "get_user_details", user_id="ann_1") == SHOP["users"]["ann_1"]
    assert run(desk, "get_order_details", order_id="#1") == SHOP["orders"]["#1"]
    assert run(desk, "get_product_details", product_id="p2") == SHOP["products"]["p2"]
    assert run(desk, "list_all_product_types") == {"Mug": "p1", "Lid": "p2"}
    found = run(desk, "get_item_details", item_id="i2")
    assert found == {"name": "Mug", "product_id": "p1", **SHOP["products"]["p1"]["variants"]["i2"]}
    assert run(desk, "calculate", expression="10 - 2.333") == {"result": 7.67}
    assert run(desk, "transfer_to_human_agents", summary="no") == {"ok": True}
    assert changed(desk) == {}


def test_cancelling_refunds_what_was_paid(desk):
    run(desk, "cancel_pending_order", order_id="#1", reason="no longer needed")
    ended = {
        "status": "cancelled",
        "cancel_reason": "no longer needed",
        "payment_history": [payment("card", 25.5), refund("card", 25.5)],
    }
    assert changed(desk) == {"#1": ended}
    run(desk, "cancel_pending_order", order_id="#3", reason="ordered by mistake")
    assert balance(desk) == 28.5


def test_an_address_changes_alone(desk):
    run(desk, "modify_pending_order_address", order_id="#1", **AWAY)
    assert changed(desk) == {"#1": {"address": AWAY}}
    run(desk, "modify_user_address", user_id="ann_1", **AWAY)
    assert changed(desk)["ann_1"] == {"address": AWAY}


def test_another_payment_refunds_the_first(desk):
    run(desk, "modify_pending_order_payment", order_id="#3", payment_method_id="paypal")
    history = [payment("gift", 25.5), payment("paypal", 25.5), refund("gift", 25.5)]
    assert changed(desk)["#3"] == {"payment_history": history}
    assert balance(desk) == 28.5
    again = run(desk, "modify_pending_order_payment", order_id="#3", payment_method_id="card")
    assert again == {"error": "the order's payment was changed before"}


def test_items_are_changed_in_place_and_the_difference_is_paid(desk):
    run(
        desk,
        "modify_pending_order_items",
        order_id="#1",
        item_ids=["i1"],
        new_item_ids=["i2"],
        payment_method_id="gift",
    )
    first, second, lid = SHOP["orders"]["#1"]["items"]
    assert changed(desk)["#1"] == {
        "status": "pending (items modified)",
        "items": [{**first, "item_id": "i2", "price": 12.25, "options": {"size": "M"}}, second, lid],
        "payment_history": [payment("card", 25.5), payment("gift", 2.25)],
    }
    assert balance(desk) == 0.75
    for name, rest in (
        ("cancel_pending_order", {"reason": "no longer needed"}),
        ("modify_pending_order_address", AWAY),
    ):
        assert run(desk, name, order_id="#1", **rest) == {"error": "the order is pending (items modified), not pending"}


def test_cheaper_items_are_refunded_and_two_of_a_kind_count_twice(desk):
    arguments = {"item_ids": ["i1", "i1"], "new_item_ids": ["i3", "i2"], "payment_method_id": "gift"}
    run(desk, "modify_pending_order_items", order_id="#1", **arguments)
    ended = changed(desk)["#1"]
    assert [each["item_id"] for each in ended["items"]] == ["i3", "i2", "j1"]
    assert ended["payment_history"][-1] == payment("gift", 0.25)


def test_a_return_is_requested(desk):
    run(desk, "return_delivered_order_items", order_id="#2", item_ids=["j1", "i1"], payment_method_id="gift")
    ended = {"status": "return requested", "return_items": ["i1", "j1"], "return_payment_method_id": "gift"}
    assert changed(desk) == {"#2": ended}


def test_an_exchange_is_requested(desk):
    arguments = {"item_ids": ["i1", "j1"], "new_item_ids": ["i3", "j1"], "payment_method_id": "paypal"}
    run(desk, "exchange_delivered_order_items", order_id="#2", **arguments)
    ended = {
        "status": "exchange requested",
        "exchange_items": ["i1", "j1"],
        "exchange_new_items": ["i3", "j1"],
        "exchange_payment_method_id": "paypal",
        "exchange_price_difference": -2.0,
    }
    assert changed(desk) == {"#2": ended}


SWAP = {"item_ids": ["i1"], "new_item_ids": ["i2"], "payment_method_id": "card"}
RETURN = {"order_id": "#2", "item_ids": ["i1"], "payment_method_id": "card"}


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("find_user_id_by_email", {"email": "bob@x.org"}, "user not found"),
        ("get_order_details", {"order_id": "1"}, "order not found"),
        ("get_item_details", {"item_id": "p1"}, "item not found"),
        ("calculate", {"expression": "1/0"}, "the expression has no value"),
        (
            "cancel_pending_order",
            {"order_id": "#2", "reason": "no longer needed"},
            "the order is delivered, not pending",
        ),
        (
            "modify_pending_order_payment",
            {"order_id": "#1", "payment_method_id": "card"},
            "paid by that method already",
        ),
        ("modify_pending_order_payment", {"order_id": "#1", "payment_method_id": "gift"}, "not enough balance"),
        ("modify_pending_order_payment", {"order_id": "#1", "payment_method_id": "x"}, "no such payment method"),
        ("modify_pending_order_items", {**SWAP, "order_id": "#2"}, "the order is delivered, not pending"),
        ("modify_pending_order_items", {**SWAP, "order_id": "#1", "item_ids": []}, "no items are named"),
        (
            "modify_pending_order_items",
            {**SWAP, "order_id": "#1", "item_ids": ["i1"] * 3},
            "has not all of these items",
        ),
        ("modify_pending_order_items", {**SWAP, "order_id": "#1", "new_item_ids": ["i2"] * 2}, "as many new items"),
        ("modify_pending_order_items", {**SWAP, "order_id": "#1", "new_item_ids": ["i4"]}, "is not available"),
        (
            "modify_pending_order_items",
            {**SWAP, "order_id": "#1", "new_item_ids": ["j1"]},
            "not of the old one's product",
        ),
        ("exchange_delivered_order_items", {**SWAP, "order_id": "#1"}, "the order is pending, not delivered"),
        (
            "return_delivered_order_items",
            {**RETURN, "payment_method_id": "paypal"},
            "original payment method or to a gift",
        ),
        ("return_delivered_order_items", {**RETURN, "item_ids": ["i1", "i2"]}, "has not all of these items"),
        ("modify_user_address", {"user_id": "bob", **AWAY}, "user not found"),
    ],
)
def test_what_the_policy_forbids_is_refused_and_changes_nothing(desk, name, arguments, error):
    assert error in run(desk, name, **arguments)["error"]
    assert changed(desk) == {}


def test_a_gift_card_must_cover_an_exchange(desk):
    two = {"item_ids": ["i1", "i1"], "new_item_ids": ["i2", "i2"], "payment_method_id": "gift"}
    for name, order_id in (("exchange_delivered_order_items", "#2"), ("modify_pending_order_items", "#1")):
        assert run(desk, name, order_id=order_id, **two) == {"error": "the gift card has not enough balance"}
    assert changed(desk) == {}
