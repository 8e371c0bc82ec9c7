package jinja

import (
	"slices"
	"strconv"
	"strings"
)

type parser struct {
	tokens []token
	pos    int
	depth  int
	loops  int               // that a break here would leave
	uses   []map[string]bool // of the macros around
	// generation: there is a generation block.
	generation bool
}

func (p *parser) cur() token { return p.tokens[p.pos] }

func (p *parser) next() token {
	t := p.tokens[p.pos]
	if t.kind != tokenEnd {
		p.pos++
	}
	return t
}

func (p *parser) is(kind tokenKind, texts ...string) bool {
	t := p.cur()
	return t.kind == kind && (len(texts) == 0 || slices.Contains(texts, t.text))
}

func (p *parser) op(texts ...string) bool   { return p.is(tokenOperator, texts...) }
func (p *parser) word(texts ...string) bool { return p.is(tokenName, texts...) }

// skip consumes an operator or name if it comes next.
func (p *parser) skip(kind tokenKind, text string) bool {
	if p.is(kind, text) {
		p.pos++
		return true
	}
	return false
}

func (p *parser) unexpected(want string) {
	syntax(p.cur().line, "unexpected %v (want %s)", p.cur(), want)
}

func (p *parser) expect(kind tokenKind, text string) token {
	if !p.is(kind, text) {
		p.unexpected(strconv.Quote(text))
	}
	return p.next()
}

func (p *parser) name() string {
	if p.cur().kind != tokenName {
		p.unexpected("a name")
	}
	return p.next().text
}

func (p *parser) here() place { return place(p.cur().line) }

// enter counts nesting; it returns what leaves again.
func (p *parser) enter() func() {
	if p.depth++; p.depth > maxDepth {
		syntax(p.cur().line, "nested deeper than %d", maxDepth)
	}
	return func() { p.depth-- }
}

// body reads statements up to one of the tags named, of which it consumes "{%"; none
// means the end of the template.
func (p *parser) body(ends ...string) []stmt {
	defer p.enter()()
	opened := p.cur().line
	var out []stmt
	for {
		at := p.here()
		switch t := p.next(); t.kind {
		case tokenEnd:
			if len(ends) > 0 {
				syntax(opened, "block without its %s", ends[len(ends)-1])
			}
			return out
		case tokenText:
			out = append(out, textStmt{at, t.text})
		case tokenPrintBegin:
			x := p.tuple(true)
			if p.cur().kind != tokenPrintEnd {
				p.unexpected("}}")
			}
			p.next()
			out = append(out, printStmt{at, x})
		case tokenTagBegin:
			if slices.Contains(ends, p.cur().text) && p.cur().kind == tokenName {
				return out
			}
			out = append(out, p.statement())
		}
	}
}

// end consumes the end of a tag.
func (p *parser) end() {
	if p.cur().kind != tokenTagEnd {
		p.unexpected("%}")
	}
	p.next()
}

// block reads a body and the tag that ends it.
func (p *parser) block(end string) []stmt {
	p.end()
	body := p.body(end)
	p.next()
	p.end()
	return body
}

// refused are the statements of Jinja that are not implemented.
var refused = []string{"include", "extends", "import", "from", "block", "trans", "autoescape", "do", "debug"}

func (p *parser) statement() stmt {
	at := p.here()
	switch word := p.name(); word {
	case "if":
		return p.ifTag(at)
	case "for":
		return p.forTag(at)
	case "set":
		return p.set(at)
	case "macro":
		m := p.macro(p.name(), func() {})
		return macroStmt{at, m}
	case "call":
		var x expr
		m := p.macro("caller", func() { x = p.expression() })
		call, ok := x.(callExpr)
		if !ok {
			syntax(int(at), "call block without a call")
		}
		return callStmt{at, call, m}
	case "filter":
		f := p.filters(nil, true)
		return filterBlock{at, f, p.block("endfilter")}
	case "with":
		w := withStmt{place: at}
		for p.cur().kind != tokenTagEnd {
			if len(w.targets) > 0 {
				p.expect(tokenOperator, ",")
			}
			w.targets = append(w.targets, target{place: p.here(), name: p.store()})
			p.expect(tokenOperator, "=")
			w.values = append(w.values, p.expression())
		}
		w.body = p.block("endwith")
		return w
	case "generation":
		loops := p.loops
		p.loops = 0
		p.generation = true
		body := p.block("endgeneration")
		p.loops = loops
		return generationStmt{at, body}
	case "break", "continue":
		if p.loops == 0 {
			syntax(int(at), "%s outside of a loop", word)
		}
		p.end()
		if word == "break" {
			return jumpStmt{at, jumpBreak}
		}
		return jumpStmt{at, jumpContinue}
	default:
		if slices.Contains(refused, word) {
			syntax(int(at), "statement %q is not implemented", word)
		}
		syntax(int(at), "unknown statement %q", word)
	}
	return nil
}

