package models

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
)

// usualTheta is the base of rotary embeddings where a config has none.
const usualTheta = 10000

// rotary reads the rope that all layers share: rope_theta and rope_scaling, or
// rope_parameters as transformers 5 writes them.
func (o *options) rotary(s *spec) {
	o.mustBe("partial_rotary_factor", "1", 1.)
	r := o.ropeObject()
	if f := r.part(1); f != 1 {
		r.reject("partial_rotary_factor %g is not implemented for this model type (want 1)", f)
	}
	r.dim = s.headDim
	o.addRope(s, r, o.positive("rope_theta", 0), o.doc.Get("original_max_position_embeddings"))
	for _, r := range s.ropes {
		s.maxPositions = max(s.maxPositions, r.reach)
	}
}

// partRotary reads the rope of Phi-3: a part of each head may turn, and scaling is
// LongRoPE whatever its older names.
func (o *options) partRotary(s *spec) {
	r := o.ropeObject()
	part := o.positive("partial_rotary_factor", 0)
	inner := r.part(part)
	if part != 0 && inner != part {
		r.reject("has a partial_rotary_factor of %g beside one of %g", inner, part)
	}
	if inner == 0 {
		inner = 1
	}
	r.dim = int(float64(s.headDim) * inner)
	if r.dim < 2 || r.dim > s.headDim {
		o.reject("partial_rotary_factor", "must turn some of the %d elements of a head (got %g)", s.headDim, inner)
		r.dim = s.headDim
	}
	switch r.kind {
	case "default", "longrope":
	case "su", "yarn":
		r.kind = "longrope"
	default:
		r.reject("rope_type %s is not implemented for this model type (want \"default\" or \"longrope\")", formats.Quote(r.kind))
	}
	original := o.doc.Get("original_max_position_embeddings")
	if original == nil {
		original = strictjson.Number("4096")
	}
	o.addRope(s, r, o.positive("rope_theta", 0), original)
}

// rotaryByKind reads the two ropes of Gemma 3, of sliding layers and of the others:
// rope_parameters has an object for each, and before there were rope_local_base_freq, and
// rope_theta and rope_scaling for the layers that do not slide.
func (o *options) rotaryByKind(s *spec, kinds []string) {
	ropes := map[string]*ropeReader{full: o.ropeNamed("rope_scaling", o.doc), sliding: o.ropeNamed(sliding, nil)}
	thetas := map[string]float64{full: o.positive("rope_theta", 0), sliding: o.positive("rope_local_base_freq", 0)}
	usual := map[string]float64{full: 1e6, sliding: usualTheta}
	o.mustBe("partial_rotary_factor", "1", 1.)
	switch v := o.doc.Get("rope_parameters").(type) {
	case nil:
	case *strictjson.Object:
		for _, key := range v.Keys {
			if key != full && key != sliding {
				if v.Get(key) != nil {
					o.reject("rope_parameters", "%s is not implemented (want %q and %q)", formats.Quote(key), full, sliding)
				}
				continue
			}
			if len(ropes[key].keys()) > 0 {
				o.reject("rope_parameters", "stands beside rope_scaling")
			}
			ropes[key] = o.ropeNamed(key, v)
		}
	default:
		o.reject("rope_parameters", "must be an object or null (got %s)", show(v))
	}
	for i, kind := range []string{full, sliding} {
		r := ropes[kind]
		if f := r.part(1); f != 1 {
			r.reject("partial_rotary_factor %g is not implemented for this model type (want 1)", f)
		}
		if thetas[kind] == 0 && r.theta == 0 {
			r.theta = usual[kind]
		}
		if r.kind == "dynamic" {
			r.reject("rope_type \"dynamic\" is not implemented for this model type")
		}
		r.dim = s.headDim
		o.addRope(s, r, thetas[kind], nil)
		for l, k := range kinds {
			if k == kind {
				s.layers[l].rope = i
			}
		}
	}
}

