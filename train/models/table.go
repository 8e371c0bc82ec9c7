package models

import (
	"github.com/seed-b982eded/graft/internal/strictjson"
	"github.com/seed-b982eded/graft/train/autodiff"
)

// table is an embedding with the factor pairs that lie on it, whose B·A is the table's
// update the other way round.
type table struct {
	path     string
	weight   *autodiff.Value // rows × width
	rows     int
	width    int
	padding  int32 // the row that is never learned; −1 for none
	branches []*branch
}

// apply returns the rows that ids name. There is no dropout here, as in PEFT.
func (e *table) apply(t *autodiff.Tape, ids []int32) *autodiff.Value {
	y := t.Lookup(e.weight, ids, e.padding)
	for _, b := range e.branches {
		t.LookupLoRA(y, ids, b.a, b.b, b.scale, e.padding)
		if b.magnitude != nil {
			y = t.ScaleColumns(y, b.magnitude, b.columnNorms(e.weight))
		}
	}
	return y
}

// noPadding is the padding of tables whose rows are all learned.
const noPadding = -1

// findTable looks up an embedding.
func (h *host) findTable(w *weights, path string, into *table, rows, width int, padding int32) {
	*into = table{path: path, rows: rows, width: width, padding: padding}
	w.matrix(&into.weight, path+".weight", rows, width)
	h.tables = append(h.tables, into)
	h.add(path, "weight", &into.weight)
}

// padding reads pad_token_id, whose row in the table of tokens gets no gradient in
// PyTorch. A negative number counts from the end there; a null is none, and so is what
// lies outside of the table.
func (o *options) padding(vocabulary, fallback int) int32 {
	id := int64(fallback)
	if o.has("pad_token_id") {
		n, ok := o.doc.Get("pad_token_id").(strictjson.Number)
		if !ok {
			return noPadding
		}
		var err error
		if id, err = n.Int(); err != nil {
			return noPadding
		}
		if id < 0 {
			id += int64(vocabulary)
		}
	}
	if id < 0 || id >= int64(vocabulary) {
		return noPadding
	}
	return int32(id)
}
