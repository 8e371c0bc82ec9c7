package ortadapter

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"unicode"
	"unicode/utf8"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/safetensors"
	"github.com/seed-b982eded/graft/internal/filecopy"
)

// File is an adapter file that is open.
type File struct {
	// AdapterVersion and ModelVersion are numbers of the author's own; 0 where none were
	// given.
	AdapterVersion, ModelVersion int32
	// Parameters are in the order of the file. ONNX Runtime finds them by name.
	Parameters []formats.Tensor

	closer io.Closer
}

// Open opens an adapter file. Errors are [formats.ErrInput].
func Open(path string) (*File, error) {
	open, err := safetensors.OpenRegular(path)
	if err != nil {
		return nil, err
	}
	info, err := open.Stat()
	open.Close()
	if err != nil {
		return nil, &formats.Error{Class: formats.ErrInput, File: path, Err: formats.Cause(err)}
	}
	abs, err := filepath.Abs(path) // it may be opened again from another directory
	if err != nil {
		abs = path
	}
	src := filecopy.NewSource(path, info, func() (*os.File, error) { return safetensors.OpenRegular(abs) })
	f, err := read(src)
	if err != nil {
		src.Close()
		return nil, err
	}
	f.closer = src
	return f, nil
}

// Close closes the file. Parameters cannot be read after it.
func (f *File) Close() error { return f.closer.Close() }

// read verifies a file.
func read(src formats.SourceFile) (*File, error) {
	b := &buffer{r: src, size: src.Size(), left: formats.MaxHeaderBytes}
	f := &File{}
	if b.size > maxFileBytes {
		return nil, formats.Rejectf(src.Name(), "", "too large for an adapter file (got %d bytes, want at most %d)", b.size, maxFileBytes)
	}
	if b.size < 8 {
		return nil, formats.Rejectf(src.Name(), "", "no adapter file: too short (got %d bytes)", b.size)
	}
	head, err := b.bytes(0, 8, "the head")
	if err != nil {
		return nil, failure(src.Name(), "", err)
	}
	if !Is(head) {
		return nil, formats.Rejectf(src.Name(), "", "no adapter file: got identifier %s, want %q", formats.Quote(string(head[4:8])), identifier)
	}
	if err := f.readRoot(b, src); err != nil {
		return nil, failure(src.Name(), "", err)
	}
	return f, nil
}

func (f *File) readRoot(b *buffer, src formats.SourceFile) error {
	at, err := b.follow(0, "the root table")
	if err != nil {
		return err
	}
	root, err := b.table(at, adapterSlots, "the root table")
	if err != nil {
		return err
	}
	version, err := b.int32(&root, slotFormatVersion, "format_version")
	if err != nil {
		return err
	}
	if version != formatVersion {
		return fmt.Errorf("format_version %d is not supported (want %d)", version, formatVersion)
	}
	if f.AdapterVersion, err = b.int32(&root, slotAdapterVersion, "adapter_version"); err != nil {
		return err
	}
	if f.ModelVersion, err = b.int32(&root, slotModelVersion, "model_version"); err != nil {
		return err
	}
	list, err := b.child(&root, slotParameters, "parameters")
	if err != nil {
		return err
	}
	start, n, err := b.vector(list, 4, "parameters")
	if err != nil {
		return err
	}
	if n > formats.MaxTensors {
		return fmt.Errorf("parameters are too many (got %d, want at most %d)", n, formats.MaxTensors)
	}
	places := make([]int64, n) // at first, for the offsets lie together
	for i := range places {
		if places[i], err = b.follow(start+4*int64(i), fmt.Sprintf("parameter %d", i)); err != nil {
			return err
		}
	}
	names := make(map[string]bool, n)
	for i, at := range places {
		t, err := readParameter(b, src, at, fmt.Sprintf("parameter %d", i))
		if err != nil {
			return err
		}
		if names[t.Name] {
			return formats.Rejectf(src.Name(), t.Name, "duplicate name")
		}
		names[t.Name] = true
		f.Parameters = append(f.Parameters, t)
	}
	return nil
}

// readParameter verifies one parameter. ONNX Runtime too refuses one without a name and
// one without dimensions.
func readParameter(b *buffer, src formats.SourceFile, at int64, what string) (formats.Tensor, error) {
	t := formats.Tensor{}
	p, err := b.table(at, parameterSlots, what)
	if err != nil {
		return t, err
	}
	if at, err = b.child(&p, slotName, "name"); err != nil {
		return t, err
	}
	if t.Name, err = b.text(at, "the name of "+what); err != nil {
		return t, err
	}
	if err := checkName(t.Name); err != nil {
		return t, fmt.Errorf("%s: %w", what, err)
	}
	fail := func(err error) (formats.Tensor, error) { return t, failure(src.Name(), t.Name, err) }
	if at, err = b.child(&p, slotDims, "dims"); err != nil {
		return fail(err)
	}
	if t.Shape, err = b.ints(at, formats.MaxRank, "dims"); err != nil {
		return fail(err)
	}
	if len(t.Shape) == 0 {
		return fail(fmt.Errorf("dims are empty: ONNX Runtime takes no scalars"))
	}
	number, err := b.int32(&p, slotDataType, "data_type")
	if err != nil {
		return fail(err)
	}
	var ok bool
	if t.DType, ok = dataTypes[number]; !ok {
		return fail(fmt.Errorf("data_type %d is not supported in an adapter", number))
	}
	want, err := formats.ByteSize(t.DType, t.Shape)
	if err != nil {
		return fail(err)
	}
	if at, err = b.child(&p, slotRawData, "raw_data"); err != nil {
		return fail(err)
	}
	start, n, err := b.vector(at, 1, "raw_data")
	if err != nil {
		return fail(err)
	}
	if n != want {
		return fail(fmt.Errorf("raw_data has %d bytes, but dims %v of %s take %d", n, t.Shape, t.DType, want))
	}
	t.Data = &filecopy.Section{File: src, Off: start, N: n, Tensor: t.Name}
	return t, nil
}

// checkName refuses names that no tool makes and that a message could not show.
func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the name is empty")
	case len(name) > formats.MaxNameBytes:
		return fmt.Errorf("name %s is too long (got %d bytes, want at most %d)", formats.Quote(name), len(name), formats.MaxNameBytes)
	case !utf8.ValidString(name):
		return fmt.Errorf("name %s is not UTF-8", formats.Quote(name))
	}
	for _, r := range name {
		if unicode.IsControl(r) {
			return fmt.Errorf("name %s has a control character", formats.Quote(name))
		}
	}
	return nil
}
