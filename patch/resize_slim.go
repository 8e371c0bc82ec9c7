package patch

import (
	"bytes"
	"context"
	"math"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/hf"
	"github.com/seed-b982eded/graft/internal/parallel"
	"github.com/seed-b982eded/graft/patch/health"
)

// What [Slim] did.
const (
	SlimSaved  = "saved"  // left out a parameter saved whole that is the base's
	SlimZero   = "zero"   // left out a module whose ΔW is zero
	SlimRanks  = "ranks"  // left out ranks that add exactly nothing
	SlimNarrow = "narrow" // stored a tensor in a type that takes less
)

// Slimmed is one thing that [Slim] did.
type Slimmed struct {
	What     string `json:"what"` // SlimSaved, SlimZero, SlimRanks or SlimNarrow
	Module   string `json:"module"`
	Tensor   string `json:"tensor,omitempty"` // in the adapter's file; of one tensor
	OldRank  int64  `json:"old_rank,omitempty"`
	Rank     int64  `json:"rank,omitempty"`
	OldDType string `json:"old_dtype,omitempty"`
	DType    string `json:"dtype,omitempty"`
	Bytes    int64  `json:"bytes"` // that it takes less
}

// SlimOptions of [Slim].
type SlimOptions struct {
	// Base, if not nil, is what parameters saved whole are compared with.
	Base *Model
	// KeepRanks leaves ranks alone, for a config that could not say a scale for others.
	KeepRanks bool
}

// Slim takes from an adapter what changes nothing, exactly:
//
//   - parameters saved whole that are the base's, to the bit whatever the types. Of a module
//     in modules_to_save either all parameters go or none, and all modules of that name: PEFT
//     needs them together;
//   - modules whose ΔW is zero because every rank is; one stays where nothing else would;
//   - ranks of which the row of A or the column of B is zero;
//   - the width of types: a tensor of which BF16, F16 or F32 holds every element is stored so.
//
// Scales stay. A model that is merged with the result has the same bits as before, but that a
// −0 of the base is kept where adding a ΔW of zero made it 0. The result's tensors are those
// of a where nothing changed; its Config is nil, and its Selection has the modules_to_save
// that remain. Elements that are NaN or infinite are [formats.ErrUnfit].
func Slim(ctx context.Context, a *adapter.Adapter, opts SlimOptions) (*adapter.Adapter, []Slimmed, error) {
	s := &slimmer{a: a, opts: opts, drop: make([]bool, len(a.Entries)), scans: make([]slimScan, len(a.Entries))}
	if err := s.same(ctx); err != nil {
		return nil, nil, err
	}
	if err := parallel.Each(ctx, len(a.Entries), 0, s.scan); err != nil {
		return nil, nil, err
	}
	s.zero()
	s.prefer()
	out := &adapter.Adapter{Path: a.Path, Dialect: a.Dialect, Base: a.Base, Tied: a.Tied, Selection: &adapter.Selection{ModulesToSave: s.saved}}
	var done []Slimmed
	for i, e := range a.Entries {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if s.drop[i] {
			done = append(done, s.dropped(e))
			continue
		}
		update, what, err := s.slim(i)
		if err != nil {
			return nil, nil, err
		}
		done = append(done, what...)
		out.Entries = append(out.Entries, adapter.Entry{Module: e.Module, Update: update})
	}
	if len(out.Entries) == 0 {
		return nil, nil, formats.Unfitf(a.Path, "", "nothing would be left: all that it saves is the base's")
	}
	return out, done, nil
}

// slimmer is the state of a [Slim].
type slimmer struct {
	a     *adapter.Adapter
	opts  SlimOptions
	drop  []bool
	saved []string // modules_to_save that remain
	scans []slimScan
	like  formats.DType // BF16 or F16: the one that holds more of the adapter
}

// slimScan is what the tensors of an entry hold.
type slimScan struct {
	zero bool      // no rank adds anything
	live []bool    // ranks that stay
	fits [][3]bool // for each tensor, whether BF16, F16 and F32 hold every element that stays
	size []int64   // bytes of each tensor's elements that stay
}

// narrower are the types of slimScan.fits.
var narrower = [3]formats.DType{formats.BF16, formats.F16, formats.F32}

