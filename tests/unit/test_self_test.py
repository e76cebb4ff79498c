"""What the self-test takes for a page's own text, by fakes of an engine; and the versions that are refused without one."""

import asyncio
import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrfleet.errors import EngineUnfit
from worker.engines.base import Pixels
from worker.engines.self_test import MAX_DISTANCE, TOKENS, Tokens, distance, draw, judge, prove
from worker.engines.vllm_versions import refuse_known_bad

words = st.lists(st.integers(0, 3), max_size=12)


class Reader:
    """Its tokens are a hash of the pixels; in company it may make mistakes."""

    def __init__(
        self, *, exact: bool = True, swaps: bool = False, wrong: int = 0, blind: bool = False
    ) -> None:
        self.exact = exact
        self._swaps = swaps
        self._wrong = wrong
        self._blind = blind

    async def first_tokens(self, page: Pixels, count: int) -> Tokens:
        seen = b"" if self._blind else page.tobytes()
        return list(hashlib.shake_128(seen).digest(count))

    async def first_tokens_together(self, pages: Sequence[Pixels], count: int) -> Sequence[Tokens]:
        if self._swaps:
            # The first is right: only those after it in one step are another's.
            pages = [pages[0], *pages[2:], pages[1]]
        found = [list(await self.first_tokens(page, count)) for page in pages]
        for tokens in found:
            tokens[: self._wrong] = [-1] * self._wrong
        return found


def test_an_engine_that_reads_each_page_as_it_does_alone_is_fit() -> None:
    asyncio.run(prove(Reader()))
    asyncio.run(prove(Reader(exact=False)))


@pytest.mark.parametrize("exact", [True, False])
def test_an_engine_that_gives_one_page_anothers_text_is_unfit(*, exact: bool) -> None:
    with pytest.raises(EngineUnfit, match="page 1 read together"):
        asyncio.run(prove(Reader(exact=exact, swaps=True)))


def test_a_rounding_difference_is_allowed_where_the_engine_is_not_exact_and_only_there() -> None:
    few = int(MAX_DISTANCE * TOKENS)
    asyncio.run(prove(Reader(exact=False, wrong=few)))
    with pytest.raises(EngineUnfit, match="differs from itself alone by 5%"):
        asyncio.run(prove(Reader(exact=True, wrong=few)))
    with pytest.raises(EngineUnfit, match="5% is the limit"):
        asyncio.run(prove(Reader(exact=False, wrong=few + 1)))


def test_answers_that_do_not_depend_on_the_page_prove_nothing() -> None:
    with pytest.raises(EngineUnfit, match="nothing can be told"):
        asyncio.run(prove(Reader(blind=True)))


def test_a_text_no_nearer_to_its_own_page_than_to_another_is_refused_even_if_it_is_near() -> None:
    a, b = [1] * 60 + [2, 2], [1] * 60 + [3, 3]
    with pytest.raises(EngineUnfit, match="as near to another page"):
        judge([a, b], [[1] * 60 + [2, 3], b], exact=False)


def test_its_pages_differ_in_size_and_content() -> None:
    pages = draw()
    assert len({page.shape for page in pages}) == len(pages) >= 4
    assert len({page.tobytes() for page in pages}) == len(pages)
    assert all(page.dtype == np.uint8 and page.min() < page.max() for page in pages)


@given(words, words)
def test_distance_is_the_share_of_edits(a: list[int], b: list[int]) -> None:
    found = distance(a, b)
    assert found == distance(b, a)
    assert (found == 0) == (a == b)
    assert abs(len(a) - len(b)) <= found * max(len(a), len(b), 1) + 1e-9
    assert found <= 1


def test_distance_of_known_pairs() -> None:
    assert distance([1, 2, 3, 4], [1, 2, 4]) == 0.25
    assert distance([1, 2, 3, 4], [0, 1, 2, 3]) == 0.5
    assert distance([], []) == 0


@pytest.mark.parametrize(
    ("vllm", "transformers"),
    [
        ("0.29.1", "5.20.0"),
        ("0.32.0", "5.19.3"),
        ("0.33.0", "5.9.0"),
        ("0.32.0+cpu", "5.20.0"),
        ("0.33", "5.20"),
    ],
)
def test_a_pair_that_mixes_pages_up_is_refused_with_what_to_install(vllm: str, transformers: str) -> None:
    with pytest.raises(EngineUnfit, match="one another's text") as seen:
        refuse_known_bad(vllm, transformers)
    assert "vllm==0.33.0" in seen.value.detail
    assert "transformers==5.20.2" in seen.value.detail


def test_a_version_that_crashes_is_refused_whatever_stands_beside_it() -> None:
    with pytest.raises(EngineUnfit, match="crashes"):
        refuse_known_bad("0.29.0", "5.20.2")


@pytest.mark.parametrize(
    ("vllm", "transformers"),
    [("0.33.0", "5.20.2"), ("0.32.0", "5.20.1"), ("0.28.1", "5.19.0"), ("0.34.1", "5.21.0")],
)
def test_other_pairs_are_left_to_the_self_test(vllm: str, transformers: str) -> None:
    refuse_known_bad(vllm, transformers)
