"""
Strict YAML: the file as plain values, with the place of every key and value.

Guarantees: a scalar is null, true or false, a decimal number, or else the text as it stands (nothing in base 60 or
8, no yes/no/on/off, no dates); keys are always text; the second of two equal keys is an error. Bounded work
whatever the input: at most 4 MiB, 200,000 values, 32 levels, and aliases that repeat at most 10,000 values.

On failure: `SettingsError`. Errors that leave the rest readable (equal keys, tags) are collected in
`Document.problems`; a syntax error ends the reading.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import yaml

from router.settings.problem import KeyPath, Problem, SettingsError, dotted
from router.settings.regular_file import open_regular
from router.settings.values import shown

try:
    from yaml import CSafeLoader as Loader
except ImportError:  # PyYAML built without libyaml: the same events, six times slower
    from yaml import SafeLoader as Loader  # type: ignore[assignment]

Value = str | int | float | bool | None | list["Value"] | dict[str, "Value"]

LARGEST_FILE = 4 * 1024 * 1024
MOST_VALUES = 200_000
MOST_REPEATED = 10_000
DEEPEST = 32

_TAG = "tag:yaml.org,2002:"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_TEXT_TAGS = frozenset({None, "!", f"{_TAG}str"})


_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "true": True, "false": False}
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_FRACTION = re.compile(r"-?(?:0|[1-9][0-9]{0,14})\.[0-9]{1,15}")


def plain_value(text: str) -> str | int | float | bool | None:
    """
    What an unquoted scalar is. This replaces YAML 1.1's resolver, which reads 22:30 as 1350 and `no` as false.

    >>> plain_value("22:30"), plain_value("no"), plain_value("0755"), plain_value("25")
    ('22:30', 'no', '0755', 25)
    """
    if text in _WORDS:
        return _WORDS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _FRACTION.fullmatch(text) else text


@dataclass(frozen=True, slots=True)
class Place:
    """Line and column, both from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Document:
    """A file that was read: its values, where each stands, and the problems that did not end the reading."""

    file: str
    root: Value
    values: dict[KeyPath, Place]
    keys: dict[KeyPath, Place]
    problems: tuple[Problem, ...]

    def place(self, path: KeyPath, *, of_key: bool = False) -> Place:
        """Place of a value (or of its key), else that of the nearest mapping or list around it."""
        if of_key and path in self.keys:
            return self.keys[path]
        for length in range(len(path), -1, -1):
            if path[:length] in self.values:
                return self.values[path[:length]]
        return Place(1, 1)


def read_document(path: Path) -> Document:
    """Read and parse the file. Raises `SettingsError` when it cannot be read or its syntax is wrong."""
    return parse_document(_read_text(path), str(path))


def parse_document(text: str, file: str) -> Document:
    """Parse the text of a file. Raises `SettingsError` when its syntax is wrong."""
    control = _CONTROL.search(text)
    if control is not None:
        before = text[: control.start()]
        line, column = before.count("\n") + 1, control.start() - (before.rfind("\n") + 1) + 1
        raise SettingsError([Problem(file, line, column, "", f"control character {control.group()!a}", "remove it")])
    try:
        loader = Loader(text)
    except UnicodeError as error:
        raise SettingsError([_no_yaml(file, error)]) from error
    builder = _Builder(loader, file)
    try:
        return builder.document()
    except yaml.MarkedYAMLError as error:
        raise SettingsError([*builder.problems, _syntax_problem(file, error)]) from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise SettingsError([_no_yaml(file, error)]) from error
    finally:
        builder.loader.dispose()


def _no_yaml(file: str, error: Exception) -> Problem:
    reason = getattr(error, "reason", "") or "it cannot be parsed"
    return Problem(file, 0, 0, "", f"not YAML: {reason}", "save the file as UTF-8")


def _read_text(path: Path) -> str:
    try:
        with open_regular(path) as source:
            content = source.read(LARGEST_FILE + 1)
    except OSError as error:
        raise SettingsError([Problem(str(path), 0, 0, "", f"cannot be read: {error.strerror}")]) from error
    if len(content) > LARGEST_FILE:
        remedy = "import people from a CSV file with `sluice user import`"
        raise SettingsError([Problem(str(path), 0, 0, "", "larger than 4 MiB", remedy)])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        problem = Problem(str(path), line, column, "", "not UTF-8 text", "save the file as UTF-8")
        raise SettingsError([problem]) from error


@dataclass(slots=True)
class _Anchor:
    value: Value
    size: int


