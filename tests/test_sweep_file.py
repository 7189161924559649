"""Sweep files: every fault at once, each at its place; an empty list selects nothing."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_cancel.core.errors import InputError
from batch_cancel.core.task_run import Status
from batch_cancel.settings import (
    Cost,
    DiscoverySource,
    ManifestFormat,
    ManifestSource,
    MaxErrors,
    Notify,
    Report,
    ReportFormat,
    Settings,
    TargetSettings,
)
from batch_cancel.sweep_file import json_schema, load_sweep_file
from batch_cancel.sweep_file.model import SECTIONS

CONTRACT = """\
version: 1
name: nightly-cost-sweep
reason: "FindMatches runs older than six hours outside production"
targets:                       # where
  - profile: data-dev
    regions: [us-east-1, eu-west-1]
  - accounts: ["222222222222", "333333333333"]
    role_name: BatchCancel
    external_id: sweep-7
    regions: all
source: discovery              # or {manifest: runs.csv}
select:
  transform_names: ["dedupe-*"]
  tags: {env: dev}
  statuses: [STARTING, RUNNING]
  task_types: [FIND_MATCHES, EVALUATION]
  older_than: 6h
protect:
  transform_names: ["critical-*"]
  tags: {protected: "true"}
guardrails: {max_runs: 200, max_percent: 80, allow_accounts: ["222222222222", "333333333333"], max_errors: 5%}
rate: {rps: auto, max_concurrency: 64}
retry: {max_attempts: 5, deadline: 10m}
verify: {wait: true, timeout: 15m}
cost: {price_per_dpu_hour: 0.44, currency: USD}
report: {formats: [json, csv, md, html], s3: "s3://ops-reports/batch-cancel/"}
notify: {sns_topic_arn: "arn:aws:sns:us-east-1:222222222222:ops", on: [failure, change]}
"""


def load(folder: Path, text: str | bytes) -> Settings:
    path = folder / "sweep.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_sweep_file(str(path)).settings


def faults(folder: Path, text: str | bytes) -> list[str]:
    with pytest.raises(InputError) as caught:
        load(folder, text)
    return [str(problem).removeprefix(f"{folder}/") for problem in caught.value.problems]


def test_the_contract_s_example(tmp_path: Path) -> None:
    settings = load(tmp_path, CONTRACT)
    assert settings.name == "nightly-cost-sweep"
    assert settings.targets == (
        TargetSettings(profile="data-dev", regions=("us-east-1", "eu-west-1")),
        TargetSettings(
            accounts=("222222222222", "333333333333"), role_name="BatchCancel", external_id="sweep-7", regions="all"
        ),
    )
    assert settings.source == DiscoverySource()
    assert settings.selection.tags == {"env": ("dev",)}
    assert settings.selection.statuses == (Status.STARTING, Status.RUNNING)
    assert settings.selection.older_than == timedelta(hours=6)
    assert settings.protection.tags == {"protected": ("true",)}
    assert settings.guardrails.max_errors == MaxErrors(percent=5)
    assert settings.guardrails.max_percent == 80
    assert settings.rate.rps is None
    assert settings.rate.max_concurrency == 64
    assert settings.retry.deadline_seconds == 600
    assert settings.verify.timeout_seconds == 900
    assert settings.cost == Cost(price_per_dpu_hour=0.44, currency="USD", source="sweep file")
    assert settings.report == Report(formats=tuple(ReportFormat), s3="s3://ops-reports/batch-cancel/")
    assert settings.notify == Notify(sns_topic_arn="arn:aws:sns:us-east-1:222222222222:ops", on=("failure", "change"))


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    assert load(tmp_path, "name: x") == Settings(name="x", source=DiscoverySource())
    assert not load_sweep_file(str(tmp_path / "sweep.yaml")).source_given
    load(tmp_path, "source: discovery")
    assert load_sweep_file(str(tmp_path / "sweep.yaml")).source_given


def test_a_manifest_is_found_beside_the_sweep_file(tmp_path: Path) -> None:
    source = load(tmp_path, "source: {manifest: a/runs.csv, skip_invalid: true}").source
    assert source == ManifestSource(path=str(tmp_path / "a" / "runs.csv"), skip_invalid=True)
    source = load(tmp_path, "source: {manifest: '-', format: jsonl}").source
    assert source == ManifestSource(path="-", format=ManifestFormat.JSONL)


def test_an_empty_list_stays_an_empty_list(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "targets: []\nselect: {transform_ids: [], transform_names: [], tags: {a: []}, statuses: [], task_types: []}\n"
        "guardrails: {allow_accounts: []}\nreport: {formats: []}\n",
    )
    selection = settings.selection
    assert settings.targets == ()
    assert selection.transform_ids == selection.transform_names == selection.statuses == selection.task_types == ()
    assert selection.tags == {"a": ()}
    assert settings.guardrails.allow_accounts == ()
    assert settings.report.formats == ()
    (target,) = load(tmp_path, "targets: [{regions: [], accounts: [], role_name: r}]").targets
    assert target.regions == target.accounts == ()


def test_tags_with_several_values_and_words_that_yaml_has_for_itself(tmp_path: Path) -> None:
    assert load(tmp_path, "select: {tags: {on: [a, b], x: ''}}").selection.tags == {"on": ("a", "b"), "x": ("",)}
    assert load(tmp_path, "name: 2024-01-01").name == "2024-01-01"


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("true", "'true' is not 1: write 1"),
        ("1.0", "'1.0' is not 1: write 1"),
        ('"1"', "'1' is text: write it without quotes"),
    ],
)
def test_a_version_that_only_resembles_one_is_none(tmp_path: Path, version: str, says: str) -> None:
    (tmp_path / "sweep.yaml").write_text(f"version: {version}\nsource: discovery\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_sweep_file(str(tmp_path / "sweep.yaml"))
    assert [problem.message for problem in caught.value.problems] == [f"version: {says}"]


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    text = """\
version: 2
nam: x
name: 5
targets:
  - accounts: [222222222222, "2"]
    regions: us-east-1
  - profile:
    regions: [us-esat-1]
