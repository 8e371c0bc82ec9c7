package patch

import (
	"container/list"
	"runtime/debug"
	"sync"

	"github.com/seed-b982eded/graft/patch/kernel"
)

const (
	// factorBudget is how many bytes of right factors are held, in use or for the next
	// block. A target whose factors alone are larger is worked on alone.
	factorBudget = 64 << 20
	// collectBytes is how many bytes of dropped factors may wait for the collector. Left
	// to itself it would let the heap grow to twice what is in use.
	collectBytes = 16 << 20
)

// factors are the right factors of updates that are added together, in order.
type factors[T kernel.Number] struct {
	right     [][]T
	magnitude []T // that goes by row; nil if none
}

// factorCache keeps the right factors of the targets in work, so that each is read once
// and not once a block, and bounds their bytes, however many workers there are: who
// needs factors that are not there waits until others have released enough of theirs.
// The factors of updates that are added together come and go together, and a goroutine
// holds those of one such stage at a time, so somebody can always go on.
type factorCache struct {
	budget int64

	mu       sync.Mutex
	released sync.Cond
	stages   map[*part]*heldFactors // by a stage's first part
	idle     list.List              // those that nobody uses, least recently used first
	bytes    int64                  // of all stages
	dropped  int64                  // bytes since the last collection
}

// heldFactors are the factors of one stage.
type heldFactors struct {
	key     *part
	bytes   int64
	users   int
	idle    *list.Element // nil while there are users
	once    sync.Once
	factors any // factors[T]
	err     error
}

func newFactorCache(budget int64) *factorCache {
	c := &factorCache{budget: budget, stages: map[*part]*heldFactors{}}
	c.released.L = &c.mu
	return c
}

// withFactors calls do with the right factors of a stage, which stay valid until it
// returns. do must not ask for those of another stage.
func withFactors[T kernel.Number](c *factorCache, stage []*part, do func(factors[T]) error) error {
	h := c.acquire(stage[0], factorBytes[T](stage))
	defer c.release(h)
	h.once.Do(func() {
		c.collect()
		h.factors, h.err = readFactors[T](stage)
	})
	if h.err != nil {
		return h.err
	}
	return do(h.factors.(factors[T]))
}

func factorBytes[T kernel.Number](stage []*part) int64 {
	var n int64
	for _, p := range stage {
		n += p.rank() * p.rightCols()
		if p.magnitude != nil && !p.inOut {
			n += p.magnitude.Elements()
		}
	}
	return n * size[T]()
}

func readFactors[T kernel.Number](stage []*part) (factors[T], error) {
	pool := scratchPool[T]()
	s := pool.Get().(*scratch[T])
	defer pool.Put(s)
	var f factors[T]
	for _, p := range stage {
		v, err := readRight(p, 0, p.rightCols(), s)
		if err != nil {
			return f, err
		}
		f.right = append(f.right, v)
		if p.magnitude != nil && !p.inOut {
			if f.magnitude, err = readMagnitude(p, s); err != nil {
				return f, err
			}
		}
	}
	return f, nil
}

// acquire returns a stage's place in the cache, and waits for room to make one.
func (c *factorCache) acquire(key *part, bytes int64) *heldFactors {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if h, ok := c.stages[key]; ok {
			if h.idle != nil {
				c.idle.Remove(h.idle)
				h.idle = nil
			}
			h.users++
			return h
		}
		for c.bytes+bytes > c.budget && c.idle.Len() > 0 {
			h := c.idle.Remove(c.idle.Front()).(*heldFactors)
			c.drop(h)
		}
		if c.bytes+bytes <= c.budget || c.bytes == 0 {
			h := &heldFactors{key: key, bytes: bytes, users: 1}
			c.stages[key] = h
			c.bytes += bytes
			return h
		}
		c.released.Wait()
	}
}

// release gives back what acquire returned.
func (c *factorCache) release(h *heldFactors) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.users--; h.users > 0 {
		return
	}
	if h.err != nil {
		c.drop(h)
	} else {
		h.idle = c.idle.PushBack(h)
	}
	c.released.Broadcast()
}

func (c *factorCache) drop(h *heldFactors) {
	delete(c.stages, h.key)
	c.bytes -= h.bytes
	c.dropped += h.bytes
}

// collect frees the memory of dropped factors once there are enough of them. Next to
// reading as many again that costs nothing.
func (c *factorCache) collect() {
	c.mu.Lock()
	due := c.dropped >= collectBytes
	if due {
		c.dropped = 0
	}
	c.mu.Unlock()
	if due {
		debug.FreeOSMemory()
	}
}
