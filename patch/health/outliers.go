package health

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

const (
	// leastPeers is how many modules of a kind there must be to say that one stands out.
	leastPeers = 5
	// farOut is how many deviations an outlier is away, and timesOut how many times it is
	// at least what is usual: where all are nearly the same, a little more is no trouble.
	farOut   = 5
	timesOut = 4
	// deviation makes the median absolute deviation of a normal distribution its standard
	// deviation: 1/Φ⁻¹(3/4).
	deviation = 1.4826
)

// outliers finds changes that are much larger than those of the same module in other layers,
// by the median and the median absolute deviation of log RMS, which a few outliers do not
// move.
func outliers(modules []Module) []Finding {
	groups := map[string][]int{}
	for i, m := range modules {
		if m.Product != nil && m.Product.RMS > 0 && !m.Product.Rounding {
			key := fmt.Sprintf("%s %v", OverLayers(m.Module), m.Shape)
			groups[key] = append(groups[key], i)
		}
	}
	found := map[int]Finding{}
	for _, group := range groups {
		if len(group) < leastPeers {
			continue
		}
		logs := make([]float64, len(group))
		for j, i := range group {
			logs[j] = math.Log(modules[i].Product.RMS)
		}
		middle := median(logs)
		away := make([]float64, len(logs))
		for j, x := range logs {
			away[j] = math.Abs(x - middle)
		}
		spread := deviation * median(away)
		for j, i := range group {
			if d := logs[j] - middle; d > max(farOut*spread, math.Log(timesOut)) {
				m := modules[i]
				found[i] = Finding{Level: Warning, What: LargeChange, Module: m.Module,
					Numbers: map[string]float64{"rms": m.Product.RMS, "median_rms": math.Exp(middle), "times": math.Exp(min(d, 700))},
					Text:    fmt.Sprintf("the change is %.3g times what it is in the same module of other layers (an element of %.3g, in the median %.3g)", math.Exp(d), m.Product.RMS, math.Exp(middle))}
			}
		}
	}
	var out []Finding
	for i := range modules {
		if f, ok := found[i]; ok {
			out = append(out, f)
		}
	}
	return out
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// OverLayers is a module's path with the numbers in it left open: the modules of all layers
// that have the same place there.
func OverLayers(module string) string {
	parts := strings.Split(module, ".")
	for i, p := range parts {
		if p != "" && strings.Trim(p, "0123456789") == "" {
			parts[i] = "*"
		}
	}
	return strings.Join(parts, ".")
}
