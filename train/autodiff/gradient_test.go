package autodiff

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// An opCase is one operation with a reference of its own: forward is written in
// float64 with plain loops from the formula, and its central differences are what
// the float32 backward is compared with.
type opCase struct {
	name    string
	shapes  [][2]int
	scale   float64 // of the random inputs; 1 when zero
	forward func(in []mat) mat
	build   func(t *Tape, in []*Value) *Value
}

// mat is a float64 matrix of the reference.
type mat struct {
	rows, cols int
	data       []float64
}

func newMat(rows, cols int) mat               { return mat{rows, cols, make([]float64, rows*cols)} }
func (m mat) at(i, j int) float64             { return m.data[i*m.cols+j] }
func (m mat) set(i, j int, x float64)         { m.data[i*m.cols+j] = x }
func (m mat) dot(i int, o mat, j int) float64 { return m.partDot(i, 0, o, j, 0, m.cols) }

func (m mat) partDot(i, from int, o mat, j, oFrom, n int) (sum float64) {
	for c := range n {
		sum += m.at(i, from+c) * o.at(j, oFrom+c)
	}
	return sum
}

// copied gives operations that work in place something to work on.
func copied(t *Tape, x *Value) *Value {
	index := make([]int32, x.Rows)
	for i := range index {
		index[i] = int32(i)
	}
	return t.Rows(x, index)
}

var (
	testIndex  = []int32{4, 0, 4, 2, 1, 4, 6}
	testPlaces = []int32{0, 1, 2, 3, 0, 1, 17, 40, 41}
	testHeads  = Heads{Query: 6, KeyValue: 2, Dim: 5}
	testSeqs   = []Seq{{3, 3}, {70, 70}, {2, 75}, {1, 1}}

	windowHeads = Heads{Query: 3, KeyValue: 1, Dim: 5, Window: 7}
	wideHeads   = Heads{Query: 3, KeyValue: 1, Dim: 5, Window: 90}
	windowSeqs  = []Seq{{3, 3}, {139, 139}, {2, 145}, {23, 27}, {1, 1}}
	bentHeads   = Heads{Query: 6, KeyValue: 2, Dim: 5, Scale: 0.625, Cap: 1.5}
	testLabels  = []int32{5, Ignored, 0, 210, Ignored, 3, 3}
)

const (
	testEps   = 1e-3
	testScale = 0.75
)

