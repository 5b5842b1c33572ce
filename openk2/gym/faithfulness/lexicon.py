"""The words the support judge knows: which of them say the same, and which change what a sentence claims.

A word that stands nowhere here must stand in the context, or the sentence that has it counts as unsupported.
"""

from __future__ import annotations

import re


def _set_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


GROUPS: dict[str, str] = {
    "found": "found founded founding founder founders establish established set start started starting began begin existed exist existence inception create created since opened open",
    "seat": "head office offices headquarters headquartered based base seat main in@",
    "employ": "employ employs employed employees employee staff work works working worker workers workforce people personnel",
    "earn": "earn earned earns earnings income revenue made make took take turnover",
    "supply": "supply supplies supplied supplier delivers deliver delivered buys buy bought customer purchases provides",
    "sign": "sign signed signs signature signatory signing put joined",
    "high": "high height tall taller higher shorter lower rises rise overtops highest reaches heights",
    "complete": "complete completed completion finish finished built build ended builders work construction done",
    "design": "design designed designer architect drew drawn draw plans",
    "place": "stand stands standing located location lies lie situated found in@ town city",
    "cost": "cost costs costing price priced paid pay spent spend charge charges fee ticket worth",
    "born": "born birth came world birthday",
    "live": "live lives living home resides resident residence dwells in@",
    "trade": "work works working trade profession job occupation employed earns living",
    "teach": "taught teach teaches teacher pupil student tutor trained learned learnt studied lessons",
    "age": "older younger elder senior junior born before after",
    "day": "begin begins beginning start starts starting open opens opening day date first takes held on@",
    "venue": "held takes place venue hosts host hosted happens in@ location located",
    "visit": "draw drew drawn visitors visitor came come attracted attract attendance visited attended attend had people guests welcomed",
    "organise": "organise organises organised organiser organize organized organizes organizer run runs ran charge",
    "entry": "entry entrance admission ticket tickets fee enter charges charge entering",
    "long": "long length measures measure end longer lengths",
    "launch": "launch launched went sea yard left first launching put",
    "command": "command commands commanded captain commander skipper under",
    "crew": "crew carries carry sailors sailor serve serves sailed aboard board manned",
    "port": "port home harbour in@",
    "last_year": "last annual yearly",
    "pass": "pass passed passes got through inspection passing",
}  # fmt: skip
"""Words by what they are about. Words of one group can stand for each other; a word may be in several."""

WHERE = frozenset({"seat", "place", "live", "venue", "port"})
"""Groups that say where something is."""

INVERSE = _set_of(
    "shorter lower younger after junior pupil student buys buy bought customer purchases learned learnt studied hosts host "
    "hosted under"
)
"""Words after which the second name is the one that does."""

ROLES = _set_of(
    "founder architect designer captain commander skipper organiser organizer supplier teacher tutor pupil student "
    "customer"
)
"""Nouns that name one of two parties: "the founder of X is Y" and "Y is the founder of X" say the same."""

POSSESSIONS = _set_of("port home venue seat office headquarters residence")
"""Nouns for what the other party has: "X is the home port of Y" says of Y where it is."""

ATTRIBUTES = _set_of(
    "height length cost price fee income revenue staff crew home port office headquarters year date day birth profession "
    "trade occupation job venue visitors entry admission ticket completion launch opening architect founder captain "
    "organiser employees people sailors number workers lifeboats founding head town residence attendance signature"
)
"""Nouns that begin a noun phrase, where a verb would go on with the subject before."""

UNITS: dict[str, str] = {
    "metre": "metre", "metres": "metre", "meter": "metre", "meters": "metre", "m": "metre",
    "kilometre": "km", "kilometres": "km", "kilometer": "km", "kilometers": "km", "km": "km", "feet": "foot", "foot": "foot", "ft": "foot",
    "centimetres": "cm", "centimetre": "cm", "centimeters": "cm", "cm": "cm", "yards": "yard", "inches": "inch", "miles": "mile",
    "crown": "crown", "crowns": "crown", "dollars": "dollar", "euros": "euro", "pounds": "pound", "marks": "mark",
    "percent": "percent", "million": "million", "thousand": "thousand", "tons": "ton", "years": "year", "days": "day",
    "dozen": "dozen", "hundred": "hundred", "billion": "billion", "times": "times", "weeks": "week", "months": "month", "hours": "hour",
}  # fmt: skip

