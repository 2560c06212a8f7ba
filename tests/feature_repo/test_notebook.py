"""The notebook of docs/features.md still runs, and is shipped with what it printed."""

from __future__ import annotations

import ast
import json
import re

import pandas as pd
import pytest

from aisle import lake

pytestmark = pytest.mark.spark
NOTEBOOK = lake.project_root() / "notebooks" / "features.ipynb"


def code_cells() -> list[dict]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def test_it_was_executed_and_names_no_machine() -> None:
    cells = code_cells()
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert any(cell["outputs"] for cell in cells)
    assert not any(output["output_type"] == "error" for cell in cells for output in cell["outputs"])
    printed = json.dumps([cell["outputs"] for cell in cells])
    assert str(lake.project_root()) not in printed


def page(cell: dict) -> str:
    """What a cell was shipped showing, as HTML."""
    return "".join("".join(each["data"].get("text/html", "")) for each in cell["outputs"] if "data" in each)


def shown(cell: dict) -> list[str] | None:
    """Column names of the table that a cell was shipped with; None for a cell that shows none."""
    heads = re.findall(r"<thead>(.*?)</thead>", page(cell), re.S)
    return [name for name in re.findall(r"<th>(.*?)</th>", heads[0], re.S) if name] if heads else None


def run(cell: dict, there: dict[str, object]) -> object:
    """Executes a cell as Jupyter does; its last expression's value, None where it has none."""
    tree = ast.parse("".join(cell["source"]).replace("sample(500", "sample(60"))
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(NOTEBOOK), "exec"), there)
    return eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), there) if last else None


def test_its_cells_run_on_another_shop_and_show_what_was_shipped(shop, capsys: pytest.CaptureFixture) -> None:
    there: dict[str, object] = {}
    tables = 0
    for cell in code_cells():
        found = run(cell, there)
        columns = list(map(str, found.columns)) if isinstance(found, pd.DataFrame) else None
        assert columns == shown(cell), (
            "run the notebook anew: it shows other columns than it was shipped with"
        )
        tables += columns is not None
        if columns and columns[0] in ("view", "service", "feature"):  # the catalogue is every shop's
            assert found._repr_html_() == page(cell)
    assert tables >= 6
    assert "labels have a past" in capsys.readouterr().out