// ropeObject returns the reader of rope_scaling, or of rope_parameters where there is
// none: one of the two at most may say something.
func (o *options) ropeObject() *ropeReader {
	scaling, parameters := o.ropeNamed("rope_scaling", o.doc), o.ropeNamed("rope_parameters", o.doc)
	switch {
	case len(scaling.keys()) == 0:
		return parameters
	case len(parameters.keys()) > 0:
		o.reject("rope_parameters", "stands beside rope_scaling")
	}
	return scaling
}

// ropeReader reads the object that describes a rope.
type ropeReader struct {
	options *options
	name    string
	object  *strictjson.Object // nil where there is none
	read    []string           // the keys that mean something
	ropeBase
	kind string
}

// ropeNamed begins to read the object that is called name in another one.
func (o *options) ropeNamed(name string, in *strictjson.Object) *ropeReader {
	r := &ropeReader{options: o, name: name, kind: "default"}
	if in == nil {
		return r
	}
	switch v := in.Get(name).(type) {
	case nil:
		return r
	case *strictjson.Object:
		r.object = v
	default:
		o.reject(name, "must be an object or null (got %s)", show(v))
		return r
	}
	for _, key := range []string{"type", "rope_type"} {
		switch v := r.get(key).(type) {
		case nil:
		case string:
			r.kind = v
		default:
			r.reject("%s must be a word (got %s)", key, show(v))
		}
	}
	r.theta = r.number("rope_theta", 0)
	return r
}

func (r *ropeReader) keys() []string {
	if r.object == nil {
		return nil
	}
	return r.object.Keys
}

func (r *ropeReader) reject(format string, args ...any) {
	r.options.reject(r.name, "%s", fmt.Sprintf(format, args...))
}

// get returns a key's value and notes that it means something.
func (r *ropeReader) get(key string) any {
	r.read = append(r.read, key)
	if r.object == nil {
		return nil
	}
	return r.object.Get(key)
}

// number reads a positive number; see must.
func (r *ropeReader) number(key string, fallback float64) float64 {
	v := r.get(key)
	if v == nil && !math.IsNaN(fallback) {
		return fallback
	}
	if f, ok := number(v); ok && f > 0 && !math.IsInf(f, 0) {
		return f
	}
	if v == nil {
		r.reject("%s is missing", key)
	} else {
		r.reject("%s must be a positive number (got %s)", key, show(v))
	}
	return 1
}

// must, as a fallback, says that there is none.
var must = math.NaN()

// part reads partial_rotary_factor.
func (r *ropeReader) part(fallback float64) float64 {
	return r.number("partial_rotary_factor", fallback)
}

// factors reads a list of positive numbers, one for each frequency.
func (r *ropeReader) factors(key string) []float64 {
	list, _ := r.get(key).([]any)
	out := make([]float64, r.dim/2)
	good := len(list) == len(out)
	for i := range min(len(list), len(out)) {
		var ok bool
		out[i], ok = number(list[i])
		good = good && ok && out[i] > 0
	}
	if !good {
		r.reject("%s must be a list of %d positive numbers", key, len(out))
	}
	return out
}

// original reads original_max_position_embeddings, which may also stand outside of the
// object and then counts; without both it is the model's length.
func (r *ropeReader) original(l lengths) int {
	fallback := l.positions
	if l.original != nil {
		n, ok := number(l.original)
		if !ok || n < 1 || n > maxDimension || n != math.Trunc(n) {
			r.options.reject("original_max_position_embeddings", "must be a whole number from 1 to %d (got %s)", maxDimension, show(l.original))
			return l.positions
		}
		fallback = int(n)
	}
	n := r.number("original_max_position_embeddings", float64(fallback))
	if n != math.Trunc(n) || n > maxDimension || l.original != nil && int(n) != fallback {
		r.reject("has original_max_position_embeddings of %g beside %d", n, fallback)
	}
	return max(int(min(n, maxDimension)), 1)
}

