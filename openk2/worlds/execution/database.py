"""SQL: an SQLite file in the box, to ask and to change; judged by its rows."""

from __future__ import annotations

from random import Random

from openk2.worlds.execution.exercise import Exercise, gone, has, only, says

NAMES = ("Ada", "Bea", "Cid", "Dora", "Egon", "Fay", "Gus")
GOODS = ("lamp", "chair", "desk", "shelf")


def write(rng: Random) -> Exercise:
    """Customers with orders, and something to find out or to change."""
    customers = dict(enumerate(rng.sample(NAMES, 4), 1))
    orders = {
        number: (rng.choice(list(customers)), rng.choice(GOODS), rng.randint(1, 9), rng.choice(("open", "shipped")))
        for number in range(1, 13)
    }  # fmt: skip
    lines = ["CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL);"]
    lines += [
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, item TEXT NOT NULL, "
        "quantity INTEGER NOT NULL, status TEXT NOT NULL);"
    ]
    lines += [f"INSERT INTO customers VALUES ({number}, '{name}');" for number, name in customers.items()]
    lines += [
        f"INSERT INTO orders VALUES ({number}, {c}, '{i}', {q}, '{s}');" for number, (c, i, q, s) in orders.items()
    ]
    files, setup = (
        {"data.sql": "\n".join(lines) + "\n"},
        "python3 -c \"import sqlite3; sqlite3.connect('data.db').executescript(open('data.sql').read())\"",
    )
    customer = rng.choice(sorted({order[0] for order in orders.values()}))
    name = customers[customer]
    mine = {number: order for number, order in orders.items() if order[0] == customer}
    match rng.choice(("ask", "ship", "cancel")):
        case "ask":
            total = sum(order[2] for order in mine.values())
            sql = f"SELECT SUM(quantity) AS total FROM orders JOIN customers ON customers.id = customer WHERE name = '{name}'"
            return Exercise(
                "ask", f"How many pieces has {name} ordered in all, by data.db?", files, (("query", {"sql": sql}),),
                (says(total), only()), answer=f"{name} ordered {total}.", setup=setup,
            )  # fmt: skip
        case "ship":
            number = rng.choice(list(mine))
            status, item = "returned", mine[number][1]
            return Exercise(
                "ship", f"In data.db, set the status of order {number} to returned.", files,
                (("query", {"sql": f"UPDATE orders SET status = 'returned' WHERE id = {number}"}),),
                (has("orders", str(number), status=status, item=item), only(("orders", str(number)))), setup=setup,
            )  # fmt: skip
    sql = f"DELETE FROM orders WHERE customer = (SELECT id FROM customers WHERE name = '{name}')"
    return Exercise(
        "cancel", f"In data.db, delete all orders of {name}; {name} stays a customer.", files, (("query", {"sql": sql}),),
        (*(gone("orders", str(n)) for n in mine), only(*(("orders", str(n)) for n in mine))), setup=setup,
    )  # fmt: skip
