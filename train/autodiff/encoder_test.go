package autodiff

import (
	"math"
	"math/rand/v2"
	"testing"
)

var (
	// Sequences of more than a block of queries, of one token, and with a cache.
	bothSeqs  = []Seq{{3, 3}, {130, 130}, {1, 1}, {2, 70}}
	bothHeads = Heads{Query: 6, KeyValue: 2, Dim: 5, Both: true}
	poolLens  = []int{1, 70, 4}
)

// each applies f to the elements of the first input.
func each(f func(x float64) float64) func(in []mat) mat {
	return func(in []mat) mat {
		y := newMat(in[0].rows, in[0].cols)
		for i, x := range in[0].data {
			y.data[i] = f(x)
		}
		return y
	}
}

func activationCase(name string, act Activation, f func(x float64) float64) opCase {
	return opCase{
		name: name, shapes: [][2]int{{75, 131}}, scale: 2, forward: each(f),
		build: func(t *Tape, in []*Value) *Value { return t.Activate(in[0], act) },
	}
}

// encoderCases are the operations of encoders.
func encoderCases() []opCase {
	return []opCase{
		{
			name:    "Attention both ways",
			shapes:  [][2]int{{136, 30}, {204, 10}, {204, 10}},
			scale:   1.3,
			forward: func(in []mat) mat { return attentionReference(in, bothHeads, bothSeqs) },
			build: func(t *Tape, in []*Value) *Value {
				return t.Attention(in[0], in[1], in[2], bothHeads, bothSeqs)
			},
		},
		{
			name:   "LayerNorm",
			shapes: [][2]int{{70, 131}, {1, 131}, {1, 131}},
			forward: func(in []mat) mat {
				y := newMat(in[0].rows, in[0].cols)
				for i := range y.rows {
					var mean, variance float64
					for j := range y.cols {
						mean += in[0].at(i, j) / float64(y.cols)
					}
					for j := range y.cols {
						variance += math.Pow(in[0].at(i, j)-mean, 2) / float64(y.cols)
					}
					for j := range y.cols {
						y.set(i, j, in[1].at(0, j)*(in[0].at(i, j)-mean)/math.Sqrt(variance+0.1)+in[2].at(0, j))
					}
				}
				return y
			},
			build: func(t *Tape, in []*Value) *Value { return t.LayerNorm(in[0], in[1], in[2], 0.1) },
		},
		activationCase("GELU", GELU, func(x float64) float64 { return x / 2 * (1 + math.Erf(x/math.Sqrt2)) }),
		activationCase("GELUTanh", GELUTanh, func(x float64) float64 {
			return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
		}),
		activationCase("ReLU", ReLU, func(x float64) float64 { return max(x, 0) }),
		activationCase("Tanh", Tanh, math.Tanh),
		{
			name:   "MeanRows",
			shapes: [][2]int{{75, 131}},
			forward: func(in []mat) mat {
				y, row := newMat(len(poolLens), 131), 0
				for s, n := range poolLens {
					for i := row; i < row+n; i++ {
						for j := range y.cols {
							y.data[s*y.cols+j] += in[0].at(i, j) / float64(n)
						}
					}
					row += n
				}
				return y
			},
			build: func(t *Tape, in []*Value) *Value { return t.MeanRows(in[0], poolLens) },
		},
		{
			name:   "MaxRows",
			shapes: [][2]int{{75, 131}},
			forward: func(in []mat) mat {
				y, row := newMat(len(poolLens), 131), 0
				for s, n := range poolLens {
					for j := range y.cols {
						top := math.Inf(-1)
						for i := row; i < row+n; i++ {
							top = max(top, in[0].at(i, j))
						}
						y.set(s, j, top)
					}
					row += n
				}
				return y
			},
			build: func(t *Tape, in []*Value) *Value { return t.MaxRows(in[0], poolLens) },
		},
		{
			name:   "UnitRows",
			shapes: [][2]int{{75, 131}},
			forward: func(in []mat) mat {
				y := newMat(in[0].rows, in[0].cols)
				for i := range y.rows {
					for j := range y.cols {
						y.set(i, j, in[0].at(i, j)/math.Sqrt(in[0].dot(i, in[0], i)))
					}
				}
				return y
			},
			build: func(t *Tape, in []*Value) *Value { return t.UnitRows(in[0], 1e-12) },
		},
		{
			// All rows are shorter than the least divisor.
			name:    "UnitRows of short rows",
			shapes:  [][2]int{{75, 131}},
			forward: each(func(x float64) float64 { return x / 40 }),
			build:   func(t *Tape, in []*Value) *Value { return t.UnitRows(in[0], 40) },
		},
		{
			name:   "RowDots",
			shapes: [][2]int{{75, 131}, {75, 131}},
			forward: func(in []mat) mat {
				y := newMat(in[0].rows, 1)
				for i := range y.rows {
					y.set(i, 0, in[0].dot(i, in[1], i))
				}
				return y
			},
			build: func(t *Tape, in []*Value) *Value { return t.RowDots(in[0], in[1]) },
		},
		{
			// What in-batch contrast needs: gradients for both factors of a product.
			name:   "Linear with itself",
			shapes: [][2]int{{7, 131}},
			forward: func(in []mat) mat {
				y := newMat(7, 7)
				for i := range y.rows {
					for j := range y.cols {
						y.set(i, j, in[0].dot(i, in[0], j))
					}
				}
				return y
			},
			build: func(t *Tape, in []*Value) *Value { return t.Linear(in[0], in[0], nil) },
		},
	}
}

