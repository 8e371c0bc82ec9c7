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
		from := s.section("pattern")
		if from.has("Regex") {
			from.fail("Regex is not implemented in a decoder")
		}
		old, content := from.text("String"), s.text("content")
		s.take(from.end())
		if old == "" {
			s.fail("an empty pattern is not implemented")
		}
		run = eachToken(func(_ int, t string) string { return strings.ReplaceAll(t, old, content) })
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
