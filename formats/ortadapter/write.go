package ortadapter

import (
	"context"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/publish"
)

// WriteOptions of [Write] and [WriteParameters]. The zero value is good.
type WriteOptions struct {
	// Names is how [Write] names factors; [Olive] when empty.
	Names Names
	// AdapterVersion and ModelVersion are numbers of the author's own.
	AdapterVersion, ModelVersion int32
	// Force allows replacing a file that exists.
	Force bool
	// NoSync leaves out fsync: faster, and not safe against power loss.
	NoSync bool
}

// WriteParameters writes tensors into a file that appears at path whole or not at all.
// Each is pulled in blocks. It fails with [formats.ErrOutput] when the file exists, would
// have 2 GiB or more, or holds what ONNX Runtime would not read: a scalar, a type that
// it does not take, a name twice.
func WriteParameters(ctx context.Context, path string, params []formats.Tensor, opts WriteOptions) error {
	e, err := newEncoder(path, params, opts.AdapterVersion, opts.ModelVersion)
	if err != nil {
		return err
	}
	return publish.Write(ctx, publish.Set{Layout: publish.OneFile, Files: []publish.File{e.fileOf("")}}, path, publish.Options{
		// A factor that is turned is read once for each block: one is all of many factors.
		BlockOptions: publish.BlockOptions{BlockBytes: 4 << 20}, Force: opts.Force, NoSync: opts.NoSync,
	})
}

func (e *encoder) fileOf(name string) publish.File {
	return publish.File{Name: name, Size: e.size, Parts: func() ([]publish.Part, error) { return e.parts(), nil }}
}

// FileOf describes the file that [Write] makes of an adapter, to publish it with others.
func FileOf(a *adapter.Adapter, name string, opts WriteOptions) (publish.File, error) {
	params, err := parameters(a, opts.Names)
	if err != nil {
		return publish.File{}, err
	}
	e, err := newEncoder(name, params, opts.AdapterVersion, opts.ModelVersion)
	if err != nil {
		return publish.File{}, err
	}
	return e.fileOf(name), nil
}