func (p *parser) ifTag(at place) stmt {
	defer p.enter()()
	s := ifStmt{place: at, test: p.tuple(false)}
	p.end()
	s.body = p.body("elif", "else", "endif")
	switch at := p.here(); p.next().text {
	case "elif":
		s.alt = []stmt{p.ifTag(at)}
	case "else":
		s.alt = p.block("endif")
	default:
		p.end()
	}
	return s
}

func (p *parser) forTag(at place) stmt {
	s := forStmt{place: at, target: p.target(false)}
	p.expect(tokenName, "in")
	s.iter = p.tuple(false, "recursive")
	if p.skip(tokenName, "if") {
		s.test = p.expression()
	}
	s.recursive = p.skip(tokenName, "recursive")
	p.end()
	p.loops++
	s.body = p.body("else", "endfor")
	p.loops--
	if p.next().text == "else" {
		s.alt = p.block("endfor")
	} else {
		p.end()
	}
	return s
}

func (p *parser) set(at place) stmt {
	t := p.target(true)
	if p.skip(tokenOperator, "=") {
		x := p.tuple(true)
		p.end()
		return setStmt{at, t, x}
	}
	if t.parts != nil {
		p.unexpected(`"="`)
	}
	s := setBlock{place: at, target: t}
	if p.op("|") {
		s.filter = p.filters(nil, false)
	}
	s.body = p.block("endset")
	return s
}

// store reads a name that may be assigned to.
func (p *parser) store() string {
	at := p.cur().line
	id := p.name()
	switch id {
	case "true", "false", "none", "True", "False", "None":
		syntax(at, "%s cannot be assigned to", id)
	}
	return id
}

// target reads one or several targets of an assignment; attrs allows those of a namespace.
func (p *parser) target(attrs bool) target {
	defer p.enter()()
	first := p.oneTarget(attrs)
	if !p.op(",") {
		return first
	}
	t := target{place: first.place, parts: []target{first}}
	for p.skip(tokenOperator, ",") {
		if p.cur().kind != tokenName && !p.op("(") || p.word("in") {
			break
		}
		t.parts = append(t.parts, p.oneTarget(attrs))
	}
	return t
}

func (p *parser) oneTarget(attrs bool) target {
	t := target{place: p.here()}
	if p.skip(tokenOperator, "(") {
		t = p.target(attrs)
		p.expect(tokenOperator, ")")
		return t
	}
	t.name = p.store()
	if attrs && p.skip(tokenOperator, ".") {
		t.attr = p.name()
		p.mention(t.name)
	}
	return t
}

// macro reads a signature, what follows it, and the body.
func (p *parser) macro(id string, then func()) *macroDef {
	m := &macroDef{name: id, uses: map[string]bool{}}
	loops := p.loops
	p.loops = 0
	p.uses = append(p.uses, m.uses)
	if id != "caller" || p.op("(") {
		p.expect(tokenOperator, "(")
		for !p.skip(tokenOperator, ")") {
			if len(m.params) > 0 {
				p.expect(tokenOperator, ",")
			}
			if p.op("*", "**") {
				syntax(p.cur().line, "%q in a signature is not implemented", p.cur().text)
			}
			m.params = append(m.params, p.store())
			if p.skip(tokenOperator, "=") {
				m.defaults = append(m.defaults, p.expression())
			} else if len(m.defaults) > 0 {
				syntax(p.cur().line, "parameter without a default after one with a default")
			}
		}
	}
	then()
	end := "endmacro"
	if id == "caller" {
		end = "endcall"
	}
	m.body = p.block(end)
	p.uses = p.uses[:len(p.uses)-1]
	p.loops = loops
	return m
}

func (p *parser) mention(id string) {
	if id == "caller" || id == "kwargs" || id == "varargs" {
		for _, u := range p.uses {
			u[id] = true
		}
	}
}

