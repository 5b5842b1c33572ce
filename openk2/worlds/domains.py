"""The apps, as data: ten domains, each with at least five tools, reads and writes, and preconditions."""

from __future__ import annotations

from collections.abc import Callable

from openk2.worlds.author import (
    add,
    among,
    app,
    create,
    entity,
    enum,
    find,
    get,
    move,
    put,
    ref,
    take,
    transfer,
    unique,
)
from openk2.worlds.spec import App, Field


def shop() -> App:
    """Orders and customers of a web shop."""
    customer = entity(
        "customer",
        Field("name", "name"),
        unique(Field("email", "email")),
        Field("city", "word"),
        Field("points", "amount"),
    )
    order = entity(
        "order", ref("customer"), Field("item", "word"), Field("total", "amount"), Field("address", "word"),
        enum("status", "pending", "paid", "shipped", "cancelled"),
    )  # fmt: skip
    return app(
        "shop", (customer, order),
        get(order), get(customer), find(customer, "email"), create(order, "customer", "item"),
        put(order, "address", among("status", "pending", "paid")), put(customer, "city"),
        move("cancel", order, "status", "cancelled", "pending", "paid"), move("ship", order, "status", "shipped", "paid"),
        add("add", customer, "points"), take("redeem", customer, "points"),
    )  # fmt: skip


def library() -> App:
    """Books, members and loans."""
    member = entity("member", Field("name", "name"), unique(Field("email", "email")), Field("fines", "amount"))
    loan = entity(
        "loan",
        ref("member"),
        unique(Field("book", "word")),
        Field("due_date", "date"),
        enum("state", "open", "renewed", "overdue", "returned"),
    )
    return app(
        "library", (member, loan),
        get(loan), get(member), find(member, "email"), find(loan, "book"), create(loan, "member", "book"),
        put(loan, "due_date", among("state", "open", "renewed")),
        move("renew", loan, "state", "renewed", "open"), move("return", loan, "state", "returned", "open", "renewed", "overdue"),
        add("charge", member, "fines"), take("waive", member, "fines"),
    )  # fmt: skip


def bank() -> App:
    """Accounts and the people who own them."""
    owner = entity("owner", Field("name", "name"), unique(Field("phone", "code")), Field("city", "word"))
    account = entity(
        "account", ref("owner"), unique(Field("iban", "code")), Field("balance", "amount"), Field("branch", "word"),
        enum("status", "active", "frozen", "closed"),
    )  # fmt: skip
    return app(
        "bank", (owner, account),
        get(account), get(owner), find(account, "iban"), find(owner, "phone"), create(account, "owner", "iban", verb="open"),
        put(account, "branch", among("status", "active")),
        move("freeze", account, "status", "frozen", "active"), move("close", account, "status", "closed", "active", "frozen"),
        add("deposit", account, "balance"), take("withdraw", account, "balance", among("status", "active")),
        transfer("transfer", account, "balance", among("status", "active")),
    )  # fmt: skip


def support() -> App:
    """Support tickets and the agents who work on them."""
    agent = entity(
        "agent",
        Field("name", "name"),
        unique(Field("email", "email")),
        Field("team", "word"),
        Field("open_cases", "amount"),
    )
    ticket = entity(
        "ticket", ref("agent"), unique(Field("subject", "word")), enum("priority", "low", "normal", "urgent"),
        Field("created", "date"), Field("minutes", "amount"), enum("status", "new", "waiting", "solved", "archived"),
    )  # fmt: skip
    return app(
        "support", (agent, ticket),
        get(ticket), get(agent), find(ticket, "subject"), find(agent, "email"), create(ticket, "agent", "subject"),
        put(ticket, "priority", among("status", "new", "waiting")), put(agent, "team"),
        move("solve", ticket, "status", "solved", "new", "waiting"), move("archive", ticket, "status", "archived", "solved"),
        add("log", ticket, "minutes", among("status", "new", "waiting")),
    )  # fmt: skip


def hotel() -> App:
    """Bookings and guests."""
    guest = entity(
        "guest",
        Field("name", "name"),
        unique(Field("email", "email")),
        Field("country", "word"),
        Field("credit", "amount"),
    )
    booking = entity(
        "booking", ref("guest"), unique(Field("room", "code")), Field("arrival", "date"), Field("price", "amount"),
        enum("stage", "reserved", "checked_in", "departed", "void"),
    )  # fmt: skip
    return app(
        "hotel", (guest, booking),
        get(booking), get(guest), find(booking, "room"), find(guest, "email"), create(booking, "guest", "arrival"),
        put(booking, "arrival", among("stage", "reserved")), put(booking, "price"),
        move("admit", booking, "stage", "checked_in", "reserved"), move("void", booking, "stage", "void", "reserved"),
        add("grant", guest, "credit"), transfer("pass", guest, "credit"),
    )  # fmt: skip


