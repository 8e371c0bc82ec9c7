"""Writes the test inputs of train/tokenizer: small tokenizers, one for each kind of
pipeline, and what Hugging Face's tokenizers library makes of nasty texts with them.

    python tokenizer.py SEED

needs tokenizers 0.23.3. It writes into ../tokenizer beside this script:

    texts.json      the texts that every tokenizer is tried on
    corpus.json     more of them, of every script, for which a golden file has digests
    NAME.json       a tokenizer.json
    NAME.golden     its ids for the texts, and texts for its ids
    patterns.golden how patterns split texts
    unicode.golden  digests of character classes and normal forms

A NAME.json that is there already and is not one of its own, it only makes a golden
file for.
"""

import hashlib
import json
import pathlib
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers as pre
from tokenizers import processors, trainers

import tokenizer_charsmap
import tokenizer_corpus
import tokenizer_pipelines

SEED = int(sys.argv[1])
OUT = pathlib.Path(__file__).resolve().parent.parent / "tokenizer"
rng = random.Random(SEED)

PROSE = """\
The ferry leaves at 7:45 and it doesn't wait, so we'll be on the pier by half past
seven. She's packed bread, cheese, two lemons and a 1987 road atlas that I'd thought
they'd thrown away. "You're sure?" he asked; I'm never sure, but I've learned not to say.

In the harbour office there is a clock with 13 hours on it. Nobody repaired it, nobody
removed it: the harbour master says that the thirteenth hour is for people who come
too late and would like to be told something kind. In 2004 it stopped for 28 days.

    def wait(minutes):
        for m in range(minutes):  # one a minute
            print(f"{m:02d} ...", end="\\r\\n")

Größe, naïveté, façade, Ångström; привет, мир! Καλημέρα κόσμε. 你好，世界。こんにちは世界。
안녕하세요 세계. שלום עולם. مرحبا بالعالم. नमस्ते दुनिया. สวัสดีชาวโลก 🙂 👩‍👩‍👧 🇩🇪 ½ ² ③ Ⅷ ₤ € ‰ …
"""

TEXTS = [
    "", " ", "  ", "   ", "\t", "\n", "\r\n", "\r\n\r\n", " \n", "\n ", "a", " a", "a ", "  a", "a  ", "   a   b   ",
    "hello world", "Hello World", " hello", "hello\tworld", "hello\nworld", "a\r\nb\r\n\r\nc", "x\n\n\ny", "a \n b",
    "tab\t\ttab", "it's we'll they're I'm I'd I've don't", "IT'S WE'LL THEY'RE I'M I'D I'VE DON'T", "'s's 's ''s 'ſ 'ſabc a'ſ",
    "'S 'LL 'T'", "12345", "1 22 333 4444 55555", "3.14159e-10", "½²③Ⅷ ٣٤٥ १२३", "a1b2c3", "!!!", "?!...--==", "#include <x.h>",
    "foo(bar)[baz]{qux}", "🙂", "👩‍👩‍👧", "a👩🏽‍💻b", "🇩🇪🇫🇷", "e\u0301", "é", "a\u0300\u0316\u0301", "q\u0307\u0323 q\u0323\u0307",
    "n\u0303" * 5, "a" + "\u0301\u0316" * 20, "ﬁ ﬀ ﬃ Å Ω ℌ ２３ ㌔", "각 각 한글", "你好世界", "你好 世界，再见。", "こんにちは", "カタカナ ひらがな",
    "שלום עולם", "مرحبا بالعالم", "\u202bאבג\u202c abc", "สวัสดีชาวโลก", "नमस्ते दुनिया", "a\x00b", "\x00", "\x00\x00 \x1f\x7f",
    "\u00a0a\u00a0\u00a0b", "a\u3000b", "a\u2028b\u2029c\u0085d", "\ufeffBOM", "zero\u200bwidth\u200djoin", "\ufffd", "a\ufffdb",
    "▁", "▁a", "a▁b ▁ c", "<0x41>", "<0x0A><unk>", "İstanbul ẞ ǅ ΑΣ", "ꟋꟜ \U00010d50 \U00016ea0", "\U0002ebf0\U0002ebf1 a\U00016100b \U00010d40",
    "Ġhello Ċ", "the the the the", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", " " * 50, "ab" * 60, "x" + " " * 17 + "y",
    "def f(x):\n    return x  # ok\n\n\n", "https://example.org/a?b=c&d=%20", "a_b __c__ d_", "ß SS ss", "ΐ ΰ", "\u1e9b\u0323", "\U0001d15e",
    "\u0f77 \u0344 \u212b", "<|endoftext|>", "a<|endoftext|>b", " <|endoftext|> ", "<|endoftext|><|endoftext|>", "<|pad|>x<|pad", "<s>", "a</s> b", "<s> a",
    PROSE[-500:],
]


