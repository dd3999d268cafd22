"""Where a zoo is made: which parts are done, which are kept, and when they replace the old ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ima.files import read_json, write_json
from ima.miniature.pools import CONNECTOR_POOL_SIZES, ENCODER_POOL_SIZES
from ima.models.zoo import CARD_FILE, WEIGHTS_FILE, hash_file
from ima.training.loop import TrainingRecipe

_WORKSHOP_FOLDER = ".training"
_CHECKPOINT_FOLDER = "checkpoints"


@dataclass(frozen=True)
class ZooPlan:
    """How much work goes into a zoo.

    Parameters
    ----------
    ratio : float
        Share of every recipe's steps and of every pool; 1 makes the published zoo.
    n_test_samples : int
        Test samples per score.
    device : str
        Where to train: ``"cpu"`` or ``"cuda"``.
    """

    ratio: float = 1.0
    n_test_samples: int = 300
    device: str = "cpu"

    def scale_recipe(self, recipe: TrainingRecipe) -> TrainingRecipe:
        """Return a recipe cut to the plan's share."""
        steps = max(4, round(recipe.steps * self.ratio))
        restart = recipe.restart and max(1, round(recipe.restart * self.ratio))
        every = min(recipe.probe_every, steps)
        return replace(recipe, steps=steps, probe_every=every, restart=restart)

    def get_pool_size(self, modality: str) -> int:
        """Return how many samples a connector is trained on."""
        return max(64, round(CONNECTOR_POOL_SIZES[modality] * self.ratio))

    def get_encoder_pool_size(self, modality: str) -> int:
        """Return how many of them, the first ones, an encoder is trained on."""
        return max(64, round(ENCODER_POOL_SIZES[modality] * self.ratio))


#: The published zoo, and one that exercises every line within a minute or two.
PUBLISHED_ZOO_PLAN = ZooPlan()
REDUCED_ZOO_PLAN = ZooPlan(ratio=0.002, n_test_samples=12)


@dataclass(frozen=True)
class ZooPart:
    """One part of the zoo: an encoder, a language model, a connector.

    Parameters
    ----------
    name : str
        Its folder in the zoo, for example ``encoders/vit``.
    recipe : mapping
        All that its weights depend on, JSON-serialisable, but for the parts that it needs.
    make : callable
        Trains it into its folder and returns its card; takes its recipe, the needs included.
    needs : mapping of str to str
        Role to name of the parts that must be there before it is made.
    """

    name: str
    recipe: Mapping[str, Any]
    make: Callable[[Mapping[str, Any]], dict[str, Any]]
    needs: Mapping[str, str]


class ZooWorkshop:
    """A zoo in the making.

    Parameters
    ----------
    root : Path
        The zoo's folder.
    plan : Plan
        How much work goes into it.
    keep : bool
        Whether parts of the present zoo are taken over where nothing that they depend on changed.
    """

    def __init__(self, root: Path, plan: ZooPlan, *, keep: bool = False) -> None:
        self.root, self.plan, self.keep = root, plan, keep
        self.place = root / _WORKSHOP_FOLDER

    def get_part_folder(self, part: str) -> Path:
        """Return the folder of a part, for example ``encoders/vit``."""
        return self.place / part

    def get_checkpoint_path(self, part: str) -> Path:
        """Return where a training keeps what it resumes from."""
        return self.place / _CHECKPOINT_FOLDER / f"{part.replace('/', '--')}.pt"

    def make_full_recipe(self, part: ZooPart) -> dict[str, Any]:
        """Return a part's recipe with the sha256 of the weights that it needs."""
        if not part.needs:
            return dict(part.recipe)
        parts = {
            role: hash_file(self.get_part_folder(name) / WEIGHTS_FILE)
            for role, name in part.needs.items()
        }
        return {**part.recipe, "parts": parts}

    def is_done(self, part: str, recipe: Mapping[str, Any]) -> bool:
        """Return whether a part is finished under this recipe; drop what another recipe left."""
        for found in (self.get_part_folder(part), self.root / part):
            card = found / CARD_FILE
            if found == self.root / part and not self.keep:
                break
            if card.exists() and read_json(card).get("recipe") == recipe:
                if found != self.get_part_folder(part):
                    shutil.rmtree(self.get_part_folder(part), ignore_errors=True)
                    shutil.copytree(found, self.get_part_folder(part))
                return True
        note = self.get_checkpoint_path(part).with_suffix(".json")
        begun = note.exists() and read_json(note) == recipe
        if not begun or (self.get_part_folder(part) / CARD_FILE).exists():
            shutil.rmtree(self.get_part_folder(part), ignore_errors=True)
        if not begun:
            self.get_checkpoint_path(part).unlink(missing_ok=True)
        write_json(note, recipe)
        return False

    def finish_part(self, part: str, card: Mapping[str, Any]) -> None:
        """Write the card, which makes the part a finished one, and drop its checkpoint."""
        write_json(self.get_part_folder(part) / CARD_FILE, card)
        self.get_checkpoint_path(part).unlink(missing_ok=True)

    def replace_old_parts(self, made: Sequence[str], *, whole: bool) -> None:
        """Put finished parts in the place of the old ones.

        Parameters
        ----------
        made : sequence of str
            Their names.
        whole : bool
            Whether they are all that there is to make: then nothing else stays in the zoo.
        """
        if whole:
            for old in sorted(self.place.iterdir()):
                shutil.rmtree(self.root / old.name, ignore_errors=True)
        for part in made:
            place = self.root / part
            shutil.rmtree(place, ignore_errors=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            self.get_part_folder(part).rename(place)
        shutil.rmtree(self.place)
