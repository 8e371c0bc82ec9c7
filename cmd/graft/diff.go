package main

import (
	"context"
	"io"
	"io/fs"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/onnx"
	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/internal/confined"
	"github.com/seed-b982eded/graft/internal/filecopy"
	"github.com/seed-b982eded/graft/patch/diff"
)

func diffCommand() *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Usage:     "say how two models or adapters differ",
		UsageText: "graft diff A B [--exit-code] [--tolerance X] [--only PATTERN]... [--base M] [--html F] [--json]",
		Description: "Models, of safetensors or ONNX, are compared tensor by tensor: which are there, types and\n" +
			"shapes, then every value, and what lies beside the weights. Adapters are compared by what\n" +
			"they add to each module, whatever their factors, ranks and dialects. An adapter and a model\n" +
			"are compared by the names of their tensors. How a model lies in files makes no difference.\n" +
			"With --base the directions of each update are measured in the weight that it is for, and\n" +
			"--html writes all that was found as a page to look at.\n" +
			"docs/diff.md tells what the numbers mean, and how git shows them.",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "exit-code", Usage: "exit with 3 if A and B differ"},
			&cli.Float64Flag{Name: "tolerance", Usage: "let only weights count that differ by more than X times A's norm (Frobenius), whatever their types; 0 takes equal values"},
			&cli.StringFlag{Name: "base", Usage: "of two adapters the base `MODEL`: how much each strengthens directions that the base has already"},
			weightsFlag(),
			&cli.StringFlag{Name: "html", Usage: "also write a report to `FILE`, one page that needs nothing else, in place of an earlier one"},
			&cli.StringSliceFlag{Name: "only", Usage: "compare only the tensors or modules that `PATTERN` matches, in the form of PEFT's rank_pattern; may be repeated"},
		}, commonFlags()...),
		Action: diffAction,
	}
}

type diffResult struct {
	Schema    string   `json:"schema"`
	A         diffSide `json:"a"`
	B         diffSide `json:"b"`
	Base      string   `json:"base,omitempty"`
	Differ    bool     `json:"differ"` // as --exit-code sees it
	Tolerance *float64 `json:"tolerance,omitempty"`
	Only      []string `json:"only,omitempty"`
	Summary   string   `json:"summary"`
	*diff.Result

	shared int // tensors that both have
}

// diffSide is one of the two, open.
type diffSide struct {
	Path    string `json:"path"`
	Kind    string `json:"kind"` // "checkpoint", "onnx" or "adapter"
	Dialect string `json:"dialect,omitempty"`
	Files   int    `json:"files"` // of weights
	Tensors int    `json:"tensors"`
	Params  int64  `json:"parameters"`
	Bytes   int64  `json:"bytes"`

	ckpt    *formats.Checkpoint // of an adapter its stored tensors
	adapter *adapter.Adapter
	graph   *onnx.Model
}

func diffAction(c *cli.Context) error {
	if c.NArg() != 2 {
		return formats.Usagef("diff takes two paths (got %d)", c.NArg())
	}
	tolerance := -1.0
	if c.IsSet("tolerance") {
		if tolerance = c.Float64("tolerance"); tolerance < 0 {
			return formats.Usagef("--tolerance must be 0 or more (got %g)", tolerance)
		}
	}
	co := newConsole(c)
	res := &diffResult{Schema: "graft.diff/1", Only: c.StringSlice("only")}
	if tolerance >= 0 {
		res.Tolerance = &tolerance
	}
	var inputs []string
	for i, s := range []*diffSide{&res.A, &res.B} {
		if err := s.open(c.Args().Get(i)); err != nil {
			return err
		}
		defer s.Close()
		inputs = append(inputs, s.places()...)
	}
	opts, total := diff.Options{Only: res.Only}, res.A.Bytes+res.B.Bytes
	if c.IsSet("base") {
		base, err := openDiffBase(c, res.A.adapter, res.B.adapter)
		if err != nil {
			return err
		}
		defer base.Close()
		inputs = append(inputs, base.paths()...)
		res.Base, opts.Base = base.base.Path(), base.weight
		total += base.size(res.A.adapter, res.B.adapter)
	} else if c.IsSet("weights") {
		return formats.Usagef("--weights is about an ONNX base, and --base names none")
	}
	if err := co.checkReport("", inputs...); err != nil {
		return err
	}
	if err := checkPage(c, inputs...); err != nil {
		return err
	}
	b := co.newBar("comparing", float64(total))
	opts.Progress = func(n int64) {
		b.add(float64(n), func(rate float64) string { return sizeText(int64(rate)) + "/s" })
	}
	var err error
	if res.A.adapter != nil && res.B.adapter != nil {
		res.Result, err = diffAdapters(c.Context, res.A.adapter, res.B.adapter, opts)
	} else {
		res.Result, err = diff.Checkpoints(c.Context, res.A.ckpt, res.B.ckpt, opts)
	}
	b.end()
	if err != nil {
		return err
	}
	res.shared = res.Same + len(res.Tensors)
	res.Differ = res.Differs(tolerance)
	res.Summary = res.summary(tolerance)
	if c.IsSet("html") {
		if err := writePage(c.String("html"), res.page(tolerance)); err != nil {
			return err
		}
	}
	if err := co.emit(res, func(w io.Writer) { res.print(w, tolerance) }); err != nil {
		return err
	}
	if res.Differ && c.Bool("exit-code") {
		return &formats.Error{Class: formats.ErrDiffers, Detail: formats.Quote(res.A.Path) + " and " + formats.Quote(res.B.Path) + " differ"}
	}
	return nil
}

