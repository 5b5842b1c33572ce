"""Units and how they are written. An answer carries the unit asked for, or none."""

from __future__ import annotations

import re

SPELLINGS: dict[str, tuple[str, ...]] = {
    "m": ("m", "metre", "metres", "meter", "meters"),
    "cm": ("cm", "centimetre", "centimetres", "centimeter", "centimeters"),
    "km": ("km", "kilometre", "kilometres", "kilometer", "kilometers"),
    "s": ("s", "sec", "second", "seconds"),
    "min": ("min", "minute", "minutes"),
    "h": ("h", "hr", "hour", "hours"),
    "kg": ("kg", "kilogram", "kilograms"),
    "g": ("g", "gram", "grams"),
    "mol": ("mol", "mole", "moles"),
    "L": ("L", "l", "litre", "litres", "liter", "liters"),
    "mL": ("mL", "ml", "millilitre", "millilitres", "milliliter", "milliliters"),
    "N": ("N", "newton", "newtons"),
    "J": ("J", "joule", "joules"),
    "kJ": ("kJ", "kilojoule", "kilojoules"),
    "W": ("W", "watt", "watts"),
    "V": ("V", "volt", "volts"),
    "A": ("A", "amp", "amps", "ampere", "amperes"),
    "mA": ("mA", "milliamp", "milliamps", "milliampere", "milliamperes"),
    "Ω": ("Ω", "Ω", "ohm", "ohms", r"\Omega"),
    "kPa": ("kPa", "kilopascal", "kilopascals"),
    "K": ("K", "kelvin", "kelvins"),
    "m/s": ("m/s", "m*s^-1", "m s^-1", "metres per second", "meters per second"),
    "km/h": ("km/h", "km/hr", "kph", "kilometres per hour", "kilometers per hour"),
    "m/s^2": ("m/s^2", "m*s^-2", "m s^-2", "metres per second squared", "meters per second squared"),
    "m^2": ("m^2", "square metres", "square meters"),
    "cm^2": ("cm^2", "square centimetres", "square centimeters"),
    "m^3": ("m^3", "cubic metres", "cubic meters"),
    "cm^3": ("cm^3", "cubic centimetres", "cubic centimeters"),
    "g/mol": ("g/mol", "g*mol^-1", "g mol^-1", "grams per mole"),
    "mol/L": ("mol/L", "mol/l", "M", "moles per litre", "moles per liter"),
    "%": ("%", "percent", "per cent"),
    "°": ("°", "degrees", "degree"),
}
"""What each unit may be called; capitals matter in signs."""

_WORD_AFTER = re.compile(r"(?P<number>.*[0-9}%)]) ?(?P<word>[A-Za-z]{3,30})")
# Words that change the number they follow.
_SCALE = re.compile(
    r"(?i)percent|hundreds?|thousands?|[mb]illions?|dozens?|half|halves|thirds?|quarters?|tenths?|times|not|minus|plus|less|more|fewer"
    r"|and|per|sqrt|inf|sin|cos|tan|log|exp"
)
_MONEY = re.compile(r"(?i)[$€£]|\b(?:dollar|cent|euro|pound)")


def without(text: str, unit: str) -> str:
    """A text without the unit asked for; with any other unit it stays as it is."""
    if not unit:
        return text
    for spelling in sorted(SPELLINGS[unit], key=len, reverse=True):
        if spelling[-1:].isalpha() and len(spelling) > 2:
            found = text.lower().endswith(spelling.lower())
        else:
            found = text.endswith(spelling)
        if found:
            return text[: -len(spelling)].rstrip().removesuffix("*").rstrip()
    return text


def without_words(text: str, question: str) -> str:
    """A text without a currency sign or one last word ("18 eggs"), where the question has them too."""
    if _MONEY.search(question):
        text = re.sub(r"^(-?)[$€£] ?", r"\1", text)
    match = _WORD_AFTER.fullmatch(text)
    if match and not _SCALE.fullmatch(match["word"]) and re.search(rf"(?i)\b{match['word']}\b", question):
        return match["number"]
    return text
