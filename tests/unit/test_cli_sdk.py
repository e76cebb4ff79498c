"""The command line speaks to a fleet by the SDK's public calls alone: what it can do from afar, a program can."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocrfleet import cli
from ocrfleet.client.asks import Calls

MODULES = sorted(Path(str(cli.__file__)).parent.glob("*.py"))
HTTP = {"httpx", "requests", "aiohttp", "http", "socket", "urllib.request"}
RAW = {name for name in vars(Calls) if not name.startswith("_")} | {"carry_out", "go_through"}
"""What the SDK's own calls are made of."""
CLIENTS = {"client", "_client", "own", "Client"}


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def asked_of_clients(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            whose = node.value
            name = whose.id if isinstance(whose, ast.Name) else getattr(whose, "attr", "")
            if name in CLIENTS:
                yield node.attr


@pytest.mark.parametrize("path", MODULES, ids=[path.stem for path in MODULES])
def test_a_command_speaks_no_http_and_asks_by_public_calls(path: Path) -> None:
    tree = ast.parse(path.read_text())
    modules = set(imported(tree))
    assert not {name for name in modules if name in HTTP or name.partition(".")[0] in HTTP}
    asked = set(asked_of_clients(tree))
    assert not {name for name in asked if name in RAW or name.startswith("_")}


def test_the_guard_sees_what_it_is_for() -> None:
    tree = ast.parse(
        "import httpx.x\nself._client.carry_out(client.send('GET', '/v1/jobs'))\nclient.job('x')"
    )
    assert "httpx.x" in set(imported(tree))
    assert set(asked_of_clients(tree)) & RAW == {"carry_out", "send"}
