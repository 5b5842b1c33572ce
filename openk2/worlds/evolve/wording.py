"""How an application names and describes its tools: one manner for each, drawn once."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from openk2.worlds.policies import listed, with_article
from openk2.worlds.spec import Entity, split_role

VERBS = {
    "get": ("get", "fetch", "read", "show", "retrieve", "view", "look_up", "describe", "open"),
    "find": ("find", "locate", "resolve", "identify", "match"),
    "search": ("search", "list", "query", "browse", "filter", "lookup"),
    "aggregate": ("summarize", "report", "compute", "measure", "tally", "stats"),
    "create": ("create", "add", "new", "register", "open", "record", "insert", "set_up"),
    "set": ("set", "change", "assign", "put", "correct", "adjust"),
    "update": ("update", "edit", "modify", "patch", "revise", "amend"),
    "remove": ("delete", "remove", "drop", "erase", "purge", "discard"),
    "transfer": ("transfer", "move", "shift", "reallocate", "pass_on"),
}
LONGEST = 64  # characters that a tool's name may have
RANGES = (
    ("min_{}", "max_{}"),
    ("{}_from", "{}_to"),
    ("{}_gte", "{}_lte"),
    ("from_{}", "to_{}"),
    ("{}_after", "{}_before"),
)
RULES = (
    "Only if {}.",
    "Requires that {}.",
    "Refused unless {}.",
    "Allowed while {}.",
    "Works when {}.",
    "Condition: {}.",
)
ENDS = (("source", "target"), ("from", "to"), ("from_{}", "to_{}"), ("giver", "receiver"), ("origin", "destination"))
AMOUNTS = ("amount", "quantity", "by", "value", "units", "delta", "how_many")
LIMITS = ("limit", "max_results", "page_size", "top", "first")
NEW = ("{}", "{}", "{}", "new_{}", "{}_value")

# What a tool does. {a}: an order; {noun}; {many}: orders; {verb}, {Verb}: what people call it; {field}; {target}; {by}: a way
# to tell records, {a_by} with its article; {shown}: the fields it shows; {given}: what it takes; {key}: what the key is called.
LEADS: dict[str, tuple[str, ...]] = {
    "get": (
        "{Verb} {a} with its {shown}.", "Returns {shown} of one {noun}.", "Gives the {shown} of {a}, by {key}.",
        "Details of a single {noun}: {shown}.", "Use it to check {shown} of {a}.", "{Verb} {shown} for {a} you know.",
    ),
    "find": (
        "{Verb} {a} by {by}.", "Which {noun} has this {by}? Returns its {key}.", "{Verb} the {key} that belongs to {a_by}.",
        "Turns {a_by} into the {key} of {a}.", "Exact match on {by}; gives the {key} of the {noun}.",
    ),
    "search": (
        "{Verb} {many} by {given}; shows {shown}.", "{Many} that match {given}, with {shown}.",
        "{Verb} {many}, narrowed by {given}. Each comes with {shown}.", "Finds {many} through {given} and reports {shown}.",
        "A page of {many} filtered on {given}: {shown}.",
    ),
    "count": (
        "How many {many} there are, by {given}.", "Counts {many} that match {given}.", "Number of {many} with a certain {given}.",
    ),
    "sum": (
        "Total {field} over {many}, by {given}.", "Adds up {field} of all {many} that match {given}.",
        "{Many}: {field} summed over those with a certain {given}.",
    ),
    "mean": (
        "Average {field} of {many}, by {given}.", "Mean {field} over {many} that match {given}.",
        "What {many} have in {field} on average, narrowed by {given}.",
    ),
    "min": (
        "Lowest {field} among {many}, by {given}.", "The smallest {field} of any {noun} that matches {given}.",
    ),
    "max": (
        "Highest {field} among {many}, by {given}.", "The largest {field} of any {noun} that matches {given}.",
    ),
    "create": (
        "{Verb} {a} from {given}.", "Starts a new {noun} with {given}.", "Adds {a}: give {given}. Returns its {key}.",
        "Makes {a} out of {given}.", "Records a new {noun}; needs {given}, answers with the {key}.",
    ),
    "set": (
        "{Verb} the {field} of {a}.", "Gives {a} another {field}.", "Replaces {field} on the {noun}.",
        "Changes what the {noun} has as {field}.", "{Field} of {a}: write a new one.",
    ),
    "update": (
        "{Verb} {given} of {a}.", "Edits {a}: any of {given}.", "Changes {given} in one go; what is left out stays.",
        "Rewrites parts of {a} ({given}).", "{Verb} several facts of {a}: {given}.",
    ),
    "transition": (
        "{Verb} {a}.", "{Verb} {a}; its {field} becomes {target}.", "Marks {a} as {target}.", "Puts {a} into {target}.",
        "Moves the {noun}'s {field} to {target}.", "{Verb} one {noun} by its {key}.", "Sets {field} to {target}: {verb} {a}.",
    ),
    "add": (
        "{Verb} {field} of {a}: the number goes up.", "Raises the {field} of {a}.", "{Verb}: more {field} for the {noun}.",
        "Increases {field} on {a} ({verb}).", "Adds to the {noun}'s {field}.",
    ),
    "take": (
        "{Verb} {field} of {a}: the number goes down.", "Lowers the {field} of {a}.", "{Verb}: less {field} for the {noun}.",
        "Decreases {field} on {a} ({verb}).", "Takes from the {noun}'s {field}.",
    ),
    "transfer": (
        "{Verb} {field} between two {many}.", "Shifts {field} from one {noun} to another.", "Takes {field} off {a} and gives it to a second.",
    ),
    "remove": (
        "{Verb} {a} for good.", "Takes {a} off the books.", "Deletes the {noun} with this {key}.",
        "{Verb} {a} that nothing refers to.", "Strikes {a} from the records.",
    ),
}  # fmt: skip


class Wording:
    """Names and descriptions in one application's manner."""

    def __init__(self, application: str, rng: Random) -> None:
        self._rng = rng
        self._application = application
        self._verbs = {op: rng.choice(verbs) for op, verbs in VERBS.items()}
        self._leads = {op: rng.sample(leads, min(3, len(leads))) for op, leads in LEADS.items()}
        self._order = rng.choice(("verb", "verb", "verb", "noun"))
        self._case = rng.choice(("snake", "snake", "camel"))
        self._prefix = rng.choice(("", "", "", f"{application.lower()}_"))
        self._rule = rng.choice((*RULES, "", "", ""))
        self._says_where = rng.choice(("", "", "", " in {}", " ({})"))
        self._key = rng.choice(("{key}", "{key}", "id", "{noun}"))
        self._range, self._ends = rng.choice(RANGES), rng.choice(ENDS)
        self._amount, self._limit, self._new = rng.choice(AMOUNTS), rng.choice(LIMITS), rng.choice(NEW)

    def verb(self, op: str) -> str:
        """What this application calls an operation that has no verb of its own."""
        return self._verbs[op]

    def name(self, verb: str, thing: str) -> str:
        """The tool's name: get_invoice, invoice_get, getInvoice or ledgerline_get_invoice."""
        parts = (verb, thing) if self._order == "verb" else (thing, verb)
        name = "_".join(parts)
        return self._cased(self._prefix + name if len(self._prefix + name) <= LONGEST else name)

    def parameter(self, role: str, entity: Entity, op: str) -> str:
        """What a parameter of this role is called."""
        field, comparison = split_role(role)
        match role:
            case "key":
                name = self._key.format(key=entity.key, noun=entity.name)
            case "source":
                name = self._ends[0].format(entity.name)
            case "target":
                name = self._ends[1].format(entity.name)
            case "amount":
                name = self._amount
            case "limit":
                name = self._limit
            case _ if comparison != "=":
                name = self._range[comparison == "<="].format(field)
            case _:
                name = self._new.format(field) if op in ("set", "update") else field
        return self._cased(name)

    def description(self, op: str, entity: Entity, facts: Sequence[str], **slots: str) -> str:
        """What the tool does, and, where this application says so, the facts it requires."""
        many = plural(entity.label)
        if "by" in slots:
            slots["a_by"] = with_article(slots["by"])
        words = {
            "noun": entity.label,
            "a": with_article(entity.label),
            "many": many,
            "key": entity.fields[0].label,
            **slots,
        }
        capital = {f"{name[0].upper()}{name[1:]}": word[:1].upper() + word[1:] for name, word in words.items()}
        lead = self._rng.choice(self._leads[op]).format(**words, **capital)
        if self._says_where:
            lead = lead.removesuffix(".") + self._says_where.format(self._application) + "."
        return f"{lead} {self._rule.format(listed(facts, 'and'))}" if facts and self._rule else lead

    def _cased(self, name: str) -> str:
        if self._case == "snake":
            return name
        first, *rest = name.split("_")
        return first + "".join(word.capitalize() for word in rest)


def plural(noun: str) -> str:
    """``orders``, ``companies``, ``batches``; the last noun of a compound, the first before ``of``."""
    head, of, rest = noun.partition(" of ")
    if head.endswith("y") and head[-2] not in "aeiou":
        head = head[:-1] + "ie"
    elif head.endswith(("s", "x", "ch", "sh")):
        head += "e"
    return f"{head}s{of}{rest}"
