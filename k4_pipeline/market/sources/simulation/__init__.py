"""The simulated market: parameters, process, splits and back-adjustment, dirty rows, hidden truth."""
