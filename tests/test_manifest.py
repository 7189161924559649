"""Manifests: what is written arrives, and what is wrong is named by line, column and reason."""

import csv
import io
import json
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from batch_cancel.core.errors import InputError, Problem, UsageError
from batch_cancel.manifest import ManifestRow, format_by_ending, read_manifest
from batch_cancel.manifest.read import copy_manifest
from batch_cancel.settings import ManifestFormat

CSV, TSV, YAML = ManifestFormat.CSV, ManifestFormat.TSV, ManifestFormat.YAML
JSON, JSONL = ManifestFormat.JSON, ManifestFormat.JSONL


def read(text: str | bytes, file_format: ManifestFormat) -> list[ManifestRow | Problem]:
    data = text.encode() if isinstance(text, str) else text
    return list(read_manifest("-", file_format, stdin=io.BytesIO(data)))


def keys(text: str | bytes, file_format: ManifestFormat) -> list[tuple[str, str]]:
    rows = read(text, file_format)
    assert all(isinstance(row, ManifestRow) for row in rows), rows
    return [(row.transform_id, row.task_run_id) for row in rows if isinstance(row, ManifestRow)]


def refused(text: str | bytes, file_format: ManifestFormat) -> str:
    """Everything that is said about a text that must not pass."""
    try:
        rows = read(text, file_format)
    except InputError as error:
        return str(error)
    problems = [row for row in rows if isinstance(row, Problem)]
    assert problems, rows
    return "\n".join(str(problem) for problem in problems)


# -- round trips ------------------------------------------------------------------------------------------------------

ODD = st.sampled_from(
    ["=1+1", "-x", "@a", "a,b", 'a"b', '"', "a\tb", " lead", "trail ", "null", "123", "0123", "true", "~", "- a", "#x"]
) | st.sampled_from(
    ["{a}", "&a", "*a", "!t", "x: y", "<<", *"日🎉\U0010ffff\ufffd\ue000\x7f\x85\u2028\ufeff"],
)
IDS = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x10FFFF, exclude_categories=["Cs"]).filter(
        lambda c: c not in "\ufffe\uffff"
    )
    | st.just("\t"),
    min_size=1,
    max_size=255,
)
PAIRS = st.lists(st.tuples(ODD | IDS, ODD | IDS), max_size=8)


def as_delimited(pairs: list[tuple[str, str]], delimiter: str) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(["transform_id", "task_run_id"])
    writer.writerows(pairs)
    return text.getvalue()


def as_objects(pairs: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"transform_id": transform_id, "task_run_id": run_id} for transform_id, run_id in pairs]


WRITERS: dict[str, tuple[ManifestFormat, Callable[[list[tuple[str, str]]], str]]] = {
    "csv": (CSV, lambda pairs: as_delimited(pairs, ",")),
    "tsv": (TSV, lambda pairs: as_delimited(pairs, "\t")),
    "json": (JSON, lambda pairs: json.dumps(as_objects(pairs), ensure_ascii=False)),
    "json-indented": (JSON, lambda pairs: json.dumps(as_objects(pairs), indent=2)),
    "json-task-runs": (JSON, lambda pairs: json.dumps({"x": [{}], "TaskRuns": as_objects(pairs), "NextToken": "t"})),
    "jsonl": (JSONL, lambda pairs: "\n\n".join(json.dumps(row) for row in as_objects(pairs)) + "\n"),
    "yaml": (YAML, lambda pairs: yaml.safe_dump(as_objects(plain(pairs)), allow_unicode=True)),
    "yaml-escaped": (YAML, lambda pairs: yaml.safe_dump({"runs": as_objects(pairs)}, default_style='"')),
    "yaml-transforms": (YAML, lambda pairs: "transforms:" + yaml_by_transform(pairs)),
}


