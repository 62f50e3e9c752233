"""docs/api.md: what `import prunebench` offers, with signatures that are read from the sources, which nothing imports.

In the repository a reader sees the signatures and the first paragraph of each docstring. The site puts the whole
docstring in their place (`docs/hooks.py`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from bench.cli.sources import Definition, definition, first_paragraph

LONGEST = 110
"""Characters of a signature that stands on one line."""
SECTIONS: Mapping[str, Mapping[str, str]] = {
    "The whole benchmark": {
        "prunebench.run": "bench.runs.api.run",
        "prunebench.read": "bench.runs.api.read",
        "prunebench.Result": "bench.runs.api.Result",
        "prunebench.Record": "bench.interface.record.Record",
        "prunebench.read_records": "bench.report.records.read_records",
        "prunebench.write_report": "bench.report.write.write_report",
        "prunebench.merge_records": "bench.report.records.merge_records",
        "prunebench.RequestError": "bench.errors.RequestError",
    },
    "One network": {
        "prunebench.prune_to": "bench.search.prune_to.prune_to",
        "prunebench.save_pruned": "bench.structure.files.save_pruned",
        "prunebench.load_pruned": "bench.interface.exported.load_pruned",
        "prunebench.export_onnx": "bench.structure.onnx_export.export_onnx",
    },
    "Structure": {
        "prunebench.PruningGraph": "bench.structure.graph.PruningGraph",
        "prunebench.ChannelGroup": "bench.structure.groups.ChannelGroup",
        "prunebench.Pruning": "bench.structure.groups.Pruning",
        "prunebench.prune": "bench.structure.surgery.prune",
        "prunebench.count_macs": "bench.structure.measure.count_macs",
        "prunebench.count_params": "bench.structure.measure.count_params",
        "prunebench.measure_latency": "bench.structure.measure.measure_latency",
    },
    "Budgets and decisions": {
        "prunebench.Budget": "bench.interface.method.Budget",
        "prunebench.budget.Found": "bench.interface.method.Found",
        "prunebench.budget.fit": "bench.search.fit.fit",
        "prunebench.budget.search_budget": "bench.search.fit.search_budget",
        "prunebench.budget.check": "bench.search.fit.check",
        "prunebench.budget.Fitted": "bench.search.fit.Fitted",
        "prunebench.budget.reachable": "bench.search.fit.reachable",
    },
    "What a method is handed": {
        "bench.interface.method.Context": "bench.interface.method.Context",
        "bench.interface.method.Search": "bench.interface.method.Search",
    },
}
"""By section, the name under which something is used, and where it is defined."""

HEAD = """# Python

What `import prunebench` offers. Importing it loads neither torch nor MLflow; names are resolved when they are used.
Signatures and first sentences are made from the code by `make reference`; the site and `help(prunebench.run)` have the
whole docstrings, with shapes, units and errors.

```python
import prunebench

print(sorted(dir(prunebench)))
```
"""


def api_document() -> str:
    """The whole of docs/api.md."""
    lines = [HEAD]
    for title, names in SECTIONS.items():
        lines += [f"## {title}", ""]
        for name, place in names.items():
            node = defined_at(place)
            lines += [f"<!-- reference: {place} -->", f"### {name}", "", "```text", *signature(name, node), "```", ""]
            lines += [about(node), "", *(within := list(members(node))), *[""] * bool(within)]
            lines += ["<!-- end of reference -->", ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def defined_at(place: str) -> Definition:
    """The function or class of a place such as `bench.runs.api.run`."""
    module, _, name = place.rpartition(".")
    return definition(module, name)


def about(node: Definition) -> str:
    """The first paragraph of the docstring, on one line."""
    text = first_paragraph(node)
    return text.removesuffix("::") + "." * text.endswith("::")


def signature(name: str, node: Definition) -> Iterator[str]:
    """How a function is called, on a line or with a line for each argument; of a class its name."""
    if isinstance(node, ast.ClassDef):
        yield f"class {name}"
        return
    arguments = list(_arguments(node.args))
    one = f"{name}({', '.join(arguments)}){_returns(node)}"
    if len(one) <= LONGEST:
        yield one
    else:
        yield from (f"{name}(", *(f"    {argument}," for argument in arguments), f"){_returns(node)}")


def _arguments(given: ast.arguments) -> Iterator[str]:
    """Each argument as it is written, with the bare star before those that have names alone."""
    plain = [*given.posonlyargs, *given.args]
    defaults = [*[None] * (len(plain) - len(given.defaults)), *given.defaults]
    for number, (argument, default) in enumerate(zip(plain, defaults, strict=True), 1):
        yield _written(argument) + _default(default)
        if number == len(given.posonlyargs):
            yield "/"
    if given.vararg:
        yield f"*{_written(given.vararg)}"
    elif given.kwonlyargs:
        yield "*"
    for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        yield _written(argument) + _default(default)
    if given.kwarg:
        yield f"**{_written(given.kwarg)}"


def _default(value: ast.expr | None) -> str:
    made = {k.arg: k.value for k in value.keywords} if isinstance(value, ast.Call) else {}
    if "default_factory" in made:
        return f" = {_written(made['default_factory'])}()"
    return "" if value is None else f" = {_written(value)}"


def _written(value: ast.expr | ast.arg) -> str:
    text = ast.unparse(value)
    return text if '"' in text else text.replace("'", '"')


def _returns(node: ast.FunctionDef) -> str:
    return f" -> {_written(node.returns)}" if node.returns else ""


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, str, ast.expr | None, str]]:
    """Name, type, default and meaning of a class's public fields."""
    for number, line in enumerate(node.body):
        if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name) or line.target.id[0] == "_":
            continue
        if ast.unparse(line.annotation).startswith("ClassVar"):
            continue
        after = node.body[number + 1] if number + 1 < len(node.body) else None
        meaning = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
        yield line.target.id, _written(line.annotation), line.value, " ".join(str(meaning).split())


def members(node: Definition) -> Iterator[str]:
    """A class's fields, properties and methods, a line each."""
    if not isinstance(node, ast.ClassDef):
        return
    for name, kind, default, meaning in _fields(node):
        yield f"- `{name}: {kind}{_default(default)}`" + (f": {meaning}" if meaning else "")
    for member in node.body:
        if not isinstance(member, ast.FunctionDef) or member.name[0] == "_":
            continue
        marks = {ast.unparse(mark) for mark in member.decorator_list}
        if any("validator" in mark for mark in marks):
            continue
        if marks & {"property", "cached_property"}:
            shown = f"{member.name}: {_written(member.returns) if member.returns else ''}"
        else:
            own = list(_arguments(member.args))[0 if "staticmethod" in marks else 1 :]
            shown = f"{member.name}({', '.join(own)}){_returns(member)}"
        yield f"- `{shown}`" + (f": {about(member)}" if about(member) else "")