// tuple reads an expression, or several with commas between as a tuple. cond allows
// "a if b else c"; stop is a name that ends it.
func (p *parser) tuple(cond bool, stop ...string) expr {
	at := p.here()
	var items []expr
	comma := false
	for {
		if len(items) > 0 {
			if !p.skip(tokenOperator, ",") {
				break
			}
			comma = true
		}
		if k := p.cur().kind; k == tokenPrintEnd || k == tokenTagEnd || p.op(")") || len(stop) > 0 && p.word(stop...) {
			break
		}
		if cond {
			items = append(items, p.expression())
		} else {
			items = append(items, p.or())
		}
	}
	switch {
	case comma:
		return sequenceExpr{at, true, items}
	case len(items) == 0:
		p.unexpected("an expression")
	}
	return items[0]
}

func (p *parser) expression() expr {
	defer p.enter()()
	x := p.or()
	for p.word("if") {
		at := p.here()
		p.next()
		c := condExpr{place: at, yes: x, test: p.or()}
		if p.skip(tokenName, "else") {
			c.no = p.expression()
		}
		x = c
	}
	return x
}

// chain reads operands with any of some operators between, from the left.
func (p *parser) chain(kind tokenKind, operand func() expr, ops ...string) expr {
	x := operand()
	for p.is(kind, ops...) {
		t := p.next()
		x = binaryExpr{place(t.line), t.text, x, operand()}
		p.limit(&x)
	}
	return x
}

// limit bounds chains too, as a tree of them is as deep as they are long.
func (p *parser) limit(x *expr) {
	depth := 0
	for e, ok := (*x).(binaryExpr); ok; e, ok = e.a.(binaryExpr) {
		if depth++; depth > 10*maxDepth {
			syntax(p.cur().line, "more than %d operators in a chain", 10*maxDepth)
		}
	}
}

func (p *parser) or() expr  { return p.chain(tokenName, p.and, "or") }
func (p *parser) and() expr { return p.chain(tokenName, p.not, "and") }

func (p *parser) not() expr {
	if p.word("not") {
		defer p.enter()()
		at := p.here()
		p.next()
		return unaryExpr{at, "not", p.not()}
	}
	return p.compare()
}

func (p *parser) compare() expr {
	c := compareExpr{place: p.here(), first: p.sum()}
	for {
		switch {
		case p.op("==", "!=", "<", "<=", ">", ">="), p.word("in"):
			c.ops = append(c.ops, p.next().text)
		case p.word("not") && p.tokens[p.pos+1].kind == tokenName && p.tokens[p.pos+1].text == "in":
			p.pos += 2
			c.ops = append(c.ops, "not in")
		default:
			if c.ops == nil {
				return c.first
			}
			return c
		}
		c.rest = append(c.rest, p.sum())
	}
}

func (p *parser) sum() expr { return p.chain(tokenOperator, p.join, "+", "-") }