source: discvery
select:
  tags: {env: dev, x: true, y: [1, a], z: {}}
  statuses: [RUNING, STOPPED, [x], true]
  older_than: 6
  newer_than: 1x
  transform_nams: []
protect: []
guardrails: {max_runs: 0, max_percent: 101, max_errors: 5x, max_percent: 3}
rate: {rps: .inf, max_concurrency: 1.5}
retry: {max_attempts: yes, deadline: 0s}
verify: {wait: 1}
cost: {price_per_dpu_hour: .nan}
report: {formats: [jsn], s3: x}
reason:
notify: {on: [x], sns_topic_arn: }
"""
    expected = """\
sweep.yaml:1:10: version: '2' is not 1: write 1
sweep.yaml:2:1: unknown key 'nam'; did you mean 'name'?
sweep.yaml:3:7: name: '5' is not text: quote it, "5"
sweep.yaml:5:16: targets.accounts: '222222222222' is not text: quote it, "222222222222"
sweep.yaml:5:30: targets.accounts: account_id '2' is not twelve digits (was a leading zero lost?)
sweep.yaml:6:14: targets.regions: 'us-east-1' is not a list: write [us-east-1], or all
sweep.yaml:7:13: profile has no value: give one, or leave the key out ([] is an empty list)
sweep.yaml:8:15: targets.regions: unknown region 'us-esat-1'; did you mean 'us-east-1'?
sweep.yaml:9:9: source: 'discvery' is not discovery; did you mean 'discovery'?
sweep.yaml:11:23: select.tags.x: 'true' is not text: quote it, "true"
sweep.yaml:11:33: select.tags.y: '1' is not text: quote it, "1"
sweep.yaml:11:43: select.tags.z: a mapping stands where a list belongs
sweep.yaml:12:14: select.statuses: unknown status 'RUNING'; did you mean 'RUNNING'? (choose from STARTING, RUNNING)
sweep.yaml:12:22: select.statuses: status STOPPED cannot be cancelled; choose from STARTING, RUNNING
sweep.yaml:12:31: select.statuses: a list stands where text or a number belongs
sweep.yaml:12:36: select.statuses: a truth value stands where text or a number belongs
sweep.yaml:13:15: select.older_than: '6' has no unit: write for example 90s, 15m, 6h, 2d or 1h30m
sweep.yaml:14:15: select.newer_than: '1x' is not a duration: write for example 90s, 15m, 6h, 2d or 1h30m
sweep.yaml:15:3: unknown key 'transform_nams'; did you mean 'transform_names'?
sweep.yaml:16:10: protect: this is not a mapping of keys to values
sweep.yaml:17:24: guardrails.max_runs: '0' is less than 1
sweep.yaml:17:40: guardrails.max_percent: '101' is more than 100
sweep.yaml:17:57: guardrails.max_errors: '5x' is neither a count such as 5 nor a share such as 5%
sweep.yaml:17:61: 'max_percent' stands there twice
sweep.yaml:18:13: rate.rps: '.inf' is neither auto nor a number of requests a second
sweep.yaml:18:36: rate.max_concurrency: '1.5' is not a whole number
sweep.yaml:19:23: retry.max_attempts: 'yes' is not a whole number
sweep.yaml:19:38: retry.deadline: '0s' is zero: write for example 90s, 15m, 6h, 2d or 1h30m
sweep.yaml:20:16: verify.wait: '1' is neither true nor false
sweep.yaml:21:7: cost lacks the key currency
sweep.yaml:21:28: cost.price_per_dpu_hour: '.nan' is not a number
sweep.yaml:22:20: report.formats: unknown report format 'jsn'; did you mean 'json'? (choose from json, csv, md, html)
sweep.yaml:22:30: report.s3: 'x' is not an S3 prefix such as s3://bucket/prefix/
sweep.yaml:23:8: reason has no value: give one, or leave the key out ([] is an empty list)
sweep.yaml:24:15: notify.on: unknown word 'x' (choose from failure, change, always)
sweep.yaml:24:34: sns_topic_arn has no value: give one, or leave the key out ([] is an empty list)
"""
    assert faults(tmp_path, text) == expected.splitlines()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "sweep.yaml: the file is empty"),
        ("# only words", "the file is empty"),
        ("- a", "sweep.yaml:1:1: a sweep file is a mapping"),
        ("~", "a sweep file is a mapping"),
        ("name: 'x", "not YAML: found unexpected end of stream: close the quote (opened at 1:7)"),
        ("name: x\n\tversion: 1", "not YAML: found a tab character that violates indentation: indent with spaces"),
        ("\tversion: 1", "not YAML: found character that cannot start any token: indent with spaces, not tabs"),
        ("name: x\nselect: [", "write the value that belongs here, or close the bracket before it"),
        ("name: x\nselect: [a", "did not find expected ',' or ']': close the list with ], its items"),
        ("select: {a: b", "its entries with commas between them (opened at 1:9)"),
        ("name: a: b", "quote text that holds ': '"),
        ("name: x\nreason", "end the key with a colon and a space"),
        ("select:\n  a: b\n c: d", "begin the keys of one mapping in the same column"),
        ("targets: - x", "begin the list on a line of its own"),
        ("- x\ny: z", "begin each item of the list with '- '"),
        ('name: "\\q"', "write the text in single quotes"),
        ("name: x\n---\nname: y", "sweep.yaml:2:1: a second document"),
        ("name: &a x\nreason: *a", "sweep.yaml:1:7: anchors"),
        ("name: *a", "aliases (*name) are not allowed: write the value out, or quote text that begins with *"),
        ("protect: {transform_names: [*]}", "quote text that begins with * or &"),
        ("protect: {transform_names: '*-prod'}", 'is not a list: write ["*-prod"]'),
        ("targets: [{role_name: x, accounts: 222222222222}]", 'is not a list: write ["222222222222"]'),
        ("select: {statuses: RUNNING}", "is not a list: write [RUNNING]"),
        ("source: manifest", "write discovery or {manifest: FILE}"),
        ("name: !!python/name:os.system x", "tags"),
        ("a: " + "[" * 50, "levels deep"),
        ("? [a]\n: b", "a key is text"),
        ("name: é".encode("latin-1"), "sweep.yaml:1:7: byte 0xE9 is not UTF-8"),
        ("name: a\x00b", "U+0000"),
        (b"#" * (1 << 21), "larger than"),
        ("name: x\nname: y", "sweep.yaml:2:1: 'name' stands there twice"),
        ("name:\nname: y", "sweep.yaml:2:1: 'name' stands there twice"),
        ("select: {}", "select is empty: leave it out"),
        ("select: {older_than: 6h, newer_than: 2h}", "no run is older than 6h and newer than 2h"),
        ("select: {older_than: [6h]}", "a list stands where"),
        ("select: {transform_ids: ['']}", "the id is empty"),
        ("select: {task_types: [FIND_MATCH]}", "did you mean 'FIND_MATCHES'?"),
        ("targets: [{accounts: ['111111111111']}]", "accounts need role_name"),
        ("targets: [{role_name: x}]", "role_name needs accounts"),
        ("targets: [{role_name: x, accounts: [], role_arn: 'arn:aws:iam::222222222222:role/x'}]", "exclude each other"),
        ("targets: [{external_id: abc}]", "external_id needs role_arn or role_name"),
        ("targets: [{role_arn: x}]", "is not a role's ARN"),
        ("targets: [{role_name: 'arn:x', accounts: []}]", "is not a role's name"),
        ("targets: [{role_arn: 'arn:aws:iam::222222222222:role/x', external_id: é}]", "is not an external id"),
        ("targets: [{regions: [all, us-east-1]}]", "either all or a list"),
        ("targets: [{regions: [alll]}]", "unknown region 'alll'"),
        ("targets: {}", "targets: a mapping stands where a list belongs"),
        ("verify: {wait: false, timeout: 15m}", "a timeout without waiting means nothing"),
        ("cost: {price_per_dpu_hour: 1, currency: usd}", "is not a currency's code"),
        ("cost: {price_per_dpu_hour: 0, currency: USD}", "'0' is not more than 0"),
        ("rate: {rps: 0}", "0 is not a number greater than zero"),
        ("rate: {rps: -1}", "-1 is not a number greater than zero"),
        ("rate: {max_concurrency: 1000000}", "is more than 10000"),
        ("guardrails: {max_errors: 200%}", "more than 100%"),
        ("guardrails: {max_percent: 0x10}", "is not a number"),
        ("source: {manifest: runs.txt}", "'.txt' is not known"),
        ("source: {manifest: '-'}", "give source.format"),
        ("source: {manifest: a, format: cvs}", "did you mean 'csv'?"),
        ("source: {}", "source lacks the key manifest"),
        ("source: []", "is not discovery"),
        ("notify: {sns_topic_arn: ops}", "'ops' is not an SNS topic's ARN"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str | bytes, said: str) -> None:
    assert any(said in fault for fault in faults(tmp_path, text)), faults(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\n  "schema": "batch-cancel/plan/1", "x": "' + "y" * (1 << 20), "batch-cancel apply cancels what it names"),
        ('{"schema": "batch-cancel/report/1", "runs": []}', "--manifest takes its unfinished runs"),
        (b"SQLite format 3\0\xff", "batch-cancel resume takes the directory"),
        ("name: x\nworld: {seed: 1}", "batch-cancel demo --scenario plays it"),
        ("- {transform_id: t, task_run_id: r}", "--manifest takes it"),
    ],
)
def test_another_file_of_this_program_is_one_fault_that_says_where_it_goes(
    tmp_path: Path, text: str | bytes, said: str
) -> None:
    (fault,) = faults(tmp_path, text)
    assert said in fault


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, said in [(tmp_path / "none.yaml", "there is no such file"), (tmp_path, "is a directory")]:
        with pytest.raises(InputError, match=said):
            load_sweep_file(str(path))
    with pytest.raises(InputError, match="null"):
        load_sweep_file("a\0b")


WORDS = st.sampled_from(["6h", "all", "discovery", "us-east-1", "5%", "RUNNING", "", "x", "222222222222"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(width=16) | WORDS
KEYS = st.sampled_from([*(name for model in SECTIONS.values() for name in model.model_fields), "x"])
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


@given(st.dictionaries(KEYS, ANYTHING, max_size=6))
def test_whatever_stands_in_it_every_fault_has_a_place(
    tmp_path_factory: pytest.TempPathFactory, content: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(json.dumps(content))
    try:
        load_sweep_file(str(path))
    except InputError as error:
        assert all(problem.line and problem.column for problem in error.problems)


def test_the_schema_describes_every_key() -> None:
    schema = json_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert schema["$schema"].endswith("2020-12/schema")
    for section in [schema, *schema["$defs"].values()]:
        assert section["additionalProperties"] is False
        assert section["description"]
        for name, key in section["properties"].items():
            assert key.get("description") or "$ref" in key, name
    assert "null" not in json.dumps(schema)


def test_an_account_with_a_leading_zero_is_to_be_quoted(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("targets: [{accounts: [012345678901], role_name: x}]\nsource: discovery\n")
    with pytest.raises(InputError, match='quote it, "012345678901"'):
        load_sweep_file(str(path))
