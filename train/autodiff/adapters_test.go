package autodiff

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

// turn returns the transpose.
func (m mat) turn() mat {
	y := newMat(m.cols, m.rows)
	for i := range y.rows {
		for j := range y.cols {
			y.set(i, j, m.at(j, i))
		}
	}
	return y
}

// times returns m·oᵀ.
func (m mat) times(o mat) mat {
	y := newMat(m.rows, o.rows)
	for i := range y.rows {
		for j := range y.cols {
			y.set(i, j, m.dot(i, o, j))
		}
	}
	return y
}

func (m mat) plus(o mat, factor float64) mat {
	y := newMat(m.rows, m.cols)
	for i := range y.data {
		y.data[i] = m.data[i] + factor*o.data[i]
	}
	return y
}

// rows returns the rows that index names.
func (m mat) pick(index []int32) mat {
	y := newMat(len(index), m.cols)
	for i, r := range index {
		copy(y.data[i*y.cols:(i+1)*y.cols], m.data[int(r)*m.cols:])
	}
	return y
}

// doraNorms are any numbers but those that the magnitudes are near.
var doraNorms = func() []float32 {
	n := make([]float32, 131)
	for j := range n {
		n[j] = 0.5 + float32(j%7)/3
	}
	return n
}()

// adapterCases are the operations of adapters other than plain LoRA.
func adapterCases() []opCase {
	return []opCase{
		{
			name: "Lookup", shapes: [][2]int{{7, 131}},
			forward: func(in []mat) mat { return in[0].pick(testIndex) },
			build:   func(t *Tape, in []*Value) *Value { return t.Lookup(in[0], testIndex, -1) },
		},
		{
			name: "LookupLoRA", shapes: [][2]int{{7, 131}, {3, 9}, {131, 3}}, // y, A, B
			forward: func(in []mat) mat { return in[0].plus(in[1].turn().times(in[2]).pick(testIndex), testScale) },
			build: func(t *Tape, in []*Value) *Value {
				y := copied(t, in[0])
				t.LookupLoRA(y, testIndex, in[1], in[2], testScale, -1)
				return y
			},
		},
		{
			name: "TurnedLoRA", shapes: [][2]int{{70, 199}, {70, 9}, {3, 199}, {9, 3}}, scale: 0.5, // y, x, A, B
			forward: func(in []mat) mat {
				return in[0].plus(in[1].times(in[3].turn()).times(in[2].turn()), testScale)
			},
			build: func(t *Tape, in []*Value) *Value {
				y := copied(t, in[0])
				t.TurnedLoRA(y, in[1], in[2], in[3], testScale)
				return y
			},
		},
		{
			name: "ScaleColumns", shapes: [][2]int{{75, 131}, {1, 131}},
			forward: func(in []mat) mat {
				y := newMat(in[0].rows, in[0].cols)
				for i := range y.rows {
					for j := range y.cols {
						y.set(i, j, in[1].at(0, j)/float64(doraNorms[j])*in[0].at(i, j))
					}
				}
				return y
			},
			build: func(t *Tape, in []*Value) *Value { return t.ScaleColumns(in[0], in[1], doraNorms) },
		},
		{
			name: "Sub", shapes: [][2]int{{75, 131}, {75, 131}},
			forward: func(in []mat) mat { return in[0].plus(in[1], -1) },
			build: func(t *Tape, in []*Value) *Value {
				y := copied(t, in[0])
				t.Sub(y, in[1])
				return y
			},
		},
		{
			// What DoRA does under dropout: the same value is subtracted, grows by factors
			// in place and comes back scaled.
			name: "Sub of what changes", shapes: [][2]int{{75, 131}, {75, 9}, {131, 9}, {3, 9}, {131, 3}, {1, 131}}, scale: 0.5,
			forward: func(in []mat) mat {
				u := in[1].times(in[2])
				v := u.plus(in[1].times(in[3]).times(in[4]), testScale)
				y := in[0].plus(u, -1)
				for i := range y.rows {
					for j := range y.cols {
						y.set(i, j, y.at(i, j)+in[5].at(0, j)/float64(doraNorms[j])*v.at(i, j))
					}
				}
				return y
			},
			build: func(t *Tape, in []*Value) *Value {
				y, u := copied(t, in[0]), t.Linear(in[1], in[2], nil)
				t.Sub(y, u)
				t.LoRA(u, in[1], in[3], in[4], testScale)
				t.Add(y, t.ScaleColumns(u, in[5], doraNorms))
				return y
			},
		},
		{
			name: "AddRow", shapes: [][2]int{{75, 131}, {1, 131}},
			forward: func(in []mat) mat {
				y := newMat(in[0].rows, in[0].cols)
				for i := range y.rows {
					for j := range y.cols {
						y.set(i, j, in[0].at(i, j)+testScale*in[1].at(0, j))
					}
				}
				return y
			},
			build: func(t *Tape, in []*Value) *Value {
				y := copied(t, in[0])
				t.AddRow(y, in[1], testScale)
				return y
			},
		},
	}
}

