"""Damage to files, as disks, networks and attackers cause it."""


def mutate(rng, data, words, others):
    """The same bytes with a few things wrong: the kinds of damage that files really suffer."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(0, len(data) + 1))
        word = words[rng.integers(0, len(words))]
        length = int(2 ** rng.uniform(0, 8))
        match rng.integers(0, 9):
            case 0 if at < len(data):
                data[at] ^= 1 << int(rng.integers(0, 8))
            case 1:
                data[at : at + length] = rng.bytes(length)
            case 2:
                del data[at : at + length]
            case 3:
                del data[at:]
            case 4:
                data[at:at] = data[at // 2 : at // 2 + length]
            case 5:
                data[at : at + len(word)] = word
            case 6:
                data[at:at] = word
            case 7:
                at -= at % 4
                data[at : at + 4] = words[rng.integers(0, len(words))][:4]
            case 8:
                other = others[rng.integers(0, len(others))]
                data[at : at + length] = other[at : at + length]
        if not data:
            break
    return bytes(data)
