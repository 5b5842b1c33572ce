"""Physics and chemistry: answers with a unit, exact or to a stated number of places."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from random import Random

from openk2.gym.single_turn import Generator, Question
from openk2.gym.stem.problem import exact, problem, rounded

_GRAVITY = Fraction(98, 10)
_GAS = Fraction(8314, 1000)
MASSES = {
    "H": "1.008", "C": "12.011", "N": "14.007", "O": "15.999", "F": "18.998", "Na": "22.990", "Mg": "24.305", "Al": "26.982",
    "S": "32.06", "Cl": "35.45", "K": "39.098", "Ca": "40.078", "Fe": "55.845", "Cu": "63.546", "Zn": "65.38",
}  # fmt: skip
"""Standard atomic masses in g/mol."""


def _kinematics(rng: Random, level: int) -> Question:
    """The speed after an acceleration; the way; where a car stops after a reaction time."""
    start, pull, time = rng.randint(2, 40), Fraction(rng.randint(5, 60), 10), rng.randint(2, 20)
    if level == 1:
        text = f"A body moves at {start} m/s and speeds up by {exact(pull)} m/s^2 for {time} s. How fast is it then, in m/s?"
        return problem(text, exact(start + pull * time), f"motion {start} {pull} {time}", unit="m/s", names="v")
    if level == 2:
        text = f"A body moves at {start} m/s and speeds up by {exact(pull)} m/s^2 for {time} s. How far does it go in that time, in m?"
        return problem(
            text, exact(start * time + pull * time**2 / 2), f"motion {start} {pull} {time}", unit="m", names="s"
        )
    delay, speed = Fraction(rng.randint(3, 20), 10), rng.randint(8, 45)
    pull = Fraction(rng.choice((20, 25, 40, 50, 64, 80)), 10)
    way, tolerance = rounded(speed * delay + Fraction(speed**2) / (2 * pull), 2)
    text = (
        f"A driver at {speed} m/s reacts after {exact(delay)} s and then brakes at {exact(pull)} m/s^2. How many metres does the car go "
        "from the signal until it stands? Round to 2 decimal places."
    )
    return problem(text, way, f"stop {speed} {delay} {pull}", unit="m", tolerance=tolerance)


def _circuit(rng: Random, level: int) -> Question:
    """Ohm's law; resistors in series; in parallel."""
    current, ohms, other = rng.randint(2, 90), rng.randint(3, 200), rng.randint(3, 200)
    amps = Fraction(current, 10)
    if level == 1:
        text = f"A current of {exact(amps)} A flows through {ohms} ohms. What is the voltage in V?"
        return problem(text, exact(amps * ohms), f"ohm {amps} {ohms}", unit="V", names="UV")
    if level == 2:
        volts = amps * (ohms + other)
        text = f"Resistors of {ohms} ohms and {other} ohms are in series at {exact(volts)} V. What power in W does the first turn into heat?"
        return problem(text, exact(amps**2 * ohms), f"series {amps} {ohms} {other}", unit="W", names="P")
    third = rng.randint(3, 200)
    value, tolerance = rounded(third + Fraction(ohms * other, ohms + other), 2)
    text = (
        f"Resistors of {ohms} ohms and {other} ohms are in parallel, and a third of {third} ohms is in series with both. What is the "
        "total resistance in ohms? Round to 2 decimal places."
    )
    return problem(text, value, f"parallel {sorted((ohms, other))} {third}", unit="Ω", tolerance=tolerance, names="R")


def _energy(rng: Random, level: int) -> Question:
    """Kinetic energy; work of a force; the speed after a fall with losses."""
    mass, speed = rng.randint(2, 90), rng.randint(2, 40)
    if level == 1:
        text = f"What is the kinetic energy in J of {mass} kg at {speed} m/s?"
        return problem(text, exact(Fraction(mass * speed**2, 2)), f"kinetic {mass} {speed}", unit="J", names="E")
    height = rng.randint(3, 80)
    if level == 2:
        text = f"What is the potential energy in J of {mass} kg at a height of {height} m? Take g = 9.8 m/s^2."
        return problem(text, exact(mass * _GRAVITY * height), f"potential {mass} {height}", unit="J", names="E")
    lost, time = rng.randrange(5, 60, 5), rng.randint(2, 30)
    power, tolerance = rounded(mass * _GRAVITY * height * 100 / (100 - lost) / time, 1)
    text = (
        f"A motor that loses {lost}% of its power as heat lifts {mass} kg by {height} m in {time} s. How many watts does it take in? Take "
        "g = 9.8 m/s^2 and round to 1 decimal place."
    )
    return problem(text, power, f"motor {mass} {height} {lost} {time}", unit="W", tolerance=tolerance, names="P")


