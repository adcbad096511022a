"""Which heading names which field: the usual spellings of the vendors, in the languages their files come in.

Spellings stand in ranks. The lowest rank that is met wins ("Close" before "Last"); two columns of one rank are two
candidates, and that is an error: nobody knows which of them is meant.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from k4_pipeline.errors import BadInputError

FIELDS = ("ticker", "date", "open", "high", "low", "close", "volume")
VALUES = ("open", "high", "low", "close", "volume")

_RANKS: dict[str, tuple[str, ...]] = {
    "ticker": (
        "ticker",
        "symbol",
        "sym code instrument ric tic permticker stock tickersymbol stockcode tscode secid tckrsymb isin 銘柄 代码 股票代码",
    ),
    "date": (
        "date",
        "dates datum fecha data 日付 日期 交易日期 日時 날짜 일자 дата tarih paivamaara dato tradedate tradingday tradingdate "
        "sessiondate asofdate pricedate datadate traddt dtyyyymmdd",
        "datetime timestamp dateandtime opentime windowstart gmttime localtime",
        "day dt time t",
        "index indexlevel0 unnamed0",
        " ",
    ),
    "open": (
        "open",
        "o openprice openprc prcod opnpric pxopen opening openingprice eroffnung eroffnungskurs eroffn erster ouv ouverture apertura abertura "
        "otwarcie otevreni 始値 开盘 开盘价 開盤 開盤價 시가 открытие",
    ),
    "high": (
        "high",
        "h highprice high1 askhi prchd hghpric pxhigh dayhigh hoch hochst tageshoch haut plushaut maximo massimo maxima najwyzszy hoog 高値 最高 "
        "最高价 最高價 고가 максимум",
        "max",
    ),
    "low": (
        "low",
        "l lowprice low1 bidlo prcld lwpric pxlow daylow tief tiefst tagestief bas plusbas minimo minimum minima najnizszy laag 安値 最低 最低价 "
        "最低價 저가 минимум",
        "min",
    ),
    "close": (
        "close",
        "c closeprice closingprice prc prccd trdprc1 clspric pxlast closelast schluss schlusskurs cloture clot cierre chiusura fechamento zamkniecie "
        "slot slotkoers 終値 收盘 收盘价 收盤 收盤價 종가 закрытие цена",
        "last price lastprice letzter zuletzt dernier ultimo",
    ),
    "volume": (
        "stuck stuecke stk",  # the number of shares; a volume beside it is money
        "volume",
        "vol v cshtrd acvoluns ttltradgvol pxvolume sharevolume tradedvolume totalvolume volumen wolumen volym volumeshares tottrdqty totaltradedquantity tradedquantity tradedqty 出来高 成交量 거래량 объем объём",
        "shares sharestraded",
    ),
    "period": ("per period interval timeframe frequency",),
    "currency": ("currency ccy devise wahrung moneda valuta",),
    "exchange": ("exchange mic market exch primaryexchange boardid",),
    "tickvol": ("tickvol tickvolume",),
    "split": ("splitfactor stocksplits splitratio splitcoefficient",),
    "adj_open": ("adjopen adjustedopen openadj",),
    "adj_high": ("adjhigh adjustedhigh highadj",),
    "adj_low": ("adjlow adjustedlow lowadj",),
    "adj_close": ("adjclose adjustedclose closeadj closeadjusted adjcloseprice adjustedcloseprice",),
    "adj_volume": ("adjvolume adjustedvolume volumeadj",),
}
_RANK_OF: dict[str, list[tuple[str, int]]] = {}
for _field, _ranks in _RANKS.items():
    for _rank, _words in enumerate(_ranks):
        for _word in _words.split() or [""]:
            _RANK_OF.setdefault(_word, []).append((_field, _rank))


_NAMED = 3
KNOWN_HEADINGS = frozenset(word for word in _RANK_OF if len(word) > 2)
_MONEY = re.compile(
    r"vol\w*\.?\s*[\[(]\s*(?:in\s+)?(?:lots?|usd|eur|gbp|jpy|chf|cny|hkd|inr|krw|rub|[$€£¥₹₩])[^)\]]*[)\]]",
    re.IGNORECASE,
)


def plain(heading: object) -> str:
    """Lower case, without accents, signs, spaces and a unit in brackets; digits stay: `Volume20` is no volume.

    Nor is `Volume (EUR)`, which counts money, nor one in lots of a size that nobody states.
    """
    text = unicodedata.normalize("NFKD", str(heading)).lower()
    if _MONEY.search(text):
        return text
    text = re.sub(r"^\s*\d{1,2}\.\s+(?=\w)", "", text)  # `1. open`
    text = re.sub(r"(?<=\w)\s*[\(\[][^)\]]*[\)\]]\s*", "", text)
    text = "".join(c for c in text if not unicodedata.combining(c)).replace("ł", "l")
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text))


def fields_of(heading: str) -> set[str]:
    """Every field a heading may stand for; an index without a name stands for none."""
    return {field for field, rank in _RANK_OF.get(plain(heading), ()) if rank <= _NAMED}


def match_columns(names: Sequence[object], *, where: str, need_ticker: bool, prices: str = "raw") -> dict[str, str]:
    """Field -> the file's own heading: the needed fields, and the optional ones of `_RANKS` that are there.

    The adjusted close serves as close only when there is no plain one. `prices="adjusted"` takes the adjusted set when
    it is complete. Raises `BadInputError` naming the file, and what is missing or doubly there.
    """
    own = [str(name) for name in names]
    hits: dict[str, dict[int, list[str]]] = {}
    for name in own:
        for field, rank in _RANK_OF.get(plain(name), ()):
            hits.setdefault(field, {}).setdefault(rank, []).append(name)
    found: dict[str, str] = {}
    for field, by_rank in hits.items():
        best = by_rank[min(by_rank)]
        exact = [n for n in best if n.strip().lower() == field]
        best = exact if len(exact) == 1 else best
        if len(best) > 1 and field in FIELDS:
            raise BadInputError(
                f"{where}: {len(best)} columns may be the {field}: {', '.join(repr(n) for n in best)}; keep one of them"
            )
        found[field] = best[0]
    adjusted = [f"adj_{v}" for v in VALUES]
    if prices == "adjusted":
        absent = [f for f in adjusted if f not in found]
        if absent:
            raise BadInputError(f"{where}: no column for {', '.join(absent)}, which source.prices=adjusted needs")
        found |= {v: found[f"adj_{v}"] for v in VALUES}
    if "close" not in found and "adj_close" in found:
        found["close"] = found["adj_close"]
    missing = [f for f in FIELDS if f not in found and (f != "ticker" or need_ticker)]
    if missing:
        raise BadInputError(
            f"{where}: no column for {', '.join(missing)}; it has {', '.join(own) or 'no columns'}. "
            "Needed are date, open, high, low, close, volume" + (" and ticker" if need_ticker else "")
        )
    return found


_TUPLE = re.compile(r"""\(\s*['"]?([^'",]*)['"]?\s*,\s*['"]?([^'",]*)['"]?\s*\)""")


def field_of(word: str) -> str:
    """The value field (or adj_close) a heading stands for; "" for another."""
    found = [f for f, _ in _RANK_OF.get(plain(word), ()) if f in VALUES or f == "adj_close"]
    return found[0] if found else ""


def wide_groups(names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Ticker -> field -> column, of flattened headings such as `Close_CAR`, `CAR Close`, `('Close', 'CAR')`."""
    return {t: fields for t, fields in _all_groups(names).items() if set(VALUES) <= fields.keys()}


