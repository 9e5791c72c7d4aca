"""The notebook, executed cell by cell in a kernel of its own."""

from __future__ import annotations

from ast import literal_eval
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"


@pytest.fixture
def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def value_of(notebook: Any, cell_id: str) -> Any:
    [cell] = [cell for cell in notebook.cells if cell.id == cell_id]
    [result] = [output for output in cell.outputs if output.output_type == "execute_result"]
    return literal_eval(result.data["text/plain"])


def test_the_file_is_valid_and_holds_no_outputs(notebook: Any) -> None:
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


@pytest.mark.thorough
async def test_every_cell_runs(
    notebook: Any, moto_endpoint: str, table_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTBOX_ENDPOINT", moto_endpoint)
    monkeypatch.setenv("OUTBOX_TABLE", table_name)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    client = NotebookClient(notebook, timeout=240, startup_timeout=200, resources={"metadata": {"path": str(tmp_path)}})
    await client.async_execute()

    assert value_of(notebook, "create-table") == table_name
    assert value_of(notebook, "start") is True
    assert value_of(notebook, "emit") == ["Welcome, Ada!", "Welcome, Grace!"]
    [(name, retry_count, last_error)] = value_of(notebook, "dead-letters")
    assert (name, retry_count) == ("Alan", 0)
    assert "the address has no @" in last_error
    assert value_of(notebook, "retry") == (1, [], ["Welcome, Ada!", "Welcome, Alan!", "Welcome, Grace!"])
    assert value_of(notebook, "stop") is False