def _gas(rng: Random, level: int) -> Question:
    """Boyle; Charles with degrees Celsius; the ideal gas law."""
    if level == 1:
        pressure, volume, factor = rng.randint(20, 300), rng.randint(2, 60), rng.randint(2, 9)
        text = f"A gas fills {volume * factor} L at {pressure} kPa. At the same temperature it is pressed into {volume} L. What is its pressure in kPa?"
        return problem(text, pressure * factor, f"boyle {pressure} {volume} {factor}", unit="kPa", names="p")
    moles, volume, kelvin = Fraction(rng.randint(2, 95), 10), rng.randint(5, 90), rng.randint(250, 500)
    if level == 2:
        hot = kelvin + rng.randint(20, 300)
        value, tolerance = rounded(Fraction(volume * hot, kelvin), 2)
        text = f"A gas fills {volume} L at {kelvin} K. How many litres does it fill at {hot} K and the same pressure? Round to 2 decimal places."
        return problem(text, value, f"charles {volume} {kelvin} {hot}", unit="L", tolerance=tolerance, names="V")
    value, tolerance = rounded(moles * _GAS * kelvin / volume, 1)
    text = (
        f"What is the pressure in kPa of {exact(moles)} mol of an ideal gas in {volume} L at {kelvin} K? Take R = 8.314 J/(mol K) and "
        "round to 1 decimal place."
    )
    return problem(text, value, f"ideal {moles} {volume} {kelvin}", unit="kPa", tolerance=tolerance, names="p")


def _conversion(rng: Random, level: int) -> Question:
    """One unit into another: lengths; speeds; densities times volumes."""
    number = rng.randint(12, 9999)
    if level == 1:
        (name, unit), factor = rng.choice(
            ((("cm", "m"), Fraction(1, 100)), (("m", "km"), Fraction(1, 1000)), (("kg", "g"), Fraction(1000)))
        )
        value = number * factor
        return problem(f"How much is {number} {name} in {unit}?", exact(value), f"convert {number} {name}", unit=unit)
    if level == 2:
        speed = rng.randrange(9, 900, 9)
        text = f"How much is {speed} km/h in m/s?"
        return problem(text, exact(Fraction(speed * 10, 36)), f"convert {speed} km/h", unit="m/s")
    density, volume = Fraction(rng.randint(5, 195), 10), rng.randint(2, 900)
    text = f"A liquid has a density of {exact(density)} g/cm^3. What is the mass in kg of {volume} mL of it?"
    return problem(
        text,
        exact(density * volume / 1000) if (density * volume).denominator == 1 else _plain(density * volume / 1000),
        f"density {density} {volume}",
        unit="kg",
    )


def _plain(number: Fraction) -> str:
    return f"{float(number):.6f}".rstrip("0").rstrip(".")


COMPOUNDS: Mapping[str, Mapping[str, int]] = {
    "H2O": {"H": 2, "O": 1}, "CO2": {"C": 1, "O": 2}, "NH3": {"N": 1, "H": 3}, "CH4": {"C": 1, "H": 4}, "NaCl": {"Na": 1, "Cl": 1},
    "CaCO3": {"Ca": 1, "C": 1, "O": 3}, "H2SO4": {"H": 2, "S": 1, "O": 4}, "HNO3": {"H": 1, "N": 1, "O": 3}, "NaOH": {"Na": 1, "O": 1, "H": 1},
    "C6H12O6": {"C": 6, "H": 12, "O": 6}, "C2H5OH": {"C": 2, "H": 6, "O": 1}, "Fe2O3": {"Fe": 2, "O": 3}, "CuSO4": {"Cu": 1, "S": 1, "O": 4},
    "KNO3": {"K": 1, "N": 1, "O": 3}, "Al2O3": {"Al": 2, "O": 3}, "MgCl2": {"Mg": 1, "Cl": 2}, "ZnO": {"Zn": 1, "O": 1},
    "K2SO4": {"K": 2, "S": 1, "O": 4}, "C3H8": {"C": 3, "H": 8}, "CaF2": {"Ca": 1, "F": 2}, "Na2CO3": {"Na": 2, "C": 1, "O": 3},
    "Al2S3O12": {"Al": 2, "S": 3, "O": 12}, "C8H18": {"C": 8, "H": 18}, "MgSO4": {"Mg": 1, "S": 1, "O": 4}, "ZnCl2": {"Zn": 1, "Cl": 2},
}  # fmt: skip
REACTIONS = (
    ("2 H2 + O2 -> 2 H2O", "H2", {"H": 2}, 2, "H2O", 2),
    ("CH4 + 2 O2 -> CO2 + 2 H2O", "CH4", COMPOUNDS["CH4"], 1, "H2O", 2),
    ("C3H8 + 5 O2 -> 3 CO2 + 4 H2O", "C3H8", COMPOUNDS["C3H8"], 1, "CO2", 3),
    ("N2 + 3 H2 -> 2 NH3", "N2", {"N": 2}, 1, "NH3", 2),
    ("CaCO3 -> CaO + CO2", "CaCO3", COMPOUNDS["CaCO3"], 1, "CO2", 1),
    ("4 Fe + 3 O2 -> 2 Fe2O3", "Fe", {"Fe": 1}, 4, "Fe2O3", 2),
    ("4 Al + 3 O2 -> 2 Al2O3", "Al", {"Al": 1}, 4, "Al2O3", 2),
    ("C6H12O6 -> 2 C2H5OH + 2 CO2", "C6H12O6", COMPOUNDS["C6H12O6"], 1, "C2H5OH", 2),
    ("2 NaOH + H2SO4 -> Na2SO4 + 2 H2O", "NaOH", COMPOUNDS["NaOH"], 2, "H2O", 2),
    ("2 C8H18 + 25 O2 -> 16 CO2 + 18 H2O", "C8H18", COMPOUNDS["C8H18"], 2, "CO2", 16),
)
"""Equation, what is used up with its atoms and number, what comes out with its number."""


