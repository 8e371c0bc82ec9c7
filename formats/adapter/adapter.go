// Package adapter is what all adapter dialects are read into and written from: an
// ordered list of module paths, each with an update of that module's parameters.
//
// # How to choose
//
// A dialect package (formats/peft, …) reads its files into an [Adapter] and writes
// one out again. Package patch applies it to a checkpoint; package train makes one.
// This package knows neither files nor checkpoints.
//
// # What is promised
//
// Factors are lazy like all tensors: an adapter of any size costs its headers until
// it is used. Nothing is dropped on the way in: a dialect either turns every tensor
// and every option into an update or refuses by name. The original config stays
// beside the entries, byte for byte.
package adapter

import (
	"fmt"
	"io"

	"github.com/seed-b982eded/graft/formats"
)

// Adapter is an ordered list of updates with what is known of the base.
type Adapter struct {
	Path    string // as given by the user, for messages
	Dialect string // "peft", …
	Base    string // the base model that the adapter names; untrusted, never opened
	Entries []Entry
	Config  []byte // the dialect's own config, untouched; nil where there is none

	// Selection is which modules the config targets; nil where it does not say.
	Selection *Selection

	// Tied says that an update of the input embedding is meant for the output head too, where
	// both are one weight.
	Tied bool

	Closer io.Closer // closes the files behind the tensors; may be nil
}

// Entry is the update of one module.
type Entry struct {
	Module string   // module path relative to the base model, such as "model.layers.0.self_attn.q_proj"
	Update Update   // what happens to it
	Keys   []string // the keys in the source file that it was read from
}

// Close closes the files behind the adapter.
func (a *Adapter) Close() error {
	if a.Closer == nil {
		return nil
	}
	return a.Closer.Close()
}

// Update is a change of one module's parameters.
type Update interface {
	// Kind names the update, such as "LowRank".
	Kind() string
	// Shape is the shape of the parameter that is changed, seen as the layer computes
	// with it: (out, in, …).
	Shape() []int64
	// RankBound is an exact upper bound of the change's rank.
	RankBound() int64
	// Additive reports whether the change is a ΔW that does not depend on W.
	Additive() bool
	// Tensors are the stored tensors, in the order of the entry's keys.
	Tensors() []formats.Tensor
}

// LowRank is ΔW = Scale · B·A for a linear layer, an embedding or a convolution
// (Hu et al., LoRA, 2021).
type LowRank struct {
	A     formats.Tensor // (r, in), or (r, in, kernel…) for a convolution
	B     formats.Tensor // (out, r), or (out, r, 1…)
	Scale float64        // s: alpha/r, or alpha/√r with rsLoRA
	// FanInFanOut: the config says that the base stores this weight as (in, out).
	FanInFanOut bool
	// Embedding: the module is an embedding; its weight is stored as (vocabulary,
	// dim) = (in, out), whatever FanInFanOut says.
	Embedding bool
}

// Kind returns "LowRank".
func (u *LowRank) Kind() string { return "LowRank" }

// Shape returns (out, in, kernel…).
func (u *LowRank) Shape() []int64 {
	return append([]int64{u.B.Shape[0]}, u.A.Shape[1:]...)
}

// Rank returns r.
func (u *LowRank) Rank() int64 { return u.A.Shape[0] }

// RankBound returns min(r, out, in).
func (u *LowRank) RankBound() int64 {
	out, _ := u.B.Matrix()
	r, in := u.A.Matrix()
	return min(r, out, in)
}

// Additive returns true.
func (u *LowRank) Additive() bool { return true }

// Tensors returns A and B.
func (u *LowRank) Tensors() []formats.Tensor { return []formats.Tensor{u.A, u.B} }

