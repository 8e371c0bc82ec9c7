package tokenizer

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
)

// score returns the number as Rust's serde_json reads it, which rounds twice: as
// many digits as 64 bits hold become a float64, which a power of ten divides. The
// last bit decides between ways of cutting a word that score the same but for the
// order of addition, such as a run of one letter.
func score(n strictjson.Number) (float64, error) {
	text, negative := strings.CutPrefix(string(n), "-")
	mantissa, exponentText, _ := strings.Cut(strings.ToLower(text), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	exponent := 0
	if exponentText != "" {
		e, err := strconv.Atoi(exponentText)
		if err != nil {
			return 0, fmt.Errorf("score %s is out of range", formats.Quote(string(n)))
		}
		exponent = e
	}
	digits, full := uint64(0), false
	for i, c := range []byte(whole + fraction) {
		d := uint64(c - '0')
		if full = full || digits > (math.MaxUint64-d)/10; full {
			if i < len(whole) {
				exponent++
			}
			continue
		}
		digits = digits*10 + d
		if i >= len(whole) {
			exponent--
		}
	}
	f := float64(digits)
	for ; f != 0 && exponent < -308; exponent += 308 {
		f /= 1e308
	}
	switch {
	case f == 0:
	case exponent < 0:
		f /= powersOfTen[-exponent]
	case exponent > 308:
		f = math.Inf(1)
	default:
		f *= powersOfTen[exponent]
	}
	if math.IsInf(f, 0) {
		return 0, fmt.Errorf("score %s is out of range", formats.Quote(string(n)))
	}
	if negative {
		f = -f
	}
	return f, nil
}

var powersOfTen = func() (p [309]float64) {
	for i := range p {
		p[i], _ = strconv.ParseFloat("1e"+strconv.Itoa(i), 64)
	}
	return p
}()
