"""`ima highlight`: answer a prompt with a part of its picture or some of its words highlighted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ima.cli.console import AsJson, Device, Precision, print_table
from ima.errors import ParameterError


def highlight_command(
    model: Annotated[
        str, typer.Argument(help="A name from `ima models list`, a folder, or a Hugging Face id.")
    ],
    *,
    prompt: Annotated[str, typer.Option(help="Text before the answer.")],
    image: Annotated[Path | None, typer.Option(help="A picture; without it, text alone.")] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X0,Y0,X1,Y1",
            help="A part of the picture in pixels from its top left corner. Repeat for several.",
        ),
    ] = None,
    span: Annotated[
        list[str] | None,
        typer.Option(metavar="WORDS", help="Words of the prompt. Repeat for several."),
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Highlight the whole picture.")] = False,
    gamma: Annotated[float, typer.Option(help="Weight of the guidance; 1 is none.")] = 1.3,
    beta: Annotated[
        float, typer.Option(help="Factor of attention to what is highlighted; 1 is none.")
    ] = 2.0,
    alpha: Annotated[
        float, typer.Option(help="Factor of what is highlighted in the unconditional branch.")
    ] = 0.01,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Maximum length of an answer.")] = 48,
    device: Device = "cpu",
    precision: Precision = "float32",
    as_json: AsJson = False,
) -> None:
    """Answer a prompt plainly and with parts of it highlighted, side by side."""
    boxes = tuple(_parse_box(text) for text in box or ())
    if (boxes or whole) and image is None:
        raise ParameterError("A part of a picture is highlighted, and no picture is given: --image")

    from ima.data.media import read_media
    from ima.data.samples import Sample
    from ima.interventions.highlight_marks import Highlight
    from ima.interventions.highlighting import HighlightStrength, generate_highlighted
    from ima.models import load_model

    highlight = Highlight(boxes=boxes, spans=tuple(span or ()), whole=whole)
    strength = HighlightStrength(gamma=gamma, beta=beta, alpha=alpha)
    if image is None:
        sample = Sample("the prompt", "text", "qa", prompt, ())
    else:
        pixels = read_media(image, "image")
        sample = Sample(image.name, "image", "qa", prompt, (), media=lambda: pixels)
    loaded = load_model(model, device=device, dtype=precision)
    (highlighted,) = generate_highlighted(
        loaded, [sample], [highlight], strength=strength, max_new_tokens=max_new_tokens
    )
    (plain,) = loaded.generate([sample], max_new_tokens=max_new_tokens)
    if as_json:
        record = {"prompt": prompt, "plain": plain, "highlighted": highlighted}
        typer.echo(json.dumps(record | vars(strength), indent=1))
        return
    title = f"highlighted (γ {gamma:g}, β {beta:g}, α {alpha:g})"
    print_table(["plain", title], rows=[[plain, highlighted]])


def _parse_box(text: str) -> tuple[float, float, float, float]:
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError:
        raise ParameterError(
            f"--box takes four numbers, left,top,right,bottom in pixels, such as 10,20,110,90; got "
            f"{text!r}."
        ) from None
    return left, top, right, bottom
