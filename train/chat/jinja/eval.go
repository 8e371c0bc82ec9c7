package jinja

import (
	"context"
	"strings"
	"time"
)

// run is one rendering.
type run struct {
	ctx   context.Context
	now   time.Time
	line  int // that is being evaluated, for messages
	work  int
	depth int
	out   strings.Builder
	spans []Span
	// inner counts the blocks around whose output goes elsewhere than to the text.
	inner int
}

// charge counts work, and ends what does too much of it or what nobody waits for.
func (r *run) charge(n int) {
	before := r.work
	r.work += n
	if r.work > maxWork {
		fail("the template does too much (want at most %d steps)", maxWork)
	}
	if before>>16 != r.work>>16 && r.ctx.Err() != nil {
		panic(cancelled{r.ctx.Err()})
	}
}

func (r *run) enter() func() {
	if r.depth++; r.depth > maxDepth {
		fail("calls nested deeper than %d", maxDepth)
	}
	return func() { r.depth-- }
}

// scope holds the names of a block. Jinja decides by its source which block a name
// belongs to; looking outwards when it is read comes to the same.
type scope struct {
	vars  map[string]any
	outer *scope
}

func (s *scope) inner() *scope { return &scope{vars: map[string]any{}, outer: s} }

func (s *scope) lookup(id string) any {
	for ; s != nil; s = s.outer {
		if v, ok := s.vars[id]; ok {
			return v
		}
	}
	return undefined{why: quoteName(id) + " is undefined"}
}

// jump says how a list of statements ended.
type jump int

const (
	jumpNone jump = iota
	jumpBreak
	jumpContinue
)

func (r *run) write(s string) {
	r.charge(len(s))
	r.out.WriteString(s)
}

// capture returns what f writes.
func (r *run) capture(f func()) string {
	outer := r.out
	r.out = strings.Builder{}
	r.inner++
	f()
	r.inner--
	s := r.out.String()
	r.out = outer
	return s
}

func (r *run) stmts(list []stmt, s *scope) jump {
	for _, x := range list {
		r.charge(1)
		if j := r.stmt(x, s); j != jumpNone {
			return j
		}
	}
	return jumpNone
}

func (r *run) stmt(x stmt, s *scope) jump {
	r.line = x.at()
	switch x := x.(type) {
	case textStmt:
		r.write(x.text)
	case printStmt:
		v := r.eval(x.x, s)
		r.line = x.at()
		r.write(r.str(v))
	case ifStmt:
		if truth(r.eval(x.test, s)) {
			return r.stmts(x.body, s)
		}
		return r.stmts(x.alt, s)
	case forStmt:
		return r.forLoop(x, r.eval(x.iter, s), s, 1)
	case setStmt:
		r.assign(x.target, r.eval(x.x, s), s)
	case setBlock:
		var j jump
		text := r.capture(func() { j = r.stmts(x.body, s.inner()) })
		if j != jumpNone {
			return j
		}
		var v any = text
		if x.filter != nil {
			v = r.applyFilters(x.filter, v, s)
		}
		r.assign(x.target, v, s)
	case filterBlock:
		var j jump
		text := r.capture(func() { j = r.stmts(x.body, s.inner()) })
		if j != jumpNone {
			return j
		}
		r.write(r.str(r.applyFilters(x.filter, text, s)))
	case macroStmt:
		s.vars[x.macro.name] = r.macro(x.macro, s)
	case callStmt:
		a := r.args(x.call.args, s)
		a.set("caller", r.macro(x.block, s))
		r.write(r.str(r.call(r.eval(x.call.f, s), a)))
	case withStmt:
		in := s.inner()
		values := make([]any, len(x.values))
		for i, v := range x.values {
			values[i] = r.eval(v, s)
		}
		for i, t := range x.targets {
			in.vars[t.name] = values[i]
		}
		return r.stmts(x.body, in)
	case generationStmt:
		if r.inner > 0 {
			fail("a generation block within a macro, or within a set, call or filter block, is not implemented")
		}
		from := r.out.Len()
		r.stmts(x.body, s.inner())
		r.spans = append(r.spans, Span{from, r.out.Len()})
	case jumpStmt:
		return x.jump
	}
	return jumpNone
}

func (r *run) assign(t target, v any, s *scope) {
	switch {
	case t.parts != nil:
		items := r.list(v)
		if len(items) != len(t.parts) {
			fail("cannot unpack %d values into %d names", len(items), len(t.parts))
		}
		for i, part := range t.parts {
			r.assign(part, items[i], s)
		}
	case t.attr != "":
		ns, ok := s.lookup(t.name).(namespace)
		if !ok {
			fail("cannot assign an attribute of %s, which is no namespace", quoteName(t.name))
		}
		if strings.HasPrefix(t.attr, "_") {
			fail("a namespace takes no attribute that begins with an underscore (got %s)", quoteName(t.attr))
		}
		ns.Set(t.attr, v)
	default:
		s.vars[t.name] = v
	}
}

