package patch

import (
	"context"
	"hash/fnv"
	"math/rand/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// Initialisations of factors that [Init] knows, in PEFT's words for init_lora_weights. Those
// after InitOrthogonal are made of the weight and [ChangesBase].
const (
	InitDefault    = "true"         // A uniform in ±1/√in (Kaiming with a = √5), B zero
	InitRandom     = "false"        // A uniform in ±1/√in, B uniform in ±1/√r: ΔW is not zero
	InitGaussian   = "gaussian"     // A normal with deviation 1/r, B zero
	InitOrthogonal = "orthogonal"   // A and B random of rank r/2 each, in directions with B·A = 0; r is even
	InitPiSSA      = "pissa"        // s·B·A = U·S·Vᵀ, the first r singular triplets of W
	InitPiSSANiter = "pissa_niter_" // with a number of iterations: the same, for PEFT an estimate of it
	InitOLoRA      = "olora"        // B = Q and A = R of W = Q·R, of which the first r columns and rows
)

// Scaling gives the rank and scale of each module; peft.Scaling is one.
type Scaling interface {
	Of(module string) (r int64, scale float64, err error)
}

// InitOptions of [Init].
type InitOptions struct {
	Weights     string // one of the initialisations above
	FanInFanOut bool   // the config's, for the updates
	Seed        uint64
	// Done, if it is not nil, is told of each module when its factors are made.
	Done func(module string)
}

// Init makes a fresh adapter for the sites, with factors in memory as F32. The random
// numbers depend on the seed and on each module's path alone, not on what else is
// targeted. An embedding starts with A zero and B normal, whatever the initialisation; with
// [InitRandom] A is normal too. Options that make no sense are [formats.ErrUsage].
//
// Factors that are made of the weight take time, and ctx ends it. They are computed layer by layer,
// and a layer that is not small is never held: its blocks are read for each pass over it.
func Init(ctx context.Context, sites []Site, scaling Scaling, o InitOptions) (*adapter.Adapter, error) {
	start, err := startOf(o.Weights)
	if err != nil {
		return nil, err
	}
	a := &adapter.Adapter{}
	for _, s := range sites {
		r, scale, err := scaling.Of(s.Module)
		if err != nil {
			return nil, formats.Usagef("%v", err)
		}
		in, out := s.InOutSize()
		f := newFactors(s, int(r), scale, rand.New(rand.NewPCG(o.Seed, pathHash(s.Module))))
		if s.Kind == Embedding {
			f.embedding(o.Weights)
		} else if err := start(f, ctx); err != nil {
			return nil, inModule(err, s.Module)
		}
		a.Entries = append(a.Entries, adapter.Entry{Module: s.Module, Update: &adapter.LowRank{
			A:           formats.FromFloat32s(s.Module+".lora_A.weight", []int64{r, in}, f.a),
			B:           formats.FromFloat32s(s.Module+".lora_B.weight", []int64{out, r}, f.b),
			Scale:       scale,
			FanInFanOut: o.FanInFanOut,
			Embedding:   s.Kind == Embedding,
		}})
		if o.Done != nil {
			o.Done(s.Module)
		}
	}
	return a, nil
}

// ChangesBase reports whether an initialisation takes what the fresh factors give out of the base: the
// first s·B·A is a part of W, and the model that is trained is W − s·B₀·A₀ + s·B·A. Embeddings
// stay what they are.
func ChangesBase(initWeights string) bool {
	return initWeights == InitOLoRA || isPiSSA(initWeights)
}

// startOf returns what fills the factors of a layer that is no embedding.
func startOf(initWeights string) (func(*freshFactors, context.Context) error, error) {
	switch {
	case initWeights == InitDefault:
		return (*freshFactors).kaiming, nil
	case initWeights == InitRandom:
		return (*freshFactors).bothRandom, nil
	case initWeights == InitGaussian:
		return (*freshFactors).gaussian, nil
	case initWeights == InitOrthogonal:
		return (*freshFactors).orthogonal, nil
	case isPiSSA(initWeights):
		return (*freshFactors).pissa, nil
	case initWeights == InitOLoRA:
		return (*freshFactors).olora, nil
	}
	return nil, formats.Usagef("init_lora_weights %s is not supported (want %q, %q, %q, %q, %q, %q or %q)", formats.Quote(initWeights),
		InitDefault, InitGaussian, InitRandom, InitOrthogonal, InitPiSSA, InitPiSSANiter+"N", InitOLoRA)
}

func pathHash(path string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(path))
	return h.Sum64()
}