func opCases() []opCase {
	return []opCase{
		{
			name:   "Linear",
			shapes: [][2]int{{67, 9}, {197, 9}, {1, 197}},
			forward: func(in []mat) mat {
				y := newMat(in[0].rows, in[1].rows)
				for i := range y.rows {
					for j := range y.cols {
						y.set(i, j, in[0].dot(i, in[1], j)+in[2].at(0, j))
					}
				}
				return y
			},
			build: func(t *Tape, in []*Value) *Value { return t.Linear(in[0], in[1], in[2]) },
		},
		{
			name:   "LoRA",
			shapes: [][2]int{{70, 7}, {70, 199}, {3, 199}, {7, 3}}, // y, x, A, B
			scale:  0.3,
			forward: func(in []mat) mat {
				y, x, a, b := newMat(70, 7), in[1], in[2], in[3]
				for i := range y.rows {
					for j := range y.cols {
						sum := in[0].at(i, j)
						for r := range a.rows {
							sum += testScale * x.dot(i, a, r) * b.at(j, r)
						}
						y.set(i, j, sum)
					}
				}
				return y
			},
			build: func(t *Tape, in []*Value) *Value {
				y := copied(t, in[0])
				t.LoRA(y, in[1], in[2], in[3], testScale)
				return y
			},
		},
		{
			name:   "RMSNorm",
			shapes: [][2]int{{70, 131}, {1, 131}},
			forward: func(in []mat) mat {
				y := newMat(in[0].rows, in[0].cols)
				for i := range y.rows {
					r := 1 / math.Sqrt(in[0].dot(i, in[0], i)/float64(y.cols)+testEps)
					for j := range y.cols {
						y.set(i, j, in[1].at(0, j)*in[0].at(i, j)*r)
					}
				}
				return y
			},
			build: func(t *Tape, in []*Value) *Value { return t.RMSNorm(in[0], in[1], RMS{Eps: testEps}) },
		},
		{
			name:   "RMSNorm by head",
			shapes: [][2]int{{70, 3 * 43}, {1, 43}},
			forward: func(in []mat) mat {
				y := newMat(in[0].rows, in[0].cols)
				for i := range y.rows {
					for h := 0; h < y.cols; h += 43 {
						r := 1 / math.Sqrt(in[0].partDot(i, h, in[0], i, h, 43)/43+testEps)
						for j := range 43 {
							y.set(i, h+j, (1+in[1].at(0, j))*in[0].at(i, h+j)*r)
						}
					}
				}
				return y
			},
			build: func(t *Tape, in []*Value) *Value { return t.RMSNorm(in[0], in[1], RMS{Eps: testEps, Offset: 1}) },
		},
		{
			name:   "Rotate",
			shapes: [][2]int{{9, 3 * 6}},
			forward: func(in []mat) mat {
				return rotateReference(in[0], 6, func(row, pair int) (angle, scale float64) {
					return float64(testPlaces[row]) * []float64{1, 0.3125, 0.0625}[pair], 1
				}, 3)
			},
			build: func(t *Tape, in []*Value) *Value {
				r := NewRotary([]float32{1, 0.3125, 0.0625}, 1)
				y := copied(t, in[0])
				t.Rotate(y, 6, []Span{{r, 0, 4}, {r, 0, 2}, {r, 17, 1}, {r, 40, 2}})
				return y
			},
		},
		{
			// Part of each head, two tables, one of them of another length.
			name:   "Rotate in part",
			shapes: [][2]int{{9, 3 * 7}},
			forward: func(in []mat) mat {
				return rotateReference(in[0], 7, func(row, pair int) (angle, scale float64) {
					if row < 6 {
						return float64(testPlaces[row]) * []float64{1, 0.3125}[pair], 1
					}
					return float64(testPlaces[row]) * []float64{0.75, 0.125}[pair], 1.25
				}, 2)
			},
			build: func(t *Tape, in []*Value) *Value {
				r, other := NewRotary([]float32{1, 0.3125}, 1), NewRotary([]float32{0.75, 0.125}, 1.25)
				y := copied(t, in[0])
				t.Rotate(y, 7, []Span{{r, 0, 4}, {r, 0, 2}, {other, 17, 1}, {other, 40, 2}})
				return y
			},
		},
		{
			name:    "Attention",
			shapes:  [][2]int{{76, 30}, {149, 10}, {149, 10}},
			scale:   1.3,
			forward: func(in []mat) mat { return attentionReference(in, testHeads, testSeqs) },
			build: func(t *Tape, in []*Value) *Value {
				return t.Attention(in[0], in[1], in[2], testHeads, testSeqs)
			},
		},
		{
			// Windows that reach over two blocks of queries and that end within one.
			name:    "Attention in a window",
			shapes:  [][2]int{{168, 15}, {315, 5}, {315, 5}},
			scale:   1.3,
			forward: func(in []mat) mat { return attentionReference(in, windowHeads, windowSeqs) },
			build: func(t *Tape, in []*Value) *Value {
				return t.Attention(in[0], in[1], in[2], windowHeads, windowSeqs)
			},
		},
		{
			name:    "Attention in a window longer than a block",
			shapes:  [][2]int{{168, 15}, {315, 5}, {315, 5}},
			scale:   1.3,
			forward: func(in []mat) mat { return attentionReference(in, wideHeads, windowSeqs) },
			build: func(t *Tape, in []*Value) *Value {
				return t.Attention(in[0], in[1], in[2], wideHeads, windowSeqs)
			},
		},
		{
			name:    "Attention with bent scores",
			shapes:  [][2]int{{76, 30}, {149, 10}, {149, 10}},
			scale:   1.3,
			forward: func(in []mat) mat { return attentionReference(in, bentHeads, testSeqs) },
			build: func(t *Tape, in []*Value) *Value {
				return t.Attention(in[0], in[1], in[2], bentHeads, testSeqs)
			},
		},
		{
			name:   "SwiGLU",
			shapes: [][2]int{{75, 131}, {75, 131}},
			scale:  3,
			forward: func(in []mat) mat {
				y := newMat(in[0].rows, in[0].cols)
				for i, g := range in[0].data {
					y.data[i] = g / (1 + math.Exp(-g)) * in[1].data[i]
				}
				return y
			},
			build: func(t *Tape, in []*Value) *Value { return t.SwiGLU(in[0], in[1]) },
		},
		{
			name:   "GeGLU",
			shapes: [][2]int{{75, 131}, {75, 131}},
			scale:  2,
			forward: func(in []mat) mat {
				y := newMat(in[0].rows, in[0].cols)
				for i, g := range in[0].data {
					y.data[i] = g / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(g+0.044715*g*g*g))) * in[1].data[i]
				}
				return y
			},
			build: func(t *Tape, in []*Value) *Value { return t.GeGLU(in[0], in[1]) },
		},
		{
			name:   "SoftCap",
			shapes: [][2]int{{75, 131}},
			scale:  3,
			forward: func(in []mat) mat {
				y := newMat(in[0].rows, in[0].cols)
				for i, x := range in[0].data {
					y.data[i] = 2.5 * math.Tanh(x/2.5)
				}
				return y
			},
			build: func(t *Tape, in []*Value) *Value {
				y := copied(t, in[0])
				t.SoftCap(y, 2.5)
				return y
			},
		},
		{
			// Parts of one width and a third that nobody asks for.
			name:   "Split",
			shapes: [][2]int{{75, 131}},
			forward: func(in []mat) mat {
				y := newMat(in[0].rows, 60)
				for i := range y.rows {
					for j := range y.cols {
						y.set(i, j, testScale*in[0].at(i, j)+in[0].at(i, 60+j))
					}
				}
				return y
			},
			build: func(t *Tape, in []*Value) *Value {
				parts := t.Split(copied(t, in[0]), 60, 60, 11)
				t.Scale(parts[0], testScale)
				t.Add(parts[0], parts[1])
				return parts[0]
			},
		},
		{
			name:   "Add and Scale",
			shapes: [][2]int{{75, 131}, {75, 131}},
			forward: func(in []mat) mat {
				y := newMat(in[0].rows, in[0].cols)
				for i := range y.data {
					y.data[i] = testScale*in[0].data[i] + in[1].data[i]
				}
				return y
			},
			build: func(t *Tape, in []*Value) *Value {
				y := copied(t, in[0])
				t.Scale(y, testScale)
				t.Add(y, in[1])
				return y
			},
		},
		{
			name:   "Rows",
			shapes: [][2]int{{7, 131}},
			forward: func(in []mat) mat {
				y := newMat(len(testIndex), in[0].cols)
				for i, r := range testIndex {
					copy(y.data[i*y.cols:(i+1)*y.cols], in[0].data[int(r)*y.cols:])
				}
				return y
			},
			build: func(t *Tape, in []*Value) *Value { return t.Rows(in[0], testIndex) },
		},
	}
}