def _mass_of(atoms: Mapping[str, int]) -> Fraction:
    return sum((Fraction(MASSES[atom]) * count for atom, count in atoms.items()), Fraction(0))


def _said(atoms: Mapping[str, int]) -> str:
    return ", ".join(f"{atom} = {MASSES[atom]}" for atom in atoms)


def _molar_mass(rng: Random, level: int) -> Question:
    """The mass of so many moles; moles in a mass; molecules' share of one element."""
    name, atoms = rng.choice(list(COMPOUNDS.items()))
    told = f"Take atomic masses of {_said(atoms)} g/mol."
    if level == 1:
        moles = Fraction(rng.randint(2, 120), 10)
        value, tolerance = rounded(moles * _mass_of(atoms), 1)
        text = f"What is the mass in g of {exact(moles)} mol of {name}? {told} Round to 1 decimal place."
        return problem(text, value, f"mass {name} {moles}", unit="g", tolerance=tolerance, names="m")
    grams = rng.randint(20, 900)
    if level == 2:
        value, tolerance = rounded(grams / _mass_of(atoms), 3)
        text = f"How many moles are {grams} g of {name}? {told} Round to 3 decimal places."
        return problem(text, value, f"moles {name} {grams}", unit="mol", tolerance=tolerance, names="n")
    element = rng.choice(list(atoms))
    value, tolerance = rounded(grams * atoms[element] * Fraction(MASSES[element]) / _mass_of(atoms), 2)
    text = f"How many grams of {element} do {grams} g of {name} hold? {told} Round to 2 decimal places."
    return problem(text, value, f"share {name} {grams} {element}", unit="g", tolerance=tolerance)


def _reaction(rng: Random, level: int) -> Question:
    """Moles out of moles; mass out of mass; with a yield."""
    equation, used, atoms, taken, made, given = rng.choice(REACTIONS)
    if level == 1:
        moles = rng.randint(2, 240) * taken
        text = f"In {equation}, how many moles of {made} come from {moles} mol of {used}?"
        return problem(text, moles * given // taken, f"reaction {used} {made} {moles}", unit="mol", names="n")
    grams, share = rng.randint(10, 900), rng.randint(40, 98) if level == 3 else 100
    mass = grams / _mass_of(atoms) * given / taken * _mass_of(COMPOUNDS[made]) * share / 100
    value, tolerance = rounded(mass, 1)
    every = dict.fromkeys((*atoms, *COMPOUNDS[made]), 1)
    loss = f" with a yield of {share}%" if level == 3 else ""
    text = (
        f"In {equation}, how many grams of {made} come from {grams} g of {used}{loss}? Take atomic masses of {_said(every)} g/mol. "
        "Round to 1 decimal place."
    )
    return problem(text, value, f"reaction {used} {made} {grams} {share}", unit="g", tolerance=tolerance, names="m")


def _solution(rng: Random, level: int) -> Question:
    """A concentration; a dilution; a mixture."""
    litres, tenths = Fraction(rng.randint(2, 50), 10), rng.randint(2, 60)
    strong = Fraction(tenths, 10)
    if level == 1:
        text = f"How many moles are in {exact(litres)} L of a {exact(strong)} mol/L solution?"
        return problem(text, exact(litres * strong), f"solution {litres} {strong}", unit="mol", names="n")
    millilitres, factor = rng.randint(5, 90), rng.randint(2, 12)
    if level == 2:
        weak = exact(strong)
        text = f"To what volume in mL must {millilitres} mL of a {exact(strong * factor)} mol/L solution be diluted to get {weak} mol/L?"
        return problem(text, millilitres * factor, f"dilute {millilitres} {strong} {factor}", unit="mL", names="V")
    other, weak_part = rng.randint(5, 90), Fraction(rng.randint(1, 60), 10)
    value, tolerance = rounded((millilitres * strong + other * weak_part) / (millilitres + other), 3)
    text = (
        f"{millilitres} mL of a {exact(strong)} mol/L solution and {other} mL of a {exact(weak_part)} mol/L solution of the same salt are "
        "mixed. What is the concentration in mol/L? Round to 3 decimal places."
    )
    return problem(
        text, value, f"mix {millilitres} {strong} {other} {weak_part}", unit="mol/L", tolerance=tolerance, names="c"
    )


KINDS_OF_PHYSICS: dict[str, Generator] = {
    "kinematics": _kinematics, "circuit": _circuit, "energy": _energy, "gas": _gas, "conversion": _conversion,
}  # fmt: skip
KINDS_OF_CHEMISTRY: dict[str, Generator] = {"molar_mass": _molar_mass, "reaction": _reaction, "solution": _solution}