// loop is the variable of that name. It looks ahead only when it is asked to, as Jinja's
// does: a filter in the for tag may depend on what the body does.
type loop struct {
	next     func() (any, bool)
	ahead    []any // read already, and not yet had
	index    int64 // from 1
	depth    int64
	previous any
	current  any
	changed  any
	again    func(items any) any // of a recursive loop
}

func (l *loop) peek() (any, bool) {
	if len(l.ahead) > 0 {
		return l.ahead[0], true
	}
	x, ok := l.next()
	if ok {
		l.ahead = append(l.ahead, x)
	}
	return x, ok
}

func (l *loop) total(r *run) int {
	for {
		x, ok := l.next()
		if !ok {
			return int(l.index) + len(l.ahead)
		}
		r.charge(itemCost)
		l.ahead = append(l.ahead, x)
	}
}

func (l *loop) attr(r *run, id string) (any, bool) {
	switch id {
	case "index":
		return l.index, true
	case "index0":
		return l.index - 1, true
	case "revindex":
		return int64(l.total(r)) - l.index + 1, true
	case "revindex0":
		return int64(l.total(r)) - l.index, true
	case "length":
		return int64(l.total(r)), true
	case "first":
		return l.index == 1, true
	case "last":
		_, more := l.peek()
		return !more, true
	case "depth":
		return l.depth, true
	case "depth0":
		return l.depth - 1, true
	case "previtem":
		return l.previous, true
	case "nextitem":
		if x, ok := l.peek(); ok {
			return x, true
		}
		return undefined{why: "there is no next item"}, true
	case "cycle":
		return &callable{"cycle", func(r *run, a args) any {
			if len(a.pos) == 0 {
				fail("cycle needs values")
			}
			return a.pos[(l.index-1)%int64(len(a.pos))]
		}}, true
	case "changed":
		return &callable{"changed", func(r *run, a args) any {
			now := Tuple(a.pos)
			if before, ok := l.changed.(Tuple); ok && r.equal(before, now, 0) {
				return false
			}
			l.changed = now
			return true
		}}, true
	}
	return nil, false
}

func (r *run) forLoop(x forStmt, items any, s *scope, depth int64) jump {
	defer r.enter()()
	next := r.iterate(items)
	if x.test != nil {
		all := next
		next = func() (any, bool) {
			for {
				v, ok := all()
				if !ok {
					return nil, false
				}
				in := s.inner()
				r.assign(x.target, v, in)
				if truth(r.eval(x.test, in)) {
					return v, true
				}
			}
		}
	}
	l := &loop{next: next, depth: depth, current: undefined{why: "there is no previous item"}}
	if x.recursive {
		l.again = func(items any) any {
			return r.capture(func() { r.forLoop(x, items, s, depth+1) })
		}
	}
	whole := false
	for {
		v, ok := l.peek()
		if !ok {
			break
		}
		r.charge(2 * itemCost) // a round has a scope of its own
		l.ahead = l.ahead[1:]
		l.index++
		l.previous, l.current = l.current, v
		in := s.inner()
		in.vars["loop"] = l
		r.assign(x.target, v, in)
		j := r.stmts(x.body, in)
		if j == jumpBreak {
			break
		}
		whole = whole || j == jumpNone
	}
	if !whole { // Jinja's else is for when no round came to its end
		return r.stmts(x.alt, s.inner())
	}
	return jumpNone
}

// macro makes a function of a definition, which sees the scope s.
func (r *run) macro(m *macroDef, s *scope) *callable {
	return &callable{m.name, func(r *run, a args) any {
		defer r.enter()()
		in := s.inner()
		caller := a.take("caller", undefined{why: "there is no caller"})
		if m.uses["caller"] {
			in.vars["caller"] = caller
		} else if _, none := caller.(undefined); !none {
			fail("macro %s does not call its caller", quoteName(m.name))
		}
		for i, param := range m.params {
			_, named := a.kw[param]
			switch {
			case i < len(a.pos):
				if named {
					fail("macro %s: argument %s is given twice", quoteName(m.name), quoteName(param))
				}
				in.vars[param] = a.pos[i]
			case named:
				in.vars[param] = a.take(param, nil)
			case i >= len(m.params)-len(m.defaults):
				in.vars[param] = r.eval(m.defaults[i-len(m.params)+len(m.defaults)], in)
			default:
				in.vars[param] = undefined{why: "parameter " + quoteName(param) + " was not provided"}
			}
		}
		extra := a.pos[min(len(a.pos), len(m.params)):]
		if m.uses["varargs"] {
			in.vars["varargs"] = Tuple(extra)
		} else if len(extra) > 0 {
			fail("macro %s takes no more than %d arguments", quoteName(m.name), len(m.params))
		}
		if m.uses["kwargs"] {
			d := NewDict()
			for _, n := range a.names {
				if v, ok := a.kw[n]; ok {
					d.Set(n, v)
				}
			}
			in.vars["kwargs"] = d
		} else if len(a.kw) > 0 {
			fail("macro %s takes no argument %s", quoteName(m.name), quoteName(a.firstName()))
		}
		return r.capture(func() { r.stmts(m.body, in) })
	}}
}

