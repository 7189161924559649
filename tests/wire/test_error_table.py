"""The real client against a server that sends every row of GLUE.md's tables: what it becomes in our terms."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from batch_cancel.core.errors import CallFailed, ErrorKind
from batch_cancel.core.task_run import Access, Status, Target, TaskRun, Transform
from batch_cancel.glue import aws
from batch_cancel.glue.api import CancelAnswer, GlueApi, Page
from batch_cancel.glue.aws import Aws
from tests.wire.scripted import Behaviour, answer, close, error, nothing, reset, scripted_server

HERE = Target("us-east-1", "111111111111")

THROTTLE = """Throttling ThrottlingException ThrottledException RequestThrottled RequestThrottledException
    TooManyRequestsException RequestLimitExceeded ProvisionedThroughputExceededException BandwidthLimitExceeded
    LimitExceededException SlowDown PriorRequestNotComplete TransactionInProgressException EC2ThrottledException"""
TRANSIENT = """OperationTimeoutException InternalServiceException InternalFailure RequestTimeout RequestTimeoutException
    ServiceUnavailable"""
CREDENTIALS = """ExpiredTokenException ExpiredToken RequestExpired UnrecognizedClientException InvalidClientTokenId
    InvalidSignatureException SignatureDoesNotMatch IncompleteSignature MissingAuthenticationToken
    MissingAuthenticationTokenException"""
ACCESS = "AccessDenied AccessDeniedException NotAuthorized OptInRequired"


def cancel(glue: GlueApi) -> Awaitable[CancelAnswer]:
    return glue.cancel_task_run("tfm-1", "tsk-1")


def failures(
    behaviours: Iterable[Behaviour], call: Callable[[GlueApi], Awaitable[object]] = cancel
) -> list[CallFailed]:
    """What each behaviour of the server is raised as; every call is one request."""

    async def main() -> list[CallFailed]:
        found = []
        async with scripted_server() as (url, script), Aws("s-1", endpoint_url=url).connect(HERE) as glue:
            for number, behaviour in enumerate(behaviours, start=1):
                script.behaviour = behaviour
                with pytest.raises(CallFailed) as caught:
                    await call(glue)
                found.append(caught.value)
                assert script.requests == number, "botocore has tried again by itself"
        return found

    return asyncio.run(main())


def failure(behaviour: Behaviour, call: Callable[[GlueApi], Awaitable[object]] = cancel) -> CallFailed:
    return failures([behaviour], call)[0]


@pytest.mark.parametrize(
    ("codes", "kind", "ambiguous"),
    [
        (THROTTLE, ErrorKind.THROTTLE, False),
        (TRANSIENT, ErrorKind.TRANSIENT, True),
        (CREDENTIALS, ErrorKind.CREDENTIALS, False),
        (ACCESS, ErrorKind.ACCESS, False),
        ("EntityNotFoundException", ErrorKind.NOT_FOUND, False),
        ("InvalidInputException ValidationException", ErrorKind.INVALID, False),
        ("ConflictException SomethingOfTomorrow", ErrorKind.OTHER, False),
    ],
)
def test_codes_of_the_error_table(codes: str, kind: ErrorKind, ambiguous: bool) -> None:
    names = codes.split()
    found = failures(error(name) for name in names)
    assert [(each.code, each.kind, each.ambiguous, each.reached) for each in found] == [
        (name, kind, ambiguous, True) for name in names
    ]
    assert {(each.operation, each.message, each.http_status, each.request_id) for each in found} == {
        ("CancelMLTaskRun", "said", 400, "request-1")
    }


def test_a_code_says_more_than_the_http_status() -> None:
    found = failures(
        [error("ThrottlingException", 503), error("InternalServiceException", 400), error("SlowDown", 503)]
    )
    assert [each.kind for each in found] == [ErrorKind.THROTTLE, ErrorKind.TRANSIENT, ErrorKind.THROTTLE]


def test_bare_http_statuses() -> None:
    page = b"<html><body><h1>Sorry</h1></body></html>"
    statuses = (429, 500, 502, 503, 504, 403)
    found = failures([answer(status, body) for status in statuses for body in (page, b"")])
    assert [(each.code, each.kind, each.http_status) for each in found] == [
        (str(status), kind, status)
        for status, kind in zip(
            statuses, [ErrorKind.THROTTLE, *[ErrorKind.TRANSIENT] * 4, ErrorKind.ACCESS], strict=True
        )
        for _ in range(2)
    ]


@pytest.mark.parametrize("status", [400, 404, 413])
def test_any_other_bare_status_is_a_definite_refusal(status: int) -> None:
    found = failure(answer(status, b"no"))
    assert (found.kind, found.ambiguous) == (ErrorKind.OTHER, False)


def test_shapes_in_which_services_send_errors() -> None:
    shapes: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({"__type": "EntityNotFoundException", "Message": "gone"}, {}),
        ({"__type": "com.amazonaws.glue#EntityNotFoundException", "message": "gone"}, {}),
        ({"__type": "EntityNotFoundException:http://internal.example.com/", "message": "gone"}, {}),
        ({"message": "gone"}, {"x-amzn-ErrorType": "EntityNotFoundException:http://internal.example.com/"}),
        ({"__type": "EntityNotFoundException", "Message": "gone", "FromFederationSource": False}, {}),
    ]
    found = failures(answer(400, json.dumps(body).encode(), headers=headers) for body, headers in shapes)
    assert [(each.code, each.message) for each in found] == [("EntityNotFoundException", "gone")] * len(shapes)


def test_when_to_come_again() -> None:
    headers: list[dict[str, str]] = [
        {"Retry-After": "7"},
        {"x-amz-retry-after": "1500"},
        {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"},
        {"Retry-After": "-5"},
        {},
        {"Retry-After": "3600"},
        {"x-amz-retry-after": "999999999"},
    ]
    found = failures(error("ThrottlingException", headers=each) for each in headers)
    assert [each.retry_after_seconds for each in found] == [7.0, 1.5, None, None, None, 120.0, 120.0]


def test_a_message_is_cut_and_a_signature_error_keeps_its_first_sentence() -> None:
    long = failure(error("InvalidInputException", message="x" * 100_000))
    assert len(long.message) <= 2000
    secret = "The signature does not match. The canonical string is\n'secret-token'"
    assert "secret-token" not in failure(error("SignatureDoesNotMatch", message=secret)).message


# -- transport --------------------------------------------------------------------------------------------------------

WHOLE = json.dumps({"TransformId": "tfm-1", "TaskRunId": "tsk-1", "Status": "STOPPING"}).encode()


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (reset, "EndpointConnectionError"),
        (close, "ConnectionClosedError"),
        (answer(200, WHOLE[:20], length=len(WHOLE)), "ConnectionClosedError"),
        (answer(200, b"", length=len(WHOLE)), "ConnectionClosedError"),
    ],
    ids=["reset after the request was read", "closed", "half a body", "no body"],
)
def test_a_connection_that_is_lost_may_have_brought_the_request(behaviour: Behaviour, code: str) -> None:
    found = failure(behaviour)
    assert (found.kind, found.code, found.reached, found.ambiguous) == (ErrorKind.TRANSIENT, code, True, True)


def test_a_connection_that_broke_off_is_not_told_as_one_that_could_not_be_made() -> None:
    assert failure(reset).message.startswith("the connection broke off: ")
    assert "Could not connect" in refused(f"http://127.0.0.1:{closed_port()}").message


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"[1]"), (200, b"null"), (200, b"\xff\xfe"), (400, b'{"__type": 5}'), (500, b"[1]")]
)
def test_an_answer_that_cannot_be_read_is_said_to_be_one(status: int, body: bytes) -> None:
    found = failure(answer(status, body))
    assert (found.kind, found.code, found.ambiguous) == (ErrorKind.TRANSIENT, "ResponseParserError", True)
    assert found.message.startswith("the answer cannot be read: ")


def test_a_reset_of_a_connection_that_was_used_before_is_not_sent_again() -> None:
    found = failures([error("EntityNotFoundException"), close, error("EntityNotFoundException"), reset])
    assert [each.ambiguous for each in found] == [False, True, False, True]


def test_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws, "READ_SECONDS", 0.2)
    found = failure(nothing)
    assert (found.kind, found.code, found.ambiguous) == (ErrorKind.TRANSIENT, "ReadTimeoutError", True)


@pytest.mark.parametrize(
    "body", [b"", b"{}", WHOLE[:20], b"<html>Welcome</html>", b"[1]", b"null", b'"x"', b"\xff\xfe"]
)
def test_a_200_that_is_none_is_never_taken_for_an_answer(body: bytes) -> None:
    async def main() -> None:
        async with scripted_server() as (url, script), Aws("s-1", endpoint_url=url).connect(HERE) as glue:
            script.behaviour = answer(200, body)
            try:
                told = await cancel(glue)
            except CallFailed as failed:
                assert failed.ambiguous, failed  # either way is right
            else:
                assert (told.transform_id, told.task_run_id, told.status) == (None, None, None)
            for read in (
                lambda: glue.get_task_run("tfm-1", "tsk-1"),
                lambda: glue.list_task_runs("tfm-1"),
                glue.list_transform_ids,
                glue.list_transforms,
            ):
                with pytest.raises(CallFailed) as caught:
                    await read()
                assert caught.value.ambiguous, caught.value

    asyncio.run(main())


@pytest.mark.parametrize(
    ("call", "body"),
    [
        (lambda glue: glue.list_task_runs("tfm-1"), '{"TaskRuns": [7]}'),
        (lambda glue: glue.list_task_runs("tfm-1"), '{"TaskRuns": [{"Status": "RUNNING"}]}'),
        (lambda glue: glue.list_task_runs("tfm-1"), '{"TaskRuns": [{"TaskRunId": "", "Status": "RUNNING"}]}'),
        (lambda glue: glue.list_task_runs("tfm-1"), '{"TaskRuns": [{"TaskRunId": "t\\ud800", "Status": "RUNNING"}]}'),
        (lambda glue: glue.list_task_runs("tfm-1"), '{"TaskRuns": [], "NextToken": 7}'),
        (lambda glue: glue.list_task_runs("tfm-1"), '{"TaskRuns": [], "NextToken": ["more"]}'),
        (lambda glue: glue.list_transform_ids(), '{"TransformIds": [], "NextToken": {}}'),
        (lambda glue: glue.list_transforms(), '{"Transforms": [], "NextToken": false}'),
        (lambda glue: glue.list_task_runs("tfm-1"), '{"TaskRuns": {"a": 1}}'),
        (lambda glue: glue.list_transforms(), '{"Transforms": [{"Name": "n"}]}'),
        (lambda glue: glue.list_transform_ids(), '{"TransformIds": ["t", null]}'),
        (lambda glue: glue.get_task_run("tfm-1", "tsk-1"), '{"TransformId": "tfm-1", "TaskRunId": "tsk-2"}'),
    ],
)
def test_fields_of_the_wrong_kind_are_no_answer(call: Callable[[GlueApi], Awaitable[object]], body: str) -> None:
    assert failure(answer(200, body.encode()), call).ambiguous


def answered(body: str, call: Callable[[GlueApi], Awaitable[Any]]) -> Any:  # noqa: ANN401  # what the call gives
    """What a call gives for this body."""

    async def main() -> Any:  # noqa: ANN401
        async with scripted_server() as (url, script), Aws("s-1", endpoint_url=url).connect(HERE) as glue:
            script.behaviour = answer(200, body.encode())
            return await call(glue)

    return asyncio.run(main())


ODD_FIELDS = """{{"TransformId": "tfm-1", "TaskRunId": "tsk-1", "Status": "RUNNING", "Properties": {odd},
    "StartedOn": {odd}, "LastModifiedOn": {odd}, "CompletedOn": {odd}, "ExecutionTime": {odd},
    "MaxCapacity": {odd}, "Timeout": {odd}, "NumberOfWorkers": {odd}, "Name": {odd},
    "WorkerType": {odd}, "GlueVersion": {odd}}}"""
ODD = ["NaN", "Infinity", "-Infinity", "-1", "1e300", "1" + "0" * 400, "true", "[]", "[1]", '{"a": 1}', '"\\ud800"']


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_field_that_may_be_missing_costs_itself_alone(odd: str) -> None:
    body = ODD_FIELDS.format(odd=odd)
    run = TaskRun("tfm-1", "tsk-1", Status.RUNNING)
    assert answered(body, lambda glue: glue.get_task_run("tfm-1", "tsk-1")) == run
    assert answered(f'{{"TaskRuns": [{body}]}}', lambda glue: glue.list_task_runs("tfm-1")).items == [run]
    assert answered(f'{{"Transforms": [{body}]}}', lambda glue: glue.list_transforms()).items == [Transform("tfm-1")]


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        ("1790000000.5", 1_790_000_000.5),
        ('"1790000000"', 1_790_000_000.0),
        ('"2026-09-21T13:33:20Z"', 1_789_997_600.0),
        ('"2026-09-21T13:33:20"', 1_789_997_600.0),
        ("1790000000000", None),  # milliseconds
        ('"soon"', None),
        ('""', None),
        ('"0001-01-01T00:00:00Z"', None),
        ('"9999-12-31T23:59:59-12:00"', None),
    ],
)
def test_a_time_is_what_it_says_or_not_known(sent: str, seconds: float | None) -> None:
    body = f'{{"TransformId": "tfm-1", "TaskRunId": "tsk-1", "Status": "RUNNING", "StartedOn": {sent}}}'
    started_on = answered(body, lambda glue: glue.get_task_run("tfm-1", "tsk-1")).started_on
    assert (started_on and started_on.timestamp()) == seconds


def test_an_empty_token_ends_a_listing() -> None:
    assert answered('{"TaskRuns": [], "NextToken": ""}', lambda glue: glue.list_task_runs("tfm-1")) == Page([])
    assert answered('{"TransformIds": [], "NextToken": ""}', lambda glue: glue.list_transform_ids()) == Page([])
    assert answered('{"Transforms": [], "NextToken": ""}', lambda glue: glue.list_transforms()) == Page([])


def test_a_run_of_another_transform_is_not_among_those_that_were_asked_for() -> None:
    runs = [("tfm-1", "tsk-1"), ("tfm-2", "tsk-2"), (None, "tsk-3"), (7, "tsk-4")]
    items = [{"TransformId": transform, "TaskRunId": run, "Status": "RUNNING"} for transform, run in runs]
    page = answered(json.dumps({"TaskRuns": items}), lambda glue: glue.list_task_runs("tfm-1"))
    assert ([run.task_run_id for run in page.items], page.foreign) == (["tsk-1", "tsk-3"], True)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    async def main() -> tuple[CallFailed, int]:
        async with scripted_server() as (url, script), scripted_server() as (elsewhere, other):
            other.behaviour = answer(200, WHOLE)
            script.behaviour = answer(status, b"<html>", headers={"Location": elsewhere})
            async with Aws("s-1", endpoint_url=url).connect(HERE) as glue:
                with pytest.raises(CallFailed) as caught:
                    await cancel(glue)
            return caught.value, other.requests

    failed, led_astray = asyncio.run(main())
    assert (failed.kind, failed.http_status, failed.reached, led_astray) == (ErrorKind.OTHER, status, True, 0)


def test_the_own_client_follows_no_redirect_either() -> None:
    async def main() -> int:
        async with scripted_server() as (url, script), scripted_server() as (elsewhere, other):
            script.behaviour = answer(302, b"", headers={"Location": elsewhere})
            with pytest.raises(CallFailed):
                await Aws("s-1", endpoint_url=url).identify(Access(), "us-east-1")
            return other.requests

    assert asyncio.run(main()) == 0


def test_what_is_told_of_an_error_can_be_written_down() -> None:
    failed = failure(answer(400, b'{"__type": "Odd\\ud800", "message": "half \\udc00"}'))
    assert (failed.code, failed.message) == ("Odd?", "half ?")


def test_an_identity_that_is_none() -> None:
    async def main() -> None:
        async with scripted_server() as (url, script):
            for body in (b"", b"<html>Welcome</html>", b"{}", b"<GetCallerIdentityResponse/>"):
                script.behaviour = answer(200, body)
                with pytest.raises(CallFailed) as caught:
                    await Aws("s-1", endpoint_url=url).identify(Access(), "us-east-1")
                assert caught.value.kind is ErrorKind.TRANSIENT, body

    asyncio.run(main())


@pytest.mark.parametrize("word", ['"CANCELLED"', "7", "null", '["STOPPED"]'])
def test_a_status_that_nobody_knows_is_none(word: str) -> None:
    body = f'{{"TransformId": "tfm-1", "TaskRunId": "tsk-1", "Status": {word}}}'

    async def main() -> CancelAnswer:
        async with scripted_server() as (url, script), Aws("s-1", endpoint_url=url).connect(HERE) as glue:
            script.behaviour = answer(200, body.encode())
            return await cancel(glue)

    told = asyncio.run(main())
    assert (told.transform_id, told.task_run_id, told.status) == ("tfm-1", "tsk-1", None)


def test_a_whole_answer() -> None:
    async def main() -> CancelAnswer:
        async with scripted_server() as (url, script), Aws("s-1", endpoint_url=url).connect(HERE) as glue:
            script.behaviour = answer(200, WHOLE)
            return await cancel(glue)

    told = asyncio.run(main())
    assert told == CancelAnswer("tfm-1", "tsk-1", Status.STOPPING, "request-1", told.answered_at)


@pytest.mark.parametrize(
    ("date", "told"),
    [
        ("Tue, 24 Nov 2026 12:00:00 GMT", datetime(2026, 11, 24, 12, tzinfo=UTC)),
        ("yesterday", None),
        ("Tue, 24 Nov 99999999999 12:00:00 GMT", None),
        ("Tue, 24 Nov 2026 99999999999:00:00 GMT", None),
    ],
)
def test_an_answer_counts_whatever_its_date_says(date: str, told: datetime | None) -> None:
    async def main() -> CancelAnswer:
        async with scripted_server() as (url, script), Aws("s-1", endpoint_url=url).connect(HERE) as glue:
            script.behaviour = answer(200, WHOLE, headers={"Date": date})
            return await cancel(glue)

    assert asyncio.run(main()) == CancelAnswer("tfm-1", "tsk-1", Status.STOPPING, "request-1", told)


# -- never sent -------------------------------------------------------------------------------------------------------


def refused(url: str, target: Target = HERE) -> CallFailed:
    async def main() -> CallFailed:
        with pytest.raises(CallFailed) as caught:
            async with Aws("s-1", endpoint_url=url).connect(target) as glue:
                await cancel(glue)
        return caught.value

    return asyncio.run(main())


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_connection_that_is_refused_was_never_sent() -> None:
    found = refused(f"http://127.0.0.1:{closed_port()}")
    assert (found.kind, found.code, found.reached) == (ErrorKind.TRANSIENT, "EndpointConnectionError", False)


def test_a_name_that_is_not_known_was_never_sent() -> None:
    found = refused("http://nowhere.invalid:80")
    assert (found.kind, found.code, found.reached) == (ErrorKind.TRANSIENT, "EndpointConnectionError", False)


def test_a_connection_that_does_not_come_about_in_time_was_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws, "CONNECT_SECONDS", 0.2)
    waiting: list[socket.socket] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)  # nobody accepts: once the queue is full, the kernel answers no more
        for _ in range(3):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(listener.getsockname())
        found = refused(f"http://127.0.0.1:{listener.getsockname()[1]}")
        for each in waiting:
            each.close()
    assert (found.kind, found.code, found.reached) == (ErrorKind.TRANSIENT, "ConnectTimeoutError", False)


@pytest.mark.parametrize(
    ("code", "kind", "kept_out"),
    [
        ("AccessDenied", ErrorKind.ACCESS, True),
        ("ValidationError", ErrorKind.ACCESS, True),
        ("InvalidInputException", ErrorKind.ACCESS, True),
        ("ExpiredToken", ErrorKind.CREDENTIALS, True),
        ("Throttling", ErrorKind.THROTTLE, False),
    ],
)
def test_what_is_said_of_a_role_is_never_said_of_the_request_that_it_was_for(
    code: str, kind: ErrorKind, *, kept_out: bool
) -> None:
    behind_a_role = Target("us-east-1", "111111111111", Access(role_arn="arn:aws:iam::111111111111:role/R"))

    async def main() -> CallFailed:
        async with (
            scripted_server() as (url, script),
            Aws("s-1", endpoint_url=url).connect(behind_a_role) as glue,
        ):
            script.behaviour = answer(400, f"<E><Error><Code>{code}</Code><Message>no</Message></Error></E>".encode())
            with pytest.raises(CallFailed) as caught:
                await cancel(glue)
            return caught.value

    found = asyncio.run(main())
    assert (found.operation, found.kind, found.reached, found.kept_out) == ("AssumeRole", kind, False, kept_out)


def test_whatever_else_breaks_on_the_way_may_have_been_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def speak_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def main() -> CallFailed:
        async with await asyncio.start_server(speak_plainly, "127.0.0.1", 0) as server:
            url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with Aws("s-1", endpoint_url=url).connect(HERE) as glue:
                with pytest.raises(CallFailed) as caught:
                    await cancel(glue)
                return caught.value

    tls = asyncio.run(main())
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    proxy = refused("http://glue.example.com")
    assert (tls.code, proxy.code) == ("SSLError", "ProxyConnectionError")
    for found in (tls, proxy):
        assert (found.kind, found.reached) == (ErrorKind.TRANSIENT, True), found


UNSET = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
SSO = """[profile sso]
sso_start_url = https://example.com/start
sso_region = us-east-1
sso_account_id = 111111111111
sso_role_name = R
"""
SSO_SESSION = """[profile sso]
sso_session = s
sso_account_id = 111111111111
sso_role_name = R
[sso-session s]
sso_start_url = https://example.com/start
sso_region = us-east-1
"""
PROCESS = "[profile process]\ncredential_process = false\n"
NO_PROCESS = "[profile process]\ncredential_process = /no/such/program\n"
ROLE = "[profile role]\nrole_arn = arn:aws:iam::111111111111:role/R\n"


@pytest.mark.parametrize(
    ("config", "profile", "code"),
    [
        ("", None, "NoCredentialsError"),
        ("", "gone", "ProfileNotFound"),
        (SSO, "sso", "SSOTokenLoadError"),
        (SSO_SESSION, "sso", "SSOTokenLoadError"),
        (PROCESS, "process", "CredentialRetrievalError"),
        (NO_PROCESS, "process", "FileNotFoundError"),
        ("[profile sso]\nsso_session = s\nsso_account_id = 111111111111\n", "sso", "InvalidConfigError"),
        (f"{ROLE}source_profile = gone\n", "role", "InvalidConfigError"),
        (f"{ROLE}web_identity_token_file = /no/such/token\n", "role", "FileNotFoundError"),
        ("[[not a config", "role", "ConfigParseError"),
        ("[default]\naws_access_key_id = AKIA\n", None, "PartialCredentialsError"),
    ],
)
def test_without_credentials_nothing_is_sent(
    config: str, profile: str | None, code: str, aws_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in UNSET:
        monkeypatch.delenv(name)
    aws_config.write_text(config)
    target = Target("us-east-1", access=Access(profile=profile))
    found = refused(f"http://127.0.0.1:{closed_port()}", target)
    assert (found.kind, found.reached, found.ambiguous) == (ErrorKind.CREDENTIALS, False, False), found
    assert found.code == code
    assert found.message


def test_a_role_that_nobody_could_ask_for_is_a_matter_of_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in UNSET:
        monkeypatch.delenv(name)
    target = Target("us-east-1", access=Access(role_arn="arn:aws:iam::111111111111:role/R"))
    found = refused(f"http://127.0.0.1:{closed_port()}", target)
    assert (found.kind, found.reached, found.code) == (ErrorKind.CREDENTIALS, False, "NoCredentialsError")
