"""Cancel AWS Glue machine-learning task runs in bulk, and tell the truth about every one of them.

The command line is ``batch-cancel``. This is the same in Python: everything in ``__all__`` is public, nothing else is.

An audit, with what happens meanwhile::

    import asyncio
    from pathlib import Path
    import batch_cancel

    settings = batch_cancel.Settings(
        source=batch_cancel.DiscoverySource(),
        targets=(batch_cancel.TargetSettings(regions=("us-east-1",)),),
        dry_run=True,
    )
    swept = asyncio.run(batch_cancel.run_sweep(settings, Path("audit"), on_event=print))
    for run in batch_cancel.read_runs(swept.directory, batch_cancel.Outcome.WOULD_CANCEL):
        print(run["transform_id"], run["task_run_id"])

Nothing is imported before it is used, so that ``import batch_cancel`` costs nothing; and a signal to the command line
finds its handler there as soon as can be.
"""

from batch_cancel.version import __version__

TYPE_CHECKING = False  # typing's own would be most of what is imported here; a type checker goes by the name

if TYPE_CHECKING:
    from batch_cancel.core.errors import (
        AccessStopped,
        BatchCancelError,
        GuardrailRefused,
        InputError,
        LedgerError,
        Problem,
        RecordLost,
        UsageError,
    )
    from batch_cancel.core.events import (
        Accepted,
        Asked,
        Awaited,
        CallAnswered,
        Event,
        ManifestRead,
        OutcomeReached,
        Phase,
        PhaseBegan,
        PhaseEnded,
        PlaceFailed,
        RateChanged,
        Resumed,
        Retrying,
        RunsFound,
        Stopping,
        SweepBegan,
        SweepListed,
        SweepStarted,
        TargetFailed,
        TargetGivenUp,
        TargetIdentified,
        TargetOpened,
        TargetRecovered,
        ToAsk,
        TransformListed,
        TransformsDescribed,
        TransformsFound,
        Warned,
    )
    from batch_cancel.core.outcome import (
        Outcome,
    )
    from batch_cancel.core.selection import (
        Protection,
        Selection,
    )
    from batch_cancel.core.task_run import (
        Status,
        Target,
        TaskRunKey,
        TaskType,
    )
    from batch_cancel.library import (
        Found,
        Swept,
        load_sweep_file,
        read_report,
        read_runs,
        resume_sweep,
        run_sweep,
    )
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
    )
    from batch_cancel.stop import (
        Stop,
        StopCause,
    )

_HOMES = {
    "core.errors": (
        "AccessStopped",
        "BatchCancelError",
        "GuardrailRefused",
        "InputError",
        "LedgerError",
        "Problem",
        "RecordLost",
        "UsageError",
    ),
    "core.events": (
        "Accepted",
        "Asked",
        "Awaited",
        "CallAnswered",
        "Event",
        "ManifestRead",
        "OutcomeReached",
        "Phase",
        "PhaseBegan",
        "PhaseEnded",
        "PlaceFailed",
        "RateChanged",
        "Resumed",
        "Retrying",
        "RunsFound",
        "Stopping",
        "SweepBegan",
        "SweepListed",
        "SweepStarted",
        "TargetFailed",
        "TargetGivenUp",
        "TargetIdentified",
        "TargetOpened",
        "TargetRecovered",
        "ToAsk",
        "TransformListed",
        "TransformsDescribed",
        "TransformsFound",
        "Warned",
    ),
    "core.outcome": ("Outcome",),
    "core.selection": (
        "Protection",
        "Selection",
    ),
    "core.task_run": (
        "Status",
        "Target",
        "TaskRunKey",
        "TaskType",
    ),
    "library": (
        "Found",
        "Swept",
        "load_sweep_file",
        "read_report",
        "read_runs",
        "resume_sweep",
        "run_sweep",
    ),
    "settings": (
        "Consent",
        "Cost",
        "DiscoverySource",
        "Endpoint",
        "Guardrails",
        "ManifestFormat",
        "ManifestSource",
        "MaxErrors",
        "Notify",
        "Rate",
        "Report",
        "ReportFormat",
        "Retry",
        "Settings",
        "TargetSettings",
        "Verify",
    ),
    "stop": (
        "Stop",
        "StopCause",
    ),
}
"""The module of each public name: a room is entered only when it is asked for."""

_HOME = {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}

__all__ = [
    "Accepted",
    "AccessStopped",
    "Asked",
    "Awaited",
    "BatchCancelError",
    "CallAnswered",
    "Consent",
    "Cost",
    "DiscoverySource",
    "Endpoint",
    "Event",
    "Found",
    "GuardrailRefused",
    "Guardrails",
    "InputError",
    "LedgerError",
    "ManifestFormat",
    "ManifestRead",
    "ManifestSource",
    "MaxErrors",
    "Notify",
    "Outcome",
    "OutcomeReached",
    "Phase",
    "PhaseBegan",
    "PhaseEnded",
    "PlaceFailed",
    "Problem",
    "Protection",
    "Rate",
    "RateChanged",
    "RecordLost",
    "Report",
    "ReportFormat",
    "Resumed",
    "Retry",
    "Retrying",
    "RunsFound",
    "Selection",
    "Settings",
    "Status",
    "Stop",
    "StopCause",
    "Stopping",
    "SweepBegan",
    "SweepListed",
    "SweepStarted",
    "Swept",
    "Target",
    "TargetFailed",
    "TargetGivenUp",
    "TargetIdentified",
    "TargetOpened",
    "TargetRecovered",
    "TargetSettings",
    "TaskRunKey",
    "TaskType",
    "ToAsk",
    "TransformListed",
    "TransformsDescribed",
    "TransformsFound",
    "UsageError",
    "Verify",
    "Warned",
    "__version__",
    "load_sweep_file",
    "read_report",
    "read_runs",
    "resume_sweep",
    "run_sweep",
]


if not TYPE_CHECKING:  # a type checker sees the imports above, and would take any name for public by this

    def __getattr__(name: str) -> object:
        import importlib  # noqa: PLC0415  # as little as can be before a signal is heard

        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
