"""How deep a GraphQL query goes, how many items and values it may bring, counted before any of it is carried out.

The count is linear in the query's text: what a fragment costs is counted once, however often it is spread, so that fragments
of fragments of fragments cannot make the counting itself the attack.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    IntValueNode,
    NullValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    value_from_ast_untyped,
)

LISTS = frozenset({"recommendations", "similar", "together", "popular", "trending", "search"})
SINGLE = frozenset({"item"})
ROWS = "items"  # of a list: what stands below it comes once an item
FACETS = {"categories": 50, "brands": 50, "prices": 10}  # of a search: so often at most what stands below it
OF_SCHEMA = frozenset({"__schema", "__type"})  # what generators and explorers ask; see Cost.schema_depth
# Of the schema itself: about so many of a type or a field, and of all types. What is asked of them twice costs twice.
PARTS = dict.fromkeys(("fields", "inputFields", "args", "interfaces", "possibleTypes", "enumValues"), 3)
PARTS |= {"types": 40, "directives": 5}


class Cost(NamedTuple):
    """Of a selection. depth: levels. items: that it may bring. values: fields that are worked out, but for those of each item of
    the list that the selection is of: `rows`, once an item. schema_depth, schema_values: of what is asked of the schema itself,
    which is neither depth nor values."""

    depth: int = 0
    items: int = 0
    values: int = 0
    rows: int = 0
    schema_depth: int = 0
    schema_values: int = 0


LEAF = Cost(depth=1, values=1)


class Costs:
    """What the operations of a document cost. usual, most: length of a list that says none, and of the longest."""

    def __init__(self, document: DocumentNode, variables: Mapping[str, Any], usual: int, most: int):
        self.given, self.usual, self.most = variables, usual, most
        self.operations = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
        fragments = (each for each in document.definitions if isinstance(each, FragmentDefinitionNode))
        self.fragments = {each.name.value: each for each in fragments}
        self._begin({})

    def of(self, operation: OperationDefinitionNode) -> Cost:
        """Of one operation, under its own defaults of the variables."""
        defaults = {
            each.variable.name.value: value_from_ast_untyped(each.default_value)
            for each in operation.variable_definitions
            if each.default_value is not None
        }
        self._begin(defaults)
        return self._selected(operation.selection_set)

    def _begin(self, defaults: dict[str, Any]) -> None:
        self.variables = {**defaults, **self.given}
        self._known: dict[str, Cost] = {}
        self._counting: set[str] = set()

    def _selected(self, selection: SelectionSetNode | None) -> Cost:
        depth = items = values = rows = schema_depth = schema_values = 0
        for node in selection.selections if selection else ():
            if isinstance(node, FieldNode):
                each = self._field(node)
            elif isinstance(node, FragmentSpreadNode):
                each = self._fragment(node.name.value)
            else:
                assert isinstance(node, InlineFragmentNode)
                each = self._selected(node.selection_set)
            depth, schema_depth = max(depth, each.depth), max(schema_depth, each.schema_depth)
            items, values, rows = items + each.items, values + each.values, rows + each.rows
            schema_values += each.schema_values
        return Cost(depth, items, values, rows, schema_depth, schema_values)

    def _field(self, node: FieldNode) -> Cost:
        name = node.name.value
        if node.selection_set is None and name not in LISTS and name not in SINGLE:
            return LEAF
        below = self._selected(node.selection_set)
        if name in OF_SCHEMA:
            return Cost(schema_depth=below.depth + 1, schema_values=below.values + below.rows + 1)
        depth, items, values, rows, *of_schema = below
        if name in LISTS:
            length = self._length(node)
            return Cost(depth + 1, length + items * length, 1 + values + rows * length, 0, *of_schema)
        if name == ROWS:
            return Cost(depth + 1, items, 1, values + rows, *of_schema)
        many = FACETS.get(name) or PARTS.get(name, 1)
        return Cost(depth + 1, items + (name in SINGLE), 1 + values * many, rows, *of_schema)

    def _fragment(self, name: str) -> Cost:
        """Unknown ones and circles cost nothing: the validation that comes next refuses them."""
        if name not in self._known:
            if name in self._counting or name not in self.fragments:
                return Cost()
            self._counting.add(name)
            self._known[name] = self._selected(self.fragments[name].selection_set)
        return self._known[name]

    def _length(self, field: FieldNode) -> int:
        """How many items a list may have. A length that is none is refused later, and counts as the most."""
        value: Any = next((each.value for each in field.arguments if each.name.value == "k"), None)
        if value is None or isinstance(value, NullValueNode):
            return self.usual
        if isinstance(value, VariableNode):
            told = self.variables.get(value.name.value)
            if told is None:  # not given, or null: as if the list said none
                return self.usual
        else:
            told = int(value.value) if isinstance(value, IntValueNode) and len(value.value) < 9 else self.most
        return min(max(told, 1), self.most) if isinstance(told, int) else self.most