NEGATIONS = _set_of(
    "not no never neither nor cannot without fails fail failed lacks lacked false "
    "untrue incorrect wrong incorrectly unable hardly except unlike wrongly myth nothing"
)
HEDGES = _set_of(
    "may might could possibly perhaps probably likely reportedly allegedly supposedly apparently seems seem appears appear "
    "believed rumoured rumored say claim claims claimed think thought guess maybe presumably arguably unclear suggests "
    "suggested should would assume assumed unless if whether or either supposed around"
)
QUANTIFIERS: dict[str, str] = {
    "all": "all", "every": "all", "each": "all", "entire": "all", "whole": "all", "most": "most", "majority": "most",
    "half": "half", "some": "some", "several": "some", "few": "some", "many": "many", "none": "none", "any": "any",
    "about": "about", "roughly": "about", "approximately": "about", "nearly": "about", "almost": "about", "circa": "about",
    "over": "more", "more": "more", "least": "more", "above": "more", "exceeds": "more", "less": "less", "fewer": "less",
    "below": "less", "upto": "upto", "only": "only", "merely": "only", "always": "all", "sometimes": "some", "often": "many",
    "both": "both", "one": "one", "single": "one", "another": "another", "other": "another", "part": "some", "same": "same", "equal": "same",
    "equally": "same", "formerly": "past", "former": "past", "previously": "past", "longer": "past", "once": "past",
    "used": "past", "biggest": "best", "largest": "best", "highest": "best", "tallest": "best", "oldest": "best",
    "longest": "best", "best": "best", "smallest": "best", "youngest": "best", "twice": "twice", "double": "twice",
}  # fmt: skip
"""Words that change how much, how many, when or how sure; they must be the same on both sides."""

FUNCTION = _set_of("a an the is are was were be been being am has have had do does did of to at by for from with its it he she they his her "
    "their him them as and but while that this these those there than into also too then which who whom whose whereas "
    "according context text document passage says states said stated tells it's s i you we answer result results record records "
    "so both's meanwhile furthermore additionally moreover moreover likewise currently now exactly respectively in on "
    "true fact case namely when where what how whose tool data given shown mentioned reported listed recorded gives lists "
    "shows given information provided named called number up on year amount amounts total still out person yes "
    "became become becomes can thing name has been")  # fmt: skip
"""Words that claim nothing by themselves."""

SAYING = re.compile(
    r"\bnothing is (?:said|stated|mentioned|known|given)\b|"
    r"\b(?:(?:does|do|did) not|doesn't|don't|didn't|never|nowhere)(?: (?:even|ever|actually|explicitly|directly|clearly|anywhere))* "
    r"(?:say|state|mention|give|tell|specify|include|provide|reveal|contain|record|list|report|note|indicate|show|disclose)\b"
    r"|\b(?:is|are|was|were) (?:not|nowhere|never) (?:given|stated|mentioned|specified|known|recorded|listed|provided|said|"
    r"included|reported|shown|disclosed|in the (?:context|text|records?|results?))\b|\b(?:isn't|aren't) (?:given|stated|mentioned|specified|known|recorded|listed|provided|said|included|reported)\b"
    r"|\b(?:no|without any) (?:information|mention|details?|data|record|statement)\b|\b(?:unstated|unspecified|unknown)\b"
    r"|\b(?:cannot|can't|can not) (?:be )?(?:determined?|answer(?:ed)?|tell|told|say|said|found|find|know|known)\b",
    re.IGNORECASE,
)
"""How a sentence says that the context does not tell."""
ABOUT_SAYING = _set_of(
    "say state mention give tell specify include provide reveal contain record list report note indicate show disclose given "
    "stated mentioned specified known recorded listed provided said included reported shown disclosed information details "
    "detail data statement unstated unspecified unknown cannot determined determine answer answered told found find know "
    "not no never nowhere whether if any about anything nothing can't records results sources source passage question much us many how"
)

BREAKS = _set_of("and but while whereas which who whose although though however because plus")
"""Words that begin another claim."""
BOUNDS = _set_of("before after under until till above below beyond past")
"""Words that before a number make it a bound."""

_GROUPS_OF: dict[str, frozenset[str]] = {}
for _group, _words in GROUPS.items():
    for _word in _words.split():
        _GROUPS_OF[_word] = _GROUPS_OF.get(_word, frozenset()) | {_group}


def groups_of(word: str) -> frozenset[str]:
    """What a word can be about; nothing for a word the lexicon lacks."""
    return _GROUPS_OF.get(word, frozenset())


def known(word: str) -> bool:
    """Whether a word is no name, even with a capital."""
    return word in _KNOWN or word in _GROUPS_OF


_KNOWN = FUNCTION | NEGATIONS | HEDGES | BREAKS | BOUNDS | set(QUANTIFIERS) | set(UNITS) | {"correction"}
