"""AWS Lambda's way in: an event names a sweep, the answer says what it came to and what is left.

An invocation ends before its time runs out. What is then left is the answer's ``next_event``: invoked with it, the
function takes the ledger from S3 and goes on, any number of times, as one sweep. An event with a ``sweep_id`` may also
come twice (events are delivered at least once): the second time there is a ledger, and nothing is done again. One that
says something else under the same id is refused, and so is one that comes while another invocation is at it
(:mod:`batch_cancel.lambda_handler.lock`).

::

    {"sweep": {...} | "s3://bucket/sweep.yaml",   a sweep file, written out or in S3
     "yes": true | "confirm_count": 3,            consent; without it only a dry run is possible
     "dry_run": true, "reason": "...",            as the flags
     "sweep_id": "...",                           makes the event repeatable
     "shard": {"targets": [...]} | {"manifest": "s3://..."},   a part of it (batch_cancel.shards)
     "reserve_seconds": 60}                       kept for ending: draining calls, reports, uploads

    {"action": "shard", "sweep": ..., "sweep_id": ..., ...}    writes the parts' events to S3
    {"action": "merge", "sweep": ..., "sweep_id": ...}         makes one report of the parts'

Each invocation has an event loop, clients and a working directory of its own: nothing is carried over a freeze and a
thaw but the rates that were learned. A sweep that ran answers with its exit code, whatever that is; one that could not
begin raises, so that Lambda's own retries, alarms and dead-letter queue see it.
"""

from batch_cancel.lambda_handler.invocation import Context, handler

__all__ = ["Context", "handler"]