// same marks the parameters that are the base's.
func (s *slimmer) same(ctx context.Context) error {
	names := []string(nil)
	if s.a.Selection != nil {
		names = s.a.Selection.ModulesToSave
	}
	s.saved = slices.Clone(names)
	if s.opts.Base == nil {
		return nil
	}
	places, err := Places(s.opts.Base, s.a)
	if err != nil {
		return err
	}
	same := make([]bool, len(s.a.Entries))
	err = parallel.Each(ctx, len(same), 0, func(i int) (err error) {
		u, ok := s.a.Entries[i].Update.(*adapter.Replace)
		if !ok {
			return nil
		}
		value := u.Value
		if places[i].InOut && len(value.Shape) == 2 {
			value = adapter.Transposed(value)
		}
		same[i], err = health.SameValues(s.a.Path, value, s.opts.Base.Checkpoint.Path(), places[i].Tensor)
		return err
	})
	if err != nil {
		return err
	}
	// A parameter may belong to several names; it goes when it may go by all of them.
	keep := map[string]bool{}
	for i, e := range s.a.Entries {
		if _, ok := e.Update.(*adapter.Replace); ok && !same[i] {
			for _, key := range savedBy(e.Module, names) {
				keep[key] = true
			}
		}
	}
	for i, e := range s.a.Entries {
		if _, ok := e.Update.(*adapter.Replace); ok {
			s.drop[i] = !slices.ContainsFunc(savedBy(e.Module, names), func(key string) bool { return keep[key] })
		}
	}
	s.saved = slices.DeleteFunc(s.saved, func(name string) bool {
		has := false
		for i, e := range s.a.Entries {
			if _, ok := e.Update.(*adapter.Replace); ok && savedUnder(e.Module, name) {
				if !s.drop[i] {
					return false
				}
				has = true
			}
		}
		return has
	})
	return nil
}

