package interop

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/patch/kernel"
)

// narrowChunk is how many float32 one digest of check_narrow.py is of.
const narrowChunk = 1 << 24

// TestNarrowEveryFloat32 takes all 2³² float32 to BF16 and F16 as convert does, and as
// merging does when it adds them to zeros, and compares with PyTorch.
func TestNarrowEveryFloat32(t *testing.T) {
	full(t)
	lines := strings.Split(strings.TrimSpace(python(t, genPython, nil, "check_narrow.py")), "\n")
	if len(lines) != 512 {
		t.Fatalf("%d digests, want 512", len(lines))
	}
	next := make(chan string)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			n := newNarrowing()
			for line := range next {
				if err := n.check(line); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, line := range lines {
		next <- line
	}
	close(next)
	wg.Wait()
	t.Logf("all float32 narrow like PyTorch's, by conversion and by merging with the engine %s", kernel.Engine())
}

// narrowing holds the buffers for a piece of a chunk.
type narrowing struct {
	src               []byte
	values, one       []float32
	zeros             []byte
	converted, merged []byte
}

const narrowPiece = 1 << 15

func newNarrowing() *narrowing {
	return &narrowing{
		src: make([]byte, 4*narrowPiece), values: make([]float32, narrowPiece), one: []float32{1},
		zeros:     bytes.Repeat([]byte{0, 0x80}, narrowPiece), // −0, which changes no number that it is added to
		converted: make([]byte, 2*narrowPiece), merged: make([]byte, 2*narrowPiece),
	}
}

// check narrows the chunk of a line of check_narrow.py.
func (n *narrowing) check(line string) error {
	var name, want string
	var chunk uint32
	if _, err := fmt.Sscan(line, &name, &chunk, &want); err != nil {
		return fmt.Errorf("%q: %v", line, err)
	}
	d, nan := formats.BF16, uint16(0x7fc0)
	if name == "F16" {
		d, nan = formats.F16, 0x7e00
	}
	sum := sha256.New()
	for first := chunk * narrowChunk; ; first += narrowPiece {
		if err := n.piece(first, d, nan); err != nil {
			return err
		}
		sum.Write(n.converted)
		if (first+narrowPiece)%narrowChunk == 0 {
			break
		}
	}
	if got := fmt.Sprintf("%x", sum.Sum(nil)); got != want {
		return fmt.Errorf("%s of %08x and the %d after it: got the digest %s, PyTorch's is %s", name, chunk*narrowChunk, narrowChunk-1, got, want)
	}
	return nil
}

// piece narrows the float32 from a pattern on, both ways, and checks that NaNs become quiet
// NaNs of the same sign and that the ways agree. Then it makes all NaNs the given one.
func (n *narrowing) piece(first uint32, d formats.DType, nan uint16) error {
	for i := range uint32(narrowPiece) {
		binary.LittleEndian.PutUint32(n.src[4*i:], first+i)
		n.values[i] = math.Float32frombits(first + i)
	}
	kernel.Convert(n.converted, d, n.src, formats.F32, false)
	kernel.Merge(n.merged, kernel.Block{Src: n.zeros, DType: d, Cols: narrowPiece},
		[]kernel.Update[float32]{{Left: n.one, Right: n.values, R: 1, Scale: 1}}, false)
	if first == 1<<31 {
		n.merged[1] |= 0x80 // a product that is −0 is added to a sum that begins with +0
	}
	for i := range uint32(narrowPiece) {
		bits := first + i
		if bits&0x7fffffff <= 0x7f800000 {
			if first&0x7fffffff <= 0x7f800000-narrowPiece {
				break // no NaN follows
			}
			continue
		}
		got := binary.LittleEndian.Uint16(n.converted[2*i:])
		if got&nan != nan || uint32(got>>15) != bits>>31 {
			return fmt.Errorf("%s of the NaN %08x is %04x, no quiet NaN of its sign", d, bits, got)
		}
		// A merge stops at a NaN, whatever it looks like.
		binary.LittleEndian.PutUint16(n.converted[2*i:], nan)
		binary.LittleEndian.PutUint16(n.merged[2*i:], nan)
	}
	if !bytes.Equal(n.converted, n.merged) {
		for i := 0; i < len(n.merged); i += 2 {
			if c, m := n.converted[i:i+2], n.merged[i:i+2]; !bytes.Equal(c, m) {
				return fmt.Errorf("%s of %08x: converted to %x, merged to %x", d, first+uint32(i/2), c, m)
			}
		}
	}
	return nil
}
