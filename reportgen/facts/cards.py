"""The card of a method or a metric, in the language spoken."""

from __future__ import annotations

from reportgen.phrases import card_text
from reportgen.records import Card, Quantity

TEXTS = ("title", "definition", "needs", "seeding", "self_check", "limits", "controls")
NUMBERS = ("title", "meaning")


def worded_card(card: Card) -> Card:
    """Return a card with its texts and numbers in the language spoken.

    The title of a method is a name, and stays.
    """
    told = {name: card_text(f"{card.key}.{name}", getattr(card, name)) for name in TEXTS}
    quantities = tuple(worded_quantity(quantity) for quantity in card.quantities)
    return card.model_copy(update={**told, "quantities": quantities})


def worded_quantity(quantity: Quantity) -> Quantity:
    """Return one of a metric's numbers with its title and meaning in the language spoken."""
    key = f"number.{quantity.key}"
    told = {name: card_text(f"{key}.{name}", getattr(quantity, name)) for name in NUMBERS}
    return quantity.model_copy(update=told)
