"""Speed of other libraries that capture activations, beside ours, on one model in one run.

``make bench-peers`` installs them beside the environment. Each runs in a process of its own:
torchlens wraps the functions of torch for good, and TransformerLens changes the model that it
wraps.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ima.bench.capture_speed import (
    STATISTICS_STEP,
    STORED_HOOK_POINTS,
    TOKEN_STATES_STEP,
    return_hidden_states,
    stream_token_states,
)
from ima.bench.model_shapes import make_random_model
from ima.bench.records import BenchRecord, TimedStep, time_against
from ima.errors import ModelError, PartAbsentError, UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel

#: Records of libraries have this before their name.
PEER_PREFIX = "library: "
_BATCH_SIZE, _BATCHES = 4, 3
_States = dict[tuple[str, int], "Tensor"]


@dataclass(frozen=True)
class PeerRun:
    """A library that is ready to capture.

    Parameters
    ----------
    capture : callable
        Captures the states of one batch, or of several if it writes them to disk.
    read : callable
        Maps what `capture` returned to states of the first batch by hook point and layer,
        ``(sample, position, hidden)``.
    """

    capture: Callable[[], Any]
    read: Callable[[Any], _States]


@dataclass(frozen=True)
class Peer:
    """A library and how its users capture states with it.

    Parameters
    ----------
    package : str
        The package that is imported and whose version is shown.
    call : str
        The function that captures.
    make : callable
        Prepares a run from a model, a batch and an empty folder.
    to_disk : bool
        Whether it writes the states to disk.
    """

    package: str
    call: str
    make: Callable[[FrozenModel, Batch, Path], PeerRun]
    to_disk: bool = False

    @property
    def label(self) -> str:
        """Name and version, as records show them."""
        return f"{self.package} {version(self.package)}, {self.call}"


def find_peers_folder() -> Path:
    """Return the folder of the other libraries: beside the environment, or ``IMA_BENCH_PEERS``.

    Examples
    --------
    >>> find_peers_folder().name  # doctest: +SKIP
    'peers'
    """
    return Path(os.environ.get("IMA_BENCH_PEERS", Path(sys.prefix) / "peers"))


def benchmark_peer(
    name: str, *, shape: str = "llama-768", threads: int = 1, repeats: int = 7
) -> list[BenchRecord]:
    """Time a library and ours in a process of its own.

    Parameters
    ----------
    name : str
        A key of :data:`PEERS`.
    shape : str
        Random weights of one of :data:`ima.bench.model_shapes.MODEL_SHAPES`.
    threads : int
        Threads of torch.
    repeats : int
        Number of rounds.

    Returns
    -------
    list of BenchRecord
        The library relative to the forward pass, and ours relative to the library.

    Raises
    ------
    UnknownNameError
        If no library has this name.
    PartAbsentError
        If the other libraries are not installed.
    ModelError
        If the library fails, or its states are not those of the model.

    Examples
    --------
    >>> benchmark_peer("transformers", shape="tiny", repeats=1)[0].limit is None  # doctest: +SKIP
    True
    """
    if name not in PEERS:
        raise UnknownNameError.among(kind="library", asked=name, available=PEERS)
    folder = find_peers_folder()
    if not folder.is_dir():
        raise PartAbsentError(
            f"Libraries to compare with are not installed in {folder}. Install them: make "
            "bench-peers"
        )
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "ima.bench.peers", name, shape, str(threads), str(repeats)]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelError(
            f"Library {name!r} failed: {last:.300}. Install the versions of ima/bench/peers.txt "
            "again: make bench-peers"
        )
    # Libraries may print, too.
    return [BenchRecord(**each) for each in json.loads(done.stdout.splitlines()[-1])]


def time_peer(name: str, *, shape: str, threads: int, repeats: int) -> list[BenchRecord]:
    """Time a library and ours in this process; see :func:`benchmark_peer`.

    Examples
    --------
    >>> records = time_peer("transformers", shape="tiny", threads=1, repeats=1)
    >>> [record.limit for record in records]
    [None, 1.05]
    """
    from ima.capture import capture_activations, compute_batch_statistics
    from ima.capture.jobs import use_threads

    peer = PEERS[name]
    with use_threads(threads), tempfile.TemporaryDirectory(prefix="ima-bench-") as folder:
        model, batch = make_random_model(shape, batch_size=_BATCH_SIZE)
        expected = capture_activations(model, batch, hook_points=STORED_HOOK_POINTS)
        run = peer.make(model, batch, Path(folder))
        _require_same(peer, run.read(run.capture()), expected=expected)
        forward = partial(model.forward, batch, logits=False)
        own: Callable[[], object]
        if peer.to_disk:
            batches = [batch] * _BATCHES
            base = TimedStep(
                f"{_BATCHES} forward passes", lambda: [forward() for _ in range(_BATCHES)]
            )
            path = Path(folder) / "ours.zarr"
            own, limit = partial(stream_token_states, model, batches, path=path), 1.0
            step = TOKEN_STATES_STEP
        else:
            base = TimedStep("forward pass of the decoder", forward)
            own, limit = partial(compute_batch_statistics, model, batch), 1.05
            step = STATISTICS_STEP
        theirs = TimedStep(PEER_PREFIX + peer.label, run.capture)
        return time_against(
            base,
            [theirs, TimedStep(step, own, limit=limit, against=theirs.name)],
            subject=f"{shape}, random weights, {threads} thread{'s' * (threads > 1)}",
            repeats=repeats,
            prepare=partial(_empty, folder),
        )


def _empty(folder: str) -> None:
    """Remove what the last run wrote; its time does not count."""
    for path in Path(folder).iterdir():
        shutil.rmtree(path)


def _require_same(
    peer: Peer, found: _States, *, expected: Mapping[str, Mapping[int, Tensor]]
) -> None:
    import torch

    for (hook_point, layer), states in found.items():
        own = expected[hook_point][layer]
        # What is stored in float16 has three digits.
        if not torch.allclose(states.float(), own, rtol=2e-3, atol=2e-3):
            raise ModelError(
                f"{peer.label} returns other states than the model has at hook point "
                f"{hook_point!r}, layer {layer}."
            )


def _list_modules(model: FrozenModel) -> dict[tuple[str, int], tuple[str, str]]:
    """Return path in the trunk and side of each hook point and layer."""
    points = model.hook_points
    paths = {module: path for path, module in points.trunk.named_modules()}
    places: dict[tuple[str, int], tuple[str, str]] = {}
    for name in STORED_HOOK_POINTS:
        for layer in points.layers_of(name):
            point = points.get_hook_point(name, layer=layer)
            places[name, layer] = paths[point.module], point.side
    return places


def _make_transformers(model: FrozenModel, batch: Batch, _: Path) -> PeerRun:
    def read(states: tuple[Tensor, ...]) -> _States:
        # The last one is normalised.
        return {("resid_post", layer): state for layer, state in enumerate(states[:-1])}

    return PeerRun(partial(return_hidden_states, model, batch), read)


def _make_nnsight(model: FrozenModel, batch: Batch, _: Path) -> PeerRun:
    import torch
    from nnsight import NNsight

    places = {key: (f"model.{path}", side) for key, (path, side) in _list_modules(model).items()}
    modules = sorted({path for path, _ in places.values()})
    wrapped, inputs = NNsight(model.hook_points.trunk), batch.inputs

    def capture() -> Any:
        with torch.no_grad(), wrapped.trace(**inputs, use_cache=False) as tracer:
            cache = tracer.cache(modules=modules, include_inputs=True)
        return cache  # noqa: RET504 - nnsight rewrites what stands in the block

    def read(cache: Any) -> _States:
        found = {key: getattr(cache[path], side) for key, (path, side) in places.items()}
        return {
            key: value[0] if isinstance(value, tuple) else value for key, value in found.items()
        }

    return PeerRun(capture, read)


def _make_transformer_lens(model: FrozenModel, batch: Batch, _: Path) -> PeerRun:
    import torch
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    # It changes the modules of the model that it wraps.
    language = copy.deepcopy(model.language)
    bridge = build_bridge_from_module(
        language, architecture=type(language).__name__, hf_config=language.config
    )
    named = {
        "ln1": "ln1.hook_out",
        "attn_out": "hook_attn_out",
        "resid_mid": "hook_resid_mid",
        "mlp_out": "hook_mlp_out",
        "resid_post": "hook_resid_post",
    }
    places = {
        (name, layer): f"blocks.{layer - 1}.{named[name]}" if layer else "blocks.0.hook_resid_pre"
        for name, layer in _list_modules(model)
    }
    wanted = list(places.values())

    def capture() -> Any:
        with torch.no_grad():
            _, cache = bridge.run_with_cache(
                batch.embeds,
                return_type=None,
                names_filter=wanted,
                attention_mask=batch.attention_mask,
            )
        return cache

    return PeerRun(capture, lambda cache: {key: cache[name] for key, name in places.items()})


def _make_torchlens(model: FrozenModel, batch: Batch, folder: Path) -> PeerRun:
    import torch
    import torchlens

    class Decoder(torch.nn.Module):
        """The trunk as a module of one argument."""

        def __init__(self, trunk: torch.nn.Module) -> None:
            super().__init__()
            self.trunk = trunk

        def forward(self, embeds: Tensor) -> Any:
            return self.trunk(inputs_embeds=embeds, use_cache=False).last_hidden_state

    decoder = Decoder(model.hook_points.trunk).eval()
    # No module returns the stream between attention and network, nor the first block's input.
    layers = {
        f"{name}-{layer}": f"trunk.{path}"
        for (name, layer), (path, side) in _list_modules(model).items()
        if side == "output"
    }
    output = folder / "torchlens"

    def capture() -> Path:
        # Its digest of the weights takes as long for one batch as for many: it is left out.
        torchlens.extract_dataset(
            decoder,
            torch.cat([batch.embeds] * _BATCHES),
            layers,
            batch_size=len(batch.embeds),
            output_dir=output,
            progress=False,
            dtype=torch.float16,
            model_identity="none",
        )
        return output

    def read(path: Path) -> _States:
        stored = torchlens.load_extraction(path).activations
        found: _States = {}
        for key, states in stored.items():
            name, _, layer = key.rpartition("-")
            found[name, int(layer)] = states[: len(batch.embeds)]
        return found

    return PeerRun(capture, read)


#: Libraries that capture activations, by the name of their package.
PEERS: Mapping[str, Peer] = {
    "transformers": Peer("transformers", "output_hidden_states", _make_transformers),
    "nnsight": Peer("nnsight", "tracer.cache", _make_nnsight),
    "transformer-lens": Peer("transformer-lens", "run_with_cache", _make_transformer_lens),
    "torchlens": Peer("torchlens", "extract_dataset", _make_torchlens, to_disk=True),
}

if __name__ == "__main__":
    _, asked, size, count, rounds = sys.argv
    timed = time_peer(asked, shape=size, threads=int(count), repeats=int(rounds))
    sys.stdout.write("\n" + json.dumps([asdict(record) for record in timed]) + "\n")
