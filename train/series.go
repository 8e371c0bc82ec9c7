package train

import (
	"math"
	"strconv"

	"gonum.org/v1/plot/plotter"

	"github.com/seed-b982eded/graft/formats"
)

// maxDrawn keeps the arithmetic of axes far from overflow.
const maxDrawn = 1e100

// series are the lines of a loss curve.
type series struct{ train, smooth, eval plotter.XYs }

func newSeries(points []Point) (series, error) {
	var s series
	for _, p := range points {
		if !(math.Abs(p.Loss) <= maxDrawn) {
			return series{}, formats.Usagef("loss curve: the loss of step %d is %v, which cannot be drawn", p.Step, p.Loss)
		}
		at := plotter.XY{X: float64(p.Step), Y: p.Loss}
		if p.Eval {
			s.eval = append(s.eval, at)
		} else {
			s.train = append(s.train, at)
		}
	}
	if len(s.train)+len(s.eval) == 0 {
		return series{}, formats.Usagef("loss curve: no points")
	}
	s.smooth = smooth(s.train)
	return s, nil
}

// smooth returns the mean over a window around each point, taken twice, of about a
// twentieth of the points in all. The window looks both ways, and so does not lag
// behind the losses; it is cut off at the ends. Of few points it returns none: there
// is nothing to smooth.
func smooth(xy plotter.XYs) plotter.XYs {
	if len(xy) < fewPoints {
		return nil
	}
	half := max(len(xy)/80, 2)
	return boxMean(boxMean(xy, half), half)
}

// boxMean replaces each value by the mean of those up to half places away.
func boxMean(xy plotter.XYs, half int) plotter.XYs {
	out := make(plotter.XYs, len(xy))
	sum, from, to := 0.0, 0, 0 // over from to to−1
	for i := range xy {
		for ; to < min(i+half+1, len(xy)); to++ {
			sum += xy[to].Y
		}
		for ; from < i-half; from++ {
			sum -= xy[from].Y
		}
		out[i] = plotter.XY{X: xy[i].X, Y: sum / float64(to-from)}
	}
	return out
}

// thinnedTo is about how many points a thinned line has: more than the image is
// wide in points.
const thinnedTo = 1200

// thin keeps the lowest and the highest point of each stretch of a long line, and
// its ends.
func thin(xy plotter.XYs) plotter.XYs {
	if len(xy) <= thinnedTo {
		return xy
	}
	out := plotter.XYs{xy[0]}
	inner := xy[1 : len(xy)-1]
	stretches := thinnedTo / 2
	for i := range stretches {
		from, to := i*len(inner)/stretches, (i+1)*len(inner)/stretches
		low, high := from, from
		for k := from; k < to; k++ {
			if inner[k].Y < inner[low].Y {
				low = k
			}
			if inner[k].Y > inner[high].Y {
				high = k
			}
		}
		out = append(out, inner[min(low, high)])
		if low != high {
			out = append(out, inner[max(low, high)])
		}
	}
	return append(out, xy[len(xy)-1])
}

// stepRange returns the ends of the horizontal axis: from 0, or from a later first
// step, to the last.
func (s series) stepRange() (low, high float64) {
	low, high = math.Inf(1), 1
	for _, line := range []plotter.XYs{s.train, s.eval} {
		for _, at := range line {
			low, high = min(low, at.X), max(high, at.X)
		}
	}
	if low < high/10 || low == high {
		low = 0
	}
	return low, high
}

// lossRange returns the ends of the vertical axis, with room around the lines.
func (s series) lossRange() (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, line := range []plotter.XYs{s.train, s.eval} {
		for _, at := range line {
			low, high = min(low, at.Y), max(high, at.Y)
		}
	}
	room := (high - low) * 0.06
	if room < 1e-9*math.Abs(high) || room == 0 {
		room = max(0.05*math.Abs(high), 0.05)
	}
	// A loss is never below 0, so neither is the axis.
	if low >= 0 {
		return max(low-room, 0), high + room
	}
	return low - room, high + room
}

// tickStep returns the smallest of 1, 2 and 5 times a power of ten that is at least
// rough, and at least 1 if it must be whole.
func tickStep(rough float64, whole bool) float64 {
	if whole {
		rough = max(rough, 1)
	}
	power := math.Pow(10, math.Floor(math.Log10(rough)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= rough*(1-1e-9) {
			return m * power
		}
	}
	return 10 * power
}

// tickLabel writes a number with so many decimals, or with an exponent where that
// would be long.
func tickLabel(x float64, decimals int) string {
	if decimals > 5 || math.Abs(x) >= 1e7 {
		return strconv.FormatFloat(x, 'g', 4, 64)
	}
	return strconv.FormatFloat(x+0, 'f', decimals, 64) // +0 turns −0 into 0
}
