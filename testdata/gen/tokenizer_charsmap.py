"""SentencePiece's precompiled_charsmap, which its converted models carry as the normalizer Precompiled."""

import struct


def compiled(rules):
    """The bytes for {old: new}: a double array over the bytes of the keys, in the layout of darts-clone, whose values are offsets
    of the new texts behind it."""
    texts, offsets, trie = b"", {}, {}
    for old, new in sorted(rules.items()):
        if new not in offsets:
            offsets[new] = len(texts)
            texts += new.encode() + b"\0"
        node = trie
        for byte in old.encode():
            node = node.setdefault(byte, {})
        node[0] = offsets[new]  # no key has a NUL
    units, bases = {0: 0}, set()

    def place(node, position):
        base = 1
        while base in bases or any(base ^ byte in units for byte in node):
            base += 1
        bases.add(base)
        units[position] |= (position ^ base) << 10 | (0 in node) << 8
        for byte in node:
            units[base ^ byte] = byte if byte else node[0] | 1 << 31
        for byte in sorted(node):
            if byte:
                place(node[byte], base ^ byte)

    place(trie, 0)
    array = [units.get(i, 0) for i in range((max(units) | 255) + 1)]
    return struct.pack(f"<{len(array) + 1}I", 4 * len(array), *array) + texts
