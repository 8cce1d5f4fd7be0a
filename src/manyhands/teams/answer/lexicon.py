"""The English words that the mechanical checks know by name.

Invariant: data only, lower case. A word that is not here is a content word of unknown polarity, so
text in another language meets no rule that was made for English.
"""

from __future__ import annotations

import re

_STOP = """
a an the this that these those it its it's itself they them their theirs he him his she her hers
we us our you your i me my one ones which who whom whose what where when while why how if then
else than so as at by for from in into of off on onto out over per to up with within without about
across along among around between during through toward towards under until upon via and or but
nor not no never none be is are was were been being am do does did done doing have has had having
can could may might must shall should will would cannot need ought there here also too very just
only even still yet already ever any some such both each every all most more less few fewer much
many other another own same well however therefore thus because since unless whether whereas
although though before after again once twice either neither rather instead else otherwise like
e.g i.e etc eg ie s t re ve ll d m don doesn didn isn aren wasn weren won wouldn couldn shouldn
hasn haven hadn mustn needn according say says said called call get gets got set sets become
becomes became make makes made let lets come comes go goes went take takes took keep keeps kept
least some roughly nearly almost exactly usually normally generally typically actually
approximately mainly mostly necessarily anybody anyone
anything somebody someone something everybody everyone everything ca wo sha
"""
STOP = frozenset(_STOP.split())

_IRREGULAR = """
rose:rise risen:rise fell:fall fallen:fall grew:grow grown:grow lost:lose held:hold ran:run
paid:pay built:build rebuilt:rebuild sold:sell gave:give given:give began:begin begun:begin
left:leave found:find chose:choose chosen:choose wrote:write written:write spoke:speak broke:break
broken:break knew:know known:know thought:think bought:buy brought:bring caught:catch taught:teach
sent:send spent:spend meant:mean led:lead met:meet won:win drew:draw drawn:draw threw:throw
thrown:throw shown:show hid:hide hidden:hide froze:freeze frozen:freeze forbade:forbid
forbidden:forbid forgot:forget swam:swim died:die dies:die dying:die dead:die death:die deaths:die
lay:lay lain:lie men:man women:woman children:child feet:foot teeth:tooth mice:mouse people:person
indices:index criteria:criterion analyses:analysis halves:half wives:wife leaves:leave higher:high
lower:low larger:large smaller:small faster:fast slower:slow longer:long shorter:short widest:wide
born:birth using:use used:use uses:use saw:see seen:see lying:lie ate:eat eaten:eat fought:fight
stood:stand understood:understand fed:feed bred:breed fled:flee drove:drive driven:drive rode:ride
ridden:ride flew:fly flown:fly blew:blow blown:blow sang:sing sung:sing rang:ring rung:ring
sank:sink sunk:sink drank:drink drunk:drink shot:shoot sat:sit slept:sleep swept:sweep lent:lend
bent:bend dealt:deal felt:feel hung:hang struck:strike stuck:stick stole:steal stolen:steal
wore:wear worn:wear tore:tear torn:tear shrank:shrink shrunk:shrink
"""
IRREGULAR = {pair.partition(":")[0]: pair.partition(":")[2] for pair in _IRREGULAR.split()}

#: Words that stand for each other where a statement is put in other words: one line, one meaning.
_SYNONYMS = """
begin start commence launch open
end finish complete conclude
stop halt cease discontinue
buy purchase acquire
large big great huge
show display print
return give yield deliver produce
raise throw
error exception
remove delete drop strip discard eliminate
contain include hold comprise
allow permit let
use employ apply
need require necessary
forbid prohibit ban disallow
create make build construct construction
increase rise grow growth gain climb raise
decrease fall decline drop shrink reduce reduction narrow
argument parameter
function callable
method function
person people participant volunteer resident
child cub chick kid
evaluate compute test
start initial
begin launch
find locate occur detect see
miss absent lack
same equal identical
different differ difference distinct
pay fund cost charge fee price
shut close
leave depart
illness disease
yearly annual year
worker employee staff
kill die
injure hurt
refuse reject decline
nearest innermost closest
reach attain
regard consider deem
execute run
get receive obtain
store keep retain preserve retention storage
choose select pick
value result
fast quick speed
change modify alter modification
size capacity length
fridge refrigerator
dish meal food
""".strip()
#: A word of several lines goes by the first; so do the words that share that line.
SYNONYMS: dict[str, str] = {}
for _line in _SYNONYMS.splitlines():
    _words = _line.split()
    for _word in _words:
        SYNONYMS.setdefault(_word, SYNONYMS.get(_words[0], _words[0]))

_NEGATORS = "not never no none nobody nothing nowhere neither nor without cannot unless"
NEGATORS = frozenset(_NEGATORS.split())

