package tokenizer

import "unicode"

// readBertNormalizer reads the cleaning that BERT does before WordPiece.
func readBertNormalizer(s *section) normalizer {
	clean, chinese, lower := s.boolean("clean_text"), s.boolean("handle_chinese_chars"), s.boolean("lowercase")
	accents := s.flag("strip_accents", lower)
	return func(p *passage) error {
		if isPlainASCII(p.s) {
			// Nothing but case can change.
			if lower {
				return lowercase(p)
			}
			return nil
		}
		if clean {
			if err := p.filter(bertKeeps, bertSpace); err != nil {
				return err
			}
		}
		if chinese {
			if err := spaceIdeographs(p); err != nil {
				return err
			}
		}
		if accents {
			if err := normalForms["NFD"].normalize(p); err != nil {
				return err
			}
			if err := p.filter(func(r rune) bool { return !isNonspacing(r) }, nil); err != nil {
				return err
			}
		}
		if lower {
			return lowercase(p)
		}
		return nil
	}
}

// isPlainASCII reports whether s has printable ASCII and spaces alone.
func isPlainASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7F {
			return false
		}
	}
	return true
}

func bertKeeps(r rune) bool {
	switch r {
	case '\t', '\n', '\r':
		return true
	case 0, 0xFFFD:
		return false
	}
	return !isControl(r)
}

func bertSpace(r rune) rune {
	if unicode.IsSpace(r) {
		return ' '
	}
	return r
}

// spaceIdeographs puts spaces around Chinese characters.
func spaceIdeographs(p *passage) error {
	any := false
	for _, r := range p.s {
		if any = isIdeograph(r); any {
			break
		}
	}
	if !any {
		return nil
	}
	return p.rewrite(func(e *edits) error {
		for _, r := range e.in {
			if isIdeograph(r) {
				e.put(' ', 0)
				e.put(r, 1)
				e.put(' ', 1)
				continue
			}
			e.put(r, 0)
		}
		return nil
	})
}

// isIdeograph is the library's list of blocks; BERT's own has 2B820 where this has
// 2B920.
func isIdeograph(r rune) bool {
	switch {
	case 0x4E00 <= r && r <= 0x9FFF, 0x3400 <= r && r <= 0x4DBF, 0x20000 <= r && r <= 0x2A6DF,
		0x2A700 <= r && r <= 0x2B73F, 0x2B740 <= r && r <= 0x2B81F, 0x2B920 <= r && r <= 0x2CEAF,
		0xF900 <= r && r <= 0xFAFF, 0x2F800 <= r && r <= 0x2FA1F:
		return true
	}
	return false
}
