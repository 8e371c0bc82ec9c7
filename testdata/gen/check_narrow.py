"""Prints what PyTorch makes of every float32 as BF16 and as F16.

    python check_narrow.py

One line for each dtype and each 2^24 bit patterns in a row: dtype, number of the chunk, SHA-256 of the results as
little-endian 16-bit patterns. NaNs are counted as one pattern, 7fc0 or 7e00: which payload they keep is the processor's
choice.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

CHUNK = 1 << 24
PIECE = 1 << 18  # stays in the cache


def digest(work):
    import torch

    name, dtype, nan, chunk = work
    first = chunk * CHUNK - (1 << 32 if chunk >= 128 else 0)  # as signed integers
    sha = hashlib.sha256()
    for start in range(first, first + CHUNK, PIECE):
        x = torch.arange(start, start + PIECE, dtype=torch.int32).view(torch.float32)
        y = x.to(dtype).view(torch.int16)
        if chunk in (127, 255):  # where the exponent has all bits set
            y[x.isnan()] = nan
        sha.update(y.numpy())
    return f"{name} {chunk} {sha.hexdigest()}"


def main():
    import torch

    torch.set_num_threads(1)
    work = [(name, dtype, nan, chunk) for name, dtype, nan in (("BF16", torch.bfloat16, 0x7FC0), ("F16", torch.float16, 0x7E00)) for chunk in range(256)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for line in pool.map(digest, work):
            print(line)


if __name__ == "__main__":
    main()
