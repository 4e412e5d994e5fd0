"""From a YAML file (and `--set`) to a RunSpec, or to every problem in it at once."""

import difflib
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, TypeVar, cast, get_args

import yaml
from pydantic import BaseModel, ValidationError

from medray.errors import Problem, SpecError, UsageError
from medray.provenance import canonical_sha256
from medray.spec.models import RunSpec
from medray.spec.serve import ServeSpec
from medray.spec.yaml_source import Path, Source, dump, scalar

ParamsModels = Mapping[str, type[BaseModel]]
S = TypeVar("S", bound=BaseModel)


def load_spec(
    path: str, sets: Sequence[str] = (), params_models: ParamsModels | None = None
) -> RunSpec:
    """Read and validate a run's YAML file.

    sets           `key.path=value` overrides, through the same validator.
    params_models  workload name → model of its `params:`; absent: params are left unread.
    Raises SpecError with every problem, UsageError when the file cannot be read.
    """
    return parse_spec(_text(path), path, sets, params_models)


def load_service(path: str, sets: Sequence[str] = ()) -> ServeSpec:
    """`load_spec` for a service's file."""
    return _parsed(ServeSpec, _text(path), path, sets)


def parse_spec(
    text: str,
    name: str = "spec",
    sets: Sequence[str] = (),
    params_models: ParamsModels | None = None,
) -> RunSpec:
    """`load_spec` for text already read."""

    def params(data: dict[str, Any], where: Any) -> list[Problem]:
        return _check_params(data, params_models, where)

    return _parsed(RunSpec, text, name, sets, params)


def _text(path: str) -> str:
    file = FilePath(path)
    if not file.is_file():
        raise UsageError(
            f"there is no spec file {path}",
            remedy="a spec is a YAML file; ready ones stand in jobs/ (see `medray workloads`)",
        )
    return file.read_text(encoding="utf-8")


def _parsed(
    model: type[S],
    text: str,
    name: str,
    sets: Sequence[str],
    further: Callable[[dict[str, Any], Any], list[Problem]] | None = None,
) -> S:
    """A section from YAML, and from what `further` finds wrong with it. Raises SpecError."""
    source = Source(name, text)
    if source.problems and source.data is None:
        raise SpecError(source.problems)
    if not isinstance(source.data, dict):
        raise SpecError([Problem(f"{name}:1", "", "a spec is a mapping of keys to values")])
    overridden: set[Path] = set()
    problems = list(source.problems)
    for assignment in sets:
        problem = _assign(source.data, assignment, overridden)
        problems.extend([problem] if problem else [])

    def where(path: Path) -> str:
        covered = any(path[: len(o)] == o or o[: len(path)] == path for o in overridden)
        return "--set" if covered and path else source.where(path)

    spec: S | None = None
    try:
        spec = model.model_validate(source.data)
    except ValidationError as error:
        problems.extend(_explain(error, source.data, model, (), where))
    if further is not None:
        problems.extend(further(source.data, where))
    if problems or spec is None:
        raise SpecError(sorted(problems, key=_by_line))
    return spec


def _by_line(problem: Problem) -> tuple[int, str]:
    line = problem.where.rpartition(":")[2]
    return (int(line) if line.isdigit() else 0, problem.key)


def dump_spec(spec: RunSpec) -> str:
    """The spec as YAML with every default written out; reads back to an equal spec."""
    return dump(spec.model_dump(mode="json"))


def spec_sha256(spec: BaseModel) -> str:
    """Hash of the validated values: formatting, comments and key order do not matter."""
    return canonical_sha256(spec.model_dump(mode="json"))


def _assign(data: dict[str, Any], assignment: str, overridden: set[Path]) -> Problem | None:
    """Apply one `--set key.path=value` in place; lists are indexed by number."""
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        return Problem("--set", assignment, "is not key.path=value", "e.g. train.epochs=5")
    try:
        value = scalar(text)
    except yaml.YAMLError:
        return Problem("--set", key, f"cannot read the value {text!r}")
    steps: list[str | int] = [int(s) if s.isdigit() else s for s in key.split(".")]
    node: Any = data
    for i, step in enumerate(steps[:-1]):
        if isinstance(node, dict) and cast(Any, node).get(str(step)) is None:
            node[str(step)] = {}
        if not _holds(node, step):
            return Problem("--set", key, f"nothing stands at {'.'.join(map(str, steps[: i + 1]))}")
        node = node[step if isinstance(node, list) else str(step)]
    if isinstance(node, dict):
        node[str(steps[-1])] = value
    elif _holds(node, steps[-1]):
        node[steps[-1]] = value
    else:
        return Problem("--set", key, f"nothing stands at {key}")
    overridden.add(tuple(steps))
    return None


