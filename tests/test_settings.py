"""Settings go into the ledger and come back the same."""

import subprocess
import sys
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_cancel.core.errors import UsageError
from batch_cancel.core.selection import Protection, Selection
from batch_cancel.core.task_run import Status
from batch_cancel.settings import (
    Consent,
    Cost,
    DiscoverySource,
    Endpoint,
    Guardrails,
    ManifestFormat,
    ManifestSource,
    MaxErrors,
    Notify,
    Rate,
    Report,
    ReportFormat,
    Retry,
    Settings,
    TargetSettings,
    Verify,
    from_json,
    to_json,
)

TEXT = st.text(max_size=5).filter(lambda text: text.isprintable())
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
TAGS = st.none() | st.dictionaries(TEXT, TEXTS, max_size=2)
AGES = st.none() | st.integers(1, 10**6).map(lambda seconds: timedelta(seconds=seconds))
TARGETS = st.builds(TargetSettings, profile=st.none() | TEXT, regions=st.none() | st.just("all") | TEXTS)
SETTINGS = st.builds(
    Settings,
    source=st.builds(DiscoverySource)
    | st.builds(ManifestSource, path=TEXT, format=st.none() | st.sampled_from(ManifestFormat)),
    name=st.none() | TEXT,
    targets=st.lists(TARGETS, max_size=2).map(tuple),
    selection=st.builds(
        Selection,
        transform_ids=st.none() | TEXTS,
        tags=TAGS,
        statuses=st.sampled_from([(), (Status.RUNNING,)]),
        older_than=AGES,
    ),
    protection=st.builds(Protection, transforms=TEXTS, tags=TAGS),
    guardrails=st.builds(
        Guardrails,
        allow_accounts=st.none() | TEXTS,
        max_errors=st.none() | st.builds(MaxErrors, percent=st.none() | st.floats(0, 100)),
    ),
    report=st.builds(Report, formats=st.lists(st.sampled_from(ReportFormat)).map(tuple)),
)


@given(SETTINGS)
def test_what_is_kept_comes_back(settings: Settings) -> None:
    assert from_json(to_json(settings)) == settings


def test_all_of_it_comes_back() -> None:
    settings = Settings(
        source=DiscoverySource(),
        consent=Consent(yes=True, confirm_count=3),
        rate=Rate(rps=0.5, max_concurrency=7),
        retry=Retry(max_attempts=2, deadline_seconds=1.5),
        verify=Verify(wait=False, timeout_seconds=5),
        until_clear=True,
        ignore_not_found=True,
        dry_run=True,
        endpoint=Endpoint(url="http://x", ca_bundle="/ca", verify_ssl=False),
        cost=Cost(price_per_dpu_hour=0.44, currency="USD", source="s"),
        notify=Notify(sns_topic_arn="arn", on=("failure",)),
        reason="why",
    )
    assert from_json(to_json(settings)) == settings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read"),
        ("[]", "written by another version"),
        ('{"schema": "batch-cancel/settings/9"}', "written by another version"),
        ('{"schema": "batch-cancel/settings/1"}', "cannot be read"),
        ('{"schema": "batch-cancel/settings/1", "settings": {"source": {"kind": "x"}}}', "cannot be read"),
    ],
)
def test_what_is_not_settings_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        from_json(text)


def test_a_manifest_run_s_way_to_its_settings_is_light() -> None:
    code = """
import sys
import batch_cancel.cli.settings_from, batch_cancel.cli.options
import batch_cancel.manifest, batch_cancel.settings, batch_cancel.glue.regions
batch_cancel.glue.regions.check_region("us-east-1")
heavy = {"pydantic", "aioboto3", "botocore", "boto3", "aiohttp", "yaml", "jinja2", "rich"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)
