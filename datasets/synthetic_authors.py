"""Synthetic authors of short texts: people with habits that show in nearly everything they write.

An author is a draw from one shared space of habits (`Habits`): case, spelling, apostrophes, the way
of joining and of ending sentences, emoji, laughter, hashtags, topics, length. All authors draw from
the same lists, independently of each other, so what a model learns on some of them holds for
others. A habit shows in most, not in all of an author's texts (`_FAITH`), and single habits are
common to many authors: only several of them together tell two authors apart.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

import vocabulary as words

MAX_LENGTH = 280
MEAN_LENGTH = 83
"""Characters of the average text; real tweets have about as many."""
_FAITH = 0.93
"""How often an author keeps to a habit."""
_SIGMA_OF_AUTHORS = 0.30
_SIGMA_OF_TEXTS = 0.35
_ROOM_FOR_TAIL = 60
_TYPOGRAPHIC = "\N{RIGHT SINGLE QUOTATION MARK}"
_WORD = re.compile(r"[\w']+")


@dataclass(frozen=True)
class Habits:
    """How one author writes."""

    case: Literal["sentence", "lower", "upper", "title", "shouting"]
    shorthand: Mapping[str, str]
    """Words and how the author writes them instead."""
    apostrophe: str
    """What stands in "don't": straight, typographic or nothing."""
    american: bool
    digits: bool
    """Writes 3 for three."""
    stretch: int
    """Extra letters in words like "so"; 0 for an author who does not stretch words."""
    joiner: str
    """What stands between two sentences."""
    ending: str
    """What stands after the last one."""
    laugh: str
    emoji: str
    """What the text is signed with; may be empty."""
    emoji_count: int
    hashtags: Literal["no", "lower", "camel"]
    opener: str
    topics: tuple[str, ...]
    mean_length: float


def draw_habits(rng: Random) -> Habits:
    """Draws one author."""
    sign = rng.choices(("", rng.choice(words.EMOJI), rng.choice(words.EMOTICONS)), (35, 45, 20))[0]
    # The mean of a log-normal variable is exp(mu + sigma^2 / 2).
    mu = math.log(MEAN_LENGTH) - (_SIGMA_OF_AUTHORS**2 + _SIGMA_OF_TEXTS**2) / 2
    return Habits(
        case=rng.choices(("sentence", "lower", "upper", "title", "shouting"), (34, 34, 10, 10, 12))[
            0
        ],
        shorthand=rng.choices(({}, words.LIGHT_SHORTHAND, words.HEAVY_SHORTHAND), (45, 25, 30))[0],
        apostrophe=rng.choices(("'", _TYPOGRAPHIC, ""), (45, 20, 35))[0],
        american=rng.random() < 0.5,
        digits=rng.random() < 0.5,
        stretch=rng.choices((0, 2, 4), (60, 20, 20))[0],
        joiner=rng.choice(words.JOINERS),
        ending=rng.choice(words.ENDINGS),
        laugh=rng.choice(words.LAUGHS) if rng.random() < 0.4 else "",
        emoji=sign,
        emoji_count=rng.choices((1, 2, 3), (60, 15, 25))[0],
        hashtags=rng.choices(("no", "lower", "camel"), (70, 15, 15))[0],
        opener=rng.choice(words.OPENERS) if rng.random() < 0.3 else "",
        topics=tuple(rng.sample(sorted(words.TOPICS), 2)),
        mean_length=math.exp(rng.gauss(mu, _SIGMA_OF_AUTHORS)),
    )


def write_text(habits: Habits, rng: Random) -> str:
    """One text of the author, at most 280 characters long."""
    aimed = habits.mean_length * math.exp(rng.gauss(0, _SIGMA_OF_TEXTS))
    body_length = min(aimed, MAX_LENGTH) - len(_TAIL_OF_AVERAGE)
    sentences: list[str] = []
    if habits.opener and _keeps(rng):
        sentences.append(habits.opener)
    length = 0.0
    while not sentences or length < body_length:
        room = body_length - length
        sentence = _spell(_draw_sentence(habits, rng, is_short=room < 24), habits, rng)
        total = length + len(sentence) + len(habits.joiner)
        too_far = total - body_length > body_length - length
        if length and (too_far or total > MAX_LENGTH - _ROOM_FOR_TAIL):
            break
        sentences.append(sentence)
        length = total
    case = habits.case if _keeps(rng) else "sentence"
    body = (habits.joiner if _keeps(rng) else ". ").join(
        _set_case(sentence, case, rng) for sentence in sentences
    )
    text = body + _tail(habits, rng)
    return text if len(text) <= MAX_LENGTH else body[:MAX_LENGTH]


_TAIL_OF_AVERAGE = "! 😂 #word"


def _tail(habits: Habits, rng: Random) -> str:
    """What stands after the last sentence: its ending, laughter, a hashtag, the signature."""
    tail = habits.ending if _keeps(rng) else rng.choice(words.ENDINGS)
    if habits.laugh and rng.random() < 0.7:
        tail += " " + habits.laugh
    if habits.hashtags != "no" and rng.random() < 0.8:
        tag = rng.choice(habits.topics) + rng.choice(("", "life", "fail", "time"))
        tail += " #" + (tag if habits.hashtags == "lower" else tag.title())
    if habits.emoji and _keeps(rng):
        tail += " " + habits.emoji * habits.emoji_count
    return tail


def _draw_sentence(habits: Habits, rng: Random, *, is_short: bool) -> str:
    topic = rng.choice(habits.topics) if _keeps(rng) else rng.choice(sorted(words.TOPICS))
    count = rng.choice(sorted(words.COUNTS))
    return rng.choice(words.SHORT_CLAUSES if is_short else words.CLAUSES).format(
        thing=rng.choice(words.TOPICS[topic]),
        adjective=rng.choice(words.ADJECTIVES),
        mood=rng.choice(words.MOODS),
        time=rng.choice(words.TIMES),
        place=rng.choice(words.PLACES),
        person=rng.choice(words.PEOPLE),
        count=words.COUNTS[count] if habits.digits else count,
    )


def _spell(sentence: str, habits: Habits, rng: Random) -> str:
    """Writes the words as the author does."""
    replaced = dict(habits.shorthand) if _keeps(rng) else {}
    if habits.american:
        replaced |= words.AMERICAN
    if "going to" in replaced:
        sentence = re.sub(r"going to (?!the|my|town|London|mum)", "gonna ", sentence)
    stretched = rng.choice(words.STRETCHED) if habits.stretch else ""

    def spell(match: re.Match[str]) -> str:
        word = replaced.get(match[0], match[0])
        if stretched and word in words.STRETCHED and _keeps(rng):
            word += word[-1] * habits.stretch
        return word

    return _WORD.sub(spell, sentence).replace("'", habits.apostrophe if _keeps(rng) else "'")


def _set_case(sentence: str, case: str, rng: Random) -> str:
    match case:
        case "lower":
            return sentence.lower()
        case "upper":
            return sentence.upper()
        case "title":
            return " ".join(word[:1].upper() + word[1:] for word in sentence.split(" "))
        case "shouting":
            loud = rng.randrange(sentence.count(" ") + 1)
            shouted = (
                word.upper() if index == loud else word
                for index, word in enumerate(sentence.split(" "))
            )
            return " ".join(shouted)
    return sentence[:1].upper() + sentence[1:]


def _keeps(rng: Random) -> bool:
    """Whether the author keeps to a habit this time."""
    return rng.random() < _FAITH
