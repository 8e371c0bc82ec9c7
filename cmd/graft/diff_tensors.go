package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"text/tabwriter"

	"github.com/seed-b982eded/graft/patch/diff"
)

// tensorRow is a spread with what a table of tensors shows beside.
type tensorRow struct {
	spread
	dtype, shape        string
	elements, differing int64
	notFinite           int64
	maxAbs              float64
	maxULPs             uint64
	ulps                bool
}

func printTensors(t *tabwriter.Writer, list []diff.Tensor) {
	if len(list) == 0 {
		return
	}
	grouped := len(list) > maxRows
	var rows []*tensorRow
	at := map[string]*tensorRow{}
	histogram := map[uint64]diff.ULPs{}
	for _, x := range list {
		name, dtype, shape := x.Name, arrow(x.DTypeA, x.DTypeB), arrow(fmt.Sprint(x.ShapeA), fmt.Sprint(x.ShapeB))
		if grouped {
			name = overLayers(name)
		}
		key := fmt.Sprintf("%q %s %s", name, dtype, shape)
		row := at[key]
		if row == nil {
			row = &tensorRow{spread: spread{name: name}, dtype: dtype, shape: shape}
			at[key] = row
			rows = append(rows, row)
		}
		v := x.Values
		if v == nil {
			nan := diff.Number(math.NaN())
			row.add(x.Name, nan, nan, nan, nan, nan)
			continue
		}
		row.add(x.Name, v.NormA, v.NormB, v.Distance, v.Cosine, v.Relative)
		row.first = row.first || v.NotFinite > 0
		row.notFinite += v.NotFinite
		row.elements += v.Elements
		row.differing += v.Differing
		row.maxAbs = max(row.maxAbs, float64(v.MaxAbs))
		row.maxULPs = max(row.maxULPs, v.MaxULPs)
		row.ulps = row.ulps || v.ULPs != nil
		for _, u := range v.ULPs {
			u.Count += histogram[u.From].Count
			histogram[u.From] = u
		}
	}
	slices.SortStableFunc(rows, func(a, b *tensorRow) int { return byChange(&a.spread, &b.spread) })
	if grouped {
		fmt.Fprintln(t, "\nTENSORS\tCOUNT\tDTYPE\tSHAPE\tDIFFERING\tMAX ABS\tMAX ULPS\tRELATIVE\tCOSINE\tMOST IN")
	} else {
		fmt.Fprintln(t, "\nTENSOR\tDTYPE\tSHAPE\tDIFFERING\tMAX ABS\tMAX ULPS\tRELATIVE\tCOSINE")
	}
	for _, r := range rows {
		differing, maxAbs, maxULPs := "–", short(r.maxAbs), "–"
		if r.elements > 0 {
			differing = share(r.differing, r.elements)
		}
		if r.notFinite > 0 {
			differing += fmt.Sprintf(", %s not finite", countText(r.notFinite))
		}
		if r.none {
			maxAbs = "–"
		}
		if r.ulps {
			maxULPs = ulpsText(r.maxULPs)
		}
		fmt.Fprintf(t, "%s\t", printable(r.name))
		if grouped {
			fmt.Fprintf(t, "%d\t", r.count)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s", r.dtype, r.shape, differing, maxAbs, maxULPs, short(r.relative()), cosineText(diff.Number(r.cosine())))
		if grouped {
			fmt.Fprintf(t, "\t%s", printable(r.worst))
		}
		fmt.Fprintln(t)
	}
	printULPs(t, histogram)
}

// manyULPs is from where on elements are far apart, and the text tells no more.
const manyULPs = 1024

// printULPs prints how far apart elements are, over all tensors.
func printULPs(t *tabwriter.Writer, histogram map[uint64]diff.ULPs) {
	if len(histogram) == 0 {
		return
	}
	var list []diff.ULPs
	more := diff.ULPs{From: manyULPs}
	for _, u := range histogram {
		if u.From < manyULPs {
			list = append(list, u)
		} else {
			more.Count += u.Count
		}
	}
	slices.SortFunc(list, func(a, b diff.ULPs) int { return cmp.Compare(a.From, b.From) })
	if more.Count > 0 {
		list = append(list, more)
	}
	fmt.Fprintln(t, "\nULPS APART\tELEMENTS")
	for _, u := range list {
		apart := fmt.Sprintf("%d–%d", u.From, u.To)
		switch u.From {
		case 0:
			apart = "the sign of 0"
		case manyULPs:
			apart = fmt.Sprintf("%d or more", u.From)
		case u.To:
			apart = fmt.Sprint(u.From)
		}
		fmt.Fprintf(t, "%s\t%s\n", apart, countText(u.Count))
	}
}

// ulpsText writes a count of ulps; of a large one the size counts.
func ulpsText(n uint64) string {
	if n < 1_000_000 {
		return countText(int64(n))
	}
	return fmt.Sprintf("%.1e", float64(n))
}
