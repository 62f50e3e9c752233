"""`prunebench new method|task NAME`: an adapter that works as it stands, to be changed into one's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from bench.cli import skeletons
from bench.errors import RequestError
from bench.interface import registry

_TRY = {
    "method": 'prunebench run demo --set \'methods=["l1", "{name}"]\' --only workload=digits-resnet8',
    "task": 'prunebench run my.toml     # a suite with task = "{name}", as README.md has one',
}
"""What to do with a new adapter once it passes its contract."""


def new(
    kind: Annotated[str, typer.Argument(metavar="method|task")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower-case letters, digits and dashes.")],
    folder: Annotated[
        Path, typer.Option("--in", help="A checkout of prunebench to write to, or the folder of a new package.")
    ] = Path(),
) -> None:
    """A short commented method or task and its test, registered, which pass `check` as they stand.

    In a checkout of prunebench the files go to where the others are; elsewhere they become a package of their own.
    """
    if kind not in _TRY:
        raise RequestError(f"cannot make a new {kind!r}; available: {', '.join(_TRY)}")
    adapter = _Adapter(kind, name)
    adapter.require_free()
    inside = _is_checkout(folder)
    for path in adapter.into_checkout(folder) if inside else adapter.as_package(folder):
        typer.echo(path)
    typer.echo("\nnext:")
    for step in adapter.steps(folder, inside=inside):
        typer.echo(f"  {step}")


def _is_checkout(folder: Path) -> bool:
    return all((folder / part / "__init__.py").is_file() for part in ("bench", "methods", "tasks"))


@dataclass(frozen=True)
class _Adapter:
    """What is to be written, and under which names."""

    kind: str
    """`method` or `task`."""
    name: str

    def require_free(self) -> None:
        """Refuse a name that is not allowed, or that an adapter has.

        Raises:
            RequestError: how the name is wrong.
        """
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", self.name):
            raise RequestError(f"name {self.name!r} is not allowed; use lower-case letters, digits and single dashes")
        for kind, names in (("method", registry.method_names()), ("task", registry.task_names())):
            if self.name in names:
                raise RequestError(f"a {kind} named {self.name!r} exists already")

    @property
    def template(self) -> str:
        return skeletons.METHOD if self.kind == "method" else skeletons.TASK

    @property
    def cls(self) -> str:
        """The class's name, which nothing else in the file has (`Found`, `None`)."""
        plain = "".join(part.capitalize() for part in self.name.split("-"))
        taken = re.search(rf"\b{plain}\b", self.template) is not None
        return plain + (self.kind.capitalize() if taken else "")

    @property
    def group(self) -> str:
        return f"{self.kind}s"

    def into_checkout(self, root: Path) -> list[Path]:
        """Write `methods/NAME.py` (or `tasks/NAME.py`) and its test below `root`, and register it there.

        Raises:
            RequestError: one of the files exists already; nothing is written then.
        """
        module = self.name.replace("-", "_")
        catalogue = root / self.group / "__init__.py"
        adapter, test = root / self.group / f"{module}.py", root / "tests" / self.group / f"test_{module}.py"
        if adapter.with_suffix("").exists():
            raise RequestError(f"{adapter.with_suffix('')} exists already; take another name")
        text, entry = catalogue.read_text("utf-8"), "CATALOGUE = {\n"
        if re.search(rf'^    "{self.name}":', text, re.MULTILINE):
            raise RequestError(f"a {self.kind} named {self.name!r} exists already")
        if entry not in text:
            raise RequestError(f"{catalogue} has no line {entry.strip()!r} to register the {self.kind} below")
        place = f"{self.group}.{module}"
        registered = text.replace(entry, f'{entry}    "{self.name}": "{place}:{self.cls}",\n', 1)
        _write_new({adapter: self._source(place), test: self._test(place)})
        catalogue.write_text(registered, "utf-8")
        return [adapter, test, catalogue]

    def as_package(self, folder: Path) -> list[Path]:
        """Write a package of its own, `NAME/`, into `folder`.

        Raises:
            RequestError: `NAME/` exists already; nothing is written then.
        """
        root, module = folder / self.name, self._package
        if root.exists():
            raise RequestError(f"{root} exists already; --in DIR makes the package in another folder")
        words = {**self._words(module), "kind": self.kind, "group": self.group}
        files = {
            root / "pyproject.toml": skeletons.PROJECT.format(**words),
            root / "README.md": skeletons.README.format(**words, run=_TRY[self.kind].format(**words)),
            root / module / "__init__.py": self._source(module),
            root / "tests" / f"test_{module}.py": self._test(module),
        }
        _write_new(files)
        return list(files)

    def steps(self, folder: Path, *, inside: bool) -> list[str]:
        """What to do next, a command or a sentence a line."""
        module = self.name.replace("-", "_")
        root = folder / self.name
        source = folder / self.group / f"{module}.py" if inside else root / self._package / "__init__.py"
        tests = folder / "tests" / self.group / f"test_{module}.py" if inside else root / "tests"
        what = "search()" if self.kind == "method" else "load(), network(), loss() and evaluate()"
        return [
            *([] if inside else [f"pip install -e {root}     # in the environment that has prunebench"]),
            f"prunebench check {self.name}     # passes as it stands",
            f"change {what} in {source}, then check again",
            f"python -m pytest {tests}     # needs pytest; say there what holds for yours",
            _TRY[self.kind].format(name=self.name),
        ]

    @property
    def _package(self) -> str:
        """The package's module: with a prefix, so that a name such as `json` hides nothing."""
        return f"prunebench_{self.name.replace('-', '_')}"

    def _words(self, module: str) -> Mapping[str, str]:
        return {"cls": self.cls, "name": self.name, "module": module}

    def _source(self, module: str) -> str:
        return self.template.format(**self._words(module))

    def _test(self, module: str) -> str:
        text = skeletons.METHOD_TEST if self.kind == "method" else skeletons.TASK_TEST
        return text.format(**self._words(module))


def _write_new(files: Mapping[Path, str]) -> None:
    """Write files that are not there yet, all or none."""
    for path in files:
        if path.exists():
            raise RequestError(f"{path} exists already")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
