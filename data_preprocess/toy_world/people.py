"""The people who ask in the embedded world: each dialogue opens with sentences about them, their places and their work.

They make the prompts' vocabulary grow with the number of prompts, as in real prompts. Without them a few hundred
prompts would contain all possible bigrams, and D would fall with M. No answer depends on them.
"""

from random import Random

RELATIONS = (
    "neighbor sister brother cousin aunt uncle friend teacher boss nephew niece classmate landlord roommate coach "
    "grandmother"
).split()
FIRST_NAMES = (
    "Ada Alan Amir Anna Boris Carla Chen Clara Dario David Dina Elena Emil Fatima Felix Grace Hanna Hugo Ines "
    "Irma Ivan Jana Jonas Julia Karim Kira Lars Leila Leo Lina Marco Maria Maya Mila Mira Nadia Nils Nina Noah Nora "
    "Olga Omar Oscar Paula Petra Rafael Rita Rosa Samir Sara Simon Sofia Tara Theo Tomas Vera Viktor Yara Zoe"
).split()
LAST_NAMES = (
    "Adler Arnold Bauer Becker Berg Blum Brandt Castro Costa Cruz Dahl Diaz Dumont Engel Ferrer Fischer Fontana Fuchs "
    "Gallo Garcia Haas Hansen Hoffman Jansen Keller Klein Kovac Lang Lopez Maier Marin Martel Mendes Moreau "
    "Moretti Nagel Novak Nowak Olsen Ortega Parker Perez Petrov Quinn Ramos Ricci Roth Santos Schmidt Silva Sommer "
    "Stein Torres Vargas Vogel Wagner Weber Winter Zeller"
).split()
CITIES = (
    "Athens Basel Bergen Berlin Bilbao Bonn Boston Bremen Cairo Chicago Cologne Dallas Delhi Denver Dublin "
    "Geneva Ghent Hamburg Hanoi Kyoto Leeds Lima Lisbon London Lyon Madrid Milan Munich Nairobi Naples Oslo "
    "Paris Porto Prague Quito Riga Rome Seville Sofia Tokyo Turin Utrecht Vienna Warsaw"
).split()
TRAITS = (
    "busy quiet famous cheerful tired patient clever shy proud strict modern simple tiny large gentle strange lovely "
    "popular private public local foreign careful lazy nervous polite generous serious funny brave"
).split()
JOBS = (
    "baker barber butcher carpenter clerk cook dentist doctor driver farmer gardener journalist judge lawyer librarian "
    "mechanic miner musician nurse painter pilot plumber poet sailor singer surgeon tailor translator vet waiter"
).split()
PLACES = (
    "bakery bank bar cafe cinema clinic club college dairy factory farm gallery garage gym harbor hospital hotel inn "
    "kitchen laundry library mill museum nursery office pharmacy restaurant school studio theater"
).split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

OPENING_FORMS = (
    "My {relation} {first} {last} runs the {trait} {city} {place}.",
    "On {day} we met {first} {last}, a {trait} {city} {job}.",
    "I am a {trait} {city} {job} and know {first} {last}.",
)
WORDS = {
    "relation": RELATIONS,
    "first": FIRST_NAMES,
    "last": LAST_NAMES,
    "city": CITIES,
    "trait": TRAITS,
    "job": JOBS,
    "place": PLACES,
    "day": DAYS,
}


def opening(rng: Random) -> str:
    """Returns one or two sentences of different forms about the asker."""
    forms = rng.sample(OPENING_FORMS, rng.randint(1, 2))
    return " ".join(form.format(**{name: rng.choice(words) for name, words in WORDS.items()}) for form in forms)
