package data

import (
	"sync"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/models"
)

// Batch is what the model takes, with the lines that its rows came from.
type Batch struct {
	models.Batch
	Origins []Origin // one a row
}

// LoaderOptions says how examples are put together.
type LoaderOptions struct {
	// Rows is the number of examples in a batch; the last batch of an epoch may have
	// fewer.
	Rows int
	// Pad fills rows up to the longest of the batch. Any id of the vocabulary does,
	// as no label points at it and attention looks back only.
	Pad int32
	// Shuffle gives each epoch its own order, which Seed determines. Without it the
	// order is that of the set, as evaluation wants it.
	Shuffle bool
	// Seed also gives each batch of each epoch a Seed of its own, for dropout.
	Seed uint64
}

// maxRows bounds a batch; its rows are in memory together.
const maxRows = 1 << 20

// Loader cuts a set into batches. Any batch of any epoch can be had at any time, so
// that training may start in the middle. It is safe for concurrent use.
type Loader struct {
	set *Set
	opt LoaderOptions

	mu    sync.Mutex
	epoch int // of order
	order []int32
}

// NewLoader returns a loader over the set, which must have examples; it does not
// copy them.
func NewLoader(set *Set, opt LoaderOptions) (*Loader, error) {
	if opt.Rows < 1 || opt.Rows > maxRows {
		return nil, formats.Usagef("batch size (got %d, want 1 to %d)", opt.Rows, maxRows)
	}
	if opt.Pad < 0 {
		return nil, formats.Usagef("padding id (got %d, want an id of the vocabulary)", opt.Pad)
	}
	if len(set.Examples) == 0 {
		return nil, formats.Usagef("no examples to make batches of")
	}
	return &Loader{set: set, opt: opt, epoch: -1}, nil
}

// Batches returns the number of batches in an epoch.
func (l *Loader) Batches() int {
	return (len(l.set.Examples) + l.opt.Rows - 1) / l.opt.Rows
}

// At returns batch i of an epoch, both counted from 0, as new memory. i must be
// less than [Loader.Batches].
func (l *Loader) At(epoch, i int) Batch {
	order := l.orderOf(epoch)
	from := i * l.opt.Rows
	to := min(from+l.opt.Rows, len(l.set.Examples))
	rows := make([]Example, 0, to-from)
	for at := from; at < to; at++ {
		index := at
		if order != nil {
			index = int(order[at])
		}
		rows = append(rows, l.set.Examples[index])
	}
	b := stack(rows, l.opt.Pad)
	b.Seed = batchSeed(l.opt.Seed, epoch, i)
	return b
}

// orderOf returns the order of an epoch, or nil for that of the set. The last one
// is kept, as batches are asked for epoch by epoch.
func (l *Loader) orderOf(epoch int) []int32 {
	if !l.opt.Shuffle {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epoch != epoch {
		l.order = permutation(newPCG(l.opt.Seed, streamShuffle, uint64(epoch)), len(l.set.Examples))
		l.epoch = epoch
	}
	return l.order
}

// stack lays examples under each other, padded on the right. The label of position
// t is the id of t+1, [models.Ignored] at a row's end and where that id is context.
func stack(rows []Example, pad int32) Batch {
	cols := 0
	for _, ex := range rows {
		cols = max(cols, len(ex.IDs))
	}
	b := Batch{
		Batch: models.Batch{
			Rows: len(rows), Cols: cols,
			IDs:    make([]int32, len(rows)*cols),
			Labels: make([]int32, len(rows)*cols),
			Lens:   make([]int, len(rows)),
		},
		Origins: make([]Origin, len(rows)),
	}
	for r, ex := range rows {
		ids := b.IDs[r*cols : (r+1)*cols]
		labels := b.Labels[r*cols : (r+1)*cols]
		for t := copy(ids, ex.IDs); t < cols; t++ {
			ids[t] = pad
		}
		for t := range labels {
			labels[t] = models.Ignored
			if next := t + 1; next < len(ex.IDs) && next >= ex.Context {
				labels[t] = ex.IDs[next]
			}
		}
		b.Lens[r] = len(ex.IDs)
		b.Origins[r] = ex.Origin
	}
	return b
}