// rotateReference turns pairs of elements of heads of dim, whose first halves are half long.
func rotateReference(x mat, dim int, turn func(row, pair int) (angle, scale float64), half int) mat {
	y := newMat(x.rows, x.cols)
	copy(y.data, x.data)
	for i := range x.rows {
		for h := 0; h < x.cols; h += dim {
			for pair := range half {
				angle, scale := turn(i, pair)
				a, b := x.at(i, h+pair), x.at(i, h+half+pair)
				y.set(i, h+pair, scale*(a*math.Cos(angle)-b*math.Sin(angle)))
				y.set(i, h+half+pair, scale*(b*math.Cos(angle)+a*math.Sin(angle)))
			}
		}
	}
	return y
}

func attentionReference(in []mat, heads Heads, seqs []Seq) mat {
	q, k, v := in[0], in[1], in[2]
	y := newMat(q.rows, q.cols)
	factor := float64(heads.Scale)
	if factor == 0 {
		factor = 1 / math.Sqrt(float64(heads.Dim))
	}
	row, key := 0, 0
	for _, s := range seqs {
		for i := range s.Queries {
			at := s.Keys - s.Queries + i
			first := 0
			if heads.Window > 0 {
				first = max(0, at-heads.Window+1)
			}
			for h := range heads.Query {
				kv := h / (heads.Query / heads.KeyValue) * heads.Dim
				last := at
				if heads.Both {
					last = s.Keys - 1
				}
				p := make([]float64, last+1)
				var sum float64
				for j := first; j <= last; j++ {
					score := factor * q.partDot(row+i, h*heads.Dim, k, key+j, kv, heads.Dim)
					if heads.Cap != 0 {
						score = float64(heads.Cap) * math.Tanh(score/float64(heads.Cap))
					}
					p[j] = math.Exp(score)
					sum += p[j]
				}
				for c := range heads.Dim {
					var out float64
					for j := range p {
						out += p[j] / sum * v.at(key+j, kv+c)
					}
					y.set(row+i, h*heads.Dim+c, out)
				}
			}
		}
		row, key = row+s.Queries, key+s.Keys
	}
	return y
}

