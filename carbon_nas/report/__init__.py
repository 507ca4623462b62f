"""The account of a run: a record goes in, a report comes out, and views of it are written.

`build_report` is pure and cheap to import. The views load matplotlib and Jinja only when they are made.
"""

import os
import tempfile
from pathlib import Path

from carbon_nas.report.build import build_report
from carbon_nas.report.model import Report
from carbon_nas.report.record import ReportError, RunRecord

__all__ = ["Report", "ReportError", "RunRecord", "build_report", "write_report"]


def write_report(record: RunRecord, directory: Path) -> Path:
    """Write `report.html` and `report.json` into `directory`, each whole or not at all; give the HTML's path.

    Raises:
        ReportError: the record cannot be reported honestly; nothing is written.
        OSError: the directory cannot be written.
    """
    from carbon_nas.report.html import render_html  # noqa: PLC0415 -- loads matplotlib
    from carbon_nas.report.json import render_json  # noqa: PLC0415 -- with its sibling

    report = build_report(record)
    views = {"report.json": render_json(report), "report.html": render_html(report, record)}
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in views.items():
        _replace(directory / name, text)
    return directory / "report.html"


def _replace(path: Path, text: str) -> None:
    """Put `text` in place of the file at once, so that no reader ever sees half of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