// open opens whatever a path names.
func (s *diffSide) open(path string) error {
	s.Path, s.Kind, s.Files = path, "checkpoint", 1
	var err error
	if open.IsAdapter(path) {
		if s.adapter, err = open.Adapter(path); err != nil {
			return err
		}
		s.Kind, s.Dialect = "adapter", s.adapter.Dialect
		if s.ckpt, err = diff.Stored(s.adapter); err != nil {
			s.Close()
			return err
		}
	} else {
		if s.ckpt, s.graph, err = open.Model(path); err != nil {
			return err
		}
		if s.Files = len(s.ckpt.Shards()); s.graph != nil {
			s.Kind, s.Files = "onnx", 1+len(s.graph.ExternalPaths())
		}
	}
	s.Tensors, s.Bytes = s.ckpt.Len(), s.ckpt.Size()
	for t := range s.ckpt.Tensors() {
		s.Params += t.Elements()
	}
	return nil
}

func (s *diffSide) Close() {
	if s.adapter != nil {
		s.adapter.Close()
	} else {
		s.ckpt.Close()
	}
}

// places are the paths that no report may touch.
func (s *diffSide) places() []string {
	list := []string{placeOf(s.ckpt)}
	if s.graph != nil {
		list = append(list, s.graph.ExternalPaths()...)
	}
	return list
}

// diffAdapters compares two adapters, and the files beside the weights of two PEFT
// directories.
func diffAdapters(ctx context.Context, a, b *adapter.Adapter, opts diff.Options) (*diff.Result, error) {
	r, err := diff.Adapters(ctx, a, b, opts)
	if err != nil || a.Config == nil || b.Config == nil || len(opts.Only) > 0 {
		return r, err
	}
	x, closeX, err := filesBeside(a.Path)
	if err != nil {
		return nil, err
	}
	defer closeX()
	y, closeY, err := filesBeside(b.Path)
	if err != nil {
		return nil, err
	}
	defer closeY()
	files, err := diff.SideFiles(ctx, x, y)
	r.Files = append(r.Files, files...)
	return r, err
}

// filesBeside lists the files that lie beside an adapter's own, until closed.
func filesBeside(path string) (files []formats.SideFile, closeAll func(), err error) {
	dir, err := confined.Open(path)
	if err != nil {
		return nil, nil, err
	}
	closers := []io.Closer{dir}
	closeAll = func() {
		for _, c := range closers {
			c.Close()
		}
	}
	entries, err := dir.ReadDir(".")
	for _, e := range entries {
		name := e.Name()
		plain := e.Type().IsRegular() || e.Type()&fs.ModeSymlink != 0
		if err != nil || !plain || name[0] == '.' || name == peft.ConfigName || name == peft.WeightsName {
			continue
		}
		var f *filecopy.Source
		if f, err = dir.Source(name); err == nil {
			closers = append(closers, f)
			files = append(files, formats.SideFile{Name: name, Size: f.Size(), Data: f})
		}
	}
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	return files, closeAll, nil
}
