"""Every pair of a set, or a long list of pairs, exact and in bounded memory."""
