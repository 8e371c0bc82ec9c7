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
		{"WordPiece", file("model", `{"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "a"}`), `model "WordPiece": not implemented`},
		{"Unigram", file("model", `{"type": "Unigram", "vocab": [["a", -1.5]], "unk_id": 0}`), `model "Unigram": not implemented`},
		{"no merges", model(`"vocab": {}`), "merges an array"},
		{"vocab of a wrong type", model(`"vocab": ["a"], "merges": []`), "vocab must be an object"},
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
		{"prefix", model(vocab + `, "continuing_subword_prefix": "##"`), "continuing_subword_prefix is not implemented"},
		{"suffix", model(vocab + `, "end_of_word_suffix": "</w>"`), "end_of_word_suffix is not implemented"},
		{"unknown option", model(vocab + `, "novel": true`), `model "BPE": option "novel" is not implemented`},
		{"option of a wrong type", model(vocab + `, "byte_fallback": 1`), "byte_fallback is a number (want true or false)"},
		{"normalizer", file("normalizer", `{"type": "BertNormalizer"}`), `normalizer "BertNormalizer": not implemented`},
		{"normalizer in a sequence", file("normalizer", `{"type": "Sequence", "normalizers": [{"type": "Nmt"}]}`), `normalizer "Nmt": not implemented`},
		{"normalizer without a type", file("normalizer", `{}`), "normalizer: no type"},
		{"normalizer of a wrong type", file("normalizer", `"NFC"`), "normalizer is a string (want an object)"},
		{"pre-tokenizer", file("pre_tokenizer", `{"type": "UnicodeScripts"}`), `pre_tokenizer "UnicodeScripts": not implemented`},
		{"option of a pre-tokenizer", file("pre_tokenizer", `{"type": "Digits", "individual_digits": true, "x": 1}`), `option "x" is not implemented`},
		{"missing option", file("pre_tokenizer", `{"type": "ByteLevel"}`), "no add_prefix_space"},
		{"behaviour", file("pre_tokenizer", `{"type": "Punctuation", "behavior": "Odd"}`), `behavior "Odd" is not implemented`},
		{"metaspace", file("pre_tokenizer", `{"type": "Metaspace", "replacement": "__"}`), "replacement has 2 characters"},
		{"metaspace that contradicts itself", file("pre_tokenizer", `{"type": "Metaspace", "replacement": "_", "add_prefix_space": false}`), "contradicts"},
		{"metaspace first", file("pre_tokenizer", `{"type": "Metaspace", "replacement": "_", "prepend_scheme": "first"}`, "normalizer", `{"type": "NFC"}`), `"first" after a normalizer`},
		{"decoder", file("decoder", `{"type": "WordPiece"}`), `decoder "WordPiece": not implemented`},
		{"decoder by Regex", file("decoder", `{"type": "Replace", "pattern": {"Regex": "a"}, "content": ""}`), "Regex is not implemented in a decoder"},
		{"post-processor", file("post_processor", `{"type": "RobertaProcessing"}`), `post_processor "RobertaProcessing": not implemented`},
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
		{"start of a line", split(`^a`), "'^'"},
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