def plain(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without what PyYAML's own writer leaves unescaped although its reader makes something else of it."""
    table = dict.fromkeys(map(ord, "\x85\u2028\u2029\ufeff"), "_")
    return [(transform_id.translate(table), run_id.translate(table)) for transform_id, run_id in pairs]


def yaml_by_transform(pairs: list[tuple[str, str]]) -> str:
    def quoted(text: str) -> str:
        return str(yaml.safe_dump(text, default_style='"', width=9999)).strip()

    return "".join(f"\n  ? {quoted(t)}\n  : [{quoted(r)}]" for t, r in pairs) or " {}"


@pytest.mark.parametrize("name", WRITERS)
@given(pairs=PAIRS)
def test_ids_arrive_exactly_as_written(name: str, pairs: list[tuple[str, str]]) -> None:
    file_format, write = WRITERS[name]
    text = write(pairs)
    if not pairs and file_format is JSONL:
        return
    assert keys(text, file_format) == (plain(pairs) if name == "yaml" else pairs)


@given(pairs=PAIRS)
def test_a_byte_order_mark_changes_nothing(pairs: list[tuple[str, str]]) -> None:
    for file_format, write in (WRITERS["csv"], WRITERS["json"]):
        assert keys("\ufeff" + write(pairs), file_format) == pairs


@given(st.binary(max_size=300), st.sampled_from(list(ManifestFormat)))
def test_no_bytes_whatever_end_in_anything_but_rows_and_problems(data: bytes, file_format: ManifestFormat) -> None:
    try:
        rows = read(b"transform_id,task_run_id\n" + data if file_format is CSV else data, file_format)
    except InputError as error:
        str(error).encode()
    else:
        for row in rows:
            str(row).encode()


@given(st.text(alphabet="[]{}\",:\\ntruefalse0 -\n#&*!|>?'", max_size=60), st.sampled_from([JSON, JSONL, YAML]))
def test_no_punctuation_whatever_ends_in_a_traceback(text: str, file_format: ManifestFormat) -> None:
    try:
        read(text, file_format)
    except InputError as error:
        assert error.problems


# -- what is kept -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "file_format"),
    [
        ("team,TransformId,region,TaskRunId,account_id\nml,t,eu-west-1,r,012345678901\n", CSV),
        ("team\tTransformId\tregion\tTaskRunId\taccount_id\nml\tt\teu-west-1\tr\t012345678901\n", TSV),
        ('- {team: ml, TransformId: t, region: eu-west-1, TaskRunId: r, account_id: "012345678901"}', YAML),
        ('[{"team":"ml","TransformId":"t","region":"eu-west-1","TaskRunId":"r","account_id":"012345678901"}]', JSON),
        ('{"team":"ml","TransformId":"t","region":"eu-west-1","TaskRunId":"r","account_id":"012345678901"}', JSONL),
    ],
)
def test_all_fields_and_labels(text: str, file_format: ManifestFormat) -> None:
    line = 2 if file_format in (CSV, TSV) else 1
    assert read(text, file_format) == [ManifestRow(line, "t", "r", "012345678901", "eu-west-1", {"team": "ml"})]


def test_labels_keep_what_was_written() -> None:
    entries = '"n": 1.10, "b": true, "x": null, "p": {"k": [1, "é", false, null]}'
    expected = {"n": "1.10", "b": "true", "p": '{"k":[1,"é",false,null]}'}
    for text, file_format in [
        ('[{"transform_id":"t","task_run_id":"r",' + entries + "}]", JSON),
        ('{"transform_id":"t","task_run_id":"r",' + entries + "}", JSONL),
        ('- {"transform_id":"t","task_run_id":"r",' + entries + "}", YAML),
    ]:
        (row,) = read(text, file_format)
        assert isinstance(row, ManifestRow)
        assert row.labels == expected


def test_csv_may_have_the_semicolons_of_a_spreadsheet() -> None:
    text = '\ufeff\r\n"TransformId";TaskRunId;team\r\na,1;b;"x;y"\r\n\r\nc;;\r\n'
    good, bad = read(text, CSV)
    assert good == ManifestRow(3, "a,1", "b", None, None, {"team": "x;y"})
    assert "5:3: task_run_id is empty" in str(bad)
    assert keys('transform_id,task_run_id,"a;b"\na;1,b;2,c\n', CSV) == [("a;1", "b;2")]
    assert "separated by" in refused("transform_id;task_run_id\n", TSV)


def remarks(text: str, file_format: ManifestFormat) -> list[str]:
    """What is said about a text of which every row passes, exactly as written."""
    told: list[str] = []
    rows = list(read_manifest("-", file_format, stdin=io.BytesIO(text.encode()), on_remark=told.append))
    assert all(isinstance(row, ManifestRow) for row in rows), rows
    return told