def _holds(node: Any, step: str | int) -> bool:
    if isinstance(node, list):
        return isinstance(step, int) and step < len(cast(list[Any], node))
    return isinstance(node, dict)


def _check_params(data: dict[str, Any], models: ParamsModels | None, where: Any) -> list[Problem]:
    if models is None:
        return []
    name = data.get("workload", RunSpec.model_fields["workload"].default)
    if name not in models:
        hint = _suggest(str(name), list(models)) or f"one of: {', '.join(models)}"
        return [Problem(where(("workload",)), "workload", f"no workload {name!r}", hint)]
    if "params" not in data and "train" not in data:
        return []  # a spec that only ingests or scores has nothing to say about a model
    params: Any = data.get("params") or {}
    try:
        models[name].model_validate(params)
    except ValidationError as error:
        return _explain(error, params, models[name], ("params",), where)
    return []


def _explain(
    error: ValidationError, data: Any, model: type[BaseModel], prefix: Path, where: Any
) -> list[Problem]:
    """Pydantic's errors as problems; of a union only the alternative that came closest."""
    by_union: dict[Path, dict[str, list[tuple[Path, Any]]]] = defaultdict(lambda: defaultdict(list))
    problems: list[Problem] = []
    for item in error.errors():
        path, union, branch = _real_path(item, data)
        if branch:
            by_union[union][branch].append((path, item))
        else:
            problems.append(_problem(path, item, model, prefix, where))
    for union, branches in by_union.items():
        value = _at(data, union)
        if not isinstance(value, dict):  # a scalar: the first alternative's message is enough
            path, item = next(iter(branches.values()))[0]
            problems.append(_problem(path, item, model, prefix, where))
            continue
        objects = {b: e for b, e in branches.items() if not e[0][1]["type"].startswith("literal")}
        closest = min(objects.values() or branches.values(), key=len)
        branch = next(b for b, e in branches.items() if e is closest)
        problems.extend(_problem(p, i, model, prefix, where, branch) for p, i in closest)
    return problems


def _real_path(item: Any, data: Any) -> tuple[Path, Path, str]:
    """Split pydantic's location into keys that exist in the file and a union's branch name."""
    path: list[str | int] = []
    union: Path = ()
    branch = ""
    node = data
    for i, step in enumerate(item["loc"]):
        known = (isinstance(node, dict) and step in node) or (
            isinstance(node, list) and isinstance(step, int) and step < len(node)
        )
        if known:
            path.append(step)
            node = node[step]
        elif i == len(item["loc"]) - 1 and item["type"] == "missing":
            path.append(step)
        elif isinstance(step, str) and (step[:1].isupper() or "[" in step):
            union, branch = tuple(path), step
    return tuple(path), union, branch


def _at(data: Any, path: Path) -> Any:
    for step in path:
        data = data[step]
    return data


def _problem(
    path: Path, item: Any, model: type[BaseModel], prefix: Path, where: Any, branch: str = ""
) -> Problem:
    full = (*prefix, *path)
    key = ".".join(map(str, full))
    kind = item["type"]
    if kind == "extra_forbidden":
        fields = _fields_at(model, path[:-1], branch)
        hint = _suggest(str(path[-1]), fields) or f"known here: {', '.join(fields)}"
        return Problem(where(full), key, "unknown key", hint)
    if kind == "missing":
        return Problem(where(full[:-1]), key, "is required but missing")
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", item["ctx"]["expected"])
        hint = _suggest(str(item["input"]), allowed)
        return Problem(where(full), key, f"{item['input']!r} is not one of {allowed}", hint)
    got = item["input"]
    shown = f", got {got!r}" if isinstance(got, (str, int, float, bool)) else ""
    message = str(item["msg"]).removeprefix("Value error, ")
    return Problem(where(full), key, f"{message[:1].lower()}{message[1:]}{shown}")


def _suggest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else ""


def _fields_at(model: type[BaseModel], path: Path, branch: str = "") -> list[str]:
    """Field names of the section at `path`; of a union, those of `branch` or of all members."""
    sections: list[type[BaseModel]] = [model]
    for step in path:
        if isinstance(step, int):
            continue
        annotations = [s.model_fields[step].annotation for s in sections if step in s.model_fields]
        sections = [found for a in annotations for found in _models_in(a)]
    if branch:
        sections = [s for s in sections if s.__name__ == branch] or sections
    return [name for section in sections for name in section.model_fields]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]
