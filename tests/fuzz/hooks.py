"""Loaded by schemathesis, so that calls meet what is there: ids of what was made before, bodies of the document's examples."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import schemathesis
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

_PARAMETER = re.compile(r"/([\w-]+)/\{(\w+)\}")


@cache
def _made() -> dict[str, list[str]]:
    """Ids by the part of the path before them; of the folder that schemathesis runs in."""
    return orjson.loads(Path("made.json").read_bytes())


@schemathesis.hook
def flatmap_path_parameters(
    context: schemathesis.HookContext, path_parameters: dict[str, Any]
) -> SearchStrategy[dict[str, Any]]:
    """The generated ids, or such as there are."""
    found = {name: _made().get(noun) for noun, name in _PARAMETER.findall(context.operation.path)}
    there = {name: st.sampled_from(ids) for name, ids in found.items() if ids}
    real = st.fixed_dictionaries(there).map(lambda known: path_parameters | known)
    return st.one_of(st.just(path_parameters), real) if there else st.just(path_parameters)


@schemathesis.hook
def flatmap_body(context: schemathesis.HookContext, body: Any) -> SearchStrategy[Any]:  # noqa: ANN401
    """The generated body, or an example of the operation's, or little would ever be made."""
    content = context.operation.definition.raw.get("requestBody", {}).get("content", {})
    if set(content) != {"application/json"}:
        return st.just(body)
    examples = [example["value"] for example in content["application/json"].get("examples", {}).values()]
    return st.one_of(st.just(body), st.sampled_from(examples)) if examples else st.just(body)
