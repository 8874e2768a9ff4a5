"""The tree of served tables and macros beside the editor: types, row counts and comments."""

from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Static, Tree
from textual.widgets.tree import TreeNode

from tui.query.catalog import Catalog


@dataclass(frozen=True)
class _Entry:
    """What a node stands for."""

    text: str
    """What Enter inserts."""
    comment: str


class SchemaTree(Tree[_Entry]):
    """Tables with their columns; right and left open and close a table, Enter inserts a name."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right", "open(True)", show=False),
        Binding("left", "open(False)", show=False),
    ]

    def __init__(self) -> None:
        super().__init__("serving", id="schema-tree")
        self.show_root, self.auto_expand, self.guide_depth = False, False, 2

    def show(self, catalog: Catalog) -> None:
        """Show the names of a generation."""
        self.clear()
        for relation in catalog.relations.values():
            rows = "" if relation.rows is None else f"  {relation.rows:,}"
            label = Text.assemble(relation.name, (relation.parameters or rows, "dim"))
            comment = " ".join((relation.comment or "").split())
            table = self.root.add(label, _Entry(f"serving.{relation.completion}", comment))
            for column in relation.columns:
                entry = _Entry(column.name, " ".join((column.comment or "").split()))
                table.add_leaf(Text.assemble(column.name, (f"  {column.type}", "dim")), entry)

    def action_open(self, is_open: bool) -> None:
        node = self.cursor_node
        if node is None:
            return
        if is_open:
            node.expand()
        elif node.is_expanded or node.parent in (None, self.root):
            node.collapse()
        elif node.parent is not None:
            self.move_cursor(node.parent)
            node.parent.collapse()


class SchemaPanel(Vertical):
    """The tree, and the comment of the name under the cursor."""

    @dataclass
    class Chosen(Message):
        """A name was chosen, to be inserted into the query."""

        text: str

    def compose(self) -> ComposeResult:
        self.border_title, self.border_subtitle = "Tables", "→ columns  ⏎ insert"
        yield SchemaTree()
        yield Static(id="schema-comment", markup=False)

    @property
    def names(self) -> SchemaTree:
        return self.query_one(SchemaTree)

    @on(Tree.NodeHighlighted)
    def _show_comment(self, event: Tree.NodeHighlighted[_Entry]) -> None:
        event.stop()
        self.query_one("#schema-comment", Static).update(_comment_of(event.node))

    @on(Tree.NodeSelected)
    def _choose(self, event: Tree.NodeSelected[_Entry]) -> None:
        event.stop()
        if event.node.data:
            self.post_message(self.Chosen(event.node.data.text))


def _comment_of(node: TreeNode[_Entry]) -> str:
    return node.data.comment if node.data else ""
