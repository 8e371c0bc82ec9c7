package ortadapter

import (
	"fmt"

	"github.com/seed-b982eded/graft/formats"
)

// describe names a pair of factors in messages, as they are stored.
func describe(a, b formats.Tensor) string {
	return fmt.Sprintf("A is %v, B is %v", a.Shape, b.Shape)
}
