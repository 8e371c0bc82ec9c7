package tokenizer

import (
	"fmt"
	"math"
	"sync"
	"unicode/utf8"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
)

// bpe is the byte-pair model: characters, joined pair by pair in the order of the
// merges' ranks.
type bpe struct {
	vocabulary
	ranks    map[uint64]uint32 // pair of ids → rank
	merged   []int32           // rank → id of the joined pair
	byteIDs  [256]int32        // tokens <0x00>…<0xFF>, or -1; used with fallback
	fallback bool
	// wholeWords takes a word that is a token as it is, without merging.
	wholeWords bool
	unknown    *string
	fuse       bool // one unknown token for a run of unknown characters
	// prefix marks the characters of a word after the first, suffix the last one.
	prefix, suffix string

	mu    sync.RWMutex
	cache map[string][]int32
}

// The cache keeps words as long as text has them, and starts afresh when full.
const (
	maxCachedWords = 1 << 16
	maxCachedBytes = 64
)

func pair(left, right int32) uint64 { return uint64(uint32(left))<<32 | uint64(uint32(right)) }

func readBPE(s *section, v vocabulary, merges [][2]string) *bpe {
	m := &bpe{vocabulary: v}
	if s.has("dropout") {
		n := member[strictjson.Number](s, "dropout", "a number")
		if f, err := n.Float(); err != nil || f != 0 {
			s.fail("dropout %s is not implemented: ids would be random", formats.Quote(string(n)))
		}
	}
	if s.has("continuing_subword_prefix") {
		m.prefix = s.text("continuing_subword_prefix")
	}
	if s.has("end_of_word_suffix") {
		m.suffix = s.text("end_of_word_suffix")
	}
	if s.has("unk_token") {
		unknown := s.text("unk_token")
		m.unknown = &unknown
	}
	m.fuse = s.flag("fuse_unk", false)
	m.fallback = s.flag("byte_fallback", false)
	m.wholeWords = s.flag("ignore_merges", false)
	m.byteIDs = byteTokens(v.ids)
	s.take(m.rank(merges))
	return m
}

// rank builds the table of merges. Where a pair comes twice the later rank counts.
func (m *bpe) rank(merges [][2]string) error {
	if len(merges) > math.MaxInt32 {
		return fmt.Errorf("model: %d merges (want at most %d)", len(merges), math.MaxInt32)
	}
	m.ranks = make(map[uint64]uint32, len(merges))
	m.merged = make([]int32, len(merges))
	for i, parts := range merges {
		if len(parts[1]) < len(m.prefix) {
			return fmt.Errorf("model: merges[%d]: %s is shorter than continuing_subword_prefix", i, formats.Quote(parts[1]))
		}
		var ids [3]int32
		for j, token := range []string{parts[0], parts[1], parts[0] + parts[1][len(m.prefix):]} {
			id, ok := m.ids[token]
			if !ok {
				return fmt.Errorf("model: merges[%d]: token %s is not in the vocabulary", i, formats.Quote(token))
			}
			ids[j] = id
		}
		m.ranks[pair(ids[0], ids[1])] = uint32(i)
		m.merged[i] = ids[2]
	}
	return nil
}

func (m *bpe) encoder() encoder { return &merger{bpe: m} }

// merger encodes words, reusing its buffers. It belongs to one goroutine.
type merger struct {
	*bpe
	symbols []symbol
	heap    []uint64 // rank<<32 | position of the left symbol
}

// symbol is a part of the word so far, in a list linked by index; -1 ends it.
type symbol struct {
	id, prev, next int32
	gone           bool // joined to the one before it
}

