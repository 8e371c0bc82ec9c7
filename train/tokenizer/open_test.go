package tokenizer

import (
	"errors"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

// file makes a small tokenizer.json of members that replace the usual ones.
func file(members ...string) string {
	parts := map[string]string{
		"model":        `{"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}`,
		"added_tokens": `[]`,
	}
	for i := 0; i < len(members); i += 2 {
		parts[members[i]] = members[i+1]
	}
	out := `{"version": "1.0"`
	for k, v := range parts {
		out += `, "` + k + `": ` + v
	}
	return out + "}"
}

func TestOpenRefuses(t *testing.T) {
	model := func(s string) string { return file("model", `{"type": "BPE", `+s+`}`) }
	vocab := `"vocab": {"a": 0, "b": 1, "ab": 2}, "merges": []`
	split := func(pattern string) string {
		return file("pre_tokenizer", `{"type": "Split", "pattern": {"Regex": "`+pattern+`"}, "behavior": "Isolated", "invert": false}`)
	}
	added := func(s string) string {
		flags := `"single_word": false, "lstrip": false, "rstrip": false, "special": false, "normalized": `
		return file("added_tokens", `[`+strings.ReplaceAll(s, "FLAGS", flags)+`]`, "normalizer", `{"type": "Strip", "strip_left": true, "strip_right": true}`)
	}
	for _, c := range []struct{ name, data, want string }{
		{"empty", ``, "unexpected end"},
		{"truncated", file()[:60], "byte 60"},
		{"not an object", `[]`, "want '{'"},
		{"more after it", file() + "x", "want the end"},
		{"not UTF-8", "{\"\xff\": 1}", "invalid UTF-8"},
		{"deep", strings.Repeat(`{"model":`, 10000), "nested deeper"},
		{"deep elsewhere", file("decoder", strings.Repeat("[", 10000)), "nested deeper"},
		{"version", `{"version": "2.0"}`, `version is "2.0" (want "1.0")`},
		{"no model", `{"version": "1.0"}`, "no model"},
		{"model of a wrong type", file("model", `[]`), "want '{'"},
		{"unknown member", file("extra", `1`), `"extra" is not known`},
		{"model of another type", file("model", `{"type": "Neural", "vocab": {"a": 0}}`), `model "Neural": not implemented`},
		{"WordPiece without its prefix", file("model", `{"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "a"}`), `model "WordPiece": no continuing_subword_prefix`},
		{"WordPiece with merges", model(`"vocab": {"a": 0}, "merges": [], "type": "WordPiece"`), "duplicate name"},
		{"WordLevel with a list", file("model", `{"type": "WordLevel", "vocab": [], "unk_token": "a"}`), "vocab must be an object"},
		{"Unigram with an object", file("model", `{"type": "Unigram", "vocab": {"a": 0}}`), "vocab must be an array"},
		{"Unigram without a score", file("model", `{"type": "Unigram", "vocab": [["a"]]}`), "vocab[0]: 1 members"},
		{"Unigram with a word as score", file("model", `{"type": "Unigram", "vocab": [["a", "b"]]}`), "vocab[0]: score is a string"},
		{"Unigram with a huge score", file("model", `{"type": "Unigram", "vocab": [["a", 1e999]]}`), "out of range"},
		{"Unigram's unknown token", file("model", `{"type": "Unigram", "vocab": [["a", -1.5]], "unk_id": 1}`), "unk_id is 1 (want one of 1 tokens)"},
		{"Unigram that samples", file("model", `{"type": "Unigram", "vocab": [["a", -1.5]], "alpha": 0.1}`), `option "alpha" is not implemented`},
		{"merge shorter than the prefix", model(`"vocab": {"a": 0, "aa": 1}, "merges": ["a a"], "continuing_subword_prefix": "##"`), "shorter than continuing_subword_prefix"},
		{"empty prepend", file("normalizer", `{"type": "Prepend", "prepend": ""}`), "an empty prepend"},
		{"charsmap", file("normalizer", `{"type": "Precompiled", "precompiled_charsmap": "?"}`), "not base64"},
		{"short charsmap", file("normalizer", `{"type": "Precompiled", "precompiled_charsmap": "AAA="}`), "too short"},
		{"charsmap of a wrong size", file("normalizer", `{"type": "Precompiled", "precompiled_charsmap": "/////wAAAAA="}`), "another size"},
		{"no charsmap", file("normalizer", `{"type": "Precompiled", "precompiled_charsmap": null}`), "no precompiled_charsmap"},
		{"no length", file("pre_tokenizer", `{"type": "FixedLength", "length": 0}`), "length is 0"},
		{"delimiter", file("pre_tokenizer", `{"type": "CharDelimiterSplit", "delimiter": "ab"}`), "delimiter has 2 characters"},
		{"BERT's tokens", file("post_processor", `{"type": "BertProcessing", "sep": ["a"], "cls": ["b", 1]}`), "sep has 1 members"},
		{"two that add tokens", file("post_processor", `{"type": "Sequence", "processors": [{"type": "BertProcessing", "sep": ["a", 0], "cls": ["b", 1]}, {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}}]}`), "more than one that adds tokens"},
		{"added token without its flags", file("added_tokens", `[{"id": 0, "content": "a", "special": true}]`), "no single_word"},
		{"no merges", model(`"vocab": {}`), "merges an array"},
		{"vocab of a wrong type", model(`"vocab": [], "merges": []`), "vocab must be an object"},
		{"negative id", model(`"vocab": {"a": -1}, "merges": []`), "unexpected '-'"},
		{"fraction as id", model(`"vocab": {"a": 1.5}, "merges": []`), `"a": "1.5" is not a whole number`},
		{"huge id", model(`"vocab": {"a": 99999999999}, "merges": []`), "at most 16777215"},
		{"id beyond numbers", model(`"vocab": {"a": 99999999999999999999}, "merges": []`), "below 2^63"},
		{"id twice", model(`"vocab": {"a": 0, "b": 0}, "merges": []`), `"a" and "b" have the same id 0`},
		{"token twice", model(`"vocab": {"a": 0, "a": 1}, "merges": []`), "duplicate name"},
		{"merge of an unknown token", model(`"vocab": {"a": 0}, "merges": ["a c"]`), `merges[0]: token "c" is not in the vocabulary`},
		{"merge to an unknown token", model(`"vocab": {"a": 0}, "merges": [["a", "a"]]`), `token "aa" is not in the vocabulary`},
		{"merge of three", model(`"vocab": {"a": 0}, "merges": ["a a a"]`), "has 3 parts"},
		{"merge of one", model(`"vocab": {"a": 0}, "merges": [["a"]]`), "has 1 parts"},
		{"merge of a number", model(`"vocab": {"a": 0}, "merges": [1]`), "want a string"},
		{"merges of both kinds", model(`"vocab": {"a": 0, "aa": 1}, "merges": ["a a", ["a", "a"]]`), "written alike"},
		{"dropout", model(vocab + `, "dropout": 0.1`), `dropout "0.1" is not implemented`},
		{"unknown option", model(vocab + `, "novel": true`), `model "BPE": option "novel" is not implemented`},
		{"option of a wrong type", model(vocab + `, "byte_fallback": 1`), "byte_fallback is a number (want true or false)"},
		{"normalizer", file("normalizer", `{"type": "Novel"}`), `normalizer "Novel": not implemented`},
		{"normalizer in a sequence", file("normalizer", `{"type": "Sequence", "normalizers": [{"type": "Novel"}]}`), `normalizer "Novel": not implemented`},
		{"normalizer without a type", file("normalizer", `{}`), "normalizer: no type"},
		{"normalizer of a wrong type", file("normalizer", `"NFC"`), "normalizer is a string (want an object)"},
		{"pre-tokenizer", file("pre_tokenizer", `{"type": "Novel"}`), `pre_tokenizer "Novel": not implemented`},
		{"option of a pre-tokenizer", file("pre_tokenizer", `{"type": "Digits", "individual_digits": true, "x": 1}`), `option "x" is not implemented`},
		{"missing option", file("pre_tokenizer", `{"type": "ByteLevel"}`), "no add_prefix_space"},
		{"behaviour", file("pre_tokenizer", `{"type": "Punctuation", "behavior": "Odd"}`), `behavior "Odd" is not implemented`},
		{"metaspace", file("pre_tokenizer", `{"type": "Metaspace", "replacement": "__"}`), "replacement has 2 characters"},
		{"metaspace that contradicts itself", file("pre_tokenizer", `{"type": "Metaspace", "replacement": "_", "add_prefix_space": false}`), "contradicts"},
		{"metaspace first", file("pre_tokenizer", `{"type": "Sequence", "pretokenizers": [{"type": "ByteLevel", "add_prefix_space": false}, {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first"}]}`), `"first" after "ByteLevel"`},
		{"decoder", file("decoder", `{"type": "Novel"}`), `decoder "Novel": not implemented`},
		{"post-processor", file("post_processor", `{"type": "Novel"}`), `post_processor "Novel": not implemented`},
		{"template without its token", file("post_processor", `{"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}], "pair": [], "special_tokens": {}}`), `"<s>" is not among special_tokens`},
		{"template of two texts", file("post_processor", `{"type": "TemplateProcessing", "single": [{"Sequence": {"id": "B", "type_id": 0}}], "pair": [], "special_tokens": {}}`), `want "A"`},
		{"template with a bad id", file("post_processor", `{"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {"x": {"id": "x", "ids": [-1], "tokens": []}}}`), `is "-1"`},
		{"added token with another id", added(`{"id": 7, "content": "x", FLAGS false}`), `"x" has id 7, but the tokenizers library gives it 3`},
		{"added token twice", added(`{"id": 3, "content": "x", FLAGS false}, {"id": 3, "content": "x", FLAGS true}`), `has id 3, but the tokenizers library gives it 4`},
		{"model token added twice", added(`{"id": 0, "content": "a", FLAGS false}, {"id": 0, "content": "a", FLAGS true}`), `"a" is listed twice`},
		{"added tokens alike", added(`{"id": 3, "content": " x", FLAGS true}, {"id": 4, "content": "x ", FLAGS true}`), "same text as another"},
		{"added token of nothing", added(`{"id": 3, "content": " ", FLAGS true}`), "normalizes to nothing"},
		{"added token, long", added(`{"id": 3, "content": "` + strings.Repeat("x", 5000) + `", FLAGS false}`), "5000 bytes"},
		{"added tokens of a wrong type", file("added_tokens", `{}`), "added_tokens is an object"},
		{"empty pattern", split(``), "an empty pattern"},
		{"back-reference", split(`(a)\\1`), `escape "\\1"`},
		{"named group", split(`(?<n>a)`), "group"},
		{"look-behind", split(`(?<=a)b`), "group"},
		{"option inside", split(`a(?i)b`), "group"},
		{"end of the last line", split(`a\\Z`), `escape "\\Z"`},
		{"property", split(`\\p{Emoji}`), `escape "\\p{Emoji}"`},
		{"class of POSIX", split(`[[:alpha:]]`), "[: in a class"},
		{"intersection", split(`[a&&b]`), "&& in a class"},
		{"open class", split(`[a`), "without an end"},
		{"open group", split(`(a`), "without an end"},
		{"closed group", split(`a)`), "unmatched )"},
		{"deep groups", split(strings.Repeat("(", 9999)), "nesting deeper"},
		{"deep classes", split(strings.Repeat("[", 9999)), "nesting deeper"},
		{"repeat of a repeat", split(`a**`), "a repeated repeat"},
		{"repeat of nothing", split(`*`), "'*'"},
		{"large repeat", split(`a{5000}`), `repeat "{5000}"`},
		{"ß under (?i)", split(`(?i:ss)`), "ss under (?i)"},
		{"property under (?i)", split(`(?i:\\p{Lu})`), "escape"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open("tokenizer.json", []byte(c.data))
			if err == nil {
				t.Fatal("accepted")
			}
			if s := err.Error(); !strings.Contains(s, c.want) || !strings.HasPrefix(s, `reading "tokenizer.json": `) || strings.Contains(s, "\n") || len(s) > 700 {
				t.Errorf("got  %.800s\nwant one line with %s", s, c.want)
			}
			if !errors.Is(err, formats.ErrInput) {
				t.Errorf("%v is no ErrInput", err)
			}
		})
	}
	if _, err := Open("x", []byte(file())); err != nil {
		t.Errorf("the base of these files: %v", err)
	}
}