@dataclass(slots=True)
class _Builder:
    """
    Builds values straight from parser events.

    PyYAML's own composer is not used: in its C form it recurses without a bound, and it hides explicit tags.
    """

    loader: Loader
    file: str
    problems: list[Problem] = field(default_factory=list)
    values: dict[KeyPath, Place] = field(default_factory=dict)
    keys: dict[KeyPath, Place] = field(default_factory=dict)
    anchors: dict[str, _Anchor | None] = field(default_factory=dict)
    count: int = 0
    repeated: int = 0

    def document(self) -> Document:
        self._next()  # start of stream
        root: Value = None
        if not self.loader.check_event(yaml.StreamEndEvent):
            self._next()  # start of document
            root = self._value(())
            self._next()  # end of document
            extra = self._next()
            if not isinstance(extra, yaml.StreamEndEvent):
                self._stop(extra, (), "a second document begins here", "remove the line `---`")
        return Document(self.file, root, self.values, self.keys, tuple(self.problems))

    def _value(self, path: KeyPath) -> Value:
        event = self._next()
        self.values[path] = _place(event)
        self.count += 1
        if self.count > MOST_VALUES:
            self._stop(event, path, f"more than {MOST_VALUES} values", "import people with `sluice user import`")
        if len(path) > DEEPEST:
            self._stop(event, path, f"nested deeper than {DEEPEST} levels")
        if isinstance(event, yaml.AliasEvent):
            return self._repeat(event, path)
        before, anchor = self.count, getattr(event, "anchor", None)
        if anchor is not None:
            self.anchors[anchor] = None
        value = self._content(event, path)
        if anchor is not None:
            self.anchors[anchor] = _Anchor(value, self.count - before + 1)
        return value

    def _content(self, event: yaml.Event, path: KeyPath) -> Value:
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        tag = getattr(event, "tag", None)
        if tag is not None:
            self._note(event, path, f"the tag {shown(tag)} has no meaning here", "remove it")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return self._mapping(path)

    def _scalar(self, event: yaml.ScalarEvent, path: KeyPath) -> Value:
        self._check_text(event, path)
        text: str = event.value
        if event.tag is not None or not event.implicit[0]:
            return text
        return plain_value(text)

    def _sequence(self, path: KeyPath) -> list[Value]:
        items: list[Value] = []
        while not self.loader.check_event(yaml.SequenceEndEvent):
            items.append(self._value((*path, len(items))))
        self._next()
        return items

    def _mapping(self, path: KeyPath) -> dict[str, Value]:
        items: dict[str, Value] = {}
        while not self.loader.check_event(yaml.MappingEndEvent):
            key_event = self._next()
            if not isinstance(key_event, yaml.ScalarEvent):
                self._stop(key_event, path, "a key must be plain text", "write `key: value`")
            key = self._key(key_event, (*path, key_event.value), items)
            if key is None:
                self._skip((*path, key_event.value))
            else:
                self.keys[(*path, key)] = _place(key_event)
                items[key] = self._value((*path, key))
        self._next()
        return items

    def _key(self, event: yaml.ScalarEvent, path: KeyPath, items: dict[str, Value]) -> str | None:
        """The key's text as it stands, or None with a problem noted when it cannot be used."""
        self._check_text(event, path)
        key: str = event.value
        if event.anchor is not None:
            self.anchors[event.anchor] = _Anchor(key, 1)
        if not key:
            self._note(event, path[:-1], "a key is empty", "write `key: value`")
        elif key == "<<" and event.implicit[0]:
            self._note(event, path, "merge keys are not understood here", "write the keys out")
        elif key in items:
            first = self.keys[path].line
            self._note(event, path, f"the key stands here a second time, first in line {first}", "remove one of them")
        else:
            return key
        return None

    def _skip(self, path: KeyPath) -> None:
        """Read a value that is not used, and leave no trace of its place over that of the first of equal keys."""
        known, self.values = self.values, {}
        keys, self.keys = self.keys, {}
        self._value(path)
        self.values, self.keys = known, keys

    def _repeat(self, event: yaml.AliasEvent, path: KeyPath) -> Value:
        name = str(event.anchor)
        anchor = self.anchors.get(name)
        if anchor is None:
            reason = (
                "stands inside what it repeats" if name in self.anchors else "repeats an anchor that does not exist"
            )
            self._stop(event, path, f"the alias {shown(f'*{name}')} {reason}")
        self.repeated += anchor.size
        self.count += anchor.size
        if self.repeated > MOST_REPEATED:
            self._stop(event, path, f"aliases repeat more than {MOST_REPEATED} values", "write the values out")
        return anchor.value

    def _check_text(self, event: yaml.ScalarEvent, path: KeyPath) -> None:
        if event.tag not in _TEXT_TAGS:
            self._note(event, path, f"the tag {shown(event.tag)} has no meaning here", "remove it")
        if not event.value.isprintable():
            self._note(event, path, f"{shown(event.value)} has a character that cannot be printed", "write one line")

    def _next(self) -> yaml.Event:
        event = self.loader.get_event()
        if event is None:
            raise yaml.YAMLError("the file ends too early")
        return event

    def _note(self, event: yaml.Event, path: KeyPath, message: str, remedy: str = "") -> None:
        place = _place(event)
        key = dotted(path) if all(isinstance(part, int) or part.isprintable() for part in path) else ""
        self.problems.append(Problem(self.file, place.line, place.column, key, message, remedy))

    def _stop(self, event: yaml.Event, path: KeyPath, message: str, remedy: str = "") -> NoReturn:
        self._note(event, path, message, remedy)
        raise SettingsError(self.problems)


def _place(event: yaml.Event) -> Place:
    mark = event.start_mark
    return Place(mark.line + 1, mark.column + 1) if mark is not None else Place(1, 1)


def _syntax_problem(file: str, error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
    message = str(error.problem or error.context or "it cannot be parsed")
    return Problem(file, line, column, "", f"not YAML: {message}", _syntax_remedy(message))


def _syntax_remedy(message: str) -> str:
    if "mapping values are not allowed" in message:
        return 'put a text that contains ": " in quotes, and check the indentation'
    if "cannot start any token" in message:
        return "indent with spaces, never tabs; put a text that begins with @, ` or % in quotes"
    if "did not find expected" in message:
        return "check the indentation, and that every bracket, brace and quote is closed"
    return ""
