"""Passages of plain English, written for this project: texts on which no model here was trained.

A test checks that they share no eight words in a row with what the trainings of this world read.
"""

from __future__ import annotations

from functools import cache

_PASSAGES = """
The ferry was late again, so the children counted gulls on the harbour wall. Nine stood in a row
until a man with a sandwich walked past. Then there was a short fight, and only three of them came
back. The smallest girl said that the gulls had a timetable of their own, and that it was kept far
better than the one on the board.

When the old mill closed, the village lost its only clock that everybody could hear. For a year
people were late to everything. Then the baker began to open his shutters with a loud bang at
seven, and within a month the whole street lived by the baker. He was never told why his neighbours
greeted him so warmly.

My grandmother kept her recipes in a tin that had once held screws. Most of them were written on
the backs of bills, so that her plum cake shared a sheet of paper with the price of coal. She
measured nothing. If somebody asked how much flour was needed, she said that the bowl would know.

The bridge over the Aller is closed to lorries until the spring. Engineers found that two of the
bearings had worn out on the side that faces the weather. Cars may still cross, one lane at a time.
The council expects the repair to take eleven weeks and asks drivers to allow a quarter of an hour
more for their journey.

To repair a slow puncture, first find the hole. Pump up the tube, hold it under water and turn it
until a line of bubbles appears. Mark the place, let the tube dry, and roughen it with sandpaper.
Spread a thin coat of cement, wait until it no longer sticks to a finger, and press the patch on
for a full minute.

Lichens look like one thing and are two. A fungus builds the body, and an alga that lives between
its threads makes sugar from light. Neither does well alone on bare rock. Together they can live
where almost nothing else does, on roof tiles, on gravestones and on the north side of mountains,
and they may grow by less than a millimetre in a year.

She had expected the letter for so long that she did not open it at once. She put it on the table
beside the bread, made tea, and looked at the stamp, which showed a heron. Only when the cup was
empty did she slit the envelope with a knife. There was a single line in it, and it was not the one
that she had feared.

The museum's oldest map shows an island that does not exist. Sailors drew it for two hundred years,
each copying it from the one before, and some even gave it hills and a good anchorage. A captain
who sailed straight through the place in fair weather was not believed, because so many charts
could not be wrong.

If two people carry a table through a narrow door, the one who walks backwards should decide. He
cannot see where he is going, but he alone feels when a leg touches the frame. Most quarrels about
furniture begin because the one in front gives orders. Turn the table on its side, lead with the
legs, and speak only when you stop.

The first frost came in the night, and by morning the dahlias had turned black. Mr Penrose dug up
the tubers, shook off the soil and laid them in boxes of dry peat. He wrote the names on strips of
wood, as he did each October, and each April he found that mice had carried off half of the labels
and none of the tubers.

Our team lost the final by one point, and it was nobody's fault but the wind's. The last throw left
the hand well. It climbed, seemed to hang above the court, and then drifted a little to the left,
as a leaf does. We heard it touch the rim. For a moment nobody in the hall drew breath, and then
the other side began to cheer.

Before there were refrigerators, ice was cut from lakes. In January men marked the surface like a
chessboard, sawed out the blocks and floated them along a channel to the shore. Packed in sawdust,
in a shed with thick walls, they lasted through August. A family could buy a block from a cart, and
the dripping told children which way it had gone.

The lighthouse keeper's diary is mostly about the weather, but on one page he writes about a tune.
A ship had passed in fog, too far out to be seen, and somebody on deck was playing a fiddle. He
could not name the piece. For the rest of his life he asked every visitor who could whistle to try
a few bars, and none of them was the right one.

A good hedge takes seven years. In the first two you do little but water it and keep the grass
away. In the third you cut it back harder than seems kind, so that it thickens at the foot. After
that it needs a trim in late summer, when the birds have left. A gap that you fill with a fence
will stay a gap for ever.

The lift stopped between the fourth and the fifth floor with six strangers in it. For ten minutes
they looked at the ceiling. Then one of them unpacked a lemon tart that had been meant for a
meeting, and somebody else had a penknife. When the engineer opened the doors an hour later, they
asked him whether he could come back in five minutes.

Rivers do not wear down their beds evenly. In a bend the water on the outside has farther to go and
runs faster, so it eats into the bank there and drops sand on the inside. The bend grows until only
a thin neck of land is left. In some flood the river breaks through, and the old loop becomes a
lake in the shape of a bow.
"""


@cache
def list_passages() -> tuple[str, ...]:
    """Return the passages, each on one line.

    Examples
    --------
    >>> len(list_passages()), list_passages()[0].split()[:4]
    (16, ['The', 'ferry', 'was', 'late'])
    """
    return tuple(" ".join(part.split()) for part in _PASSAGES.strip().split("\n\n"))
