package hf

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/safetensors"
)

// layoutOf describes shards: "name[tensors]" each.
func layoutOf(c *formats.Checkpoint) string {
	var out []string
	for _, s := range c.Shards() {
		var names []string
		for _, x := range s.Tensors {
			names = append(names, x.Name)
		}
		out = append(out, s.Name+fmt.Sprint(names))
	}
	return strings.Join(out, " ")
}

// sized returns a checkpoint with a tensor of each size, named a, b, …, dealt out to
// shards of two.
func sized(t testing.TB, layout formats.Layout, sizes ...int64) *formats.Checkpoint {
	t.Helper()
	var shards []formats.Shard
	for i, n := range sizes {
		if i%2 == 0 {
			shards = append(shards, formats.Shard{Name: fmt.Sprintf("s%d", i/2), Metadata: []formats.MetadataEntry{{Key: "n", Value: fmt.Sprint(i / 2)}}})
		}
		s := &shards[len(shards)-1]
		s.Tensors = append(s.Tensors, formats.Tensor{Name: string(rune('a' + i)), DType: formats.U8, Shape: []int64{n}, Data: strings.NewReader(strings.Repeat("x", int(n)))})
	}
	c, err := formats.NewCheckpoint(t.TempDir(), layout, shards, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustReshard(t testing.TB, c *formats.Checkpoint, maxBytes int64) *formats.Checkpoint {
	t.Helper()
	out, err := Reshard(c, maxBytes)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestReshardCuts(t *testing.T) {
	name := func(i, n int) string { return fmt.Sprintf("model-%05d-of-%05d.safetensors", i, n) }
	for _, c := range []struct {
		sizes []int64
		max   int64
		want  string
	}{
		{[]int64{1, 2, 3}, 6, singleName + "[a b c]"},
		{[]int64{1, 2, 3}, 1 << 62, singleName + "[a b c]"},
		{[]int64{1, 2, 3}, 5, name(1, 2) + "[a b] " + name(2, 2) + "[c]"},
		{[]int64{1, 2, 3}, 3, name(1, 2) + "[a b] " + name(2, 2) + "[c]"},
		{[]int64{1, 2, 3}, 2, name(1, 3) + "[a] " + name(2, 3) + "[b] " + name(3, 3) + "[c]"},
		{[]int64{9, 1, 1}, 2, name(1, 2) + "[a] " + name(2, 2) + "[b c]"},
		{[]int64{1, 9, 1}, 2, name(1, 3) + "[a] " + name(2, 3) + "[b] " + name(3, 3) + "[c]"},
		{[]int64{1, 1, 9}, 2, name(1, 2) + "[a b] " + name(2, 2) + "[c]"},
		{[]int64{0, 0, 2, 0, 0}, 2, singleName + "[a b c d e]"},
		{[]int64{0, 3, 0}, 2, name(1, 3) + "[a] " + name(2, 3) + "[b] " + name(3, 3) + "[c]"},
		{[]int64{7}, 1, singleName + "[a]"},
		{nil, 1, singleName + "[]"},
	} {
		got := mustReshard(t, sized(t, formats.Directory, c.sizes...), c.max)
		if layoutOf(got) != c.want || got.Layout() != formats.Directory {
			t.Errorf("%v into %d: got %s, want %s", c.sizes, c.max, layoutOf(got), c.want)
		}
	}
	for _, max := range []int64{0, -1} {
		_, err := Reshard(sized(t, formats.Directory, 1), max)
		checkError(t, err, formats.ErrUsage, "room for at least one byte")
	}
	_, err := Reshard(sized(t, formats.Directory, slices.Repeat([]int64{1}, 20)...), 1)
	if err != nil {
		t.Error(err)
	}
}

func TestReshardTooMany(t *testing.T) {
	tensors := make([]formats.Tensor, formats.MaxShards+1)
	for i := range tensors {
		tensors[i] = formats.Tensor{Name: fmt.Sprint(i), DType: formats.U8, Shape: []int64{1}}
	}
	c, err := formats.NewCheckpoint("x", formats.Directory, []formats.Shard{{Name: "s", Tensors: tensors}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Reshard(c, 1)
	checkError(t, err, formats.ErrUsage, "would be too many (got 100001, want at most 100000)")
	if got := mustReshard(t, c, 2); len(got.Shards()) != 50_001 || got.Shards()[9].Name != "model-00010-of-50001.safetensors" {
		t.Errorf("got %d shards, %s", len(got.Shards()), got.Shards()[9].Name)
	}
}

func TestReshardMetadata(t *testing.T) {
	c := sized(t, formats.Directory, 1, 1, 1, 1, 1, 1) // s0: a b, s1: c d, s2: e f
	var got []string
	for _, s := range mustReshard(t, c, 4).Shards() {
		got = append(got, fmt.Sprint(s.Metadata))
	}
	if want := []string{"[{n 0}]", "[{n 2}]"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	empty, err := formats.NewCheckpoint("x", formats.Directory, []formats.Shard{{Name: "s", Metadata: []formats.MetadataEntry{{Key: "k"}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s := mustReshard(t, empty, 1).Shards(); len(s) != 1 || len(s[0].Metadata) != 1 {
		t.Errorf("got %+v", s)
	}
}

// TestReshardWrites goes from each kind of layout to each other and reads the result.
func TestReshardWrites(t *testing.T) {
	oddIndex := `{"metadata":{"total_size":9,"more":[1]},"weight_map":{"a":"` + shard1 + `","b":"` + shard1 + `","c":"` + shard2 + `"},"x":"é"}`
	three := func(i int) string { return fmt.Sprintf("model-%05d-of-00003.safetensors", i) }
	for name, c := range map[string]struct {
		files map[string]string
		max   int64
		names []string // weights and index of the output
		index string   // what the index says beside total_size and weight_map
	}{
		"two to one":              {with(sharded(t), index0, oddIndex), 9, []string{singleName}, ""},
		"two to three":            {with(sharded(t), index0, oddIndex), 3, []string{three(1), three(2), three(3), index0}, `"more": [`},
		"two to two others":       {with(sharded(t), index0, oddIndex), 6, []string{shard1, shard2, index0}, `"x":"é"`},
		"one to three":            {map[string]string{"model.safetensors": weights(t, "a", "b", "c"), "config.json": "{}"}, 3, []string{three(1), three(2), three(3), index0}, ""},
		"one to one":              {map[string]string{"odd.safetensors": weights(t, "a", "b", "c"), "config.json": "{}"}, 9, []string{singleName}, ""},
		"one with an index":       {map[string]string{"x.safetensors": weights(t, "a", "b", "c"), "odd.safetensors.index.json": indexText(9, map[string]string{"a": "x.safetensors", "b": "x.safetensors", "c": "x.safetensors"})}, 9, []string{singleName}, ""},
		"an index of other names": {with(sharded(t), index0, "-", "odd.safetensors.index.json", oddIndex), 3, []string{three(1), three(2), three(3), index0}, `"more": [`},
		"an index elsewhere":      {with(sharded(t), "sub/other.safetensors.index.json", "-", "sub/x.json", "{}"), 9, []string{singleName}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			parent, dir := place(t, c.files)
			in := mustOpen(t, dir)
			out := filepath.Join(parent, "out")
			lazy := in.MapTensors(func(x formats.Tensor) formats.Tensor { // and merged
				if x.Name == "b" {
					x.Data = made{x.Data}
				}
				return x
			})
			if err := Write(t.Context(), mustReshard(t, lazy, c.max), out, WriteOptions{NoSync: true}); err != nil {
				t.Fatal(err)
			}
			got := mustOpen(t, out)
			var names []string
			for _, s := range got.Shards() {
				names = append(names, s.Name)
			}
			for _, f := range got.SideFiles() {
				if isIndex(f.Name) {
					names = append(names, f.Name)
					if text := load(t, filepath.Join(out, f.Name)); !strings.Contains(text, c.index) {
						t.Errorf("the index is %s, want it to have %s", text, c.index)
					}
				} else if load(t, filepath.Join(out, f.Name)) != load(t, filepath.Join(dir, f.Name)) {
					t.Errorf("%s differs", f.Name)
				}
			}
			if !slices.Equal(names, c.names) {
				t.Errorf("got %q, want %q", names, c.names)
			}
			for x := range lazy.Tensors() {
				y, _ := got.Tensor(x.Name)
				a, err1 := x.ReadAll()
				b, err2 := y.ReadAll()
				if err1 != nil || err2 != nil || string(a) != string(b) || y.DType != x.DType {
					t.Errorf("%s: got %x, want %x", x.Name, b, a)
				}
			}
			if len(got.SideFiles()) != len(in.SideFiles())+indexes(got)-indexes(in) {
				t.Errorf("side files %q, from %q", sideNames(got), sideNames(in))
			}
		})
	}
}

func indexes(c *formats.Checkpoint) (n int) {
	for _, f := range c.SideFiles() {
		if isIndex(f.Name) {
			n++
		}
	}
	return n
}

func TestReshardSingleFile(t *testing.T) {
	parent, _ := place(t, map[string]string{"../in.safetensors": weights(t, "a", "b", "c")})
	in, err := safetensors.Open(filepath.Join(parent, "in.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	whole := mustReshard(t, in, 100)
	if whole.Layout() != formats.SingleFile {
		t.Error("a single file that is not cut became a directory")
	}
	if err := Write(t.Context(), whole, filepath.Join(parent, "out.safetensors"), WriteOptions{}); err != nil || load(t, filepath.Join(parent, "out.safetensors")) != load(t, in.Path()) {
		t.Errorf("not cut, it differs: %v", err)
	}
	out := filepath.Join(parent, "out")
	if err := Write(t.Context(), mustReshard(t, in, 6), out, WriteOptions{Resume: true, ID: "x"}); err != nil {
		t.Fatal(err)
	}
	if got := layoutOf(mustOpen(t, out)); got != shard1+"[a b] "+shard2+"[c]" {
		t.Errorf("got %s", got)
	}
	want := indexText(9, map[string]string{"a": shard1, "b": shard1, "c": shard2}) + "\n"
	if got := load(t, filepath.Join(out, index0)); got != want {
		t.Errorf("got the index %s, want %s", got, want)
	}
	// And back again: the same bytes in another file.
	if err := Write(t.Context(), mustReshard(t, mustOpen(t, out), 9), filepath.Join(parent, "back"), WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if load(t, filepath.Join(parent, "back", singleName)) != load(t, in.Path()) {
		t.Error("cut and joined again, it differs")
	}
}
