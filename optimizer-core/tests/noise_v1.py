"""Writes noise_v1.json: test vectors of noise/v1, from a second implementation of the same definition.

    python3 noise_v1.py ../src/noise/normal_table.bin noise_v1.json
"""
import json, pathlib, struct, sys

MASK = 0xFFFFFFFF
TABLE = pathlib.Path(sys.argv[1]).read_bytes()


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & MASK, (p0 >> 32) ^ c[3] ^ k[1], p0 & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def word(seed, stream, index):
    block = index // 4
    return philox([block & MASK, block >> 32, stream, 0], [seed & MASK, seed >> 32])[index % 4]


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def normal_bits(w):
    m = w & 0x7FFFFFFF
    octave = 31 - m.bit_length()
    aligned = m << octave if m else 0
    row = octave * 64 + ((aligned >> 24) & 63)
    base, slope = struct.unpack_from("<ff", TABLE, 8 * row)
    z = f32(base + f32(slope * (aligned & 0xFFFFFF)))
    bits = struct.unpack("<I", struct.pack("<f", z))[0]
    return bits ^ (w & 0x80000000)


def hexes(values):
    return [f"{value:08x}" for value in values]


if __name__ == "__main__":
    SEEDS = [0, 1, 0x0123456789ABCDEF, 2**64 - 1]
    FIRSTS = [0, 3, 61, 2**34 - 2]
    json.dump(
        {
            "version": "noise/v1",
            "normals": [
                {"seed": f"{seed:016x}", "first": first, "bits": hexes(normal_bits(word(seed, 0, first + i)) for i in range(9))}
                for seed in SEEDS
                for first in FIRSTS
            ],
            "draws": [{"seed": f"{seed:016x}", "words": hexes(word(seed, 1, i) for i in range(9))} for seed in SEEDS],
            "transform": [{"word": f"{w:08x}", "bits": f"{normal_bits(w):08x}"}
                          for w in [0, 1, 2, 3, 63, 64, 65, 127, 128, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xDEADBEEF, 0x40000000, 0x3FFFFFFF]],
        },
        open(sys.argv[2], "w"),
        indent=1,
    )
