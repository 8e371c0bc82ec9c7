"""Small tokenizers for tokenizer.py: the pipelines of models beside the causal ones. Each is (name, tokenizer, its JSON, more texts)."""

import json
import math
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers as pre
from tokenizers import processors

import tokenizer_charsmap

CLIP = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PAIRS = ["[CLS] a", "a [SEP] b", "[MASK]", " [MASK] x", "a[MASK]b", "[UNK]"]


def rules():
    """A charsmap in miniature of SentencePiece's nmt_nfkc: compatibility forms and compositions of some characters, its white space,
    and some that no normal form has: a key that another begins with, one of several characters, one that becomes nothing."""
    out = {chr(c): "" for c in (*range(1, 9), 0xB, *range(0xE, 0x20), 0x7F, 0x8F, 0x9F, 0xAD)}
    out |= {chr(c): " " for c in (9, 10, 12, 13, 0x1680, *range(0x200B, 0x2010), 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD)}
    for c in (*range(0xA0, 0x180), *range(0x2000, 0x2100, 3), *range(0x2460, 0x2480), *range(0x3300, 0x3340, 3), *range(0xFB00, 0xFB20), *range(0xFF01, 0xFF80, 2)):
        new = unicodedata.normalize("NFKC", chr(c))
        if new != chr(c):
            out.setdefault(chr(c), new)
    for base in "aeoAEO":
        for mark in "\u0300\u0301\u0308":
            out[base + mark] = unicodedata.normalize("NFC", base + mark)
    return out | {"q": "Q", "qu": "KW", "\u0e33": "\u0e4d\u0e32", "\r\n": "\n", "\U0001f642": ":)", "\u1100\u1161": "\uac00"}


def pieces(corpus, n, special):
    """A Unigram vocabulary: the most common substrings of words with the logarithms of their shares, and pieces that score alike."""
    counts = {}
    for line in corpus:
        for w in line.split():
            w = "▁" + w
            for i in range(len(w)):
                for j in range(i + 1, min(i + 9, len(w) + 1)):
                    counts[w[i:j]] = counts.get(w[i:j], 0) + j - i
    best = sorted(counts, key=lambda k: (len(k) > 1, -counts[k], k))
    best = best[:120] + sorted(best[120:], key=lambda k: (-counts[k], k))[: n - 120]
    total = sum(counts[k] for k in best)
    # Runs of one letter, which can be cut in many ways that differ in the last bit alone.
    alike = {"zz": -3.3333333333333335, "zzz": -5.100000000000001, "zzzz": -6.6666666666666661, "z": -1.7000000000000002}
    vocab = [(s, 0.0) for s in special] + [(k, math.log(counts[k] / total)) for k in best if k not in alike]
    return vocab + list(alike.items())


def words(t, corpus):
    """How often each word is there that the tokenizer's model would get."""
    counts = {}
    for line in corpus:
        line = t.normalizer.normalize_str(line) if t.normalizer else line
        for w, _ in t.pre_tokenizer.pre_tokenize_str(line):
            counts[w] = counts.get(w, 0) + 1
    return counts


def subwords(counts, n, prefix):
    """A WordPiece vocabulary: the most common characters and beginnings of words, and with the prefix the rest."""
    found = {}
    for w, count in counts.items():
        for i in range(len(w)):
            for j in range(i + 1, min(i + 7, len(w) + 1)):
                key = (prefix if i else "") + w[i:j]
                found[key] = found.get(key, 0) + count * (9 if j == i + 1 else j - i)
    return sorted(found, key=lambda k: (-found[k], k))[:n]


def pairs(counts, n, alphabet, prefix="", suffix=""):
    """Vocabulary and merges of byte pairs. The library's trainer numbers characters with a prefix or suffix otherwise every time."""
    split = {}
    for w in counts:
        parts = [(prefix if i else "") + c for i, c in enumerate(w)]
        parts[-1] += suffix
        if all(p in alphabet for p in parts):
            split[w] = parts
    vocab, merges = list(alphabet), []
    while len(merges) < n:
        seen = {}
        for w, parts in split.items():
            for pair in zip(parts, parts[1:]):
                seen[pair] = seen.get(pair, 0) + counts[w]
        pair = min(seen, key=lambda k: (-seen[k], k))
        joined = pair[0] + pair[1][len(prefix) :]
        merges.append(pair)
        if joined not in vocab:
            vocab.append(joined)
        for parts in split.values():
            i = 0
            while i + 1 < len(parts):
                if (parts[i], parts[i + 1]) == pair:
                    parts[i : i + 2] = [joined]
                i += 1
    return {k: i for i, k in enumerate(vocab)}, merges


