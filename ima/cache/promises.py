"""Promises: what a cache keeps when something breaks, and which tests hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

_DISK, _PROCESS = "tests/faults/test_disk_faults.py", "tests/faults/test_process_faults.py"
_WORKERS = "tests/capture/test_workers.py"
_COMMAND = "tests/faults/test_command_faults.py"
_REMOTE = "tests/cache/test_remote.py"
_MODEL, _FILES = "tests/faults/test_model_faults.py", "tests/test_files.py"
_VERIFICATION, _REPAIR = "tests/cache/test_verification.py", "tests/capture/test_repair.py"


@dataclass(frozen=True)
class Promise:
    """One thing that breaks, what holds all the same, and the tests that break it.

    Parameters
    ----------
    fault : str
        What breaks.
    promise : str
        What holds; in each row, finished units keep every byte unless the fault is in them.
    tests : tuple of str
        ``file::function``.
    """

    fault: str
    promise: str
    tests: tuple[str, ...]


#: In the order of the page: processes, disks, bytes, models and data, other files.
PROMISES = (
    Promise(
        "The writer is killed at any moment",
        "At most the unit in flight is lost. The same command continues, and the store ends with "
        "the bytes of an undisturbed run.",
        (
            f"{_PROCESS}::test_a_hundred_kills_end_with_the_bytes_of_an_undisturbed_run",
            f"{_PROCESS}::test_an_unfinished_cache_names_the_command_that_finishes_it",
        ),
    ),
    Promise(
        "A second writer starts",
        "It is refused and changes nothing. The lock of a killed writer ends with it.",
        (
            f"{_PROCESS}::test_a_second_writer_is_refused_while_the_first_one_runs",
            f"{_PROCESS}::test_of_many_writers_one_writes_at_a_time",
            f"{_WORKERS}::test_a_second_client_is_refused",
            f"{_WORKERS}::test_two_clients_at_once_leave_one_cache",
        ),
    ),
    Promise(
        "A worker is killed, the scheduler dies, or whoever handed out the units is stopped",
        "A killed worker costs the unit that it was computing; another worker computes it again. "
        "After the others, the same command continues. No file is ever written by two workers.",
        (
            f"{_WORKERS}::test_a_killed_worker_costs_one_unit_and_a_dead_scheduler_none_that_is_done",
            f"{_WORKERS}::test_computed_units_of_a_stopped_run_are_not_computed_again",
            f"{_WORKERS}::test_the_command_starts_workers_of_its_own_and_ends_them_when_it_is_stopped",
            "tests/capture/test_shared_shards.py::test_no_file_is_written_by_two_units",
        ),
    ),
    Promise(
        "Workers differ from each other, or do not see the store",
        "Nothing is written. The message names the worker, and what differs or what it lacks.",
        (
            f"{_WORKERS}::test_workers_that_would_write_other_bytes_are_refused",
            f"{_WORKERS}::test_workers_of_other_versions_are_refused",
            f"{_WORKERS}::test_machines_that_compute_differently_are_refused",
            f"{_WORKERS}::test_some_workers_without_the_model_are_named",
            f"{_WORKERS}::test_a_path_that_workers_do_not_see_is_named",
            f"{_WORKERS}::test_a_store_that_was_replaced_is_not_written",
        ),
    ),
    Promise(
        "A reader opens a cache that is being written",
        "It sees finished units only, each one whole.",
        (f"{_PROCESS}::test_a_reader_beside_a_writer_sees_whole_units_only",),
    ),
    Promise(
        "A cache is replaced or repaired while a reader has it open",
        "The reader gets an error that says so, never NaN or a mixture; behind a URL, where the "
        "root is another.",
        (
            f"{_PROCESS}::test_a_reader_of_a_cache_that_is_replaced_gets_an_error_and_no_mixture",
            f"{_PROCESS}::test_a_reader_of_a_cache_under_repair_gets_an_error_and_no_nan",
            f"{_REMOTE}::test_a_reader_of_a_bucket_notices_that_its_cache_is_replaced",
        ),
    ),
    Promise(
        "The clock goes backwards",
        "Nothing changes: no decision depends on the time.",
        (f"{_PROCESS}::test_a_clock_that_goes_backwards_changes_nothing",),
    ),
    Promise(
        "The disk or the quota is full",
        "The message says how much the cache takes and how much is free. With more space, the same "
        "command continues.",
        (
            f"{_DISK}::test_a_full_disk_keeps_finished_units_and_the_same_command_continues",
            f"{_DISK}::test_a_disk_that_is_full_at_once_is_left_as_it_was",
            f"{_DISK}::test_a_store_that_fails_after_any_number_of_bytes_continues",
        ),
    ),
    Promise(
        "The system limits the size of files",
        "Nothing half-written stays, and the message names the limit.",
        (f"{_DISK}::test_a_limit_on_the_size_of_files_is_named",),
    ),
    Promise(
        "The folder is read-only",
        "Writing is refused. Finished units can still be read and verified, and to make a finished "
        "cache again does nothing.",
        (
            f"{_DISK}::test_a_read_only_folder_is_refused_and_can_still_be_read",
            f"{_DISK}::test_a_finished_cache_in_a_read_only_folder_needs_nothing",
            f"{_DISK}::test_a_cache_that_may_not_be_read_is_named",
        ),
    ),
    Promise(
        "A byte flips, in a chunk, a shard, its index, a coord or metadata",
        "It is never read as a number. `ima cache verify` names group, chunk and samples, and the "
        "command that it prints gives back every byte.",
        (
            f"{_DISK}::test_a_flipped_byte_in_any_file_is_never_read_as_a_number",
            f"{_DISK}::test_the_index_of_a_shard_is_checked_too",
            f"{_DISK}::test_damage_is_found_named_and_repaired_by_the_command_that_is_named",
            f"{_REMOTE}::test_a_damaged_shard_in_a_bucket_is_never_read_as_numbers",
            f"{_VERIFICATION}::test_damage_is_named_by_group_array_chunk_and_samples",
            f"{_REPAIR}::test_repair_computes_the_damaged_unit_only",
        ),
    ),
    Promise(
        "A shard is cut short, or a file is lost",
        "Reading it is an error, and verifying names it. The repair gives back every byte.",
        (
            f"{_VERIFICATION}::test_a_shard_cut_at_any_length_is_found",
            f"{_VERIFICATION}::test_a_lost_file_is_an_error_when_it_is_read",
            f"{_VERIFICATION}::test_damage_to_any_file_is_found",
        ),
    ),
    Promise(
        "A repair is stopped, or would give other bytes",
        "A stopped repair leaves an unfinished cache, which continues. A repair with other "
        "weights, data or versions is refused.",
        (
            f"{_DISK}::test_a_repair_that_stops_is_continued",
            f"{_REPAIR}::test_a_killed_repair_leaves_an_unfinished_cache",
            f"{_REPAIR}::test_repair_refuses_what_would_give_other_bytes",
        ),
    ),
    Promise(
        "The root and its copy are both damaged",
        "Opening and verifying say that the cache must be made again.",
        (f"{_VERIFICATION}::test_a_lost_root_and_its_copy_are_an_error",),
    ),
    Promise(
        "Activations are NaN or infinite, or beyond float16",
        "The unit is not stored. The message names hook point, layer and samples.",
        (
            f"{_MODEL}::test_activations_that_are_not_finite_stop_the_unit_and_keep_the_others",
            "tests/capture/test_statistics.py::test_states_beyond_float16_are_refused_with_a_way_out",
        ),
    ),
    Promise(
        "Memory runs out",
        "A batch that does not fit is computed in halves, with equal numbers up to rounding. Where "
        "one sample does not fit, the message names the settings to lower.",
        (
            f"{_MODEL}::test_a_batch_that_does_not_fit_is_halved_and_the_setting_is_named",
            f"{_MODEL}::test_a_sample_that_does_not_fit_stops_its_unit_and_names_the_settings",
            f"{_MODEL}::test_memory_that_runs_out_between_batches_names_the_settings",
        ),
    ),
    Promise(
        "A sample cannot be read",
        "The message names the sample and the command that checks its folder. Finished units stay; "
        "it says that they are of no use once the data change.",
        (f"{_MODEL}::test_a_sample_that_cannot_be_read_says_what_the_kept_ones_are_worth",),
    ),
    Promise(
        "Data or weights changed between two runs",
        "The second run is refused, with both fingerprints.",
        (
            f"{_MODEL}::test_data_that_changed_are_refused_with_both_fingerprints",
            f"{_MODEL}::test_weights_that_changed_are_refused_with_both_hashes",
        ),
    ),
    Promise(
        "The path holds something else",
        "Nothing is deleted, even with `--overwrite`.",
        ("tests/capture/test_writer.py::test_overwrite_replaces_a_cache_and_nothing_else",),
    ),
    Promise(
        "A kill, an error or a second writer strikes while claims, masks, summaries or weights are "
        "written",
        "The old file or folder stays until the new one is whole.",
        (
            f"{_FILES}::test_everything_is_written_by_a_replacement",
            f"{_FILES}::test_a_failed_write_leaves_the_old_file",
            f"{_FILES}::test_two_writers_of_one_file_do_not_mix",
            f"{_FILES}::test_a_kill_while_a_folder_is_replaced_never_leaves_half_of_it",
        ),
    ),
    Promise(
        "A byte of stored masks flips",
        "It is never read as a mask; the message says how to make them again.",
        ("tests/pruning/test_masks.py::test_a_flipped_byte_in_masks_is_never_read_as_a_mask",),
    ),
    Promise(
        "Space, rights or memory are refused to any other command",
        "The message says which and what to do. Files that were there stay.",
        (
            f"{_COMMAND}::test_a_command_on_a_full_disk_says_so_and_keeps_the_old_files",
            f"{_COMMAND}::test_a_command_without_memory_names_what_to_lower",
            f"{_COMMAND}::test_other_errors_are_faults_of_ours",
        ),
    ),
    Promise(
        "A training is killed",
        "It continues at its last saved step, and ends with the same bytes.",
        (
            "tests/training/test_loop.py::test_a_killed_training_ends_with_the_same_bytes",
            "tests/training/test_train_connector.py::"
            "test_a_stopped_training_ends_as_an_uninterrupted_one",
        ),
    ),
)


def tabulate_promises() -> pd.DataFrame:
    """Return the table of faults: a row per fault, with its promise and its tests.

    Returns
    -------
    pandas.DataFrame
        Columns ``fault``, ``promise`` and ``tests``, a text with a line per test: the name of the
        test as a sentence, and its file.

    Examples
    --------
    >>> table = tabulate_promises()
    >>> table["fault"][0]
    'The writer is killed at any moment'
    >>> table["tests"][6]
    'a clock that goes backwards changes nothing (tests/faults/test_process_faults.py)'
    """
    rows = [
        {
            "fault": promise.fault,
            "promise": promise.promise,
            "tests": "\n".join(_read_aloud(test) for test in promise.tests),
        }
        for promise in PROMISES
    ]
    return pd.DataFrame(rows)


def show_promises() -> Styler:
    """Show the table of faults.

    Examples
    --------
    >>> show_promises()  # doctest: +SKIP
    """
    style = tabulate_promises().style.hide(axis="index").format(escape="html")
    return style.set_table_styles(
        [
            {"selector": "th", "props": [("text-align", "left")]},
            {
                "selector": "td",
                "props": [
                    ("text-align", "left"),
                    ("vertical-align", "top"),
                    ("white-space", "pre-line"),
                ],
            },
        ]
    )


def _read_aloud(test: str) -> str:
    file, _, name = test.partition("::")
    return f"{name.removeprefix('test_').replace('_', ' ')} ({file})"
