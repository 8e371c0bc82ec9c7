package jinja

import (
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

func quoteName(s string) string { return strconv.Quote(s[:min(len(s), 80)]) }

func (r *run) unary(op string, v any) any {
	if op == "not" {
		return !truth(v)
	}
	if b, ok := v.(*big.Int); ok {
		if op == "-" {
			return shrink(new(big.Int).Neg(b))
		}
		return b
	}
	if f, ok := v.(float64); ok {
		if op == "-" {
			return -f
		}
		return f
	}
	i, ok := integer(v)
	if !ok {
		failOperand(op, v)
	}
	if op == "-" {
		return shrink(new(big.Int).Neg(big.NewInt(i)))
	}
	return i
}

func failOperand(op string, v ...any) {
	for _, x := range v {
		if u, ok := x.(undefined); ok {
			fail("%s", u.why)
		}
	}
	names := make([]string, len(v))
	for i, x := range v {
		names[i] = typeName(x)
	}
	fail("operator %s does not take %s", op, strings.Join(names, " and "))
}

func (r *run) compare(op string, a, b any) bool {
	switch op {
	case "==":
		return r.equal(a, b, 0)
	case "!=":
		return !r.equal(a, b, 0)
	case "in":
		return r.contains(a, b)
	case "not in":
		return !r.contains(a, b)
	}
	for _, v := range []any{a, b} {
		if u, ok := v.(undefined); ok {
			fail("%s", u.why)
		}
	}
	c := r.order(a, b, 0)
	switch op {
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	}
	return c >= 0
}

func (r *run) binary(op string, a, b any) any {
	if op == "%" {
		if s, ok := a.(string); ok {
			return r.percent(s, b)
		}
	}
	x, xInt := integer(a)
	y, yInt := integer(b)
	if xInt && yInt {
		return r.arithmetic(op, x, y)
	}
	for _, v := range []any{a, b} {
		if _, ok := v.(*big.Int); ok {
			fail("arithmetic beyond 64 bits is not implemented")
		}
	}
	f, isF := number(a)
	g, isG := number(b)
	switch {
	case isF && isG:
		return floats(op, f, g)
	case op == "+":
		return r.concat(a, b)
	case op == "*" && yInt:
		return r.repeat(a, y)
	case op == "*" && xInt:
		return r.repeat(b, x)
	}
	failOperand(op, a, b)
	return nil
}

func (r *run) concat(a, b any) any {
	switch a := a.(type) {
	case string:
		if b, ok := b.(string); ok {
			r.charge(len(a) + len(b))
			return a + b
		}
	case List:
		if b, ok := b.(List); ok {
			r.charge(itemCost * (len(a) + len(b)))
			return slices.Concat(a, b)
		}
	case Tuple:
		if b, ok := b.(Tuple); ok {
			r.charge(itemCost * (len(a) + len(b)))
			return slices.Concat(a, b)
		}
	}
	failOperand("+", a, b)
	return nil
}

func (r *run) repeat(v any, n int64) any {
	n = max(n, 0)
	times := func(size int) int {
		if size > 0 && n > int64(maxWork/size) {
			r.charge(maxWork + 1)
		}
		r.charge(size * int(n))
		if size == 0 {
			return 0
		}
		return int(n)
	}
	switch v := v.(type) {
	case string:
		return strings.Repeat(v, times(len(v)))
	case List:
		return slices.Repeat(v, times(itemCost*len(v)))
	case Tuple:
		return slices.Repeat(v, times(itemCost*len(v)))
	}
	failOperand("*", v, n)
	return nil
}

// arithmetic computes with integers; as long as it fits, the result is one of 64 bits.
func (r *run) arithmetic(op string, x, y int64) any {
	a, b, z := big.NewInt(x), big.NewInt(y), new(big.Int)
	switch op {
	case "+":
		z.Add(a, b)
	case "-":
		z.Sub(a, b)
	case "*":
		z.Mul(a, b)
	case "/":
		return floats("/", float64(x), float64(y))
	case "//", "%":
		if y == 0 {
			fail("division by zero")
		}
		rest := new(big.Int)
		z.QuoRem(a, b, rest)
		if rest.Sign() != 0 && rest.Sign() != b.Sign() { // Python rounds down
			z.Sub(z, big.NewInt(1))
			rest.Add(rest, b)
		}
		if op == "%" {
			z = rest
		}
	case "**":
		if y < 0 {
			return floats("**", float64(x), float64(y))
		}
		if y > 64 && x != 0 && x != 1 && x != -1 {
			fail("arithmetic beyond 64 bits is not implemented")
		}
		z.Exp(a, b, nil)
	}
	if !z.IsInt64() {
		fail("arithmetic beyond 64 bits is not implemented")
	}
	return z.Int64()
}

func floats(op string, x, y float64) any {
	switch op {
	case "+":
		return x + y
	case "-":
		return x - y
	case "*":
		return x * y
	}
	if y == 0 && op != "**" {
		fail("division by zero")
	}
	switch op {
	case "/":
		return x / y
	case "**":
		return power(x, y)
	}
	mod := math.Mod(x, y)
	if mod != 0 && (mod < 0) != (y < 0) {
		mod += y
	} else if mod == 0 {
		mod = math.Copysign(0, y)
	}
	if op == "%" {
		return mod
	}
	div := (x - mod) / y
	if div == 0 {
		return math.Copysign(0, x/y)
	}
	floor := math.Floor(div)
	if div-floor > 0.5 {
		floor++
	}
	return floor
}

// power raises to a small whole number, exactly and then rounded, as C's pow comes out;
// Go's differs from it in the last bit.
func power(x, y float64) float64 {
	if y != math.Trunc(y) || math.Abs(y) > 64 || math.IsNaN(x) || math.IsInf(x, 0) {
		fail("operator ** of %v and %v is not implemented", x, y)
	}
	if x == 0 && y < 0 {
		fail("division by zero")
	}
	const exact = 64 * 53
	z, factor := new(big.Float).SetPrec(exact).SetInt64(1), new(big.Float).SetFloat64(x)
	for range int(math.Abs(y)) {
		z.Mul(z, factor)
	}
	if y < 0 {
		z.Quo(new(big.Float).SetPrec(exact).SetInt64(1), z)
	}
	f, _ := z.Float64()
	if math.IsInf(f, 0) {
		fail("the result of ** is too large")
	}
	return f
}

// attr is Jinja's a.b: an attribute, or else an item.
func (r *run) attr(v any, id string) any {
	if u, ok := v.(undefined); ok && (u.unsafe || id != "__class__") {
		fail("%s", u.why)
	}
	if m := r.member(v, id); m != nil {
		return *m
	}
	switch v := v.(type) {
	case *Dict:
		if x, ok := v.Get(id); ok {
			return x
		}
	case namespace:
		if x, ok := v.Get(id); ok {
			return x
		}
	}
	return undefined{why: typeName(v) + " has no attribute " + quoteName(id)}
}

// member returns an attribute that Python's type has, or nil.
func (r *run) member(v any, id string) *any {
	found := func(x any) *any { return &x }
	if l, ok := v.(*loop); ok {
		if x, ok := l.attr(r, id); ok {
			return found(x)
		}
	}
	if strings.HasPrefix(id, "__") && strings.HasSuffix(id, "__") {
		return found(undefined{why: "access to attribute " + quoteName(id) + " is unsafe", unsafe: true})
	}
	if _, ok := v.(namespace); ok {
		return nil
	}
	kind := typeName(v)
	if m, ok := methods[kind][id]; ok {
		return found(&callable{id, func(r *run, a args) any { return m(r, v, a) }})
	}
	if slices.Contains(changing[kind], id) {
		return found(undefined{why: "method " + quoteName(id) + " changes a value, which a template may not"})
	}
	if slices.Contains(unimplemented[kind], id) {
		return found(&callable{id, func(*run, args) any {
			fail("method %s of %s is not implemented", quoteName(id), kind)
			return nil
		}})
	}
	return nil
}

// item is Jinja's a[b]: an item, or else an attribute.
func (r *run) item(v, key any) any {
	if u, ok := v.(undefined); ok {
		fail("%s", u.why)
	}
	switch v := v.(type) {
	case *Dict:
		if x, ok := v.Get(key); ok {
			return x
		}
	case namespace:
		if x, ok := v.Get(key); ok {
			return x
		}
	case string, List, Tuple, span:
		if i, ok := integer(key); ok {
			if x, ok := r.index(v, i); ok {
				return x
			}
			return undefined{why: "index " + strconv.FormatInt(i, 10) + " is out of range"}
		}
	case markup:
		fail("cutting safe text is not implemented")
	}
	if id, ok := key.(string); ok {
		if m := r.member(v, id); m != nil {
			return *m
		}
		return undefined{why: typeName(v) + " has no attribute " + quoteName(id)}
	}
	return undefined{why: typeName(v) + " has no element of that key"}
}

func (r *run) index(v any, i int64) (any, bool) {
	n := int64(r.length(v))
	if i < 0 {
		i += n
	}
	if i < 0 || i >= n {
		return nil, false
	}
	switch v := v.(type) {
	case List:
		return v[i], true
	case Tuple:
		return v[i], true
	case span:
		return v.start + i*v.step, true
	case string:
		r.charge(len(v))
		for _, c := range v {
			if i == 0 {
				return string(c), true
			}
			i--
		}
	}
	return nil, false
}

// slice is Python's v[a:b:c].
func (r *run) slice(v any, parts [3]any) any {
	if u, ok := v.(undefined); ok {
		fail("%s", u.why)
	}
	var items []any
	var letters []rune
	var n int64
	switch v := v.(type) {
	case List:
		items, n = v, int64(len(v))
	case Tuple:
		items, n = v, int64(len(v))
	case string:
		r.charge(5 * len(v))
		letters = []rune(v)
		n = int64(len(letters))
	case span, markup:
		fail("slicing a %s is not implemented", typeName(v))
	default:
		fail("slicing a %s is not implemented", typeName(v)) // Jinja fails, unless it is a constant
	}
	bound := func(p any, missing, low, high int64) int64 {
		if p == nil {
			return missing
		}
		i, ok := integer(p)
		if !ok {
			if u, ok := p.(undefined); ok {
				fail("%s", u.why)
			}
			fail("slice index is a %s (want an integer)", typeName(p))
		}
		if i < 0 {
			i += n
		}
		return min(max(i, low), high)
	}
	step := int64(1)
	if parts[2] != nil {
		var ok bool
		if step, ok = integer(parts[2]); !ok {
			fail("slice step is a %s (want an integer)", typeName(parts[2]))
		}
		if step == 0 {
			fail("slice step is zero")
		}
	}
	var start, stop int64
	if step > 0 {
		start, stop = bound(parts[0], 0, 0, n), bound(parts[1], n, 0, n)
	} else {
		start, stop = bound(parts[0], n-1, -1, n-1), bound(parts[1], -1, -1, n-1)
	}
	count := span{start, stop, step}.len()
	r.charge(itemCost * int(count))
	if letters != nil || items == nil && isString(v) {
		var b strings.Builder
		for i := range count {
			b.WriteRune(letters[start+i*step])
		}
		return b.String()
	}
	out := make([]any, count)
	for i := range out {
		out[i] = items[start+int64(i)*step]
	}
	if _, ok := v.(Tuple); ok {
		return Tuple(out)
	}
	return List(out)
}

func isString(v any) bool {
	_, ok := v.(string)
	return ok
}
