"""Small modules with their tests and the bugs that people make in them: what the bundled repositories are made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bug:
    """A slip: ``right`` stands once in the source, and becomes ``wrong``. ``report`` is what a user writes about it."""

    right: str
    wrong: str
    report: str
    fails: tuple[str, ...]  # tests, by method


@dataclass(frozen=True, slots=True)
class Module:
    """A module, its tests, and its bugs. PACKAGE stands for the package's name."""

    name: str
    source: str
    tests: str
    bugs: tuple[Bug, ...]


MODULES = (
    Module(
        "sizes",
        '''"""Sizes in bytes, read and written."""

UNITS = ("B", "KB", "MB", "GB")


def parse_size(text):
    """The number of bytes that a text such as "1.5 KB" names. Raises ValueError for anything else."""
    number, _, unit = text.strip().partition(" ")
    unit = unit.strip().upper() or "B"
    if unit not in UNITS:
        raise ValueError(f"unknown unit {unit!r}")
    size = float(number) * 1024 ** UNITS.index(unit)
    if size < 0:
        raise ValueError("a size is not negative")
    return round(size)


def format_size(size):
    """The shortest text for a number of bytes, with one decimal from KB on."""
    place = 0
    while size >= 1024 and place < len(UNITS) - 1:
        size /= 1024
        place += 1
    return f"{size:.1f} {UNITS[place]}" if place else f"{size} B"
''',
        '''import unittest

from PACKAGE.sizes import format_size, parse_size


class SizesTest(unittest.TestCase):
    def test_parse_plain(self):
        self.assertEqual(parse_size("12"), 12)
        self.assertEqual(parse_size("12 B"), 12)

    def test_parse_units(self):
        self.assertEqual(parse_size("1 KB"), 1024)
        self.assertEqual(parse_size(" 1.5 MB "), 1572864)
        self.assertEqual(parse_size("2  gb"), 2 * 1024**3)

    def test_parse_refuses(self):
        for text in ("1 XB", "-1 KB", "", "KB"):
            with self.assertRaises(ValueError):
                parse_size(text)

    def test_format_small(self):
        self.assertEqual(format_size(0), "0 B")
        self.assertEqual(format_size(1023), "1023 B")

    def test_format_edges(self):
        self.assertEqual(format_size(1024), "1.0 KB")
        self.assertEqual(format_size(1536), "1.5 KB")
        self.assertEqual(format_size(1024**2), "1.0 MB")

    def test_format_huge(self):
        self.assertEqual(format_size(5 * 1024**4), "5120.0 GB")
''',
        (
            Bug("size >= 1024 and", "size > 1024 and", 'format_size(1024) says "1024 B"; it should say "1.0 KB". The same happens at other full units.', ("test_format_edges",)),
            Bug('unit.strip().upper() or "B"', 'unit.upper() or "B"', 'parse_size("2  gb") raises ValueError. Several spaces before the unit should be fine.', ("test_parse_units",)),
            Bug("    if size < 0:\n        raise ValueError(\"a size is not negative\")\n", "", 'parse_size("-1 KB") gives -1024. Negative sizes should be refused with ValueError.', ("test_parse_refuses",)),
            Bug("place < len(UNITS) - 1", "place < len(UNITS)", "format_size crashes with IndexError for many terabytes; the largest unit should go on, as in 5120.0 GB.", ("test_format_huge",)),
        ),
    ),
    Module(
        "ledger",
        '''"""Accounts with money in whole cents."""


class Overdrawn(Exception):
    """An account does not hold what was asked of it."""


class Ledger:
    """Balances by account, and the history of what changed them."""

    def __init__(self):
        self.balances = {}
        self.history = []

    def deposit(self, account, cents):
        """Put money in. Raises ValueError for an amount that is not positive."""
        if cents <= 0:
            raise ValueError("an amount is positive")
        self.balances[account] = self.balances.get(account, 0) + cents
        self.history.append(("deposit", account, cents))

    def withdraw(self, account, cents):
        """Take money out. Raises Overdrawn where there is too little, ValueError for an amount that is not positive."""
        if cents <= 0:
            raise ValueError("an amount is positive")
        if self.balances.get(account, 0) < cents:
            raise Overdrawn(account)
        self.balances[account] -= cents
        self.history.append(("withdraw", account, cents))

    def transfer(self, source, target, cents):
        """Move money, or change nothing at all."""
        self.withdraw(source, cents)
        self.deposit(target, cents)

    def shares(self, account, parts):
        """A balance in so many shares that differ by a cent at most, larger ones first, and sum to it."""
        each, rest = divmod(self.balances.get(account, 0), parts)
        return [each + 1] * rest + [each] * (parts - rest)
''',
        '''import unittest

from PACKAGE.ledger import Ledger, Overdrawn


class LedgerTest(unittest.TestCase):
    def setUp(self):
        self.ledger = Ledger()
        self.ledger.deposit("ada", 100)

    def test_deposit_adds(self):
        self.ledger.deposit("ada", 50)
        self.assertEqual(self.ledger.balances, {"ada": 150})

    def test_amounts_are_positive(self):
        for cents in (0, -5):
            with self.assertRaises(ValueError):
                self.ledger.deposit("ada", cents)
            with self.assertRaises(ValueError):
                self.ledger.withdraw("ada", cents)

    def test_all_can_be_withdrawn(self):
        self.ledger.withdraw("ada", 100)
        self.assertEqual(self.ledger.balances["ada"], 0)

    def test_too_much_is_refused(self):
        with self.assertRaises(Overdrawn):
            self.ledger.withdraw("ada", 101)
        with self.assertRaises(Overdrawn):
            self.ledger.withdraw("bea", 1)
        self.assertEqual(self.ledger.balances, {"ada": 100})

    def test_transfer_is_all_or_nothing(self):
        with self.assertRaises(Overdrawn):
            self.ledger.transfer("ada", "bea", 101)
        self.assertEqual(self.ledger.balances, {"ada": 100})
        self.ledger.transfer("ada", "bea", 30)
        self.assertEqual(self.ledger.balances, {"ada": 70, "bea": 30})

    def test_history_tells_both_sides(self):
        self.ledger.transfer("ada", "bea", 30)
        self.assertEqual(self.ledger.history[1:], [("withdraw", "ada", 30), ("deposit", "bea", 30)])

    def test_shares_sum_to_the_balance(self):
        self.assertEqual(self.ledger.shares("ada", 3), [34, 33, 33])
        self.assertEqual(self.ledger.shares("ada", 4), [25] * 4)
        self.assertEqual(self.ledger.shares("nobody", 2), [0, 0])
''',
        (
            Bug("self.balances.get(account, 0) < cents", "self.balances.get(account, 0) <= cents", "An account's whole balance cannot be withdrawn: Overdrawn is raised although the money is there.", ("test_all_can_be_withdrawn",)),
            Bug("        self.withdraw(source, cents)\n        self.deposit(target, cents)\n", "        self.deposit(target, cents)\n        self.withdraw(source, cents)\n", "When a transfer fails because the source holds too little, the target has the money all the same. Also the history tells the deposit before the withdrawal.", ("test_transfer_is_all_or_nothing", "test_history_tells_both_sides")),
            Bug("[each + 1] * rest + [each] * (parts - rest)", "[each] * (parts - 1) + [each + rest]", "shares puts the whole remainder into one share: 100 cents in 3 gives 33, 33, 34, and with larger remainders the shares differ by more than a cent. Larger shares should come first.", ("test_shares_sum_to_the_balance",)),
        ),
    ),
    Module(
        "tables",
        '''"""Tables of text as lists of rows."""


def read_table(text, separator=","):
    """Rows of stripped cells; empty lines and lines that begin with # are left out."""
    rows = []
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        rows.append([cell.strip() for cell in line.split(separator)])
    return rows


def records(rows):
    """Rows as dictionaries by the first row's names. Raises ValueError, with its place, for a row of another length."""
    if not rows:
        return []
    names = rows[0]
    found = []
    for place, row in enumerate(rows[1:], 1):
        if len(row) != len(names):
            raise ValueError(f"row {place} has {len(row)} cells, not {len(names)}")
        found.append(dict(zip(names, row)))
    return found


def group(found, name):
    """Records by their value under a name, in order of first appearance."""
    groups = {}
    for record in found:
        groups.setdefault(record[name], []).append(record)
    return groups


def render(rows):
    """Rows as aligned text, two spaces between columns and none at the end of a line."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))] if rows else []
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows]
    return "\\n".join(line.rstrip() for line in lines)
''',
        '''import unittest

from PACKAGE.tables import group, read_table, records, render

TEXT = "name, town\\n# a remark\\n\\nAda , Bruck\\nBea,Arlen\\nCid,Bruck\\n"


class TablesTest(unittest.TestCase):
    def test_read(self):
        self.assertEqual(read_table(TEXT)[:2], [["name", "town"], ["Ada", "Bruck"]])
        self.assertEqual(len(read_table(TEXT)), 4)

    def test_read_other_separator(self):
        self.assertEqual(read_table("a;b,c", ";"), [["a", "b,c"]])

    def test_indented_remarks(self):
        self.assertEqual(read_table("  # no\\n a,b"), [["a", "b"]])

    def test_records(self):
        self.assertEqual(records(read_table(TEXT))[0], {"name": "Ada", "town": "Bruck"})
        self.assertEqual(len(records(read_table(TEXT))), 3)
        self.assertEqual(records([]), [])

    def test_ragged_rows(self):
        with self.assertRaisesRegex(ValueError, "row 2 has 1 cells, not 2"):
            records([["a", "b"], ["1", "2"], ["3"]])
        with self.assertRaises(ValueError):
            records([["a"], ["1", "2"]])

    def test_group(self):
        groups = group(records(read_table(TEXT)), "town")
        self.assertEqual([len(found) for found in groups.values()], [2, 1])
        self.assertEqual(list(groups), ["Bruck", "Arlen"])

    def test_render(self):
        self.assertEqual(render([["a", "bb"], ["ccc", "d"]]), "a    bb\\nccc  d")
        self.assertEqual(render([]), "")
''',
        (
            Bug("if len(row) != len(names):", "if len(row) < len(names):", "records drops cells silently when a row is longer than the header; it should raise ValueError as it does for a row too short.", ("test_ragged_rows",)),
            Bug("enumerate(rows[1:], 1)", "enumerate(rows[1:])", "The error about a row of the wrong length names the row before it: counting should begin with 1 after the header.", ("test_ragged_rows",)),
            Bug("        line = line.strip()\n", "", "A remark that is indented (\"  # no\") is read as a row.", ("test_indented_remarks",)),
            Bug('"\\n".join(line.rstrip() for line in lines)', '"\\n".join(lines)', "render leaves spaces at the end of lines whose last cell is short.", ("test_render",)),
            Bug("line.split(separator)", 'line.split(",")', "read_table ignores its separator: a;b,c with ; is split at the comma.", ("test_read_other_separator",)),
        ),
    ),
    Module(
        "schedule",
        '''"""Appointments of a day, in minutes since midnight."""


def parse_time(text):
    """Minutes since midnight of a text such as 9:05 or 23:59. Raises ValueError for anything else."""
    hours, _, minutes = text.partition(":")
    if not (hours.isdigit() and minutes.isdigit() and len(minutes) == 2):
        raise ValueError(f"{text!r} is no time")
    if int(hours) > 23 or int(minutes) > 59:
        raise ValueError(f"{text!r} is no time of a day")
    return int(hours) * 60 + int(minutes)


class Day:
    """Appointments (start, end, name) that never overlap, in order."""

    def __init__(self):
        self.appointments = []

    def add(self, start, end, name):
        """Add one. Raises ValueError when it ends before it starts, or overlaps another; touching is fine."""
        start, end = parse_time(start), parse_time(end)
        if end <= start:
            raise ValueError("it ends before it starts")
        for other_start, other_end, other in self.appointments:
            if start < other_end and other_start < end:
                raise ValueError(f"it overlaps {other}")
        self.appointments.append((start, end, name))
        self.appointments.sort()

    def free(self, length, start="8:00", end="18:00"):
        """The first free start, in minutes, for so many minutes within hours; None where there is none."""
        at, last = parse_time(start), parse_time(end)
        for other_start, other_end, _ in self.appointments:
            if other_start - at >= length:
                break
            at = max(at, other_end)
        return at if at + length <= last else None
''',
        '''import unittest

from PACKAGE.schedule import Day, parse_time


class ScheduleTest(unittest.TestCase):
    def setUp(self):
        self.day = Day()
        self.day.add("9:00", "10:00", "talk")
        self.day.add("8:30", "9:00", "tea")

    def test_times(self):
        self.assertEqual(parse_time("0:00"), 0)
        self.assertEqual(parse_time("9:05"), 545)
        self.assertEqual(parse_time("23:59"), 1439)

    def test_no_times(self):
        for text in ("24:00", "9:60", "9:5", "nine", "9", "-1:00"):
            with self.assertRaises(ValueError):
                parse_time(text)

    def test_order_and_touching(self):
        self.assertEqual([name for _, _, name in self.day.appointments], ["tea", "talk"])

    def test_overlaps(self):
        for start, end in (("9:30", "9:40"), ("8:00", "11:00"), ("9:59", "10:30"), ("8:00", "8:31")):
            with self.assertRaises(ValueError):
                self.day.add(start, end, "late")
        self.assertEqual(len(self.day.appointments), 2)

    def test_backward(self):
        for start, end in (("12:00", "11:00"), ("12:00", "12:00")):
            with self.assertRaises(ValueError):
                self.day.add(start, end, "late")

    def test_free_before(self):
        self.assertEqual(self.day.free(30), parse_time("8:00"))

    def test_free_after(self):
        self.assertEqual(self.day.free(45), parse_time("10:00"))
        self.assertEqual(self.day.free(480), parse_time("10:00"))

    def test_nothing_free(self):
        self.assertIsNone(self.day.free(481))
''',
        (
            Bug("int(hours) > 23 or", "int(hours) > 24 or", "parse_time accepts 24:00 and later minutes of that hour; a day ends at 23:59.", ("test_no_times",)),
            Bug("if start < other_end and other_start < end:", "if other_start <= start < other_end or other_start < end <= other_end:", "An appointment that covers another wholly (8:00 to 11:00 over 9:00 to 10:00) is accepted although they overlap.", ("test_overlaps",)),
            Bug("at + length <= last", "at + length < last", "free finds nothing when the time left is exactly what is needed.", ("test_free_after",)),
            Bug("other_start - at >= length", "other_start - at > length", "free skips a gap that is exactly as long as needed.", ("test_free_before",)),
        ),
    ),
    Module(
        "inventory",
        '''"""Goods in stock, with reservations."""


class Inventory:
    """Counts by item; what is reserved is not available."""

    def __init__(self, counts=None):
        self.counts = dict(counts or {})
        self.reserved = {}

    def available(self, item):
        """How many can still be reserved."""
        return self.counts.get(item, 0) - self.reserved.get(item, 0)

    def receive(self, item, count):
        """Take goods in. Raises ValueError for a count that is not positive."""
        if count < 1:
            raise ValueError("a count is positive")
        self.counts[item] = self.counts.get(item, 0) + count

    def reserve(self, order):
        """Reserve all of an order (counts by item) or nothing: whether it could be done."""
        if any(self.available(item) < count for item, count in order.items()):
            return False
        for item, count in order.items():
            self.reserved[item] = self.reserved.get(item, 0) + count
        return True

    def ship(self, order):
        """Send a reserved order out. Raises KeyError when more is asked for than is reserved."""
        for item, count in order.items():
            if self.reserved.get(item, 0) < count:
                raise KeyError(item)
        for item, count in order.items():
            self.reserved[item] -= count
            self.counts[item] -= count

    def low(self, limit):
        """Items of which fewer than a limit are available, by name."""
        return sorted(item for item in self.counts if self.available(item) < limit)
''',
        '''import unittest

from PACKAGE.inventory import Inventory


class InventoryTest(unittest.TestCase):
    def setUp(self):
        self.goods = {"lamp": 5, "desk": 2}
        self.stock = Inventory(self.goods)

    def test_goods_given_are_copied(self):
        self.stock.receive("lamp", 1)
        self.assertEqual(self.goods, {"lamp": 5, "desk": 2})

    def test_receive(self):
        self.stock.receive("chair", 3)
        self.assertEqual(self.stock.available("chair"), 3)
        with self.assertRaises(ValueError):
            self.stock.receive("chair", 0)

    def test_reserve_all_of_it(self):
        self.assertTrue(self.stock.reserve({"lamp": 5}))
        self.assertEqual(self.stock.available("lamp"), 0)

    def test_reserve_is_all_or_nothing(self):
        self.assertFalse(self.stock.reserve({"lamp": 1, "desk": 3}))
        self.assertEqual(self.stock.available("lamp"), 5)

    def test_reservations_add_up(self):
        self.assertTrue(self.stock.reserve({"lamp": 3}))
        self.assertTrue(self.stock.reserve({"lamp": 2}))
        self.assertFalse(self.stock.reserve({"lamp": 1}))

    def test_ship(self):
        self.stock.reserve({"lamp": 3})
        self.stock.ship({"lamp": 2})
        self.assertEqual((self.stock.counts["lamp"], self.stock.available("lamp")), (3, 2))

    def test_ship_only_what_is_reserved(self):
        self.stock.reserve({"lamp": 1})
        with self.assertRaises(KeyError):
            self.stock.ship({"lamp": 1, "desk": 1})
        self.assertEqual(self.stock.counts, {"lamp": 5, "desk": 2})
        self.assertEqual(self.stock.available("lamp"), 4)

    def test_low(self):
        self.stock.reserve({"lamp": 4})
        self.assertEqual(self.stock.low(2), ["lamp"])
        self.assertEqual(self.stock.low(3), ["desk", "lamp"])
''',
        (
            Bug("dict(counts or {})", "counts or {}", "An Inventory made from a dictionary changes that dictionary when goods are received.", ("test_goods_given_are_copied",)),
            Bug("            self.reserved[item] = self.reserved.get(item, 0) + count\n", "            self.reserved[item] = count\n", "A second reservation of the same item forgets the first, so more can be reserved than is there.", ("test_reservations_add_up",)),
            Bug("if self.available(item) < limit)", "if self.counts[item] < limit)", "low looks at what is in stock and not at what is available: items that are nearly all reserved are missing.", ("test_low",)),
            Bug("            if self.reserved.get(item, 0) < count:\n                raise KeyError(item)\n        for item, count in order.items():\n", "            if self.reserved.get(item, 0) < count:\n                raise KeyError(item)\n", "When shipping an order fails for one item, the items before it have been shipped all the same. Nothing should change then.", ("test_ship_only_what_is_reserved",)),
        ),
    ),
    Module(
        "routes",
        '''"""Paths with places to fill in, such as /users/{name}/posts/{id}."""


def split(path):
    """The parts of a path; double slashes and one at the end count for nothing."""
    return [part for part in path.split("/") if part]


def match(pattern, path):
    """What a path fills into a pattern, by name; None when it does not fit. A last part {name...} takes all the rest."""
    wanted, given = split(pattern), split(path)
    if wanted and wanted[-1].endswith("...}"):
        head = len(wanted) - 1
        if len(given) <= head:
            return None
        given = [*given[:head], "/".join(given[head:])]
    if len(wanted) != len(given):
        return None
    found = {}
    for want, part in zip(wanted, given):
        if want.startswith("{") and want.endswith("}"):
            found[want[1:-1].removesuffix("...")] = part
        elif want != part:
            return None
    return found


class Router:
    """Patterns with what they lead to; the one with the fewest places to fill in wins, then the first."""

    def __init__(self):
        self.routes = []

    def add(self, pattern, target):
        """Add a pattern. Raises ValueError when it is there already."""
        if any(pattern == other for other, _ in self.routes):
            raise ValueError(f"{pattern} is there already")
        self.routes.append((pattern, target))

    def find(self, path):
        """The target and what the path fills in; None when no pattern fits."""
        fits = [(target, found) for pattern, target in self.routes if (found := match(pattern, path)) is not None]
        return min(fits, key=lambda fit: len(fit[1]), default=None)
''',
        '''import unittest

from PACKAGE.routes import Router, match, split


class RoutesTest(unittest.TestCase):
    def test_split(self):
        self.assertEqual(split("/a//b/"), ["a", "b"])
        self.assertEqual(split("/"), [])

    def test_plain(self):
        self.assertEqual(match("/a/b", "/a/b/"), {})
        self.assertIsNone(match("/a/b", "/a/c"))

    def test_places(self):
        self.assertEqual(match("/users/{name}/{id}", "/users/ada/7"), {"name": "ada", "id": "7"})

    def test_lengths(self):
        self.assertIsNone(match("/users/{name}", "/users"))
        self.assertIsNone(match("/users/{name}", "/users/ada/7"))

    def test_rest(self):
        self.assertEqual(match("/files/{path...}", "/files/a/b/c"), {"path": "a/b/c"})
        self.assertEqual(match("/files/{path...}", "/files/a"), {"path": "a"})
        self.assertIsNone(match("/files/{path...}", "/files"))

    def test_fewest_places_win(self):
        router = Router()
        router.add("/users/{name}", "user")
        router.add("/users/me", "me")
        self.assertEqual(router.find("/users/me"), ("me", {}))
        self.assertEqual(router.find("/users/ada"), ("user", {"name": "ada"}))
        self.assertIsNone(router.find("/"))

    def test_no_pattern_twice(self):
        router = Router()
        router.add("/a", 1)
        with self.assertRaises(ValueError):
            router.add("/a", 2)
''',
        (
            Bug("    if len(wanted) != len(given):\n        return None\n", "", "A path that is longer or shorter than the pattern fits all the same: /users/{name} matches /users/ada/7.", ("test_lengths", "test_fewest_places_win")),
            Bug("if len(given) <= head:", "if len(given) < head:", 'The pattern /files/{path...} fits /files, with an empty path. It should need at least one part.', ("test_rest",)),
            Bug("return min(fits, key=lambda fit: len(fit[1]), default=None)", "return fits[0] if fits else None", "Router.find takes the first pattern that fits, so /users/me never wins against /users/{name}.", ("test_fewest_places_win",)),
            Bug('if part]', 'if part is not None]', "Double slashes and a slash at the end make empty parts, so /a/b/ does not fit /a/b.", ("test_split", "test_plain")),
        ),
    ),
)  # fmt: skip
