package tokenizer

import (
	"slices"
	"strings"
)

// trie finds the tokens that a text begins with. The children of a node lie side
// by side, sorted by their bytes.
type trie struct {
	roots  [256]int32 // 0 for none
	first  []int32    // node → its first child; the next node's first ends them
	labels []byte     // node → the byte that leads to it
	ids    []int32    // node → the token that ends here, or -1
}

// newTrie builds the trie of tokens to ids; empty tokens are never found.
func newTrie(tokens map[string]int32) *trie {
	sorted := make([]string, 0, len(tokens))
	for t := range tokens {
		if t != "" {
			sorted = append(sorted, t)
		}
	}
	slices.Sort(sorted)
	// Breadth first: each node is a range of tokens that share their first bytes.
	type span struct{ lo, hi, depth int32 }
	t := &trie{labels: []byte{0}, ids: []int32{-1}}
	queue := []span{{0, int32(len(sorted)), 0}}
	for i := 0; i < len(queue); i++ {
		q := queue[i]
		queue[i] = span{}
		t.first = append(t.first, int32(len(t.labels)))
		for lo := q.lo; lo < q.hi; {
			if len(sorted[lo]) == int(q.depth) {
				lo++ // the token of this node itself
				continue
			}
			b := sorted[lo][q.depth]
			hi := lo + 1
			for hi < q.hi && sorted[hi][q.depth] == b {
				hi++
			}
			id := int32(-1)
			if token := sorted[lo]; len(token) == int(q.depth)+1 {
				id = tokens[token]
			}
			if i == 0 {
				t.roots[b] = int32(len(t.labels))
			}
			t.labels = append(t.labels, b)
			t.ids = append(t.ids, id)
			queue = append(queue, span{lo, hi, q.depth + 1})
			lo = hi
		}
	}
	t.first = append(t.first, int32(len(t.labels)))
	return t
}

// child returns the node that b leads to, or 0.
func (t *trie) child(node int32, b byte) int32 {
	lo, hi := t.first[node], t.first[node+1]
	if hi-lo > 16 {
		i, ok := slices.BinarySearch(t.labels[lo:hi], b)
		if !ok {
			return 0
		}
		return lo + int32(i)
	}
	for ; lo < hi; lo++ {
		if t.labels[lo] == b {
			return lo
		}
	}
	return 0
}

// prefixes reports the tokens that s begins with, shortest first.
func (t *trie) prefixes(s string, found func(length int, id int32)) {
	if s == "" {
		return
	}
	for i, node := 1, t.roots[s[0]]; node != 0; i++ {
		if id := t.ids[node]; id >= 0 {
			found(i, id)
		}
		if i == len(s) {
			return
		}
		node = t.child(node, s[i])
	}
}

// longest returns the longest token that s begins with, or -1.
func (t *trie) longest(s string) (length int, id int32) {
	id = -1
	t.prefixes(s, func(n int, found int32) { length, id = n, found })
	return length, id
}

// inner returns the tokens that begin with prefix, without it.
func inner(vocab map[string]int32, prefix string) map[string]int32 {
	out := map[string]int32{}
	for token, id := range vocab {
		if rest, ok := strings.CutPrefix(token, prefix); ok {
			out[rest] = id
		}
	}
	return out
}
