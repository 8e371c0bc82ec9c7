package main

import (
	"bytes"
	"fmt"
	"regexp"
	"testing"

	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/health"
)

// wantLines checks a text for lines that expressions match.
func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !regexp.MustCompile("(?m)^" + line + "$").MatchString(text) {
			t.Errorf("no line is %s in\n%s", line, text)
		}
	}
}

// Many layers are told as one for each place.
func TestManyLayers(t *testing.T) {
	h := &healthInfo{Result: &health.Result{}, Base: "b", Advice: &health.Advice{Energy: 0.5}}
	var spectra []health.Spectrum
	r := &resizeResult{Out: "o"}
	for i := range 50 {
		module := fmt.Sprintf("h.%d.fc", i)
		m := health.Module{Module: module, Kind: "LowRank", Shape: []int64{3, 4}, Rank: 2, Product: &health.Product{RMS: 3, EffectiveRank: 1.5, StableRank: 1.2}, Base: &health.BaseNorms{Relative: 0.1}}
		if i == 7 {
			m.Base.Relative, m.DeadRanks = 0.7, 1
		}
		h.Modules = append(h.Modules, m)
		h.Findings = append(h.Findings, health.Finding{Level: health.Warning, What: health.Untrained, Module: module, Text: "zero"})
		h.Advice.Modules = append(h.Advice.Modules, health.AdviceRank{Module: module, Rank: 2, Needed: 1 + i%2})
		s := health.Spectrum{Module: module, Shape: []int64{3, 4}, Norm: 2, Largest: 1, StableRank: 4, EffectiveRank: 2, Rank50: 1, Rank90: 2 + i/49, Rank99: 3, Estimated: true, Error: &health.SpectrumError{EffectiveRank: 0.02}}
		spectra = append(spectra, s)
		r.Slimmed = append(r.Slimmed, patch.Slimmed{What: patch.SlimRanks, Module: module, OldRank: 4, Rank: 2, Bytes: 100})
	}
	h.Findings = append(h.Findings, health.Finding{Level: health.Error, What: health.ChangesNothing, Text: "nothing"})
	h.Warnings, h.Errors = 50, 1
	var b bytes.Buffer
	h.print(&b)
	wantLines(t, b.String(),
		"MODULES +COUNT +UPDATE +SHAPE +RANK +DEAD +EFF. RANK +STABLE RANK +RMS OF ΔW +‖ΔW‖/‖W‖ +NEEDED",
		`h\.\*\.fc +50 +LowRank +\[3 4\] +2 +1 +1\.5 +1\.2 +3 +0\.7 +1 to 2`,
		"check: 1 error, 50 warnings", `warning +50 +h\.\*\.fc +zero`, "error +1 +– +nothing")
	b.Reset()
	printSpectrum(&b, spectra)
	wantLines(t, b.String(), `h\.\*\.fc +50 +\[3 4\] +2 +1 +4\.0 +~ 2\.0 +1 +2 to 3 +3`, "~ estimated, in all 50 layers: effective ranks to 1 % or better .*")
	b.Reset()
	r.print(&b)
	wantLines(t, b.String(), "SLIMMED +COUNT +WHAT +SAVES", `h\.\*\.fc +50 +rank 4 → 2 +5\.00 kB`)
	b.Reset()
	printSpectrum(&b, nil)
	wantLines(t, b.String(), "there are no linear layers or convolutions")
}

// A command that is shown can be run.
func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{
		"my-adapter/x_1.0": "my-adapter/x_1.0", "a b": "'a b'", "it's": `'it'\''s'`, "": "''", "$HOME": "'$HOME'", "~x": "'~x'", "é": "'é'",
	} {
		if got := shellWord(in); got != want {
			t.Errorf("%q becomes %s, want %s", in, got, want)
		}
	}
}
