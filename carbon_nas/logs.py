"""Logging: structlog in front, the libraries' own records behind it, all on standard error.

Under systemd each line begins with its priority as `<N>` (sd-daemon(3)), which the journal takes off and keeps.
"""

import logging
import os
import sys
from typing import Any

import stamina.instrumentation
import structlog

PRIORITIES = {"CRITICAL": 2, "ERROR": 3, "WARNING": 4, "INFO": 6, "DEBUG": 7}
CHATTY = ("apscheduler", "httpx", "httpcore", "uvicorn", "alembic", "matplotlib")
"""Libraries whose INFO lines say nothing to an operator; httpx's would also show whole URLs."""


class JournalFormatter(structlog.stdlib.ProcessorFormatter):
    """Puts the priority before the line."""

    def format(self, record: logging.LogRecord) -> str:
        """Format as the parent, with `<N>` in front."""
        return f"<{PRIORITIES.get(record.levelname, 6)}>{super().format(record)}"


def configure(level: str = "info") -> None:
    """Set this process's logging up, for the journal or for a person."""
    shared: list[Any] = [structlog.stdlib.add_log_level, structlog.processors.format_exc_info]
    if "JOURNAL_STREAM" in os.environ:
        formatter: type[structlog.stdlib.ProcessorFormatter] = JournalFormatter
        renderer: Any = structlog.processors.LogfmtRenderer(key_order=["event"], bool_as_flag=False)
    else:
        formatter = structlog.stdlib.ProcessorFormatter
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        shared.append(structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=True))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    drop_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(formatter(foreign_pre_chain=shared, processors=[drop_meta, renderer]))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    stamina.instrumentation.set_on_retry_hooks([])  # who asked logs the outcome; its metrics would be global
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    # It warns of every run skipped while the last one is still under way, which is how jobs are meant to meet.
    logging.getLogger("apscheduler.scheduler").setLevel(logging.ERROR)
