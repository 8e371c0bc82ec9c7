package ortadapter

import (
	"bytes"
	"errors"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

// FuzzRead reads whatever comes in: no panic, little memory, an error of the right class.
// What is accepted is written and read again with the same content.
func FuzzRead(f *testing.F) {
	for _, c := range bad {
		f.Add(changed(c.changes))
	}
	f.Add(small())
	for _, name := range []string{"types", "shapes", "none", "alpha-negative-peft"} {
		f.Add(load(f, filepath.Join(golden, name+".onnx_adapter")))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		file, err := readBytes(content)
		runtime.ReadMemStats(&after)
		// A parameter takes at least 4 bytes of the file, and here a few hundred.
		if got, most := after.TotalAlloc-before.TotalAlloc, uint64(1<<20+400*len(content)); got > most {
			t.Fatalf("%d bytes were taken for a file of %d", got, len(content))
		}
		if err != nil {
			var e *formats.Error
			if !errors.As(err, &e) || e.Class != formats.ErrInput || e.File != "f" {
				t.Fatalf("error %#v", err)
			}
			return
		}
		var total int64
		for _, x := range file.Parameters {
			total += x.Size()
		}
		if total > 1<<24 { // many that share data
			return
		}
		e, err := newEncoder("f", file.Parameters, file.AdapterVersion, file.ModelVersion)
		if err != nil {
			t.Fatal(err)
		}
		again, err := readBytes(join(t, e.parts()))
		if err != nil {
			t.Fatal(err)
		}
		if again.AdapterVersion != file.AdapterVersion || again.ModelVersion != file.ModelVersion || len(again.Parameters) != len(file.Parameters) {
			t.Fatalf("got %+v, want %+v", again, file)
		}
		for i, x := range file.Parameters {
			y := again.Parameters[i]
			if x.Name != y.Name || x.DType != y.DType || !slices.Equal(x.Shape, y.Shape) || !bytes.Equal(bytesOf(t, x), bytesOf(t, y)) {
				t.Fatalf("got %+v, want %+v", y, x)
			}
		}
		entries(file.Parameters, "f")
	})
}
