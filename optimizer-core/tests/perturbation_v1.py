"""Writes perturbation_v1.json: test vectors of perturbations, from a second implementation of the same definition.

    python3 perturbation_v1.py ../src/noise/normal_table.bin perturbation_v1.json
"""
import json, math, struct, sys
from noise_v1 import f32, hexes, normal_bits, word

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
RUN, SIZE_OF_BLOCK = 0x0123456789ABCDEF, 1024
LAYOUT = [("a", [5]), ("b", [4, 6]), ("c", [1, 7]), ("d", []), ("e", [2, 3, 2]), ("f", [9, 3])]


def finalise(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def fold_in(seed, w):
    return finalise((finalise((seed + GOLDEN) & MASK) + ((w * GOLDEN & MASK) ^ w)) & MASK)


def perturbation_seed(outer_step, slot, pair):
    seed = RUN
    for w in [1, outer_step, slot, pair]:
        seed = fold_in(seed, w)
    return seed


class Stream:
    """The normals of one pair, in order."""

    def __init__(self, outer_step, slot, pair):
        self.seed, self.next = perturbation_seed(outer_step, slot, pair), 0

    def take(self, count):
        words = [word(self.seed, 0, self.next + i) for i in range(count)]
        self.next += count
        return [struct.unpack("<f", struct.pack("<I", normal_bits(w)))[0] for w in words]


def low_rank(stream, rank):
    epsilon = []
    for _, shape in LAYOUT:
        if len(shape) == 2 and rank * sum(shape) < math.prod(shape):
            rows, columns = shape
            a = [stream.take(rows) for _ in range(rank)]
            b = [stream.take(columns) for _ in range(rank)]
            scale = 1.0 / math.sqrt(rank)
            for i in range(rows):
                for j in range(columns):
                    entry = 0.0
                    for k in range(rank):
                        entry += a[k][i] * b[k][j]
                    epsilon.append(f32(entry * scale))
        else:
            epsilon += stream.take(math.prod(shape))
    return epsilon


def dot(a, b):
    sums = [0.0] * 8
    for i, (x, y) in enumerate(zip(a, b)):
        sums[i % 8] += x * y
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]))


def orthogonal(outer_step, slot, pair):
    """Gram–Schmidt on coefficients, as far as no rest is short. Theta fits one block of the sums."""
    size = sum(math.prod(shape) for _, shape in LAYOUT)
    assert size <= SIZE_OF_BLOCK
    raw = [Stream(outer_step, slot, p).take(size) for p in range(pair + 1)]
    gram = [[0.0 + dot(g, h) for h in raw] for g in raw]
    units = []
    for i in range(pair + 1):
        unit = [0.0] * i + [1.0]
        shares = []
        for other in units:
            share = 0.0
            for k, u in enumerate(other):
                share += u * gram[max(k, i)][min(k, i)]
            shares.append(share)
        squares = 0.0
        for share in shares:
            squares += share * share
        rest = gram[i][i] - squares
        assert rest > gram[i][i] / 4096
        for other, share in zip(units, shares):
            for k, u in enumerate(other):
                unit[k] -= share * u
        factor = 1.0 / math.sqrt(rest)
        units.append([u * factor for u in unit])
    length = math.sqrt(gram[pair][pair])
    last = [u * length for u in units[pair]]
    epsilon = []
    for i in range(size):
        entry = 0.0
        for c, g in zip(last, raw):
            entry += c * g[i]
        epsilon.append(f32(entry))
    return epsilon


def bits(values):
    return hexes(struct.unpack("<I", struct.pack("<f", value))[0] for value in values)


PLACES = [(0, 0, 0), (7, 3, 2), (2**40, 4095, 5)]
if __name__ == "__main__":
    cases = []
    for outer_step, slot, pair in PLACES:
        place = {"outer_step": outer_step, "slot": slot, "pair": pair}
        for rank in [1, 2]:
            epsilon = low_rank(Stream(outer_step, slot, pair), rank)
            cases.append({**place, "noise": {"kind": "low_rank", "rank": rank}, "bits": bits(epsilon)})
        cases.append({**place, "noise": {"kind": "orthogonal"}, "bits": bits(orthogonal(outer_step, slot, pair))})
    size = len(cases[0]["bits"])
    cases.append({**place, "noise": {"kind": "dense"}, "bits": bits(Stream(*PLACES[-1]).take(size))})
    layout = [{"name": name, "shape": shape} for name, shape in LAYOUT]
    vectors = {"version": "noise/v1", "run": f"{RUN:016x}", "layout": layout, "perturbations": cases}
    json.dump(vectors, open(sys.argv[2], "w"), indent=1)
