package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"github.com/seed-b982eded/graft/formats/hf"
)

// notes says what a user should know beside the numbers.
func (r *extractResult) notes(co *console) {
	if n := len(r.BaseOnly); n > 0 {
		co.note("note: the tuned model lacks %s of the base, such as %s: the base's stay as they are", countOf(n, "tensor"), joinNames(r.BaseOnly[:min(n, 3)]))
	}
	if n := len(r.Excluded); n > 0 {
		co.note("note: %s as the base has them, by --exclude", countOf(n, "tensor"))
	}
	if r.narrower {
		co.note("note: the base has a narrower type than the tuned model: a merge rounds to it")
	}
	if hf.RenamedInMemory(r.modelType) {
		co.note("note: in memory transformers 5 and PEFT have other names or copies for some modules of a %s: check what PEFT computes; graft merge goes by the files", r.modelType)
	}
	if r.vocabulary {
		co.note("note: the tuned model has another vocabulary: the base must be resized to it before it takes the adapter")
	}
	fresh := map[string]bool{}
	for _, m := range r.Modules {
		if m.Reason == "new" {
			fresh[m.Module] = true
		}
	}
	if len(fresh) > 0 {
		co.note("note: %s only in the tuned model, saved whole: it goes on a base of the tuned model's class", countOf(len(fresh), "module"))
	}
}

func (r *extractResult) print(w io.Writer) {
	if r.DryRun {
		r.table(w)
	}
	factors, whole, biases, left := 0, 0, 0, 0
	least, most := int64(math.MaxInt64), int64(0)
	for _, m := range r.Modules {
		switch m.Kind {
		case "LowRank":
			factors++
			least, most = min(least, int64(m.Rank)), max(most, int64(m.Rank))
		case "BiasDelta":
			biases++
		case "":
			left++
		default:
			whole++
		}
	}
	var parts []string
	add := func(n int, thing, what string) {
		if n > 0 {
			parts = append(parts, countOf(n, thing)+what)
		}
	}
	if factors > 0 {
		add(factors, "module", " of rank "+rangeText(least, most))
	}
	add(biases, "bias vector", " on B")
	add(left, "module", " left out for the size")
	add(whole, "tensor", " saved whole")
	fmt.Fprintf(w, "%s: %s; %s parameters, %s", r.Out, strings.Join(parts, ", "), countText(r.Params), sizeText(r.Bytes))
	if factors+left > 0 {
		fmt.Fprintf(w, "; error %s of the change", percentText(r.Residual))
	}
	fmt.Fprintln(w)
	if r.checked {
		differing, one, elements, steps := r.merged()
		if differing == 0 {
			fmt.Fprintln(w, "merged, it is the tuned model bit for bit")
		} else {
			fmt.Fprintf(w, "merged, %s of the elements of what changed differ from the tuned model", share(differing, elements))
			if steps {
				fmt.Fprintf(w, ", %s by more than 1 ulp", share(differing-one, elements))
			}
			fmt.Fprintln(w)
		}
	}
}

// merged sums up what merging will differ by.
func (r *extractResult) merged() (differing, one, elements int64, steps bool) {
	steps = true // between two types there are none
	for _, m := range r.Modules {
		if x := m.Merged; x != nil {
			differing, one, elements = differing+x.Differing, one+x.OneULP, elements+x.Elements
			steps = steps && (x.Differing == 0 || x.OneULP > 0 || x.MaxULPs > 0)
		}
	}
	return differing, one, elements, steps
}

func (r *extractResult) table(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TENSOR\tSHAPE\tAS\tRANK\tSIGNAL\tNORM\tERROR\tNOISE\tDIFFERING\t> 1 ULP\tWHY")
	for _, m := range r.Modules {
		rank, signal, norm, residual, noise := "", "", "", "", ""
		if m.Norm > 0 {
			rank, signal, norm = fmt.Sprint(m.Rank), fmt.Sprint(m.Signal), fmt.Sprintf("%.4g", m.Norm)
			residual, noise = percentText(m.Residual), percentText(m.Noise)
		}
		differing, ulps := "", ""
		if m.Merged != nil {
			differing, ulps = share(m.Merged.Differing, m.Merged.Elements), share(m.Merged.Differing-m.Merged.OneULP, m.Merged.Elements)
		}
		fmt.Fprintf(t, "%s\t%v\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", printable(m.Tensor), m.Shape, asText(m.Kind), rank, signal, norm, residual, noise, differing, ulps, m.Reason)
	}
	t.Flush()
}

// asText is a word for a kind of update.
func asText(kind string) string {
	switch kind {
	case "LowRank":
		return "factors"
	case "BiasDelta":
		return "bias on B"
	case "":
		return "nothing"
	}
	return "whole"
}
