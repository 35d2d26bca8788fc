"""The finder sees each kind of guard, and takes out that guard and nothing else."""

import ast
from pathlib import Path

import pytest
from mutation.equivalent import EQUIVALENT
from mutation.finder import KINDS, mutants, of_modules
from mutation.source import Module, Mutant, changed

ROOT = Path(__file__).resolve().parents[3]

GUARDS = {
    "fsync": ("import os\ndef f(d):\n    os.fsync(d)\n", "(lambda *_a, **_k: None)(d)"),
    "commit": ('def f(c):\n    c.execute("COMMIT")\n', 'c.execute("SELECT 1")'),
    "begin": ('def f(c):\n    c.execute("BEGIN IMMEDIATE")\n', 'c.execute("SELECT 1")'),
    "pragma": ('def f(c):\n    c.execute("PRAGMA synchronous = FULL")\n', 'c.execute("SELECT 1")'),
    "readback": (
        'def f(c):\n    level = c.execute("PRAGMA synchronous")\n    if level != 2:\n        raise ValueError\n',
        "if False:",
    ),
    "linger": ("def f(s):\n    s.setsockopt(1, SO_LINGER, b'')\n", "(lambda *_a, **_k: None)(1, SO_LINGER"),
    "shield": ("async def f(t):\n    await asyncio.shield(t)\n", "await (lambda x: x)(t)"),
    "condition": ("def f(c, n, s):\n    c.execute(update(T).where(T.c.n == n, T.c.s == s))\n", "sqlalchemy"),
    "rowcount": ("def f(r):\n    if r.rowcount == 0:\n        raise ValueError\n", "if False:"),
    "epoch": ("def f(a, b):\n    return a.epoch < b\n", "return True"),
    "turn": ("async def f(self, k):\n    e = decide(k)\n    self.flying.register(e)\n", "sleep(0)\n    self.flying"),
}


def found(text: str, kind: str = "", path: str = "router/deliver/x.py") -> list[tuple[Mutant, str]]:
    module = Module(path, text.encode())
    return [
        (one, changed(module.text, one.edits).decode()) for one in of_modules([module]) if one.kind.startswith(kind)
    ]


@pytest.fixture(scope="module")
def every() -> list[Mutant]:
    return mutants(ROOT)


def test_there_is_an_example_of_each_kind() -> None:
    assert GUARDS.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", GUARDS)
def test_each_kind_is_found_and_taken_out(kind: str) -> None:
    text, without = GUARDS[kind]
    assert without not in text
    assert any(without in mutated for _, mutated in found(text, kind)), found(text)


def test_what_only_wraps_a_guard_is_a_guard_and_what_does_more_is_not() -> None:
    text = (
        "def sync(p):\n    d = os.open(p)\n    os.fsync(d)\n    os.close(d)\n"
        "def write(p):\n    os.write(p)\n    os.fsync(p)\n"
        "def f(p):\n    write(p)\n    sync(p)\n"
    )
    assert [(one.function, one.what.split()[0]) for one, _ in found(text)] == [
        ("sync", "os.fsync"),
        ("write", "os.fsync"),
        ("f", "sync"),
    ]


def test_a_guard_that_is_passed_on_is_found() -> None:
    [(_, mutated)] = found("async def f(d):\n    await asyncio.to_thread(os.fsync, d)\n")
    assert "to_thread((lambda *_a, **_k: None), d)" in mutated


def test_a_transaction_of_sqlalchemy_is_rolled_back_at_its_end() -> None:
    [(_, mutated)] = found("def f(c):\n    with c.options().begin():\n        pass\n", "commit")
    assert 'contextlib").closing(c.options().begin())' in mutated


def test_each_row_of_a_table_of_pragmas_is_left_out_once() -> None:
    text = 'W = (("a", 1), ("b", 2))\ndef f(c):\n    for n, v in W:\n        c.execute(f"PRAGMA {n}={v}")\n'
    texts = [mutated for _, mutated in found(text, "pragma")]
    assert any('W = (("b", 2))' in one for one in texts)
    assert any('W = (("a", 1), )' in one for one in texts)


