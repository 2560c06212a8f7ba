"""What is refused of a GraphQL query before it is validated: no operation that is meant, too deep, too much.

How deep and how much is counted by `serving.graph_cost`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphql import DocumentNode, GraphQLError, OperationDefinitionNode
from strawberry.extensions import SchemaExtension

from serving.graph_cost import Costs
from serving.problems import shown

SCHEMA_DEPTH = (
    20  # levels of what is asked of the schema itself; the usual query of explorers and generators has 15
)
SCHEMA_VALUES = 40_000  # that it may bring


def meant(document: DocumentNode, named: str | None) -> OperationDefinitionNode:
    """The operation that is to be carried out. Raises GraphQLError, which says what there is."""
    every = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
    names = [each.name.value if each.name else "one without a name" for each in every]
    listed = shown(", ".join(names), 200)
    if not every:
        raise GraphQLError("no operation in the document: begin with { … } or query Name { … }")
    if named is not None:
        found = next((each for each in every if each.name and each.name.value == named), None)
        if found is None:
            there = f"it is {listed}" if len(every) == 1 else f"they are {listed}"
            raise GraphQLError(f"no operation named '{shown(named)}'; {there}: say one of them, or null")
        return found
    if len(every) > 1:
        raise GraphQLError(f"which of the operations is meant: {listed}? Say it in operationName")
    return every[0]


class Bounded(SchemaExtension):
    """usual, most: length of a list that says none, and of the longest. depth, items, values: of serving.limits."""

    def __init__(self, depth: int, items: int, values: int, usual: int, most: int):
        self.depth, self.items, self.values, self.usual, self.most = depth, items, values, usual, most

    def on_parse(self) -> Iterator[None]:
        """After it: strawberry looks for the operation next, and what it finds missing it tells as a fault of ours."""
        yield
        document = self.execution_context.graphql_document
        if document is not None:
            self.operation = meant(document, self.execution_context.context["named"])

    def on_validate(self) -> Iterator[None]:
        context = self.execution_context
        assert context.graphql_document is not None
        costs = Costs(context.graphql_document, context.variables or {}, self.usual, self.most)
        found = costs.of(self.operation)
        faults = [
            GraphQLError(told)
            for too_much, told in (
                (found.depth > self.depth, f"the query is {found.depth} levels deep; at most {self.depth}"),
                (
                    found.items > self.items,
                    f"the query may bring {found.items} items; at most {self.items}: ask for shorter lists",
                ),
                (
                    found.values > self.values,
                    f"the query may bring {found.values} values; at most {self.values}: ask for fewer fields or items",
                ),
                (
                    found.schema_depth > SCHEMA_DEPTH,
                    f"the question of the schema is {found.schema_depth} levels deep; at most {SCHEMA_DEPTH}",
                ),
                (
                    found.schema_values > SCHEMA_VALUES,
                    "the question of the schema asks for the same again and again: GET /v1/graphql has the schema",
                ),
            )
            if too_much
        ]
        if faults:
            context.pre_execution_errors = faults
        yield
