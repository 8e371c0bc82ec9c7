package autodiff

import (
	"fmt"
	"math"
)

// Seq is one sequence of an attention: Queries rows of q, and Keys rows of k and v,
// at least as many. The queries are the last positions of the sequence, so that
// query i sees keys 0 … Keys−Queries+i. Keys that go before the queries are those
// of an earlier step, from a cache.
type Seq struct{ Queries, Keys int }

// Heads says how columns are cut into heads: q has Query·Dim columns, k and v have
// KeyValue·Dim, and Query/KeyValue successive query heads share one of k and v
// (Ainslie et al., "GQA", 2023). The fields that may be zero say how a head's scores
// are made.
type Heads struct {
	Query, KeyValue, Dim int

	// Scale is what q·k is multiplied by; 0 means 1/√Dim.
	Scale float32
	// Cap, unless it is 0, bends the scaled scores s to Cap·tanh(s/Cap) before the
	// softmax (Gemma Team, "Gemma 2", 2024, section 2.2).
	Cap float32
	// Window, unless it is 0, is how many keys a query sees: its own position's and
	// those right before it (Beltagy et al., "Longformer", 2020).
	Window int
	// Both lets every query see every key of its sequence, as encoders do (Devlin et al.,
	// "BERT", 2019). It excludes a window.
	Both bool
}

// queryBlock is how many queries of one head are worked on at a time. The keys that
// none of them sees are left out, which is what saves half of the work.
const queryBlock = 64

// Attention returns softmax(scale·q·kᵀ)·v for each head of each sequence, causally unless
// heads say otherwise (Vaswani et al., "Attention is all you need", 2017). Sequences follow one another
// in the rows without padding. Rows of the softmax have their maximum taken out and
// their sum in float64. The probabilities are stored for Backward: about
// Query·Keys²/2 elements a sequence, or Query·Keys·Window. Scores that are bent are
// computed again there.
func (t *Tape) Attention(q, k, v *Value, heads Heads, seqs []Seq) *Value {
	a := newAttention(q, k, v, heads, seqs)
	y := t.newValue(q.Rows, q.Cols, q, k, v)
	p := t.newValue(1, a.size)
	parallel(len(a.blocks)*heads.Query, func(_, i int) {
		b, h := a.blocks[i/heads.Query], i%heads.Query
		probs := a.probs(p.Data, b, h)
		product(asIs, flipped, a.Scale, a.query(q.Data, b, h), a.keys(k.Data, b, a.shared(h)), 0, probs)
		for r := range b.rows {
			row := part(probs, r, 0, 1, b.keys).Data
			from, to := a.seen(b, r)
			if a.Cap != 0 {
				softCap(row[from:to], a.Cap)
			}
			clear(row[:from])
			softmax(row[from:to])
			clear(row[to:])
		}
		product(asIs, asIs, 1, probs, a.keys(v.Data, b, a.shared(h)), 0, a.query(y.Data, b, h))
	})
	if !y.needs {
		t.arena.put(p.buf)
		return y
	}
	keep(q, k, v)
	t.record(func() {
		dy := t.gradOf(y)
		if v.needs {
			a.addKeyGrads(t.gradOf(v), p.Data, dy)
		}
		if !q.needs && !k.needs {
			return
		}
		var dq []float32
		beta := float32(1)
		if q.needs {
			var first bool
			if dq, first = t.startGrad(q); first {
				beta = 0
			}
		}
		room := queryBlock * a.longest
		if a.Cap != 0 {
			room *= 2
		}
		scratch := t.newValue(workers(len(a.blocks)*heads.Query), room)
		a.scoreGrads(dq, beta, p.Data, dy, q.Data, k.Data, v.Data, scratch)
		t.arena.put(scratch.buf)
		if k.needs {
			a.addKeyGrads(t.gradOf(k), p.Data, q.Data)
		}
	}, y, p)
	return y
}

// attention is the geometry of one attention.
type attention struct {
	Heads     // with the Scale that is meant
	blocks    []queries
	keyBlocks []keyRange
	size      int // elements of all probabilities
	longest   int // the most keys of a block
}

// queries is a block of successive queries of one sequence, for all heads.
type queries struct {
	row, rows int // of q
	key, keys int // rows of k and v that some query sees: the last sees the last
	past      int // positions before the first query whose keys are among them
	at        int // where the probabilities lie: one rows × keys matrix per head
}

// keyRange is a block of successive keys of one sequence.
type keyRange struct {
	from, to int       // rows of k and v
	blocks   []queries // those that see some of them
}

