"""What one written date can mean: a day, two days (day or month first), or an instant. Nothing is decided here.

Read: ISO, YYYYMMDD, YYYY/MM/DD, DD.MM.YYYY, month names of eighteen languages, 2015年3月2日, D/M/YYYY against M/D/YYYY, Excel's
day numbers, and seconds to nanoseconds since 1970; each with or without a time and a zone. Years of two digits are not.
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

NO_DAY = -(2**31)  # the date could not be read
_EPOCH = dt.date(1970, 1, 1).toordinal()
_EXCEL_ZERO = dt.date(1899, 12, 30).toordinal() - _EPOCH

_MONTHS = """
jan january januar janvier janv enero ene gennaio gen janeiro januari sty stycznia oca ocak ian gener sij led tammikuuta янв января ιαν
feb february februar fevrier fevr febrero febbraio fevereiro fev februari lut lutego sub subat febr velj uno helmikuuta фев февр февраля φεβ
mar march marz mrz mars marzo marco maart mrt marca mart marc ozu bre maaliskuuta мар марта μαρ
apr april avril avr abril abr aprile kwi kwietnia nis nisan tra dub huhtikuuta апр апреля απρ
may mai mayo maggio mag maio mei maj maja mayis maig svi kve toukokuuta мая маи μαι
jun june juni juin junio giugno giu junho cze czerwca haz haziran iun juny cvn kesakuuta июн июня ιουν
jul july juli juillet juil julio luglio lug julho lipca tem temmuz iul cvc heinakuuta июл июля ιουλ
aug august aout aou agosto ago augustus augusti sie sierpnia agu agustos ag kol srpna elokuuta авг августа αυγ
sep sept september septembre septiembre set settembre setembro wrz wrzesnia eyl eylul szept ruj zar syyskuuta сен сент сентября σεπ
oct october oktober okt octobre octubre ottobre ott outubro out paz pazdziernika eki ekim rij lokakuuta окт октября οκτ
nov november novembre noviembre novembro kas kasim stu marraskuuta ноя нояб ноября νοε
dec december dezember dez decembre diciembre dic dicembre dezembro des desember gru grudnia ara aralik pro joulukuuta дек декабря δεκ
"""
_MONTH_OF = {word: i + 1 for i, line in enumerate(_MONTHS.strip().splitlines()) for word in line.split()}
# Words that name one month in some languages and another in others; the other months of a file tell which.
_SHARED = re.compile(r"(?<![^\W\d_])(lip|lis|listopada|srp)(?![^\W\d_])", re.IGNORECASE)
_TELLING = (
    ("sij velj ozu svi kol ruj stu", {"lip": "jun", "lis": "oct", "listopada": "oct", "srp": "jul"}),
    ("led uno bre dub kve cvn cvc zar rij", {"lis": "nov", "srp": "aug"}),
    ("sty lut kwi cze sie wrz paz gru", {"lip": "jul", "lis": "nov", "listopada": "nov"}),
)
_ZONES = {"Z": 0, "UTC": 0, "GMT": 0, "EST": -300, "EDT": -240, "CET": 60, "CEST": 120, "JST": 540, "HKT": 480}
_TAIL = (
    r"(?:(?:[T ]\s*|,\s*)(?P<h>\d{1,2}):?(?P<m>\d{2})(?::?(?P<s>\d{2})(?:[.,](?P<f>\d+))?)?\s*(?P<ap>[AaPp]\.?[Mm]\.?)?)?"
    r"\s*(?P<zone>Z|UTC|GMT|E[SD]T|CES?T|JST|HKT|(?:UTC|GMT)?[+-]\d{2}:?\d{2}|[+-]\d{2})?(?:\[[\w/]+\])?$"
)
_WEEKDAY = r"^(?:[^\W\d_]{2,12}\.?,?\s+)?"
_MONTH = r"[^\W\d_]{2,12}"
_YMD = re.compile(r"^(\d{4})([-/.])\s?(\d{1,2})\2\s?(\d{1,2})\.?" + _TAIL, re.IGNORECASE)
_COMPACT = re.compile(r"^((?:1[89]|2[01])\d{2})(\d{2})(\d{2})(?:\.0+)?" + _TAIL, re.IGNORECASE)
_NUMERIC = re.compile(_WEEKDAY + r"(\d{1,2})([-/.])\s?(\d{1,2})\2\s?(\d{4})" + _TAIL, re.IGNORECASE)
_DMY = re.compile(
    _WEEKDAY
    + rf"(\d{{1,2}})(?:st|nd|rd|th|er|º)?[\s\-/.]*(?:de\s+|of\s+)?({_MONTH})\.?[\s\-/.,]*(?:de[l]?\s+)?(\d{{4}})\.?(?:\s*г\.?)?"
    + _TAIL,
    re.IGNORECASE,
)
_MDY = re.compile(
    _WEEKDAY + rf"({_MONTH})\.?[\s\-/.]*(\d{{1,2}})(?:st|nd|rd|th)?[\s\-/.,]+(\d{{4}})" + _TAIL, re.IGNORECASE
)
_YMON = re.compile(rf"^(\d{{4}})[\s\-/.]+({_MONTH})\.?[\s\-/.]+(\d{{1,2}})\.?" + _TAIL, re.IGNORECASE)
_CJK = re.compile(r"^(\d{4})\s*[年년]\s*(\d{1,2})\s*[月월]\s*(\d{1,2})\s*[日일]?" + _TAIL)
_NUMBER = re.compile(r"^(\d+)(?:\.(\d+))?$")
_SHORT = re.compile(r"^\d{1,2}[-/. ]+(?:\d{1,2}|[^\W\d_]{3,9})\.?[-/. ]+\d{2}(?:\D|$)|^\d{2}[-/.]\d{1,2}[-/.]\d{1,2}$")


@dataclass(frozen=True)
class Written:
    """`first` is the day as written (day first where two readings are left), `second` the other one (month first).

    `wall`: seconds of the day when a zone was written and the time is not midnight, `offset` that zone in minutes.
    `cause` says why nothing could be read; `serial` marks a day number of Excel.
    """

    first: int = NO_DAY
    second: int = NO_DAY
    numeric: bool = False
    wall: int = 0
    offset: int | None = None
    cause: str = ""
    serial: bool = False


def day_number(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01; `NO_DAY` for a date that does not exist."""
    try:
        return dt.date(year, month, day).toordinal() - _EPOCH
    except ValueError:
        return NO_DAY


