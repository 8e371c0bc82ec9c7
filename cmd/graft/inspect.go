package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/formats/ortadapter"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/health"
)

func inspectCommand() *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "say what a model or adapter is, without loading it",
		UsageText: "graft inspect PATH [--tensors] [--spectrum [--only PATTERN]...] [--check [--base B] [--advice]] [--html F] [--json]",
		Description: "Of an ONNX model it says which layer is which module, by what (value: the numbers of\n" +
			"--weights; scopes, weight, bias, node: names), and what the layer can take: merge, and\n" +
			"the modes of inject. --check and --spectrum read the numbers: of an adapter, to say whether it\n" +
			"is sound, and of a model, to say how much rank its weights have. --html writes a page to look\n" +
			"at, and checks an adapter, with advice. docs/inspect.md tells what the numbers mean.",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "tensors", Usage: "list every tensor"},
			&cli.BoolFlag{Name: "layers", Usage: "list every layer of an ONNX model by itself"},
			weightsFlag(),
			&cli.StringFlag{Name: "html", Usage: "also write a report to `FILE`, one page that needs nothing else, in place of an earlier one; of an adapter with what --check and --advice find"},
		}, slices.Concat(spectrumFlags(), checkFlags(), commonFlags())...),
		Action: inspectAction,
	}
}

type inspectResult struct {
	Schema  string         `json:"schema"`
	Path    string         `json:"path"`
	Kind    string         `json:"kind"` // "checkpoint", "onnx" or "adapter"
	Tensors int            `json:"tensors"`
	Params  int64          `json:"parameters"`
	Bytes   int64          `json:"bytes"`
	DTypes  map[string]int `json:"dtypes"`

	Files     []fileInfo    `json:"files,omitempty"`
	SideFiles []string      `json:"side_files,omitempty"`
	ModelType string        `json:"model_type,omitempty"`
	Tied      bool          `json:"tied_head,omitempty"`
	Quant     string        `json:"quantization,omitempty"`
	Layers    []layerInfo   `json:"layers,omitempty"`
	Base      string        `json:"base_model,omitempty"`
	Modules   []moduleInfo  `json:"modules,omitempty"`
	List      []tensorInfo  `json:"tensor_list,omitempty"`
	Metadata  []metadataRow `json:"metadata,omitempty"`
	Graph     *graphInfo    `json:"graph,omitempty"`

	Health *healthInfo `json:"health,omitempty"`

	Spectrum []health.Spectrum `json:"spectrum,omitempty"` // with --spectrum

	listLayers   bool // of the graph
	listSpectrum bool

	// For a page:
	tensors []tensorInfo      // all, also where they are not listed
	kinds   map[string]string // of a model's tensors, what their modules are
	dialect string            // of an adapter
	config  []byte
}

type fileInfo struct {
	Name    string `json:"name"`
	Tensors int    `json:"tensors"`
	Bytes   int64  `json:"bytes"`
}

// layerInfo is a group of layers that share a name and a shape.
type layerInfo struct {
	Name  string  `json:"name"`
	Kind  string  `json:"kind"`
	Shape []int64 `json:"shape"`
	Count int     `json:"count"`
}

type moduleInfo struct {
	Module string  `json:"module"`
	Kind   string  `json:"kind"`
	Shape  []int64 `json:"shape"`
	Rank   int64   `json:"rank,omitempty"`
	Scale  float64 `json:"scale,omitempty"`
}

type tensorInfo struct {
	Name  string  `json:"name"`
	DType string  `json:"dtype"`
	Shape []int64 `json:"shape"`
	File  string  `json:"file"`
	Bytes int64   `json:"bytes"`
}

type metadataRow struct {
	File  string `json:"file"`
	Key   string `json:"key"`
	Value string `json:"value"`
}

