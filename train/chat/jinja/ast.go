package jinja

// Expressions.
type (
	expr interface{ at() int } // the line it is on

	place int // embedded in all nodes

	constant struct {
		place
		value any
	}
	name struct {
		place
		id string
	}
	sequenceExpr struct {
		place
		tuple bool
		items []expr
	}
	dictExpr struct {
		place
		keys, values []expr
	}
	unaryExpr struct {
		place
		op string // "-", "+", "not"
		x  expr
	}
	binaryExpr struct {
		place
		op   string
		a, b expr
	}
	joinExpr struct { // a ~ b ~ c
		place
		parts []expr
	}
	compareExpr struct { // a < b < c
		place
		first expr
		ops   []string
		rest  []expr
	}
	condExpr struct {
		place
		test, yes, no expr // no may be nil
	}
	attrExpr struct {
		place
		x    expr
		name string
	}
	itemExpr struct {
		place
		x, key expr
	}
	sliceExpr struct { // the key of an itemExpr
		place
		parts [3]expr // start, stop, step; may be nil
	}
	callExpr struct {
		place
		f    expr
		args callArgs
	}
	filterExpr struct {
		place
		x    expr // nil in a filter block
		name string
		args callArgs
	}
	testExpr struct {
		place
		x    expr
		name string
		args callArgs
		not  bool
	}
)

type callArgs struct {
	pos   []expr
	names []string
	kw    []expr
}

func (p place) at() int { return int(p) }

// Statements.
type (
	stmt interface{ at() int }

	textStmt struct {
		place
		text string
	}
	printStmt struct {
		place
		x expr
	}
	ifStmt struct {
		place
		test      expr
		body, alt []stmt
	}
	forStmt struct {
		place
		target    target
		iter      expr
		test      expr // may be nil
		recursive bool
		body, alt []stmt
	}
	setStmt struct {
		place
		target target
		x      expr
	}
	setBlock struct {
		place
		target target
		filter expr // may be nil; a chain over a nil expression
		body   []stmt
	}
	macroStmt struct {
		place
		macro *macroDef
	}
	callStmt struct {
		place
		call  callExpr
		block *macroDef
	}
	filterBlock struct {
		place
		filter expr
		body   []stmt
	}
	withStmt struct {
		place
		targets []target
		values  []expr
		body    []stmt
	}
	generationStmt struct {
		place
		body []stmt
	}
	jumpStmt struct {
		place
		jump jump
	}
)

// target is what is assigned to: a name, an attribute of a namespace, or several targets.
type target struct {
	place
	name, attr string
	parts      []target
}

type macroDef struct {
	name     string
	params   []string
	defaults []expr // of the last parameters
	body     []stmt
	// uses says which of caller, kwargs and varargs the body mentions: a macro takes
	// more than its parameters only for these.
	uses map[string]bool
}