def build(corpus, common, train, edit, byte_level, split, sentencepiece, unlist):
    def plain(name, t, more=()):
        return name, t, json.loads(t.to_str()), list(more)

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

    def word_piece(normalizer, size=400, **options):
        t = Tokenizer(models.WordPiece({s: i for i, s in enumerate(specials)}, unk_token="[UNK]", **options))
        t.normalizer, t.pre_tokenizer = normalizer, pre.BertPreTokenizer()
        vocab = specials + subwords(words(t, corpus), size, options.get("continuing_subword_prefix", "##"))
        t.model = models.WordPiece({k: i for i, k in enumerate(vocab)}, unk_token="[UNK]", **options)
        t.add_special_tokens(specials)
        return t

    t = word_piece(normalizers.BertNormalizer())
    t.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)])
    t.decoder = decoders.WordPiece()
    accents = ["ÀÉÎõü ÅNGSTRÖM Ångström", "İI ǅ ß", "你好world再见", "a\u00adb\u200bc\ufeffd", "x" * 101, "don ' t do not . n't", "\U0002b820\U0002b920\U0002a700"]
    yield plain("bert-uncased", t, PAIRS + accents)

    t = word_piece(normalizers.BertNormalizer(lowercase=False), size=300, max_input_chars_per_word=12)
    t.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    t.decoder = decoders.WordPiece(cleanup=False)

    def before_types(d):
        del d["model"]["type"]

    yield "bert-cased", *edit(t, before_types), PAIRS + accents + ["abcdefghijkl", "abcdefghijklm"]
    t = word_piece(normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False), size=250)
    yield plain("bert-accents", t, accents)
    t = word_piece(normalizers.BertNormalizer(strip_accents=False), size=250, continuing_subword_prefix="")
    t.decoder = decoders.WordPiece(prefix="")
    yield plain("wordpiece-no-prefix", t, accents)

    t = byte_level(400, pre.ByteLevel(add_prefix_space=True))
    t.add_special_tokens(["<s>", "</s>", AddedToken("<mask>", lstrip=True)])
    t.post_processor = processors.RobertaProcessing(("</s>", t.token_to_id("</s>")), ("<s>", t.token_to_id("<s>")), add_prefix_space=True)
    yield plain("roberta", t, ["a <mask> b", "a<mask>b", "  <mask>"])
    t = byte_level(360, pre.ByteLevel(add_prefix_space=False), normalizers.NFC())
    t.add_special_tokens(["[CLS]", "[SEP]", AddedToken("[MASK]", lstrip=True)])
    ids = [(k, t.token_to_id(k)) for k in ("[CLS]", "[SEP]")]
    t.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", ids)
    yield plain("modernbert", t, PAIRS)

    clip = Tokenizer(models.BPE())
    clip.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    clip.pre_tokenizer = pre.Sequence([pre.Split(Regex(CLIP), "removed", invert=True), pre.ByteLevel(add_prefix_space=False)])
    clip.decoder = decoders.ByteLevel()
    alphabet = sorted(pre.ByteLevel.alphabet())
    vocab, merges = pairs(words(clip, corpus), 130, ["<|startoftext|>", "<|endoftext|>", *alphabet, *(a + "</w>" for a in alphabet)], suffix="</w>")
    clip.model = models.BPE(vocab, merges, unk_token="<|endoftext|>", continuing_subword_prefix="", end_of_word_suffix="</w>")
    clip.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    clip.post_processor = processors.RobertaProcessing(("<|endoftext|>", 1), ("<|startoftext|>", 0), trim_offsets=False, add_prefix_space=False)
    yield plain("clip", clip, ["<|startoftext|>a  B", "a<|endoftext|>"])

    t = Tokenizer(models.BPE())
    t.normalizer, t.pre_tokenizer, t.decoder = normalizers.BertNormalizer(), pre.BertPreTokenizer(), decoders.BPEDecoder()
    vocab, merges = pairs(words(t, corpus), 150, ["<unk>", *common(60), *(c + "</w>" for c in common(60))], suffix="</w>")
    t.model = models.BPE(vocab, merges, unk_token="<unk>", end_of_word_suffix="</w>", fuse_unk=True)
    t.add_special_tokens(["<unk>"])
    yield plain("gpt1", t)
    t = Tokenizer(models.BPE())
    t.pre_tokenizer, t.decoder = pre.WhitespaceSplit(), decoders.WordPiece(prefix="##", cleanup=False)
    vocab, merges = pairs(words(t, corpus), 150, ["<unk>", *common(60), *("##" + c for c in common(60))], prefix="##")
    t.model = models.BPE(vocab, merges, unk_token="<unk>", continuing_subword_prefix="##")
    t.add_special_tokens(["<unk>"])
    yield plain("bpe-prefix", t, ["##a", "a##b", "#"])
    tekken = byte_level(400, split(TEKKEN))
    tekken.add_special_tokens(["<s>"])
    tekken.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", tekken.token_to_id("<s>"))])

    def whole_words(d):
        d["model"]["ignore_merges"] = True

    yield "tekken", *edit(tekken, whole_words), ["HTTPServer aB Ab ABc"]

    charsmap = tokenizer_charsmap.compiled(rules())
    mapped = lambda: normalizers.Precompiled(charsmap)
    odd = ["½\u0301 q\u0301 qu ﬁ\u0301", "a\u0301\u0300 e\u0308", "\r\n\r\na\rb", "👩🏽\u0301🙂", "\u1100\u1161\u11a8", "\u0600a\u0600q", "zzzzzzzzzzzzzzzzzzzz zzzzz", "\u00ada", "", " ", "\u2581a", "x\u200b\u200bx"]

    def unigram(normalizer, pre_tokenizer, special=("<pad>", "</s>", "<unk>"), unk=2, n=420, **options):
        t = Tokenizer(models.Unigram(pieces(corpus, n, special), unk, **options))
        if normalizer:
            t.normalizer = normalizer
        t.pre_tokenizer = pre_tokenizer
        t.add_special_tokens([s for s in special if not s.startswith("<0x")])
        return t

    t = unigram(mapped(), pre.Sequence([pre.WhitespaceSplit(), pre.Metaspace()]))
    t.add_special_tokens([f"<extra_id_{i}>" for i in range(3)])
    t.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    t.decoder = decoders.Metaspace()
    yield plain("t5", t, odd + ["a <extra_id_0> b<extra_id_1>", "<unk><unk>a"])
    t = unigram(
        normalizers.Sequence(
            [normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), mapped(), normalizers.Replace(Regex(" {2,}"), " ")]
        ),
        pre.Metaspace(),
        ("<pad>", "<unk>", "[CLS]", "[SEP]"),
        1,
    )
    t.add_special_tokens([AddedToken("[MASK]", lstrip=True)])
    t.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)])
    t.decoder = decoders.Metaspace()

    def old_metaspace(d):
        d["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "str_rep": "▁", "add_prefix_space": True}
        d["decoder"] = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
        del d["model"]["type"]

    yield "albert", *edit(t, old_metaspace), odd + PAIRS + ["``a''  b"]
    first = pre.Metaspace(prepend_scheme="first")
    t = unigram(normalizers.Sequence([normalizers.Strip(True, False), mapped(), normalizers.Replace(Regex(" {2,}"), "▁")]), first, ("<unk>", "<sep>", "<cls>"), 0)
    t.post_processor = processors.TemplateProcessing("$A:0 <sep>:0 <cls>:2", "$A:0 <sep>:0 $B:1 <sep>:1 <cls>:2", [("<sep>", 1), ("<cls>", 2)])
    t.decoder = decoders.Metaspace(prepend_scheme="first")
    t.add_tokens([AddedToken("Ab", normalized=True), AddedToken("ﬁ", normalized=True)])
    yield plain("xlnet", t, odd + [" a", "  ab", "<cls>a b", "a<cls>b", "<cls> a", "fi fi", "ﬁx", "Ab Abc", "\u00ad\u00ad a"])
    t = unigram(
        normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()]), pre.Sequence([pre.Punctuation(), first]), ("<pad>", "</s>", "<unk>", *(f"<0x{b:02X}>" for b in range(256))), byte_fallback=True
    )
    t.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")])
    yield plain("unigram-bytes", t, odd + ["!a", ". a", "a.b", "\x01a", "\x01 a", "…b", "</s>a", "a</s> b"])
    replaces = [normalizers.Replace(Regex(p), new) for p, new in ((r"[\n\r\t]", " "), (r" +▁", "▁"), (r"^▁+$", ""), (r" {2,}", "▁"), (r"\A▁", "▁▁"), (r"\A +| +\z", ""))]
    t = unigram(normalizers.Sequence(replaces), pre.Metaspace(prepend_scheme="first"), ("<unk>",), 0, 300)
    t.decoder = decoders.Metaspace(prepend_scheme="first")
    yield plain("seamless", t, odd + ["▁▁", "▁", "a\n▁▁\nb", "a ▁b", "  a", "▁▁\n▁", " ", "a ", "\n▁a"])
    t = unigram(
        normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Prepend("▁x"), normalizers.Strip(), normalizers.Lowercase()]),
        pre.Sequence([pre.Split("e", "merged_with_previous"), pre.Digits(True), pre.Metaspace(prepend_scheme="first", split=False)]),
        ("<unk>",), 0, 300,
    )
    t.add_tokens([AddedToken("é", normalized=True), AddedToken("x", normalized=True), AddedToken("Q", normalized=False, lstrip=True)])
    t.decoder = decoders.Sequence([decoders.Replace(Regex("▁+"), " "), decoders.Strip(" ", 1, 0)])
    yield plain("first", t, ["é", "éa", "e", "1", "12 é", " 1", "Q", "Qa", " Qe1", "\u0301a", "\u0301\u0301", "İe", "각각e", "a\u0316\u0301e", "\u0344a"])
    t = unigram(None, pre.Sequence([pre.UnicodeScripts(), pre.Metaspace(prepend_scheme="never")]), ("<unk>",), 0, 300)
    t.decoder = decoders.Fuse()
    yield plain("scripts", t, ["どこで生れ。Yes", "Apples are りんご 林檎", " \u0600 a", "aбγ", "ーア漢", "   "])

    known = sorted({w for line in corpus for w in line.split()})[:150] + list("0123456789")
    t = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<unk>", *dict.fromkeys(known)])}, "<unk>"))
    t.pre_tokenizer = pre.Sequence([pre.CharDelimiterSplit(" "), pre.Punctuation("merged_with_next"), pre.Digits(True)])
    yield "wordlevel", *edit(t, before_types), ["a,b", "12 3", " the ferry", known[5] + " " + known[9]]
    letters = {"<pad>": 0, "<unk>": 1, "|": 2, "'": 3} | {c: i + 4 for i, c in enumerate("abcdefghijklmnopqrstuvwxyz")}
    t = Tokenizer(models.WordLevel(letters, "<unk>"))
    t.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(" ", "|")])
    t.pre_tokenizer, t.decoder = pre.FixedLength(1), decoders.CTC()
    yield plain("ctc", t, ["hello  world", "a do not b"])
    t = Tokenizer(models.BPE(unk_token="<unk>"))
    t.pre_tokenizer = pre.FixedLength(5)
    train(t, 200, special_tokens=["<unk>"], initial_alphabet=common(60), limit_alphabet=60)
    t.decoder = decoders.Sequence([decoders.Fuse(), decoders.Replace(Regex(r"(e|a)\s?"), "<>")])
    yield plain("fixed", t)

    t = sentencepiece(normalizer=normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), fuse_unk=True, size=400)
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    more = []
    for i, flags in enumerate((dict(rstrip=True), dict(lstrip=True), dict(lstrip=True, rstrip=True), dict(single_word=True), dict(normalized=True), dict(normalized=True, rstrip=True))):
        t.add_special_tokens([AddedToken(f"<|t{i}|>", normalized=flags.pop("normalized", False), **flags)])
        more += [f"<|t{i}|> a", f"a <|t{i}|>  b\n<|t{i}|>", f"<|t{i}|><|t{i}|>"]
    t.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s>:1 $B:1", [("<s>", 1)])
    yield "phi3", *edit(t, lambda d: unlist(d, ["<unk>", "<s>", "</s>"] + [f"<|t{i}|>" for i in range(6)])), more
