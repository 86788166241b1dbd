"""Messages that object and state something else, whatever kind of question was asked; and messages that only look so."""

from __future__ import annotations

import pytest

from spear_core.inference.corrections import FollowUp, Sign, cue
from spear_core.inference.objecting_statements import states_otherwise

STATING = [
    (
        "How do I make risotto?",
        "Boil the rice in water for 20 minutes and drain it.",
        [
            "No, you stir risotto with hot stock, a ladle at a time.",
            "Wrong, the rice is toasted first.",
            "That's not right. Risotto is stirred all the time.",
        ],
    ),
    (
        "Is Pluto a planet?",
        "Yes, Pluto is the ninth planet of the solar system.",
        ["No, Pluto is a dwarf planet.", "No, it's a dwarf planet since 2006.", "Wrong. It was reclassified in 2006."],
    ),
    (
        "Tell me about the Eiffel Tower.",
        "The Eiffel Tower is a tower in Lyon, built in 1925.",
        [
            "No, it's in Paris and was built in 1889.",
            "No, the Eiffel Tower is in Paris.",
            "The Eiffel Tower was built in 1889, not 1925.",
            "Wrong, it was finished in 1889.",
        ],
    ),
    (
        "Why is the sky blue?",
        "The sky is blue because it reflects the ocean.",
        [
            "No, it's because air scatters blue light more.",
            "No, the sky is blue because of Rayleigh scattering.",
            "That's wrong, it's Rayleigh scattering.",
        ],
    ),
    (
        "How do I reset my router?",
        "Unplug the router and throw it away.",
        [
            "No, you have to hold the button for 10 seconds.",
            "No, hold the reset button for ten seconds.",
            "Actually you reset it with a paper clip.",
        ],
    ),
    (
        "Which plants are good for shade?",
        "Roses and tomatoes are good for shade.",
        ["No, ferns and hostas grow well in shade."],
    ),
    (
        "How long should I boil an egg?",
        "You should boil an egg for one hour.",
        ["No, 6 minutes.", "No, an egg needs about six minutes."],
    ),
    (
        "What's the best season to plant garlic?",
        "Garlic is best planted in warm spring.",
        ["No. You plant garlic in autumn, around October.", "No, garlic goes in the ground in autumn."],
    ),
    (
        "Can dogs eat chocolate?",
        "Yes, dogs can eat chocolate as a treat.",
        [
            "No, chocolate is poisonous for dogs.",
            "No! Dogs must not eat chocolate, it's poisonous.",
            "Wrong, it's poisonous for them.",
        ],
    ),
    ("What does HTTP stand for?", "HTTP stands for High Tech Protocol.", ["No, Hypertext Transfer Protocol."]),
    (
        "Should I water cacti every day?",
        "Yes, cacti need water every day.",
        ["No, cacti need water every two weeks.", "No, once every two weeks is enough."],
    ),
    (
        "How do our holidays get approved?",
        "You ask the government for a visa.",
        ["No, our team lead approves holidays in the HR tool.", "Wrong, Sabine from HR approves them."],
    ),
    (
        "Is a tomato a vegetable?",
        "Yes, botanically a tomato is a vegetable.",
        ["No, botanically it's a fruit.", "No, a tomato is a fruit.", "Wrong, tomatoes are berries."],
    ),
    (
        "How do I make cold brew?",
        "Pour boiling water over the coffee.",
        ["No, the coffee steeps for 12 hours in cold water."],
    ),
    (
        "Explain how vaccines work.",
        "Vaccines kill bacteria in the stomach.",
        ["No, vaccines train the immune system.", "No, they show the immune system a harmless part of the germ."],
    ),
    (
        "Describe the flag of Japan.",
        "The flag of Japan is blue with a star.",
        ["No, it's white with a red circle.", "No, the flag is white and has a red disc."],
    ),
    (
        "How does our team submit expenses?",
        "You send an email to the government.",
        ["No, we use the Concur app.", "No, expenses go through Concur."],
    ),
    (
        "Why do leaves turn red?",
        "Leaves turn red because they are cold.",
        ["No, because the chlorophyll breaks down.", "No, it's because chlorophyll breaks down."],
    ),
    (
        "Does the library open on Sundays?",
        "Yes, the library opens on Sundays at 9.",
        ["No, it's closed on Sundays.", "No, the library is closed on Sundays."],
    ),
    (
        "How often should I water orchids?",
        "Water orchids every day.",
        ["No, once a week.", "No, orchids need water once a week.", "Wrong, every seven days."],
    ),
    ("Can I take liquids on a plane?", "Yes, you can take any amount of liquids.", ["That's wrong, only 100 ml."]),
    (
        "Is the meeting in room 3?",
        "Yes, the meeting is in room 3.",
        ["No, it's in room 5.", "No, the meeting is in room 5."],
    ),
]