// savedBy returns the names of modules_to_save that a module is saved by; its own path where
// it was saved along.
func savedBy(module string, names []string) []string {
	var out []string
	for _, name := range names {
		if savedUnder(module, name) {
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		return []string{"." + module}
	}
	return out
}

// savedUnder reports whether a name of modules_to_save stands for a module, one that holds it,
// or one whose name ends so, as PEFT saves them.
func savedUnder(module, name string) bool {
	return isOrHolds(module, name) || strings.HasSuffix(module, name)
}

// scan looks through the tensors of an entry.
func (s *slimmer) scan(i int) error {
	e := s.a.Entries[i]
	if s.drop[i] {
		return nil
	}
	sc := &s.scans[i]
	low, ok := adapter.LowRankOf(e.Update)
	if ok {
		if err := low.Check(); err != nil {
			return formats.Unfitf(s.a.Path, low.A.Name, "%v", err)
		}
		b, err := s.values(low.B)
		if err != nil {
			return err
		}
		a, err := s.values(low.A)
		if err != nil {
			return err
		}
		sc.live = liveRanks(b, a, int(low.Rank()))
		if low.Scale == 0 && e.Update.Kind() == "LowRank" { // of DoRA the factors do not matter then, and stay
			clear(sc.live)
		}
		sc.zero = !slices.Contains(sc.live, true)
		if s.opts.KeepRanks {
			for k := range sc.live {
				sc.live[k] = true
			}
		}
		sc.keep(low.A, cut(a, sc.live, true))
		sc.keep(low.B, cut(b, sc.live, false))
		if m, ok := e.Update.(*adapter.Magnitude); ok {
			v, err := s.values(m.Vector)
			if err != nil {
				return err
			}
			sc.keep(m.Vector, v)
		}
		return nil
	}
	if u, ok := e.Update.(*adapter.BiasDelta); ok {
		v, err := s.values(u.Vector)
		if err != nil {
			return err
		}
		sc.zero = u.Scale == 0 || !slices.ContainsFunc(v, func(x float64) bool { return x != 0 })
		sc.keep(u.Vector, v)
		return nil
	}
	u, ok := e.Update.(*adapter.Replace)
	if !ok {
		return formats.Unfitf(s.a.Path, "", "module %s: an update of kind %s cannot be made smaller", formats.Quote(e.Module), e.Update.Kind())
	}
	if !u.Value.DType.IsFloat() || u.Value.Elements() == 0 {
		sc.fits, sc.size = [][3]bool{{}}, []int64{0}
		return nil
	}
	v, err := s.values(u.Value)
	if err != nil {
		return err
	}
	sc.keep(u.Value, v)
	return nil
}

// values reads a tensor.
func (s *slimmer) values(t formats.Tensor) ([]float64, error) {
	raw, err := t.ReadAll()
	if err != nil {
		return nil, formats.ReadError(s.a.Path, t.Name, err)
	}
	v := make([]float64, t.Elements())
	formats.DecodeFloat64(v, raw, t.DType)
	_, cols := t.Matrix()
	if i, n := notFinite(v); n > 0 {
		return nil, formats.Unfitf(s.a.Path, t.Name, "%d values are NaN or infinite, the first at row %d, column %d", n, int64(i)/cols, int64(i)%cols)
	}
	return v, nil
}

// liveRanks tells the ranks of which neither the row of A nor the column of B is zero.
func liveRanks(b, a []float64, r int) []bool {
	live := make([]bool, r)
	for i, x := range b {
		live[i%r] = live[i%r] || x != 0
	}
	cols := len(a) / r
	for k := range live {
		live[k] = live[k] && slices.ContainsFunc(a[k*cols:(k+1)*cols], func(x float64) bool { return x != 0 })
	}
	return live
}

// cut returns the rows of A, or the columns of B, of the ranks that stay: at least one.
func cut(v []float64, live []bool, rows bool) []float64 {
	r := len(live)
	stay := staying(live)
	if len(stay) == r {
		return v
	}
	var out []float64
	if rows {
		cols := len(v) / r
		for _, k := range stay {
			out = append(out, v[k*cols:(k+1)*cols]...)
		}
		return out
	}
	out = make([]float64, 0, len(v)/r*len(stay))
	for at := 0; at < len(v); at += r {
		for _, k := range stay {
			out = append(out, v[at+k])
		}
	}
	return out
}

// staying lists the ranks that add something; the first where none does.
func staying(live []bool) []int {
	var out []int
	for k, x := range live {
		if x {
			out = append(out, k)
		}
	}
	if len(out) == 0 {
		return []int{0}
	}
	return out
}

// keep notes which types hold the elements of a tensor that stay.
func (sc *slimScan) keep(t formats.Tensor, v []float64) {
	fits := [3]bool{true, true, true}
	var raw [4]byte
	var back [1]float64
	for _, x := range v {
		narrow := float32(x)
		for k, d := range narrower {
			if !fits[k] {
				continue
			}
			formats.EncodeFloat32(raw[:], []float32{narrow}, d)
			formats.DecodeFloat64(back[:], raw[:], d)
			fits[k] = math.Float64bits(back[0]) == math.Float64bits(x)
		}
		if fits == [3]bool{} {
			break
		}
	}
	sc.fits = append(sc.fits, fits)
	sc.size = append(sc.size, int64(len(v))*t.DType.Bits()/8)
}

// zero marks the modules whose ΔW is zero, with the biases beside them; one stays where there
// would be none, for a config must target something.
func (s *slimmer) zero() {
	biased := map[string]bool{} // modules with a bias on B that is not zero
	for i, e := range s.a.Entries {
		if _, ok := e.Update.(*adapter.BiasDelta); ok && !s.scans[i].zero {
			biased[e.Module] = true
		}
	}
	smallest, left := -1, false
	for i, e := range s.a.Entries {
		if _, ok := adapter.LowRankOf(e.Update); !ok {
			continue
		}
		if e.Update.Kind() != "LowRank" || !s.scans[i].zero || biased[e.Module] {
			left = true
			continue
		}
		s.drop[i] = true
		if smallest < 0 || s.less(i, smallest) {
			smallest = i
		}
	}
	dropped := map[string]bool{}
	for i, e := range s.a.Entries {
		if e.Update.Kind() != "LowRank" {
			continue
		}
		if !left && (i == smallest || s.vocabulary(i) && s.vocabulary(smallest)) { // two ends of a tied weight are one change
			s.drop[i] = false
		}
		dropped[e.Module] = s.drop[i]
	}
	for i, e := range s.a.Entries {
		if _, ok := e.Update.(*adapter.BiasDelta); ok {
			s.drop[i] = dropped[e.Module]
		}
	}
}

// vocabulary reports whether an entry changes the input embedding or the output head by
// factors.
func (s *slimmer) vocabulary(i int) bool {
	e := s.a.Entries[i]
	low, ok := e.Update.(*adapter.LowRank)
	return ok && (low.Embedding || hf.IsOutputHead(e.Module))
}

// less orders the modules of which one stays: layers before the vocabulary, then by size.
func (s *slimmer) less(i, j int) bool {
	if v := s.vocabulary(j); v != s.vocabulary(i) {
		return v
	}
	return tensorBytes(s.a.Entries[i].Update) < tensorBytes(s.a.Entries[j].Update)
}

func tensorBytes(u adapter.Update) int64 {
	n := int64(0)
	for _, t := range u.Tensors() {
		n += t.Size()
	}
	return n
}

// prefer chooses between the two types of 16 bits, so that most tensors get the same one.
func (s *slimmer) prefer() {
	var bf16, f16 int64
	for i, sc := range s.scans {
		for j, fits := range sc.fits {
			if s.drop[i] {
				continue
			}
			if fits[0] {
				bf16 += sc.size[j]
			}
			if fits[1] {
				f16 += sc.size[j]
			}
		}
	}
	if s.like = formats.BF16; f16 > bf16 {
		s.like = formats.F16
	}
}

// narrowed returns the type that a tensor is stored in.
func (s *slimmer) narrowed(t formats.Tensor, fits [3]bool) formats.DType {
	best := t.DType
	for k, d := range narrower {
		smaller := d.Bits() < best.Bits() || d == s.like && d.Bits() == best.Bits() && best != t.DType
		if fits[k] && smaller {
			best = d
		}
	}
	return best
}

func (s *slimmer) dropped(e adapter.Entry) Slimmed {
	d := Slimmed{What: SlimZero, Module: e.Module, Bytes: tensorBytes(e.Update)}
	switch u := e.Update.(type) {
	case *adapter.Replace:
		d.What, d.Tensor = SlimSaved, u.Value.Name
	case *adapter.BiasDelta:
		d.Tensor = u.Vector.Name
	}
	return d
}

// slim makes the update that stays of an entry.
func (s *slimmer) slim(i int) (adapter.Update, []Slimmed, error) {
	e, sc := s.a.Entries[i], s.scans[i]
	var done []Slimmed
	// store cuts and narrows the j-th tensor. axis is that of the ranks, or −1.
	store := func(j int, t formats.Tensor, axis int) (formats.Tensor, error) {
		stay := staying(sc.live)
		dtype := s.narrowed(t, sc.fits[j])
		whole := axis < 0 || len(stay) == len(sc.live)
		if whole && dtype == t.DType {
			return t, nil
		}
		v, err := s.values(t)
		if err != nil {
			return t, err
		}
		out := t
		if !whole {
			v = cut(v, sc.live, axis == 0)
			out.Shape = slices.Clone(t.Shape)
			out.Shape[axis] = int64(len(stay))
		}
		out.DType = dtype
		raw := make([]byte, out.Size())
		if dtype == formats.F64 {
			formats.EncodeFloat64(raw, v)
		} else {
			narrow := make([]float32, len(v))
			for i, x := range v {
				narrow[i] = float32(x)
			}
			formats.EncodeFloat32(raw, narrow, dtype)
		}
		out.Data = bytes.NewReader(raw)
		if dtype != t.DType {
			wide := sc.size[j]
			done = append(done, Slimmed{What: SlimNarrow, Module: e.Module, Tensor: t.Name, OldDType: t.DType.String(), DType: dtype.String(), Bytes: wide - out.Size()})
		}
		return out, nil
	}
	if u, ok := e.Update.(*adapter.Replace); ok {
		value, err := store(0, u.Value, -1)
		return &adapter.Replace{Param: u.Param, Value: value}, done, err
	}
	if u, ok := e.Update.(*adapter.BiasDelta); ok {
		vector, err := store(0, u.Vector, -1)
		return &adapter.BiasDelta{Vector: vector, Scale: u.Scale}, done, err
	}
	low, _ := adapter.LowRankOf(e.Update)
	if rank := int64(len(staying(sc.live))); rank < low.Rank() {
		whole := low.A.Size() + low.B.Size()
		done = append(done, Slimmed{What: SlimRanks, Module: e.Module, OldRank: low.Rank(), Rank: rank, Bytes: whole - sc.size[0] - sc.size[1]})
	}
	small := *low
	var err error
	if small.A, err = store(0, low.A, 0); err != nil {
		return nil, nil, err
	}
	if small.B, err = store(1, low.B, 1); err != nil {
		return nil, nil, err
	}
	m, ok := e.Update.(*adapter.Magnitude)
	if !ok {
		return &small, done, nil
	}
	vector, err := store(2, m.Vector, -1)
	return &adapter.Magnitude{Inner: &small, Vector: vector}, done, err
}
