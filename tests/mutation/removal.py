"""A mutation operator that cosmic-ray lacks: leave a statement out, such as the call of `fsync`."""

import parso
from cosmic_ray.operators.operator import Example, Operator

NAME = "materia/RemoveStatement"


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


class Provider:
    """What cosmic-ray asks for the operators of a plug-in."""

    def __iter__(self):
        return iter((NAME.partition("/")[2],))

    def __getitem__(self, name):
        return {NAME.partition("/")[2]: RemoveStatement}[name]
