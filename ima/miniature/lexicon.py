"""Words of the documents that describe no scene, and the facts about them."""

from __future__ import annotations

PERSON_NAMES = tuple(
    "anna ben clara david emma felix grace hugo iris jack kate leo mia noah olga paul "
    "quinn rosa sam tina ursula victor wendy xavier yara zoe adam bella carl dora eric "
    "fiona george hanna ivan julia karl lisa max nina oscar peter ruth simon tom uma".split()
)
THINGS = tuple(
    "ball hat book cup key lamp box chair table clock coat bag pen brush shoe spoon fork "
    "plate bottle basket blanket pillow mirror candle ladder hammer nail rope bucket bicycle "
    "kite doll puzzle letter stamp coin ticket map umbrella scarf glove button needle thread "
    "carpet curtain drawer shelf towel soap comb bowl kettle piano camera radio telephone "
    "newspaper pencil ruler scissors suitcase tent torch wheel anchor balloon".split()
)
FOODS = tuple(
    "apple pear plum peach cherry lemon grape melon banana berry carrot potato tomato onion "
    "bean pea cabbage bread cheese butter egg honey soup cake pie rice milk tea coffee juice "
    "water salt sugar pepper nut corn salad sandwich biscuit pancake".split()
)
LOCATIONS = tuple(
    "kitchen garden school market forest river beach mountain village city station library "
    "museum church bridge farm field park street house cellar attic office shop bakery "
    "harbour island castle tower hospital theatre airport desert lake valley".split()
)
JOBS = tuple(
    "baker teacher doctor farmer sailor painter writer singer dancer driver pilot cook tailor "
    "carpenter gardener soldier nurse judge miner fisher hunter barber librarian".split()
)
VERBS = tuple(
    "finds sells buys paints breaks cleans carries hides lifts opens closes washes throws "
    "catches drops mends wraps keeps loses takes brings shows wants likes needs".split()
)
DAYS = tuple("monday tuesday wednesday thursday friday saturday sunday".split())
MONTHS = tuple(
    "january february march april may june july august september october november december".split()
)
#: Name, sound, home and food, from the smallest to the largest.
ANIMALS = tuple(
    tuple(animal.split())
    for animal in (
        "ant silence forest sugar, bee buzz garden honey, mouse squeak cellar cheese, "
        "frog croak lake flies, sparrow chirp garden seeds, owl hoot tower mice, "
        "duck quack river bread, cat meow house fish, fox bark forest hens, "
        "goose honk farm grass, dog woof house bones, sheep baa field grass, "
        "wolf howl mountain sheep, pig grunt farm corn, lion roar desert meat, "
        "donkey bray village hay, cow moo farm grass, horse neigh field hay, "
        "camel groan desert leaves, elephant trumpet valley fruit, whale song sea shrimp"
    ).split(", ")
)
OPPOSITES = tuple(
    tuple(pair.split("/"))
    for pair in (
        "hot/cold old/new long/short fast/slow rich/poor happy/sad heavy/light clean/dirty "
        "full/empty strong/weak wet/dry early/late near/far hard/gentle bright/dark wide/narrow "
        "deep/shallow sweet/sour thick/thin open/closed brave/afraid quiet/noisy true/false "
        "young/ancient"
    ).split()
)
#: A thing, and what it is for.
THING_USES = tuple(
    tuple(use.split(": "))
    for use in (
        "key: open a door, lamp: see at night, cup: drink tea, pen: write a letter, "
        "brush: paint a wall, hammer: drive a nail, needle: sew a coat, umbrella: stay dry, "
        "clock: tell the time, map: find the way, soap: wash your hands, ladder: reach the roof, "
        "kettle: boil water, camera: take a picture, rope: tie a boat, comb: tidy your hair, "
        "ticket: ride the train, pillow: rest your head, spoon: eat soup, coin: pay the baker"
    ).split(", ")
)
MATERIALS = tuple("wood stone glass iron paper wool leather silver gold clay".split())
WEATHER = tuple("rain snow wind sun fog storm frost thunder".split())