@pytest.mark.parametrize("written", ["tsk-1 ", "\u00a0tsk-1", "tsk-1\u200b", "\u201ctsk-1\u201d", "tsk-1\u2026"])
def test_an_id_that_was_hardly_meant_so_is_told(written: str) -> None:
    text = f"transform_id,task_run_id\ntfm-1,tsk-0\ntfm-1,{written}\ntfm-2,{written}\n"
    assert keys(text, CSV)[1] == ("tfm-1", written)
    (said,) = remarks(text, CSV)
    assert said.startswith("standard input: 2 rows with an id that begins or ends with")
    assert "(line 3: '" in said
    assert "sent exactly as written" in said
    assert len(remarks(f'[{{"transform_id": "tfm-1", "task_run_id": "{written}"}}]', JSON)) == 1


def test_columns_that_may_be_mixed_up_are_told() -> None:
    (said,) = remarks("transform_id,task_run_id\ntsk-1,tfm-1\n", CSV)
    assert "1 row with a transform_id that looks like a task run's (line 2: 'tsk-1')" in said
    assert remarks("transform_id,task_run_id\ntfm-1,tsk-1\ntsk-2,tsk-2\n", CSV) == []


def test_csv_lines_are_counted_under_quoted_newlines_and_blank_lines() -> None:
    text = '\n \ntransform_id,task_run_id,note\n\nt1,r1,"a\nb\r\nc"\r\n\r\n  \nt2,r2,\n'
    rows = read(text, CSV)
    assert [(row.line, row.labels) for row in rows if isinstance(row, ManifestRow)] == [
        (5, {"note": "a\nb\r\nc"}),
        (10, {}),
    ]


def test_a_list_of_nothing_is_a_list() -> None:
    for text, file_format in [
        ("transform_id,task_run_id\n", CSV),
        ("[]", JSON),
        ('{"TaskRuns": []}', JSON),
        ("[]", YAML),
        ("runs: []", YAML),
        ("transforms: {a: []}", YAML),
    ]:
        assert read(text, file_format) == []


def test_yaml_by_transform() -> None:
    text = "transforms:\n  tfm-1: [a, b]\n  tfm-2:\n    - 'c'\n"
    assert keys(text, YAML) == [("tfm-1", "a"), ("tfm-1", "b"), ("tfm-2", "c")]


def test_a_report_asks_again_for_its_unfinished_runs() -> None:
    def run(name: str, outcome: str) -> dict[str, object]:
        place = {"account_id": "111111111111", "region": "us-east-1", "transform_id": "t", "task_run_id": name}
        return place | {"status_before": "RUNNING", "outcome": outcome, "labels": {"team": "ml"}, "attempts": 3}

    outcomes = ["stopped", "failed", "not_found", "would_cancel", "not_attempted", "excluded", "unknown", "stopping"]
    report = {
        "schema": "batch-cancel/report/1",
        "targets": [{"region": "us-east-1", "error": {"code": "x"}}],
        "totals": {"runs": 8, "outcomes": {"stopped": 1}},
        "runs": [run(f"r-{outcome}", outcome) for outcome in outcomes],
    }
    for indent in (None, 2):
        rows = [row for row in read(json.dumps(report, indent=indent), JSON) if isinstance(row, ManifestRow)]
        assert [row.task_run_id for row in rows] == [
            "r-failed",
            "r-would_cancel",
            "r-not_attempted",
            "r-unknown",
            "r-stopping",
        ]
        assert {(row.account_id, row.region, row.labels["team"], len(row.labels)) for row in rows} == {
            ("111111111111", "us-east-1", "ml", 1)
        }


def test_what_aws_glue_prints() -> None:
    run = {"TransformId": "t", "TaskRunId": "r", "Status": "RUNNING", "ExecutionTime": 7, "Properties": {"a": {"b": 1}}}
    (row,) = read(json.dumps({"TaskRuns": [run], "NextToken": "x"}, indent=4), JSON)
    assert isinstance(row, ManifestRow)
    assert row.labels == {"Status": "RUNNING", "ExecutionTime": "7", "Properties": '{"a":{"b":1}}'}
    assert row.line == 3


# -- what is refused --------------------------------------------------------------------------------------------------

H = "transform_id,task_run_id\n"


