package hf

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

func TestOutputApartFromInput(t *testing.T) {
	parent, dir := place(t, sharded(t))
	grow(t, parent, map[string]string{
		"to model": "->model", "to parent": "->.", "into model": "->model/new", "dangling": "->nowhere/at/all", "data.jsonl": "x", "adapter/adapter_config.json": "{}",
	})
	t.Chdir(parent)
	c := mustOpen(t, dir)
	before := everything(t, parent)
	for _, out := range []string{
		"model", "./model", "model/", "../" + filepath.Base(parent) + "/model", dir, "to parent/model", "to model", // the input
		"model/out", "model/a/b/c", "to model/out", "to parent/to model/x", // inside it
		parent, ".", "to parent", "..", // around it
		"data.jsonl", "adapter", "adapter/x", "adapter/adapter_config.json", // other inputs
	} {
		for _, force := range []bool{false, true} {
			err := Write(t.Context(), c, out, WriteOptions{Force: force, Inputs: []string{"data.jsonl", "adapter"}})
			checkError(t, err, formats.ErrUsage, "output "+formats.Quote(out)+" overlaps input")
		}
	}
	for _, out := range []string{"dangling", "into model", "none/out"} {
		checkError(t, Write(t.Context(), c, out, WriteOptions{Force: true}), formats.ErrOutput, "writing "+formats.Quote(out))
	}
	checkError(t, Write(t.Context(), c, "out", WriteOptions{Inputs: []string{"not there"}}), formats.ErrInput, "not there")
	if after := everything(t, parent); after != before {
		t.Errorf("before\n%safter\n%s", before, after)
	}
	// Names that only begin alike are apart.
	for _, out := range []string{"model2", "mode", "to parent/model-merged"} {
		if err := Write(t.Context(), c, out, WriteOptions{NoSync: true}); err != nil {
			t.Errorf("%s: %v", out, err)
		}
	}
}

func TestOutputThatExists(t *testing.T) {
	parent, dir := place(t, sharded(t))
	grow(t, parent, map[string]string{"full/x": "x", "empty/": "", "file": "content", "link": "->full", "link to nothing": "->nothing"})
	c := mustOpen(t, dir)
	before := everything(t, parent)
	for _, x := range []struct {
		out   string
		force bool
		want  string
	}{
		{"full", false, "it exists"},
		{"file", false, "it exists and is no directory"},
		{"file", true, "it exists and is no directory"},
		{"link", false, "symbolic link"},
		{"link", true, "symbolic link"},
		{"link to nothing", true, "symbolic link"},
		{"file/out", true, "not a directory"},
	} {
		err := Write(t.Context(), c, filepath.Join(parent, x.out), WriteOptions{Force: x.force})
		checkError(t, err, formats.ErrOutput, "writing "+formats.Quote(filepath.Join(parent, x.out)), x.want)
	}
	if after := everything(t, parent); after != before {
		t.Errorf("before\n%safter\n%s", before, after)
	}
	if err := Write(t.Context(), c, filepath.Join(parent, "empty"), WriteOptions{}); err != nil {
		t.Errorf("an empty directory: %v", err)
	}
	if got, want := everything(t, filepath.Join(parent, "empty")), everything(t, dir); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestStaleStagingIsRemoved(t *testing.T) {
	parent, dir := place(t, sharded(t))
	grow(t, parent, map[string]string{
		".out.graft-dead/model.safetensors": "half", ".out.graft-dead/sub/x": "x", // of a killed run
		".other.graft-dead/x": "x", ".outgraft-x/x": "x", "out.graft-x/x": "x", // not of this name
		".out.graft-file": "a file", ".out.graft-link": "->model",
	})
	if err := Write(t.Context(), mustOpen(t, dir), filepath.Join(parent, "out"), WriteOptions{NoSync: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(parent, ".out.graft-dead")); err == nil {
		t.Error("the staging of a dead run is still there")
	}
	for _, name := range []string{".other.graft-dead", ".outgraft-x", "out.graft-x", ".out.graft-file", ".out.graft-link", "model/" + shard1} {
		if _, err := os.Lstat(filepath.Join(parent, name)); err != nil {
			t.Errorf("%s is gone: %v", name, err)
		}
	}
}
