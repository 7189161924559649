"""What is no fault in a row and hardly meant so. Ids go to Glue exactly as written, so it can only be told."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from batch_cancel.core.errors import Problem
from batch_cancel.core.wording import counted, quoted
from batch_cancel.manifest.rows import ManifestRow


@dataclass(slots=True)
class _Seen:
    """Rows of which the same is to be said."""

    count: int = 0
    line: int = 0
    id: str = ""

    def add(self, line: int, written: str) -> None:
        """Count a row; the first is the example."""
        if not self.count:
            self.line, self.id = line, written
        self.count += 1


def tell_doubts(
    rows: Iterator[ManifestRow | Problem], source: str, on_remark: Callable[[str], None]
) -> Iterator[ManifestRow | Problem]:
    """The same rows; after the last, a sentence about what a spreadsheet or a web page did to their ids.

    A blank behind an id, a no-break space, a quote or the "…" of a shortened one cannot be seen in a table, and Glue
    would answer that it knows no such run.
    """
    framed, swapped = _Seen(), _Seen()
    for row in rows:
        if isinstance(row, ManifestRow):
            line, transform, run, *_ = row
            if not (run[0].isalnum() and run[-1].isalnum() and transform[0].isalnum() and transform[-1].isalnum()):
                framed.add(line, run if transform[0].isalnum() and transform[-1].isalnum() else transform)
            if transform.startswith("tsk-") and run.startswith("tfm-"):
                swapped.add(line, transform)
        yield row
    if framed.count:
        on_remark(
            f"{source}: {counted(framed.count, 'row')} with an id that begins or ends with neither a letter nor a digit"
            f" (line {framed.line}: {quoted(framed.id)}): ids are sent exactly as written"
        )
    if swapped.count:
        on_remark(
            f"{source}: {counted(swapped.count, 'row')} with a transform_id that looks like a task run's"
            f" (line {swapped.line}: {quoted(swapped.id)}), and the other way round: are the two columns mixed up?"
        )
