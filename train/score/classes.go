package score

import (
	"fmt"
	"slices"
)

// Best returns the column of the largest score in each row of n × classes scores; of equal
// ones the first.
func Best(scores []float32, classes int) []int32 {
	best := make([]int32, len(scores)/classes)
	for r := range best {
		row := scores[r*classes : (r+1)*classes]
		for j, x := range row {
			if x > row[best[r]] {
				best[r] = int32(j)
			}
		}
	}
	return best
}

// Above reports for each score whether it is above a threshold; 0 is a probability of a
// half for logits.
func Above(scores []float32, threshold float32) []bool {
	above := make([]bool, len(scores))
	for i, x := range scores {
		above[i] = x > threshold
	}
	return above
}

// Accuracy returns the share of predictions that are right, 0 of none.
func Accuracy[T comparable](predicted, right []T) float64 {
	mustMatch(len(predicted), len(right))
	n := 0
	for i, p := range predicted {
		if p == right[i] {
			n++
		}
	}
	return ratio(n, len(right))
}

// F1 returns the mean over classes of 2·TP/(2·TP+FP+FN), scikit-learn's macro average
// over the classes that are predicted or right at least once. For two classes it is not
// the binary F1, which is [F1Of] class 1.
func F1(predicted, right []int32) float64 {
	mustMatch(len(predicted), len(right))
	of := map[int32]*counts{}
	var classes []*counts
	for _, list := range [][]int32{predicted, right} {
		for _, c := range list {
			if of[c] == nil {
				of[c] = &counts{}
				classes = append(classes, of[c])
			}
		}
	}
	if len(classes) == 0 {
		return 0
	}
	for i, p := range predicted {
		of[p].add(true, p == right[i])
		if p != right[i] {
			of[right[i]].missed++
		}
	}
	var sum float64
	for _, c := range classes {
		sum += c.f1()
	}
	return sum / float64(len(classes))
}

// F1Of returns 2·TP/(2·TP+FP+FN) of one class, 0 where it is neither predicted nor right.
func F1Of(class int32, predicted, right []int32) float64 {
	mustMatch(len(predicted), len(right))
	var c counts
	for i, p := range predicted {
		c.add(p == class, right[i] == class)
	}
	return c.f1()
}

// LabelF1 returns 2·TP/(2·TP+FP+FN) over all labels of all texts, scikit-learn's micro
// average.
func LabelF1(predicted, right []bool) float64 {
	mustMatch(len(predicted), len(right))
	var c counts
	for i, p := range predicted {
		c.add(p, right[i])
	}
	return c.f1()
}

// MacroLabelF1 returns the mean over labels of 2·TP/(2·TP+FP+FN), scikit-learn's macro
// average; predicted and right are texts × labels. A label that is neither predicted nor right
// counts as 0.
func MacroLabelF1(predicted, right []bool, labels int) float64 {
	mustMatch(len(predicted), len(right))
	all := make([]counts, labels)
	for i, p := range predicted {
		all[i%labels].add(p, right[i])
	}
	var sum float64
	for _, c := range all {
		sum += c.f1()
	}
	return sum / float64(labels)
}

// SubsetAccuracy returns the share of texts of which every label is right, 0 of no texts;
// predicted and right are texts × labels.
func SubsetAccuracy(predicted, right []bool, labels int) float64 {
	mustMatch(len(predicted), len(right))
	n := 0
	for i := 0; i < len(right); i += labels {
		if slices.Equal(predicted[i:i+labels], right[i:i+labels]) {
			n++
		}
	}
	return ratio(n, len(right)/labels)
}

// counts are those of a confusion matrix that F1 needs.
type counts struct{ hits, wrong, missed int }

func (c *counts) add(predicted, right bool) {
	switch {
	case predicted && right:
		c.hits++
	case predicted:
		c.wrong++
	case right:
		c.missed++
	}
}

func (c counts) f1() float64 { return ratio(2*c.hits, 2*c.hits+c.wrong+c.missed) }

func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

func mustMatch(a, b int) {
	if a != b {
		panic(fmt.Sprintf("score: %d predictions for %d", a, b))
	}
}
