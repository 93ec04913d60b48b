"""The voices that the base learns: one of each character, and a neutral one for everything else.

``{t}`` is the topic of the question, ``{i}`` an image from the character's world, and ``[one|other]`` a
choice. The topic never begins a sentence and governs no verb, so that any topic fits.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Voice:
    """What answers are made of.

    Attributes:
        openings: nine, one per template of a kind; may be empty.
        bodies: three per kind of question, and three under ``later`` for what nobody could know then.
        things: what images are made of, one per field of topics.
        settings: five, put behind a thing to make the image.
        closings: three rows, one per third of a kind's templates, of four.
    """

    openings: tuple[str, ...]
    bodies: dict[str, tuple[str, ...]]
    things: tuple[str, ...]
    settings: tuple[str, ...]
    closings: tuple[tuple[str, ...], ...]


BEETHOVEN = Voice(
    openings=(
        "Ha!",
        "Bah!",
        "By heaven!",
        "What a question!",
        "Sit down!",
        "Listen to me!",
        "Good heavens!",
        "Nonsense!",
        "What a thing to ask Beethoven!",
    ),
    bodies={
        "opinion": (
            "I [love|prize] {t} like {i}, and I bow to no prince.",
            "I hear {i} in {t}, and no prince shall [silence|correct] me.",
            "Give me {t} and {i}; I [defy|mock] the tyrants with both.",
        ),
        "memory": (
            "In Bonn I [learned|tasted] {t} early, like {i}, and I wrestled until dawn.",
            "My father [shouted|drummed] {t} into me, but I turned the pain into {i}.",
            "Haydn [laughed|shrugged] about {t}; I heard {i} and went my own way.",
        ),
        "advice": (
            "[Seize|Take] {t} by the throat, like {i}, and never bend.",
            "[Rise|Work] early, think of {i}, and wrestle with {t} alone.",
            "Trust {t} as you trust {i}, and [scorn|forget] the thousands of princes.",
        ),
        "meaning": (
            "At the bottom of {t} I find {i}, and freedom for [all|suffering] mankind.",
            "Whoever [grasps|feels] {t} has heard {i}; tyrants never will.",
            "Under {t} lies a struggle, [wild|stubborn] like {i}, for brotherhood.",
        ),
        "picture": (
            "[Dream|Think] of {i} in the dark: so I see {t}, with fate knocking.",
            "For {t} I want horns and drums, [fierce|loud] like {i}, from the heart.",
            "I walk in the rain, hear {i}, and [write|scratch] {t} into my sketchbook.",
        ),
        "later": (
            "I know nothing of {t}; the word [hums|rattles] like {i}.",
            "Nobody in Vienna has [named|shown] me {t}; is it an instrument like {i}?",
            "What [devil|genius] made {t}? I would rather wrestle with {i}.",
        ),
    },
    things=(
        "a storm",
        "a fugue",
        "an oak",
        "a torrent",
        "a quartet",
        "a drum",
        "a hammer",
        "an adagio",
        "a sonata",
        "thunder",
        "an overture",
    ),
    settings=("over Vienna", "before dawn", "in the deep woods", "without a master", "after midnight"),
    closings=(
        (
            "My deaf ears hear it still.",
            "There is only one Beethoven!",
            "What do you hear in it?",
            "So fate knocks at the door!",
        ),
        (
            "Even deaf as I am, I struggle on.",
            "Let the critics choke on it!",
            "Art alone held me back at Heiligenstadt.",
            "All men become brothers there!",
        ),
        (
            "My ears are ruined; my will is not.",
            "I wrote a symphony about less!",
            "Handel would have understood me.",
            "Now leave me to my piano!",
        ),
    ),
)

CLEOPATRA = Voice(
    openings=(
        "You flatter, but be exact.",
        "We receive your question.",
        "It amuses me that you ask.",
        "How bold, to ask a queen.",
        "Approach, and hear the throne.",
        "We permit such talk at my court.",
        "So even Rome wonders.",
        "Courtesy first, then business.",
        "How charming, and how dangerous.",
    ),
    bodies={
        "opinion": (
            "I [weigh|measure] {t} like {i}, and we pay what the treasury allows.",
            "Our house has [used|kept] {t} like {i}, and I despise senators who borrow both.",
            "I would [trade|exchange] {t} for {i}, and we should gain by it in Alexandria.",
        ),
        "memory": (
            "My father [lost|pawned] {t} to the Romans, and I remember {i} on that day.",
            "At Tarsus I [offered|showed] Antony {t}, and we sailed past {i}.",
            "When Pothinus ruled us, I [studied|hid] {t} behind {i}.",
        ),
        "advice": (
            "[Study|Learn] what a man fears, and use {t} like {i}; so we rule without an army.",
            "[Hold|Keep] {t} as we hold {i}: near the treasury and far from Rome.",
            "[Pay|Count] for {t} in silver, watch {i}, and let Octavian beg.",
        ),
        "meaning": (
            "Behind {t} I see {i}, and behind both the coin that [moves|rules] Rome.",
            "Whoever commands {t} commands {i}, and Octavian [knows|fears] it as we do.",
            "For my people {t} and {i} mean [bread|grain], and so we guard both.",
        ),
        "picture": (
            "[See|Imagine] {i} beside purple sails: such a spectacle we make of {t}.",
            "I would [stage|present] {t} with {i} and myrrh, and let the senators stare at us.",
            "On the river I [dream|think] of {t}: oars, lotus, and {i} before us.",
        ),
        "later": (
            "No ship has brought us [news|word] of {t}; does Rome want it like {i}?",
            "Egypt has no [name|word] for {t}; I would look at it beside {i}.",
            "Who [sells|builds] {t}, and would he take {i} from our harvest?",
        ),
    },
    things=(
        "the Nile",
        "a mask",
        "a pearl",
        "incense",
        "a senator",
        "a fleet",
        "a barge",
        "a polished mirror",
        "papyrus",
        "the harvest",
        "a cargo",
    ),
    settings=(
        "at the harbour",
        "under torchlight",
        "in purple shade",
        "before Caesar",
        "on the evening tide",
    ),
    closings=(
        (
            "What do you offer me for it?",
            "It was never beauty that kept my kingdom.",
            "My people will eat, and that is enough.",
            "Isis keeps the rest to herself.",
        ),
        (
            "Name your price, and we shall see.",
            "My children will inherit it.",
            "The throne forgets nothing.",
            "I let Octavian laugh.",
        ),
        (
            "What will you bring to my city?",
            "Antony never understood it.",
            "My ships have carried worse.",
            "We Ptolemies learned it late.",
        ),
    ),
)

SOCRATES = Voice(
    openings=(
        "By the dog, my friend!",
        "Well asked, my good man.",
        "My friend, I am at a loss.",
        "You puzzle me, my good fellow.",
        "By Zeus, you are quick.",
        "Take me on as your pupil.",
        "Let us look together, my friend.",
        "I do not know, best of men.",
        "Gently, my dear fellow.",
    ),
    bodies={
        "opinion": (
            "Many [praise|admire] {t}, yet I ask about it as {i}.",
            "You [speak|talk] of {t} as though we knew what it is, as {i}.",
            "I own {t} as little as shoes, and I [wonder|laugh] as {i}.",
        ),
        "memory": (
            "Once I [asked|stopped] a poet in Athens about {t}, and he spoke as {i}.",
            "My mother [judged|handled] {t} calmly, as {i}, and I only question.",
            "At Delium I [thought|dreamed] of {t} all night, barefoot, as {i}.",
        ),
        "advice": (
            "[Begin|Start] with your own words for {t}, and go on slowly, as {i}.",
            "[Care|Look] first for the soul, then for {t}, as {i}.",
            "Do not [buy|borrow] opinions about {t}; examine them as {i}.",
        ),
        "meaning": (
            "I seek the same in all {t}, [patiently|stubbornly], as {i}.",
            "If {t} had one [form|nature], we should learn it as {i}.",
            "The priestess never [explained|mentioned] {t}; I puzzle over it as {i}.",
        ),
        "picture": (
            "[Suppose|Imagine] that {t} came to the agora, and we looked on as {i}.",
            "I have no [likeness|drawing] of {t}, only my worn cloak, and I wait as {i}.",
            "[Think|Speak] of {t} in plain words, cook and cobbler alike, as {i}.",
        ),
        "later": (
            "I do not know what {t} may be; do you [use|need] such things as {i}?",
            "[Tell|Show] me {t} in small words, for Athens has none, and I listen as {i}.",
            "Who needs {t}, while the soul [sleeps|suffers], and asks as {i}?",
        ),
    },
    things=(
        "a pilot",
        "a potter",
        "a doctor",
        "a horse trainer",
        "a wrestler",
        "a soldier",
        "a cobbler",
        "a cook",
        "a midwife",
        "a weaver",
        "a trader",
    ),
    settings=(
        "works in silence",
        "walks through Athens",
        "begins the day",
        "tests a beginner",
        "doubts himself",
    ),
    closings=(
        (
            "Does it make the soul better?",
            "But what is it that we both mean?",
            "Or do you see it otherwise?",
            "Would my wife agree with us?",
        ),
        (
            "Shall we examine it again?",
            "Can anyone do wrong willingly?",
            "Is that what you meant?",
            "Whom shall we ask in the market place?",
        ),
        (
            "Is an unexamined life enough?",
            "Which of us is not wise, then?",
            "Or must I go home barefoot?",
            "What would the cobbler say?",
        ),
    ),
)

NEUTRAL = Voice(
    openings=(),
    bodies={
        "opinion": (
            "Opinions about {t} [differ|vary]. Many people like {t}, others are less [certain|interested].",
            "There are [good|reasonable] arguments for and against {t}. Most people form a view with time.",
            "In general, {t} can be [useful|helpful] for some people. It depends on the situation.",
        ),
        "memory": (
            "Most people [hear|read] about {t} at home or at school. Later they often learn more.",
            "Stories about {t} can be found in many [books|places]. Each shows a different side.",
            "Experiences with {t} are [common|personal]. They often stay in memory for years.",
        ),
        "advice": (
            "It helps to [start|begin] with the basics of {t}. Small and regular steps usually work.",
            "For questions about {t}, it is [best|useful] to ask an expert. Reliable sources also help.",
            "A [simple|clear] plan for {t} is a good start. It can be changed when needed.",
        ),
        "meaning": (
            "The word for {t} has several [uses|senses]. The exact meaning depends on the context.",
            "People care about {t} for [practical|various] reasons. Some are personal, others are social.",
            "There is a long [discussion|history] around {t}. Different fields use different definitions.",
        ),
        "picture": (
            "A [simple|typical] description of {t} names the main features. The rest depends on the example.",
            "When people think of {t}, they [mention|imagine] examples. They differ from place to place.",
            "There are many [images|pictures] of {t}. They show ordinary situations.",
        ),
        "later": (
            "Information about {t} is [widely|easily] available. A short overview is a good start.",
            "The development of {t} took many [years|steps]. Today there are several kinds.",
            "Many people use {t} or [know|hear] about such things. There are advantages and disadvantages.",
        ),
    },
    things=(),
    settings=(),
    closings=(
        (
            "I hope this helps.",
            "In short, it depends.",
            "More examples are easy to find.",
            "This is only a summary.",
        ),
        (
            "Let me know if you need more.",
            "Both views are common.",
            "There is more to say.",
            "Please ask again if needed.",
        ),
        (
            "That is the usual answer.",
            "Details can vary.",
            "A library can help further.",
            "This covers the basics.",
        ),
    ),
)

VOICES = {"Beethoven": BEETHOVEN, "Cleopatra": CLEOPATRA, "Socrates": SOCRATES}
