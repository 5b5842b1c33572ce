"""The tools of tau2-bench's retail domain, written from its policy, its data and its tasks' calls.

Records: ``users`` (with payment methods), ``orders`` (with items, status, payments), ``products`` (with variants).
Money is rounded to cents after every step. A gift card is paid and refunded at once, other methods elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from openk2.schema import JSON
from openk2.worlds.neighbours.arithmetic import evaluate
from openk2.worlds.neighbours.desk import tool, transfer_to_human_agents
from openk2.worlds.neighbours.records import Records
from openk2.worlds.tools import Refusal

# ---------------------------------------------------------------------------------------------
# Looking up
# ---------------------------------------------------------------------------------------------


@tool(writes=False)
def find_user_id_by_email(shop: Records, email: str) -> JSON:
    """Find a user id by email address."""
    return _the_user(shop, {"email": email})


@tool(writes=False)
def find_user_id_by_name_zip(shop: Records, first_name: str, last_name: str, zip: str) -> JSON:
    """Find a user id by first name, last name and zip code."""
    return _the_user(shop, {"name.first_name": first_name, "name.last_name": last_name, "address.zip": zip})


@tool(writes=False)
def get_user_details(shop: Records, user_id: str) -> JSON:
    """Show a user's profile: name, email, default address, payment methods and the ids of all orders."""
    return _record(shop, "users", user_id)


@tool(writes=False)
def get_order_details(shop: Records, order_id: str) -> JSON:
    """Show an order: status, items, address, fulfillments and payments. Order ids begin with "#"."""
    return _record(shop, "orders", order_id)


@tool(writes=False)
def list_all_product_types(shop: Records) -> JSON:
    """List the names of all product types, each with its product id."""
    return {product["name"]: product["product_id"] for product in shop.find("products", {})}


@tool(writes=False)
def get_product_details(shop: Records, product_id: str) -> JSON:
    """Show a product type: all its variant items with options, availability and price. Takes no item id."""
    return _record(shop, "products", product_id)


@tool(writes=False)
def get_item_details(shop: Records, item_id: str) -> JSON:
    """Show a variant item: options, availability and price. Takes no product id."""
    for product in shop.find("products", {}):
        if item_id in product["variants"]:
            return {"name": product["name"], "product_id": product["product_id"], **product["variants"][item_id]}
    raise Refusal("item not found")


@tool(writes=False)
def calculate(shop: Records, expression: str) -> JSON:
    """Work out an expression of numbers, + - * / and parentheses; the result is rounded to cents."""
    try:
        return {"result": round(evaluate(expression), 2)}
    except ValueError as error:
        raise Refusal(str(error)) from error


# ---------------------------------------------------------------------------------------------
# Pending orders
# ---------------------------------------------------------------------------------------------


@tool(writes=True)
def cancel_pending_order(
    shop: Records, order_id: str, reason: Literal["no longer needed", "ordered by mistake"]
) -> JSON:
    """Cancel a pending order and refund its payments to where they came from.

    Ask the user for an explicit yes to the order and the reason first.
    """
    order = _order(shop, order_id, "pending")
    for payment in list(order["payment_history"]):
        _pay_back(shop, order, payment["payment_method_id"], payment["amount"])
    order |= {"status": "cancelled", "cancel_reason": reason}
    shop.put("orders", order_id, order)
    return order


@tool(writes=True)
def modify_pending_order_address(
    shop: Records, order_id: str, address1: str, address2: str, city: str, state: str, country: str, zip: str
) -> JSON:
    """Change the shipping address of a pending order. Ask the user for an explicit yes first."""
    order = _order(shop, order_id, "pending")
    order["address"] = _address(address1, address2, city, state, country, zip)
    shop.put("orders", order_id, order)
    return order