func inspectAction(c *cli.Context) error {
	if c.NArg() != 1 {
		return formats.Usagef("inspect takes one path (got %d)", c.NArg())
	}
	if err := checkOptions(c); err != nil {
		return err
	}
	path := c.Args().First()
	isAdapter := !open.IsONNX(path) && open.IsAdapter(path)
	for _, name := range adapterFlags {
		if _, err := os.Stat(path); c.IsSet(name) && !isAdapter && err == nil {
			return formats.Usagef("--%s is about an adapter, and %s is none", name, formats.Quote(path))
		}
	}
	switch {
	case c.IsSet("only") && !c.Bool("spectrum"):
		return formats.Usagef("--only goes with --spectrum")
	case c.Bool("spectrum") && isAdapter:
		return formats.Usagef("--spectrum is about a model, and %s is an adapter", formats.Quote(path)).WithHint("--check has the singular values of its changes")
	}
	co := newConsole(c)
	var res *inspectResult
	var err error
	if open.IsONNX(path) {
		res, err = inspectGraph(c, co, path)
	} else {
		for _, name := range []string{"weights", "layers"} {
			if c.IsSet(name) && !(name == "weights" && c.IsSet("base")) { // of which it may be
				return formats.Usagef("--%s is about an ONNX model, and %s is none", name, formats.Quote(path))
			}
		}
		if isAdapter {
			res, err = inspectAdapter(c, co, path)
		} else {
			res, err = inspectCheckpoint(c, co, path)
		}
	}
	if err != nil {
		return err
	}
	if c.Bool("tensors") {
		res.List = res.tensors
	}
	if c.IsSet("html") {
		if err := writePage(c.String("html"), res.page()); err != nil {
			return err
		}
	}
	if err := co.emit(res, res.print); err != nil {
		return err
	}
	if c.Bool("exit-code") {
		return res.Health.exitCode(path)
	}
	return nil
}

func (r *inspectResult) count(t formats.Tensor, file string) {
	r.Tensors++
	r.Params += t.Elements()
	r.Bytes += t.Size()
	r.DTypes[t.DType.String()]++
	r.tensors = append(r.tensors, tensorInfo{t.Name, t.DType.String(), t.Shape, file, t.Size()})
}

func inspectCheckpoint(c *cli.Context, co *console, path string) (*inspectResult, error) {
	ckpt, err := open.Checkpoint(path)
	if err != nil {
		return nil, namingONNX(path, err)
	}
	defer ckpt.Close()
	if err := co.checkReport("", placeOf(ckpt)); err != nil {
		return nil, err
	}
	if err := checkPage(c, placeOf(ckpt)); err != nil {
		return nil, err
	}
	m, err := patch.NewModel(ckpt)
	if err != nil {
		return nil, err
	}
	r := &inspectResult{
		Schema: "graft.inspect/1", Path: path, Kind: "checkpoint", DTypes: map[string]int{},
		ModelType: m.Config.ModelType, Tied: m.Config.TiedHead, Quant: m.Config.Quantization,
		kinds: map[string]string{},
	}
	for _, s := range ckpt.Shards() {
		r.Files = append(r.Files, fileInfo{s.Name, len(s.Tensors), s.Size()})
		for _, kv := range s.Metadata {
			r.Metadata = append(r.Metadata, metadataRow{s.Name, kv.Key, kv.Value})
		}
		for _, t := range s.Tensors {
			r.count(t, s.Name)
		}
	}
	for _, f := range ckpt.SideFiles() {
		r.SideFiles = append(r.SideFiles, f.Name)
	}
	for _, s := range m.Sites {
		if s.Kind == patch.Other {
			continue
		}
		r.kinds[s.Weight.Name] = s.Kind.String()
		l := layerInfo{Name: s.Module[strings.LastIndexByte(s.Module, '.')+1:], Kind: s.Kind.String(), Shape: s.Weight.Shape, Count: 1}
		i := slices.IndexFunc(r.Layers, func(x layerInfo) bool { return x.Name == l.Name && x.Kind == l.Kind && slices.Equal(x.Shape, l.Shape) })
		if i >= 0 {
			r.Layers[i].Count++
		} else {
			r.Layers = append(r.Layers, l)
		}
	}
	if c.Bool("spectrum") {
		r.listSpectrum = true
		r.Spectrum, err = moduleSpectra(c, co, path, layersOfModel(m))
	}
	return r, err
}

