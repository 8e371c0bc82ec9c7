package formats_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

func TestSameBytes(t *testing.T) {
	tensor := func(name string, data []byte) formats.Tensor {
		return formats.Tensor{Name: name, DType: formats.U8, Shape: []int64{int64(len(data))}, Data: bytes.NewReader(data)}
	}
	long := bytes.Repeat([]byte("long"), 700_000) // three blocks
	other := bytes.Clone(long)
	other[len(other)-1]++
	read := int64(0)
	count := func(n int64) error { read += n; return nil }
	if same, err := formats.SameBytes("p", tensor("x", long), "q", tensor("y", bytes.Clone(long)), count); !same || err != nil || read != int64(len(long)) {
		t.Errorf("got %v, %v after %d bytes", same, err, read)
	}
	if same, err := formats.SameBytes("p", tensor("x", long), "q", tensor("y", other), nil); same || err != nil {
		t.Errorf("the last byte is another: got %v, %v", same, err)
	}
	if same, err := formats.SameBytes("p", tensor("x", nil), "q", tensor("y", nil), nil); !same || err != nil {
		t.Errorf("nothing: got %v, %v", same, err)
	}
	stop := errors.New("stop")
	if _, err := formats.SameBytes("p", tensor("x", long), "q", tensor("y", long), func(int64) error { return stop }); err != stop {
		t.Errorf("got %v", err)
	}
	short := tensor("y", long)
	short.Data = bytes.NewReader(long[:10])
	if _, err := formats.SameBytes("p", tensor("x", long), "q", short, nil); !errors.Is(err, formats.ErrInput) || !strings.Contains(err.Error(), `"q": tensor "y"`) {
		t.Errorf("got %v", err)
	}
}
