"""Words and codes of body parts and views, in the languages they are met in.

Text is compared after NFKD, without accents, digits and signs, in small letters. A word of five letters or
more, or of another script than Latin, is found anywhere in the text, for there are compounds; one of four
where a word of the text begins with it; a shorter one only as a whole word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable


def normalized(text: str) -> str:
    """`text` in small letters without accents, digits and signs, its words apart by single blanks."""
    plain = "".join(
        letter
        for letter in unicodedata.normalize("NFKD", text.casefold())
        if not unicodedata.combining(letter)
    ).translate(_WITHOUT_STROKES)
    return " ".join(re.findall(r"[^\W_\d]+", plain))


def mentions(text: str, words: Iterable[str]) -> bool:
    """Whether `text`, normalized, holds one of `words`, normalized."""
    spaced = f" {text} "
    return any(
        word in text
        if len(word) >= 5 or not word.isascii()
        else (f" {word}" if len(word) == 4 else f" {word} ") in spaced
        for word in words
    )


_WITHOUT_STROKES = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ı": "i", "æ": "ae", "œ": "oe", "ß": "ss"})


def _words(text: str) -> frozenset[str]:
    return frozenset(normalized(word) for word in text.split(",") if word.strip())


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The front of the chest and what is looked at in it.
CHEST = _words(
    "chest, thorax, thoracic cavity, thorac, torax, torace, torac, toraks, toratsi, tx thorax, lung, pulm, "
    "pulmon, polmon, poumon, plamani, plamini, pluca, plice, plic, pluc, pludi, longen, lunge, lungor, "
    "keuhko, kopsud, tudo, akciger, cxr, chst, pect, pecho, peito, petto, poitrine, thorakal, brustkorb, "
    "brust, borst, borstkas, klatk, piersiow, klp, hrudn, grudni kos, grudna, prsni kos, "
    "mellkas, rinta, rindkere, bryst, brost, brostkorg, krutine, krutis, krusu, gogus, dada, paru, nguc, "
    "phoi, dibdib, mediastin, pleura, bronch, heart, herz, coeur, cuore, corazon, coracao, грудная, "
    "грудной клетки, грудн, груди, гкл, огк, огп, орг груд, лёгк, легк, легени, θώρακ, πνευμον, 胸, 肺, "
    "흉부, 가슴, 폐, صدر, رئة, قفسه سینه, ریه, חזה, ריאות, ทรวงอก, หน้าอก, ปอด, छाती, वक्ष, फेफड, বুক, "
    "மார்பு, நெஞ்சு, ఛాతీ, გულმკერდ, կրծքավանդակ, kifua, thx, thor"
)

# What holds a word of the chest, or lies in it, and yet is not looked at in a frontal chest radiograph.
NOT_CHEST_THOUGH_NAMED = _words(
    "spine, spinal, vertebr, wirbel, tspine, t spine, tspn, tlspine, ctspine, bws, thoracolumb, dorsolumb, "
    "rachis, columna, colonna, coluna, coloana, kolumna, wervel, kregoslup, pater, kicma, hrbtenica, "
    "gerinc, selkaranka, ryggrad, ryggsoyle, rygg, columna dorsal, omurga, tulang belakang, cot song, "
    "позвон, хребет, гръбна, σπονδυλ, 椎, 脊, 척추, عمود, עמוד שדרה, กระดูกสันหลัง, rib, ribs, rippe, "
    "costil, costol, costela, cotes, costal, kosten, zebra, zebro, borda, kylki, ribben, ребр, πλευρ, 肋, "
    "늑골, ضلع, צלע, sternum, esternon, sterno, sternoclav, brustbein, mostek, hrudni kost, grudina, "
    "грудина, грудины, 胸骨, 흉골, thoracic outlet, breast, mamm, mama, brustdruse, seno, sein, 乳, 유방, "
    "молочн, ثدي, שד"
)

# Other parts, which the message can name. A word in no list is not taken for the chest either.
OTHER_PARTS = {
    "the abdomen or pelvis": _words(
        "abdom, addom, bauch, buik, brzuch, bricho, has, karin, vatsa, buk, kub, pelv, becken, bekken, "
        "bacin, miednic, panev, bassin, medence, bacen, lantio, kidney, niere, rein, rene, stomach, magen, "
        "liver, живот, брюш, таз, почк, κοιλι, λεκαν, 腹, 骨盆, 骨盤, 盆, 복부, 골반, بطن, حوض, בטן, אגן, "
        "ท้อง, bung"
    ),
    "the head or neck": _words(
        "skull, schadel, schedel, crane, cranio, cranium, craneo, cabeza, cabeca, testa, tete, head, kopf, "
        "hoofd, glowa, czaszka, lebka, hlava, koponya, kallo, kafa, neck, hals, cou, cuello, collo, "
        "pescoco, szyja, krk, nyak, sinus, senos, nose, nase, nez, nariz, naso, face, facial, gesicht, "
        "jaw, mandib, maxill, kiefer, dental, teeth, zahn, dent, orbit, eye, auge, brain, cerv, cspine, "
        "c spine, hws, trachea, череп, голов, шея, шеи, нос, челюст, κραν, κεφαλ, 頭, 头, 颅, 頸, 颈, 鼻, "
        "顔, 두개, 머리, 목, رأس, جمجمة, رقبة, ראש, גולגולת, צוואר, ศีรษะ, กะโหลก"
    ),
    "the lower back": _words(
        "lumb, lomb, lws, lspine, l spine, lspn, ledvi, ledzw, bederni, sacr, sakr, coccy, kreuz, back, "
        "rucken, dos, espalda, schiena, поясн, крест, 腰, 骶, 仙骨, 요추"
    ),
    "an arm or hand": _words(
        "hand, main, mano, mao, reka, ruka, dlon, kez, kasi, el bilek, tangan, finger, doigt, dedo, dito, "
        "palec, prst, ujj, sormi, thumb, daumen, pouce, pulgar, pollice, wrist, poignet, muneca, polso, "
        "punho, pols, nadgarst, zapesti, csuklo, ranne, elbow, ellbogen, ellenbogen, coude, codo, gomito, "
        "cotovelo, elleboog, lokiec, loket, konyok, arm, oberarm, unterarm, bras, brazo, braccio, braco, "
        "forearm, humer, radius, ulna, shoulder, schulter, epaule, hombro, spalla, ombro, schouder, bark, "
        "ramie, rameno, vall, skulder, axel, omuz, bahu, clavic, clavicule, schlussel, obojczyk, scapul, "
        "schulterblatt, upper ext, upper limb, кист, рук, палец, запяст, локот, локт, плеч, ключиц, лопат, "
        "χερι, ωμος, ωμου, αγκων, καρπ, 手, 指, 腕, 肘, 肩, 鎖骨, 锁骨, 손, 손목, 팔, 어깨, يد, مرفق, كتف, "
        "יד, מרפק, כתף, มือ, ไหล่, แขน"
    ),
    "a leg or foot": _words(
        "knee, knie, genou, rodilla, ginocchio, joelho, kolano, koleno, terd, polvi, kne, diz, lutut, hip, "
        "hips, huft, hufte, hanche, cadera, anca, quadril, heup, biodr, kycel, csipo, lonkka, hofte, "
        "kalca, leg, bein, jambe, pierna, gamba, perna, been, noga, noha, lab, jalka, ben, bacak, femur, "
        "oberschenkel, fem, thigh, cuisse, muslo, coscia, coxa, udo, tibia, fibula, unterschenkel, patell, "
        "rotul, kniescheibe, ankle, sprung, cheville, tobillo, caviglia, tornozelo, enkel, kostka, kotnik, "
        "boka, nilkka, foot, feet, fuss, pied, pie, piede, voet, stopa, lab fej, jalkat, fot, ayak, kaki, "
        "toe, toes, zehe, orteil, heel, ferse, calcan, talon, extremit, extremid, extrem, estremita, "
        "lower limb, limb, колен, тазобедр, бедр, голен, голеност, стоп, ног, γονατ, ισχι, ποδ, 膝, 股, "
        "髋, 髖, 足, 踝, 腿, 脚, 무릎, 엉덩, 발, 다리, ركبة, قدم, ساق, ورك, ברך, רגל, ירך, כף, เข่า, ขา, "
        "เท้า, สะโพก, dau goi, ban chan"
    ),
}

# Words that say nothing of where.
NO_PART = _words(
    "other, others, unknown, unspecified, undefined, none, na, n a, nil, null, default, general, body, "
    "whole body, wholebody, entire body, trunk, torso, rumpf, tronc, tronco, misc, standard, various, "
    "not specified, not available, any, all, x ray, xray, rx, rtg, xr, cr, dx, dr, radiograph, "
    "radiography, portable, bedside, mobile, test, image, autre, autres, andere, sonstige, sonstiges, "
    "otro, otros, altro, outro, outros, overig, unbekannt, inconnu, desconocido, sconosciuto, onbekend, "
    "inne, jine, другое, прочее, неизвестно, その他, 其他, 기타"
)

# SNOMED CT, the older SNOMED RT codes of DICOM, FMA and RadLex: chest, thorax and its cavity, lungs,
# mediastinum, heart, bronchi, and regions of which the chest is one part (PS3.16, CID 4 and Annex L).
CHEST_CODES = _codes(
    "51185008 816094009 302551006 43799004 78904004 39607008 74101002 181216001 3341006 44029006 86598002 "
    "72410000 80891009 955009 110726009 417437006 416550000 416775004 416319003 416152001 "
    "T-D3000 T-D3200 T-D3050 T-28000 T-280A0 T-D3300 T-32000 T-26000 T-DD006 "
    "R-FAB52 R-FAB53 R-FAB54 R-FAB55 R-FAB56 FMA9576 9576 7195 RID1243 RID1301 RID1384"
)
NO_PART_CODES = _codes("38266002 T-D0010 22943007 T-D2000")

FRONTAL = _words(
    "ap, pa, a p, p a, appa, paap, frontal, front, antero posterior, anteroposterior, antpost, "
    "postero anterior, posteroanterior, postant, face, de face, frente, anterior, posterior, прям, передн, "
    "задн, фронтал, 正位, 正面, 前後, 后前, 後前, 前后, 정면, 전후, 후전, أمامي, חזית"
)
LATERAL = _words(
    "ll, rl, lat, later, latl, lateral, laterolateral, profil, perfil, profilo, seitlich, seite, "
    "zijdeling, dwarse, bocn, boczn, oldal, sivu, sida, sagit, yan, latero, llat, rlat, бок, боков, πλαγ, "
    "πλάγι, 側位, 侧位, 側面, 侧面, 側方, 측면, جانبي, צד"
)
OBLIQUE = _words(
    "oblique, obl, oblik, schrag, schraeg, oblicu, obliqu, skosn, sikm, ferde, rao, lao, rpo, lpo, rlo, "
    "llo, axial, tangent, cranio caudal, caudo cranial, swimmer, кос, λοξ, 斜位, 斜, 사위, مائل"
)
DECUBITUS = _words("decub, dekub, lld, rld, 臥位側, 侧卧, 側臥")
# In the order in which they are looked for: an oblique view may be called anterior, too.
VIEW_WORDS = {"decubitus": DECUBITUS, "oblique": OBLIQUE, "lateral": LATERAL, "frontal": FRONTAL}

# PS3.16, CID 4010 (DX View), in SNOMED CT and SNOMED RT.
VIEW_CODES = {
    "frontal": _codes("399033003 R-10202"),
    "AP": _codes("399348003 R-10206"),
    "PA": _codes("272479007 R-40888 R-10214"),
    "lateral": _codes(
        "399067008 R-102CD 399198007 R-10232 399173006 R-10236 399260004 R-10224 399352003 R-10228 "
        "30730003 G-A145"
    ),
    "oblique": _codes(
        "399038007 R-10210 399059000 R-10216 399135007 R-10220 260427002 R-40783 399236003 R-10234 "
        "399368009 R-10226 399356000 R-40985 399312000 R-10208 399184004 R-10238 399182000 R-102C1 "
        "260426006 R-40782 399099002 R-10230 399006002 R-10212 399160007 R-10204 399132005 R-10252 "
        "399325008 R-10254 399004004 R-10246 399225005 R-10250 399288005 R-10248 R-10218 R-10222"
    ),
    "other": _codes(
        "399061009 R-10241 399110001 R-102C2 399162004 R-10242 399196006 R-10244 399242004 R-102C6 "
        "399351005 R-102C7 260499007 R-40810 399071006 R-102C3 399360002 R-10257 119376003 G-8300 "
        "399272005 R-102C5 399255003 R-10256 399335002 R-102C4 399316002 R-102C8"
    ),
}
