"""Writes normal_table.bin, the quantile table of noise/v1 (standard library only).

Row r = 64 * octave + segment holds (base, slope), little-endian f32, of the line that stands for the upper quantile of
the half-normal on that segment. The 31 magnitude bits m of a random word mean the two-sided tail probability
p = (m + 1/2) / 2^31; octave = leading zeros of m in 31 bits (31 for m = 0), segment = the 6 bits after the leading one,
fraction = the 24 bits after those, so that

    z = base + slope * fraction,    z(m) = -inverse_normal_cdf(p / 2).

Lines are chords: z falls with m without a jump (but for rounding). Chords lie above the convex z, so everything is scaled down (by about
1 - 4e-6) until the variance over all 2^31 magnitudes, of the f32 values as stored, is 1.

    python3 normal_table.py normal_table.bin
"""
import hashlib, math, pathlib, struct, sys
from fractions import Fraction
from statistics import NormalDist

BITS = 31
SEGMENTS = 64
inverse = NormalDist().inv_cdf


def quantile(m):
    return -inverse((m + 0.5) / 2**BITS / 2)


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def lines():
    """(octave, segment, values of m in it, base, slope per unit of fraction), unscaled."""
    for octave in range(BITS):
        step = 1 << octave  # fraction moves by this when m moves by one
        for segment in range(SEGMENTS):
            first = ((1 << 30) + (segment << 24)) // step  # smallest m, if the segment starts on one
            if first * step != (1 << 30) + (segment << 24):
                yield octave, segment, 0, 0.0, 0.0  # no m falls here: octaves past 24 have fewer bits than segments
                continue
            count = max(1, (1 << 24) // step)
            base = quantile(first)
            slope = (quantile(first + count) - base) / (count * step) if count > 1 else 0.0
            yield octave, segment, count, base, slope
    for segment in range(SEGMENTS):  # octave 31 is m = 0 alone
        yield BITS, segment, 1 if segment == 0 else 0, quantile(0) if segment == 0 else 0.0, 0.0


def variance(rows):
    """Exact second moment of base + slope * k * 2^octave over all m."""
    total = Fraction(0)
    for octave, _, count, base, slope in rows:
        b, s = Fraction(base), Fraction(slope) * (1 << octave)
        total += count * b * b + b * s * count * (count - 1) + s * s * Fraction((count - 1) * count * (2 * count - 1), 6)
    return total / 2**BITS


def main(path):
    raw = list(lines())
    assert len(raw) == 32 * SEGMENTS and sum(row[2] for row in raw) == 2**BITS
    scale = 1 / math.sqrt(variance(raw))
    for _ in range(3):  # rounding to f32 moves the variance a little: correct for it
        rounded = [(o, g, c, f32(b * scale), f32(s * scale)) for o, g, c, b, s in raw]
        scale /= math.sqrt(variance(rounded))
    data = b"".join(struct.pack("<ff", base, slope) for _, _, _, base, slope in rounded)
    pathlib.Path(path).write_bytes(data)
    print(f"scale 1 - {1 - scale:.3e}, variance - 1 = {float(variance(rounded) - 1):.3e}")
    print(f"largest value {rounded[31 * SEGMENTS][3]}")
    print("sha256", hashlib.sha256(data).hexdigest())


main(sys.argv[1])
