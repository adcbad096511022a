"""Files of bars, whatever their make: opened within limits, read as text or typed columns, interpreted once."""
