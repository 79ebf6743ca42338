"""1:1 verification: scores of pairs to rates, accuracy and thresholds."""
