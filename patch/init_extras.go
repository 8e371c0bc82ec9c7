package patch

import (
	"math"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// WithMagnitudes gives each low-rank update of a fresh adapter a magnitude (DoRA), which
// starts as the norms of the weights that the factors make, W + s·B·A, output by output: the
// adapter then changes nothing that its factors do not. Weights are read in blocks of rows.
func WithMagnitudes(m *Model, a *adapter.Adapter) error {
	for i, e := range a.Entries {
		u, ok := e.Update.(*adapter.LowRank)
		if !ok {
			continue
		}
		s, ok := m.Site(e.Module)
		if !ok {
			return formats.Unfitf("", "", "module %s is not in the base", formats.Quote(e.Module))
		}
		norms, err := outputNorms(s, u)
		if err != nil {
			return formats.ReadError(m.Checkpoint.Path(), s.Weight.Name, err)
		}
		vector := formats.FromFloat32s(e.Module+".lora_magnitude_vector", []int64{int64(len(norms))}, norms)
		a.Entries[i].Update = &adapter.Magnitude{Inner: u, Vector: vector}
	}
	return nil
}

// outputNorms returns ‖W + s·B·A‖ for each output, summed in float64.
func outputNorms(s Site, u *adapter.LowRank) ([]float32, error) {
	fa, err := u.A.Float32s()
	if err != nil {
		return nil, err
	}
	fb, err := u.B.Float32s()
	if err != nil {
		return nil, err
	}
	moves := slices.ContainsFunc(fa, notZero) && slices.ContainsFunc(fb, notZero)
	r := int(u.Rank())
	in, out := s.InOutSize()
	squares := make([]float64, out)
	rows, cols := s.Weight.Matrix()
	size := s.Weight.DType.Bits() / 8
	block := max(1, normBytes/max(1, cols*8))
	raw, wide := make([]byte, min(block, rows)*cols*size), make([]float64, min(block, rows)*cols)
	for lo := int64(0); lo < rows; lo += block {
		n := min(block, rows-lo)
		part, values := raw[:n*cols*size], wide[:n*cols]
		if err := formats.ReadFullAt(s.Weight.Data, part, lo*cols*size); err != nil {
			return nil, err
		}
		formats.DecodeFloat64(values, part, s.Weight.DType)
		for i := range n {
			for j := range cols {
				o, x := lo+i, j // the output and the input that meet here
				if s.InOut {
					o, x = x, o
				}
				w := values[i*cols+j]
				if moves {
					var sum float64
					for k := range r {
						sum += float64(fb[int(o)*r+k]) * float64(fa[k*int(in)+int(x)])
					}
					w += u.Scale * sum
				}
				squares[o] += w * w
			}
		}
	}
	norms := make([]float32, out)
	for i, x := range squares {
		norms[i] = float32(math.Sqrt(x))
	}
	return norms, nil
}

// normBytes is about how much of a weight is held at a time.
const normBytes = 8 << 20

func notZero(x float32) bool { return x != 0 }

// WithBiasDeltas gives each low-rank update of a fresh adapter a bias of B, zero at first
// (PEFT's lora_bias). Embeddings cannot have one.
func WithBiasDeltas(a *adapter.Adapter) error {
	var out []adapter.Entry
	for _, e := range a.Entries {
		out = append(out, e)
		u, ok := e.Update.(*adapter.LowRank)
		if !ok {
			continue
		}
		if u.Embedding {
			return formats.Unfitf("", "", "module %s is an embedding, and PEFT has no lora_bias for those", formats.Quote(e.Module))
		}
		n := u.B.Shape[0]
		zero := formats.FromFloat32s(e.Module+".lora_B.bias", []int64{n}, make([]float32, n))
		out = append(out, adapter.Entry{Module: e.Module, Update: &adapter.BiasDelta{Vector: zero, Scale: u.Scale}})
	}
	a.Entries = out
	return nil
}

// WithBiases adds the base's biases to a fresh adapter, to be trained whole: those of every
// module that has a weight, or with ofTargets those of the modules with low-rank updates.
// Modules that are saved whole have theirs.
func WithBiases(m *Model, a *adapter.Adapter, ofTargets bool) {
	targets, saved := map[string]bool{}, map[string]bool{}
	for _, e := range a.Entries {
		_, low := adapter.LowRankOf(e.Update)
		targets[e.Module] = targets[e.Module] || low
		if u, ok := e.Update.(*adapter.Replace); ok && u.Param == "bias" {
			saved[e.Module] = true
		}
	}
	for t := range m.Checkpoint.Tensors() {
		module, param := m.Parameter(t.Name)
		_, weighted := m.Site(module) // and not a buffer such as GPT-2's attn.bias
		if param == "bias" && weighted && t.DType.IsFloat() && !saved[module] && (targets[module] || !ofTargets) {
			a.Entries = append(a.Entries, wholeEntry(module, param, t))
		}
	}
}

// WithSaved adds the parameters of modules to a fresh adapter, to be trained whole: those of
// the modules that a name of modules_to_save stands for, and of all in them. A name without
// a module is an [formats.ErrUnfit], and so is an end of a tied weight.
func WithSaved(m *Model, a *adapter.Adapter, names []string) error {
	var problems formats.Problems
	used := map[string]bool{}
	for t := range m.Checkpoint.Tensors() {
		module, param := m.Parameter(t.Name)
		at := slices.IndexFunc(names, func(name string) bool { return isOrHolds(module, name) })
		if at < 0 {
			continue
		}
		used[names[at]] = true
		switch {
		case m.tiedEnd(module) != notTied:
			problems.Add(tiedError(module, func(format string, args ...any) *formats.Error { return formats.Unfitf("", "", format, args...) }))
		case !t.DType.IsFloat():
			problems.Add(formats.Unfitf("", "", "module %s cannot be trained whole: %s is %s", formats.Quote(module), formats.Quote(t.Name), t.DType))
		default:
			a.Entries = append(a.Entries, wholeEntry(module, param, t))
		}
	}
	for _, name := range names {
		if !used[name] && !slices.ContainsFunc(names, func(other string) bool { return used[other] && isOrHolds(name, other) }) {
			problems.Add(noModule(m, name))
		}
	}
	return problems.Err()
}

// wholeEntry is a parameter of the base as the start of what is trained whole, in F32.
func wholeEntry(module, param string, t formats.Tensor) adapter.Entry {
	key := "base_model.model." + strings.TrimPrefix(module+"."+param, ".")
	return adapter.Entry{Module: module, Update: &adapter.Replace{Param: param, Value: AsDType(t, formats.F32)}, Keys: []string{key}}
}