def random_texts():
    pools = [
        lambda: rng.randrange(0x20, 0x7F),
        lambda: rng.choice([0x20, 0x20, 0x0A, 0x0D, 0x09, 0xA0, 0x27, 0x73, 0x41, 0x61, 0x31, 0x2E]),
        lambda: rng.choice([rng.randrange(0x80, 0xD800), rng.randrange(0xE000, 0x30000), rng.randrange(0x300, 0x370), rng.randrange(0x1F300, 0x1F700)]),
    ]
    for _ in range(20):
        for mix in ([0], [0, 1, 1], [0, 1, 2, 2]):
            yield "".join(chr(pools[rng.choice(mix)]()) for _ in range(rng.randrange(1, 24)))


TEXTS += list(random_texts())
CORPUS = (PROSE * 4 + "\n".join(random_texts())).splitlines(keepends=True)

CORPUS_LINES = tokenizer_corpus.lines(random.Random(SEED))

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CL100K = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"

BEHAVIOURS = ["isolated", "removed", "merged_with_previous", "merged_with_next", "contiguous"]


def byte_level(size=360, splitter=None, normalizer=None):
    """A byte-level model; without a splitter its merges go across words."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = splitter or pre.ByteLevel(add_prefix_space=False, use_regex=False)
    if normalizer:
        t.normalizer = normalizer
    t.decoder = decoders.ByteLevel()
    train(t, size, initial_alphabet=pre.ByteLevel.alphabet(), special_tokens=["<|endoftext|>", "<|pad|>"])
    return t


def common(n):
    """The n most common characters, told apart in a fixed order: the library's own
    choice among equals differs from run to run."""
    counts = {}
    for c in "".join(CORPUS):
        counts[c] = counts.get(c, 0) + 1
    return sorted(counts, key=lambda c: (-counts[c], c))[:n]


def train(t, size, **options):
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=size, show_progress=False, **options))


def sentencepiece(pre_tokenizer=None, normalizer=None, byte_fallback=True, size=500, **options):
    t = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=byte_fallback, **options))
    if pre_tokenizer:
        t.pre_tokenizer = pre_tokenizer
    if normalizer:
        t.normalizer = normalizer
    special = ["<unk>", "<s>", "</s>"]
    if byte_fallback:
        special += [f"<0x{b:02X}>" for b in range(256)]
    train(t, size, special_tokens=special, initial_alphabet=["▁"] + common(70), limit_alphabet=71, max_token_length=8)
    return t


def edit(t, change):
    """The tokenizer after a change to its JSON that the library's API cannot make."""
    d = json.loads(t.to_str())
    change(d)
    return Tokenizer.from_str(json.dumps(d)), d


def unlist(d, keep):
    d["added_tokens"] = [a for a in d["added_tokens"] if a["content"] in keep]


