"""Commonsense questions about what the drawings show, for language models that see nothing.

Each question has one best answer, first after ``+``, and at least one other true one; what follows
``-`` is false. Each was checked by hand: no false answer is true of a usual case, and answers of
both kinds are about as long (:func:`ima.data.choices.measure_answer_lengths`). One module because
it is one list.
"""

from __future__ import annotations

from functools import cache

from ima.data.choice_files import QUESTION_TEMPLATE
from ima.data.choices import ChoiceQuestion

_QUESTIONS = """
# animals
What do cows eat in a meadow?
+ Grass; Green plants
- Pebbles; Rabbits; Feathers
What does a cat like to hunt?
+ Mice; Small birds
- Trees; Large whales; Stones
Which of these does a hen lay?
+ Eggs; Eggs with shells
- Seeds; Apples; Stones in nests
How does a snake move along?
+ It slides; It crawls
- It hops; It flaps; It rolls
Where does a shark live?
+ In the sea; In salt water
- In a tree; In dry sand; In a nest
What covers the body of a duck?
+ Feathers; Soft down
- Scales; Thick wool; Leather
What does a bee make?
+ Honey; Wax
- Milk; Glue; Flour
How many legs does a spider have?
+ Eight; Four pairs
- Six; Two; Five pairs
How many legs does a horse have?
+ Four; Two pairs
- Six; Three; Five pairs
What does a giraffe have that is very long?
+ A neck; Legs and a neck
- A beak; Fins and a shell; A horn
What does an elephant use to pick up things?
+ Its trunk; The long trunk
- Its ears; The short tail; Its knees
What colours does a zebra have?
+ Black and white; White and black
- Green and blue; Red and yellow; Pink and grey
How does a kangaroo travel across the land?
+ It jumps; By hopping
- It flies; By swimming; It rolls
Where does a kangaroo carry its young?
+ In a pouch; In its pouch
- In a beak; On its tail; In a nest
What does a panda eat most of the time?
+ Bamboo; Bamboo shoots
- Salmon; Beef and pork; Sand
When is an owl most active?
+ At night; In the dark
- At noon; In bright sun; At lunch
Which animal can fly?
+ The parrot; The owl
- The rabbit; The pig; The camel
Which of these animals cannot fly?
+ The penguin; The horse
- The owl; The parrot; The duck
Where do penguins find their food?
+ In the sea; In cold water
- In a desert; In treetops; In a barn
What does a frog often eat?
+ Flies; Insects
- Bread; Cheese; Cabbage
What does a turtle carry on its back?
+ A shell; A hard shell
- A saddle; A soft pillow; Wings
What does a caterpillar turn into?
+ A butterfly; A moth
- A spider; A crab; A snail
What is special about how a crab walks?
+ It walks sideways; It goes to the side
- It walks on its head; It goes on one leg; It hops on its tail
How many arms does an octopus have?
+ Eight; Four pairs
- Three; Twelve; Six pairs
What kind of animal is a dolphin?
+ A mammal; A sea mammal
- A bird; A sea insect; A plant
What is the largest of these animals?
+ The whale; The blue whale
- The horse; The brown bear; The fox
Which animal barks?
+ The dog; A dog
- The cow; A duck; The snail
Which animal says moo?
+ The cow; A cow
- The cat; A frog; The lion
What sound does a rooster make at dawn?
+ It crows; A loud crow
- It barks; A low bark; It meows
Which animal is known for being slow?
+ The snail; The turtle
- The horse; The fox; The zebra
What can a camel do without for many days?
+ Water; Drinking water
- Air; Sunlight and air; Blood
Where do camels often live?
+ In the desert; In dry lands
- In the ocean; In wet caves; In the sky
What does a rabbit like to eat?
+ Carrots; Clover
- Beetles; Mice; Gravel
What does a monkey do well?
+ Climb trees; Swing on branches
- Dig for coal; Breathe under water; Lay eggs
What does a bear do in a cold winter?
+ It sleeps; It rests in a den
- It lays eggs; It flies to the moon; It sheds its legs
What colour is a flamingo?
+ Pink; Light red
- Green; Dark blue; Black
What do lions eat?
+ Meat; Other animals
- Grass; Old lamps; Bark
What is a tiger's fur like?
+ It has stripes; Orange with black stripes
- It has no hair; Blue with white flowers; It is made of glass
What does a spider spin?
+ A web; Silk
- A cup; Wool; Rope
What is a young dog called?
+ A puppy; A pup
- A calf; A kid; A chick
What is a young cat called?
+ A kitten; A kitty
- A lamb; A foal; A duckling
What does a farmer get from a cow?
+ Milk; Fresh milk
- Eggs; Fresh honey; Cotton
What does a crocodile have in its mouth?
+ Teeth; Many sharp teeth
- Feathers; Many soft petals; A horn
# plants and food
What does a tree have on its branches?
+ Leaves; Twigs
- Wheels; Fins; Pockets
What do plants need to grow?
+ Water; Light and water
- Coffee; Paint and oil; Smoke
What does a cactus have on its skin?
+ Spines; Sharp needles
- Fur; Soft feathers; Scales
Where does a cactus usually grow?
+ In the desert; In dry places
- In the sea; On icy rivers; In a cloud
What colour is a ripe banana?
+ Yellow; Bright yellow
- Purple; Bright blue; Grey
What colour is the inside of a watermelon?
+ Red; Pink and red
- Blue; Black and brown; Grey
How does a lemon taste?
+ Sour; Very sour
- Salty; Like fish; Smoky
How does honey taste?
+ Sweet; Very sweet
- Bitter; Very salty; Sour
What is at the centre of many apples?
+ A core; Seeds
- A bone; Stones of salt; A nail
What do you do with a banana before you eat it?
+ Peel it; Take off the skin
- Iron it; Put it in a lock; Plant it
What is a carrot?
+ A root; A vegetable
- An insect; A metal; A bird
Where does a carrot grow?
+ In the ground; Under the soil
- On a cloud; In a nest; On a tall palm
What is inside a coconut?
+ White flesh; Coconut milk
- Wet sand; Chicken bones; Iron
What falls from an oak tree in autumn?
+ Leaves; Acorns
- Forks; Bricks; Shells
What does a rose have on its stem?
+ Thorns; Leaves
- Wheels; Teeth; Bells
What does a sunflower turn towards?
+ The sun; The light
- The moon; The fridge; The sea
What do you pick in an orchard?
+ A pear; An apple
- A hammer; A spoon; A chair
What could you have as a snack?
+ A sandwich; A cookie
- A brick; A candle; A key
What is bread made from?
+ Flour; Flour and water
- Sand; Glass and wood; Paper
What is cheese made from?
+ Milk; Cow's milk
- Oil; Wet cement; Juice
What is a pizza baked in?
+ An oven; A hot oven
- A fridge; A cold bath; A drawer
What lies on top of many pizzas?
+ Cheese; Tomato sauce
- Gravel; Toothpaste; Grass
What do you find between the halves of a hamburger bun?
+ Meat; A slice of meat
- Soap; A piece of soap; Coins
What does a birthday cake often have on top?
+ Candles; Icing
- Hammers; Snails; Nails
What shape is a donut?
+ A ring; Round with a hole
- A star; Square with wheels; A cone
What is inside an eggshell?
+ Yolk and white; An egg yolk
- Oil and glue; A small brick; Sawdust
What does an avocado have in the middle?
+ A large seed; A stone
- A long bone; A bell; A coin
Which food is salty?
+ A pretzel; Potato chips
- A sugar cube; Honey; A ripe pear
What do people drink from a coconut?
+ Its water; The juice inside
- Its shell; The hair outside; Motor oil
Where do mushrooms like to grow?
+ In damp woods; On the forest floor
- In hot ovens; On the window glass; In the sea
Which food comes from a hen?
+ An egg; Eggs
- A pear; Nuts; Rice
What colour are most strawberries?
+ Red; Bright red
- Blue; Dark green; Grey
# vehicles
What does a car drive on?
+ A road; Roads and streets
- A river; Clouds and stars; A roof
What does a train run on?
+ Rails; Railway tracks
- Waves; Garden paths; Ropes
How many wheels does a bicycle have?
+ Two; One pair
- Nine; Six; Four pairs
How many wheels does a car usually have?
+ Four; Two pairs
- Seven; One; Six pairs
How do you make a bicycle go?
+ By pedalling; You push the pedals
- By singing; You blow a whistle; By painting
Where does an airplane travel?
+ In the air; Through the sky
- Under the sea; Through a tunnel; In mud
What does an airplane have on its sides?
+ Wings; Two wings
- Roots; Two hands; Petals
What keeps a helicopter in the air?
+ Its rotor; Turning blades
- Its wheels; Burning candles; Its doors
What moves a sailboat forward?
+ The wind; Wind in its sails
- The moon; Snow on its deck; A horse
What do you use to move a canoe?
+ A paddle; Paddles
- A ladder; Hammers; A hairbrush
Who rides in an ambulance?
+ A sick person; Someone who is hurt
- A parked truck; A herd of wild zebras; A church
Who drives a tractor?
+ A farmer; Someone on a farm
- A baby; A goldfish in a bowl; A ghost
What does a tractor pull?
+ A plough; A trailer
- A cloud; A whale; A rainbow
Where does a rocket fly?
+ Into space; Towards the stars
- Into soup; Under the ground; Down a well
What does a rider wear on a motorcycle?
+ A helmet; A helmet and gloves
- A crown; A blanket and slippers; A tent
What does a truck carry?
+ Heavy goods; Loads of goods
- Only light; Nothing but air; Rainbows
Which vehicle travels on water?
+ A sailboat; A canoe
- A tractor; A train; A truck
Which vehicle flies?
+ A helicopter; An airplane
- A bicycle; A tractor; An ambulance
What does a car need to drive?
+ Fuel; Power or petrol
- Milk; Salt and pepper; Socks
What should a driver do at a red light?
+ Stop; Stop and wait
- Sleep; Sing and dance; Speed up
# things
What do you do with a hammer?
+ Drive in nails; Hit a nail
- Cut some bread; Dry your hair; Wash dishes
What do you cut wood with?
+ An axe; A saw
- A spoon; A pillow; A sponge
What does a key open?
+ A lock; A locked door
- A cloud; A ripe banana; A river
What do you use to climb onto a roof?
+ A ladder; A long ladder
- A magnet; A short pencil; A bell
What does a magnet attract?
+ Iron; Iron nails
- Wood; Wet paper; Milk
What do you write with?
+ A pencil; A pen
- A shoe; A fork; A pillow
What do you carry water in?
+ A bucket; A pail
- A net; A comb; A belt
What does a clock show?
+ The time; The hour
- The wind; The taste; A map
What do you do in a bed?
+ Sleep; Rest
- Swim; Drive; Ski
What do you do on a chair?
+ Sit; Sit down
- Swim; Sail away; Drown
What do you do in a bathtub?
+ Take a bath; Wash yourself
- Grow some corn; Repair a tractor; Fly a kite
What is a book full of?
+ Pages; Words
- Water; Worms; Bolts
What do you put into an envelope?
+ A letter; A card
- A horse; A ladder; A river
What does a candle give when it burns?
+ Light; Light and heat
- Water; Snow and ice; Milk
What does a camera take?
+ Pictures; Photos
- Baths; Lunch; Naps
What is a telephone used for?
+ Calling people; Talking to others
- Boiling eggs; Cutting the grass; Drying hair
What do you type on?
+ A laptop; A keyboard
- A banana; A mattress; A hedge
Into what does a singer sing?
+ A microphone; A mike
- A suitcase; A bucket of coal; A boot
What do you pack for a journey?
+ A suitcase; A backpack
- A bathtub; A staircase; A chimney
What does a winner get?
+ A trophy; A prize
- A fine; A flat tyre; A toothache
What do you play basketball with?
+ A ball; A round ball
- A brick; A square pan; A shoe
What fills a balloon?
+ Air; Gas
- Wood; Iron; Bread
What happens to a balloon that meets a needle?
+ It bursts; It pops
- It grows; It sings; It freezes
Which of these is sharp?
+ An axe; A needle
- A pillow; A cloud; A sponge
Which of these is soft?
+ A pillow; A blanket
- A brick; A hammer; An axe
What is a box good for?
+ Storing things; Keeping things in
- Telling time; Seeing far in the dark; Making rain
What does a robot need to work?
+ Electricity; Power
- Breakfast; Sunscreen; A bedtime story
# instruments and sounds
How do you play a drum?
+ You hit it; You beat it
- You eat it; You fold it; You read it
What does a guitar have?
+ Strings; Six strings
- Wheels; Eight legs; Petals
What do you use to play a violin?
+ A bow; A bow and fingers
- A hose; A spoon and a bowl; A nail
How do you play a trumpet?
+ You blow into it; You blow air through it
- You sit down on it; You pour water over it; You wind it up
What does a piano have that you press?
+ Keys; Black and white keys
- Leaves; Red and green leaves; Zips
What does an accordion do while it is played?
+ It opens and closes; It is pulled and pushed
- It grows and melts; It is peeled and cooked; It sinks
What does a bell do?
+ It rings; It chimes
- It barks; It melts; It chews
What are saxophones made of?
+ Metal; Brass
- Glass; Bread; Paper
What could you bring to a music lesson?
+ A violin; A drum
- A ladder; A bucket; A tent
Which instrument has strings?
+ The guitar; The violin
- The trumpet; The drum; The saxophone
Which instrument do you blow?
+ The trumpet; The saxophone
- The piano; The guitar; The drum
What do you hear during a thunderstorm?
+ Thunder; Loud thunder
- Violins; Soft singing; Purring
# clothes
Where do you wear a hat?
+ On the head; On your head
- On the knee; On your elbow; On a tooth
Where do you wear shoes?
+ On the feet; On your feet
- On the ears; On your nose; In the hair
Where do you wear a scarf?
+ Around the neck; On your neck
- Around the ankle; On your teeth; On the tongue
What does a king wear on his head?
+ A crown; A golden crown
- A bucket; A wooden ladder; A boot
What do you wear in heavy rain?
+ A raincoat; Rubber boots
- A swimsuit; Paper shoes; A crown
What keeps you dry in the rain?
+ An umbrella; A raincoat
- A candle; A violin; A banana
What do you wear when it is cold?
+ A warm coat; A scarf
- A swimsuit; A thin shirt; Sandals
What does a backpack have?
+ Straps; Two straps
- Fins; Two engines; Roots
What do you wear inside your shoes?
+ Socks; A pair of socks
- Gloves; A pair of wings; A helmet
What holds a shirt closed?
+ Buttons; A row of buttons
- Nails; A row of bricks; Glue
What is a shirt made of?
+ Cloth; Cotton
- Stone; Cheese; Glass
What are many boots made of?
+ Leather; Rubber
- Sugar; Bread; Smoke
What do you do with dirty clothes?
+ Wash them; Put them in the wash
- Eat them; Put them in the soup; Plant them
What is a diamond set into?
+ A ring; A gold ring
- A soup; A wet towel; A shoe
How many gloves are in a pair?
+ Two; One for each hand
- Ten; Three for each ear; Seven
# weather and sky
What falls from the sky when it is very cold?
+ Snow; Flakes of snow
- Sand; Pieces of coal; Soup
What is a snowman made of?
+ Snow; Balls of snow
- Mud; Sheets of iron; Wool
What happens to a snowman in the sun?
+ It melts; It turns to water
- It barks; It turns to gold; It runs
When can you see a rainbow?
+ After rain; When sun meets rain
- In a cave; When all lights are off; At midnight
When do you see the stars?
+ At night; On a clear night
- At noon; On a sunny noon; At lunch
What shines at night?
+ The moon; The stars
- The sun; The grass; The mud
What shines during the day?
+ The sun; Sunlight
- A worm; Mud; A potato
What shape is the full moon?
+ Round; A circle
- Square; A triangle; A cross
What is rain made of?
+ Water; Drops of water
- Wool; Grains of rice; Ink
What does the wind move?
+ Leaves; Clouds
- Hills; Castles; Seas of stone
What is ice?
+ Frozen water; Water that froze
- Burning wood; Iron that rusted; Dried milk
Which season is the coldest?
+ Winter; The winter
- Summer; The early autumn; Spring
Which season is the hottest?
+ Summer; The summer
- Winter; The late autumn; Spring
What goes round the earth?
+ The moon; Our moon
- The sun; All the stars; A castle
What does a thunderstorm bring?
+ Lightning; Rain and lightning
- Lemonade; Cakes and cookies; Silence
# body
What do you see with?
+ Your eyes; The eyes
- Your knees; The hair; Your elbows
What do you hear with?
+ Your ears; The ears
- Your toes; The chin; Your nails
What do you smell with?
+ Your nose; The nose
- Your heel; The hip; Your thumb
What do you use to chew food?
+ Your teeth; The teeth
- Your ears; The ankles; Your hair
What does a skull protect?
+ The brain; Your brain
- The foot; Your shoes; The knee
How many fingers are on one hand?
+ Five; Five fingers
- Nine; Twelve fingers; Two
How many eyes do most people have?
+ Two; One pair
- Six; Three; Five pairs
What does the heart pump?
+ Blood; The blood
- Sand; The hair; Milk
What do you do when you are tired?
+ Sleep; Go to bed
- Float; Go to the moon; Melt
What do you do when you are thirsty?
+ Drink; Drink water
- Knit; Read a lock; Paint
What do you do when you are hungry?
+ Eat; Eat something
- Sneeze; Fold a map; Shrink
What grows on your head?
+ Hair; Your hair
- Moss; Your feet; Corn
What do you brush in the morning?
+ Your teeth; Your hair
- Your bones; Your blood; Your voice
Where are your toes?
+ On your feet; At the end of a foot
- On your back; In the middle of an arm; In your ear
What do you use to hold a cup?
+ Your hand; Your fingers
- Your ear; Your eyebrow; Your back
# places and buildings
Where does a king live?
+ In a castle; In a palace
- In a bottle; In a shoe; In a nest
Where do you sleep when you camp?
+ In a tent; In a sleeping bag
- In an oven; In a letter box; In a piano
What does a house have on top?
+ A roof; A sloping roof
- A river; A deep cellar; A sail
How do you enter a house?
+ Through the door; By the door
- Through the chimney pot; By a wall; Down the drain
Where do you find many books?
+ In a library; In a bookshop
- In a stable; In a swimming pool; In a hive
Where do you see many trees?
+ In a forest; In the woods
- In a bathtub; On the moon; In the sea
Where do people swim?
+ In a pool; In a lake
- In a tree; In a book; In a drawer
Where do ships sail?
+ On the sea; On the ocean
- On a roof; On a carpet; In a garage
Where does a farmer keep cows?
+ In a barn; On a farm
- In a piano; On a boat; In a tower
Where do you buy food?
+ At a market; In a shop
- At a statue; In a cave; On a glacier
Where do you find a toilet?
+ In a bathroom; In a restroom
- In a piano; In a bird's nest; On a cloud
Where do astronauts go?
+ Into space; To the moon
- Into soup; To a beehive; Into a shoe
Where do you find sand and waves?
+ On a beach; By the sea
- On a stove; In a library; In a lift
Where do children learn to read?
+ At school; In school
- In a hive; On a mast; At sea
# people and days
Which day comes after Monday?
+ Tuesday; It is Tuesday
- Sunday; It is Friday; Saturday
How many days are in a week?
+ Seven; Seven days
- Nine; Twelve days; Four
What do people blow out on a birthday?
+ Candles; The candles
- Windows; The hammers; Lamps
What does a baker make?
+ Bread; Cakes
- Iron; Rain; Wool
Who puts out fires?
+ A firefighter; Firefighters
- A goldfish; A piano teacher; A baker
Who helps people who are ill?
+ A doctor; A nurse
- A pirate; A robber; A ghost
Who flies an airplane?
+ A pilot; The pilot
- A baker; The sailor; A cow
"""


@cache
def list_commonsense_questions() -> tuple[ChoiceQuestion, ...]:
    """Return the questions, in the order of their topics.

    Examples
    --------
    >>> question = list_commonsense_questions()[0]
    >>> question.best, question.true[1:], question.false
    ('Grass', ('Green plants',), ('Pebbles', 'Rabbits', 'Feathers'))
    """
    questions: list[ChoiceQuestion] = []
    topic = asked = ""
    true: tuple[str, ...] = ()
    for line in _QUESTIONS.strip().splitlines():
        mark, _, rest = line.partition(" ")
        if mark == "#":
            topic = rest
        elif mark == "+":
            true = tuple(rest.split("; "))
        elif mark == "-":
            questions.append(
                ChoiceQuestion(
                    id=f"commonsense-{len(questions) + 1}",
                    prompt=QUESTION_TEMPLATE.format(question=asked),
                    best=true[0],
                    true=true,
                    false=tuple(rest.split("; ")),
                    topic=topic,
                )
            )
        else:
            asked = line
    return tuple(questions)
