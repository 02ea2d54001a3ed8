"""The words of the small invented world: whoever lives there, what they own, and which words have two meanings.

The vocabulary is closed and common, so that a model of a million parameters can learn all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

WOMEN = ("Anna", "Mia", "Nora", "Lena", "Ruth", "Ida", "Vera", "Tess", "Clara", "June", "Rosa", "Maud")
MEN = ("Tom", "Ben", "Karl", "Otto", "Hugo", "Paul", "Finn", "Jack", "Emil", "Max", "Leo", "Abel")
TOWNS = ("Arlow", "Dunby", "Keth", "Morwick", "Tarn", "Vellis", "Oxley", "Pell", "Sundor", "Halver", "Quill", "Brent")
LANDMARKS = ("mill", "school", "bridge", "market", "port", "tower", "church", "station")
PETS = ("cat", "dog", "goat", "horse", "duck", "rabbit")
COLOURS = ("red", "blue", "green", "white", "black", "brown")
THINGS = ("boat", "cart", "hat", "lamp", "chair", "coat", "drum", "clock", "kite", "bell")
FOODS = ("soup", "bread", "cake", "fish", "rice", "plums", "cheese", "honey")


@dataclass(frozen=True)
class Job:
    """A trade: its noun, what one who has it does, and what others come to them for."""

    noun: str
    work: str
    remedy: str


JOBS = (
    Job("baker", "bakes bread", "a cake"),
    Job("farmer", "grows corn", "a sack of corn"),
    Job("doctor", "helps the sick", "a cure"),
    Job("fisher", "catches fish", "a fresh fish"),
    Job("tailor", "sews clothes", "a new coat"),
    Job("smith", "works with iron", "a horse shoe"),
    Job("painter", "paints pictures", "a picture"),
    Job("writer", "writes books", "a book"),
    Job("builder", "builds houses", "a new roof"),
    Job("guide", "leads travellers", "a map"),
)


@dataclass(frozen=True)
class Ambiguous:
    """A word with two meanings, and sentences for each; `{a}` is a person, `{t}` a town, the word is in brackets."""

    word: str
    first: tuple[str, ...]
    second: tuple[str, ...]


AMBIGUOUS = (
    Ambiguous(
        "bank",
        ("{a} sat on the [bank] of the river.", "Ducks sleep on the [bank] near {t}.", "The river [bank] is wet."),
        ("{a} keeps money in the [bank].", "The [bank] in {t} lends money.", "A thief robbed the [bank] of {a}."),
    ),
    Ambiguous(
        "bat",
        (
            "A [bat] flew out of the cave near {t}.",
            "{a} saw a [bat] hang in the dark.",
            "The [bat] eats moths at night.",
        ),
        ("{a} hit the ball with a [bat].", "The team of {t} bought a new [bat].", "The wooden [bat] of {a} broke."),
    ),
    Ambiguous(
        "bark",
        (
            "The [bark] of the old tree is rough.",
            "{a} cut the [bark] off the oak.",
            "Bugs live under the [bark] in {t}.",
        ),
        ("The dog of {a} has a loud [bark].", "{a} heard the [bark] of a dog.", "The [bark] of the dog woke up {t}."),
    ),
    Ambiguous(
        "ring",
        ("{a} wears a gold [ring].", "{a} lost the wedding [ring] in {t}.", "The [ring] fits on the finger."),
        ("{a} waits for the [ring] of the bell.", "The [ring] of the phone woke {a}.", "All of {t} heard the [ring]."),
    ),
    Ambiguous(
        "match",
        (
            "{a} lit the fire with a [match].",
            "The wet [match] did not burn.",
            "{a} bought a box and took out a [match].",
        ),
        (
            "{a} won the tennis [match].",
            "{t} lost the [match] by two goals.",
            "The [match] between the teams was long.",
        ),
    ),
    Ambiguous(
        "spring",
        ("Flowers open in [spring].", "{a} plants corn in [spring].", "In {t}, [spring] comes after winter."),
        (
            "The [spring] of the clock broke.",
            "{a} put a steel [spring] in the bed.",
            "A [spring] closes the gate of {a}.",
        ),
    ),
    Ambiguous(
        "watch",
        ("{a} looked at the [watch] to see the time.", "The gold [watch] is slow.", "{a} bought a [watch] in {t}."),
        (
            "The soldiers of {t} keep [watch] at night.",
            "{a} is on [watch] by the gate.",
            "The guard took the first [watch].",
        ),
    ),
    Ambiguous(
        "wave",
        ("A high [wave] hit the boat.", "The [wave] threw {a} into the sea.", "A [wave] washed over the port of {t}."),
        ("{a} said goodbye with a [wave].", "A [wave] of the hand stopped {a}.", "{a} gave the crowd a happy [wave]."),
    ),
    Ambiguous(
        "nail",
        ("{a} drove a [nail] into the wall.", "The iron [nail] holds the board.", "A smith in {t} made the [nail]."),
        (
            "{a} broke a [nail] on the left thumb.",
            "The [nail] of the toe hurts {a}.",
            "{a} painted every [nail] on the hand red.",
        ),
    ),
    Ambiguous(
        "seal",
        ("A [seal] swam near the boat.", "The [seal] eats fish on the ice.", "{a} fed a [seal] in the sea near {t}."),
        ("{a} broke the [seal] of the letter.", "The king put the [seal] on the law.", "The wax [seal] of {t} is red."),
    ),
    Ambiguous(
        "trunk",
        (
            "The elephant drinks with its [trunk].",
            "The [trunk] of the elephant is long.",
            "The elephant in {t} lifts its [trunk].",
        ),
        (
            "{a} packed clothes in a [trunk].",
            "The heavy [trunk] was full of coats.",
            "{a} locked the [trunk] in the attic.",
        ),
    ),
    Ambiguous(
        "letter",
        ("{a} wrote a [letter] to {t}.", "The [letter] came by post.", "{a} read the [letter] from a friend."),
        (
            "The word starts with the [letter] B.",
            "{a} learned the last [letter] of the alphabet.",
            "A is the first [letter].",
        ),
    ),
    Ambiguous(
        "light",
        (
            "The [light] of the sun is bright.",
            "{a} read by the [light] of a lamp.",
            "A [light] shone from the tower of {t}.",
        ),
        (
            "The bag of feathers is [light].",
            "{a} carried a [light] basket with one finger.",
            "Paper is [light], iron is heavy.",
        ),
    ),
    Ambiguous(
        "palm",
        (
            "{a} held a coin in the [palm] of the hand.",
            "The [palm] of {a} was cut.",
            "{a} hid the key in the left [palm].",
        ),
        (
            "{a} rests under a [palm] on the beach.",
            "A [palm] with green leaves grows in {t}.",
            "The wind bent the tall [palm].",
        ),
    ),
    Ambiguous(
        "pen",
        ("{a} wrote the note with a [pen].", "The [pen] ran out of ink.", "{a} signed with a black [pen]."),
        ("The pigs are in the [pen].", "{a} keeps ten sheep in a [pen].", "A goat jumped out of the [pen] in {t}."),
    ),
    Ambiguous(
        "club",
        ("{a} joined the chess [club].", "The [club] of {t} has many members.", "{a} pays the [club] every year."),
        (
            "The giant swung a [club].",
            "{a} hit the thief with a wooden [club].",
            "The guard in {t} carries a heavy [club].",
        ),
    ),
)