func newAttention(q, k, v *Value, heads Heads, seqs []Seq) *attention {
	a := &attention{Heads: heads}
	if a.Both && a.Window > 0 {
		panic("autodiff: a window on attention that sees both ways")
	}
	if a.Scale == 0 {
		a.Scale = float32(1 / math.Sqrt(float64(heads.Dim)))
	}
	row, key := 0, 0
	for _, s := range seqs {
		if s.Queries < 0 || s.Keys < s.Queries {
			panic(fmt.Sprintf("autodiff: %d queries on %d keys", s.Queries, s.Keys))
		}
		first := len(a.blocks)
		for i := 0; i < s.Queries; i += queryBlock {
			b := queries{row: row + i, rows: min(queryBlock, s.Queries-i), at: a.size}
			position := s.Keys - s.Queries + i
			b.past = position
			if a.Window > 0 {
				b.past = min(b.past, a.Window-1)
			}
			b.key, b.keys = key+position-b.past, b.past+b.rows
			if a.Both {
				b.key, b.keys = key, s.Keys
			}
			a.size += heads.Query * b.rows * b.keys
			a.longest = max(a.longest, b.keys)
			a.blocks = append(a.blocks, b)
		}
		own := a.blocks[first:]
		for j := 0; j < s.Keys; j += queryBlock {
			r := keyRange{from: key + j, to: key + min(j+queryBlock, s.Keys)}
			for len(own) > 0 && own[0].key+own[0].keys <= r.from {
				own = own[1:]
			}
			r.blocks = own
			for len(r.blocks) > 0 && r.blocks[len(r.blocks)-1].key >= r.to {
				r.blocks = r.blocks[:len(r.blocks)-1]
			}
			a.keyBlocks = append(a.keyBlocks, r)
		}
		row, key = row+s.Queries, key+s.Keys
	}
	q.mustMatch("q", row, heads.Query*heads.Dim)
	k.mustMatch("k", key, heads.KeyValue*heads.Dim)
	v.mustMatch("v", key, heads.KeyValue*heads.Dim)
	if heads.Query%heads.KeyValue != 0 {
		panic(fmt.Sprintf("autodiff: %d query heads on %d", heads.Query, heads.KeyValue))
	}
	return a
}

// seen returns which of a block's keys its query r sees.
func (a *attention) seen(b queries, r int) (from, to int) {
	if a.Both {
		return 0, b.keys
	}
	to = b.past + r + 1
	if a.Window > 0 {
		from = max(0, to-a.Window)
	}
	return from, to
}

// shared returns the head of k and v that query head h uses.
func (a *attention) shared(h int) int { return h / (a.Query / a.KeyValue) }

// probs returns the probabilities of a block and query head.
func (a *attention) probs(p []float32, b queries, h int) matrix {
	n := b.rows * b.keys
	return general(b.rows, b.keys, p[b.at+h*n:b.at+(h+1)*n])
}

// query returns the rows of a block and the columns of query head h.
func (a *attention) query(data []float32, b queries, h int) matrix {
	width := a.Query * a.Dim
	return head(data, width, b.row, b.row+b.rows, h, a.Dim)
}

// keys returns the keys that a block sees, of head h of k and v.
func (a *attention) keys(data []float32, b queries, h int) matrix {
	return head(data, a.KeyValue*a.Dim, b.key, b.key+b.keys, h, a.Dim)
}

func head(data []float32, width, from, to, h, dim int) matrix {
	return part(matrix{Rows: to, Cols: width, Stride: width, Data: data}, from, h*dim, to-from, dim)
}

// addKeyGrads adds mᵀ·x to d, head by head: with the probabilities and dy it makes
// the gradient of v, with those of the scores and q that of k. A task owns a block
// of keys of one head and sums over query heads and query blocks in order.
func (a *attention) addKeyGrads(d, m, x []float32) {
	group := a.Query / a.KeyValue
	parallel(len(a.keyBlocks)*a.KeyValue, func(_, i int) {
		r, kv := a.keyBlocks[i/a.KeyValue], i%a.KeyValue
		for h := kv * group; h < (kv+1)*group; h++ {
			for _, b := range r.blocks {
				from, to := max(r.from-b.key, 0), min(r.to-b.key, b.keys)
				seen := part(a.probs(m, b, h), 0, from, b.rows, to-from)
				out := head(d, a.KeyValue*a.Dim, b.key+from, b.key+to, kv, a.Dim)
				product(flipped, asIs, 1, seen, a.query(x, b, h), 1, out)
			}
		}
	})
}

// scoreGrads turns the probabilities p into the gradients of q·kᵀ,
// scale·p∘(dp − Σ dp∘p) with dp = dy·vᵀ, times the slope 1 − tanh² where scores are
// bent, and makes dq those times k plus beta·dq unless it is nil. scratch has a row for each worker.
func (a *attention) scoreGrads(dq []float32, beta float32, p, dy, q, k, v []float32, scratch *Value) {
	parallel(len(a.blocks)*a.Query, func(worker, i int) {
		b, h := a.blocks[i/a.Query], i%a.Query
		probs := a.probs(p, b, h)
		n := b.rows * b.keys
		dp := general(b.rows, b.keys, scratch.row(worker)[:n])
		product(asIs, flipped, 1, a.query(dy, b, h), a.keys(v, b, a.shared(h)), 0, dp)
		var scores matrix
		if a.Cap != 0 {
			scores = general(b.rows, b.keys, scratch.row(worker)[n:2*n])
			product(asIs, flipped, a.Scale, a.query(q, b, h), a.keys(k, b, a.shared(h)), 0, scores)
		}
		for r := range b.rows {
			row, d := part(probs, r, 0, 1, b.keys).Data, part(dp, r, 0, 1, b.keys).Data
			var dot float64
			for j, x := range row {
				dot += float64(x) * float64(d[j])
			}
			mean := float32(dot)
			for j, x := range row {
				row[j] = a.Scale * x * (d[j] - mean)
			}
			if a.Cap != 0 {
				from, to := a.seen(b, r)
				bent := part(scores, r, 0, 1, b.keys).Data[from:to]
				softCap(bent, a.Cap)
				capGrad(row[from:to], bent, a.Cap)
			}
		}
		if dq != nil {
			product(asIs, asIs, 1, probs, a.keys(k, b, a.shared(h)), beta, a.query(dq, b, h))
		}
	})
}

// softmax replaces a row by e**(x−max)/Σ.
func softmax(row []float32) {
	scale(row, float32(1/exps(row, row, 1, float64(maximum(row)))))
}
