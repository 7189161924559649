"""What becomes of a finished sweep: copies, words, figures; and what happens where one of them fails."""

import asyncio
import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batch_cancel.core.errors import CallFailed, ErrorKind, RecordLost, UsageError
from batch_cancel.delivery.bounded import DELIVERY_SECONDS
from batch_cancel.delivery.deliver import deliver as in_one_go
from batch_cancel.delivery.metrics import failure_line, metric_lines
from batch_cancel.delivery.notification import (
    MOST_BYTES,
    SUBJECT_CHARACTERS,
    _fitting,
    failure,
    is_occasion,
    message_bytes,
    subject,
)
from batch_cancel.execution import Finished, finish, tell_of_failure
from batch_cancel.glue.aws_outbox import AwsOutbox
from batch_cancel.glue.learned import state_file
from batch_cancel.glue.outbox import S3Place
from batch_cancel.ledger import schema
from batch_cancel.ledger.ledger import Ledger
from batch_cancel.report.files import opened, write_reports
from batch_cancel.settings import Notify, Report, ReportFormat, Retry, Settings
from batch_cancel.simulator.settings import FleetSettings, WorldSettings
from batch_cancel.simulator.world import World
from batch_cancel.stop import Stop, StopCause
from tests.delivery.conftest import PREFIX, Cloud
from tests.sim.virtual_time import run as virtually
from tests.sweeps import HERE, Play, settings

SWEEP_ID = "20261124T000000Z-000000"
NO_RUNS = WorldSettings(fleet=FleetSettings(transforms=2, runs=0))


def deliver(
    cloud: Cloud, play: Play, told: Settings, exit_code: int, emf: Sequence[str] | None = None, *, notify: bool = True
) -> Finished:
    lines = emf if isinstance(emf, list) else []
    return asyncio.run(
        finish(
            play.directory,
            told,
            exit_code,
            sweep_id=SWEEP_ID,
            outbox=cloud.outbox,
            emf=lines.extend if emf is not None else None,
            notify=notify,
        )
    )


def told(cloud: Cloud, *on: str, **changes: object) -> Settings:
    return settings(
        report=Report(formats=(ReportFormat.JSON,), s3=PREFIX),
        notify=Notify(sns_topic_arn=cloud.topic, on=on) if on else None,
        name="nightly",
        **changes,
    )


def test_everything_in_the_run_directory_is_in_s3_byte_for_byte_and_the_ledger_opens(
    cloud: Cloud, tmp_path: Path
) -> None:
    play, wanted = Play(), replace(told(cloud), report=Report(s3=PREFIX))
    result = play.sweep(wanted)
    finished = deliver(cloud, play, wanted, result.exit_code)
    assert (finished.exit_code, finished.faults) == (0, ())
    assert str(finished.place) == f"{PREFIX}{SWEEP_ID}"
    here = {f"batch-cancel/{SWEEP_ID}/{path.name}": path.read_bytes() for path in play.directory.glob("[!.]*")}
    assert cloud.objects() == here
    assert len(here) == 5
    (tmp_path / "ledger.db").write_bytes(here[f"batch-cancel/{SWEEP_ID}/ledger.db"])
    reader = Ledger.look(tmp_path)
    assert reader.count_runs() == len(play.rows()) > 0
    reader.close()


def test_a_failed_upload_costs_the_exit_code_and_nothing_else(cloud: Cloud) -> None:
    play = Play()
    wanted = replace(told(cloud, "failure"), report=Report(s3="s3://no-such-bucket/x"))
    assert play.sweep(wanted).exit_code == 0
    finished = deliver(cloud, play, wanted, 0)
    assert finished.exit_code == 1
    assert finished.place is None
    assert "NoSuchBucket" in finished.faults[0]
    assert finished.faults[0].endswith("not tried: report.csv, report.md, report.html, report.json")
    assert len(finished.faults) == 1  # and not one for each file
    assert json.loads((play.directory / "report.json").read_text())["exit_code"] == 1  # what the process ends with
    [notification] = cloud.notifications()
    assert notification["exit_code"] == 1
    assert notification["delivery_faults"]


