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
# (name, size rank, sound, home, food)
ANIMALS: tuple[tuple[str, int, str, str, str], ...] = (
    ("ant", 1, "silence", "forest", "sugar"),
    ("bee", 2, "buzz", "garden", "honey"),
    ("mouse", 3, "squeak", "cellar", "cheese"),
    ("frog", 4, "croak", "lake", "flies"),
    ("sparrow", 5, "chirp", "garden", "seeds"),
    ("owl", 6, "hoot", "tower", "mice"),
    ("duck", 7, "quack", "river", "bread"),
    ("cat", 8, "meow", "house", "fish"),
    ("fox", 9, "bark", "forest", "hens"),
    ("goose", 10, "honk", "farm", "grass"),
    ("dog", 11, "woof", "house", "bones"),
    ("sheep", 12, "baa", "field", "grass"),
    ("wolf", 13, "howl", "mountain", "sheep"),
    ("pig", 14, "grunt", "farm", "corn"),
    ("lion", 15, "roar", "desert", "meat"),
    ("donkey", 16, "bray", "village", "hay"),
    ("cow", 17, "moo", "farm", "grass"),
    ("horse", 18, "neigh", "field", "hay"),
    ("camel", 19, "groan", "desert", "leaves"),
    ("elephant", 20, "trumpet", "valley", "fruit"),
    ("whale", 21, "song", "sea", "shrimp"),
)
OPPOSITES: tuple[tuple[str, str], ...] = (
    ("hot", "cold"),
    ("old", "new"),
    ("long", "short"),
    ("fast", "slow"),
    ("rich", "poor"),
    ("happy", "sad"),
    ("heavy", "light"),
    ("clean", "dirty"),
    ("full", "empty"),
    ("strong", "weak"),
    ("wet", "dry"),
    ("early", "late"),
    ("near", "far"),
    ("hard", "gentle"),
    ("bright", "dark"),
    ("wide", "narrow"),
    ("deep", "shallow"),
    ("sweet", "sour"),
    ("thick", "thin"),
    ("open", "closed"),
    ("brave", "afraid"),
    ("quiet", "noisy"),
    ("true", "false"),
    ("young", "ancient"),
)
# (thing, what it is for)
THING_USES: tuple[tuple[str, str], ...] = (
    ("key", "open a door"),
    ("lamp", "see at night"),
    ("cup", "drink tea"),
    ("pen", "write a letter"),
    ("brush", "paint a wall"),
    ("hammer", "drive a nail"),
    ("needle", "sew a coat"),
    ("umbrella", "stay dry"),
    ("clock", "tell the time"),
    ("map", "find the way"),
    ("soap", "wash your hands"),
    ("ladder", "reach the roof"),
    ("kettle", "boil water"),
    ("camera", "take a picture"),
    ("rope", "tie a boat"),
    ("comb", "tidy your hair"),
    ("ticket", "ride the train"),
    ("pillow", "rest your head"),
    ("spoon", "eat soup"),
    ("coin", "pay the baker"),
)
MATERIALS = tuple("wood stone glass iron paper wool leather silver gold clay".split())
WEATHER = tuple("rain snow wind sun fog storm frost thunder".split())
