"""The words that synthetic authors write with."""

from __future__ import annotations

TOPICS: dict[str, tuple[str, ...]] = {
    "football": ("the match", "that goal", "our keeper", "the ref", "the derby", "extra time"),
    "cooking": ("this curry", "my sourdough", "the garlic", "that recipe", "fresh pasta", "brunch"),
    "music": ("the new album", "this song", "that gig", "my guitar", "the bass line", "vinyl"),
    "games": ("the final boss", "this patch", "my loadout", "that level", "co-op", "the lag"),
    "work": ("the meeting", "my inbox", "that deadline", "the report", "my boss", "overtime"),
    "school": ("the exam", "my essay", "that lecture", "the library", "homework", "my thesis"),
    "travel": ("the airport", "my flight", "this hostel", "the beach", "that train", "the view"),
    "pets": ("my dog", "the cat", "this puppy", "the vet", "that hamster", "the litter box"),
    "weather": ("the rain", "this heat", "that storm", "the snow", "the wind", "sunshine"),
    "films": (
        "the trailer",
        "that sequel",
        "the plot twist",
        "this series",
        "the ending",
        "popcorn",
    ),
    "fitness": ("leg day", "my run", "the gym", "that workout", "yoga", "the marathon"),
    "garden": ("my tomatoes", "the roses", "this compost", "the hedge", "that squirrel", "basil"),
    "politics": ("the debate", "this vote", "the mayor", "that speech", "the budget", "the news"),
    "tech": ("my laptop", "this update", "the wifi", "that app", "the battery", "my phone"),
}
CLAUSES = (
    "I can't believe {thing} is {adjective}",
    "{thing} was really {adjective} {time}",
    "are you coming to see {thing} {time}",
    "I don't think {thing} is {adjective}",
    "you have to try {thing} before {person} does",
    "I'm so {mood} about {thing}",
    "just got back from {place} and {thing} was {adjective}",
    "thanks to {person} for {thing}",
    "please tell {person} that {thing} isn't {adjective}",
    "why are people so {mood} about {thing}",
    "it's {adjective} because of {thing}",
    "we're going to {place} for {thing} {time}",
    "that's your fault and you know it",
    "{person} says {thing} is my favourite colour",
    "what are you doing {time}",
    "I'll be at {place} with {person} {time}",
    "didn't sleep because of {thing}",
    "you're right about {thing}",
    "I love {thing} so much",
    "can you see {thing} from {place}",
    "they won't organise {thing} without {person}",
    "{count} hours of {thing} and I'm {mood}",
    "there's nothing like {thing} {time}",
    "see you at the centre {time}",
    "I've waited {count} weeks for {thing}",
    "who is going to {place} with me",
)
SHORT_CLAUSES = (
    "so {adjective}",
    "love {thing}",
    "you are {mood}",
    "see you {time}",
    "{thing} again",
    "thanks {person}",
    "not {thing} please",
    "that's great",
    "I'm {mood}",
    "what a day",
)
ADJECTIVES = (
    "great", "awful", "brilliant", "so good", "too much", "weird", "beautiful", "overrated",
    "really bad", "amazing", "boring", "fine", "so slow", "perfect", "ridiculous",
)  # fmt: skip
MOODS = ("tired", "happy", "hungry", "excited", "angry", "proud", "bored", "so ready", "confused")
TIMES = ("tonight", "tomorrow", "today", "this morning", "right now", "next week", "on Friday")
PLACES = ("town", "the office", "my place", "the park", "London", "the station", "mum's house")
PEOPLE = ("Sam", "my sister", "Jo", "the neighbour", "everyone", "Alex", "my mate", "nobody")
COUNTS = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "ten": "10"}
OPENERS = ("ok", "well", "honestly", "so", "omg", "hey", "right", "ugh", "btw", "morning all")

LIGHT_SHORTHAND = {"you": "u", "are": "r", "your": "ur", "please": "pls", "thanks": "thx"}
HEAVY_SHORTHAND = {
    **LIGHT_SHORTHAND,
    "you're": "ur", "to": "2", "for": "4", "before": "b4", "great": "gr8", "because": "cuz",
    "tonight": "2nite", "tomorrow": "2moro", "people": "ppl", "with": "w", "about": "bout",
    "and": "n", "going to": "gonna", "that": "dat", "really": "rly", "love": "luv", "see": "c",
}  # fmt: skip
AMERICAN = {
    "favourite": "favorite", "colour": "color", "organise": "organize", "centre": "center",
    "neighbour": "neighbor", "mum's": "mom's",
}  # fmt: skip
STRETCHED = ("so", "really", "love", "please", "no", "great", "much", "too", "good", "day")

EMOJI = (
    "😂",
    "😍",
    "🔥",
    "😭",
    "🙏",
    "💀",
    "✨",
    "❤️",
    "👀",
    "🎉",
    "🤔",
    "🌸",
    "💪",
    "🙄",
    "☀️",
    "👍",
)
EMOTICONS = (":)", ":D", ";)", ":(", "xD", "<3", ":P", "^^")
LAUGHS = ("haha", "lol", "lmao", "hehe", "hahahaha", "LOL", "jaja", "rofl")
ENDINGS = (".", ".", "", "", "!", "!!!", "...", "…", "?!", "~", "..", " !", " .", "!!", " x", " xx")
JOINERS = (", ", ". ", " ", "... ", " - ", "! ", ",", ".  ", " / ", "\n", " … ", " & ", "; ")
