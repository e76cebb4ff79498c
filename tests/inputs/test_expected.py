"""Every file, however nasty, ends in pixels or in the code that is right for it, within the limits of time and memory."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import expected
import pytest
from expected import Expected
from made import MADE, Given
from meter import Cost
from road import End, Road

from ocrfleet.documents import Limits
from ocrfleet.errors import BY_CODE, RetryClass
from ocrfleet.settings import Settings

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(900)]
LIMITED = {"empty_file", "too_many_pages", "too_many_pixels", "image_too_small", "render_timeout"}
CLOCK_SLACK = 2.0


class Costs(dict[str, Cost]):
    """The dearest file of each class."""

    def add(self, kind: str, cost: Cost) -> None:
        known = self.setdefault(kind, Cost())
        known.seconds = max(known.seconds, cost.seconds)
        known.memory = max(known.memory, cost.memory)


@pytest.fixture(scope="module")
def costs() -> Iterator[Costs]:
    """Written as a table below out/, to be copied into the documentation."""
    costs = Costs()
    yield costs
    folder = expected.ROOT / "out"
    # Somebody else's checkout can be tested too.
    with suppress(PermissionError):
        folder.mkdir(exist_ok=True)
        (folder / "inputs.md").write_text(expected.table(costs))


@pytest.fixture(scope="module")
def lead() -> Iterator[Callable[..., End]]:
    """Leads a file through a worker of such settings, and checks what holds for any file."""
    roads: dict[str, Road] = {}

    def lead(data: bytes, password: str | None = None, given: Given | None = None) -> End:
        if str(given) not in roads:
            roads[str(given)] = Road(**given or {})
        end = roads[str(given)].lead(data, password)
        check(end, Limits.of(Settings(**given or {})))
        return end

    yield lead
    for road in roads.values():
        road.close()


def check(end: End, limits: Limits) -> None:
    for error in end.errors:
        assert BY_CODE[error.code].retry in (RetryClass.NEVER, RetryClass.CALLER)
        # How much memory a bomb would have taken, nobody knows.
        told = (
            {"limit", "actual"}
            if error.code in LIMITED
            else {"limit"}
            if "bomb" in error.code
            else set[str]()
        )
        assert told <= error.extra.keys()
    # Two children, each with two processors; and each has its memory, beside which the worker holds one page.
    assert end.cost.seconds <= end.pages * 4 * (limits.render_timeout + CLOCK_SLACK)
    assert end.cost.memory <= limits.sandbox_memory + 4 * limits.max_page_pixels


def test_every_file_of_the_corpus_ends_as_expected(
    corpus: Path, lead: Callable[..., End], costs: Costs
) -> None:
    files = {path.name: path for path in sorted((corpus / "nasty").iterdir())}
    wanted = expected.of_corpus()
    assert files.keys() == wanted.keys()
    found: dict[str, Expected] = {}
    for name, path in files.items():
        end = lead(path.read_bytes())
        costs.add(name.partition("__")[0], end.cost)
        found[name] = Expected(end.outcome, end.pages)
    assert {name: end for name, end in found.items() if end != wanted[name]} == {}


@pytest.mark.parametrize("kind", MADE)
def test_every_file_made_here_ends_as_expected(kind: str, lead: Callable[..., End], costs: Costs) -> None:
    found: dict[str, Expected] = {}
    for name, made in MADE[kind].items():
        end = lead(made.make(), made.password, made.given)
        costs.add(kind, end.cost)
        found[name] = Expected(end.outcome, end.pages)
    assert found == {name: Expected(made.expected, made.pages) for name, made in MADE[kind].items()}


def test_no_file_is_expected_to_end_as_a_fault_of_ours() -> None:
    outcomes = [each for kind in expected.by_class().values() for each in kind]
    codes = {part.split()[-1] for outcome in outcomes for part in outcome.split(", ")} - {"ok"}
    assert {BY_CODE[code].retry for code in codes} == {RetryClass.NEVER, RetryClass.CALLER}
    assert codes >= LIMITED


def test_the_documentation_names_every_class_with_its_codes() -> None:
    assert expected.documented() == [row[:3] for row in expected.rows({})], "copy the table of out/inputs.md"
