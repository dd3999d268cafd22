"""The folder in which a zoo is made: finished parts, checkpoints, and delivery into the zoo."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ima.files import hash_file, read_json, replace_folder, write_json
from ima.miniature.pools import CONNECTOR_POOL_SIZES, ENCODER_POOL_SIZES
from ima.models.zoo import CARD_FILE, WEIGHTS_FILE
from ima.training.loop import TrainingRecipe

_WORKSHOP_FOLDER = ".training"
_CHECKPOINT_FOLDER = "checkpoints"


@dataclass(frozen=True)
class ZooPlan:
    """Amount of training and scoring for a zoo.

    Parameters
    ----------
    ratio : float
        Fraction of every recipe's steps and of every pool; 1 makes the published zoo.
    n_test_samples : int
        Test samples per score.
    device : str
        ``"cpu"`` or ``"cuda"``.
    """

    ratio: float = 1.0
    n_test_samples: int = 300
    device: str = "cpu"

    def scale_recipe(self, recipe: TrainingRecipe) -> TrainingRecipe:
        """Return a recipe with the plan's fraction of steps."""
        steps = max(4, round(recipe.steps * self.ratio))
        restart = recipe.restart and max(1, round(recipe.restart * self.ratio))
        every = min(recipe.probe_every, steps)
        return replace(recipe, steps=steps, probe_every=every, restart=restart)

    def get_pool_size(self, modality: str) -> int:
        """Return the number of training samples for a connector."""
        return max(64, round(CONNECTOR_POOL_SIZES[modality] * self.ratio))

    def get_encoder_pool_size(self, modality: str) -> int:
        """Return the number of training samples for an encoder: the first ones of the pool."""
        return max(64, round(ENCODER_POOL_SIZES[modality] * self.ratio))


#: The published zoo, and one that runs the whole pipeline within a minute or two.
PUBLISHED_ZOO_PLAN = ZooPlan()
REDUCED_ZOO_PLAN = ZooPlan(ratio=0.002, n_test_samples=12)


@dataclass(frozen=True)
class ZooPart:
    """One part of the zoo: an encoder, a language model or a connector.

    Parameters
    ----------
    name : str
        Its folder in the zoo, for example ``encoders/vit``.
    recipe : mapping
        Everything that determines its weights except the parts it needs, JSON-serialisable.
    make : callable
        Trains the part into its folder and returns its card, given the full recipe
        (:meth:`ZooWorkshop.make_full_recipe`).
    needs : mapping of str to str
        Names of the parts that must be finished first, by role.
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
    plan : ZooPlan
        Amount of training and scoring.
    keep : bool
        Whether to reuse parts of the present zoo whose full recipe is unchanged.
    """

    def __init__(self, root: Path, plan: ZooPlan, *, keep: bool = False) -> None:
        self.root, self.plan, self.keep = root, plan, keep
        self.place = root / _WORKSHOP_FOLDER

    def get_part_folder(self, part: str) -> Path:
        """Return the folder of a part, for example ``encoders/vit``."""
        return self.place / part

    def get_checkpoint_path(self, part: str) -> Path:
        """Return the file from which the training of a part resumes."""
        return self.place / _CHECKPOINT_FOLDER / f"{part.replace('/', '--')}.pt"

    def make_full_recipe(self, part: ZooPart) -> dict[str, Any]:
        """Return a part's recipe with the sha256 of the parts that it needs."""
        if not part.needs:
            return dict(part.recipe)
        parts = {
            role: hash_file(self.get_part_folder(name) / WEIGHTS_FILE)
            for role, name in part.needs.items()
        }
        return {**part.recipe, "parts": parts}

    def is_done(self, part: str, recipe: Mapping[str, Any]) -> bool:
        """Return whether a part is finished under this recipe; delete files of other recipes."""
        folder, checkpoint = self.get_part_folder(part), self.get_checkpoint_path(part)
        for candidate in (folder, self.root / part) if self.keep else (folder,):
            card = candidate / CARD_FILE
            if card.exists() and read_json(card).get("recipe") == recipe:
                if candidate != folder:
                    with replace_folder(folder) as partial:
                        shutil.copytree(candidate, partial, dirs_exist_ok=True)
                return True
        recipe_path = checkpoint.with_suffix(".json")
        is_resumable = recipe_path.exists() and read_json(recipe_path) == recipe
        if not is_resumable or (folder / CARD_FILE).exists():
            shutil.rmtree(folder, ignore_errors=True)
        if not is_resumable:
            checkpoint.unlink(missing_ok=True)
        write_json(recipe_path, recipe)
        return False

    def finish_part(self, part: str, card: Mapping[str, Any]) -> None:
        """Write the card, which marks the part as finished, and delete its checkpoint."""
        write_json(self.get_part_folder(part) / CARD_FILE, card)
        self.get_checkpoint_path(part).unlink(missing_ok=True)

    def replace_old_parts(self, made: Sequence[str], *, whole: bool) -> None:
        """Replace the old parts of the zoo by the finished ones.

        Parameters
        ----------
        made : sequence of str
            Names of the finished parts.
        whole : bool
            Whether these are all parts of the zoo; if so, other parts are deleted.
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