_AUXILIARIES = """
is are was were be been am do does did has have had can could may might must shall should will would
"""
#: Verbs that a clause turns on, whatever it is about.
AUXILIARIES = frozenset(_AUXILIARIES.split())

_FIRM = """
lack lacks lacked lacking unable inability exclude excludes excluded excluding exempt exempts
exempted prohibited prohibits prohibit forbids forbid forbidden forbade banned bans ban refuses
refused refuse denies denied deny rejected reject rejects outside disabled disable disables
disallowed impossible immutable improper imperfect impractical improbable illegal illegible
irregular irrelevant irreversible ineffective incompatible inactive inaccurate incomplete
incorrect inappropriate inadequate insufficient invalid invisible inaccessible insecure
inconsistent infrequent ineligible insoluble involuntary asynchronous asynchronously faultless
rarely seldom hardly barely scarcely waived suspended avoid avoids avoided prevent prevents
prevented
""".strip()
#: Verbs and adjectives that deny by themselves; each counts as one negation.
FIRM = frozenset(_FIRM.split())
#: "un" at the start denies, but for these.
UN = re.compile(
    r"un(?!d[eo]r|i(?!nt|mp|de|nf)|til|to|less|like|cle|an|it|der|limited|bounded|cover|fold|lock|load|pack|veil|wrap)[a-z]{3,}"
)
_SOFT = """
removed removes remove discontinued stop stops stopped against except ignored ignores ignore
skipped skips skip disappear disappears free freely regardless independent suspended
abandoned abolished ended withdrawn dismissed few little failed fails fail unlimited unbounded
limitless closed close closes shut preventing cancelled canceled cancel cancels missing absent
absence omitted omits omit disagree disagrees disagreed dislike disputes harmless useless needless
stateless endless painless tasteless odourless flightless homeless worthless rare nonevalue
failure spare spares spared tallest remain
"""
#: These may deny or not, by what they are said of; they make up for a negation elsewhere.
SOFT = frozenset(_SOFT.split())

#: Opposites: left of the bar the one side, right of it the other. ``~``: it compares two things,
#: so that the same is said by the other side with the things exchanged.
_AXES = """
~more greater extra additional | less fewer
~high higher above | low lower below
~large larger bigger | small smaller
~fast faster quicker | slow slower
~long longer | short shorter
~early earlier sooner | late later
~old older | new newer younger
~warm warmer hotter | cold colder cooler
~good better | bad worse
~strong stronger tightly | weak weaker loosely
~before beforehand until till | after afterwards once
~thick thicker | thin thinner
~heavy heavier | light lighter
~expensive dearer costlier | cheap cheaper
first | last
raise raised raises increase increased increases increasing climb climbed climbs rise rises rose \
risen grow grows grew grown growth gain gained gains | cut cuts dropped drops drop decrease \
decreased decreases \
decreasing fall falls fell fallen decline declined declines shrink shrinks shrank reduce reduced \
reduces narrowed shortened lose loses lost losing
highest largest longest latest | lowest smallest shortest earliest
enabled enables enable | disabled disables disable
allowed allow allows permitted permit permits | forbidden forbids forbid prohibited prohibits \
banned bans ban
accepted accept accepts approved approves approve | rejected rejects reject
included include includes | excluded exclude excludes
required mandatory compulsory obligatory | optional voluntary
equal same equally identical | different differ differs differed difference differences
true | false
open opens opened reopen reopens | closed close closes shut
start starts started begin begins began | end ends ended finish finished
ascending | descending
left leftmost | right rightmost
success succeed succeeds succeeded | failure fail fails failed
bought buy buys | sold sell sells
internal | external
public | private
local | global
odd | even
most | least
positive | negative
upper uppercase | lowercase
survive survives survived live | die dies died dead death
north northern | south southern
east eastern | west western
prograde | retrograde
added adds add | removed removes remove
leading | trailing
atfloor exceed exceeds exceeded exceeding minimum min | atcap maximum max
within inside | across beyond outside
""".strip()


def _axes() -> tuple[dict[str, tuple[int, int]], frozenset[int]]:
    sides: dict[str, tuple[int, int]] = {}
    comparing: set[int] = set()
    for number, line in enumerate(_AXES.splitlines()):
        if line.startswith("~"):
            comparing.add(number)
        for side, words in zip((1, -1), line.lstrip("~").split("|"), strict=True):
            for word in words.split():
                sides.setdefault(word, (number, side))
    return sides, frozenset(comparing)


#: Words between two things: what stands before and after them may change places.
BETWEEN = frozenset(["before", "after", "until"])
#: word -> its axis and its side; and which axes compare two things.
SIDES, COMPARING = _axes()

_MONTHS = "january february march april may june july august september october november december"
MONTHS = {name: number for number, name in enumerate(_MONTHS.split(), 1)}
WEEKDAYS = frozenset(["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"])
