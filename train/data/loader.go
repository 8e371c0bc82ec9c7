package data

import (
	"slices"
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
	// Rows is the number of examples in a batch, or of packs of them; the last batch of an
	// epoch may have fewer.
	Rows int
	// PackLength, if it is not 0, packs examples of a language model together up to so many
	// tokens, so that batches have about the same size. Examples do not see one another:
	// each keeps a row of its own, and the model leaves padding out. What is packed
	// together is decided once, by best fit in order of decreasing length.
	PackLength int
	// GroupByLength shuffles so that examples of like length meet in a batch. It takes
	// Shuffle.
	GroupByLength bool
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
	// packs are the examples that go together, nil if each is alone.
	packs [][]int32

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
	if opt.GroupByLength && !opt.Shuffle {
		return nil, formats.Usagef("grouping by length is a way of shuffling")
	}
	l := &Loader{set: set, opt: opt, epoch: -1}
	if set.Task == Embedding {
		for _, e := range set.Examples {
			if len(e.More) != len(set.Examples[0].More) {
				return nil, formats.Rejectf(e.File, "", "%s: %d sentences, where %v has %d", e.Place(), len(e.More)+1, set.Examples[0].Origin, len(set.Examples[0].More)+1)
			}
		}
	}
	if opt.PackLength != 0 {
		var err error
		if l.packs, err = pack(set, opt.PackLength); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// units returns the number of what is shuffled: examples, or packs of them.
func (l *Loader) units() int {
	if l.packs != nil {
		return len(l.packs)
	}
	return len(l.set.Examples)
}

// size returns the tokens of a unit.
func (l *Loader) size(unit int32) int {
	if l.packs == nil {
		return l.set.Examples[unit].size()
	}
	n := 0
	for _, i := range l.packs[unit] {
		n += l.set.Examples[i].size()
	}
	return n
}

// Batches returns the number of batches in an epoch.
func (l *Loader) Batches() int {
	return (l.units() + l.opt.Rows - 1) / l.opt.Rows
}

// At returns batch i of an epoch, both counted from 0, as new memory. i must be
// less than [Loader.Batches].
func (l *Loader) At(epoch, i int) Batch {
	order := l.orderOf(epoch)
	from := i * l.opt.Rows
	to := min(from+l.opt.Rows, l.units())
	rows := make([]Example, 0, to-from)
	for at := from; at < to; at++ {
		unit := at
		if order != nil {
			unit = int(order[at])
		}
		if l.packs == nil {
			rows = append(rows, l.set.Examples[unit])
			continue
		}
		for _, index := range l.packs[unit] {
			rows = append(rows, l.set.Examples[index])
		}
	}
	b := stack(rows, l.opt.Pad, l.set.Task, l.set.Classes)
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
		l.order = permutation(newPCG(l.opt.Seed, streamShuffle, uint64(epoch)), l.units())
		if l.opt.GroupByLength {
			l.order = groupByLength(l.order, l.opt.Rows, l.size, newPCG(l.opt.Seed, streamGroup, uint64(epoch)))
		}
		l.epoch = epoch
	}
	return l.order
}

// stack lays examples under each other, padded on the right. For a language model the
// label of position t is the id of t+1, [models.Ignored] at a row's end and where that id is
// not learned. Other tasks have a class for each row, 0 or 1 for each class, or a number for
// each example.
func stack(examples []Example, pad int32, task Task, classes int) Batch {
	rows := examples
	if task == Embedding {
		rows = sequences(examples)
	}
	cols := 0
	for _, ex := range rows {
		cols = max(cols, len(ex.IDs))
	}
	b := Batch{
		Batch: models.Batch{
			Rows: len(rows), Cols: cols,
			IDs:  make([]int32, len(rows)*cols),
			Lens: make([]int, len(rows)),
		},
		Origins: make([]Origin, len(rows)),
	}
	for r, ex := range rows {
		ids := b.IDs[r*cols : (r+1)*cols]
		for t := copy(ids, ex.IDs); t < cols; t++ {
			ids[t] = pad
		}
		if ex.Types != nil {
			if b.Types == nil {
				b.Types = make([]int32, len(rows)*cols)
			}
			copy(b.Types[r*cols:], ex.Types)
		}
		b.Lens[r] = len(ex.IDs)
		b.Origins[r] = ex.Origin
	}
	switch task {
	case LanguageModel:
		b.Labels = nextTokens(rows, cols)
	case Classification:
		for _, ex := range examples {
			b.Labels = append(b.Labels, int32(ex.Target))
		}
	case MultiLabel:
		b.Targets = make([]float32, len(examples)*classes)
		for i, ex := range examples {
			for _, c := range ex.Classes {
				b.Targets[i*classes+int(c)] = 1
			}
		}
	default:
		for _, ex := range examples {
			b.Targets = append(b.Targets, float32(ex.Target))
		}
	}
	if task == Embedding {
		b.Texts = len(rows) / len(examples)
	}
	return b
}

// nextTokens returns the labels of a language model.
func nextTokens(rows []Example, cols int) []int32 {
	all := make([]int32, len(rows)*cols)
	for i := range all {
		all[i] = models.Ignored
	}
	for r, ex := range rows {
		labels := all[r*cols : (r+1)*cols]
		for _, span := range ex.learned() {
			copy(labels[span.From-1:], ex.IDs[span.From:span.To])
		}
	}
	return all
}

// sequences gives each sequence of an example a row: first all the first ones, then all the
// second ones, and so on.
func sequences(examples []Example) []Example {
	rows := slices.Clip(examples)
	for i := range examples[0].More {
		for _, ex := range examples {
			ex.IDs = ex.More[i]
			rows = append(rows, ex)
		}
	}
	return rows
}
