package autodiff

import (
	"fmt"
	"math"
)

// Ignored is the label of a row without a loss.
const Ignored = -100

// CrossEntropy returns the sum of −log softmax(row)[label] over the rows of logits
// whose label is not [Ignored], and their number. Backward starts from scale times
// the sum. Each row's log-sum-exp and the sum of the losses are in float64. labels
// must stay as they are until Backward.
func (t *Tape) CrossEntropy(logits *Value, labels []int32, scale float32) (loss float64, counted int) {
	if len(labels) != logits.Rows {
		panic(fmt.Sprintf("autodiff: %d labels for %d rows", len(labels), logits.Rows))
	}
	// Two float32 hold one float64 of the log-sum-exp.
	high, low := t.newValue(1, logits.Rows), t.newValue(1, logits.Rows)
	eachRows(logits.Rows, logits.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			if labels[i] == Ignored {
				continue
			}
			sum := logSumExp(logits.row(i))
			high.Data[i] = float32(sum)
			low.Data[i] = float32(sum - float64(high.Data[i]))
		}
	})
	for i, label := range labels {
		if label != Ignored {
			loss += float64(high.Data[i]) + float64(low.Data[i]) - float64(logits.row(i)[label])
			counted++
		}
	}
	if !t.wants(logits) {
		return loss, counted
	}
	// What is recorded from here on has run back before this has.
	own := logits.buf != nil && !logits.kept
	keep(logits)
	t.record(func() {
		var grad []float32
		first := logits.grad == nil
		if first && own {
			// The matrix is the largest of a language model, and nothing reads it again.
			grad, logits.grad = logits.Data, logits.Data
		} else {
			grad, first = t.startGrad(logits)
		}
		eachRows(logits.Rows, logits.Cols, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				label, d := labels[i], grad[i*logits.Cols:(i+1)*logits.Cols]
				if label == Ignored {
					if first {
						clear(d)
					}
					continue
				}
				softmaxGrad(d, logits.row(i), scale, float64(high.Data[i])+float64(low.Data[i]), first)
				d[label] -= scale
			}
		})
	}, high, low)
	return loss, counted
}

// logSumExp returns log Σ e**x, taking the largest x out first.
func logSumExp(row []float32) float64 {
	top := float64(maximum(row))
	var sum float64
	var powers [expBlock]float32
	for ; len(row) > expBlock; row = row[expBlock:] {
		sum += exps(powers[:], row[:expBlock], 1, top)
	}
	sum += exps(powers[:], row, 1, top)
	return top + math.Log(sum)
}

// softmaxGrad adds scale·e**(x−sum) to dst for the elements x of row. The first time it
// sets dst, which may then be row.
func softmaxGrad(dst, row []float32, scale float32, sum float64, first bool) {
	var powers [expBlock]float32
	for from := 0; from < len(row); from += expBlock {
		to := min(from+expBlock, len(row))
		exps(powers[:], row[from:to], 1, sum)
		if first {
			clear(dst[from:to])
		}
		for j, p := range powers[:to-from] {
			dst[from+j] += scale * p
		}
	}
}

// maximum returns the largest element of a row, and NaN where there is one.
func maximum(row []float32) float32 {
	top := row[0]
	for _, x := range row {
		if !(x <= top) {
			if x != x {
				return x
			}
			top = x
		}
	}
	return top
}
