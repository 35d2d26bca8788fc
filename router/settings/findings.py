"""
Collects problems while a document is checked, and says each of pydantic's errors in the words of the file.

Guarantees: each problem has the place of the key or value it is about; the same problem is noted once.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from router.settings.directory import is_tag
from router.settings.problem import KeyPath, Problem, dotted
from router.settings.schema import Settings
from router.settings.values import BadValue, shown, yaml_trap
from router.settings.yaml_loader import Document

NOT_IN_FILE = frozenset({"fingerprint"})
"""Fields of `Settings` that the loader computes."""

_KINDS = {
    "string_type": "text",
    "path_type": "a file name",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_REMEDIES = {
    "string_type": "put it in quotes",
    "path_type": "write an absolute path",
    "tuple_type": "write [ITEM, ITEM] or one `- ITEM` a line",
}


class Findings:
    """The problems of one document, in the order they were found."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._problems: dict[tuple[KeyPath, str], Problem] = {}

    @property
    def problems(self) -> tuple[Problem, ...]:
        return (*self._document.problems, *self._problems.values())

    def add(self, path: KeyPath, message: str, remedy: str = "", *, of_key: bool = False) -> None:
        """Note a problem of the value at `path`, or of its key."""
        place = self._document.place(path, of_key=of_key)
        problem = Problem(self._document.file, place.line, place.column, dotted(path), message, remedy)
        self._problems.setdefault((path, message), problem)

    def add_error(self, path: KeyPath, error: Exception) -> None:
        """Note what a parser of a value said."""
        self.add(path, str(error), getattr(error, "remedy", ""))

    def add_unknown_name(self, path: KeyPath, kind: str, name: str, known: Iterable[str]) -> None:
        """Note a name that does not exist, with the nearest one that does."""
        self.add(path, f"there is no {kind} {shown(name)}", _did_you_mean(name, known))

    def add_unknown_key(self, path: KeyPath) -> None:
        """Note a key that the schema does not have."""
        model = _model_at(path[:-1])
        known = [name for name in keys_of(model) if name not in NOT_IN_FILE] if model else []
        remedy = _did_you_mean(str(path[-1]), known) or f"the keys here are {', '.join(sorted(known))}"
        self.add(path, "unknown key", remedy, of_key=True)

    def add_invalid(self, error: ValidationError) -> None:
        """Note everything that pydantic found."""
        for detail in error.errors(include_url=False):
            self._add_detail(detail)

    def _add_detail(self, detail: ErrorDetails) -> None:
        path = tuple(part for part in detail["loc"] if not is_tag(part))
        kind, value = detail["type"], detail["input"]
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, BadValue):
            self.add_error(path, cause)
        elif kind == "extra_forbidden":
            self.add_unknown_key(path)
        elif kind == "missing":
            self.add(path, "is missing", "add the key")
        elif kind == "literal_error":
            self._add_choice(path, value, detail)
        elif value is None:
            self.add(path, "is empty", "write a value, or remove the key to have the default")
        elif kind in _KINDS:
            self.add(path, f"must be {_KINDS[kind]}, not {_kind_of(value)}", _REMEDIES.get(kind, ""))
        else:
            self.add(path, f"{_shown_value(value)}: {detail['msg'][0].lower()}{detail['msg'][1:]}")

    def _add_choice(self, path: KeyPath, value: object, detail: ErrorDetails) -> None:
        expected = str(detail.get("ctx", {}).get("expected", "")).replace("'", "")
        choices = expected.replace(" or ", ", ").split(", ")
        reason = yaml_trap(value) if isinstance(value, str) else ""
        message = f"{_shown_value(value)} is not one of {', '.join(choices)}" + (f": {reason}" if reason else "")
        self.add(path, message, _did_you_mean(str(value), choices))


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a section by the keys they have in the file."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else ""


def _kind_of(value: object) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    if isinstance(value, bool):
        return f"the switch {str(value).lower()}"
    return f"the number {value}" if isinstance(value, int | float) else f"the text {shown(value)}"


def _shown_value(value: object) -> str:
    return _kind_of(value) if isinstance(value, list | dict) else shown(value)


def _model_at(path: KeyPath) -> type[BaseModel] | None:
    """The section of the schema whose keys stand at `path`."""
    found: Any = Settings
    for part in path:
        if _is_model(found):
            field = keys_of(found).get(str(part))
            found = field.annotation if field is not None else None
        else:
            found = next(iter(_models_in(found)), None)
    return found if _is_model(found) else next(iter(_models_in(found)), None)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    found: list[type[BaseModel]] = []
    for argument in get_args(annotation):
        found += [argument] if _is_model(argument) else _models_in(argument)
    return found


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
