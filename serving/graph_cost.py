"""How deep a GraphQL query goes and how many items it may bring, counted before any of it is carried out.

The count is linear in the query's text: what a fragment costs is counted once, however often it is spread, so that fragments
of fragments of fragments cannot make the counting itself the attack.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
)
from strawberry.extensions import SchemaExtension

LISTS = frozenset({"recommendations", "similar", "together", "popular", "trending", "search"})
SINGLE = frozenset({"item"})


class Costs:
    """Depth and cost of the operations of a document. usual, most: length of a list that says none, and of the longest."""

    def __init__(self, document: DocumentNode, variables: Mapping[str, Any], usual: int, most: int):
        self.variables, self.usual, self.most = variables, usual, most
        self.operations = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
        fragments = (each for each in document.definitions if isinstance(each, FragmentDefinitionNode))
        self.fragments = {each.name.value: each for each in fragments}
        self._known: dict[str, tuple[int, int]] = {}
        self._counting: set[str] = set()

    def of(self, selection: SelectionSetNode | None) -> tuple[int, int]:
        """(depth, items) of a selection."""
        depth = items = 0
        for node in selection.selections if selection else ():
            if isinstance(node, FieldNode):
                below, each = self.of(node.selection_set)
                below, each = below + 1, each * self._length(node) + self._own(node)
            elif isinstance(node, FragmentSpreadNode):
                below, each = self._fragment(node.name.value)
            else:
                assert isinstance(node, InlineFragmentNode)
                below, each = self.of(node.selection_set)
            depth, items = max(depth, below), items + each
        return depth, items

    def _fragment(self, name: str) -> tuple[int, int]:
        """Unknown ones and circles cost nothing: the validation that comes next refuses them."""
        if name not in self._known:
            if name in self._counting or name not in self.fragments:
                return 0, 0
            self._counting.add(name)
            self._known[name] = self.of(self.fragments[name].selection_set)
        return self._known[name]

    def _own(self, field: FieldNode) -> int:
        return self._length(field) if field.name.value in LISTS else int(field.name.value in SINGLE)

    def _length(self, field: FieldNode) -> int:
        """How many items a list may have; 1 for what is no list. A length that is none is refused later, and counts as the most."""
        if field.name.value not in LISTS:
            return 1
        for argument in field.arguments:
            if argument.name.value == "k":
                value: Any = argument.value
                if isinstance(value, VariableNode):
                    told = self.variables.get(value.name.value, self.most)
                else:
                    told = (
                        int(value.value)
                        if isinstance(value, IntValueNode) and len(value.value) < 9
                        else self.most
                    )
                return min(max(told, 1), self.most) if isinstance(told, int) else self.most
        return self.usual


class Bounded(SchemaExtension):
    """Refuses a query that is too deep or brings too much, before it is validated."""

    def __init__(self, depth: int, items: int, usual: int, most: int):
        self.depth, self.items, self.usual, self.most = depth, items, usual, most

    def on_validate(self) -> Iterator[None]:
        context = self.execution_context
        assert context.graphql_document is not None
        costs = Costs(context.graphql_document, context.variables or {}, self.usual, self.most)
        faults = []
        if len(costs.operations) > 1 and not context.context["named"]:
            faults.append(GraphQLError("which of the operations is meant? Say it in operationName"))
        for operation in costs.operations:
            depth, items = costs.of(operation.selection_set)
            if depth > self.depth:
                faults.append(GraphQLError(f"the query is {depth} levels deep; at most {self.depth}"))
            if items > self.items:
                faults.append(
                    GraphQLError(
                        f"the query may bring {items} items; at most {self.items}: ask for shorter lists"
                    )
                )
        if faults:
            context.pre_execution_errors = faults
        yield