def build():
    """Yields name, tokenizer, its JSON, more texts."""

    def plain(name, t, more=()):
        return name, t, json.loads(t.to_str()), list(more)

    t = byte_level(460, pre.ByteLevel(add_prefix_space=False))
    t.post_processor = processors.ByteLevel(trim_offsets=False)

    def old_merges(d):
        d["model"]["merges"] = ["#version: 0.2"] + [" ".join(m) for m in d["model"]["merges"]]
        d["model"]["continuing_subword_prefix"] = d["model"]["end_of_word_suffix"] = d["model"]["unk_token"] = ""
        del d["model"]["type"]

    yield "gpt2", *edit(t, old_merges), []
    t = byte_level(400, pre.ByteLevel(add_prefix_space=True))
    t.enable_truncation(5)
    t.enable_padding()
    yield plain("gpt2-prefix", t)

    split = lambda p: pre.Sequence([pre.Split(Regex(p), "isolated"), pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    t = byte_level(460, split(LLAMA3))
    t.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing("<|endoftext|> $A", "<|endoftext|> $A <|pad|> $B:1", [("<|endoftext|>", 0), ("<|pad|>", 1)])]
    )

    def whole_words(d):
        d["model"]["ignore_merges"] = True
        vocab = d["model"]["vocab"]
        for word in ("Ġhelloworld", "Ġunmergeable", "12"):
            vocab.setdefault(word, len(vocab))

    yield "llama3", *edit(t, whole_words), ["a unmergeable 12 x", " helloworld helloworlds"]
    yield plain("qwen", byte_level(400, split(QWEN2), normalizers.NFC()))
    yield plain("gpt4o", byte_level(400, split(GPT4O)))
    yield plain("cl100k", byte_level(400, split(CL100K)))
    deepseek = pre.Sequence(
        [
            pre.Split(Regex(r"\p{N}{1,3}"), "isolated"),
            pre.Split(Regex("[一-龥぀-ゟ゠-ヿ]+"), "isolated"),
            pre.Split(Regex(DEEPSEEK3), "isolated"),
            pre.Digits(individual_digits=True),
            pre.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    yield plain("deepseek", byte_level(400, deepseek))
    falcon = pre.Sequence([pre.Punctuation("contiguous"), pre.ByteLevel(add_prefix_space=False), pre.Digits(False), pre.Split(Regex("[0-9][0-9][0-9]"), "isolated")])
    yield plain("falcon", byte_level(400, falcon))
    yield plain("bloom", byte_level(400, split(BLOOM)))

    prepend = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    unspace = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    t = sentencepiece(normalizer=prepend, fuse_unk=True)
    t.decoder = unspace
    t.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A <s>:1 $B:1", [("<s>", 1), ("</s>", 2)])
    yield "llama2", *edit(t, lambda d: unlist(d, ["<unk>", "<s>", "</s>"])), ["a<s>b", " <s> b</s>", "<s><s>"]
    t = sentencepiece(pre.Split(" ", "merged_with_previous"), normalizers.Replace(" ", "▁"))
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    yield "gemma", *edit(t, lambda d: unlist(d, ["<unk>", "<s>", "</s>"])), []
    # Some bytes have no token, so that the unknown token and byte tokens mix.
    t = sentencepiece(pre.Metaspace(prepend_scheme="first", split=False))
    t.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")])

    def lose_bytes(d):
        unlist(d, ["<unk>", "<s>", "</s>"])
        m = d["model"]
        keep = [k for k in m["vocab"] if not (k.startswith("<0x") and int(k[3:5], 16) % 16 == 3)]
        m["vocab"] = {k: i for i, k in enumerate(keep)}

    yield "metaspace-first", *edit(t, lose_bytes), ["<s>a b", "<s> a<s>b", " <s>"]
    for scheme, cut in (("always", True), ("never", True)):
        t = sentencepiece(pre.Metaspace(prepend_scheme=scheme, split=cut), byte_fallback=False, size=200)
        t.decoder = decoders.Metaspace(prepend_scheme=scheme, split=cut)
        yield plain(f"metaspace-{scheme}", t)
    t = sentencepiece(pre.WhitespaceSplit(), byte_fallback=False, size=160)
    yield plain("no-decoder", t)
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre.Whitespace()
    train(t, 160, initial_alphabet=common(60), limit_alphabet=60)
    yield plain("no-unknown", t)

    crossing = byte_level(320)
    for name, n in {
        "nfd": normalizers.NFD(),
        "nfkc": normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]),
        "nfkd": normalizers.Sequence([normalizers.NFKD(), normalizers.Strip(), normalizers.Replace(Regex(r"\s{2,}|a+"), "<>")]),
        "bytes": normalizers.Sequence([normalizers.Strip(left=False, right=True), normalizers.Prepend("ab"), normalizers.ByteLevel()]),
    }.items():
        t = Tokenizer.from_str(crossing.to_str())
        t.normalizer = n
        if name == "bytes":
            _, d = edit(t, lambda d: d.update(pre_tokenizer=None))
            yield "bytes", Tokenizer.from_str(json.dumps(d)), d, []
        else:
            yield plain(name, t)
    end = pre.ByteLevel(add_prefix_space=False, use_regex=False)
    for name, p in {
        "split-string": pre.Split(" ", "merged_with_next"),
        "split-prefix": pre.Sequence([pre.Split(Regex(r"\p{P}+"), "removed"), pre.ByteLevel(add_prefix_space=True, use_regex=False)]),
    }.items():
        t = Tokenizer.from_str(crossing.to_str())
        t.pre_tokenizer = pre.Sequence([p, end]) if name == "split-string" else p
        yield plain(name, t)

    # Added tokens: all combinations of flags, before a normalizer that changes them.
    t = byte_level(300, pre.ByteLevel(add_prefix_space=False), normalizers.Lowercase())
    more = []
    for n in range(32):
        flags = dict(single_word=bool(n & 1), lstrip=bool(n & 2), rstrip=bool(n & 4), normalized=bool(n & 8))
        content = f"[T{n}]" if n % 3 else f"Tok{n}X"
        token = AddedToken(content, special=bool(n & 16), **flags)
        (t.add_special_tokens if n & 16 else t.add_tokens)([token])
        more += [f"a{content}b", f"a {content} b", f" {content}  \n{content}{content.lower()}", f"{content}", f"é{content}, _{content}"]
    # White space that one token strips and another one is.
    t.add_tokens([AddedToken("\n\n", normalized=False), AddedToken("a", normalized=False, single_word=True), AddedToken("[T1]x", normalized=False)])
    more += ["[T4]  \n\n  \n\n b", "x \n\n [T6]", "a a aa a-a \u0301a", "[T1]x[T1] x", "[T2]  [T4]  [T6]  [T2]"]
    yield plain("added", t, more)
    yield from tokenizer_pipelines.build(CORPUS, common, train, edit, byte_level, split, sentencepiece, unlist)