func inspectAdapter(c *cli.Context, co *console, path string) (*inspectResult, error) {
	a, err := open.Adapter(path)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	inputs := []string{path}
	if c.IsSet("base") { // what else it holds is known when it is open
		inputs = append(inputs, c.String("base"))
	}
	if err := co.checkReport("", inputs...); err != nil {
		return nil, err
	}
	if err := checkPage(c, inputs...); err != nil {
		return nil, err
	}
	r := &inspectResult{Schema: "graft.inspect/1", Path: path, Kind: "adapter", DTypes: map[string]int{}, Base: a.Base, dialect: a.Dialect, config: a.Config}
	file := peft.WeightsName
	if a.Dialect == ortadapter.Dialect {
		file = filepath.Base(path)
	}
	for _, e := range a.Entries {
		info := moduleInfo{Module: e.Module, Kind: e.Update.Kind(), Shape: e.Update.Shape()}
		if u, ok := e.Update.(*adapter.LowRank); ok {
			info.Rank, info.Scale = u.Rank(), u.Scale
		}
		r.Modules = append(r.Modules, info)
		for _, t := range e.Update.Tensors() {
			r.count(t, file)
		}
	}
	if wants(c, "check") {
		r.Health, err = checkAdapter(c, co, a)
	}
	return r, err
}

func (r *inspectResult) print(w io.Writer) {
	kind := r.Kind
	if r.Graph != nil {
		kind = "ONNX model"
		if r.Graph.Producer != "" {
			kind += " by " + formats.Quote(strings.TrimSpace(r.Graph.Producer+" "+r.Graph.Version))
		}
	}
	fmt.Fprintf(w, "%s: %s", formats.Quote(r.Path), kind)
	if r.ModelType != "" {
		fmt.Fprintf(w, ", model type %s", formats.Quote(r.ModelType))
	}
	if r.Base != "" {
		fmt.Fprintf(w, " for base %s", formats.Quote(r.Base))
	}
	fmt.Fprintf(w, "\n%s parameters in %d tensors, %s (", countText(r.Params), r.Tensors, sizeText(r.Bytes))
	var kinds []string
	for d, n := range r.DTypes {
		kinds = append(kinds, fmt.Sprintf("%s × %d", d, n))
	}
	slices.Sort(kinds)
	fmt.Fprintf(w, "%s)\n", strings.Join(kinds, ", "))
	if r.Graph != nil {
		r.printGraph(w)
	}
	if r.Tied {
		fmt.Fprintln(w, "the head is tied to the input embedding")
	}
	if r.Quant != "" {
		fmt.Fprintf(w, "quantised: %s\n", formats.Quote(r.Quant))
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(r.Files) > 0 {
		fmt.Fprintln(t, "\nFILE\tTENSORS\tBYTES")
		for _, f := range r.Files {
			fmt.Fprintf(t, "%s\t%d\t%s\n", printable(f.Name), f.Tensors, countText(f.Bytes))
		}
	}
	if r.Graph != nil {
		r.printGraphTables(t)
	}
	if len(r.Layers) > 0 && !r.listSpectrum {
		fmt.Fprintln(t, "\nLAYER\tKIND\tSHAPE\tCOUNT")
		for _, l := range r.Layers {
			fmt.Fprintf(t, "%s\t%s\t%v\t%d\n", l.Name, l.Kind, l.Shape, l.Count)
		}
	}
	if len(r.Modules) > 0 && r.Health == nil {
		fmt.Fprintln(t, "\nMODULE\tUPDATE\tSHAPE\tRANK\tSCALE")
		for _, m := range r.Modules {
			fmt.Fprintf(t, "%s\t%s\t%v\t%d\t%.6g\n", m.Module, m.Kind, m.Shape, m.Rank, m.Scale)
		}
	}
	if len(r.List) > 0 {
		fmt.Fprintln(t, "\nTENSOR\tDTYPE\tSHAPE\tFILE\tBYTES")
		for _, x := range r.List {
			fmt.Fprintf(t, "%s\t%s\t%v\t%s\t%d\n", printable(x.Name), x.DType, x.Shape, printable(x.File), x.Bytes)
		}
	}
	t.Flush()
	if r.Health != nil {
		r.Health.print(w)
	}
	if r.listSpectrum {
		printSpectrum(w, r.Spectrum)
	}
	if len(r.SideFiles) > 0 {
		fmt.Fprintf(w, "\nbeside the weights: %s\n", joinNames(r.SideFiles))
	}
}

func joinNames(names []string) string {
	shown := make([]string, len(names))
	for i, n := range names {
		shown[i] = printable(n)
	}
	return strings.Join(shown, ", ")
}

// printable returns a name as it is where a terminal can show it, else quoted.
func printable(name string) string {
	if q := formats.Quote(name); q[1:len(q)-1] != name || strings.Trim(name, " ") != name {
		return q
	}
	return name
}
