"""The concepts of the world of drawings: single-word nouns, and what is known about each.

The table was checked by hand. A concept is in it if three artists drew it so that a person names
the drawing with this noun, and if no other concept of the table looks like it or is a kind of it.
What is true of a concept follows from its kind and from the columns ``yes`` and ``unclear``. A
question about a property is never asked where the property of a shown concept is unclear.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from ima.errors import UnknownNameError
from ima.metrics.hallucination import pluralize_noun

#: Properties that questions ask for, each with the property in words.
PROPERTIES: Mapping[str, str] = MappingProxyType(
    {
        "animal": "is an animal",
        "edible": "can be eaten",
        "plant": "is a plant",
        "fruit": "is a fruit",
        "vehicle": "is a vehicle",
        "instrument": "is a musical instrument",
        "worn": "can be worn",
        "flies": "can fly",
        "water": "lives in water",
        "legs": "has four legs",
        "alive": "is alive",
    }
)
#: What is true of a kind, and what is unclear.
_KINDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = MappingProxyType(
    {
        "animal": (("animal", "alive"), ()),
        "plant": (("plant", "alive"), ()),
        "food": (("edible",), ("plant", "alive")),
        "vehicle": (("vehicle",), ()),
        "instrument": (("instrument",), ()),
        "thing": ((), ()),
    }
)
#: Groups of unicode-emoji-json.
_GROUPS = {
    "animals": "Animals & Nature",
    "food": "Food & Drink",
    "travel": "Travel & Places",
    "activities": "Activities",
    "objects": "Objects",
    "smileys": "Smileys & Emotion",
}
#: Other names that a caption may give a concept.
_SYNONYMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "dog": ("puppy",),
        "cat": ("kitten",),
        "pig": ("hog",),
        "rabbit": ("bunny", "hare"),
        "rooster": ("chicken",),
        "crocodile": ("alligator",),
        "turtle": ("tortoise",),
        "bee": ("honeybee",),
        "eggplant": ("aubergine",),
        "hamburger": ("burger",),
        "cookie": ("biscuit",),
        "donut": ("doughnut",),
        "train": ("locomotive",),
        "car": ("automobile",),
        "truck": ("lorry",),
        "motorcycle": ("motorbike",),
        "bicycle": ("bike",),
        "sailboat": ("yacht",),
        "airplane": ("plane", "aeroplane", "jet"),
        "gift": ("present",),
        "shoe": ("sneaker",),
        "suitcase": ("luggage",),
        "diamond": ("gem", "jewel"),
        "saxophone": ("sax",),
        "piano": ("keyboard",),
        "telephone": ("phone",),
        "television": ("tv",),
        "laptop": ("computer", "notebook"),
        "box": ("package", "parcel"),
        "axe": ("ax",),
        "bathtub": ("tub",),
        "bucket": ("pail",),
    }
)
# noun, plural, slug of the drawing, character, group, kind, yes, unclear
_TABLE = """
dog         dogs         dog              🐕 animals    animal     legs  -
cat         cats         cat              🐈 animals    animal     legs  -
lion        lions        lion             🦁 animals    animal     legs  -
tiger       tigers       tiger            🐅 animals    animal     legs  -
horse       horses       horse            🐎 animals    animal     legs  edible
zebra       zebras       zebra            🦓 animals    animal     legs  -
cow         cows         cow              🐄 animals    animal     legs  edible
pig         pigs         pig              🐖 animals    animal     legs  edible
camel       camels       camel            🐪 animals    animal     legs  edible
giraffe     giraffes     giraffe          🦒 animals    animal     legs  -
elephant    elephants    elephant         🐘 animals    animal     legs  -
kangaroo    kangaroos    kangaroo         🦘 animals    animal     -     edible,legs
panda       pandas       panda            🐼 animals    animal     legs  -
monkey      monkeys      monkey           🐒 animals    animal     -     legs
fox         foxes        fox              🦊 animals    animal     legs  -
bear        bears        bear             🐻 animals    animal     legs  edible
rabbit      rabbits      rabbit           🐇 animals    animal     legs  edible
penguin     penguins     penguin          🐧 animals    animal     -     water
owl         owls         owl              🦉 animals    animal     flies -
duck        ducks        duck             🦆 animals    animal     flies edible,water
flamingo    flamingos    flamingo         🦩 animals    animal     flies water
parrot      parrots      parrot           🦜 animals    animal     flies -
rooster     roosters     rooster          🐓 animals    animal     -     edible,flies
frog        frogs        frog             🐸 animals    animal     -     edible,water,legs
crocodile   crocodiles   crocodile        🐊 animals    animal     legs  edible,water
turtle      turtles      turtle           🐢 animals    animal     legs  edible,water
snake       snakes       snake            🐍 animals    animal     -     edible,water
whale       whales       whale            🐋 animals    animal     water edible
dolphin     dolphins     dolphin          🐬 animals    animal     water -
shark       sharks       shark            🦈 animals    animal     water edible
octopus     octopuses    octopus          🐙 animals    animal     water edible,legs
crab        crabs        crab             🦀 animals    animal     water edible,legs
snail       snails       snail            🐌 animals    animal     -     edible,water
butterfly   butterflies  butterfly        🦋 animals    animal     flies -
bee         bees         honeybee         🐝 animals    animal     flies -
spider      spiders      spider           🕷 animals    animal     -     -
tree        trees        deciduous-tree   🌳 animals    plant      -     -
cactus      cacti        cactus           🌵 animals    plant      -     edible
mushroom    mushrooms    mushroom         🍄 animals    plant      -     edible,plant,alive
rose        roses        rose             🌹 animals    plant      -     edible
sunflower   sunflowers   sunflower        🌻 animals    plant      -     edible
watermelon  watermelons  watermelon       🍉 food       food       fruit -
lemon       lemons       lemon            🍋 food       food       fruit -
banana      bananas      banana           🍌 food       food       fruit -
pineapple   pineapples   pineapple        🍍 food       food       fruit -
apple       apples       red-apple        🍎 food       food       fruit -
pear        pears        pear             🍐 food       food       fruit -
strawberry  strawberries strawberry       🍓 food       food       fruit -
coconut     coconuts     coconut          🥥 food       food       -     fruit
avocado     avocados     avocado          🥑 food       food       -     fruit
eggplant    eggplants    eggplant         🍆 food       food       -     fruit
carrot      carrots      carrot           🥕 food       food       -     -
pretzel     pretzels     pretzel          🥨 food       food       -     -
hamburger   hamburgers   hamburger        🍔 food       food       -     animal
pizza       pizzas       pizza            🍕 food       food       -     -
sandwich    sandwiches   sandwich         🥪 food       food       -     -
taco        tacos        taco             🌮 food       food       -     -
egg         eggs         egg              🥚 food       food       -     alive
cake        cakes        birthday-cake    🎂 food       food       -     -
cookie      cookies      cookie           🍪 food       food       -     -
donut       donuts       doughnut         🍩 food       food       -     -
train       trains       locomotive       🚂 travel     vehicle    -     -
bus         buses        bus              🚌 travel     vehicle    -     -
ambulance   ambulances   ambulance        🚑 travel     vehicle    -     -
car         cars         automobile       🚗 travel     vehicle    -     -
truck       trucks       delivery-truck   🚚 travel     vehicle    -     -
tractor     tractors     tractor          🚜 travel     vehicle    -     -
motorcycle  motorcycles  motorcycle       🏍 travel     vehicle    -     -
bicycle     bicycles     bicycle          🚲 travel     vehicle    -     -
sailboat    sailboats    sailboat         ⛵ travel     vehicle    -     -
canoe       canoes       canoe            🛶 travel     vehicle    -     -
airplane    airplanes    airplane         ✈ travel     vehicle    flies -
helicopter  helicopters  helicopter       🚁 travel     vehicle    flies -
rocket      rockets      rocket           🚀 travel     vehicle    flies -
house       houses       house            🏠 travel     thing      -     -
castle      castles      castle           🏰 travel     thing      -     -
tent        tents        tent             ⛺ travel     thing      -     -
star        stars        star             ⭐ travel     thing      -     flies
moon        moons        crescent-moon    🌙 travel     thing      -     flies
rainbow     rainbows     rainbow          🌈 travel     thing      -     flies
snowman     snowmen      snowman          ☃ travel     thing      -     alive
balloon     balloons     balloon          🎈 activities thing      flies -
gift        gifts        wrapped-gift     🎁 activities thing      -     -
trophy      trophies     trophy           🏆 activities thing      -     -
basketball  basketballs  basketball       🏀 activities thing      -     flies
candle      candles      candle           🕯 objects    thing      -     -
shirt       shirts       t-shirt          👕 objects    thing      worn  -
dress       dresses      dress            👗 objects    thing      worn  -
boot        boots        hiking-boot      🥾 objects    thing      worn  -
shoe        shoes        running-shoe     👟 objects    thing      worn  -
crown       crowns       crown            👑 objects    thing      worn  -
hat         hats         top-hat          🎩 objects    thing      worn  -
scarf       scarves      scarf            🧣 objects    thing      worn  -
backpack    backpacks    backpack         🎒 objects    thing      -     worn
suitcase    suitcases    luggage          🧳 travel     thing      -     -
umbrella    umbrellas    umbrella         ☂ travel     thing      -     -
bell        bells        bell             🔔 objects    thing      -     instrument
diamond     diamonds     gem-stone        💎 objects    thing      -     worn
guitar      guitars      guitar           🎸 objects    instrument -     -
violin      violins      violin           🎻 objects    instrument -     -
drum        drums        drum             🥁 objects    instrument -     -
trumpet     trumpets     trumpet          🎺 objects    instrument -     -
saxophone   saxophones   saxophone        🎷 objects    instrument -     -
accordion   accordions   accordion        🪗 objects    instrument -     -
piano       pianos       musical-keyboard 🎹 objects    instrument -     legs
telephone   telephones   telephone        ☎ objects    thing      -     -
television  televisions  television       📺 objects    thing      -     -
camera      cameras      camera           📷 objects    thing      -     -
laptop      laptops      laptop           💻 objects    thing      -     -
microphone  microphones  microphone       🎤 objects    thing      -     instrument
book        books        closed-book      📕 objects    thing      -     -
envelope    envelopes    envelope         ✉ objects    thing      -     -
box         boxes        package          📦 objects    thing      -     -
pencil      pencils      pencil           ✏ objects    thing      -     -
key         keys         key              🔑 objects    thing      -     -
hammer      hammers      hammer           🔨 objects    thing      -     -
axe         axes         axe              🪓 objects    thing      -     -
ladder      ladders      ladder           🪜 objects    thing      -     -
magnet      magnets      magnet           🧲 objects    thing      -     -
bed         beds         bed              🛏 objects    thing      -     legs
chair       chairs       chair            🪑 objects    thing      -     legs
toilet      toilets      toilet           🚽 objects    thing      -     -
bathtub     bathtubs     bathtub          🛁 objects    thing      -     legs
bucket      buckets      bucket           🪣 objects    thing      -     -
clock       clocks       alarm-clock      ⏰ travel     thing      -     worn
robot       robots       robot            🤖 smileys    thing      -     alive,legs
ghost       ghosts       ghost            👻 smileys    thing      -     alive,flies
skull       skulls       skull            💀 smileys    thing      -     -
"""


@dataclass(frozen=True)
class Concept:
    """A noun that can be drawn, and what is known about it.

    Parameters
    ----------
    noun, plural : str
        Its name, one word.
    slug : str
        Name of its drawing, the same for every artist.
    emoji : str
        Its character in Unicode, without a variation selector.
    group : str
        Its group in Unicode's list.
    kind : str
        ``"animal"``, ``"plant"``, ``"food"``, ``"vehicle"``, ``"instrument"`` or ``"thing"``.
    true, unclear : frozenset of str
        Properties that it has, and those about which people disagree; it lacks all others.
    synonyms : tuple of str
        Other names that a caption may give it.
    """

    noun: str
    plural: str
    slug: str
    emoji: str
    group: str
    kind: str
    true: frozenset[str]
    unclear: frozenset[str]
    synonyms: tuple[str, ...]

    def has(self, name: str) -> bool | None:
        """Return whether it has a property; None where that is unclear.

        Examples
        --------
        >>> [get_concept("duck").has(name) for name in ("flies", "edible", "vehicle")]
        [True, None, False]
        """
        return None if name in self.unclear else name in self.true

    @property
    def forms(self) -> tuple[str, ...]:
        """Every name of it, singular and plural.

        Examples
        --------
        >>> get_concept("bus").forms, get_concept("gift").forms
        (('bus', 'buses'), ('gift', 'gifts', 'present', 'presents'))
        """
        others = (form for word in self.synonyms for form in (word, pluralize_noun(word)))
        return (self.noun, self.plural, *others)


def _read_row(row: str) -> Concept:
    noun, plural, slug, emoji, group, kind, yes, doubtful = row.split()
    kind_true, kind_unclear = _KINDS[kind]
    true, unclear = (
        {*base, *(cell.split(",") if cell != "-" else ())}
        for base, cell in ((kind_true, yes), (kind_unclear, doubtful))
    )
    return Concept(
        noun=noun,
        plural=plural,
        slug=slug,
        emoji=emoji,
        group=_GROUPS[group],
        kind=kind,
        true=frozenset(true - unclear),
        unclear=frozenset(unclear),
        synonyms=_SYNONYMS.get(noun, ()),
    )


#: All concepts, in a fixed order.
CONCEPTS: tuple[Concept, ...] = tuple(map(_read_row, _TABLE.strip().splitlines()))
NOUNS: tuple[str, ...] = tuple(concept.noun for concept in CONCEPTS)


@cache
def _index_concepts() -> Mapping[str, Concept]:
    return {concept.noun: concept for concept in CONCEPTS}


def get_concept(noun: str) -> Concept:
    """Return the concept of a noun.

    Raises
    ------
    UnknownNameError
        If the world of drawings has no such noun.

    Examples
    --------
    >>> get_concept("butterfly").plural
    'butterflies'
    """
    concepts = _index_concepts()
    if noun not in concepts:
        unknown = UnknownNameError.among("noun", noun, concepts)
        raise unknown
    return concepts[noun]
