"""English words that skins rename with. None belongs to an app that demonstrations leave out (a test holds this)."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NOUNS = _words(
    """album animal article asset auction badge barrel batch bicycle boat box bridge building bundle bus cabin cable camera
    card cargo cart case chapter claim class client coin contest contract course coupon crate crew deal desk device dish
    document dog door engine event exam export farm file film flower folder form game garden goal grant group horse house
    image island journal kit lamp lease lesson letter license line list lock machine map market meal meeting mission
    model movie museum note offer office page painting paper permit person phone photo plant player pool profile
    project quiz race recipe rental report request ring road robot route run sample scene school seat seminar server session
    sheet ship shift show site song stage station store story stream student survey table task teacher team test theatre
    thing tool topic tour tower toy train tree trip truck unit user video visit voucher wallet ward website wine worker
    workshop zone"""
)
FIELDS = _words(
    """age alias angle area author average band base bonus brand budget category chance channel charge chief code colony
    column cover currency deadline degree delay depth digest distance district duration edition effect factor family format
    gap genre group growth height host index income interest keeper kind language layout leader length level limit
    location load maker manager margin mark material maximum measure medium memo merit method minimum mood motto nature
    nickname note number operator origin output owner_name pace pattern period place points position power premium pressure
    price_tag profit purpose quality quota range rank rate reach reason record region release reserve result reward role
    row scale scope score section sector sender series share side signal size source_name speed spot style sum supply
    surface tag tax temperature theme tier title tone total_cost track type usage valid_until value version view voice
    volume wage wait width wing yield"""
)
VERBS = _words(
    """accept activate adopt advance allow announce apply arm assign ban begin block boost burn call capture carry
    check claim clean clear collect compress convert cool copy cover cut defer demote detach disable drain drop edit eject
    elect enable end_now enlist erase escalate examine exclude extend fetch_back fill fix flag flush fold forbid forward
    free hide hire hold honour import_in insert invite issue join keep kill label launch lend lift light link load lower mark
    mend merge mute notify order pack paint park patch pin plan plant play polish press print promote publish pull pump
    purge push raise recall record reduce refuse reject release remove repeat replace report rescue reset rest
    restore resume retry reverse revoke roll rotate save scan scrap seal secure seize send sign skip soak spin stamp
    start stop store study submit suspend swap switch tag test tie toggle trace train trim tune turn unlock upgrade
    verify wake warm wash wipe wrap"""
)
STATES = _words(
    """absent alive amber armed asleep awake bare blank blue bold bright broken busy calm cheap clean clear cold cool curved
    damaged dark dead deep dirty done double dry dull early easy empty extra faint fair false fast final fine firm first
    fixed flat fresh full golden good gray green half hard heavy hidden high hollow hot idle inner kept large last late
    lazy level light live local long loose loud low major minor mixed mute narrow near neat old outer pale partial plain
    poor primary prime private proud public pure quick quiet rare raw ready red rich ripe rough round safe second secret
    sharp short silent silver simple single slow small smart soft solid sour spare special steady steep stiff strict
    strong sweet tall tame tender thick thin third tidy tight tiny total triple true vacant vague warm weak wet white
    whole wide wild wise yellow young"""
)
