package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/health"
	"github.com/seed-b982eded/graft/patch/onnx"
)

func spectrumFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "spectrum", Usage: "describe the singular values of every linear layer and convolution of a model"},
		&cli.StringSliceFlag{Name: "only", Usage: "with --spectrum: only the modules that `PATTERN` matches, in the form of PEFT's rank_pattern; may be repeated"},
	}
}

// moduleSpectra describes the layers that --only takes.
func moduleSpectra(c *cli.Context, co *console, path string, all []health.Layer) ([]health.Spectrum, error) {
	layers, err := onlyLayers(c.StringSlice("only"), all)
	if err != nil {
		return nil, err
	}
	opts := health.SpectrumOptions{Path: path}
	b := co.newBar("decomposing", health.SpectrumWork(layers, opts))
	opts.Progress = func(operations float64) {
		b.add(operations, func(float64) string { return countOf(len(layers), "layer") })
	}
	list, err := health.Spectra(c.Context, layers, opts)
	b.end()
	return list, err
}

// onlyLayers chooses layers; a pattern that matches none is a slip of the pen.
func onlyLayers(patterns []string, all []health.Layer) ([]health.Layer, error) {
	if len(patterns) == 0 {
		return all, nil
	}
	used := make([]bool, len(patterns))
	taken := make([]bool, len(all))
	for i, p := range patterns {
		m, err := adapter.CompilePatterns("--only", []adapter.Pattern{{Key: p}})
		if err != nil {
			return nil, formats.Usagef("%v", err)
		}
		for j, l := range all {
			at, err := m.Find(l.Module)
			if err != nil {
				return nil, formats.Usagef("--only: %v", err)
			}
			used[i], taken[j] = used[i] || at == 0, taken[j] || at == 0
		}
		if !used[i] {
			return nil, formats.Usagef("--only %s matches no linear layer or convolution", formats.Quote(p))
		}
	}
	var out []health.Layer
	for j, l := range all {
		if taken[j] {
			out = append(out, l)
		}
	}
	return out, nil
}

// layersOfModel are the linear layers and convolutions of a checkpoint.
func layersOfModel(m *patch.Model) []health.Layer {
	var out []health.Layer
	for _, s := range m.Sites {
		if s.Kind == patch.Linear || s.Kind == patch.Conv {
			out = append(out, health.Layer{Module: s.Module, Kind: s.Kind.String(), Tensor: s.Weight})
		}
	}
	return out
}

// layersOfGraph are those of an ONNX model, each weight once. A layer that nothing names goes
// by its weight.
func layersOfGraph(base *formats.Checkpoint, layers []*onnx.Layer) []health.Layer {
	var out []health.Layer
	for _, l := range layers {
		t, ok := base.Tensor(l.Weight.Key)
		if !ok || l.Kind != patch.Linear && l.Kind != patch.Conv || slices.ContainsFunc(out, func(o health.Layer) bool { return o.Tensor.Name == t.Name }) {
			continue
		}
		module := l.Path
		if module == "" {
			module = t.Name
		}
		out = append(out, health.Layer{Module: module, Kind: l.Kind.String(), Tensor: t, Quantized: l.Quantized})
	}
	return out
}

// spectrumRow is a layer in the table, or a group over the layers of the model.
type spectrumRow struct {
	name, shape string
	list        []health.Spectrum
}

// mean is of a number of all layers of a row.
func (r *spectrumRow) mean(of func(s *health.Spectrum) float64) float64 {
	sum := 0.0
	for i := range r.list {
		sum += of(&r.list[i])
	}
	return sum / float64(len(r.list))
}

// ranks is the range of a rank in a row.
func (r *spectrumRow) ranks(of func(s *health.Spectrum) int) string {
	least, most := of(&r.list[0]), 0
	for i := range r.list {
		least, most = min(least, of(&r.list[i])), max(most, of(&r.list[i]))
	}
	return rangeText(int64(least), int64(most))
}

func printSpectrum(w io.Writer, list []health.Spectrum) {
	if len(list) == 0 {
		fmt.Fprintln(w, "\nthere are no linear layers or convolutions")
		return
	}
	grouped := len(list) > maxRows
	var rows []*spectrumRow
	at := map[string]*spectrumRow{}
	worst, estimated := 0.0, 0
	for _, s := range list {
		name, shape := s.Module, fmt.Sprint(s.Shape)
		if grouped {
			name = overLayers(name)
		}
		r := at[name+shape]
		if r == nil {
			r = &spectrumRow{name: name, shape: shape}
			at[name+shape] = r
			rows = append(rows, r)
		}
		r.list = append(r.list, s)
		if s.Estimated {
			estimated++
			if s.EffectiveRank > 0 {
				worst = max(worst, s.Error.EffectiveRank/s.EffectiveRank)
			}
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if grouped {
		fmt.Fprintln(t, "\nLAYERS\tCOUNT\tSHAPE\t‖W‖\tσ₁\tSTABLE RANK\tEFF. RANK\t50 %\t90 %\t99 %")
	} else {
		fmt.Fprintln(t, "\nLAYER\tSHAPE\t‖W‖\tσ₁\tSTABLE RANK\tEFF. RANK\t50 %\t90 %\t99 %")
	}
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t", printable(r.name))
		if grouped {
			fmt.Fprintf(t, "%d\t", len(r.list))
		}
		fmt.Fprintf(t, "%s\t%s", r.shape, short(r.mean(func(s *health.Spectrum) float64 { return s.Norm })))
		mark := ""
		if countEstimated(r.list) > 0 {
			mark = "~ "
		}
		for _, text := range []string{
			short(r.mean(func(s *health.Spectrum) float64 { return s.Largest })),
			tenth(r.mean(func(s *health.Spectrum) float64 { return s.StableRank })),
			tenth(r.mean(func(s *health.Spectrum) float64 { return s.EffectiveRank })),
			r.ranks(func(s *health.Spectrum) int { return s.Rank50 }),
			r.ranks(func(s *health.Spectrum) int { return s.Rank90 }),
			r.ranks(func(s *health.Spectrum) int { return s.Rank99 }),
		} {
			fmt.Fprintf(t, "\t%s%s", mark, text)
		}
		fmt.Fprintln(t)
	}
	t.Flush()
	if estimated > 0 {
		fmt.Fprintf(w, "\n~ estimated, in %s: effective ranks to %s %% or better (docs/inspect.md)\n", someOf(estimated, len(list), "layer"), limitText(100*worst))
	}
}

// limitText writes a limit in one digit, and from 1 on as a whole number, rounded up.
func limitText(x float64) string {
	if x < 1 {
		return fmt.Sprintf("%.1g", x)
	}
	return fmt.Sprintf("%.0f", math.Ceil(x))
}
