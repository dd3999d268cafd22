"""The logger of `make book`: hands what Snakemake does to the report that the Snakefile announces.

Snakemake finds loggers by the beginning of their package's name.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

if TYPE_CHECKING:
    from build_report import BuildReport

_REPORTS: list[BuildReport] = []


def announce(report: BuildReport) -> None:
    """Take the report of the workflow that is about to run."""
    _REPORTS[:] = [report]


class LogHandler(LogHandlerBase):
    """Print what the report says of each event, and errors."""

    def __post_init__(self) -> None:
        """Remember which job is of which rule."""
        self.rules: dict[int, str] = {}
        self.planned = False

    def emit(self, record: logging.LogRecord) -> None:
        """Print the lines of one event to standard error."""
        for line in self.word(record):
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def word(self, record: logging.LogRecord) -> list[str]:
        """Return the lines of one event."""
        event = getattr(record, "event", None)
        lines: list[str] = []
        if _REPORTS and event is not None:
            lines = self._report(_REPORTS[0], event, record.__dict__)
        elif str(record.msg).startswith("Nothing to be done"):
            lines = ["Everything is there, and nothing has changed since: all steps are reused."]
        elif record.levelno >= logging.WARNING:
            lines = [record.getMessage()]
        return lines

    def _report(self, report: BuildReport, event: LogEvent, fields: dict[str, Any]) -> list[str]:
        lines: list[str] = []
        if event == LogEvent.RUN_INFO and not self.planned:
            self.planned = True  # a dry run says it twice
            lines = report.plan(fields["stats"])
        elif event == LogEvent.JOB_INFO:
            rule = self.rules[fields["jobid"]] = fields["rule_name"]
            lines = report.explain(rule, reason=fields["reason"])
            report.start(rule)
        elif event == LogEvent.JOB_FINISHED:
            lines = report.finish(self.rules[fields["job_id"]])
        elif event == LogEvent.JOB_ERROR:
            lines = report.fail(fields["rule_name"])
        elif event == LogEvent.ERROR:
            lines = [str(fields["msg"])]
        return lines

    @property
    def writes_to_stream(self) -> bool:
        """Snakemake's own lines are not printed beside these."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """Nothing is kept here."""
        return False

    @property
    def has_filter(self) -> bool:
        """Every event arrives here, also when Snakemake is to be quiet."""
        return True

    @property
    def has_formatter(self) -> bool:
        """The report words the events."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """The order of rules does not matter here."""
        return False
