package models

import (
	"math"

	"github.com/seed-b982eded/graft/train/autodiff"
)

// rope says how far positions turn queries and keys.
type rope struct {
	frequencies []float32
	scale       float32 // of cosines and sines

	// longer, unless it is nil, gives the frequencies of sequences of n tokens where n is
	// more than length: all of such a sequence turns by them. With steady they are the same
	// for every n.
	longer func(n int) []float32
	length int
	steady bool

	// reach is how many positions the scaling is for; 0 where it does not say.
	reach int
}

// ropeBase is what every kind of scaling starts from.
type ropeBase struct {
	dim   int // elements of a head that turn
	theta float64
}

// powers returns theta**(2i/dim) for each pair i of elements, rounded to float32 as in
// transformers: later positions see every bit of them.
func (b ropeBase) powers() []float32 {
	out := make([]float32, b.dim/2)
	for i := range out {
		out[i] = float32(math.Pow(b.theta, float64(float32(2*i)/float32(b.dim))))
	}
	return out
}

// frequencies returns what a position is multiplied by to give an angle: 1/power.
func (b ropeBase) frequencies() []float32 {
	f := b.powers()
	for i, power := range f {
		f[i] = 1 / power
	}
	return f
}

// plain scales nothing.
func (b ropeBase) plain() rope { return rope{frequencies: b.frequencies(), scale: 1} }

// linear divides positions by factor (Chen et al., "Extending context window of large
// language models via position interpolation", 2023).
func (b ropeBase) linear(factor float64, length int) rope {
	r := b.plain()
	for i := range r.frequencies {
		r.frequencies[i] /= float32(factor)
	}
	r.reach = stretched(length, factor)
	return r
}

// dynamic raises theta for sequences of more than length tokens ("dynamic NTK", in Peng et
// al., "YaRN", 2023, appendix A.2).
func (b ropeBase) dynamic(factor float64, length int) rope {
	r := b.plain()
	r.length, r.reach = length, stretched(length, factor)
	r.longer = func(n int) []float32 {
		// In float32, as in transformers.
		d, raised := float64(b.dim), b
		stretch := float32(factor*float64(n))/float32(length) - float32(factor-1)
		power := float32(math.Pow(float64(stretch), d/(d-2)))
		raised.theta = float64(float32(b.theta) * power)
		return raised.frequencies()
	}
	return r
}

// llama3 divides the frequencies of wavelengths above original/low by factor, leaves those
// below original/high, and goes over smoothly between them (Grattafiori et al., "The Llama
// 3 herd of models", 2024; the formula is transformers').
func (b ropeBase) llama3(factor, low, high float64, original int) rope {
	r := b.plain()
	for i, x := range r.frequencies {
		turns := float64(original) * float64(x) / (2 * math.Pi) // within the original length
		switch {
		case turns < low:
			r.frequencies[i] = x / float32(factor)
		case turns <= high:
			smooth := (turns - low) / (high - low)
			r.frequencies[i] = float32((1-smooth)*float64(x)/factor + smooth*float64(x))
		}
	}
	return r
}

// yarn is the options of "YaRN" (Peng et al., 2023).
type yarn struct {
	factor             float64
	original           int
	betaFast, betaSlow float64
	truncate           bool
	scale              float64 // 0 for what follows from the next two
	mscale, mscaleAll  float64 // 0 where not given
}

// yarn goes over from frequencies that stay, which turn more than betaFast times within
// the original length, to those that are divided by factor, which turn less than betaSlow
// times.
func (b ropeBase) yarn(y yarn) rope {
	// The pair that turns so many times.
	pair := func(turns float64) float64 {
		return float64(b.dim) * math.Log(float64(y.original)/(turns*2*math.Pi)) / (2 * math.Log(b.theta))
	}
	low, high := pair(y.betaFast), pair(y.betaSlow)
	if y.truncate {
		low, high = math.Floor(low), math.Ceil(high)
	}
	low, high = max(low, 0), min(high, float64(b.dim-1))
	if low == high {
		high += 0.001
	}
	f := b.powers()
	for i, power := range f {
		divided := float32(min(max((float64(i)-low)/(high-low), 0), 1))
		f[i] = 1/(float32(y.factor)*power)*divided + 1/power*(1-divided)
	}
	scale := y.scale
	if scale == 0 {
		scale = y.lengthen(1)
		if y.mscale != 0 && y.mscaleAll != 0 {
			scale = y.lengthen(y.mscale) / y.lengthen(y.mscaleAll)
		}
	}
	return rope{frequencies: f, scale: float32(scale), reach: stretched(y.original, y.factor)}
}

// lengthen is how much longer queries and keys become.
func (y yarn) lengthen(m float64) float64 {
	if y.factor <= 1 {
		return 1
	}
	return 0.1*m*math.Log(y.factor) + 1
}

// longRope divides each frequency by a factor of its own, by those of long in sequences
// of more than original tokens (Ding et al., "LongRoPE", 2024).
func (b ropeBase) longRope(short, long []float64, scale float64, original int) rope {
	divided := func(factors []float64) []float32 {
		f := b.powers()
		for i, power := range f {
			f[i] = 1 / (float32(factors[i]) * power)
		}
		return f
	}
	return rope{
		frequencies: divided(short), scale: float32(scale), length: original,
		longer: func(int) []float32 { return divided(long) }, steady: true,
	}
}

// stretched returns a length times a factor, as far as a size goes.
func stretched(length int, factor float64) int {
	return int(min(float64(length)*max(factor, 1), maxDimension))
}

// turning keeps the angles of a rope.
type turning struct {
	rope
	usual, last *autodiff.Rotary // last is of sequences of lastFor tokens
	lastFor     int
}

func newTurning(r rope) *turning {
	return &turning{rope: r, usual: autodiff.NewRotary(r.frequencies, r.scale)}
}

// of returns the angles of a sequence of n tokens.
func (t *turning) of(n int) *autodiff.Rotary {
	if t.longer == nil || n <= t.length {
		return t.usual
	}
	if t.last == nil || n != t.lastFor && !t.steady {
		t.last, t.lastFor = autodiff.NewRotary(t.longer(n), t.scale), n
	}
	return t.last
}

// changes reports whether the first tokens of a sequence turn otherwise when it grows
// from one length to another.
func (t *turning) changes(from, to int) bool {
	return t.longer != nil && to > t.length && !(t.steady && from > t.length)
}

// spans returns the angles of the queries of packed sequences.
func (t *turning) spans(seqs []autodiff.Seq) []autodiff.Span {
	out := make([]autodiff.Span, len(seqs))
	for i, s := range seqs {
		out[i] = autodiff.Span{Rotary: t.of(s.Keys), From: s.Keys - s.Queries, Rows: s.Queries}
	}
	return out
}
