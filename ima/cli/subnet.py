"""The command that writes a pruned language model as a compressed checkpoint (I4)."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ima.cli.console import show_table
from ima.errors import ParameterError

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel
    from ima.pruning.masks import Masks

SPARSEGPT, NEURONS = "sparsegpt", "neurons"
#: Samples of each cache that SparseGPT reads again.
CALIBRATION = 128
# Run apart, so that what was loaded before counts in neither time nor memory.
_LOADS = """
import json, resource, sys, time
import ima.models, torch, transformers
from ima.models.loading import load_model
before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
ima.models.load_model(sys.argv[1])
seconds = time.perf_counter() - begun
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "megabytes": (peak - before) / 1024}))
"""


def subnet(
    model: Annotated[str, typer.Argument(help="A name of `ima models list`, a folder, an id.")],
    *,
    caches: Annotated[
        list[str],
        typer.Option(metavar="CACHE", help="A cache with /inputs; once for each task."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the checkpoint.")],
    sparsity: Annotated[float, typer.Option(help="Share that each task's mask removes.")] = 0.5,
    method: Annotated[
        str, typer.Option(help="alpha, wanda (on all caches), magnitude or sparsegpt.")
    ] = "alpha",
    pattern: Annotated[
        str, typer.Option(help="2:4 keeps two of four; neurons removes whole neurons and heads.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Write a model without the weights that its tasks do not need, and say what that saves."""
    from ima.models import load_model, sparse_checkpoint
    from ima.pruning import alpha_subnet, structured
    from ima.pruning.masks import check_sparsity

    if method not in {*alpha_subnet.MASK_METHODS, SPARSEGPT}:
        known = ", ".join([*alpha_subnet.MASK_METHODS, SPARSEGPT])
        message = f"method must be one of {known}; got {method!r}."
        raise ParameterError(message)
    loaded = load_model(model)
    if pattern == NEURONS:
        check_sparsity(sparsity)
        squares = alpha_subnet.sum_input_norms(loaded, caches)
        structure = structured.select_kept_structure(loaded, squares, sparsity=sparsity)
        size = sparse_checkpoint.write_structured_checkpoint(
            loaded, structure, out, about={"caches": caches}
        )
    elif method == SPARSEGPT:
        masks = _updated(loaded, caches, sparsity=sparsity, pattern=pattern)
        size = sparse_checkpoint.write_sparse_checkpoint(
            loaded, masks, out, about={"caches": caches}
        )
    else:
        streamed = alpha_subnet.build_lazy_masks(
            loaded, caches, method=method, sparsity=sparsity, pattern=pattern
        )
        size = sparse_checkpoint.write_sparse_checkpoint(loaded, streamed, out)
    loads = {what: _load(spec) for what, spec in (("pruned", str(out)), ("whole", model))}
    removed = 1 - size.kept / size.weights
    record: dict[str, Any] = {"sparsity": removed, **asdict(size), "loads": loads}
    record |= {"bits per weight": size.spent, "bound": size.bound}
    if as_json:
        typer.echo(json.dumps(record, indent=1))
        return
    rows = [
        [
            what,
            f"{count / 2**20:.2f} MiB",
            f"{loads[what]['seconds']:.2f} s",
            f"{loads[what]['megabytes']:.0f} MiB",
        ]
        for what, count in (("pruned", size.whole), ("whole", size.dense))
    ]
    show_table(["language model", "weights", "loads in", "takes at most"], rows=rows)
    typer.echo(
        f"{removed:.1%} of {size.weights:,} weights of the blocks are removed; masks and "
        f"values take {size.spent:.2f} bits a weight (bound: {size.bound:.2f}).\n"
        f"It is a model like any other: ima cache create --model {out} …"
    )


def _updated(model: FrozenModel, caches: list[str], *, sparsity: float, pattern: str) -> Masks:
    """Prune by SparseGPT on the samples that the caches were made from, by this model."""
    from ima.pruning import alpha_subnet, sparsegpt
    from ima.pruning.masks import check_sparsity
    from ima.pruning.wanda import open_calibration_samples

    check_sparsity(sparsity)
    samples = [
        sample for path in caches for sample in open_calibration_samples(path, n=CALIBRATION)
    ]
    removed = None
    if pattern:
        kept, group = alpha_subnet.parse_pattern(pattern)
        removed = (group - kept, group)
    return sparsegpt.compute_sparsegpt_masks(
        model, model.batches(samples), sparsity=sparsity, pattern=removed
    )


def _load(spec: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", _LOADS, spec], check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
