package patch

import (
	"hash/fnv"
	"math"
	"math/rand/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// Initialisations of factors that [Init] knows, in PEFT's words for init_lora_weights.
const (
	InitDefault  = "true"     // A uniform in ±1/√in (Kaiming with a = √5), B zero; for an embedding A zero, B normal
	InitRandom   = "false"    // A uniform in ±1/√in, B uniform in ±1/√r: ΔW is not zero
	InitGaussian = "gaussian" // A normal with deviation 1/r, B zero
)

// Scaling gives the rank and scale of each module; peft.Scaling is one.
type Scaling interface {
	Of(module string) (r int64, scale float64, err error)
}

// Init makes a fresh adapter for the sites, with factors in memory as F32. The
// numbers depend on the seed and on each module's path alone, not on what else is
// targeted. Options that make no sense are [formats.ErrUsage].
func Init(sites []Site, scaling Scaling, initWeights string, fanInFanOut bool, seed uint64) (*adapter.Adapter, error) {
	a := &adapter.Adapter{}
	for _, s := range sites {
		r, scale, err := scaling.Of(s.Module)
		if err != nil {
			return nil, formats.Usagef("%v", err)
		}
		in, out := s.InOutSize()
		rng := rand.New(rand.NewPCG(seed, pathHash(s.Module)))
		left, right, err := drawFactors(rng, initWeights, s.Kind == Embedding, int(r), int(in), int(out))
		if err != nil {
			return nil, err
		}
		a.Entries = append(a.Entries, adapter.Entry{Module: s.Module, Update: &adapter.LowRank{
			A:           formats.FromFloat32s(s.Module+".lora_A.weight", []int64{r, in}, right),
			B:           formats.FromFloat32s(s.Module+".lora_B.weight", []int64{out, r}, left),
			Scale:       scale,
			FanInFanOut: fanInFanOut,
			Embedding:   s.Kind == Embedding,
		}})
	}
	return a, nil
}

func pathHash(path string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(path))
	return h.Sum64()
}

func drawFactors(rng *rand.Rand, kind string, embedding bool, r, in, out int) (b, a []float32, err error) {
	a, b = make([]float32, r*in), make([]float32, out*r)
	uniform := func(v []float32, fanIn int) {
		bound := 1 / math.Sqrt(float64(fanIn))
		for i := range v {
			v[i] = float32((2*rng.Float64() - 1) * bound)
		}
	}
	normal := func(v []float32, deviation float64) {
		for i := range v {
			v[i] = float32(rng.NormFloat64() * deviation)
		}
	}
	switch {
	case kind == InitDefault && embedding:
		normal(b, 1)
	case kind == InitDefault:
		uniform(a, in)
	case kind == InitGaussian:
		normal(a, 1/float64(r))
	case kind == InitRandom && !embedding:
		uniform(a, in)
		uniform(b, r)
	default:
		return nil, nil, formats.Usagef("init_lora_weights %s is not supported (want %q, %q or %q)", formats.Quote(kind), InitDefault, InitGaussian, InitRandom)
	}
	return b, a, nil
}