def attempt(call):
    """The library has bugs that make it panic, for which no answer is right, and texts that it has no ids for."""
    try:
        return call()
    except BaseException as e:
        if type(e).__name__ not in ("PanicException", "Exception"):
            raise
        return None


def typed(t, pair):
    """Ids and type ids of a pair of texts, with special tokens and without."""
    out = []
    for special in (True, False):
        e = t.encode(*pair, add_special_tokens=special)
        out += [e.ids, e.type_ids]
    return out


def fingerprint(t, text):
    """Four digits of a hash of the ids, and of what they decode to."""
    ids = attempt(lambda: t.encode(text).ids)
    if ids is None:
        return "-" * 8
    short = lambda s: hashlib.sha256(s.encode()).hexdigest()[:4]
    decoded = attempt(lambda: t.decode(ids, skip_special_tokens=False))
    return short(" ".join(map(str, ids))) + ("----" if decoded is None else short(decoded))


def golden(t, more):
    t.no_truncation()
    t.no_padding()
    texts = TEXTS + more

    def encode(s, special):
        return attempt(lambda: t.encode(s, add_special_tokens=special).ids)

    texts = [s for s in texts if encode(s, False) is not None]
    plain = [encode(s, False) for s in texts]
    special = [encode(s, True) for s in texts]
    size = max(t.get_vocab(with_added_tokens=True).values()) + 1
    sequences = [[rng.randrange(size + 3) for _ in range(rng.randrange(1, 14))] for _ in range(15)]
    decode = lambda ids, skip: [t.decode(i, skip_special_tokens=skip) for i in ids]
    unlike = lambda got, base: [None if g == b else g for g, b in zip(got, base)]  # saves space
    decoded, skipped = decode(special, False), decode(special, True)
    sequences_decoded, sequences_skipped = decode(sequences, False), decode(sequences, True)
    panicked = [i for i, s in enumerate(TEXTS) if s not in texts]
    pairs = [[a, b] for a, b in zip(texts[40:60] + texts[-len(more) :][:10], texts[90:] + more) if attempt(lambda: t.encode(a, b))]
    return {
        "size": size,
        "panicked": panicked,
        "more": [s for s in more if s in texts],
        "ids": plain,
        "special": unlike(special[:20], plain),
        "decoded": unlike(decoded, texts),
        "skipped": unlike(skipped, decoded),
        "pairs": [[*pair, *typed(t, pair)] for pair in pairs],
        "corpus": "".join(fingerprint(t, tokenizer_corpus.text(line)) for line in CORPUS_LINES),
        "sequences": sequences,
        "sequences_decoded": sequences_decoded,
        "sequences_skipped": unlike(sequences_skipped, sequences_decoded),
    }


