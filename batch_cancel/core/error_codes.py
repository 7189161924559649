"""What the service's error codes mean: the error table of GLUE.md, for whoever hears one and whoever tells of it later.

They are from the Glue API reference's common errors and from botocore's retry tables.
"""

from batch_cancel.core.errors import ErrorKind

KIND_BY_CODE: dict[str, ErrorKind] = {
    **dict.fromkeys(
        (
            "Throttling",
            "ThrottlingException",
            "ThrottledException",
            "RequestThrottled",
            "RequestThrottledException",
            "TooManyRequestsException",
            "RequestLimitExceeded",
            "ProvisionedThroughputExceededException",
            "BandwidthLimitExceeded",
            "LimitExceededException",
            "SlowDown",
            "PriorRequestNotComplete",
            "TransactionInProgressException",
            "EC2ThrottledException",
            "429",
        ),
        ErrorKind.THROTTLE,
    ),
    **dict.fromkeys(
        (
            "OperationTimeoutException",  # HTTP 400: botocore never retries it
            "InternalServiceException",
            "InternalFailure",
            "RequestTimeout",
            "RequestTimeoutException",
            "ServiceUnavailable",
        ),
        ErrorKind.TRANSIENT,
    ),
    **dict.fromkeys(
        (
            "ExpiredTokenException",
            "ExpiredToken",
            "RequestExpired",
            "UnrecognizedClientException",
            "InvalidClientTokenId",
            "InvalidSignatureException",
            "SignatureDoesNotMatch",
            "IncompleteSignature",
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
        ),
        ErrorKind.CREDENTIALS,
    ),
    **dict.fromkeys(
        ("AccessDenied", "AccessDeniedException", "NotAuthorized", "OptInRequired", "403"), ErrorKind.ACCESS
    ),
    "EntityNotFoundException": ErrorKind.NOT_FOUND,
    "InvalidInputException": ErrorKind.INVALID,
    "ValidationException": ErrorKind.INVALID,
}


def kind_of(code: str, http_status: int | None) -> ErrorKind:
    """What an error answer means, by its code first and its HTTP status second."""
    kind = KIND_BY_CODE.get(code)
    if kind is not None:
        return kind
    if http_status == 429:
        return ErrorKind.THROTTLE
    if http_status is not None and http_status >= 500:
        return ErrorKind.TRANSIENT
    return ErrorKind.OTHER
