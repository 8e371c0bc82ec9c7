package health

// Level says how bad a finding is.
type Level string

// Levels.
const (
	Error   Level = "error"   // the adapter cannot be used as it is
	Warning Level = "warning" // it can, and something went wrong in making it
	Note    Level = "note"    // worth knowing; sound adapters have notes too
)

// What a finding is about. These names are stable.
const (
	NotFinite       = "not-finite"       // NaN or infinities
	Untrained       = "untrained"        // ΔW is zero, or what rounding leaves of it
	ChangesNothing  = "changes-nothing"  // so is that of every module, and nothing is saved whole
	DeadRanks       = "dead-ranks"       // ranks that add exactly nothing
	DependentRanks  = "dependent-ranks"  // ranks that others could replace
	BelowResolution = "below-resolution" // ranks that the rounding of the factors drowns
	LowRank         = "low-rank"         // an effective rank of less than half of the ranks
	RankAboveShape  = "rank-above-shape" // more ranks than a matrix of that shape can have
	Initial         = "initial"          // factors as they were drawn before training
	LargeChange     = "large-change"     // a change much larger than those of the same layers elsewhere
	LargerThanBase  = "larger-than-base" // ‖ΔW‖ > ‖W‖
	NearOverflow    = "near-overflow"    // numbers near or beyond the largest that F16 holds
	BadMagnitude    = "bad-magnitude"    // DoRA's magnitudes that are zero or negative
	SameMagnitude   = "same-magnitude"   // DoRA's magnitudes that are still the base's norms
	SameAsBase      = "same-as-base"     // a parameter saved whole that is the base's
	DoesNotFit      = "does-not-fit"     // the base has no such module, or of another shape
	NotMergeable    = "not-mergeable"    // it fits the base, and cannot be merged into it
)

// Finding is one thing that a check has found.
type Finding struct {
	Level   Level              `json:"level"`
	What    string             `json:"what"`
	Module  string             `json:"module,omitempty"`
	Tensor  string             `json:"tensor,omitempty"` // in the adapter's file
	Numbers map[string]float64 `json:"numbers,omitempty"`
	Text    string             `json:"text"` // one line, without the module
}

// Result is what [Check] found.
type Result struct {
	Errors   int       `json:"errors"`
	Warnings int       `json:"warnings"`
	Notes    int       `json:"notes"`
	Findings []Finding `json:"findings"` // errors first, then warnings, in the adapter's order
	Modules  []Module  `json:"modules"`  // with low-rank updates
	Saved    []Saved   `json:"saved,omitempty"`
}

// Module describes a low-rank update; of DoRA what its factors say, and the magnitude.
type Module struct {
	Module    string     `json:"module"`
	Kind      string     `json:"kind"`
	Shape     []int64    `json:"shape"` // (out, in, kernel…)
	Rank      int64      `json:"rank"`
	Scale     float64    `json:"scale"`
	A         Elements   `json:"a"`
	B         Elements   `json:"b"`
	Magnitude *Elements  `json:"magnitude,omitempty"`
	DeadRanks int        `json:"dead_ranks"`        // a row of A or a column of B is zero
	Product   *Product   `json:"product,omitempty"` // nil where factors are not finite
	Base      *BaseNorms `json:"base,omitempty"`
}

// Elements describes the elements of a stored tensor. MaxAbs and RMS leave out those that
// are not finite.
type Elements struct {
	Tensor string  `json:"tensor"`
	DType  string  `json:"dtype"`
	Shape  []int64 `json:"shape"`
	MaxAbs float64 `json:"max_abs"`
	RMS    float64 `json:"rms"`
	NaN    int64   `json:"nan,omitempty"`
	Inf    int64   `json:"inf,omitempty"`
	// FirstRow and FirstColumn are the place of the first element that is not finite.
	FirstRow    int64 `json:"first_row,omitempty"`
	FirstColumn int64 `json:"first_column,omitempty"`
}

// Product describes ΔW = s·B·A.
type Product struct {
	Norm          float64   `json:"norm"` // Frobenius
	RMS           float64   `json:"rms"`  // Norm/√(out·in): the size of an element
	EffectiveRank float64   `json:"effective_rank"`
	StableRank    float64   `json:"stable_rank"`
	NumericalRank int       `json:"numerical_rank"` // σ > 2⁻²³·σ₁
	Resolved      int       `json:"resolved_rank"`  // σ > ε·σ₁, for ε of the factors' type
	Spectrum      []float64 `json:"spectrum"`       // singular values, largest first
	// Rounding says that ΔW is no more than what rounding the factors leaves of zero.
	Rounding bool `json:"rounding,omitempty"`
}

// BaseNorms compares an update with the weight that it changes.
type BaseNorms struct {
	Norm float64 `json:"norm"` // ‖W‖
	// Relative is ‖ΔW‖/‖W‖; nil where that is no number that float64 holds: where W is zero,
	// or nearly so, and where factors are not finite.
	Relative *float64 `json:"relative"`
}

// Saved is a parameter that is saved whole, or added to the base's without factors.
type Saved struct {
	Module     string   `json:"module"`
	Param      string   `json:"parameter"`
	Bytes      int64    `json:"bytes"`
	Added      bool     `json:"added,omitempty"` // a bias on B (lora_bias)
	Elements   Elements `json:"elements"`
	SameAsBase *bool    `json:"same_as_base,omitempty"` // nil without a base
}

// add files a finding.
func (r *Result) add(f Finding) {
	switch f.Level {
	case Error:
		r.Errors++
	case Warning:
		r.Warnings++
	case Note:
		r.Notes++
	}
	r.Findings = append(r.Findings, f)
}
