package patch

import (
	"fmt"
	"io"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// param is a tensor of a module: its weight, its bias.
type param struct {
	formats.Tensor
	inOut bool // stored the other way round than in PyTorch
}

// params returns the tensors that hold a module's parameter, such as "weight" or "bias".
func (m *Model) params(module, name string) []param {
	if !m.graph {
		if t, ok := m.Checkpoint.Tensor(m.naming.stored(module) + "." + name); ok {
			return []param{{Tensor: t}}
		}
		return nil
	}
	var out []param
	for _, s := range m.sitesOf(module) {
		switch {
		case s.Outs > 0:
		case name == "weight":
			out = append(out, param{s.Weight, s.InOut && s.Kind != Embedding})
		case name == "bias" && s.Bias.Data != nil:
			out = append(out, param{Tensor: s.Bias})
		}
	}
	return out
}

// spread returns the update of a whole weight that changes only the outputs of a site: B
// has rows of zeros for the others.
func spread(u *adapter.LowRank, site Site) (*adapter.LowRank, error) {
	in, out := site.InOutSize()
	if len(u.B.Shape) != 2 || len(u.A.Shape) != 2 || u.B.Shape[0] != site.Outs {
		return nil, fmt.Errorf("shapes do not fit the %d outputs from %d on of %s: ΔW would be %v (got A %v, B %v, want %v)",
			site.Outs, site.First, formats.Quote(site.Weight.Name), u.Shape(), u.A.Shape, u.B.Shape, []int64{site.Outs, in})
	}
	wide := *u
	size := u.B.Shape[1] * u.B.DType.Bits() / 8
	wide.B.Shape = []int64{out, u.B.Shape[1]}
	wide.B.Data = &padded{u.B.Data, site.First * size, u.B.Size(), out * size}
	return &wide, nil
}

// padded is data with zeros around it.
type padded struct {
	r            io.ReaderAt
	at, n, total int64
}

func (p *padded) ReadAt(buf []byte, off int64) (int, error) {
	if off < 0 || off > p.total {
		return 0, io.EOF
	}
	want := len(buf)
	buf = buf[:min(int64(want), p.total-off)]
	clear(buf)
	from, to := max(off, p.at), min(off+int64(len(buf)), p.at+p.n)
	if from < to {
		if err := formats.ReadFullAt(p.r, buf[from-off:to-off], from-p.at); err != nil {
			return 0, err
		}
	}
	if len(buf) < want {
		return len(buf), io.EOF
	}
	return len(buf), nil
}

// negated reads numbers with the other sign.
type negated struct{ t formats.Tensor }

func (n negated) ReadAt(p []byte, off int64) (int, error) {
	done, err := n.t.Data.ReadAt(p, off)
	size := n.t.DType.Bits() / 8
	for i := size - 1 - off%size; i < int64(done); i += size { // the last byte has the sign
		p[i] ^= 0x80
	}
	return done, err
}
