"""Train self-supervised encoders to reconstruct masked patches (masked autoencoders).

Images follow He et al. 2022 (arXiv:2111.06377), clips Tong et al. 2022 (arXiv:2203.12602), and
spectrograms Huang et al. 2022 (arXiv:2207.06405). The models are those of transformers; the targets
are the values of the patches. Each patch of an image or a spectrogram is normalised. Patches of
clips are not, because most of them show only noise, which would count as much as moving objects.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ima.miniature.encoders import ENCODER_BATCH_SIZES, MiniEncoderSpec, build_encoder
from ima.miniature.pools import SamplePool
from ima.miniature.pretraining import PretrainedEncoder
from ima.models.encoders import slice_spectrograms

#: Fraction of masked patches.
_MASK_RATIOS = {"image": 0.75, "video": 0.75, "audio": 0.7}
_DECODER = {
    "decoder_hidden_size": 64, "decoder_num_hidden_layers": 2, "decoder_num_attention_heads": 4,
    "decoder_intermediate_size": 128,
}  # fmt: skip
_PROBE_SEED = 78
#: Training samples in which the variance of values is estimated.
_FOR_VARIANCE = 400


class MaskedAutoencoder(PretrainedEncoder):
    """An encoder with a decoder that reconstructs masked patches.

    Parameters
    ----------
    spec : MiniEncoderSpec
        The encoder; only it is kept.
    pool : SamplePool or None
        Training samples, whose variance scales the loss of clips; images and sounds are normalised.
    """

    def __init__(self, spec: MiniEncoderSpec, pool: SamplePool | None = None) -> None:
        from transformers import (
            VideoMAEConfig,
            VideoMAEForPreTraining,
            ViTMAEConfig,
            ViTMAEForPreTraining,
        )

        super().__init__(spec)
        if pool is not None:
            shown = pool.make_encoder_input(np.arange(min(len(pool), _FOR_VARIANCE)))
            self.variance = float(shown.var())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.recipe.seed)
            sizes: dict[str, Any] = {**spec.sizes, **_DECODER}
            if spec.modality == "image":
                config = ViTMAEConfig(**sizes, mask_ratio=_MASK_RATIOS["image"], norm_pix_loss=True)
                self.model: Any = ViTMAEForPreTraining(config)
                # Made from a configuration, the fixed positions of both halves would stay zero.
                self._give_places(self.model.vit.embeddings.position_embeddings)
                self._give_places(self.model.decoder.decoder_pos_embed)
            else:
                norm = spec.modality == "audio"
                self.model = VideoMAEForPreTraining(VideoMAEConfig(**sizes, norm_pix_loss=norm))

    @property
    def _side(self) -> int:
        """Patches along a side of an image."""
        return int(self.spec.sizes["image_size"] // self.spec.sizes["patch_size"])

    def _give_places(self, positions: nn.Parameter) -> None:
        from transformers.models.vit_mae import modeling_vit_mae

        places = modeling_vit_mae.build_2d_sinusoidal_position_embedding(
            height=self._side, width=self._side, embed_dim=positions.shape[-1], cls_token=True
        )
        with torch.no_grad():
            positions.copy_(places)

    def forward(self, values: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Return the mean squared error of masked patches, relative to their variance."""
        if self.spec.modality == "image":
            noise = self.move(rng.random((len(values), self._side**2), dtype=np.float32))
            output = self.model(values, noise=noise)
        else:
            if self.spec.modality == "audio":
                values = slice_spectrograms(values, frames=self.model.config.num_frames)
            mask = self.move(draw_hidden_patches(self.spec, len(values), rng))
            output = self.model(values, bool_masked_pos=mask)
            if self.spec.modality == "video":
                return self._compute_clip_error(output.logits, values, mask) / self.variance
        loss: torch.Tensor = output.loss
        return loss

    def _compute_clip_error(
        self, reconstruction: torch.Tensor, values: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Return the mean squared error of masked patches of clips, in units of the input."""
        sizes, (n, frames, colours, *_) = self.spec.sizes, values.shape
        deep, patch = sizes["tubelet_size"], sizes["patch_size"]
        tubes = values.reshape(
            n, frames // deep, deep, colours, self._side, patch, self._side, patch
        )
        patches = tubes.permute(0, 1, 4, 6, 2, 5, 7, 3).reshape(n, mask.shape[1], -1)
        masked = patches[mask].reshape(reconstruction.shape)
        return nn.functional.mse_loss(reconstruction, masked)

    def make_encoder(self) -> nn.Module:
        """Return the trained encoder as the class that the zoo loads."""
        if self.spec.modality != "image":
            trained: nn.Module = self.model.videomae
            return trained
        encoder = build_encoder(self.spec)
        encoder.load_state_dict(self.model.vit.state_dict())
        return encoder

    def compute_step_loss(self, pool: SamplePool, rng: np.random.Generator) -> torch.Tensor:
        """Return the error of masked patches in a batch."""
        chosen = rng.integers(len(pool), size=ENCODER_BATCH_SIZES[self.spec.modality])
        loss: torch.Tensor = self(self.read_input(pool, chosen), rng)
        return loss

    def measure(self, pool: SamplePool) -> dict[str, npt.NDArray[np.float64]]:
        """Return the fraction of each sample's variance that the reconstruction explains.

        Every call masks the same patches.
        """
        errors = [
            float(
                self(self.read_input(pool, np.array([i])), np.random.default_rng([_PROBE_SEED, i]))
            )
            for i in range(len(pool))
        ]
        return {"explained": 1 - np.array(errors)}


def draw_hidden_patches(
    spec: MiniEncoderSpec, samples: int, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Draw the masked patches of clips or spectrograms, equally many in each sample.

    A patch of a clip is masked in all frames; otherwise other frames would reveal it.

    Returns
    -------
    ndarray
        ``(sample, position)`` bool.

    Examples
    --------
    >>> from ima.miniature.encoders import MINI_ENCODERS
    >>> mask = draw_hidden_patches(MINI_ENCODERS["audiomae"], 2, np.random.default_rng(0))
    >>> mask.sum(axis=1).tolist()
    [34, 34]
    """
    frames = spec.sizes["num_frames"] // spec.sizes["tubelet_size"]
    size = spec.sizes["image_size"]
    height, width = (size, size) if isinstance(size, int) else size
    place = (height // spec.sizes["patch_size"]) * (width // spec.sizes["patch_size"])
    drawn = place if spec.modality == "video" else place * frames
    order = rng.random((samples, drawn)).argsort(axis=1)
    mask = order < round(_MASK_RATIOS[spec.modality] * drawn)
    return np.tile(mask, (1, frames)) if spec.modality == "video" else mask
