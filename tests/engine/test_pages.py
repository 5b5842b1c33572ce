from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.engine.pages import Page, PagePool

G = 4


def ids(*tokens: int) -> np.ndarray:
    return np.array(tokens, dtype=np.int64)


def fill(pool: PagePool, tokens: np.ndarray) -> list[Page]:
    """Take pages for ``tokens`` behind what the tree knows of them, and enter them."""
    pages, _, _ = pool.match(tokens)
    for start in range(len(pages) * G, len(tokens), G):
        page = pool.take()
        assert page is not None
        pages.append(pool.know(page, pages[-1] if pages else None, tokens[start : start + G]))
    return pages


def test_a_prompt_follows_the_tree_as_far_as_its_tokens_go() -> None:
    pool = PagePool(8, G)
    pages = fill(pool, np.arange(10))
    pool.let_go(pages)
    matched, partial, num_tokens = pool.match(ids(0, 1, 2, 3, 4, 5, 6, 7, 8, 77))
    assert (matched, partial, num_tokens) == (pages[:2], pages[2], 9)
    pool.let_go(matched)
    matched, partial, num_tokens = pool.match(ids(0, 1, 2, 9, 9, 9))
    assert (matched, partial, num_tokens) == ([], pages[0], 3)
    assert pool.match(ids(5, 5, 5, 5, 5)) == ([], None, 0)


def test_the_page_idle_longest_goes_first_and_children_before_parents() -> None:
    pool = PagePool(4, G)
    old, new = fill(pool, np.arange(8)), fill(pool, np.arange(100, 108))
    pool.let_go(old)
    pool.let_go(new)
    taken = [pool.take() for _ in range(4)]
    assert taken == [old[1], old[0], new[1], new[0]]
    assert pool.take() is None


def test_held_pages_are_not_taken() -> None:
    pool = PagePool(2, G)
    pages = fill(pool, np.arange(8))
    assert pool.take() is None
    again, _, _ = pool.match(np.arange(8))
    pool.let_go(pages)
    assert pool.num_available == 0
    pool.let_go(again)
    assert pool.num_available == 2


def test_of_two_equal_full_pages_one_goes_back() -> None:
    pool = PagePool(3, G)
    first, second = pool.take(), pool.take()
    assert first is not None
    assert second is not None
    assert pool.know(first, None, np.arange(4)) is first
    assert pool.know(second, None, np.arange(4)) is first
    assert first.num_holders == 2
    assert pool.num_available == 2


def test_a_page_that_fills_is_known_for_more_and_more() -> None:
    pool = PagePool(3, G)
    page, other = pool.take(), pool.take()
    assert page is not None
    assert other is not None
    pool.know(page, None, ids(1, 2))
    assert pool.know(other, None, ids(1, 2)) is other  # another's page is no place to write
    assert pool.match(ids(1, 2, 3))[2] == 2
    pool.know(page, None, ids(1, 2, 3))
    assert pool.match(ids(1, 2, 3))[2] == 3
    pool.let_go([other])
    pool.let_go([page])
    assert pool.num_available == 3


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(0, 1), min_size=1, max_size=20)), max_size=30))
def test_no_page_is_lost_or_held_twice(steps: list[tuple[int, list[int]]]) -> None:
    """Sequences over two tokens come and go in any order; whoever finds no room gives up."""
    pool = PagePool(12, G)
    running: list[list[Page]] = []
    for number, tokens in steps:
        if number < len(running):
            pool.let_go(running.pop(number))
            continue
        array = np.array(tokens)
        pages, _, num_known = pool.match(array)
        assert num_known <= len(array)
        assert [token for page in pages for token in page.tokens] == tokens[: len(pages) * G]
        for start in range(len(pages) * G, len(array), G):
            page = pool.take()
            if page is None:
                break
            assert page not in [held for sequence in running for held in sequence]
            pages.append(pool.know(page, pages[-1] if pages else None, array[start : start + G]))
        running.append(pages)
    held = {page.index for sequence in running for page in sequence}
    assert pool.num_available == 12 - len(held)
    for sequence in running:
        pool.let_go(sequence)
    assert pool.num_available == 12
    pool.forget()
    taken = [pool.take() for _ in range(12)]
    assert len({page.index for page in taken if page}) == 12
