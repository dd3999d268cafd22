"""The hub of the authors: originals of parts, with the files that a transformers folder needs."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from ima.errors import PartError
from ima.packages.parts import Part

#: No pickles, no weights of other frameworks.
_WANTED = ("*.json", "*.safetensors", "*.txt", "*.jinja", "tokenizer.model", "LICENSE*")
_UNWANTED = ("onnx/*", "openvino/*", "runs/*", "*.bin", "*/*.safetensors")


def download_original(hub_id: str, folder: Path, *, part: Part) -> str:
    """Download the original of a part with the hub's client; its finished files are kept.

    Parameters
    ----------
    hub_id : str
        Owner and name on the hub.
    folder : Path
        Where the files go.
    part : Part
        The part, for messages.

    Returns
    -------
    str
        The commit that was downloaded.

    Raises
    ------
    PartError
        If the hub does not answer, has no such model, or wants its licence accepted first.

    Examples
    --------
    >>> download_original("facebook/dinov2-small", folder, part=part)  # doctest: +SKIP
    'ed25f3a31f01632728cabb09d1542f84ab7b0056'
    """
    command = part.get_command("hub")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import GatedRepoError
    except ImportError as error:
        raise PartError(
            f"Originals of parts need the hub's client: {error}. The extra `models` installs it: "
            "pip install 'ima[models]'"
        ) from error
    try:
        path = Path(
            snapshot_download(hub_id, allow_patterns=list(_WANTED), ignore_patterns=list(_UNWANTED))
        )
    except GatedRepoError as error:
        raise PartError(
            f"The hub gives {hub_id} only to accounts that accepted its licence ({part.licence}). "
            f"Accept it there, log in with `hf auth login`, then: {command}"
        ) from error
    # The hub's client raises its own errors, its HTTP library's and the system's.
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise PartError(
            f"Cannot download {hub_id}, the original of part {part.name!r}, from the hub: "
            f"{type(error).__name__}: {str(error).splitlines()[0]} Where a mirror has it: "
            f"HF_ENDPOINT=ADDRESS {command}. What the package carries: {part.get_command()}"
        ) from error
    for file in sorted(path.rglob("*")):
        if file.is_file():
            target = folder / file.relative_to(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    return path.name
