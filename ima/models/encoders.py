"""How the zoo's encoders are read: media's values in, the tokens of the last layer out."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def read_encoder_tokens(encoder: Any, values: Tensor) -> Tensor:
    """Return all tokens of an encoder's last layer, the CLS token among them (paper §2).

    Parameters
    ----------
    encoder : PreTrainedModel
        ViTModel, CLIPVisionModel, TimesformerModel, VideoMAEModel or ASTModel.
    values : Tensor
        What :mod:`ima.models.features` makes of the media: images (sample, channel, height,
        width), clips (sample, frame, channel, height, width) or spectrograms (sample, frame, mel).

    Returns
    -------
    Tensor
        Dims (sample, position, width).
    """
    if values.ndim == 3 and encoder.config.model_type == "videomae":
        values = slice_spectrograms(values, frames=encoder.config.num_frames)
    tokens: Tensor = encoder(values).last_hidden_state
    return tokens


def slice_spectrograms(spectrograms: Tensor, *, frames: int) -> Tensor:
    """Cut spectrograms in time into the frames of a clip with one channel.

    ViTMAE needs a square of patches, which no spectrogram is; VideoMAE does not.

    Returns
    -------
    Tensor
        Dims (sample, frame, channel, height, width).

    Examples
    --------
    >>> import torch
    >>> tuple(as_slices(torch.zeros(2, 192, 64), frames=12).shape)
    (2, 12, 1, 16, 64)
    """
    samples, time, bins = spectrograms.shape
    return spectrograms.reshape(samples, frames, 1, time // frames, bins)