func TestAdapterGradients(t *testing.T) {
	for _, c := range adapterCases() {
		t.Run(c.name, func(t *testing.T) { checkOp(t, c) })
	}
}

// The padding token's row is used and never learned.
func TestPaddingHasNoGradient(t *testing.T) {
	const padding = 4
	for name, look := range map[string]func(tape *Tape, in []*Value, padding int32) *Value{
		"Lookup": func(tape *Tape, in []*Value, padding int32) *Value { return tape.Lookup(in[0], testIndex, padding) },
		"LookupLoRA": func(tape *Tape, in []*Value, padding int32) *Value {
			y := tape.Rows(Frozen(9, 5, NewBuffer(45)), testIndex)
			tape.LookupLoRA(y, testIndex, in[1], in[2], testScale, padding)
			return y
		},
	} {
		t.Run(name, func(t *testing.T) {
			run := func(padding int32) (y []float32, grads [][]float32) {
				_, in := randomInputs(rand.New(rand.NewPCG(5, 6)), opCase{shapes: [][2]int{{9, 5}, {3, 9}, {5, 3}}})
				var tape Tape
				v := look(&tape, in, padding)
				y = slices.Clone(v.Data)
				tape.AddGrad(v, y)
				tape.Backward()
				return y, [][]float32{in[0].Grad(), in[1].Grad(), in[2].Grad()}
			}
			free, want := run(-1)
			y, got := run(padding)
			if !slices.Equal(y, free) {
				t.Error("padding changes what is looked up")
			}
			for j := range 5 {
				if want[0][padding*5+j] == 0 && name == "Lookup" {
					t.Error("the row has no gradient in any case")
				}
				want[0][padding*5+j] = 0
			}
			for k := range 3 {
				want[1][k*9+padding] = 0
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("gradients are %v, want %v", got, want)
			}
		})
	}
}

// Norms are those of the sum, to float32's rounding of each element, for blocks of one row
// and of many, and the same bits whoever makes them.
func TestNorms(t *testing.T) {
	const s = 1.7
	for _, shape := range [][2]int{{1, 1}, {97, 33}, {1500, 131}, {3, normBlock + 5}} {
		rng := rand.New(rand.NewPCG(uint64(shape[0]), 3))
		in, leaves := randomInputs(rng, opCase{shapes: [][2]int{shape, {3, shape[1]}, {shape[0], 3}}})
		sum := in[0].plus(in[2].times(in[1].turn()), s)
		check := func(what string, got []float32, sum mat) {
			t.Helper()
			for i := range sum.rows {
				want := math.Sqrt(sum.dot(i, sum, i))
				// An element is a sum of four terms of about 2, each rounded; of a short column
				// there are three elements only, whose errors hardly cancel.
				if !(math.Abs(float64(got[i])-want) <= 4e-7*max(want, 3)) {
					t.Fatalf("%s %v: norm %d is %v, want %v", what, shape, i, got[i], want)
				}
			}
		}
		rows := RowNorms(leaves[0], leaves[1], leaves[2], s)
		check("rows", rows, sum)
		// The table is the layer, so what is A of the one is Bᵀ of the other.
		turned := func(v *Value) *Value {
			out := NewBuffer(len(v.Data))
			for i := range v.Rows {
				for j := range v.Cols {
					out[j*v.Rows+i] = v.Data[i*v.Cols+j]
				}
			}
			return Frozen(v.Cols, v.Rows, out)
		}
		a, b := turned(leaves[2]), turned(leaves[1])
		columns := ColumnNorms(leaves[0], a, b, s)
		check("columns", columns, sum.turn())
		old := runtime.GOMAXPROCS(1)
		one := slices.Equal(RowNorms(leaves[0], leaves[1], leaves[2], s), rows) && slices.Equal(ColumnNorms(leaves[0], a, b, s), columns)
		runtime.GOMAXPROCS(old)
		if !one {
			t.Errorf("%v: other bits on one processor", shape)
		}
	}
}
