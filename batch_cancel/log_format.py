"""Which form the log has, and the word of an interruption: known before the command line is imported."""

import os
import sys
import time
from collections.abc import Mapping, Sequence

_OPTION, _VARIABLE = "--log-format", "BATCH_CANCEL_LOG_FORMAT"


def logs_json(words: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether ``--log-format json`` was asked for, as far as that can be seen where the rest may make no sense."""
    form = environment.get(_VARIABLE, "")
    for word, after in zip(words, (*words, "")[1:], strict=True):
        if word == "--":
            break
        if word == _OPTION:
            form = after
        elif word.startswith(f"{_OPTION}="):
            form = word.partition("=")[2]
    return form == "json"


def interrupted(exit_code: int) -> str:
    """What standard error is told where a signal ends the process, in the log's form; made without any import."""
    if not logs_json(sys.argv[1:], os.environ):
        return "batch-cancel: interrupted\n"
    now = time.time()
    ts = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03}Z"
    fields = f'{{"type": "Interrupted", "message": "interrupted", "exit_code": {exit_code}}}'
    return f'{{"ts": "{ts}", "level": "error", "event": "failed", "fields": {fields}}}\n'
