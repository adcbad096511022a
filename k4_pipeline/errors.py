"""Errors a user can act on. Every message says what was found, what was expected and what to do next."""


class K4Error(Exception):
    """Base of every error raised on purpose by this package."""


class BadInputError(K4Error):
    """Input data cannot be used; names the ticker, date or file and the remedy."""


class StaleArtifactError(K4Error):
    """A stored artifact is missing, failed its checks, or does not match the inputs it was made from."""


class DamagedArtifactError(StaleArtifactError):
    """What is stored is not what was written: bytes, names or structure differ from their hash."""


class ConfigError(K4Error):
    """A setting is unknown or has a value outside its allowed range."""


class BusyError(K4Error):
    """Another run writes into the same home; the message names it."""