// The bound on |got−want| in units of the largest |want|: float32 keeps 6e-8 of each
// of the up to 200 terms of a sum, whose errors mostly cancel; a wrong formula is
// off by parts of 1.
const opTolerance = 2e-6

func TestGradients(t *testing.T) {
	for _, c := range append(opCases(), encoderCases()...) {
		t.Run(c.name, func(t *testing.T) { checkOp(t, c) })
	}
}

func checkOp(t *testing.T, c opCase) {
	rng := rand.New(rand.NewPCG(7, 11))
	in, leaves := randomInputs(rng, c)
	var tape Tape
	y := c.build(&tape, leaves)
	want := c.forward(in)
	compare(t, "forward", widen(y.Data), want.data)

	seed := make([]float32, len(y.Data))
	for i := range seed {
		seed[i] = float32(rng.NormFloat64())
	}
	tape.AddGrad(y, seed)
	tape.Backward()
	for n, leaf := range leaves {
		var got, want []float64
		for range 60 {
			i := rng.IntN(len(leaf.Data))
			got = append(got, float64(leaf.Grad()[i]))
			want = append(want, difference(c, in, n, i, seed))
		}
		compare(t, fmt.Sprintf("gradient of input %d", n), got, want)
	}
}

// difference is the central difference of Σ seed∘forward by one element. The step is
// where its error (h², and 1e-16/h from rounding) is smallest, about 1e-10.
func difference(c opCase, in []mat, n, i int, seed []float32) float64 {
	const h = 1e-5
	value := func(x float64) (sum float64) {
		old := in[n].data[i]
		in[n].data[i] = x
		for j, y := range c.forward(in).data {
			sum += float64(seed[j]) * y
		}
		in[n].data[i] = old
		return sum
	}
	x := in[n].data[i]
	return (value(x+h) - value(x-h)) / (2 * h)
}

func randomInputs(rng *rand.Rand, c opCase) ([]mat, []*Value) {
	var in []mat
	var leaves []*Value
	for _, s := range c.shapes {
		m, data := newMat(s[0], s[1]), NewBuffer(s[0]*s[1])
		for i := range data {
			x := rng.NormFloat64()
			if c.scale != 0 {
				x *= c.scale
			}
			data[i] = float32(x)
			m.data[i] = float64(data[i])
		}
		in = append(in, m)
		leaves = append(leaves, Trainable(s[0], s[1], data, NewBuffer(len(data))))
	}
	return in, leaves
}