func (p *parser) join() expr {
	at := p.here()
	parts := []expr{p.product()}
	for p.skip(tokenOperator, "~") {
		parts = append(parts, p.product())
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return joinExpr{at, parts}
}

func (p *parser) product() expr {
	return p.chain(tokenOperator, p.power, "*", "/", "//", "%")
}

func (p *parser) power() expr {
	return p.chain(tokenOperator, func() expr { return p.unary(true) }, "**")
}

func (p *parser) unary(filters bool) expr {
	defer p.enter()()
	at := p.here()
	var x expr
	if p.op("-", "+") {
		op := p.next().text
		x = unaryExpr{at, op, p.unary(false)}
	} else {
		x = p.primary()
	}
	x = p.postfix(x)
	if filters {
		x = p.filterExpr(x)
	}
	return x
}

var constants = map[string]any{"true": true, "True": true, "false": false, "False": false, "none": nil, "None": nil}

func (p *parser) primary() expr {
	at := p.here()
	t := p.next()
	switch t.kind {
	case tokenName:
		if v, ok := constants[t.text]; ok {
			return constant{at, v}
		}
		p.mention(t.text)
		return name{at, t.text}
	case tokenString:
		s := t.text
		for p.cur().kind == tokenString {
			s += p.next().text
		}
		return constant{at, s}
	case tokenNumber:
		return constant{at, t.value}
	case tokenOperator:
		switch t.text {
		case "(":
			var x expr
			if p.op(")") {
				x = sequenceExpr{place: at, tuple: true}
			} else {
				x = p.tuple(true)
			}
			p.expect(tokenOperator, ")")
			return x
		case "[":
			l := sequenceExpr{place: at}
			for !p.skip(tokenOperator, "]") {
				if len(l.items) > 0 {
					p.expect(tokenOperator, ",")
				}
				if p.op("]") {
					continue
				}
				l.items = append(l.items, p.expression())
			}
			return l
		case "{":
			d := dictExpr{place: at}
			for !p.skip(tokenOperator, "}") {
				if len(d.keys) > 0 {
					p.expect(tokenOperator, ",")
				}
				if p.op("}") {
					continue
				}
				d.keys = append(d.keys, p.expression())
				p.expect(tokenOperator, ":")
				d.values = append(d.values, p.expression())
			}
			return d
		}
	}
	syntax(t.line, "unexpected %v (want an expression)", t)
	return nil
}

func (p *parser) postfix(x expr) expr {
	for n := 0; ; n++ {
		if n > maxDepth {
			syntax(p.cur().line, "more than %d attributes in a row", maxDepth)
		}
		at := p.here()
		switch {
		case p.op("("):
			x = callExpr{at, x, p.args()}
		case p.skip(tokenOperator, "."):
			switch t := p.next(); {
			case t.kind == tokenName:
				x = attrExpr{at, x, t.text}
			case t.kind == tokenNumber:
				if _, ok := t.value.(int64); !ok {
					syntax(t.line, "unexpected %v (want a name)", t)
				}
				x = itemExpr{at, x, constant{at, t.value}}
			default:
				syntax(t.line, "unexpected %v (want a name)", t)
			}
		case p.skip(tokenOperator, "["):
			key := p.subscript()
			if p.op(",") {
				syntax(p.cur().line, "an index of several parts is not implemented")
			}
			p.expect(tokenOperator, "]")
			x = itemExpr{at, x, key}
		default:
			return x
		}
	}
}

func (p *parser) subscript() expr {
	s := sliceExpr{place: p.here()}
	if !p.op(":") {
		s.parts[0] = p.expression()
		if !p.op(":") {
			return s.parts[0]
		}
	}
	for i := 1; i < 3 && p.skip(tokenOperator, ":"); i++ {
		if !p.op(":", "]", ",") {
			s.parts[i] = p.expression()
		}
	}
	return s
}

func (p *parser) args() (a callArgs) {
	p.expect(tokenOperator, "(")
	for first := true; !p.skip(tokenOperator, ")"); first = false {
		if !first {
			p.expect(tokenOperator, ",")
			if p.skip(tokenOperator, ")") {
				break
			}
		}
		t := p.cur()
		after := p.tokens[p.pos+1]
		switch {
		case p.op("*", "**"):
			syntax(t.line, "%q in a call is not implemented", t.text)
		case t.kind == tokenName && after.kind == tokenOperator && after.text == "=":
			if slices.Contains(a.names, t.text) {
				syntax(t.line, "argument %s is given twice", t.text)
			}
			p.pos += 2
			a.names, a.kw = append(a.names, t.text), append(a.kw, p.expression())
		case len(a.names) > 0:
			syntax(t.line, "positional argument after a keyword argument")
		default:
			a.pos = append(a.pos, p.expression())
		}
	}
	return a
}

func (p *parser) filterExpr(x expr) expr {
	for n := 0; ; n++ {
		if n > maxDepth {
			syntax(p.cur().line, "more than %d filters in a row", maxDepth)
		}
		switch {
		case p.op("|"):
			x = p.filters(x, false)
		case p.word("is"):
			x = p.test(x)
		case p.op("("):
			x = callExpr{p.here(), x, p.args()}
		default:
			return x
		}
	}
}

// dotted reads a name with dots.
func (p *parser) dotted() string {
	parts := []string{p.name()}
	for p.skip(tokenOperator, ".") {
		parts = append(parts, p.name())
	}
	return strings.Join(parts, ".")
}

// filters reads a chain of filters over x; inline means that the first has no "|".
func (p *parser) filters(x expr, inline bool) expr {
	for n := 0; inline || p.op("|"); n++ {
		if n > maxDepth {
			syntax(p.cur().line, "more than %d filters in a row", maxDepth)
		}
		if !inline {
			p.next()
		}
		inline = false
		f := filterExpr{place: p.here(), x: x, name: p.dotted()}
		checkFilter(f.at(), f.name)
		if p.op("(") {
			f.args = p.args()
		}
		x = f
	}
	return x
}

func (p *parser) test(x expr) expr {
	p.next()
	t := testExpr{place: p.here(), x: x, not: p.skip(tokenName, "not")}
	t.name = p.dotted()
	checkTest(t.at(), t.name)
	switch k := p.cur().kind; {
	case p.op("("):
		t.args = p.args()
	case k == tokenName && !p.word("else", "or", "and") || k == tokenString || k == tokenNumber || p.op("[", "{"):
		if p.word("is") {
			syntax(p.cur().line, "tests cannot be chained with is")
		}
		t.args.pos = []expr{p.postfix(p.primary())}
	}
	return t
}
