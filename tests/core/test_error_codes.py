import pytest

from batch_cancel.core.error_codes import KIND_BY_CODE, kind_of
from batch_cancel.core.errors import ErrorKind
from batch_cancel.report.story import is_of_access, is_of_credentials


@pytest.mark.parametrize(
    ("code", "http_status", "kind"),
    [
        ("ThrottlingException", 500, ErrorKind.THROTTLE),
        ("AccessDeniedException", 503, ErrorKind.ACCESS),
        ("SomethingNew", 429, ErrorKind.THROTTLE),
        ("SomethingNew", 500, ErrorKind.TRANSIENT),
        ("SomethingNew", 400, ErrorKind.OTHER),
        ("SomethingNew", None, ErrorKind.OTHER),
    ],
)
def test_a_code_that_is_known_goes_before_the_status(code: str, http_status: int | None, kind: ErrorKind) -> None:
    assert kind_of(code, http_status) is kind


def test_a_report_takes_codes_for_what_the_sweep_took_them_for() -> None:
    for code, kind in KIND_BY_CODE.items():
        assert is_of_credentials(code) is (kind is ErrorKind.CREDENTIALS), code
        assert is_of_access(code) is (kind is ErrorKind.ACCESS and code != "OptInRequired"), code
