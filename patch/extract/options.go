package extract

import (
	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/lowrank"
)

// Options of [Extract]. Exactly one of Rank, Energy, MaxError and Size is set.
type Options struct {
	// Rank is the largest rank that a module gets.
	Rank int64
	// Energy is the share of ‖ΔW‖² that every module keeps, above 0 and at most 1.
	Energy float64
	// MaxError, if not nil, is the largest error ‖ΔW−ΔW'‖/‖ΔW‖ of every module, in the
	// Frobenius norm. 0 is for the tuned model's bits: what factors do not give exactly is
	// saved whole.
	MaxError *float64
	// Size is how many bytes all tensors together may take. What cannot have factors is paid
	// first; the rest is spent where a byte keeps most of the energy of all changes.
	Size int64

	// Exclude are patterns, in the form of PEFT's rank_pattern, of module paths or tensor names
	// in the tuned model: what they match stays as the base has it.
	Exclude []string
	// DType of the factors: F64, F32, F16 or BF16. When it is not set, F64 for F64 weights and
	// F32 for the others.
	DType formats.DType
	// Exact decomposes every difference whole.
	Exact bool
	// Store keeps finished layers; in memory where it is nil.
	Store Store
	// Progress, if not nil, is called with the bytes of the two models that were dealt with
	// since the last call, from several goroutines.
	Progress func(int64)
}

func (o *Options) check() error {
	if err := lowrank.CheckExtent(o.Rank, o.Energy, o.MaxError, o.Size); err != nil {
		return err
	}
	return patch.CheckFactorType(o.DType)
}

// factorType is the dtype of the factors of a weight.
func (o *Options) factorType(weight formats.DType) formats.DType {
	switch {
	case o.DType != formats.InvalidDType:
		return o.DType
	case weight == formats.F64:
		return formats.F64
	}
	return formats.F32
}

// bits reports whether the tuned model's bits are wanted.
func (o *Options) bits() bool { return o.MaxError != nil && *o.MaxError == 0 }
