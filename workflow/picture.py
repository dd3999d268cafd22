"""Draw the picture of the README: what a model sees and says, and what its activations show."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import xarray as xr

from ima import figures
from ima.cache.cache_set import open_cache_sets
from ima.data.samples import Sample, open_samples
from ima.errors import ImaError
from ima.figures.style import plot_named_curves
from ima.measures import cones
from ima.models import load_model

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "book" / "_static" / "picture.png"
_PIXELS_PER_INCH = 160


def draw_picture(sample: Sample, *, said: str, curves: xr.Dataset, path: Path) -> None:
    """Write a picture with two panels: a sample with the model's words, and similarities by layer.

    Parameters
    ----------
    sample : Sample
        A sample with a picture.
    said : str
        What the model generates after the sample's prompt.
    curves : xarray.Dataset
        ``estimate`` and ``draws`` by ``curve`` and ``layer``.
    path : Path
        The file.
    """
    figures.set_theme()
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9.6, 4.2), width_ratios=(1, 1.45), layout="constrained"
    )
    left.imshow(sample.load())
    left.set_axis_off()
    left.set_title(textwrap.fill(f"{sample.prompt} {said}", 34), loc="left")
    plot_named_curves(right, curves, dim="curve")
    right.set_xlabel("layer of the frozen language model (0: its input)")
    right.set_ylabel("mean cosine similarity")
    right.set_title("Perceptual (P) and textual (T) tokens", loc="left")
    right.legend(loc="best")
    figure.savefig(path, dpi=_PIXELS_PER_INCH, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    """Draw the picture of the caches that are given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("caches", nargs="+", help="caches of one model that reads pictures")
    parser.add_argument("--sample", type=int, default=0, help="number of the sample that is shown")
    parser.add_argument("--out", type=Path, default=PICTURE, help="the file")
    given = parser.parse_args()
    (cache_set,) = open_cache_sets(given.caches, hook_point="resid_post").values()
    record = next(iter(cache_set.trees.values())).attrs
    terms = cones.compute_similarity_terms(cache_set.means, resamples=500, seed=0)
    sample = open_samples(record["dataset"]["name"], n=given.sample + 1)[given.sample]
    draw_picture(
        sample,
        said=load_model(record["model"]["name"]).generate([sample], max_new_tokens=32)[0],
        curves=cones.average_terms_by_curve(terms).sel(curve=["PvsT", "PvsP", "TvsT"]),
        path=given.out,
    )


if __name__ == "__main__":
    try:
        main()
    except ImaError as error:
        message = f"{error} The picture needs the caches of a book: make book"
        raise SystemExit(message) from None