@pytest.mark.parametrize(
    ("text", "file_format", "said"),
    [
        ("", CSV, "the file is empty"),
        ("\n\n", TSV, "the file is empty"),
        ("", JSON, "the file is empty"),
        (" \n", JSONL, "the file is empty"),
        ("# nothing\n", YAML, "the file is empty"),
        ("---\n", YAML, "the file is empty"),
        (
            "t1,r1\nt2,r2\n",
            CSV,
            "standard input:1:1: the first line must name the columns, as transform_id,task_run_id does; this one",
        ),
        ("t1,r1\n", CSV, "if it is a run already, put a line before it that names each of its columns"),
        ("transform_id|task_run_id\n", CSV, "the columns seem to be separated by '|': write ',' between them"),
        ("transform_id;run\na;b\n", CSV, "must name the columns, as transform_id;task_run_id does"),
        ("transform_id\ttask_run_id\n", CSV, "separated by '\\t': give --manifest-format tsv"),
        ("t1\tr1\n", TSV, "as transform_id<tab>task_run_id does"),
        ("transform_id,run\n", CSV, "there is no task_run_id: the first line must name the columns, as transform_id,"),
        ("TRANSFORM_ID,TASK_RUN_ID\n", CSV, "no task_run_id, but 'TASK_RUN_ID'; did you mean 'task_run_id'?"),
        ("transform_id,task_runid\n", CSV, "there is no task_run_id, but 'task_runid'; did you mean 'task_run_id'?"),
        ("transform_id,TransformId,task_run_id\n", CSV, "standard input:1:14: column 'TransformId' stands there twice"),
        ("transform_id,task_run_id,x,x\n", CSV, "standard input:1:28: column 'x' stands there twice"),
        ("transform_id,task_run_id,\n", CSV, "standard input:1:26: column 3 has no name"),
        (H + "t\n", CSV, "standard input:2:1: 1 field where the header has 2"),
        (H + "t,r,x\n", CSV, "standard input:2:5: 3 fields where the header has 2"),
        (H + "t,\n", CSV, "standard input:2:3: task_run_id is empty"),
        (H + ",r\n", CSV, "standard input:2:1: transform_id is empty"),
        (H + "t," + "x" * 256, CSV, "standard input:2:3: task_run_id has 256 characters; at most 255"),
        (H + "t,a\x07b", CSV, "standard input:2:3: task_run_id holds U+0007 at character 2"),
        (H + "t,a\x00b", CSV, "U+0000"),
        (H + 't,"a\nb"', CSV, "standard input:2:3: task_run_id holds U+000A"),
        ((H + "t,é").encode("latin-1"), CSV, "standard input:2:3: task_run_id is not UTF-8: byte 0xE9 at character 1"),
        ("transform_id,task_run_id,x\nt,r,é".encode("latin-1"), CSV, "standard input:2:5: 'x' is not UTF-8: byte 0xE9"),
        ("transform_id,task_run_id,é\nt,r,x".encode("latin-1"), CSV, "standard input:1:26"),
        ((H + "t,r").encode("utf-16"), CSV, "save it as UTF-8"),
        ((H + "t,r").encode("utf-16-le"), CSV, "save it as UTF-8"),
        (H + 't1,r1\nt2,"r2\nt3,r3\n', CSV, "standard input:3:4: a quote opens here and is never closed"),
        (H + '"a\nb",r1\n"c\nd",x,"r2\nt3,r3\n', CSV, "standard input:5:6: a quote opens here"),
        ('"transform_id,task_run_id\n', CSV, "standard input:1:1: a quote opens here"),
        (H + 't,"a"b\nt,r\n', CSV, "a quote inside a quoted field is written twice"),
        ("transform_id,task_run_id\n,\n", CSV, "standard input:2:1: transform_id is empty"),
        ("transform_id,task_run_id,account_id\nt,r,2.22222E+11\n", CSV, "a spreadsheet rounded it as a number"),
        ('transform_id;task_run_id;account_id\nt;r;"2,2E+11"\n', CSV, "2:5: account_id '2,2E+11' is not twelve digits"),
        (
            "transform_id,task_run_id,account_id\nt,r,12345678901\n",
            CSV,
            "standard input:2:5: account_id '12345678901' is",
        ),
        (
            "transform_id,task_run_id,region\nt,r,eu-wset-1\n",
            CSV,
            "unknown region 'eu-wset-1'; did you mean 'eu-west-1'?",
        ),
        ("{}", JSON, "the object has no list of runs"),
        ('{"taskRuns": []}', JSON, "did you mean 'TaskRuns'?"),
        ('{"TaskRuns": {}}', JSON, "standard input:1:14: TaskRuns is not a list"),
        ('{"TaskRuns": [], "TaskRuns": []}', JSON, "TaskRuns stands there twice"),
        ('"x"', JSON, "neither a list nor an object"),
        ("nonsense", JSON, "standard input:1:1: not JSON: expecting value"),
        ('[{"transform_id": "t"', JSON, "not JSON"),
        ('[{"transform_id": "t", "task_run_id": "r"}', JSON, "found the end of the file"),
        ('[{"transform_id": "t", "task_run_id": "r"},]', JSON, "standard input:1:44: a comma before ']'"),
        ('[{"transform_id": "t", "task_run_id": "r"} {}]', JSON, "standard input:1:44: expected ','"),
        ("[]\n[]", JSON, "standard input:2:1: something follows"),
        ("{1: []}", JSON, "expected a key"),
        ("[1]", JSON, "standard input:1:2: not an object"),
        (
            '[\n {"transform_id": "t",\n  "task_run_id": 12}\n]',
            JSON,
            'standard input:3:18: task_run_id is a number: quote it, "12"',
        ),
        ('[{"transform_id": "t", "task_run_id": null}]', JSON, "task_run_id is null"),
        ('[{"transform_id": true, "task_run_id": "r"}]', JSON, 'transform_id is a truth value: quote it, "true"'),
        ('[{"transform_id": [], "task_run_id": "r"}]', JSON, "transform_id is a list"),
        ('[{"transform_id": "t", "task_run_id": "\\ud800"}]', JSON, "holds U+D800"),
        ('[{"transform_id": "t", "transform_id": "t", "task_run_id": "r"}]', JSON, "'transform_id' stands there twice"),
        ('[{"transform_id": "t", "TransformId": "t", "task_run_id": "r"}]', JSON, "transform_id is given twice"),
        ('[{"transform_id": "t", "taskrun_id": "r"}]', JSON, "did you mean 'task_run_id'?"),
        ('[{"transform_id": "t", "task_run_id": "r", "account_id": 12}]', JSON, "account_id is a number: quote it"),
        ("[" * 200_000, JSON, "nested too deeply"),
        ('[{"transform_id": "t", "task_run_id": "r", "x": "' + "y" * 1_100_000 + '"}]', JSON, "a value of more than"),
        ('{"transform_id": "t", "task_run_id": "r"}\n{"a"', JSONL, "standard input:2:5: not JSON"),
        ("\n 7\n", JSONL, "standard input:2:2: not an object"),
        ("[" * 200_000, JSONL, "standard input:1:1: nested too deeply"),
        ("x" * 1_100_000, JSONL, "standard input:1: a line of more than"),
        (H + "x" * 1_100_000, CSV, "standard input:2: a line of more than"),
        (
            "- transform_id: t\n  task_run_id: 123\n",
            YAML,
            "standard input:2:16: task_run_id is a number: quote it",
        ),
        ("- {transform_id: t, task_run_id: 2024-01-01}", YAML, "task_run_id is a date: quote it"),
        ("- {transform_id: t, task_run_id: yes}", YAML, "is a truth value: quote it"),
        ("- {transform_id: t, task_run_id: ~}", YAML, "standard input:1:34: task_run_id is null"),
        ("- {transform_id: t, task_run_id: r, account_id: 123456789012}", YAML, "account_id is a number: quote it"),
        ("- {transform_id: t, transform_id: t, task_run_id: r}", YAML, "'transform_id' stands there twice"),
        ("- [a]\n- b\n- {transform_id: t, task_run_id: [x]}", YAML, "standard input:1:3: not a mapping"),
        ("- &a {transform_id: t}\n- *a", YAML, "standard input:1:3: anchors (&name) are not allowed"),
        ("- *a", YAML, "standard input:1:3: aliases (*name) are not allowed"),
        ("- !!python/object/apply:os.system ['id']", YAML, "standard input:1:3: tags"),
        ("- {transform_id: !x t, task_run_id: r}", YAML, "standard input:1:18: tags ('!x') are not allowed"),
        ("- {<<: {a: b}, transform_id: t, task_run_id: r}", YAML, "merge keys"),
        ("- {transform_id: t, task_run_id: r, x: " + "[" * 60 + "]" * 60 + "}", YAML, "levels deep"),
        ("- {transform_id: t, task_run_id: r, x: [" + "a," * 20_000 + "]}", YAML, "so many parts"),
        ("- {? [a] : b}", YAML, "a key is text"),
        ("- a: {? [a] : b}", YAML, "a key is text"),
        ("- transform_id: 'a", YAML, "not YAML"),
        ("- a: b: c", YAML, "standard input:1:7: not YAML"),
        ("text", YAML, "neither a list nor a mapping"),
        ("{}", YAML, "the mapping is empty"),
        ("run: []", YAML, "standard input:1:1: unknown key 'run'"),
        ("version: 1\nsource: discovery", YAML, "standard input:1:1: this is a sweep file, not a list of runs"),
        ("runs: []\nruns: []", YAML, "runs stands there twice"),
        ("runs:", YAML, "runs is not a list"),
        ("transforms: []", YAML, "transforms is not a mapping"),
        ("transforms: {a: b}", YAML, "the runs of 'a' are not a list"),
        ("transforms: {? [a] : []}", YAML, "a transform id is text"),
        ("transforms: {123: [a]}", YAML, 'standard input:1:14: transform_id is a number: quote it, "123"'),
        ("transforms: {a: [123]}", YAML, "standard input:1:18: task_run_id is a number"),
        ("--- []\n--- []", YAML, "standard input:2:1: a second document"),
        ("- a\n- \x07", YAML, "standard input:2:3: U+0007"),
        ("- a\n- é".encode("latin-1"), YAML, "standard input:2:3: byte 0xE9 is not UTF-8"),
        ("- a".encode("utf-16"), YAML, "the file is UTF-16"),
    ],
)
def test_what_is_wrong_is_named(text: str | bytes, file_format: ManifestFormat, said: str) -> None:
    assert said in refused(text, file_format)


