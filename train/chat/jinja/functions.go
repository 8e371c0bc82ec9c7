package jinja

import (
	"strings"
)

// functions are what a template can call without being given it.
var functions = map[string]func(r *run, a args) any{
	"raise_exception": func(r *run, a args) any { panic(raised(r.str(a.bind("raise_exception", "message")[0]))) },
	"strftime_now": func(r *run, a args) any {
		if r.now.IsZero() {
			fail("the template asks for the date, and there is no date")
		}
		return strftime(r.now, needString("strftime_now", a.bind("strftime_now", "format")[0]))
	},
	"range":     rangeFunction,
	"dict":      func(r *run, a args) any { return r.makeDict("dict", a) },
	"namespace": namespaceFunction,
	"cycler":    refusedFunction("cycler"),
	"joiner":    refusedFunction("joiner"),
	"lipsum":    refusedFunction("lipsum"),
}

func refusedFunction(id string) func(*run, args) any {
	return func(*run, args) any {
		fail("function %q is not implemented", id)
		return nil
	}
}

func rangeFunction(r *run, a args) any {
	p := a.bind("range", "start", "stop?", "step?")
	if len(a.kw) > 0 {
		fail("range takes no keyword arguments")
	}
	s := span{0, 0, needInt("range", given(p[2], int64(1)))}
	if s.stop = needInt("range", p[0]); len(a.pos) > 1 {
		s.start, s.stop = s.stop, needInt("range", p[1])
	}
	if s.step == 0 {
		fail("range with a step of zero")
	}
	const most = 1 << 60 // differences of these do not overflow
	for _, n := range []int64{s.start, s.stop, s.step} {
		if n > most || n < -most {
			fail("range of numbers above 2^60 is not implemented")
		}
	}
	if s.len() > maxRange {
		fail("range of %d numbers (want at most %d)", s.len(), maxRange)
	}
	return s
}

func (r *run) makeDict(fn string, a args) *Dict {
	d := NewDict()
	if len(a.pos) > 1 {
		fail("%s takes one argument beside those by name (got %d)", fn, len(a.pos))
	}
	if len(a.pos) == 1 {
		items := a.pos[0]
		if from, ok := items.(*Dict); ok {
			items = List(from.items())
		}
		for _, x := range r.list(items) {
			pair := r.list(x)
			if len(pair) != 2 {
				fail("%s takes pairs", fn)
			}
			r.charge(4 * itemCost)
			d.Set(pair[0], pair[1])
		}
	}
	for _, n := range a.names {
		d.Set(n, a.kw[n])
	}
	return d
}

func namespaceFunction(r *run, a args) any {
	d := r.makeDict("namespace", a)
	for _, k := range d.keys {
		if s, ok := k.(string); ok && strings.HasPrefix(s, "_") {
			fail("a namespace takes no attribute that begins with an underscore (got %s)", quoteName(s))
		}
	}
	return namespace{d}
}