def test_a_bucket_that_does_not_encrypt_gets_no_second_file(cloud: Cloud) -> None:
    cloud.client("s3").create_bucket(Bucket="plain")
    play = Play()
    wanted = replace(settings(), report=Report(s3="s3://plain/x"))
    assert play.sweep(wanted).exit_code == 0
    [fault] = deliver(cloud, play, wanted, 0).faults
    assert "default encryption" in fault
    assert fault.endswith("not tried: report.csv, report.md, report.html, report.json")
    stored = cloud.client("s3").list_objects_v2(Bucket="plain")["Contents"]
    assert [each["Key"].rpartition("/")[2] for each in stored] == ["ledger.db"]


def test_where_one_file_is_refused_the_others_go_and_report_json_is_told_to_be_missing(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_file = AwsOutbox.put_file

    async def refuse_one(outbox: AwsOutbox, place: S3Place, path: Path, content_type: str) -> None:
        if path.name == "report.csv":
            raise CallFailed(ErrorKind.OTHER, "PutObject", "EntityTooLarge", "no")
        await put_file(outbox, place, path, content_type)

    monkeypatch.setattr(AwsOutbox, "put_file", refuse_one)
    play = Play()
    wanted = replace(told(cloud), report=Report(s3=PREFIX))
    first, second = deliver(cloud, play, wanted, play.sweep(wanted).exit_code).faults
    assert "report.csv could not be uploaded" in first
    assert second.endswith("report.json was not made, as it says that all the others are there")
    assert {name.rpartition("/")[2] for name in cloud.objects()} == {"ledger.db", "report.md", "report.html"}


def test_a_failed_notification_costs_the_exit_code_in_the_copies_too(cloud: Cloud) -> None:
    play, wanted = Play(), told(cloud, "always")
    wanted = replace(wanted, notify=Notify(sns_topic_arn=cloud.topic + "x", on=("always",)))
    finished = deliver(cloud, play, wanted, play.sweep(wanted).exit_code)
    assert finished.exit_code == 1
    assert "could not be notified" in finished.faults[0]
    assert json.loads(cloud.objects()[f"batch-cancel/{SWEEP_ID}/report.json"])["exit_code"] == 1


def test_a_ledger_that_is_gone_before_the_reports_is_a_lost_record_and_is_told_of(cloud: Cloud) -> None:
    play, wanted = Play(), told(cloud, "failure")
    assert play.sweep(wanted).exit_code == 0
    (play.directory / "ledger.db").unlink()
    with pytest.raises(RecordLost, match="holds no ledger"):
        deliver(cloud, play, wanted, 0)
    [notification] = cloud.notifications()
    assert (notification["exit_code"], notification["began"]) == (1, True)


def test_a_ledger_that_another_process_has_taken_up_meanwhile_is_no_wrong_input(cloud: Cloud) -> None:
    play = Play()
    wanted = replace(told(cloud), report=Report(s3="s3://no-such-bucket/x"))
    assert play.sweep(wanted).exit_code == 0
    resumed = Ledger.open(play.directory)
    with pytest.raises(RecordLost, match="is in use"):  # and not 2: requests were made
        deliver(cloud, play, wanted, 0)
    asyncio.run(resumed.close())


def test_an_exit_code_that_says_more_than_1_stays(cloud: Cloud) -> None:
    play = Play()
    wanted = replace(told(cloud), report=Report(s3="s3://no-such-bucket/x"))
    play.sweep(wanted)
    assert deliver(cloud, play, wanted, 5).exit_code == 5


@pytest.mark.parametrize(
    ("on", "exit_code", "changed", "tells"),
    [
        (("failure",), 0, True, False),
        (("failure",), 1, False, True),
        (("failure",), 130, False, True),
        (("always",), 0, False, True),
        (("change",), 1, False, False),
        (("failure", "change"), 0, True, True),
        ((), 1, True, False),
    ],
)
def test_the_occasions(on: tuple[str, ...], exit_code: int, *, changed: bool, tells: bool) -> None:
    assert is_occasion(on, exit_code, changed=changed) is tells


@pytest.mark.parametrize("in_s3", [True, False])
def test_change_is_told_once_and_again_when_something_is_other(cloud: Cloud, in_s3: bool) -> None:
    wanted = told(cloud, "change", dry_run=True)
    if not in_s3:
        wanted = replace(wanted, report=Report(formats=()))
    fleet = WorldSettings(fleet=FleetSettings(transforms=6, runs=40))

    def audit(world: WorldSettings) -> list[dict[str, Any]]:
        play = Play(world_settings=world)
        deliver(cloud, play, wanted, play.sweep(wanted).exit_code)
        return cloud.notifications()

    [first] = audit(fleet)  # nothing is known of an earlier one: everything is news
    assert first["sweep_before"] is None
    assert audit(fleet) == []
    [other] = audit(replace(fleet, seed=fleet.seed + 1))
    assert other["sweep_before"] == {"sweep_id": SWEEP_ID, "outcomes": first["totals"]["outcomes"]}
    [empty] = audit(NO_RUNS)
    assert empty["totals"]["runs"] == 0
    assert audit(NO_RUNS) == []


def test_where_the_last_sweep_cannot_be_compared_with_the_notification_says_the_exit_code_that_this_costs(
    cloud: Cloud,
) -> None:
    state_file().parent.mkdir(parents=True)
    state_file().with_name("last").touch()  # where a directory belongs
    play, wanted = Play(), replace(told(cloud, "failure", "change"), report=Report(formats=()))
    assert play.sweep(wanted).exit_code == 0
    finished = deliver(cloud, play, wanted, 0)
    [notification] = cloud.notifications()
    assert finished.exit_code == notification["exit_code"] == 1
    assert "NOT all done (exit code 1)" in notification["subject"]
    assert "mark cannot be read" in notification["delivery_faults"][0]


def test_sweeps_of_another_name_or_place_are_not_compared(cloud: Cloud) -> None:
    for wanted in (
        told(cloud, "change"),
        replace(told(cloud, "change"), name="weekly"),
        told(cloud, "change", targets=(replace(HERE[0], external_id=None), replace(HERE[0], regions=("eu-west-1",)))),
        told(cloud, "change", dry_run=True),
    ):
        play = Play(world_settings=NO_RUNS)
        deliver(cloud, play, wanted, play.sweep(wanted).exit_code)
        assert len(cloud.notifications()) == 1


def test_news_that_could_not_be_told_is_still_news(cloud: Cloud) -> None:
    play, wanted = Play(), told(cloud, "change")
    code = play.sweep(wanted).exit_code
    nobody = replace(wanted, notify=Notify(sns_topic_arn=cloud.topic + "x", on=("change",)))
    assert deliver(cloud, play, nobody, code).exit_code == 1
    deliver(cloud, play, wanted, code)
    assert len(cloud.notifications()) == 1


def test_the_end_of_a_part_is_not_news(cloud: Cloud) -> None:
    play, wanted = Play(), told(cloud, "always")
    deliver(cloud, play, wanted, play.sweep(wanted).exit_code, notify=False)
    assert cloud.notifications() == []
    assert cloud.objects()


def test_a_sweep_that_could_not_begin_is_told(cloud: Cloud) -> None:
    wanted = told(cloud, "failure")
    assert asyncio.run(tell_of_failure(wanted, "s-1", UsageError("no region"), outbox=cloud.outbox)) == []
    [notification] = cloud.notifications()
    assert (notification["exit_code"], notification["error"]) == (2, "no region")
    assert asyncio.run(tell_of_failure(told(cloud, "change"), "s-1", UsageError("x"), outbox=cloud.outbox)) == []
    assert cloud.notifications() == []


def test_a_sweep_whose_record_was_lost_is_not_said_to_have_called_nothing(cloud: Cloud) -> None:
    lost = RecordLost("the ledger cannot be written: disk full")
    asyncio.run(tell_of_failure(told(cloud, "failure"), "s-1", lost, outbox=cloud.outbox))
    [notification] = cloud.notifications()
    assert (notification["began"], notification["exit_code"]) == (True, 1)
    assert "broke off" in notification["subject"]


def test_reports_that_cannot_be_written_are_told(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    play, wanted = Play(), told(cloud, "failure")
    code = play.sweep(wanted).exit_code

    def full(*_: object) -> NoReturn:
        raise RecordLost("cannot write the report: disk full")

    monkeypatch.setattr("batch_cancel.report.files.write_report", full)
    with pytest.raises(RecordLost):
        deliver(cloud, play, wanted, code)
    [notification] = cloud.notifications()
    assert "disk full" in notification["error"]


def all_but(monkeypatch: pytest.MonkeyPatch, name: str, failure: CallFailed) -> None:
    """Let S3 take every file but one."""
    put = AwsOutbox.put_file

    async def put_file(self: AwsOutbox, place: S3Place, path: Path, content_type: str) -> None:
        if path.name == name:
            raise failure
        await put(self, place, path, content_type)

    monkeypatch.setattr(AwsOutbox, "put_file", put_file)


def test_report_json_is_in_s3_only_where_all_the_others_are(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    play, wanted = Play(), told(cloud)
    code = play.sweep(wanted).exit_code
    all_but(monkeypatch, "ledger.db", CallFailed(ErrorKind.TRANSIENT, "PutObject", "InternalError", "we are sorry"))
    finished = deliver(cloud, play, wanted, code)
    assert (finished.exit_code, finished.place) == (1, None)
    assert cloud.objects() == {}


def test_copies_that_were_made_before_another_failed_have_the_exit_code_that_this_costs(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    play = Play()
    wanted = replace(
        told(cloud), report=Report(formats=(ReportFormat.CSV, ReportFormat.MD, ReportFormat.JSON), s3=PREFIX)
    )
    code = play.sweep(wanted).exit_code
    all_but(monkeypatch, "report.md", CallFailed(ErrorKind.ACCESS, "PutObject", "AccessDenied", "not this one"))
    finished = deliver(cloud, play, wanted, code)
    assert (code, finished.exit_code, finished.place, len(finished.faults)) == (0, 1, None, 1)
    there = cloud.objects()
    assert there == {
        f"batch-cancel/{SWEEP_ID}/{name}": (play.directory / name).read_bytes() for name in ("ledger.db", "report.csv")
    }
    (tmp_path / "ledger.db").write_bytes(there[f"batch-cancel/{SWEEP_ID}/ledger.db"])
    with closing(Ledger.look(tmp_path)) as reader:
        assert reader.facts()["exit_code"] == 1


def test_what_to_do_next_can_be_done_by_whoever_has_the_copies_alone(cloud: Cloud) -> None:
    play, wanted = Play(), told(cloud, "failure", retry=Retry(deadline_seconds=0.2))
    result = play.sweep(wanted)
    assert result.exit_code == 5
    messages_of: list[str] = []

    class Listening(AwsOutbox):
        async def publish(self, topic_arn: str, subject: str, messages: Mapping[str, str]) -> None:
            messages_of.append(messages["default"])
            await super().publish(topic_arn, subject, messages)

    def way() -> AwsOutbox:
        return Listening("s-1", endpoint_url=cloud.url)

    wanted = replace(wanted, report=Report(formats=(ReportFormat.MD,), s3=PREFIX))
    asyncio.run(finish(play.directory, wanted, 5, sweep_id=SWEEP_ID, outbox=way, shown=Path("shown")))
    assert b"batch-cancel resume shown" in cloud.objects()[f"batch-cancel/{SWEEP_ID}/report.md"]
    [text] = messages_of
    assert f"aws s3 cp --recursive {PREFIX}{SWEEP_ID}/ {SWEEP_ID}/" in text
    assert f"batch-cancel resume {SWEEP_ID}" in text
    assert str(play.directory) not in text


def test_subjects_are_what_sns_takes() -> None:
    told_subject, _ = failure("nächtlich \n" + "x" * 200, "s-1", "e", 2, began=False)
    assert told_subject.isascii()
    assert told_subject.isprintable()
    assert len(told_subject) <= SUBJECT_CHARACTERS
    play = Play(world_settings=NO_RUNS)
    play.sweep(settings(name="nightly"))
    with opened(play.directory) as document:
        assert subject(document, 0) == "batch-cancel sweep nightly: done"
        assert subject(document, 1).startswith("batch-cancel sweep nightly: NOT all done")


def test_metrics_are_embedded_metric_format_and_agree_with_the_report(cloud: Cloud) -> None:
    play, lines = Play(), list[str]()
    wanted = settings(name="nightly")
    deliver(cloud, play, wanted, play.sweep(wanted).exit_code, lines)
    documents = [json.loads(line) for line in lines]
    assert [set(document["_aws"]["CloudWatchMetrics"][0]["Dimensions"][0]) for document in documents] == [
        {"Sweep", "Account", "Region"},
        {"Sweep"},
    ]
    for document in documents:  # the specification: every dimension and metric is a member of the root
        [directive] = document["_aws"]["CloudWatchMetrics"]
        assert directive["Namespace"]
        assert isinstance(document["_aws"]["Timestamp"], int)
        assert all(isinstance(document[name], str) for name in directive["Dimensions"][0])
        assert all(isinstance(document[metric["Name"]], int | float) for metric in directive["Metrics"])
        assert len(directive["Metrics"]) <= 100
    whole, count = documents[-1], len(play.rows())
    assert (whole["Runs"], whole["Stopped"], whole["ExitCode"], whole["Complete"]) == (count, count, 0, 1)
    assert whole["MayBeRunning"] == 0
    assert whole["ApiCalls"] == sum(
        json.loads((play.directory / "report.json").read_text())["totals"]["api_calls"].values()
    )


def test_metrics_that_cannot_be_written_cost_the_exit_code(cloud: Cloud) -> None:
    play, wanted = Play(), told(cloud)

    def full(_: Sequence[str]) -> None:
        raise OSError(28, "No space left on device")

    code = play.sweep(wanted).exit_code
    finished = asyncio.run(finish(play.directory, wanted, code, sweep_id=SWEEP_ID, outbox=cloud.outbox, emf=full))
    assert finished.exit_code == 1
    assert finished.faults == ("the metrics could not be written: No space left on device",)
    assert json.loads(cloud.objects()[f"batch-cancel/{SWEEP_ID}/report.json"])["exit_code"] == 1


def test_metrics_of_a_ledger_that_was_never_finished() -> None:
    play = Play(world_settings=NO_RUNS)
    play.sweep(settings())

    async def forget() -> None:
        ledger = Ledger.open(play.directory)
        await ledger.set_facts(finished_at=None, exit_code=None)
        await ledger.close()

    asyncio.run(forget())
    with opened(play.directory) as document:
        whole = json.loads(list(metric_lines(document, datetime.now(UTC)))[-1])
    assert (whole["Sweep"], whole["ExitCode"], whole["Complete"]) == ("unnamed", 1, 0)
    assert "Duration" not in whole


def test_the_copy_of_a_ledger_that_somebody_reads_is_whole(cloud: Cloud, tmp_path: Path) -> None:
    play, wanted = Play(), told(cloud)
    readers: list[sqlite3.Connection] = []

    def read(stop: Stop, world: World) -> None:  # a dashboard, in the middle of a long look
        connection = schema.open_read_only(play.directory / "ledger.db")
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM sweep").fetchall()
        readers.append(connection)

    play.at_once = read
    code = play.sweep(wanted).exit_code
    assert deliver(cloud, play, wanted, code).faults == ()
    readers[0].close()
    (tmp_path / "ledger.db").write_bytes(cloud.objects()[f"batch-cancel/{SWEEP_ID}/ledger.db"])
    reader = Ledger.look(tmp_path)
    assert reader.count_runs() == len(play.rows()) > 0
    reader.close()


class Mute:
    """An outbox whose calls never end; ``begun`` counts them."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.first = asyncio.Event()

    async def _hang(self, name: str) -> NoReturn:
        self.begun.append(name)
        self.first.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def put_file(self, place: S3Place, path: Path, content_type: str) -> None:
        await self._hang(path.name)

    async def put_bytes(self, place: S3Place, data: bytes, content_type: str) -> None:
        await self._hang("put")

    async def get_bytes(self, place: S3Place) -> bytes | None:
        await self._hang("get")

    async def get_file(self, place: S3Place, path: Path) -> bool:
        await self._hang("get")

    async def publish(self, topic_arn: str, subject: str, messages: Mapping[str, str]) -> None:
        await self._hang("publish")


def test_services_that_hang_are_not_waited_for_file_by_file() -> None:
    play, mute = Play(), Mute()
    wanted = settings(
        report=Report(s3=PREFIX), notify=Notify(sns_topic_arn="arn:aws:sns:us-east-1:1:t", on=("change",))
    )
    code = play.sweep(wanted).exit_code
    reports = write_reports(play.directory, (ReportFormat.MD, ReportFormat.JSON))

    async def main() -> float:
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        delivered = await in_one_go(play.directory, wanted, reports, mute, sweep_id=SWEEP_ID, exit_code=code)
        assert delivered.place is None
        assert "TimedOut" in delivered.faults[0]
        assert "not tried: report.md, report.json" in delivered.faults[0]
        assert "could not be notified" in delivered.faults[-1]
        return loop.time() - began_at

    assert virtually(main()) <= DELIVERY_SECONDS + 1
    assert mute.begun == ["ledger.db", "get", "publish"]


def test_a_signal_ends_the_delivery_and_the_reports_stand(cloud: Cloud) -> None:
    play, wanted = Play(), told(cloud, "always")
    code, mute = play.sweep(wanted).exit_code, Mute()

    async def main() -> Finished:
        stop = Stop()
        task = asyncio.create_task(
            finish(play.directory, wanted, code, sweep_id=SWEEP_ID, outbox=lambda: mute, stop=stop)
        )
        await mute.first.wait()
        stop.request(StopCause.INTERRUPTED)
        return await task

    finished = asyncio.run(main())
    assert (finished.exit_code, mute.begun) == (130, ["ledger.db"])
    assert all("Interrupted" in fault for fault in finished.faults)
    assert len(finished.faults) == 2
    assert json.loads((play.directory / "report.json").read_text())["exit_code"] == 130


class Unheard(Mute):
    """Files are taken, and nobody hears of them."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, bytes] = {}

    async def put_file(self, place: S3Place, path: Path, content_type: str) -> None:
        self.objects[str(place).rpartition("/")[2]] = await asyncio.to_thread(path.read_bytes)


def test_a_signal_while_only_the_notification_hangs_is_in_the_copies_too() -> None:
    play, unheard = Play(), Unheard()
    wanted = settings(
        report=Report(s3=PREFIX), notify=Notify(sns_topic_arn="arn:aws:sns:us-east-1:1:t", on=("always",))
    )
    code = play.sweep(wanted).exit_code

    async def main() -> Finished:
        stop = Stop()
        finishing = finish(
            play.directory,
            wanted,
            code,
            sweep_id=SWEEP_ID,
            outbox=lambda: unheard,
            stop=stop,
            interrupted_code=lambda: 143,
        )
        task = asyncio.create_task(finishing)
        await unheard.first.wait()
        assert json.loads(unheard.objects["report.json"])["exit_code"] == 0
        stop.request(StopCause.INTERRUPTED)
        return await task

    finished = asyncio.run(main())
    assert (finished.exit_code, unheard.begun) == (143, ["publish"])
    assert finished.place is not None
    assert json.loads(unheard.objects["report.json"])["exit_code"] == 143
    assert unheard.objects == {path.name: path.read_bytes() for path in play.directory.glob("[!.]*")}


class HangsAtHtml(Unheard):
    """One file is never taken; once that has been given up, S3 answers for others again, or not even that."""

    def __init__(self, *, answers_again: bool) -> None:
        super().__init__()
        self._answers_again = answers_again

    async def put_file(self, place: S3Place, path: Path, content_type: str) -> None:
        if path.name == "report.html" or (self.begun and not self._answers_again):
            await self._hang(path.name)
        await super().put_file(place, path, content_type)


@pytest.mark.parametrize("answers_again", [True, False])
def test_copies_that_a_signal_left_incomplete_have_its_exit_code_if_s3_takes_them_soon(
    monkeypatch: pytest.MonkeyPatch, *, answers_again: bool
) -> None:
    play, outbox = Play(), HangsAtHtml(answers_again=answers_again)
    monkeypatch.setattr("batch_cancel.execution.LAST_WORD_SECONDS", 15.0 if answers_again else 0.5)
    monkeypatch.setattr("batch_cancel.delivery.bounded.LEAST_BYTES_A_SECOND", 1)  # files so large that they get an hour
    wanted = settings(report=Report(s3=PREFIX))
    code = play.sweep(wanted).exit_code

    async def main() -> Finished:
        stop = Stop()
        finishing = finish(play.directory, wanted, code, sweep_id=SWEEP_ID, outbox=lambda: outbox, stop=stop)
        task = asyncio.create_task(finishing)
        await outbox.first.wait()
        stop.request(StopCause.INTERRUPTED)
        return await asyncio.wait_for(task, 10)

    finished = asyncio.run(main())
    assert (finished.exit_code, finished.place) == (130, None)
    assert list(outbox.objects) == ["ledger.db", "report.csv", "report.md"]
    here = {name: (play.directory / name).read_bytes() for name in outbox.objects}
    assert (outbox.objects == here) is answers_again
    assert outbox.begun == ["report.html", *([] if answers_again else ["ledger.db"])]


@hypothesis_settings(deadline=None, max_examples=12)
@given(
    letter=st.sampled_from(["x", '"', "\\", "\n", "\x01", "é", "\ud800", "😀"]),
    sizes=st.sampled_from([(10, 20), (9_000, 0), (9_000, 20), (300_000, 0), (300_000, 1)]),
)
def test_messages_are_no_longer_than_sns_takes(letter: str, sizes: tuple[int, int]) -> None:
    length, number = sizes
    text = letter * length
    _, told = failure(text, text, text, 2, began=False)
    assert message_bytes(told) <= MOST_BYTES < 262_144
    targets = [{"account_id": text, "error": {"code": text, "message": text}}] * number
    told = _fitting(
        "s", [text] * number, {"name": text, "reason": text, "incomplete_targets": targets, text: {text: 1}}
    )
    assert message_bytes(told) <= MOST_BYTES
    assert json.loads(told["sqs"])


def test_a_message_that_fits_is_not_cut() -> None:
    _, told = failure("nightly", "s-1", "x" * 20_000, 2, began=False)
    assert "x" * 20_000 in told["default"]
    assert json.loads(told["lambda"])["error"] == "x" * 20_000


@pytest.mark.parametrize(
    ("name", "dimension"),
    [
        ("nightly", "nightly"),
        ("  ", "unnamed"),
        (None, "unnamed"),
        ("nächtlich", r"n\xe4chtlich"),
        ("a\nb", r"a\nb"),
        ("夜", r"\u591c"),
        ("x" * 1024, "x" * 1024),
    ],
)
def test_dimensions_are_what_cloudwatch_takes(name: str | None, dimension: str) -> None:
    assert json.loads(failure_line(name, 2, datetime.now(UTC)))["Sweep"] == dimension


@given(st.text(max_size=300), st.text(max_size=300), st.sampled_from([1, 500]))
def test_two_names_are_two_dimensions(one: str, other: str, times: int) -> None:
    told = [json.loads(failure_line(name * times, 2, datetime.now(UTC)))["Sweep"] for name in (one, other)]
    for value in told:
        assert value.isascii()
        assert value.isprintable()
        assert 1 <= len(value) <= 1024
    assert (told[0] == told[1]) is (one == other or not (one.strip(" ") or other.strip(" ")))