// Check reports whether A and B fit together.
func (u *LowRank) Check() error {
	if len(u.A.Shape) < 2 || len(u.B.Shape) < 2 {
		return fmt.Errorf("factors must be matrices (A is %v, B is %v)", u.A.Shape, u.B.Shape)
	}
	_, br := u.B.Matrix()
	if r := u.A.Shape[0]; len(u.A.Shape) > 2 && br > 0 && r > br && r%br == 0 {
		return fmt.Errorf("LoRA on a convolution of %d groups is not supported (A is %v, B is %v)", r/br, u.A.Shape, u.B.Shape)
	}
	if u.A.Shape[0] != br {
		return fmt.Errorf("factors A and B disagree on the rank (A is %v, B is %v)", u.A.Shape, u.B.Shape)
	}
	if br == 0 {
		return fmt.Errorf("factors of rank 0 (A is %v, B is %v)", u.A.Shape, u.B.Shape)
	}
	return nil
}

// Magnitude is a low-rank update whose result is scaled to given norms, one for each
// output of the layer: W' = m/‖W + ΔW‖ · (W + ΔW) (Liu et al., DoRA, 2024).
type Magnitude struct {
	Inner  *LowRank
	Vector formats.Tensor // m: (out), or (1, out, 1…) for a convolution
}

// Kind returns "Magnitude".
func (u *Magnitude) Kind() string { return "Magnitude" }

// Shape returns (out, in, kernel…).
func (u *Magnitude) Shape() []int64 { return u.Inner.Shape() }

// RankBound returns the smaller side of the layer: scaling rows has full rank.
func (u *Magnitude) RankBound() int64 {
	out, _ := u.Inner.B.Matrix()
	_, in := u.Inner.A.Matrix()
	return min(out, in)
}

// Additive returns false: the scaling depends on W.
func (u *Magnitude) Additive() bool { return false }

// Tensors returns A, B and the magnitude.
func (u *Magnitude) Tensors() []formats.Tensor {
	return []formats.Tensor{u.Inner.A, u.Inner.B, u.Vector}
}

// Check reports whether factors and magnitude fit together.
func (u *Magnitude) Check() error {
	if err := u.Inner.Check(); err != nil {
		return err
	}
	if out := u.Inner.B.Shape[0]; u.Vector.Elements() != out {
		return fmt.Errorf("magnitude and B disagree on the outputs (magnitude is %v, B is %v)", u.Vector.Shape, u.Inner.B.Shape)
	}
	return nil
}

// LowRankOf returns the low-rank update that an update is or scales.
func LowRankOf(u Update) (*LowRank, bool) {
	switch u := u.(type) {
	case *LowRank:
		return u, true
	case *Magnitude:
		return u.Inner, true
	}
	return nil, false
}

// Replace gives a parameter a new value, as PEFT's modules_to_save does.
type Replace struct {
	Param string // the parameter's name in the module, such as "weight"
	Value formats.Tensor
}

// Kind returns "Replace".
func (u *Replace) Kind() string { return "Replace" }

// Shape returns the shape of the new value.
func (u *Replace) Shape() []int64 { return u.Value.Shape }

// RankBound returns the smaller side of the value seen as a matrix.
func (u *Replace) RankBound() int64 {
	rows, cols := u.Value.Matrix()
	return min(rows, cols)
}

// Additive returns false: the new value does not depend on the old one.
func (u *Replace) Additive() bool { return false }

// Tensors returns the value.
func (u *Replace) Tensors() []formats.Tensor { return []formats.Tensor{u.Value} }

// BiasDelta adds Scale · Vector to a layer's bias, beside a low-rank update of its weight of
// the same module: the bias that PEFT's lora_bias gives to B.
type BiasDelta struct {
	Vector formats.Tensor // (out)
	Scale  float64        // s of the low-rank update
}

// Kind returns "BiasDelta".
func (u *BiasDelta) Kind() string { return "BiasDelta" }

// Shape returns (out).
func (u *BiasDelta) Shape() []int64 { return u.Vector.Shape }

// RankBound returns 1.
func (u *BiasDelta) RankBound() int64 { return 1 }

// Additive returns true.
func (u *BiasDelta) Additive() bool { return true }

// Tensors returns the vector.
func (u *BiasDelta) Tensors() []formats.Tensor { return []formats.Tensor{u.Vector} }