def test_a_bad_row_does_not_hide_the_next() -> None:
    good, bad = '{"transform_id": "t", "task_run_id": "r"}', '{"transform_id": "t", "task_run_id": ""}'
    for text, file_format in [
        (H + 't,\nt,"a"b\nt\nt,r\n', CSV),
        (f"[{bad}, 7, {good}]", JSON),
        (f"{bad}\n[\n{good}\n", JSONL),
        (f"- {bad}\n- [[x]]\n- {good}\n", YAML),
    ]:
        *problems, last = read(text, file_format)
        assert isinstance(last, ManifestRow)
        assert len(problems) >= 2
        assert all(isinstance(problem, Problem) and problem.line for problem in problems)


def test_the_text_of_a_problem_is_short_and_can_be_written() -> None:
    (problem,) = read(H.encode() + b"t,\xff" + b"x" * 5000, CSV)
    assert isinstance(problem, Problem)
    assert problem.text
    assert len(problem.text.encode()) < 300
    (problem,) = read("- {transform_id: t, task_run_id: [a, 1], x: 2}", YAML)
    assert isinstance(problem, Problem)
    assert problem.text == 'transform_id: t, task_run_id: ["a",1], x: 2'


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    def said(path: Path, file_format: ManifestFormat | None = None) -> str:
        with pytest.raises(InputError) as caught:
            list(read_manifest(str(path), file_format))
        return str(caught.value)

    assert "there is no such file" in said(tmp_path / "none.csv")
    assert "is a directory" in said(tmp_path, CSV)
    assert "'.txt' is not known" in said(tmp_path / "a.txt")
    assert "there is no such file" in said(tmp_path / "a")
    (tmp_path / "a").touch()
    assert "--manifest-format" in said(tmp_path / "a")
    assert "not a directory" in said(tmp_path / "f.csv" / "x.csv").lower() or "no such file" in said(
        tmp_path / "f" / "x.csv"
    )


