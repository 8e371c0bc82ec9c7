"""Lines of text of every kind that Unicode has, for tokenizer.py and check_tokenizer.py."""

import unicodedata

SPACES = "\t\n\v\f\r \x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
EMOJI = (
    "👩‍👩‍👧‍👦 👨🏿‍🚀 👩🏽‍❤️‍💋‍👨🏻 🏳️‍🌈 🏴‍☠️ 🏴󠁧󠁢󠁳󠁣󠁴󠁿 🇩🇪 🇩🇪🇫🇷 🇩 1️⃣ #️⃣ *⃣ ❤️ ❤ ☎︎ 👍🏻👍🏿 🫱🏼‍🫲🏾 🧑‍🧑‍🧒 🐦‍🔥 🫨 🫩 🏃🏽‍➡️ 🙂‍↔️ ©️ ™ 〰️ 🀄 🃏"
).split(" ")
LONG = ["a", " ", "\n", "ab ", "x1", "é", "e\u0301", "\u0301", "你", "各 ", "👩‍👩‍👧", "🇩🇪", "\x00", "'s", "!?", "z", "<0x41>", "▁", "\u0600", "ﬁ", " \n", "9", "\u00ad", "İ"]


def assigned(lo, hi):
    return [c for c in range(lo, hi) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]


def lines(rng):
    """Texts; a pair [unit, n] stands for a long one, the unit n times."""
    pick = lambda chars, n: "".join(chr(rng.choice(chars)) for _ in range(n))
    out = []
    # Every block of 128 characters that has any: letters, marks, digits as they come, in words.
    huge = lambda c: 0x3400 <= c < 0xA000 or 0xAC00 <= c < 0xD780 or 0x17000 <= c < 0x18D00 or 0x20000 <= c < 0x33480 or 0xF0000 <= c or 0xE000 <= c < 0xF900
    for lo in range(0, 0x110000, 0x80):
        chars = assigned(lo, lo + 0x80)
        if chars and (not huge(lo) or rng.random() < 0.02):
            words = [pick(chars, rng.randrange(1, 6)) for _ in range(3)]
            out.append(rng.choice(["", " ", "a"]) + rng.choice([" ", " ", "", "-", "1"]).join(words))
    digits = [c for c in range(0x110000) if unicodedata.category(chr(c)) in ("Nd", "Nl", "No")]
    for _ in range(25):
        out.append(pick(digits, 5) + " 12" + pick(digits, 2) + "a" + pick(digits, 1))
    for c in SPACES:
        out += [f"a{c}b", f"{c}a{c}{c}1{c}", f" {c} {c}."]
    out += EMOJI + [f"a{a}b{b} {a}" for a, b in zip(EMOJI, reversed(EMOJI))]
    marks = [c for c in range(0x110000) if unicodedata.category(chr(c)) in ("Mn", "Mc", "Me")]
    bases = [ord(c) for c in "aeoAEO1 ก한하ᄀえカ∑½ﬁ\u0958क"]
    for _ in range(70):
        out.append("".join(pick(bases, 1) + pick(marks if rng.random() < 0.7 else range(0x300, 0x345), rng.randrange(4)) for _ in range(4)))
    for _ in range(30):
        out.append(pick(bases, 1) + pick([0x300, 0x301, 0x308, 0x316, 0x323, 0x327, 0x345, 0x5B4, 0x64B, 0x93C, 0x3099, 0xFE0F, 0x200D, 0x1161, 0x11A8], 7))
    letters = [c for c in range(0x110000) if unicodedata.category(chr(c)) in ("Lu", "Lt", "Lm")]
    marks_of = [c for c in range(0x110000) if unicodedata.category(chr(c))[0] in "PS"]
    for _ in range(40):
        out.append(pick(letters, 3) + " " + pick(marks_of, 3) + pick(letters, 2) + pick(marks_of, 1))
    unassigned = [c for c in range(0x110000) if unicodedata.category(chr(c)) == "Cn"]
    nothing = [0xFFFE, 0xFFFF, 0xFDD0, 0xFDEF, 0x1FFFE, 0x1FFFF, 0x10FFFE, 0x10FFFF]
    for chars in (range(0x20), range(0x7F, 0xA0), range(0x80), nothing, range(0xE000, 0xF900), range(0xF0000, 0x10FFFE), unassigned, unassigned, range(0x1C80, 0x1D00), range(0xE0000, 0xE0200), range(0x200B, 0x2070)):
        out += ["x" + pick(chars, 4) + " " + pick(chars, 2) for _ in range(4)]
    out += ["a\r\nb\r\n\r\n c", "\r", "\r\r\n\n", "a\x00b", "\x00\x00", "tab\tab", "\ufffd\ufffda", "it's IT'S iT’s ‘t'", "don't'll", "a'ſb 'ſ", "K Å ſt ß ẞ", "-- --- … —", "``a'' \"b\"", "$1,234.56 + 7%", "__init__ a_b"]
    while len(out) < 900:
        parts = [
            lambda: pick(range(0x61, 0x7B), rng.randrange(1, 7)), lambda: pick(range(0x21, 0x7F), 3), lambda: rng.choice(SPACES), lambda: " ", lambda: " the ", lambda: pick(digits, 1), lambda: str(rng.randrange(10**6)),
            lambda: pick(marks, 1), lambda: rng.choice(EMOJI), lambda: pick(range(0xA1, 0x530), 2), lambda: pick(range(0x3040, 0x9FFF), 2), lambda: pick(letters, 2),
        ]
        out.append("".join(rng.choice(parts)() for _ in range(rng.randrange(1, 9))))
    return out + [[unit, 6000 // len(unit)] for unit in LONG] + [["a", 100_000], ["ab1 ", 10_000], ["你好", 10_000]]


def text(line):
    return line if isinstance(line, str) else line[0] * line[1]
