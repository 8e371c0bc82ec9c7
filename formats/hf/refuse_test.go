package hf

import (
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

func TestRefusedDirectories(t *testing.T) {
	good := sharded(t)
	// in returns the good model with shard named in the index for tensor c
	in := func(shard string) map[string]string {
		return with(good, index0, indexText(9, map[string]string{"a": shard1, "b": shard1, "c": shard}))
	}
	lfs := "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		// what a name in the index may not be
		{"21 up", in("../x"), []string{`tensor "c"`, `shard name "../x": not a plain file name`}},
		{"21 up and down", in("a/../../x"), []string{`tensor "c"`, "not a plain file name"}},
		{"21 absolute", in("/etc/passwd"), []string{`tensor "c"`, `"/etc/passwd"`, "not a plain file name"}},
		{"21 drive", in(`C:\x`), []string{"not a plain file name"}},
		{"21 drive alone", in(`C:x`), []string{"not a plain file name"}},
		{"21 backslash", in(`a\b`), []string{"not a plain file name"}},
		{"21 below", in("a/b"), []string{"not a plain file name"}},
		{"21 empty", in(""), []string{"not a plain file name"}},
		{"21 dot", in("."), []string{"not a plain file name"}},
		{"21 dots", in(".."), []string{"not a plain file name"}},
		{"21 NUL", in("a\x00b"), []string{`"a\x00b"`, "not a plain file name"}},
		{"21 long", with(in(strings.Repeat("n", 5000)), shard2, "-"), []string{"name too long"}},
		{"21 number", with(good, index0, `{"weight_map":{"a":1}}`), []string{`tensor "a"`, "weight_map must name a file (got a number)"}},

		// what may not lie there
		{"22 missing", with(good, shard2, "-"), []string{shard2, "no such file"}},
		{"22 a directory", with(good, shard2, "-", shard2+"/", ""), []string{shard2, "not a regular file"}},
		{"22 a device", with(good, shard2, "->/dev/zero"), []string{shard2, "leads out of the model's directory"}},
		{"23 a link out", with(good, shard2, "->/etc/passwd"), []string{shard2, "leads out of the model's directory"}},
		{"23 a link up", with(good, shard2, "->../elsewhere", "../elsewhere", weights(t, "c")), []string{shard2, "leads out of the model's directory"}},
		{"23 a link through a link", with(good, shard2, "->x", "x", "->../elsewhere", "../elsewhere", weights(t, "c")), []string{shard2, "leads out of the model's directory"}},
		{"23 a dangling link", with(good, shard2, "->nothing"), []string{shard2, "leads nowhere"}},
		{"23 a circle", with(good, shard2, "->"+shard2), []string{shard2}},
		{"23 the index is a link out", with(good, index0, "->/etc/passwd"), []string{index0, "leads out"}},
		{"23 a side file is a link out", with(good, "vocab.txt", "->/etc/passwd"), []string{"vocab.txt", "leads out"}},
		{"23 a linked folder", with(good, "folder", "->real", "real/x", "x"), []string{"folder", "not a regular file"}},

		// the index itself
		{"24 cut short", with(good, index0, `{"weight_map":{"a"`), []string{index0, "unexpected end"}},
		{"24 twice", with(good, index0, `{"weight_map":{"a":"x","a":"y"}}`), []string{index0, `duplicate name "a"`}},
		{"24 two maps", with(good, index0, `{"weight_map":{},"weight_map":{}}`), []string{index0, `duplicate name "weight_map"`}},
		{"24 array", with(good, index0, `[]`), []string{index0, "must be an object (got an array)"}},
		{"24 no map", with(good, index0, `{}`), []string{index0, "weight_map must be an object (got null)"}},
		{"24 map is a list", with(good, index0, `{"weight_map":[]}`), []string{"weight_map must be an object (got an array)"}},
		{"24 empty map", with(good, index0, `{"weight_map":{}}`), []string{"names no file"}},
		{"24 not UTF-8", with(good, index0, "{\"weight_map\":{\"\xff\":\"x\"}}"), []string{"invalid UTF-8"}},
		{"24 deep", with(good, index0, strings.Repeat("[", 100_000)), []string{"nested deeper"}},

		// index and files disagree
		{"only in the index", with(good, index0, indexText(9, map[string]string{"a": shard1, "b": shard1, "c": shard2, "d": shard2})),
			[]string{index0, `tensor "d"`, `the index says it is in "` + shard2 + `", but it is not there`}},
		{"only in a shard", with(good, index0, indexText(9, map[string]string{"a": shard1, "c": shard2})),
			[]string{index0, `tensor "b"`, `it is in "` + shard1 + `", but the index does not list it`}},
		{"in the wrong shard", with(good, index0, indexText(9, map[string]string{"a": shard1, "b": shard2, "c": shard2})),
			[]string{index0, `tensor "b"`, `it is in "` + shard1 + `", but the index says "` + shard2 + `"`}},
		{"in both shards", with(good, shard2, weights(t, "c", "b")), []string{`tensor "b"`}},
		{"a stray shard", with(good, "model-00003-of-00003.safetensors", weights(t, "d")), []string{index0, "does not name", "model-00003-of-00003.safetensors"}},
		{"25 a shard cut short", with(good, shard2, good[shard2][:len(good[shard2])-1]), []string{shard2, "truncated: 1 bytes are missing"}},
		{"an empty shard", with(good, shard2, ""), []string{shard2, "too short"}},
		{"LFS pointers", with(good, shard1, lfs), []string{shard1, "a Git LFS pointer"}},

		// which weights?
		{"a file beside an index", with(good, "model.safetensors", weights(t, "a")), []string{"more than one set of weights", index0, "model.safetensors"}},
		{"two indexes", with(good, "other.safetensors.index.json", good[index0]), []string{"more than one set of weights"}},
		{"two files", map[string]string{"a.safetensors": weights(t, "a"), "b.safetensors": weights(t, "b")}, []string{"more than one set of weights", `"a.safetensors" "b.safetensors"`}},
		{"shards without index", with(good, index0, "-"), []string{"more than one set of weights"}},
		{"nothing", map[string]string{"config.json": "{}"}, []string{"no safetensors file in it"}},
		{"nothing at all", map[string]string{}, []string{"no safetensors file in it"}},
		{".bin only", map[string]string{"pytorch_model.bin": "x"}, []string{"no safetensors file in it"}},
		{"an adapter", map[string]string{"adapter_config.json": "{}", "adapter_model.safetensors": weights(t, "a")}, []string{"it holds an adapter and no model"}},
		{"an LFS pointer", map[string]string{"model.safetensors": lfs}, []string{"model.safetensors", "a Git LFS pointer"}},
		{"a pickle", map[string]string{"model.safetensors": "\x80\x02}q\x00."}, []string{"model.safetensors"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := tree(t, c.files)
			_, err := Open(dir)
			checkError(t, err, formats.ErrInput, append(c.want, "reading ")...)
			if err != nil && strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("not one line: %q", err)
			}
		})
	}
}

func TestHints(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"bin":     {map[string]string{"pytorch_model.bin": "x"}, "convert"},
		"adapter": {map[string]string{"adapter_model.bin": "x"}, "name the one that the adapter is for"},
	} {
		_, err := Open(tree(t, c.files))
		if e, ok := err.(*formats.Error); !ok || !strings.Contains(e.Hint, c.want) {
			t.Errorf("%s: got %#v, want a hint with %q", name, err, c.want)
		}
	}
}

func TestIndexTooLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 64 MiB")
	}
	_, err := Open(tree(t, with(sharded(t), index0, "{"+strings.Repeat(" ", formats.MaxIndexBytes))))
	checkError(t, err, formats.ErrInput, index0, "too large")
}

func TestNoDirectory(t *testing.T) {
	dir := tree(t, map[string]string{"x": ""})
	for _, path := range []string{dir + "/x", dir + "/none"} {
		_, err := Open(path)
		checkError(t, err, formats.ErrInput, formats.Quote(path))
	}
}