def _all_groups(names: Sequence[str]) -> dict[str, dict[str, int]]:
    groups: dict[str, dict[str, int]] = {}
    for i, name in enumerate(names):
        pairs: list[tuple[str, str]] = []
        if match := _TUPLE.fullmatch(name.strip()):
            pairs = [(match[1], match[2]), (match[2], match[1])]
        else:
            for sign in re.finditer(r"[_|:/ .\-]+", name):
                left, right = name[: sign.start()], name[sign.end() :]
                pairs += [(left, right), (right, left)]
        for word, ticker in pairs:
            field = field_of(word)
            if field and ticker.strip() and not field_of(ticker):
                groups.setdefault(ticker.strip(), {}).setdefault(field, i)
                break
    return groups


def incomplete_groups(names: Sequence[str]) -> list[str]:
    """Tickers of a wide table that have some columns of a bar and lack others, with what they lack."""
    told = []
    for ticker, fields in _all_groups(names).items():
        lacking = [v for v in VALUES if v not in fields]
        if 0 < len(lacking) <= 2:
            told.append(f"{ticker} ({', '.join(lacking)})")
    return told


def wide_date(names: Sequence[str]) -> int:
    """The column of dates in a wide table: the one headed so (`Date`, `('Date', '')`), else the first."""
    ranks = [min((r for f, r in _RANK_OF.get(plain(n), ()) if f == "date"), default=99) for n in names]
    return ranks.index(min(ranks)) if min(ranks) < 99 else 0


_UNIT = re.compile(
    r"[(\[]\s*(?:in |of )?(?:shares in )?(?:'?(?P<k>000s?|k|thousands?|tsd\.?|千)|(?P<m>mn|mln|mio\.?|m|millions?|百万)|(?P<lot>手)|x?(?P<n>10+)'?s?)\b[^)\]]*[)\]]"
    r"|\b(?:in )(?:(?P<k2>thousands)|(?P<m2>millions))\b",
    re.IGNORECASE,
)


def unit_of(heading: str) -> float:
    """What a heading says its numbers are counted in: 1,000 of `Volume (000s)`, 1,000,000 of `Volume [mn]`, 100 of `成交量(手)`, else 1."""
    match = _UNIT.search(heading)
    if match is None:
        return 1.0
    if match["lot"]:
        return 100.0
    if match["n"]:
        return float(match["n"])
    return 1e3 if match["k"] or match["k2"] else 1e6


_MINOR = re.compile(r"[\[(]\s*(?:in )?(p|pence|gbx|gbp|cents?|¢|zac|ila)\s*[\])]", re.IGNORECASE)


def minor_unit(heading: str) -> str:
    """The small coin that a heading counts prices in (`Open (pence)`); "" for none. `GBP` are pounds, `GBp` pence."""
    match = _MINOR.search(heading)
    return "" if match is None or match[1] == "GBP" else match[1]