def _folded(text: str) -> str:
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return plain.replace("ł", "l").replace("ı", "i")


def in_one_language(texts: list[str]) -> list[str]:
    """The texts of a file, with months that are another one elsewhere (`lis`) in English where the file tells which."""
    if not any(_SHARED.search(text or "") for text in texts):
        return texts
    words = {w.lower()[:4] for text in texts for w in re.findall(r"[^\W\d_]+", _folded(text or ""))}
    words |= {w[:3] for w in words}
    fitting = [months for telling, months in _TELLING if words & set(telling.split())]
    if len(fitting) != 1:
        return texts
    return [_SHARED.sub(lambda m: fitting[0].get(m[1].lower(), m[1]), text or "") for text in texts]


@lru_cache(maxsize=200_000)
def read_date(raw: str) -> Written:
    """Every reading of one text."""
    text = unicodedata.normalize("NFKC", raw).strip().strip("\"'").strip()
    if match := _YMD.match(text):
        return _single(match, int(match[1]), int(match[3]), int(match[4]))
    if match := _COMPACT.match(text):
        return _single(match, int(match[1]), int(match[2]), int(match[3]))
    if match := _NUMERIC.match(text):
        a, b, year = int(match[1]), int(match[3]), int(match[4])
        day_first = _single(match, year, b, a)
        if match[2] == "." or day_first.cause == "time":
            return day_first
        return Written(day_first.first, day_number(year, a, b), True, day_first.wall, day_first.offset)
    if match := _NUMBER.match(text):
        return _from_number(match[1], match[2] or "")
    folded = _folded(text)
    for pattern, order in ((_DMY, "dmy"), (_MDY, "mdy"), (_YMON, "ymd")):
        if match := pattern.match(folded):
            part = dict(zip(order, match.groups()[:3]))
            month = _MONTH_OF.get(part["m"].lower(), 0)
            if month:
                return _single(match, int(part["y"]), month, int(part["d"]))
    if match := _CJK.match(text):
        return _single(match, int(match[1]), int(match[2]), int(match[3]))
    return Written(cause="year of two digits" if _SHORT.match(folded) else "not understood")


def _single(match: re.Match[str], year: int, month: int, day: int) -> Written:
    hour = int(match["h"] or 0)
    if match["ap"]:
        hour = hour % 12 + (12 if match["ap"][0] in "pP" else 0)
    minute, second = int(match["m"] or 0), int(match["s"] or 0)
    if hour > 23 or minute > 59 or second > 60:
        return Written(cause="time")
    wall = hour * 3600 + minute * 60 + second + (1 if match["f"] and int(match["f"]) else 0)
    zone = (match["zone"] or "").upper()
    found = day_number(year, month, day)
    if not zone or wall == 0:
        return Written(found)
    if zone in _ZONES:
        return Written(found, wall=wall, offset=_ZONES[zone])
    digits = zone.removeprefix("UTC").removeprefix("GMT")
    hours, minutes = int(digits[1:3]), int(digits[3:].replace(":", "") or 0)
    return Written(found, wall=wall, offset=(-1 if digits[0] == "-" else 1) * (hours * 60 + minutes))


def _from_number(whole: str, fraction: str) -> Written:
    """A day number of Excel (20000 to 80000) or a moment since 1970 in s, ms, us or ns; both by their size alone."""
    value, digits = int(whole), len(whole)
    if digits == 5 and 20_000 <= value < 80_000:
        return Written(_EXCEL_ZERO + value, serial=True)
    for low, high, per_second in ((9, 10, 1), (12, 13, 10**3), (15, 16, 10**6), (18, 19, 10**9)):
        if low <= digits <= high and value < 4_200_000_000 * per_second:
            seconds = value // per_second
            return Written(seconds // 86_400, wall=seconds % 86_400, offset=0)
    return Written(cause="not understood")
