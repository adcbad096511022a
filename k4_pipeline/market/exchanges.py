"""Which exchange a ticker trades on, told from its suffix in the vendors' usual spelling (Yahoo's, mostly)."""

from __future__ import annotations

import re

# suffix -> calendar of exchange_calendars (a MIC); several markets of one country share its calendar.
EXCHANGE_OF_SUFFIX = {
    "US": "XNYS", "L": "XLON", "IL": "XLON", "UK": "XLON", "KL": "XKLS", "DE": "XETR", "F": "XFRA", "BE": "XFRA",
    "DU": "XFRA", "HM": "XFRA", "MU": "XFRA", "SG": "XFRA", "PA": "XPAR", "AS": "XAMS", "BR": "XBRU", "LS": "XLIS",
    "MI": "XMIL", "MC": "XMAD", "SW": "XSWX", "VI": "XWBO", "IR": "XDUB", "ST": "XSTO", "CO": "XCSE", "HE": "XHEL",
    "OL": "XOSL", "IC": "XICE", "WA": "XWAR", "PR": "XPRA", "BD": "XBUD", "AT": "ASEX", "IS": "XIST", "TA": "XTAE",
    "SR": "XSAU", "JO": "XJSE", "TO": "XTSE", "V": "XTSE", "CN": "XTSE", "NE": "XTSE", "MX": "XMEX", "SA": "BVMF",
    "BA": "XBUE", "SN": "XSGO", "T": "XTKS", "JP": "XTKS", "HK": "XHKG", "SS": "XSHG", "SZ": "XSHG", "KS": "XKRX",
    "KQ": "XKRX", "TW": "XTAI", "TWO": "XTAI", "SI": "XSES", "BK": "XBKK", "JK": "XIDX", "PS": "XPHS", "KA": "XKAR",
    "NS": "XBOM", "BO": "XBOM", "AX": "XASX", "NZ": "XNZE",
}  # fmt: skip

EXCHANGE_TITLES = {
    "L": "London",
    "KL": "Kuala Lumpur",
    "DE": "Xetra",
    "F": "Frankfurt",
    "PA": "Paris",
    "AS": "Amsterdam",
    "TO": "Toronto",
    "V": "TSX Venture",
    "HK": "Hong Kong",
    "T": "Tokyo",
    "AX": "Australia",
    "SW": "Switzerland",
    "MI": "Milan",
    "ST": "Stockholm",
    "SI": "Singapore",
    "": "no suffix, usually US",
}


def split_suffix(ticker: str) -> tuple[str, str]:
    """("VOD", "L") of "VOD.L"; ("BRK.B", "") where the part after the last dot is a share class, not an exchange."""
    stem, dot, suffix = ticker.rpartition(".")
    if dot and stem and suffix.upper() in EXCHANGE_OF_SUFFIX:
        return stem, suffix.upper()
    return ticker, ""


# Pairs of a coin against money: traded every day, with bars of UTC days.
ALWAYS_OPEN = "24/7"
_COINS = re.compile(r"^[A-Z0-9]{2,12}(?:[-/](?:USD|EUR|GBP|JPY|KRW|BTC|ETH|USDT|USDC)|USDT|USDC|FDUSD|BUSD)(?:#\d+)?$")


def exchange_of(ticker: str, default: str = "XNYS") -> str:
    """The exchange calendar of a ticker, from its suffix; `default` when it has none that is known.

    `BTC-USD`, `ETHUSDT` and the like are traded every day (`ALWAYS_OPEN`).
    """
    if _COINS.match(ticker):
        return ALWAYS_OPEN
    suffix = split_suffix(ticker)[1]
    return EXCHANGE_OF_SUFFIX[suffix] if suffix else default