def inventory() -> App:
    """Products and the bins they lie in."""
    supplier = entity(
        "supplier", Field("company", "word"), unique(Field("contact", "email")), Field("rating", "amount")
    )
    product = entity(
        "product", ref("supplier"), unique(Field("label", "word")), Field("stock", "amount"), Field("shelf", "code"),
        enum("grade", "regular", "clearance", "retired"),
    )  # fmt: skip
    return app(
        "inventory", (supplier, product),
        get(product), get(supplier), find(product, "label"), find(supplier, "contact"), create(product, "supplier", "label"),
        put(product, "shelf", among("grade", "regular", "clearance")),
        move("discount", product, "grade", "clearance", "regular"), move("retire", product, "grade", "retired", "regular", "clearance"),
        add("restock", product, "stock", among("grade", "regular")), take("sell", product, "stock"),
        transfer("shift", product, "stock"),
    )  # fmt: skip


def fitness() -> App:
    """Memberships, plans and trainers of a gym."""
    trainer = entity("trainer", Field("name", "name"), unique(Field("handle", "word")), Field("fee", "amount"))
    membership = entity(
        "membership", ref("trainer"), unique(Field("email", "email")), Field("expires", "date"), Field("visits", "amount"),
        enum("plan", "basic", "plus", "premium"), enum("standing", "valid", "paused", "ended"),
    )  # fmt: skip
    return app(
        "fitness", (trainer, membership),
        get(membership), get(trainer), find(membership, "email"), find(trainer, "handle"), create(membership, "trainer", "email"),
        put(membership, "plan", among("standing", "valid")), put(membership, "expires"), put(trainer, "fee"),
        move("pause", membership, "standing", "paused", "valid"), move("end", membership, "standing", "ended", "valid", "paused"),
        add("book", membership, "visits", among("standing", "valid")), transfer("gift", membership, "visits"),
    )  # fmt: skip


def clinic() -> App:
    """Patients and their appointments."""
    patient = entity(
        "patient",
        Field("name", "name"),
        unique(Field("insurance", "code")),
        Field("doctor", "word"),
        Field("debt", "amount"),
    )
    appointment = entity(
        "appointment", ref("patient"), unique(Field("slot", "time")), Field("day", "date"), Field("symptom", "word"),
        enum("phase", "planned", "confirmed", "attended", "missed"),
    )  # fmt: skip
    return app(
        "clinic", (patient, appointment),
        get(appointment), get(patient), find(patient, "insurance"), find(appointment, "slot"),
        create(appointment, "patient", "symptom", verb="schedule"),
        put(appointment, "day", among("phase", "planned", "confirmed")), put(patient, "doctor"),
        move("confirm", appointment, "phase", "confirmed", "planned"), move("attend", appointment, "phase", "attended", "confirmed"),
        add("bill", patient, "debt"), take("settle", patient, "debt"), transfer("reassign", patient, "debt"),
    )  # fmt: skip


def parcels() -> App:
    """Parcels and the depots that hold them."""
    depot = entity("depot", Field("town", "word"), unique(Field("postcode", "code")), Field("capacity", "amount"))
    parcel = entity(
        "parcel", ref("depot"), unique(Field("tracking", "code")), Field("weight", "amount"), Field("recipient", "name"),
        enum("progress", "posted", "sorted", "delivered", "lost"),
    )  # fmt: skip
    return app(
        "parcels", (depot, parcel),
        get(parcel), get(depot), find(parcel, "tracking"), find(depot, "postcode"), create(parcel, "depot", "recipient", verb="post"),
        put(parcel, "recipient", among("progress", "posted", "sorted")), put(depot, "town"),
        move("sort", parcel, "progress", "sorted", "posted"), move("deliver", parcel, "progress", "delivered", "sorted"),
        add("expand", depot, "capacity"), take("shrink", depot, "capacity"), transfer("rebalance", depot, "capacity"),
    )  # fmt: skip


def garage() -> App:
    """Vehicles and the repairs done on them."""
    vehicle = entity(
        "vehicle",
        Field("driver", "name"),
        unique(Field("plate", "code")),
        Field("colour", "word"),
        Field("mileage", "amount"),
    )
    repair = entity(
        "repair", ref("vehicle"), unique(Field("part", "word")), Field("cost", "amount"), Field("ready_on", "date"),
        enum("job", "quoted", "approved", "finished", "abandoned"),
    )  # fmt: skip
    return app(
        "garage", (vehicle, repair),
        get(repair), get(vehicle), find(vehicle, "plate"), find(repair, "part"), create(repair, "vehicle", "part", verb="quote"),
        put(repair, "ready_on", among("job", "quoted", "approved")), put(vehicle, "colour"),
        move("approve", repair, "job", "approved", "quoted"), move("finish", repair, "job", "finished", "approved"),
        add("drive", vehicle, "mileage"), take("rebate", repair, "cost"), transfer("split", repair, "cost"),
    )  # fmt: skip


MAKERS: tuple[Callable[[], App], ...] = (
    shop, library, bank, support, hotel, inventory, fitness, clinic, parcels, garage,
)  # fmt: skip
APPS: dict[str, App] = {maker.__name__: maker() for maker in MAKERS}


def find_app(name: str) -> App:
    """The app ``name``. Raises ValueError, listing what there is."""
    if name not in APPS:
        raise ValueError(f"no app called {name!r}; there are {', '.join(APPS)}")
    return APPS[name]
