package health

import (
	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/patch/lowrank"
)

// Advice says which ranks would do.
type Advice struct {
	Energy      float64      `json:"energy"` // the share of Σσ² that every module keeps
	Modules     []AdviceRank `json:"modules"`
	CommonRank  int          `json:"common_rank"`  // the largest; 0 where the factors change nothing
	Bytes       int64        `json:"bytes"`        // of all factors as they are
	NewBytes    int64        `json:"new_bytes"`    // with a rank for each module
	CommonBytes int64        `json:"common_bytes"` // with the common rank everywhere
}

// AdviceRank is the rank of one module.
type AdviceRank struct {
	Module string `json:"module"`
	Rank   int64  `json:"rank"`
	Needed int    `json:"needed"` // the smallest that keeps the energy; 0 where ΔW is zero, or rounding
}

// Advise returns the smallest rank of each module that keeps a share of the energy of its ΔW,
// above 0 and at most 1, and what factors of the types that they have would take. a is the
// adapter that r is of. Modules whose factors are not finite are left out. Bytes are of what
// resizing makes, which leaves each module a rank of 1 at least.
func Advise(r *Result, a *adapter.Adapter, energy float64) (*Advice, error) {
	if !(energy > 0 && energy <= 1) {
		return nil, formats.Usagef("the energy is a share above 0 and at most 1 (got %g)", energy)
	}
	adv := &Advice{Energy: energy, Modules: []AdviceRank{}}
	products := map[string]*Product{}
	for _, m := range r.Modules {
		products[m.Module] = m.Product
	}
	each := []int64{} // bytes of a rank
	common := 0       // the largest rank that is left
	for _, e := range a.Entries {
		low, ok := adapter.LowRankOf(e.Update)
		if !ok || products[e.Module] == nil {
			continue
		}
		s := products[e.Module].Spectrum
		s = s[:max(1, lowrank.NumericalRank(s, int(e.Update.Shape()[0]), int(low.A.Elements()/low.Rank()), 0x1p-52))]
		kept := max(1, lowrank.RankForEnergy(s, energy))
		needed := kept
		if p := products[e.Module]; p.Norm == 0 || p.Rounding {
			needed = 0
		}
		bytes := (low.A.Size() + low.B.Size()) / low.Rank()
		adv.Modules = append(adv.Modules, AdviceRank{e.Module, low.Rank(), needed})
		adv.CommonRank = max(adv.CommonRank, needed)
		adv.Bytes += bytes * low.Rank()
		adv.NewBytes += bytes * int64(kept)
		common = max(common, kept)
		each = append(each, bytes)
	}
	for _, n := range each {
		adv.CommonBytes += n * int64(common)
	}
	return adv, nil
}
