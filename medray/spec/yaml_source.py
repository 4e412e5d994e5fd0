"""YAML text → plain data plus the line each key stands on.

YAML 1.2 scalars: `on`, `off`, `yes`, `no` are strings, `1e-3` is a number. Duplicate keys are
problems, not silently the last one.
"""

import re
from typing import Any

import yaml

from medray.errors import Problem

Path = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2's core schema."""


_Loader.yaml_implicit_resolvers = {}  # its own, not the parent's of YAML 1.1

_SCALARS = {
    "null": (r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    "bool": (r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    "int": (r"^[-+]?[0-9]+$", list("-+0123456789")),
    "float": (
        r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$",
        list("-+.0123456789"),
    ),
}
for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(_pattern), _first)
# YAML 1.2 has no octal by a leading zero and no base 60.
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))
_Loader.add_constructor("tag:yaml.org,2002:float", lambda _, node: float(node.value))


class _Dumper(yaml.SafeDumper):
    """Quotes what either reader would not take for a string: "08" is text to 1.1, 8 to 1.2."""


_Dumper.yaml_implicit_resolvers = {
    first: [
        *yaml.SafeDumper.yaml_implicit_resolvers.get(first, []),
        *_Loader.yaml_implicit_resolvers.get(first, []),
    ]
    for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
}


def dump(data: Any) -> str:
    """YAML text that reads back as equal data, here and by any YAML 1.1 reader."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def scalar(text: str) -> Any:
    """One value as it would be read in the file (for `--set`)."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506  a subclass of SafeLoader


class Source:
    """Plain data of one YAML document, and where each of its keys stands."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.problems: list[Problem] = []
        self._lines: dict[Path, int] = {}
        self.data: Any = self._read(text)

    def where(self, path: Path) -> str:
        """`file:line` of a key, or of the nearest section that holds it."""
        while path and path not in self._lines:
            path = path[:-1]
        return f"{self.name}:{self._lines.get(path, 1)}"

    def _read(self, text: str) -> Any:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            return {} if node is None else self._convert(loader, node, ())
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line + 1 if mark else 1
            what = getattr(error, "problem", None) or "this is not YAML"
            self.problems.append(Problem(f"{self.name}:{line}", "", f"not valid YAML: {what}"))
            return None
        finally:
            loader.dispose()

    def _convert(self, loader: _Loader, node: yaml.Node, path: Path) -> Any:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode):
            return [self._convert(loader, child, (*path, i)) for i, child in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._convert_mapping(loader, node, path)
        return loader.construct_object(node)

    def _convert_mapping(self, loader: _Loader, node: yaml.MappingNode, path: Path) -> Any:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(loader.construct_object(key_node))
            line = key_node.start_mark.line + 1
            if key in found:
                first = self._lines[(*path, key)]
                dotted = ".".join(map(str, (*path, key)))
                self.problems.append(
                    Problem(f"{self.name}:{line}", dotted, f"given twice (first on line {first})")
                )
                continue
            self._lines[(*path, key)] = line
            found[key] = self._convert(loader, value_node, (*path, key))
        return found
