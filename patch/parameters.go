package patch

import (
	"strings"

	"github.com/seed-b982eded/graft/formats"
)

// Parameter returns whose parameter a tensor of the model's checkpoint is: the path of the
// module as transformers builds it, and the parameter's name in it.
func (m *Model) Parameter(tensor string) (module, param string) {
	i := strings.LastIndexByte(tensor, '.')
	if i < 0 {
		return "", tensor
	}
	return m.naming.inMemory(tensor[:i]), tensor[i+1:]
}

// Stored returns the tensor that holds a module's parameter.
func (m *Model) Stored(module, param string) (formats.Tensor, bool) {
	name := m.naming.stored(module)
	if name != "" {
		name += "."
	}
	return m.Checkpoint.Tensor(name + param)
}

// Tied reports whether the input embedding is the output head too.
func (m *Model) Tied() bool { return m.tied }

// TiedInput reports whether a module is the input embedding whose weight the output head
// shares.
func (m *Model) TiedInput(module string) bool { return m.tiedEnd(module) == tiedInput }

// AsDType returns a tensor of floats in another float dtype, each element rounded once when
// it is read. Reading an element that overflows is an error.
func AsDType(t formats.Tensor, dtype formats.DType) formats.Tensor {
	t.Data = asDType(t, dtype)
	t.DType = dtype
	return t
}