// appendIDs appends the ids of one word.
func (m *merger) appendIDs(ids []int32, word string) ([]int32, error) {
	if m.wholeWords {
		if id, ok := m.ids[word]; ok {
			return append(ids, id), nil
		}
	}
	m.mu.RLock()
	cached, ok := m.cache[word]
	m.mu.RUnlock()
	if ok {
		return append(ids, cached...), nil
	}
	if err := m.load(word); err != nil {
		return nil, err
	}
	m.merge()
	from := len(ids)
	for _, s := range m.symbols {
		if !s.gone {
			ids = append(ids, s.id)
		}
	}
	if len(word) <= maxCachedBytes {
		// The key is copied: a word is a part of a text that need not be kept.
		key, value := string([]byte(word)), append([]int32(nil), ids[from:]...)
		m.mu.Lock()
		if len(m.cache) >= maxCachedWords || m.cache == nil {
			m.cache = map[string][]int32{}
		}
		m.cache[key] = value
		m.mu.Unlock()
	}
	return ids, nil
}

// load fills symbols with the word's characters.
func (m *merger) load(word string) error {
	m.symbols = m.symbols[:0]
	add := func(id int32) {
		n := int32(len(m.symbols))
		m.symbols = append(m.symbols, symbol{id: id, prev: n - 1, next: n + 1})
	}
	unknown := int32(-1) // an unknown token not yet added
	for i := 0; i < len(word); {
		_, n := utf8.DecodeRuneInString(word[i:])
		char := word[i : i+n]
		if i > 0 && m.prefix != "" {
			char = m.prefix + char
		}
		if i += n; i == len(word) && m.suffix != "" {
			char += m.suffix
		}
		if id, ok := m.ids[char]; ok {
			if unknown >= 0 {
				add(unknown)
				unknown = -1
			}
			add(id)
			continue
		}
		if m.fallback && m.hasBytes(char) {
			// A pending unknown token stays pending, and so comes after these; the
			// library has that order too.
			for _, b := range []byte(char) {
				add(m.byteIDs[b])
			}
			continue
		}
		if m.unknown == nil {
			continue // the character is lost, as in the library
		}
		if unknown >= 0 && !m.fuse {
			add(unknown)
		}
		id, ok := m.ids[*m.unknown]
		if !ok {
			return lacksUnknown("character", char, *m.unknown)
		}
		unknown = id
	}
	if unknown >= 0 {
		add(unknown)
	}
	if n := len(m.symbols); n > 0 {
		m.symbols[n-1].next = -1
	}
	return nil
}

func (m *merger) hasBytes(char string) bool {
	for _, b := range []byte(char) {
		if m.byteIDs[b] < 0 {
			return false
		}
	}
	return true
}

// merge joins pairs, lowest rank first and leftmost among equals, until none is
// left.
func (m *merger) merge() {
	m.heap = m.heap[:0]
	for i := 0; i+1 < len(m.symbols); i++ {
		m.push(int32(i))
	}
	for len(m.heap) > 0 {
		top := m.pop()
		at, joined := int32(uint32(top)), m.merged[top>>32]
		left := &m.symbols[at]
		if left.gone || left.next < 0 {
			continue
		}
		right := &m.symbols[left.next]
		// What stands here may have changed since. As in the library it need not be
		// the same pair, only one that makes the same token.
		rank, ok := m.ranks[pair(left.id, right.id)]
		if !ok || m.merged[rank] != joined {
			continue
		}
		left.id, left.next = joined, right.next
		right.gone = true
		if left.next >= 0 {
			m.symbols[left.next].prev = at
			m.push(at)
		}
		if left.prev >= 0 {
			m.push(left.prev)
		}
	}
}

// push queues the pair that starts at a symbol, if it can be joined.
func (m *merger) push(at int32) {
	left := m.symbols[at]
	rank, ok := m.ranks[pair(left.id, m.symbols[left.next].id)]
	if !ok {
		return
	}
	m.heap = append(m.heap, uint64(rank)<<32|uint64(at))
	h := m.heap
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if h[up] <= h[i] {
			return
		}
		h[up], h[i] = h[i], h[up]
		i = up
	}
}

func (m *merger) pop() uint64 {
	h := m.heap
	top, last := h[0], len(h)-1
	h[0] = h[last]
	h = h[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if h[child] < h[least] {
				least = child
			}
		}
		if least == i {
			break
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
	m.heap = h
	return top
}