// lengths are what stands outside of the object that describes a rope.
type lengths struct {
	positions int // max_position_embeddings
	original  any // original_max_position_embeddings
}

// ropeKinds are the values of rope_type: what reads the keys of each.
var ropeKinds = map[string]func(r *ropeReader, l lengths) rope{
	"default":  func(r *ropeReader, _ lengths) rope { return r.plain() },
	"linear":   func(r *ropeReader, l lengths) rope { return r.linear(r.number("factor", must), l.positions) },
	"dynamic":  (*ropeReader).readDynamic,
	"llama3":   (*ropeReader).readLlama3,
	"yarn":     (*ropeReader).readYarn,
	"longrope": (*ropeReader).readLongRope,
}

// addRope adds the rope that was read to the spec. theta and original are what stands
// outside of the object.
func (o *options) addRope(s *spec, r *ropeReader, theta float64, original any) {
	switch {
	case theta != 0 && r.theta != 0 && theta != r.theta:
		r.reject("has a rope_theta of %g beside one of %g", r.theta, theta)
	case r.theta == 0 && theta == 0:
		r.theta = usualTheta
	case r.theta == 0:
		r.theta = theta
	}
	if r.dim%2 != 0 {
		o.reject("head_dim", "must be even for rotary embeddings (got %d elements that turn)", r.dim)
		return
	}
	read, ok := ropeKinds[r.kind]
	if !ok {
		known := strings.Join(slices.Sorted(maps.Keys(ropeKinds)), ", ")
		r.reject("rope_type %s is not implemented (known: %s)", formats.Quote(r.kind), known)
		return
	}
	out := read(r, lengths{s.maxPositions, original})
	for _, key := range r.keys() {
		if r.object.Get(key) != nil && !slices.Contains(r.read, key) {
			r.reject("%s is not implemented for rope_type %q", formats.Quote(key), r.kind)
		}
	}
	s.ropes = append(s.ropes, out)
}

func (r *ropeReader) readDynamic(l lengths) rope {
	if r.dim == 2 {
		r.reject("rope_type \"dynamic\" cannot be computed for heads of 2")
	}
	return r.dynamic(r.number("factor", must), l.positions)
}

func (r *ropeReader) readLlama3(l lengths) rope {
	low, high := r.number("low_freq_factor", must), r.number("high_freq_factor", must)
	if high <= low {
		r.reject("high_freq_factor must be above low_freq_factor (got %g and %g)", high, low)
	}
	return r.llama3(r.number("factor", must), low, high, r.original(l))
}

func (r *ropeReader) readYarn(l lengths) rope {
	y := yarn{
		factor:   r.number("factor", must),
		original: r.original(l),
		betaFast: r.number("beta_fast", 32), betaSlow: r.number("beta_slow", 1),
		scale:  r.number("attention_factor", 0),
		mscale: r.number("mscale", 0), mscaleAll: r.number("mscale_all_dim", 0),
		truncate: true,
	}
	switch v := r.get("truncate").(type) {
	case nil:
	case bool:
		y.truncate = v
	default:
		r.reject("truncate must be true or false (got %s)", show(v))
	}
	if r.theta <= 1 {
		r.reject("rope_theta must be above 1 for \"yarn\" (got %g)", r.theta)
	}
	return r.yarn(y)
}

// readLongRope reads the factors of each frequency, and how much longer queries and keys
// become: attention_factor, or by the factor that the length grew by.
func (r *ropeReader) readLongRope(l lengths) rope {
	original := r.original(l)
	factor := r.number("factor", float64(l.positions)/float64(original))
	scale := 1.
	if factor > 1 && original > 1 {
		scale = math.Sqrt(1 + math.Log(factor)/math.Log(float64(original)))
	}
	return r.longRope(r.factors("short_factor"), r.factors("long_factor"), r.number("attention_factor", scale), original)
}