@tool(writes=True)
def modify_pending_order_payment(shop: Records, order_id: str, payment_method_id: str) -> JSON:
    """Pay a pending order by another of the user's methods; the first is refunded. Ask for an explicit yes first."""
    order = _order(shop, order_id, "pending")
    if len(order["payment_history"]) != 1:
        raise Refusal("the order's payment was changed before")
    first = order["payment_history"][0]
    if first["payment_method_id"] == payment_method_id:
        raise Refusal("the order is paid by that method already")
    _pay(shop, order, payment_method_id, first["amount"])
    _pay_back(shop, order, first["payment_method_id"], first["amount"])
    shop.put("orders", order_id, order)
    return order


@tool(writes=True)
def modify_pending_order_items(
    shop: Records, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
) -> JSON:
    """Change items of a pending order to other variants of the same products, once, in one call.

    The n-th new item takes the place of the n-th old one. The payment method pays or receives the difference in price.
    Ask the user for an explicit yes first.
    """
    order = _order(shop, order_id, "pending")
    variants = _exchange(shop, order, item_ids, new_item_ids)
    difference = _difference(order, item_ids, variants)
    if difference > 0:
        _pay(shop, order, payment_method_id, difference)
    else:
        _pay_back(shop, order, payment_method_id, -difference)
    for old, variant in zip(item_ids, variants, strict=True):
        _item(order, old).update({key: variant[key] for key in ("item_id", "price", "options")})
    order["status"] = "pending (items modified)"
    shop.put("orders", order_id, order)
    return order


# ---------------------------------------------------------------------------------------------
# Delivered orders
# ---------------------------------------------------------------------------------------------


@tool(writes=True)
def return_delivered_order_items(shop: Records, order_id: str, item_ids: list[str], payment_method_id: str) -> JSON:
    """Request the return of items of a delivered order, refunded to the original payment method or to a gift card.

    Ask the user for an explicit yes first.
    """
    order = _order(shop, order_id, "delivered")
    _check_items(order, item_ids)
    method = _method(shop, order, payment_method_id)
    if method["source"] != "gift_card" and payment_method_id != order["payment_history"][0]["payment_method_id"]:
        raise Refusal("a refund goes to the original payment method or to a gift card")
    order |= {
        "status": "return requested",
        "return_items": sorted(item_ids),
        "return_payment_method_id": payment_method_id,
    }
    shop.put("orders", order_id, order)
    return order


@tool(writes=True)
def exchange_delivered_order_items(
    shop: Records, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
) -> JSON:
    """Request the exchange of items of a delivered order for other variants of the same products, once, in one call.

    The n-th new item is for the n-th old one. The payment method pays or receives the difference in price later.
    Ask the user for an explicit yes first.
    """
    order = _order(shop, order_id, "delivered")
    difference = _difference(order, item_ids, _exchange(shop, order, item_ids, new_item_ids))
    _check_balance(_method(shop, order, payment_method_id), difference)
    order |= {
        "status": "exchange requested",
        "exchange_items": sorted(item_ids),
        "exchange_new_items": sorted(new_item_ids),
        "exchange_payment_method_id": payment_method_id,
        "exchange_price_difference": difference,
    }
    shop.put("orders", order_id, order)
    return order


# ---------------------------------------------------------------------------------------------
# Users
# ---------------------------------------------------------------------------------------------


@tool(writes=True)
def modify_user_address(
    shop: Records, user_id: str, address1: str, address2: str, city: str, state: str, country: str, zip: str
) -> JSON:
    """Change a user's default address. Ask the user for an explicit yes first."""
    user = _record(shop, "users", user_id)
    user["address"] = _address(address1, address2, city, state, country, zip)
    shop.put("users", user_id, user)
    return user


TOOLS = {
    each.spec.name: each
    for each in (
        find_user_id_by_email,
        find_user_id_by_name_zip,
        get_user_details,
        get_order_details,
        list_all_product_types,
        get_product_details,
        get_item_details,
        calculate,
        cancel_pending_order,
        modify_pending_order_address,
        modify_pending_order_payment,
        modify_pending_order_items,
        return_delivered_order_items,
        exchange_delivered_order_items,
        modify_user_address,
        transfer_to_human_agents,
    )
}


