"""What a build runs, what it reuses and why, and how long it will take: lines for a terminal."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ima.errors import ImaError
from ima.files import read_json, write_json
from ima.notebook.changes import list_changes, read_last_run
from ima.notebook.runner import describe_notebook_run

_WIDTH = 100
_SHOWN = 3
# What Snakemake says of a step, and the same in words of this workflow.
_REASONS = {
    "Missing output files": "it is not made yet",
    "Incomplete output files": "it was stopped",
    "Updated input files": "newer: {}",
    "Input files updated by another job": "made again: {}",
    "Set of input files has changed": "it reads other caches or pages than before",
    "Code has changed": "the workflow calls it in another way",
    "Params have changed": "weights, samples, tables, code or parameters changed, or a touch",
    "Forced execution": "you ask for it",
}


class Step(NamedTuple):
    """A step of the build: its name, and the notebook that it runs, if it runs one."""

    name: str
    source: Path | None = None
    page: Path | None = None
    parameters: Mapping[str, Any] = {}
    makes_cache: bool = False


class BuildReport:
    """Collect what a build does, and word it.

    Parameters
    ----------
    steps : mapping of str to Step
        By rule, in the order of the workflow.
    record : Path
        File of an edition's last run times and dependencies; it is read and kept up to date.
    cores : int
        Steps that run side by side.
    clock : callable
        Returns seconds.
    """

    def __init__(
        self,
        steps: Mapping[str, Step],
        *,
        record: Path,
        cores: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.steps, self.record, self.cores, self.clock = dict(steps), record, cores, clock
        self.last: dict[str, Any] = read_json(record) if record.is_file() else {}
        self.needed: list[str] = []
        self.begun: dict[str, float] = {}
        self.done: list[str] = []

    def plan(self, rules: Collection[str]) -> list[str]:
        """Say which steps run and which are reused.

        Parameters
        ----------
        rules : collection of str
            The rules that run.
        """
        self.needed = [rule for rule in self.steps if rule in rules]
        only_caches = "caches" in rules
        reused = [
            step.name
            for rule, step in self.steps.items()
            if rule not in rules and (step.makes_cache or not only_caches)
        ]
        total = len(self.needed) + len(reused)
        head = f"{len(self.needed)} of {total} steps run, {len(reused)} are reused"
        return [
            f"{head}; {self._format_left()}.",
            *self._list("Run", [self.steps[rule].name for rule in self.needed]),
            *self._list("Reused", reused),
        ]

    def explain(self, rule: str, *, reason: str) -> list[str]:
        """Say why a step runs.

        Parameters
        ----------
        rule : str
            Its rule.
        reason : str
            What Snakemake says.
        """
        step = self.steps.get(rule)
        if step is None:
            return []
        changes = self._list_changes(step)
        shown = changes[:_SHOWN]
        if len(changes) > _SHOWN:
            shown.append(f"{len(changes) - _SHOWN} more changes")
        return [f"{step.name} runs: {'; '.join(shown) or translate_reason(reason)}"]

    def start(self, rule: str) -> None:
        """Note that a step has begun."""
        self.begun[rule] = self.clock()

    def finish(self, rule: str) -> list[str]:
        """Say how long a step took and how long the others will take; keep both for next time."""
        step = self.steps.get(rule)
        if step is None:
            return []
        seconds = self.clock() - self.begun.pop(rule, self.clock())
        self.done.append(rule)
        made = (read_last_run(step.page) if step.page else None) or {}
        kept = {name: made[name] for name in ("parameters", "caches", "code") if name in made}
        self.last[step.name] = {"seconds": round(seconds, 1), **kept}
        write_json(self.record, self.last)
        left = f"; {self._format_left()}" if len(self.done) < len(self.needed) else ""
        counted = f"{len(self.done)} of {len(self.needed)} steps are done"
        return [f"{step.name} took {format_seconds(seconds)}; {counted}{left}."]

    def fail(self, rule: str) -> list[str]:
        """Say which step failed, where its log is, and how to go on."""
        step = self.steps.get(rule, Step(rule))
        self.begun.pop(rule, None)
        log = step.page.with_name(f"{step.page.stem}.failed.ipynb") if step.page else None
        where = f" Its log is {log}." if log is not None and log.is_file() else ""
        return [
            f"{step.name} failed; the error above says where.{where} "
            f"{len(self.done)} steps are done and stay: the same command goes on with the others."
        ]

    def _list_changes(self, step: Step) -> list[str]:
        last = self.last.get(step.name, {})
        if step.source is None or "parameters" not in last:
            return []
        try:
            now = describe_notebook_run(step.source, parameters=step.parameters)
        except ImaError:  # the run says it itself
            return []
        if step.makes_cache:
            now["caches"] = last["caches"]  # it is what the step makes
        return list_changes(now, last=last)

    def _format_left(self) -> str:
        now = self.clock()
        times, unknown = [], 0
        for rule in self.needed:
            if rule in self.done:
                continue
            seconds = self.last.get(self.steps[rule].name, {}).get("seconds")
            unknown += seconds is None
            if seconds is not None:
                times.append(max(0.0, seconds - (now - self.begun.get(rule, now))))
        if not times:
            return "no run time is recorded yet" if unknown else "nothing is left"
        least = max(sum(times) / self.cores, *times)
        about = f"{format_seconds(least)} left, by the times of the last build"
        if not unknown:
            return f"about {about}"
        return f"at least {about}, which lacks {unknown} of the steps"

    @staticmethod
    def _list(title: str, names: list[str]) -> list[str]:
        text = f"{title}: {', '.join(names)}"
        return (
            [textwrap.fill(text, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)]
            if names
            else []
        )


def format_seconds(seconds: float) -> str:
    """Return a time in words: seconds up to two minutes, then minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def translate_reason(reason: str) -> str:
    """Return why a step runs in words of this workflow, from what Snakemake says."""
    told = []
    for part in reason.split("; "):
        for words, meaning in _REASONS.items():
            if part.startswith(words):
                files = [Path(name).name for name in re.split(r",\s*", part.partition(": ")[2])]
                more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
                told.append(meaning.format(", ".join(files[:_SHOWN]) + more))
    return "; ".join(told) or reason
