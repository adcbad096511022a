"""What a list of signals would have been worth: orders, a portfolio with limits, costs, and lists to compare with.

It reads bars after a snapshot, as outcomes do; nothing of it returns into a feature, a model or a signal.
"""