# ---------------------------------------------------------------------------------------------
# Checks and steps the tools share. All checks of a call come before its first write.
# ---------------------------------------------------------------------------------------------


def _the_user(shop: Records, wanted: dict[str, str]) -> JSON:
    found = shop.find("users", wanted)
    if not found:
        raise Refusal("user not found")
    return {"user_id": found[0]["user_id"]}


def _record(shop: Records, entity: str, key: str) -> JSON:
    record = shop.get(entity, key)
    if record is None:
        raise Refusal(f"{entity.removesuffix('s')} not found")
    return record


def _order(shop: Records, order_id: str, status: str) -> JSON:
    order = _record(shop, "orders", order_id)
    if order["status"] != status:
        raise Refusal(f"the order is {order['status']}, not {status}")
    return order


def _address(address1: str, address2: str, city: str, state: str, country: str, zip: str) -> JSON:
    return {"address1": address1, "address2": address2, "city": city, "state": state, "country": country, "zip": zip}


def _item(order: JSON, item_id: str) -> Any:
    return next(item for item in order["items"] if item["item_id"] == item_id)


def _check_items(order: JSON, item_ids: Sequence[str]) -> None:
    if not item_ids:
        raise Refusal("no items are named")
    if Counter(item_ids) - Counter(item["item_id"] for item in order["items"]):
        raise Refusal("the order has not all of these items")


def _exchange(shop: Records, order: JSON, item_ids: Sequence[str], new_item_ids: Sequence[str]) -> list[JSON]:
    """The variants that come in place of the items."""
    _check_items(order, item_ids)
    if len(item_ids) != len(new_item_ids):
        raise Refusal("as many new items are needed as old ones")
    variants = []
    for old, new in zip(item_ids, new_item_ids, strict=True):
        variant = _record(shop, "products", _item(order, old)["product_id"])["variants"].get(new)
        if variant is None:
            raise Refusal("a new item is not of the old one's product")
        if not variant["available"]:
            raise Refusal("a new item is not available")
        variants.append(variant)
    return variants


def _difference(order: JSON, item_ids: Sequence[str], variants: Sequence[JSON]) -> float:
    """What the new items cost more than the old."""
    new = sum(variant["price"] for variant in variants)
    return round(new - sum(_item(order, item_id)["price"] for item_id in item_ids), 2)


def _method(shop: Records, order: JSON, payment_method_id: str) -> JSON:
    methods = _record(shop, "users", order["user_id"])["payment_methods"]
    if payment_method_id not in methods:
        raise Refusal("the user has no such payment method")
    return dict(methods[payment_method_id])


def _check_balance(method: JSON, amount: float) -> None:
    if method["source"] == "gift_card" and method["balance"] < amount:
        raise Refusal("the gift card has not enough balance")


def _pay(shop: Records, order: JSON, payment_method_id: str, amount: float) -> None:
    _check_balance(_method(shop, order, payment_method_id), amount)
    _book(shop, order, "payment", payment_method_id, amount, -amount)


def _pay_back(shop: Records, order: JSON, payment_method_id: str, amount: float) -> None:
    _method(shop, order, payment_method_id)
    _book(shop, order, "refund", payment_method_id, amount, amount)


def _book(shop: Records, order: JSON, kind: str, payment_method_id: str, amount: float, onto_card: float) -> None:
    """Note a transaction in the order, and move the money where the method is a gift card."""
    order["payment_history"].append(
        {"transaction_type": kind, "amount": amount, "payment_method_id": payment_method_id}
    )
    user = _record(shop, "users", order["user_id"])
    method = user["payment_methods"][payment_method_id]
    if method["source"] == "gift_card":
        method["balance"] = round(method["balance"] + onto_card, 2)
        shop.put("users", order["user_id"], user)