def test_formats_by_ending(tmp_path: Path) -> None:
    assert format_by_ending("A.CSV") is CSV
    assert format_by_ending("x/y.ndjson") is JSONL
    with pytest.raises(InputError, match="standard input"):
        format_by_ending("-")
    with pytest.raises(InputError, match=r"runs\.XLSX: is a workbook: save the sheet with the list as CSV"):
        format_by_ending("runs.XLSX")
    path = tmp_path / "runs.yml"
    path.write_text("- {transform_id: t, task_run_id: r}")
    assert len(list(read_manifest(str(path)))) == 1


# -- how much it holds ------------------------------------------------------------------------------------------------


class Endless(io.RawIOBase):
    """A file made as it is read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._held:
            self._held = next(self._pieces, b"")
            if not self._held:
                return 0
        count = min(len(buffer), len(self._held))
        buffer[:count] = self._held[:count]
        self._held = self._held[count:]
        return count


def pieces(head: bytes, row: bytes, tail: bytes, count: int) -> Iterator[bytes]:
    if head:
        yield head
    for _ in range(count // 1000):
        yield row * 1000
    yield tail


@pytest.mark.parametrize(
    ("file_format", "head", "row", "tail", "count"),
    [
        (CSV, b"transform_id,task_run_id\n", b"tfm-0123456789,tsk-0123456789\n", b"", 60_000),
        (JSONL, b"", b'{"transform_id": "tfm-0123456789", "task_run_id": "tsk-0"}\n', b"", 30_000),
        (JSON, b"[", b'{"transform_id": "tfm-0123456789", "task_run_id": "tsk-0"},\n', b'{"a": 1}]', 30_000),
        (YAML, b"runs:\n", b"- {transform_id: tfm-0123456789, task_run_id: tsk-0}\n", b"", 6_000),
    ],
)
def test_a_long_list_is_never_held(
    file_format: ManifestFormat, head: bytes, row: bytes, tail: bytes, count: int
) -> None:
    stream = io.BufferedReader(Endless(pieces(head, row, tail, count)))
    tracemalloc.start()
    try:
        rows = sum(isinstance(row, ManifestRow) for row in read_manifest("-", file_format, stdin=stream))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == count
    assert peak_bytes < 2_000_000


@pytest.mark.parametrize(
    ("text", "file_format", "says"),
    [
        ("- {transform_id: a\x01, task_run_id: b}", YAML, "U+0001 may not stand in YAML as it is: no id can hold it"),
        ("- {transform_id: a\x85, task_run_id: b}", YAML, r'write "\u0085" in double quotes'),
        ('[{"transform_id": "a"}]'.encode("utf-16"), JSON, "UTF-16"),
        ('[{"transform_id": "a"}]'.encode("utf-16-le"), JSON, "UTF-16"),
        ('{"transform_id": "a"}'.encode("utf-16"), JSONL, "UTF-16"),
        (
            "transform_id,task_run_id,outcome,status_before,confirmed_at,request_id\n'=a,b,,,,\n",
            CSV,
            "report.json beside",
        ),
    ],
)
def test_a_file_that_is_refused_says_what_to_do_instead(
    text: str | bytes, file_format: ManifestFormat, says: str
) -> None:
    with pytest.raises(InputError) as refused:
        read(text, file_format)
    assert says in str(refused.value)


def test_digits_with_a_leading_zero_are_to_be_quoted_in_yaml() -> None:
    (row,) = read("- {transform_id: a, task_run_id: b, account_id: 012345678901}", YAML)
    assert isinstance(row, Problem) and 'quote it, "012345678901"' in row.message


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
def test_where_there_is_no_room_for_a_list_the_list_is_not_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs.csv").write_text(H + "t,r\n")
    # Buffered, as it is: what finds no room when it is written finds none when the file is closed, either.
    monkeypatch.setattr("batch_cancel.manifest.read.TemporaryFile", partial(open, "/dev/full", "w+b"))
    monkeypatch.setattr("tempfile.tempdir", "/dev")
    with pytest.raises(UsageError) as refused:
        copy_manifest(str(tmp_path / "runs.csv"), CSV)
    assert not isinstance(refused.value, InputError)
    says = "the list cannot be kept in /dev while it is read: No space left on device; nothing was called"
    assert str(refused.value) == says


def test_where_no_directory_takes_a_list_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs.csv").write_text(H + "t,r\n")
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/dev/null"])
    with pytest.raises(UsageError, match=r"cannot be kept while it is read: No usable temporary directory .* nothing"):
        copy_manifest(str(tmp_path / "runs.csv"), CSV)
