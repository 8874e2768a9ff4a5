"""Mutation operators that cosmic-ray lacks: statements left out, dotted exceptions, and SQL in text."""

import re
from collections.abc import Iterator

import parso
from cosmic_ray.operators.operator import Example, Operator
from parso.python.tree import Name

PLUGIN = "materia"


class RemoveStatement(Operator):
    """Replaces a call, a `raise`, or an assignment to anything but a plain name with `pass`.

    Without the assignment of a plain name the next line mostly fails, which shows nothing.
    """

    def mutation_positions(self, node):
        if node.type == "simple_stmt" and self._is_removable(node.children[0]):
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node, index):
        first = node.children[0]
        replaced = parso.parse("pass\n").children[0].children[0]
        replaced.prefix = first.get_first_leaf().prefix
        node.children[0] = replaced
        return node

    @staticmethod
    def _is_removable(statement):
        if statement.type == "expr_stmt":
            return statement.children[0].type != "name" or (
                statement.children[1].type == "operator" and (statement.children[1].value != "=")
            )
        return statement.type in {"atom_expr", "await_expr", "raise_stmt", "del_stmt"}

    @classmethod
    def examples(cls):
        return (
            Example("os.fsync(handle)\nos.close(handle)\n", "pass\nos.close(handle)\n"),
            Example("x = 1\nself.x = x\n", "x = 1\npass\n"),
            Example("count += 1\n", "pass\n"),
        )


class ReplaceException(Operator):
    """Catches another exception. cosmic-ray's own operator fails on dotted names such as `duckdb.Error`."""

    OTHER = "MutantError"

    def mutation_positions(self, node):
        for caught in self._caught(node):
            yield caught.start_pos, caught.end_pos

    def mutate(self, node, index):
        caught = self._caught(node)[index]
        siblings = caught.parent.children
        siblings[siblings.index(caught)] = Name(self.OTHER, caught.start_pos, caught.get_first_leaf().prefix)
        return node

    @staticmethod
    def _caught(node):
        if node.type != "except_clause":
            return ()
        caught = node.children[1]
        if caught.type != "atom":
            return (caught,)
        inner = caught.children[1]
        return tuple(inner.children[::2]) if inner.type == "testlist_comp" else (inner,)

    @classmethod
    def examples(cls):
        return (
            Example("try: f()\nexcept OSError: pass\n", "try: f()\nexcept MutantError: pass\n"),
            Example("try: f()\nexcept duckdb.Error as e: pass\n", "try: f()\nexcept MutantError as e: pass\n"),
            Example("try: f()\nexcept (a.B, C): pass\n", "try: f()\nexcept (MutantError, C): pass\n"),
            Example("try: f()\nexcept (a.B, C): pass\n", "try: f()\nexcept (a.B, MutantError): pass\n", occurrence=1),
        )


class ReplaceInSql(Operator):
    """Changes one token of the SQL in a text: a comparison, a day, a condition, a default, an order, a join."""

    _IS_SQL = re.compile(r"\b(SELECT|COALESCE|CREATE (OR REPLACE )?MACRO|UNION ALL)\b")
    _CHANGES = (
        (r"'[^'\n]*'", None),  # literals stay
        (r":=|OR REPLACE", None),
        (r"IS NOT NULL", "IS NULL"),
        (r"IS NULL", "IS NOT NULL"),
        (r"::DATE\b", "::DATE + 1"),
        (r"::DATE\b", "::DATE - 1"),
        (r"<>", "="),
        (r"<=", "<"),
        (r">=", ">"),
        (r"<", "<="),
        (r">", ">="),
        (r"=", "<>"),
        (r"\bAND\b", "OR"),
        (r"\bOR\b", "AND"),
        (r"\bNOT ", ""),
        (r"\bTRUE\b", "FALSE"),
        (r"\bFALSE\b", "TRUE"),
        (r"\bMIN\(", "MAX("),
        (r"\bMAX\(", "MIN("),
        (r"\bBOOL_OR\(", "BOOL_AND("),
        (r" DESC\b", " ASC"),
        (r" ASC\b", " DESC"),
        (r"\bLEFT JOIN\b", "JOIN"),
        (r"\bDISTINCT ", ""),
    )
    _TOKEN = re.compile("|".join(dict.fromkeys(pattern for pattern, _ in _CHANGES)))

    def mutation_positions(self, node):
        for start, end, _ in self._changes(node):
            yield _position(node, start), _position(node, end)

    def mutate(self, node, index):
        start, end, becomes = list(self._changes(node))[index]
        node.value = node.value[:start] + becomes + node.value[end:]
        return node

    def _changes(self, node) -> Iterator[tuple[int, int, str]]:
        """Start, end and replacement of each change in a string, or in a literal part of an f-string."""
        if node.type not in {"string", "fstring_string"}:
            return
        whole = node
        while whole.parent.type in {"fstring", "strings"}:
            whole = whole.parent
        if not self._IS_SQL.search(whole.get_code()):
            return
        # A quote that delimits the Python text is no quote of SQL.
        quotes = re.match(r"[a-zA-Z]*('''|\"\"\"|'|\")", node.value) if node.type == "string" else None
        for found in self._TOKEN.finditer(node.value, quotes.end() if quotes else 0):
            for pattern, becomes in self._CHANGES:
                if re.fullmatch(pattern, found[0]) and becomes is not None:
                    yield found.start(), found.end(), becomes

    @classmethod
    def examples(cls):
        return (
            Example('x = "SELECT 1 WHERE a <= b"\n', 'x = "SELECT 1 WHERE a < b"\n'),
            Example('x = f"SELECT {y} WHERE NOT b"\n', 'x = f"SELECT {y} WHERE b"\n'),
            Example("x = \"SELECT '<' AND d::DATE\"\n", "x = \"SELECT '<' AND d::DATE - 1\"\n", occurrence=2),
        )


def _position(node, offset: int) -> tuple[int, int]:
    """Line and column of an offset into a leaf."""
    before = node.value[:offset]
    line, column = node.start_pos
    above = before.count("\n")
    return line + above, offset - before.rfind("\n") - 1 if above else column + offset


_OPERATORS = {each.__name__: each for each in (RemoveStatement, ReplaceException, ReplaceInSql)}
NAMES = tuple(f"{PLUGIN}/{name}" for name in _OPERATORS)


class Provider:
    """What cosmic-ray asks for the operators of a plug-in."""

    def __iter__(self):
        return iter(_OPERATORS)

    def __getitem__(self, name):
        return _OPERATORS[name]
