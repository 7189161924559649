import csv
import io
from pathlib import Path

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_cancel.report.csv import cells, guarded
from batch_cancel.report.document import RUN_FIELDS
from batch_cancel.report.files import opened, write_reports
from batch_cancel.settings import ReportFormat
from tests.report.ledgers import ODD_IDS, build, every_outcome


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_what_a_spreadsheet_may_run_gets_a_quote(text: str) -> None:
    assert guarded(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "a=1", " =1", "'=1", "tsk-1", "1"])
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert guarded(text) == text


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_any_text_comes_back_from_its_cell(texts: list[str]) -> None:
    run = dict.fromkeys(RUN_FIELDS) | {"labels": {}} | dict(zip(RUN_FIELDS, texts, strict=False))
    out = io.StringIO(newline="")
    csv.writer(out).writerow(cells(run))
    (row,) = csv.reader(io.StringIO(out.getvalue(), newline=""))
    assert row[: len(texts)] == [guarded(text) for text in texts]


def test_a_spreadsheet_library_sees_text_in_every_cell_from_outside(tmp_path: Path) -> None:
    directory = build(tmp_path / "run", every_outcome)
    (path,) = write_reports(directory, [ReportFormat.CSV])
    sheet = openpyxl.Workbook().create_sheet()
    with path.open(encoding="utf-8", newline="") as stream:
        for number, row in enumerate(csv.reader(stream), start=1):
            for column, cell in enumerate(row, start=1):
                sheet.cell(number, column).value = cell
    kinds = {cell.data_type for row in sheet.iter_rows() for cell in row}
    assert "f" not in kinds  # a formula's
    ids = {str(cell.value).removeprefix("'") for cell in sheet["E"]}
    assert ids >= set(ODD_IDS)


def test_labels_are_a_json_object(tmp_path: Path) -> None:
    with opened(build(tmp_path / "run", every_outcome)) as document:
        labels = [dict(zip(RUN_FIELDS, cells(run), strict=True))["labels"] for run in document.runs()]
    assert [cell for cell in labels if cell] == ['{"team": "=1+1", "né": "ü"}']