def test_conditions_are_followed_to_where_they_are_put_together() -> None:
    text = (
        "def f(c, e):\n    open = (T.c.kind == 1) & T.c.at.is_(None)\n    if e:\n        open &= T.c.epoch <= e\n"
        "    c.execute(update(T).where(open).values(at=2))\n"
    )
    assert [one.what for one, _ in found(text, "condition")] == [
        "without the condition T.c.kind == 1",
        "without the condition T.c.at.is_(None)",
        "without the condition T.c.epoch <= e",
    ]


def test_a_statement_in_words_loses_one_condition_at_a_time() -> None:
    text = 'def f(c):\n    c.execute("UPDATE t SET a = ? WHERE (b = 1 AND c = 2) AND d BETWEEN ? AND ? AND e = ?")\n'
    assert [one.what.removeprefix("without the condition ") for one, _ in found(text, "condition")] == [
        "(b = 1 AND c = 2)",
        "d BETWEEN ? AND ?",
        "e = ?",
    ]
    assert found('def f(c):\n    c.execute("DELETE FROM t WHERE a = ? OR b = ?")\n', "condition") == []


def test_an_await_between_deciding_and_registering_makes_coroutines_of_all_callers() -> None:
    text = (
        "class D:\n    async def go(self):\n        return self._decide(1)\n"
        "    def _decide(self, k):\n        route = self.route(k)\n        return self.flying.register(route)\n"
    )
    [(_, mutated)] = found(text, "turn")
    assert "return (await self._decide(1))" in mutated
    assert "async def _decide" in mutated
    ast.parse(mutated)


def test_there_is_no_await_where_none_can_get() -> None:
    assert (
        found("class D:\n    def decide(self):\n        r = self.route()\n        self.f.register(r)\n", "turn") == []
    )
    lazy = (
        "class D:\n    async def go(self):\n        later(lambda: self._decide(1))\n"
        "    def _decide(self, k):\n        r = self.route(k)\n        self.f.register(r)\n"
    )
    assert found(lazy, "turn") == []


def test_looking_and_entering_is_one_step_unless_an_await_is_there_already() -> None:
    text = "class D:\n    async def f(self, k):\n        if k in self.a:\n            return\n{}        self.a.add(k)\n"
    assert len(found(text.format(""), "turn")) == 1
    assert found(text.format("        await g()\n"), "turn") == []


@pytest.mark.slow
def test_the_mutants_of_the_tree_are_python_have_names_and_cover_every_kind(every: list[Mutant]) -> None:
    assert {one.kind for one in every} == KINDS.keys()
    assert len({one.name for one in every}) == len(every) > 150
    texts = {path: (ROOT / path).read_bytes() for path in {one.path for one in every}}
    for one in every:
        mutated = changed(texts[one.path], one.edits)
        assert mutated != texts[one.path], one.name
        ast.parse(mutated)


@pytest.mark.parametrize(
    "name",
    [
        "fsync:router/spool/bodies.py:_GrowingFile._commit:1",
        "commit:router/spool/writer.py:Writer._transact:1",
        "commit:router/control/database.py:ControlDatabase._transaction:1",
        "pragma:router/spool/schema.py:configure:2",
        "linger:router/deliver/protocol.py:NextHopProtocol.linger:1",
        "turn:router/pipeline/dispatch.py:Dispatcher._decide:2",
        "condition:router/control/barrier.py:module:3",
        "epoch:router/classify/cache.py:Cache.admit:2",
        "shield:router/classify/flight.py:SingleFlight.run:1",
    ],
)
@pytest.mark.slow
def test_the_guards_that_everything_rests_on_are_found(every: list[Mutant], name: str) -> None:
    assert name in {one.name for one in every}


@pytest.mark.slow
def test_every_equivalent_mutant_is_one_that_is_found_and_has_a_reason(every: list[Mutant]) -> None:
    names = {one.name for one in every}
    assert [name for name in EQUIVALENT if name not in names] == []
    assert all(len(reason) > 20 for reason in EQUIVALENT.values())