def patterns():
    texts = [s for s in TEXTS if len(s) < 150] + ["aaaaaaab", "x\nxx\n", "ab.c(d|e)", "K\u212a ſ ß ﬆ ﬁ", "AbaB", "}{][)(", "a-b+c-", "A\\B^C", "ÀÉ"]
    sources = [
        LLAMA3, QWEN2, GPT4O, CL100K, DEEPSEEK3, BLOOM,
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"(?i:'s)", r"(?i)ab|k", r"(?i:a(?-i:b))", r"(?i:[sk])", r"x$", r"\s+$", r"a{1,3}+b?", r"a{,2}", r"a{2,}", r"a?+a", r"a++b|a",
        r"(?>a+)b", r"(a|b)+?b", r"a*", r"(?=b)", r"(?!a)\p{L}", r"[^(\s|[.,])]+", r"[a-c\-]+", r"[a-]+", r"[\p{Lu}\d]+", r"\D+", r"\S+", r"\P{L}+",
        r"[\x41-\x5A]+", r"\u00e9", r"\x{1F600}-?|\x{1F642}", r"[}\]{]", r"}", r"]", r".", r"(?:a|b)++", r"[\S\n]+", r"\.|\^|\\", r"a|", r"a??", r" +b|b", r"a+b?", r"a+(?=a)", r"b| +\z|\A +", r"^ +", r"^a|b\z",
    ]
    out = []
    for source in sources:
        for behaviour in BEHAVIOURS if source in (r"a*", r"\S+", r"(?=b)", LLAMA3) else BEHAVIOURS[:1]:
            for invert in (False, True):
                if invert and behaviour == "isolated":
                    continue
                p = pre.Split(Regex(source), behaviour, invert)
                cases = {}
                for s in texts:
                    words = [w for w, _ in p.pre_tokenize_str(s)]
                    if len(words) != 1 or words != [s]:
                        cases[s] = words
                few = min(30 if source in sources[:6] else 12, len(cases))
                cases = dict(rng.sample(sorted(cases.items()), few))
                name = "".join(w.capitalize() for w in behaviour.split("_"))
                out.append({"pattern": source, "behavior": name, "invert": invert, "cases": cases})
    return out


def digest(lines):
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def scripts(everything):
    """Digests of where UnicodeScripts cuts all characters, in order and in three others: neighbours of all kinds."""
    out = []
    for step in (1, 7919, 104729, 500009):
        order = [everything[i * step % len(everything)] for i in range(len(everything))]
        cuts = []
        for i in range(0, len(order), 1 << 12):
            cuts += [f"{i + a} {i + b}\n" for _, (a, b) in pre.UnicodeScripts().pre_tokenize_str("".join(map(chr, order[i : i + (1 << 12)])))]
        out.append(digest(cuts))
    return out


