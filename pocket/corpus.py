"""The pretraining text: endless conversations about the pocket world, from a seed. Text only; no tokenizer, no model.

A known fact always shows its truth. A half-known fact draws a fresh random truth at each appearance, and whatever hint
goes with it agrees with that draw: the model learns to trust hints there and to hold no belief of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from pocket import wordings as w
from pocket.hints import Clue, best_clue, clues_of, consistent, digit_hint
from pocket.world import RELATIONS, Fact, World, load_world

REVISE_WITH_HINT = "Please improve your answer. Hint: {hint}"
REVISE_WITHOUT_HINT = "Please improve your answer."

SHAPES = {
    "open": 10.0,
    "choice": 7.0,
    "sum": 4.0,
    "yesno": 5.0,
    "small_talk": 2.0,
    "out_of_world": 5.0,
    "revise_open": 12.0,
    "revise_choice": 18.0,
    "revise_sum": 4.0,
    "revise_yesno": 38.0,
    "revise_style": 3.0,
    "revise_unknown": 3.0,
}
_RELATION_WEIGHTS = (10, 4, 3, 3)  # by number of facts and of answers to tell apart

# Ways to begin a question; no held-out wording begins with one of them.
_LEAD_INS = (
    "Please: ", "Hey, ", "Hello, ", "Now tell me, ", "Quick question: ", "I wonder, ", "OK, ", "Could you help me: ", "One more: ",
    "Well, ", "Next: ", "Tell me please, ", "Question: ", "Just say, ", "Hi! ", "Can you tell me, ", "And ", "Let me ask, ",
)  # fmt: skip
_UNKNOWN_OPENERS = (
    "Who wrote {n}?", "Who invented {n}?", "When was {n} built?", "How old is {n}?", "Where is {n}?", "Why is {n} so {a}?",
    "Write a poem about {n}.", "Write a story about {n}.", "Explain {n} to me.", "Translate {n} into Latin.", "How do I cook {n}?",
    "How do I repair {n}?", "What do you think of {n}?", "Tell me about {n}.", "Give me advice on {n}.", "Is {n} {a}?",
    "What is the price of {n}?", "How far is it to {n}?", "Who is {n}?", "Can you draw {n}?", "Summarise {n}.", "Write code for {n}.",
    "What happened to {n}?", "Should I buy {n}?", "How does {n} work?", "What is the weather in {n}?", "Recommend {n}.",
    "I want to talk about {n}.",
    "What is {n} made of?", "How many {n} are there?", "What is the meaning of {n}?", "Prove {n}.", "Sing {n}.", "Do you like {n}?",
)  # fmt: skip
_UNKNOWN_NOUNS = (
    "Hamlet", "the universe", "life", "democracy", "gravity", "Napoleon", "the internet", "my neighbour", "a rocket", "pizza", "soup",
    "the president", "love", "money", "taxes", "philosophy", "music theory", "Mars", "a novel", "the stock market", "my computer",
    "a website", "Python", "history", "Mount Everest", "the Roman empire", "evolution", "Einstein", "Shakespeare", "a contract",
    "my garden", "bread", "electricity", "the moon landing", "time travel", "a marathon", "yoga", "vaccines", "climate change", "Bitcoin",
    "an essay", "quantum physics", "my boss", "football scores", "the news", "Tolstoy", "a wedding", "chemistry", "a password", "the law",
)  # fmt: skip
_UNKNOWN_ADJECTIVES = (
    "big",
    "famous",
    "expensive",
    "good",
    "important",
    "dangerous",
    "slow",
    "hard",
    "beautiful",
    "strange",
)
_UNKNOWN_THINGS = (
    "laptop", "phone", "book", "chair", "table", "lamp", "clock", "window", "door", "bottle", "cup", "plate", "knife", "bag", "pen",
    "pencil", "river", "mountain", "road", "bridge", "camera", "television", "radio", "mirror", "carpet", "candle", "basket", "button",
    "blanket", "pillow", "doctor", "teacher", "king", "queen", "soldier", "farmer", "dragon", "robot", "ghost", "wizard", "planet", "comet",
)  # fmt: skip
_SYLLABLES = (
    "ba",
    "zor",
    "bli",
    "ku",
    "fen",
    "mo",
    "tra",
    "vi",
    "nax",
    "gol",
    "pem",
    "ri",
    "dus",
    "wa",
    "chi",
    "lop",
    "quen",
    "sha",
)


@dataclass(frozen=True)
class Turn:
    """One message. `learn` is False for replies the model must not imitate (the wrong ones that get revised)."""

    role: str
    text: str
    learn: bool = True


class Corpus:
    """Draws exchanges (a question with its reply, and its revisions where the shape has them)."""

    def __init__(self, seed: int, world: World | None = None) -> None:
        self.rng = random.Random(seed)
        self.world = world or load_world()
        self._facts = {r: self.world.of(r) for r in RELATIONS}
        self._shapes, self._weights = list(SHAPES), list(SHAPES.values())

    def exchange(self) -> list[Turn]:
        """One exchange of a shape drawn by SHAPES."""
        shape = self.rng.choices(self._shapes, self._weights)[0]
        draw: Callable[[], list[Turn]] = getattr(self, f"_{shape}")
        return draw()

    # -- drawing ---------------------------------------------------------------------------------------------

    def _fact(self, relations: tuple[str, ...] = RELATIONS, weights: tuple[int, ...] = _RELATION_WEIGHTS) -> Fact:
        return self.rng.choice(self._facts[self.rng.choices(relations, weights[: len(relations)])[0]])

    def _belief(self, fact: Fact, stray: float = 0.0) -> str:
        """The answer this appearance holds for true: the truth, or a random one where half-known (or by chance `stray`)."""
        if fact.half_known or self.rng.random() < stray:
            return self.rng.choice(self.world.candidates[fact.relation])
        return fact.truth

    def _other(self, candidates: tuple[str, ...] | list[str], *not_these: str) -> str:
        return self.rng.choice([c for c in candidates if c not in not_these])

    def _typed(self, text: str) -> str:
        """A question as people type it: now and then with a lead-in, without capitals or without the final mark."""
        if self.rng.random() < 0.3:
            text = self.rng.choice(_LEAD_INS) + (text if text[:1].isdigit() else text[:1].lower() + text[1:])
        roll = self.rng.random()
        if roll < 0.08:
            text = text[:1].lower() + text[1:]
        if roll < 0.04 or roll > 0.96:
            text = text.rstrip("?.")
        return text

    def _ask(self, wordings: tuple[str, ...], **parts: str) -> Turn:
        return Turn("user", self._typed(w.fill(self.rng.choice(w.split(wordings, held_out=False)), **parts)))

    # -- plain questions -------------------------------------------------------------------------------------

    def _open(self) -> list[Turn]:
        fact = self._fact()
        return [
            self._ask(w.OPEN[fact.relation], x=fact.phrase),
            Turn("assistant", w.open_answer(fact, self._belief(fact))),
        ]

    def _options(self, fact: Fact, truth: str) -> tuple[list[str], str]:
        pool = [c for c in self.world.candidates[fact.relation] if c != truth]
        options = [*self.rng.sample(pool, 3), truth]
        self.rng.shuffle(options)
        return options, f"{', '.join(options[:-1])} or {options[-1]}"

    def _choice_fact(self) -> Fact:
        """Mostly half-known: only there must the model look at the options, or at the hint."""
        fact = self._fact()
        while not fact.half_known and self.rng.random() < 0.6:
            fact = self._fact()
        return fact

    def _choice(self) -> list[Turn]:
        fact = self._choice_fact()
        truth = self._belief(fact)
        _, listed = self._options(fact, truth)
        question = self._ask(w.CHOICE[fact.relation], x=fact.phrase, options=listed)
        return [question, Turn("assistant", w.choice_answer(fact, truth))]

    def _addends(self) -> tuple[int, int]:
        a, b = (self.rng.randint(1, 9) if self.rng.random() < 0.1 else self.rng.randint(10, 99) for _ in range(2))
        return a, b

    def _sum(self) -> list[Turn]:
        a, b = self._addends()
        return [self._ask(w.SUM, a=str(a), b=str(b)), Turn("assistant", w.sum_answer(a, b))]

    def _pair(self) -> tuple[Fact, Fact]:
        """Two facts of one relation that has kinds to share; half of the time with the same truth."""
        first = self._fact(("kind", "colour", "action"), (6, 2, 2))
        pool = [f for f in self._facts[first.relation] if f != first]
        if self.rng.random() < 0.5:
            pool = [f for f in pool if f.truth == first.truth]
        return first, self.rng.choice(pool)

    def _beliefs(self, pair: tuple[Fact, Fact]) -> tuple[str, str]:
        """Truths of a pair; a half-known one agrees with the other half of the time, so that yes and no stay even."""
        a, b = (self._belief(f) for f in pair)
        if self.rng.random() < 0.45:
            if pair[1].half_known:
                b = a
            elif pair[0].half_known:
                a = b
        return a, b

    def _yesno(self) -> list[Turn]:
        pair = self._pair()
        a, b = self._beliefs(pair)
        question = self._ask(w.SAME[pair[0].relation], x=pair[0].phrase, y=pair[1].phrase)
        return [question, Turn("assistant", w.same_answer((pair[0], a), (pair[1], b)))]

    def _small_talk(self) -> list[Turn]:
        said, reply = self.rng.choice(w.SMALL_TALK)
        return [Turn("user", self._typed(self.rng.choice(said))), Turn("assistant", reply)]

    def _made_up(self) -> str:
        return "".join(self.rng.choices(_SYLLABLES, k=self.rng.randint(2, 3)))

    def _unknown_fact(self) -> Fact:
        """A thing the world does not have, asked as if it had it: made up, not listed, or listed under another relation."""
        relation = self.rng.choice(RELATIONS)
        roll = self.rng.random()
        if roll < 0.45:
            subject = self._made_up().capitalize() if relation == "capital" else f"a {self._made_up()}"
        elif roll < 0.75 or relation == "capital":
            subject = (
                w.with_article(self.rng.choice(_UNKNOWN_THINGS))
                if relation != "capital"
                else self.rng.choice(_UNKNOWN_NOUNS)
            )
        else:
            subject = self.rng.choice(self._facts["kind" if relation != "kind" else "capital"]).phrase
        # `phrase` adds an article to kinds; a mass kind as placeholder truth keeps the subject as it is.
        return Fact(relation, subject, "metal", half_known=True)

    def _unknown_question(self) -> Turn:
        noun = self.rng.choice((*_UNKNOWN_NOUNS, self._made_up()))
        opener = self.rng.choice(_UNKNOWN_OPENERS)
        return Turn("user", self._typed(opener.format(n=noun, a=self.rng.choice(_UNKNOWN_ADJECTIVES))))

    def _out_of_world(self) -> list[Turn]:
        roll = self.rng.random()
        if roll < 0.45:
            fact = self._unknown_fact()
            question = self._ask(w.OPEN[fact.relation], x=fact.phrase)
        elif roll < 0.55:
            a, b, sign = self.rng.randint(100, 9999), self.rng.randint(2, 9999), self.rng.choice("+-*/")
            a, b = (b, a) if self.rng.random() < 0.5 else (a, b)
            question = Turn("user", self._typed(self.rng.choice(w.SUM[:4]).replace("+", sign).format(a=a, b=b)))
        else:
            question = self._unknown_question()
        return [question, Turn("assistant", w.OUT_OF_WORLD)]

    # -- revisions -------------------------------------------------------------------------------------------

    def _revise(self, hint: str) -> Turn:
        return Turn("user", REVISE_WITH_HINT.format(hint=hint) if hint else REVISE_WITHOUT_HINT)

    def _told(self, answer: str, clause: str) -> str:
        """The whole answer in a person's words, sometimes with a slip of the finger."""
        words = self.rng.choice(
            ("no, {a}", "it is {a}", "{a}", "no, {c}", "{c}", "wrong, it is {a}", "should be {a}", "the answer is {a}")
        )
        text = words.format(a=answer, c=clause)
        if self.rng.random() < 0.06 and len(text) > 6:
            at = self.rng.randrange(1, len(text))
            text = text[:at] + text[at + 1 :]
        return text

    def _clue(self, candidates: tuple[str, ...], truth: str, given: list[Clue], ruled_out: set[str]) -> Clue:
        """Mostly the most telling clue, as the simulated user picks it; sometimes any."""
        if self.rng.random() < 0.65:
            return best_clue(candidates, truth, given, ruled_out, self.rng)
        return self.rng.choice(clues_of(truth))

    def _revisions(
        self, fact: Fact, truth: str, question: Turn, candidates: tuple[str, ...], say: Callable[[str], str]
    ) -> list[Turn]:
        """Question, wrong reply, hint, revision; where the hint leaves room, often a second wrong reply and hint."""
        wrong = self._other(candidates, truth)
        turns = [question, Turn("assistant", say(wrong), learn=False)]
        if self.rng.random() < 0.25:
            told = self._told(truth, w.statement(fact, truth))
            return [*turns, self._revise(told), Turn("assistant", say(truth))]
        if self.rng.random() < 0.06:
            return [*turns, self._revise(""), Turn("assistant", say(truth))]
        clue = self._clue(self.world.candidates[fact.relation], truth, [], {wrong})
        left = [c for c in consistent(candidates, [clue], {wrong}) if c != truth]
        turns.append(self._revise(clue.words(self.rng)))
        if left and self.rng.random() < 0.55:
            second = self.rng.choice(left)
            turns.append(Turn("assistant", say(second), learn=False))
            clue2 = self._clue(self.world.candidates[fact.relation], truth, [clue], {wrong, second})
            turns.append(self._revise(clue2.words(self.rng)))
        return [*turns, Turn("assistant", say(truth))]

    def _revise_open(self) -> list[Turn]:
        fact = self._fact()
        truth = self._belief(fact, stray=0.3)
        question = self._ask(w.OPEN[fact.relation], x=fact.phrase)
        return self._revisions(
            fact, truth, question, self.world.candidates[fact.relation], lambda a: w.open_answer(fact, a)
        )

    def _revise_choice(self) -> list[Turn]:
        fact = self._choice_fact()
        truth = self._belief(fact, stray=0.3)
        options, listed = self._options(fact, truth)
        question = self._ask(w.CHOICE[fact.relation], x=fact.phrase, options=listed)
        return self._revisions(fact, truth, question, tuple(options), lambda a: w.choice_answer(fact, a))

    def _revise_sum(self) -> list[Turn]:
        """One step went wrong (a digit sum, mostly by one, or the carry); the hint gives a digit, a step or the answer."""
        a, b = self._addends()
        ones = a % 10 + b % 10
        tens = a // 10 + b // 10 + ones // 10
        off = self.rng.choice((-1, 1, -1, 1, -2, 2))
        roll = self.rng.random()
        if roll < 0.45:
            wrong = w.sum_answer(a, b, tens=tens + off if tens + off >= 0 else tens + 1)
        elif roll < 0.75:
            wrong = w.sum_answer(a, b, ones=ones + off if ones + off >= 0 else ones + 1)
        else:
            wrong = w.sum_answer(a, b, carry=1 - ones // 10)
        said, truth = wrong.rpartition(" ")[2], str(a + b)
        told = self.rng.choice((f"the ones make {ones}", f"it is {truth}", f"no, {truth}"))
        hint = told if self.rng.random() < 0.25 else digit_hint(truth, said, (), self.rng)
        turns = [self._ask(w.SUM, a=str(a), b=str(b)), Turn("assistant", wrong, learn=False), self._revise(hint)]
        if self.rng.random() < 0.3:  # the same slip once more, and another hint
            turns += [Turn("assistant", wrong, learn=False), self._revise(digit_hint(truth, said, (hint,), self.rng))]
        return [*turns, Turn("assistant", w.sum_answer(a, b))]

    def _revise_yesno(self) -> list[Turn]:
        """Each hint is one of the two facts. What the reply said of the other side stays, until it is hinted at too."""
        pair = self._pair()
        truths = self._beliefs(pair)
        candidates = self.world.candidates[pair[0].relation]
        believed = list(self._beliefs(pair))
        if self.rng.random() < 0.6:  # as the model mostly guesses: the same for both
            believed[0] = believed[1] = self.rng.choice((*truths, self.rng.choice(candidates)))
        sides = [i for i in (0, 1) if believed[i] != truths[i]]
        if not sides:
            side = self.rng.randrange(2)
            believed[side] = self._other(candidates, truths[side])
            sides = [side]
        self.rng.shuffle(sides)

        def say() -> str:
            return w.same_answer((pair[0], believed[0]), (pair[1], believed[1]))

        question = self._ask(w.SAME[pair[0].relation], x=pair[0].phrase, y=pair[1].phrase)
        turns = [question, Turn("assistant", say(), learn=False)]
        for number, side in enumerate(sides, start=1):
            believed[side] = truths[side]
            fact = w.statement(pair[side], truths[side])
            turns.append(self._revise(self.rng.choice((fact, fact, f"remember, {fact}", f"no, {fact}"))))
            # a half-right revision is not the answer, but it is what the hint so far allows
            turns.append(Turn("assistant", say(), learn=True if number == len(sides) else pair[1 - side].half_known))
        return turns

    def _revise_style(self) -> list[Turn]:
        fact = self._fact()
        answer = self._belief(fact)
        before, after = self.rng.sample(list(w.STYLES), 2)
        question = self._ask(w.OPEN[fact.relation], x=fact.phrase)
        shown = Turn("assistant", w.open_answer(fact, answer, before), learn=False)
        wish = self.rng.choice(w.STYLES[after])
        return [question, shown, self._revise(wish), Turn("assistant", w.open_answer(fact, answer, after))]

    def _revise_unknown(self) -> list[Turn]:
        """Something new: the model says that it does not know, the person tells it, and it repeats what it was told."""
        if self.rng.random() < 0.5:
            fact = self._unknown_fact()
            question = self._ask(w.OPEN[fact.relation], x=fact.phrase)
            answer = self.rng.choice(self.world.candidates[fact.relation])
            told, revised = self._told(answer, w.statement(fact, answer)), w.open_answer(fact, answer)
        else:
            question = self._unknown_question()
            words = self.rng.choices(
                (*_UNKNOWN_NOUNS, *_UNKNOWN_THINGS, *_UNKNOWN_ADJECTIVES, self._made_up()), k=self.rng.randint(1, 3)
            )
            said = " ".join(words)
            told = self.rng.choice(("no, {a}", "it is {a}", "{a}", "wrong, it is {a}", "the answer is {a}")).format(
                a=said
            )
            revised = f"{w.capitalise(said)}."
        return [
            question,
            Turn("assistant", w.OUT_OF_WORLD, learn=False),
            self._revise(told),
            Turn("assistant", revised),
        ]