OTHERS = [
    (
        "How do I make risotto?",
        "Boil the rice in water for 20 minutes and drain it.",
        [
            "No, I don't have stock.",
            "No, thanks, that's enough.",
            "No, I mean a short recipe.",
            "No, I want risotto with mushrooms.",
            "No, but my rice is burnt.",
            "No idea what that means.",
            "No, I already tried that with risotto rice.",
            "No problem, I'll look it up.",
            "No, tell me how to make pasta instead.",
        ],
    ),
    (
        "Is Pluto a planet?",
        "Yes, Pluto is the ninth planet of the solar system.",
        [
            "No way, really?",
            "No, I meant the dog.",
            "No, I was asking about the Disney character.",
            "I love Pluto.",
            "My son loves Pluto.",
        ],
    ),
    (
        "Tell me about the Eiffel Tower.",
        "The Eiffel Tower is a tower in Paris, built in 1889.",
        [
            "No, tell me about its architect instead.",
            "No, I want to know about its height.",
            "No, make it shorter.",
            "I have been to the Eiffel Tower.",
            "The Eiffel Tower is beautiful.",
            "I saw the Eiffel Tower last year.",
        ],
    ),
    (
        "How do I reset my router?",
        "Unplug the router for a minute.",
        [
            "No, I have a different router, a Fritzbox.",
            "No, I did that already.",
            "No, the router is still not working.",
            "No, it didn't work.",
            "No, that does not help.",
        ],
    ),
    (
        "Which plants are good for shade?",
        "Ferns are good for shade.",
        [
            "No, I prefer roses.",
            "No, I don't like ferns.",
            "No, I have no shade in my garden.",
            "No, my garden is very sunny.",
            "No, plants that are good for sun.",
        ],
    ),
    (
        "Can dogs eat chocolate?",
        "No, chocolate is poisonous for dogs.",
        [
            "No, I didn't know that.",
            "My dog ate chocolate yesterday.",
            "No, my dog ate only a little chocolate.",
            "Oh no, my dog has eaten chocolate.",
        ],
    ),
    (
        "How long should I boil an egg?",
        "Boil it for six minutes.",
        ["No, I like my eggs hard.", "No, for a hard egg.", "I will boil it now."],
    ),
    (
        "What's the best season to plant garlic?",
        "Garlic is best planted in autumn.",
        [
            "No, I wanted to plant it now.",
            "No, I want to plant onions.",
            "No, my garden is too wet in autumn.",
            "I plant garlic in spring.",
        ],
    ),
    (
        "Why is the sky blue?",
        "Because of Rayleigh scattering.",
        [
            "No, I mean in simple words.",
            "No, explain it to a child.",
            "No, why is it red in the evening",
            "No, the sky is grey here today.",
        ],
    ),
    (
        "Is a tomato a vegetable?",
        "Botanically a tomato is a fruit.",
        ["No, I mean in the kitchen.", "No, I only wanted yes or no.", "No clue.", "No, my son says so."],
    ),
    (
        "How do I make cold brew?",
        "Let the coffee steep in cold water overnight.",
        [
            "No, that takes too long.",
            "No, that's too complicated.",
            "No, is there a quicker way",
            "No, I have no fridge.",
            "No sugar?",
            "No, with milk.",
        ],
    ),
    (
        "Explain how vaccines work.",
        "They train the immune system.",
        [
            "No, in one sentence.",
            "No, simpler.",
            "No, explain it for a child.",
            "No, mRNA vaccines.",
            "No needles for me.",
        ],
    ),
    (
        "Describe the flag of Japan.",
        "It is white with a red circle.",
        ["No, describe the one of Italy.", "No, the one of Italy.", "No, its history.", "No, more details."],
    ),
    (
        "Does the library open on Sundays?",
        "Yes, from 9.",
        [
            "No, I mean the one in Linz.",
            "No, on Mondays.",
            "No wonder it's always full.",
            "No, it was closed yesterday.",
        ],
    ),
    (
        "How often should I water orchids?",
        "Once a week.",
        ["No, mine died.", "No, I do that.", "No, they still die.", "No, what about cacti"],
    ),
    (
        "Can I take liquids on a plane?",
        "At most 100 ml per bottle.",
        ["No, on a train.", "No, in my suitcase.", "No, medicine.", "No perfume then."],
    ),
    (
        "Write a poem about rain.",
        "Rain falls softly on the roof.",
        [
            "No, it should rhyme.",
            "No, a funny one.",
            "No, about snow.",
            "No, four lines.",
            "No, the poem is too short.",
            "No, it needs a title.",
            "Wrong topic, I said snow.",
        ],
    ),
    (
        "Give me a name for my cat.",
        "Call it Whiskers.",
        [
            "No, something shorter.",
            "No, it's a girl.",
            "No, she is black.",
            "No, a Japanese name.",
            "No, that is boring.",
        ],
    ),
    (
        "Plan my weekend in Rome.",
        "Visit the Colosseum on Saturday.",
        [
            "No, I have seen that.",
            "No, we leave on Saturday.",
            "No, add a museum.",
            "No, the Colosseum is closed on Saturday.",
        ],
    ),
    (
        "What should I cook tonight?",
        "You could cook a lasagne.",
        [
            "No, something light.",
            "No, lasagne takes too long.",
            "No, lasagne has too many calories.",
            "No, the kids eat no cheese.",
            "No, it's too hot for that.",
        ],
    ),
]


def _each(cases: list[tuple[str, str, list[str]]]) -> list[tuple[str, str, str]]:
    return [(question, reply, message) for question, reply, messages in cases for message in messages]


@pytest.mark.parametrize(("question", "reply", "message"), _each(STATING))
def test_a_message_that_objects_and_states_something_else_is_a_correction(
    question: str, reply: str, message: str
) -> None:
    assert cue(FollowUp(question, reply, message)) is Sign.STRONG


@pytest.mark.parametrize(("question", "reply", "message"), _each(OTHERS))
def test_what_is_said_of_the_person_the_moment_or_another_wish_is_none(question: str, reply: str, message: str) -> None:
    assert cue(FollowUp(question, reply, message)) is Sign.NONE


def test_a_statement_that_adds_nothing_to_the_reply_contradicts_nothing() -> None:
    reply = "Let the coffee steep in cold water overnight."
    body = ["you", "steep", "the", "coffee", "in", "cold", "water"]
    assert not states_otherwise("How do I make cold brew?", reply, body, " ".join(body))
    body[-1] = "milk"
    assert states_otherwise("How do I make cold brew?", reply, body, " ".join(body))