func widen(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

func compare(t *testing.T, what string, got, want []float64) {
	t.Helper()
	var worst, largest float64
	for i := range want {
		worst = max(worst, math.Abs(got[i]-want[i]))
		largest = max(largest, math.Abs(want[i]))
	}
	t.Logf("%s: largest error %.1e of %.1e", what, worst, largest)
	if !(worst <= opTolerance*largest) || largest == 0 {
		t.Errorf("%s: largest error %g, largest value %g", what, worst, largest)
	}
}

func TestCrossEntropy(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 5))
	c := opCase{shapes: [][2]int{{7, 211}}, scale: 4}
	in, leaves := randomInputs(rng, c)
	reference := func() (sum float64) {
		for i, label := range testLabels {
			if label == Ignored {
				continue
			}
			var z float64
			for j := range in[0].cols {
				z += math.Exp(in[0].at(i, j))
			}
			sum += math.Log(z) - in[0].at(i, int(label))
		}
		return sum
	}
	var tape Tape
	loss, counted := tape.CrossEntropy(leaves[0], testLabels, testScale)
	if counted != 5 {
		t.Errorf("counted %d labels, want 5", counted)
	}
	compare(t, "loss", []float64{loss}, []float64{reference()})
	tape.Backward()
	var got, want []float64
	const h = 1e-5
	for i := range in[0].data {
		x := in[0].data[i]
		in[0].data[i] = x + h
		up := reference()
		in[0].data[i] = x - h
		down := reference()
		in[0].data[i] = x
		got = append(got, float64(leaves[0].Grad()[i]))
		want = append(want, testScale*(up-down)/(2*h))
	}
	compare(t, "gradient", got, want)
}

func TestDropout(t *testing.T) {
	const rows, cols, p = 80, 131, 0.25
	rng := rand.New(rand.NewPCG(1, 2))
	_, leaves := randomInputs(rng, opCase{shapes: [][2]int{{rows, cols}}})
	var tape Tape
	x := leaves[0]
	y := tape.Dropout(x, p, 42)
	dropped := 0
	got, ones := append([]float32(nil), y.Data...), make([]float32, rows*cols)
	for i, v := range got {
		ones[i] = 1
		switch v {
		case 0:
			dropped++
		case x.Data[i] * float32(1/(1-p)):
		default:
			t.Fatalf("element %d became %g from %g", i, v, x.Data[i])
		}
	}
	// Five standard deviations of the binomial distribution.
	if mean, dev := rows*cols*p, math.Sqrt(rows*cols*p*(1-p)); math.Abs(float64(dropped)-mean) > 5*dev {
		t.Errorf("dropped %d of %d with p = %g", dropped, rows*cols, p)
	}
	tape.AddGrad(y, ones)
	tape.Backward()
	for i, g := range x.Grad() {
		if want := got[i] / x.Data[i]; math.Abs(float64(g-want)) > 1e-6 {
			t.Fatalf("gradient %d is %g, want %g", i, g, want)
		}
	}
	tape.Reset()
	if other := tape.Dropout(x, p, 43); fmt.Sprint(other.Data) == fmt.Sprint(got) {
		t.Error("another seed gave the same mask")
	}
	if tape.Dropout(x, 0, 42) != x {
		t.Error("p = 0 made a copy")
	}
}

func TestExps(t *testing.T) {
	var src []float32
	for x := float32(-110); x <= 95; x += 0.0137 {
		src = append(src, x)
	}
	src = append(src, 0, float32(math.Inf(1)), float32(math.Inf(-1)), 1e9, -1e9)
	dst := make([]float32, len(src))
	for _, sign := range []float64{1, -1} {
		exps(dst, src, sign, 0.25)
		for i, x := range src {
			want := math.Exp(sign*float64(x) - 0.25)
			// One rounding to float32, where subnormals are 1.4e-45 apart.
			if float64(dst[i]) != float64(float32(want)) && !(math.Abs(float64(dst[i])-want) <= 6.1e-8*want+8e-46) {
				t.Fatalf("exp(%g·%g − 0.25) = %g, want %g", sign, x, dst[i], want)
			}
		}
		inRange, want := src[2500:11000], 0.
		for _, x := range inRange {
			want += math.Exp(sign*float64(x) - 3)
		}
		if sum := exps(dst, inRange, sign, 3); math.Abs(sum-want) > 1e-9*want {
			t.Errorf("the sum is %g, want %g", sum, want)
		}
	}
	if exps(dst, []float32{float32(math.NaN())}, 1, 0); dst[0] == dst[0] {
		t.Errorf("exp(NaN) = %g", dst[0])
	}
}