func TestPointwiseLosses(t *testing.T) {
	for _, c := range []struct {
		name string
		loss func(y, target float64) float64
		run  func(t *Tape, y *Value, targets []float32) float64
	}{
		{"SquaredError", func(y, target float64) float64 { return (y - target) * (y - target) },
			func(t *Tape, y *Value, targets []float32) float64 { return t.SquaredError(y, targets, testScale) }},
		{"LogisticLoss", func(y, target float64) float64 {
			p := 1 / (1 + math.Exp(-y))
			return -target*math.Log(p) - (1-target)*math.Log(1-p)
		}, func(t *Tape, y *Value, targets []float32) float64 { return t.LogisticLoss(y, targets, testScale) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(3, 5))
			in, leaves := randomInputs(rng, opCase{shapes: [][2]int{{5, 7}}, scale: 3})
			targets := make([]float32, 35)
			for i := range targets {
				targets[i] = []float32{0, 1, 0.25}[i%3]
			}
			var tape Tape
			got := c.run(&tape, leaves[0], targets)
			var want float64
			var slopes []float64
			const h = 1e-5
			for i, y := range in[0].data {
				target := float64(targets[i])
				want += c.loss(y, target)
				slopes = append(slopes, testScale*(c.loss(y+h, target)-c.loss(y-h, target))/(2*h))
			}
			compare(t, "loss", []float64{got}, []float64{want})
			tape.Backward()
			compare(t, "gradient", widen(leaves[0].Grad()), slopes)
		})
	}
	// Far from 0 nothing overflows.
	var tape Tape
	y := Frozen(1, 2, []float32{200, -200})
	if got := tape.LogisticLoss(y, []float32{0, 1}, 1); got != 400 {
		t.Errorf("the loss of logits that are wrong by 200 each is %g, want 400", got)
	}
}

// A NaN is the maximum wherever it stands.
func TestMaximumOfNaN(t *testing.T) {
	nan := float32(math.NaN())
	for _, row := range [][]float32{{nan, 1, 2}, {1, nan, 2}, {1, 2, nan}, {nan, nan}} {
		if x := maximum(row); x == x {
			t.Errorf("the maximum of %v is %g", row, x)
		}
	}
	if x := maximum([]float32{-3, -1, -2}); x != -1 {
		t.Errorf("the maximum is %g, want -1", x)
	}
}

// A NaN must come through what chooses, not vanish.
func TestNaNStays(t *testing.T) {
	nan := float32(math.NaN())
	var tape Tape
	for name, y := range map[string]*Value{
		"ReLU":    tape.Activate(Frozen(1, 1, []float32{nan}), ReLU),
		"MaxRows": tape.MaxRows(Frozen(3, 1, []float32{1, nan, 2}), []int{3}),
	} {
		if y.Data[0] == y.Data[0] {
			t.Errorf("%s made %g of NaN", name, y.Data[0])
		}
	}
}