func (r *run) args(x callArgs, s *scope) args {
	a := args{names: x.names}
	for _, p := range x.pos {
		a.pos = append(a.pos, r.eval(p, s))
	}
	if len(x.kw) > 0 {
		a.kw = map[string]any{}
		for i, k := range x.kw {
			a.kw[x.names[i]] = r.eval(k, s)
		}
	}
	return a
}

func (a *args) set(name string, v any) {
	if a.kw == nil {
		a.kw = map[string]any{}
	}
	a.kw[name] = v
}

// take removes a keyword argument.
func (a *args) take(name string, missing any) any {
	v, ok := a.kw[name]
	if !ok {
		return missing
	}
	delete(a.kw, name)
	return v
}

func (a *args) firstName() string {
	for _, n := range a.names {
		if _, ok := a.kw[n]; ok {
			return n
		}
	}
	return ""
}

func (r *run) call(f any, a args) any {
	defer r.enter()()
	switch f := f.(type) {
	case *callable:
		return f.call(r, a)
	case undefined:
		fail("%s", f.why)
	case *loop:
		if f.again == nil {
			fail("the loop is not recursive")
		}
		return f.again(a.bind("loop", "items")[0])
	}
	fail("%s is not callable", typeName(f))
	return nil
}

func (r *run) eval(x expr, s *scope) any {
	r.charge(1)
	switch x := x.(type) {
	case constant:
		return x.value
	case name:
		return s.lookup(x.id)
	case sequenceExpr:
		items := make([]any, len(x.items))
		r.charge(itemCost * len(items))
		for i, item := range x.items {
			items[i] = r.eval(item, s)
		}
		if x.tuple {
			return Tuple(items)
		}
		return List(items)
	case dictExpr:
		d := NewDict()
		for i, k := range x.keys {
			r.charge(4 * itemCost)
			key := r.eval(k, s)
			d.Set(key, r.eval(x.values[i], s))
		}
		return d
	case unaryExpr:
		v := r.eval(x.x, s)
		r.line = x.at()
		return r.unary(x.op, v)
	case binaryExpr:
		a := r.eval(x.a, s)
		switch x.op {
		case "and":
			if !truth(a) {
				return a
			}
			return r.eval(x.b, s)
		case "or":
			if truth(a) {
				return a
			}
			return r.eval(x.b, s)
		}
		b := r.eval(x.b, s)
		r.line = x.at()
		return r.binary(x.op, a, b)
	case joinExpr:
		var b strings.Builder
		for _, p := range x.parts {
			v := r.eval(p, s)
			if _, ok := v.(markup); ok {
				fail("joining safe text with ~ is not implemented")
			}
			text := r.str(v)
			r.charge(len(text))
			b.WriteString(text)
		}
		return b.String()
	case compareExpr:
		a := r.eval(x.first, s)
		for i, op := range x.ops {
			b := r.eval(x.rest[i], s)
			r.line = x.at()
			if !r.compare(op, a, b) {
				return false
			}
			a = b
		}
		return true
	case condExpr:
		if truth(r.eval(x.test, s)) {
			return r.eval(x.yes, s)
		}
		if x.no == nil {
			return undefined{why: "the condition is false and there is no else"}
		}
		return r.eval(x.no, s)
	case attrExpr:
		v := r.eval(x.x, s)
		r.line = x.at()
		return r.attr(v, x.name)
	case itemExpr:
		v := r.eval(x.x, s)
		if cut, ok := x.key.(sliceExpr); ok {
			var parts [3]any
			for i, p := range cut.parts {
				if p != nil {
					parts[i] = r.eval(p, s)
				}
			}
			r.line = x.at()
			return r.slice(v, parts)
		}
		key := r.eval(x.key, s)
		r.line = x.at()
		return r.item(v, key)
	case callExpr:
		f := r.eval(x.f, s)
		a := r.args(x.args, s)
		r.line = x.at()
		return r.call(f, a)
	case filterExpr:
		return r.applyFilters(x, nil, s)
	case testExpr:
		v := r.eval(x.x, s)
		a := r.args(x.args, s)
		r.line = x.at()
		return r.test(x.name, v, a) != x.not
	}
	return nil
}

// applyFilters evaluates a chain of filters; input stands at its beginning, where a
// filter block has its text.
func (r *run) applyFilters(x expr, input any, s *scope) any {
	f, ok := x.(filterExpr)
	if !ok {
		return r.eval(x, s)
	}
	v := input
	if f.x != nil {
		v = r.applyFilters(f.x, input, s)
	}
	a := r.args(f.args, s)
	r.line = f.at()
	return r.filter(f.name, v, a)
}
