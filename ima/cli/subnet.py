"""The command that writes a pruned language model as a sparse checkpoint (I4)."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ima.cli.console import print_table
from ima.errors import ModelError, ParameterError, UnknownNameError

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel
    from ima.pruning.masks import Masks

_SPARSEGPT, _NEURONS = "sparsegpt", "neurons"
#: Samples of each cache on which SparseGPT is calibrated.
_CALIBRATION_SAMPLES = 128
# Runs in a process of its own, so that what is loaded already adds neither time nor memory.
_LOAD_SCRIPT = """
import json, resource, sys, time
import ima.models, torch, transformers
from ima.models.loading import load_model
before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
ima.models.load_model(sys.argv[1])
seconds = time.perf_counter() - begun
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "megabytes": (peak - before) / 1024}))
"""


def subnet_command(
    model: Annotated[
        str, typer.Argument(help="A name from `ima models list`, a folder, or a Hugging Face id.")
    ],
    *,
    caches: Annotated[
        list[str],
        typer.Option(metavar="CACHE", help="A cache with /input_norms; repeat for each task."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the checkpoint.")],
    sparsity: Annotated[
        float | None,
        typer.Option(
            help="Fraction of the weights that each task's mask removes; default: 0.5. A pattern "
            "such as 2:4 sets its own."
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="alpha, wanda (on all caches), magnitude or sparsegpt; default: alpha. A pattern "
            "such as 2:4 is chosen by wanda (its default) or sparsegpt."
        ),
    ] = None,
    pattern: Annotated[
        str,
        typer.Option(
            help="2:4 keeps two of four; neurons removes whole neurons and heads, by no --method."
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Write a model without the weights that its tasks do not need, and report what that saves."""
    from ima.models import load_model, sparse_checkpoint
    from ima.pruning import alpha_subnet, structured
    from ima.pruning.masks import check_sparsity, require_input_norms, sum_input_norms

    methods = (*alpha_subnet.MASK_METHODS, _SPARSEGPT)
    if method not in {None, *methods}:
        raise UnknownNameError.among("method", method, methods)
    if pattern == _NEURONS and method is not None:
        raise ParameterError(f"--pattern {_NEURONS} has no method; leave out --method {method}.")
    if pattern not in {"", _NEURONS} and sparsity is not None:
        raise ParameterError(
            f"--pattern {pattern} sets the sparsity; leave out --sparsity {sparsity}."
        )
    fraction = alpha_subnet.DEFAULT_SPARSITY if sparsity is None else sparsity
    check_sparsity(fraction)
    # What is wrong with the paths is said before a model is read.
    sparse_checkpoint.require_target(out)
    for path in caches:
        require_input_norms(path)
    if method in {None, "alpha"} and not pattern and len(caches) < 2:
        raise ParameterError(
            f"An α-SubNet needs the masks of two tasks or more; got {len(caches)} cache. Repeat "
            "--caches, or give --method wanda."
        )
    loaded, about = load_model(model), {"caches": caches}
    if pattern == _NEURONS:
        norms = sum_input_norms(loaded, caches)
        structure = structured.select_kept_structure(loaded, norms, sparsity=fraction)
        size = sparse_checkpoint.write_structured_checkpoint(loaded, structure, out, about=about)
    elif method == _SPARSEGPT:
        masks = _run_sparsegpt(loaded, caches, sparsity=fraction, pattern=pattern)
        size = sparse_checkpoint.write_sparse_checkpoint(loaded, masks, out, about=about)
    else:
        lazy_masks = alpha_subnet.build_lazy_masks(
            loaded, caches, method=method, sparsity=sparsity, pattern=pattern
        )
        size = sparse_checkpoint.write_sparse_checkpoint(loaded, lazy_masks, out)
    loads = {label: _measure_load(spec) for label, spec in (("pruned", str(out)), ("whole", model))}
    if as_json:
        record: dict[str, Any] = {"sparsity": size.sparsity, **asdict(size), "loads": loads}
        record |= {"bits per weight": size.bits_per_weight, "bound": size.bits_per_weight_bound}
        typer.echo(json.dumps(record, indent=1))
        return
    rows = [
        [
            label,
            f"{n_bytes / 2**20:.2f} MiB",
            f"{loads[label]['seconds']:.2f} s",
            f"{loads[label]['megabytes']:.0f} MiB",
        ]
        for label, n_bytes in (("pruned", size.file_bytes), ("whole", size.dense_bytes))
    ]
    print_table(["language model", "weights", "load time", "peak memory"], rows=rows)
    typer.echo(
        f"{size.sparsity:.1%} of {size.weights:,} weights of the blocks are removed; masks and "
        f"values take {size.bits_per_weight:.2f} bits a weight "
        f"(bound: {size.bits_per_weight_bound:.2f}).\n"
        f"Use the folder like any model: ima cache create --model {out} …"
    )


def _run_sparsegpt(
    model: FrozenModel, caches: list[str], *, sparsity: float, pattern: str
) -> Masks:
    """Prune with SparseGPT on the samples from which the caches were made."""
    from ima.pruning.alpha_subnet import parse_pattern
    from ima.pruning.sparsegpt import compute_sparsegpt_masks
    from ima.pruning.wanda import open_calibration_samples

    samples = [
        sample
        for path in caches
        for sample in open_calibration_samples(path, n=_CALIBRATION_SAMPLES)
    ]
    removed = None
    if pattern:
        kept, group = parse_pattern(pattern)
        removed = (group - kept, group)
    return compute_sparsegpt_masks(
        model, model.encode_batches(samples), sparsity=sparsity, pattern=removed
    )


def _measure_load(spec: str) -> dict[str, float]:
    """Load a model in a new process; return the seconds and the megabytes that it took."""
    process = subprocess.run(
        [sys.executable, "-c", _LOAD_SCRIPT, spec], check=False, capture_output=True, text=True
    )
    if process.returncode:
        (*_, said) = process.stderr.strip().splitlines() or ["it said nothing."]
        raise ModelError(
            f"A new process could not load {spec!r}; it ended with {process.returncode}: {said}"
        )
    measured: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return measured