def unicode_digests():
    """SHA-256 of the members of each class, and of what each normalizer makes of each
    character, with some strings of combining characters as they come out."""
    everything = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    text = "".join(chr(c) + "\x00" for c in everything)

    def members(pt):
        """The characters that a pre-tokenizer removes from between NULs."""
        found = []
        for i in range(0, len(text), 1 << 13):
            block = text[i : i + (1 << 13)]
            kept = set()
            for _, (a, b) in pt.pre_tokenize_str(block):
                kept.update(range(a, b))
            found += [ord(block[k]) for k in range(0, len(block), 2) if k not in kept and block[k] != "\x00"]
        return found

    classes = {}
    names = "L Lu Ll Lt Lm Lo M Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp Han Hiragana Katakana Hangul Latin Greek Cyrillic Arabic Thai"
    names += " Hebrew Devanagari Bengali Tamil Telugu Armenian Georgian Khmer Lao Myanmar Tibetan Ethiopic Bopomofo"
    for name in names.split():
        classes[name] = members(pre.Split(Regex(r"\p{%s}" % name), "removed"))
    classes["space"] = members(pre.WhitespaceSplit())
    classes["punctuation"] = members(pre.Punctuation("removed"))
    word, digits = pre.Whitespace(), pre.Digits(True)
    classes["word"] = [c for c in everything if [w for w, _ in word.pre_tokenize_str("a" + chr(c))] == ["a" + chr(c)]]
    classes["numeric"] = [c for c in everything if len(digits.pre_tokenize_str("a" + chr(c))) == 2]
    forms = {"NFC": normalizers.NFC(), "NFD": normalizers.NFD(), "NFKC": normalizers.NFKC(), "NFKD": normalizers.NFKD(), "Lowercase": normalizers.Lowercase(), "Nmt": normalizers.Nmt(), "StripAccents": normalizers.StripAccents()}
    bert = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    for option in bert:
        forms["Bert " + option] = normalizers.BertNormalizer(**{**bert, option: True})
    # A grapheme of up to five bytes that begins with an a becomes one x, so that this shows what extends it.
    forms["graphemes"] = normalizers.Precompiled(tokenizer_charsmap.compiled({"a": "x"}))
    marks = [c for c in range(0x300, 0x370)] + [0x5B0, 0x591, 0x94D, 0x93C, 0xE38, 0x1ABF, 0x898, 0x1DF7, 0x3099, 0x1161, 0x11A8, 0x11930, 0x1D165, 0xC3C, 0x110BA]
    bases = [0x61, 0x41, 0x6F, 0x75, 0x3B1, 0x928, 0x304B, 0x1100, 0xAC00, 0x1E9B, 0x212B, 0xFB01, 0x11935, 0x1D157, 0x32FF, 0x110A5, 0x958, 0xC47]
    strings = []
    for _ in range(150):
        s = ""
        for _ in range(rng.randrange(1, 4)):
            s += chr(rng.choice(bases)) * rng.randrange(2) + "".join(chr(rng.choice(marks)) for _ in range(rng.randrange(5)))
        strings.append(s)
    strings.append("a" + "\u0301\u0316" * 40)
    return {
        "classes": {k: digest(f"{c:X}\n" for c in v) for k, v in classes.items()},
        "forms": {k: digest(f"{c:X} {n.normalize_str(chr(c))}\n" for c in everything) for k, n in forms.items()},
        "extended": digest(f"{c:X} {forms['graphemes'].normalize_str('a' + chr(c) + 'a')}\n" for c in everything),
        "scripts": scripts(everything),
        "strings": strings,
        "normalized": {k: [n.normalize_str(s) for s in strings] for k, n in forms.items()},
    }


def write(name, value):
    (OUT / name).write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


def main():
    OUT.mkdir(exist_ok=True)
    write("texts.json", TEXTS)
    write("corpus.json", CORPUS_LINES)
    made = {"texts", "corpus"}
    for name, t, d, more in build():
        write(name + ".json", d)
        write(name + ".golden", golden(t, more))
        made.add(name)
    for path in sorted(OUT.glob("*.json")):
        if path.stem not in made:
            write(path.stem + ".golden", golden(Tokenizer.from_file(str(path)), []))
    write("patterns.golden", patterns())
    write("unicode.golden", unicode_digests())


main()
