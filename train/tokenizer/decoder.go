package tokenizer

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// decoder turns tokens back into text, stage by stage.
type decoder struct {
	stages    []stage
	separator string // between what the last stage leaves
	// bytes says that runs of byte tokens such as <0x0A> become text together.
	bytes bool
	// whole says that text may change when tokens follow, so that a [Stream] must
	// wait for the last.
	whole bool
}

type stage func(tokens []string) []string

// readDecoder returns the decoder of the file. Without one the library puts a
// space between tokens.
func readDecoder(v any) (*decoder, error) {
	d := &decoder{separator: " "}
	if v == nil {
		return d, nil
	}
	d.separator = ""
	joined := false // whether a stage has made one text of the tokens
	return d, d.read(v, &joined)
}

func (d *decoder) read(v any, joined *bool) error {
	s, kind := newPart("decoder", v)
	var run stage
	// After a stage that joins the tokens, a later token can change what one of the
	// following makes of the text so far.
	d.whole = d.whole || *joined && (kind == "Replace" || kind == "ByteLevel" || kind == "ByteFallback")
	switch kind {
	case "Sequence":
		for _, v := range s.list("decoders") {
			if err := d.read(v, joined); err != nil {
				return err
			}
		}
	case "ByteLevel":
		s.ignore("add_prefix_space", "trim_offsets", "use_regex")
		run = fromByteChars
		*joined = true
	case "Fuse":
		run = func(tokens []string) []string { return []string{strings.Join(tokens, "")} }
		*joined = true
	case "ByteFallback":
		d.bytes = true
		run = joinBytes
	case "Replace":
		find, content := s.pattern("pattern"), s.text("content")
		run = eachToken(func(_ int, t string) string { return replaceIn(t, find, content) })
	case "WordPiece":
		prefix, clean := s.text("prefix"), s.boolean("cleanup")
		run = eachToken(func(i int, t string) string {
			if i > 0 {
				if rest, ok := strings.CutPrefix(t, prefix); ok {
					t = rest
				} else {
					t = " " + t
				}
			}
			if clean {
				t = cleanup(t)
			}
			return t
		})
	case "BPEDecoder":
		suffix := s.text("suffix")
		d.whole = true // the last token is another than the rest
		run = func(tokens []string) []string {
			for i, t := range tokens {
				space := " "
				if i == len(tokens)-1 {
					space = ""
				}
				tokens[i] = strings.ReplaceAll(t, suffix, space)
			}
			return tokens
		}
	case "CTC":
		run = ctc(s.text("pad_token"), s.text("word_delimiter_token"), s.boolean("cleanup"))
		d.whole = true // a token may repeat the one before it
	case "Strip":
		char := string(s.char("content"))
		start, stop := s.natural("start", 1<<20), s.natural("stop", 1<<20)
		d.whole = d.whole || *joined && (start > 1 || stop > 0)
		run = eachToken(func(_ int, t string) string {
			for n := start; n > 0 && strings.HasPrefix(t, char); n-- {
				t = t[len(char):]
			}
			for n := stop; n > 0 && strings.HasSuffix(t, char); n-- {
				t = t[:len(t)-len(char)]
			}
			return t
		})
	case "Metaspace":
		m := readMetaspace(s)
		run = eachToken(func(i int, t string) string {
			if i == 0 && m.scheme != "never" {
				return strings.ReplaceAll(t, m.mark, "")
			}
			return strings.ReplaceAll(t, m.mark, " ")
		})
	default:
		s.fail("not implemented")
	}
	if run != nil {
		d.stages = append(d.stages, run)
	}
	return s.end()
}

// replaceIn leaves a token as it is where the pattern runs too long on it.
func replaceIn(t string, find finder, content string) string {
	found, err := find(t)
	if err != nil || len(found) == 0 {
		return t
	}
	var b strings.Builder
	done := 0
	for _, m := range found {
		b.WriteString(t[done:m.start])
		b.WriteString(content)
		done = m.end
	}
	b.WriteString(t[done:])
	return b.String()
}

// cleanup takes out spaces that a tokenizer of English puts in.
func cleanup(s string) string {
	for _, r := range [...][2]string{
		{" .", "."}, {" ?", "?"}, {" !", "!"}, {" ,", ","}, {" ' ", "'"}, {" n't", "n't"}, {" 'm", "'m"},
		{" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
	} {
		s = strings.ReplaceAll(s, r[0], r[1])
	}
	return s
}

// ctc is the decoder of speech models: repeats are one token, padding is nothing.
func ctc(pad, space string, clean bool) stage {
	return func(tokens []string) []string {
		out := tokens[:0]
		last := ""
		for i, t := range tokens {
			if i > 0 && t == last {
				continue
			}
			last = t
			t = strings.ReplaceAll(t, pad, "")
			if clean {
				t = strings.ReplaceAll(cleanup(t), space, " ")
			}
			if t != "" {
				out = append(out, t)
			}
		}
		return out
	}
}

func (d *decoder) run(tokens []string) []string {
	for _, run := range d.stages {
		tokens = run(tokens)
	}
	return tokens
}

func eachToken(f func(i int, token string) string) stage {
	return func(tokens []string) []string {
		for i, t := range tokens {
			tokens[i] = f(i, t)
		}
		return tokens
	}
}

// fromByteChars undoes [toByteChars]. A token with a character outside that
// alphabet, such as most added ones, stands for itself.
func fromByteChars(tokens []string) []string {
	var out []byte
token:
	for _, t := range tokens {
		from := len(out)
		for _, r := range t {
			b, ok := charBytes[r]
			if !ok {
				out = append(out[:from], t...)
				continue token
			}
			out = append(out, b)
		}
	}
	return []string{validUTF8(string(out))}
}

// joinBytes makes text of each run of byte tokens: one U+FFFD a byte where the run
// is not UTF-8 as a whole.
func joinBytes(tokens []string) []string {
	var out []string
	var run []byte
	flush := func() {
		if utf8.Valid(run) {
			out = append(out, string(run))
		} else {
			for range run {
				out = append(out, "\uFFFD")
			}
		}
		run = run[:0]
	}
	for _, t := range tokens {
		if b, ok := byteToken(t); ok {
			run = append(run, b)
			continue
		}
		if len(run) > 0 {
			flush()
		}
		out = append(out, t)
	}
	if len(run) > 0 {
		flush()
	}
	return out
}

// byteToken reads a token such as <0x0A>.
func byteToken(t string) (byte, bool) {
	if len(t) != 6 || t[:3] != "<0x" || t[5] != '>' {
		return 0, false
	}
	// The library's parser of numbers takes a sign.
	b, err := strconv.ParseUint(strings.TrimPrefix(t[3:5], "+"), 16, 8)
	return byte(b), err == nil
}
