"""The notebook of docs/features.md still runs, and is shipped with what it printed."""

from __future__ import annotations

import json

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


def test_its_cells_run_on_another_shop(shop, capsys: pytest.CaptureFixture) -> None:
    there: dict[str, object] = {}
    for cell in code_cells():
        text = "".join(cell["source"])
        exec(compile(text.replace("sample(500", "sample(60"), str(NOTEBOOK), "exec"), there)
    assert "labels have a past" in capsys.readouterr().out
