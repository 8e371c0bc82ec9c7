package diff

import (
	"math"
	"strconv"
)

// Number is a measured number. JSON has no infinities and no NaN: they become null.
type Number float64

// MarshalJSON writes the shortest digits that read back the same, or null.
func (n Number) MarshalJSON() ([]byte, error) {
	x := float64(n)
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, x, 'g', -1, 64), nil
}

func numbers(v []float64) []Number {
	out := make([]Number, len(v))
	for i, x := range v {
		out[i] = Number(x)
	}
	return out
}
