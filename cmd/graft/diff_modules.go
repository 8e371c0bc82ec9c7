package main

import (
	"fmt"
	"math"
	"slices"
	"text/tabwriter"

	"github.com/seed-b982eded/graft/patch/diff"
)

// moduleRow is a spread with what a table of modules shows beside.
type moduleRow struct {
	spread
	rank, what     string
	effA, effB     float64
	input, output  float64
	sides, similar int
	base           [2]amplified
}

// amplified adds up what a side's updates and the base have in common directions.
type amplified struct{ delta, projected float64 } // ‖ΔW‖ and ‖UᵀWV‖

func (s *amplified) add(a *diff.Amplification, delta diff.Number) {
	s.delta, s.projected = math.Hypot(s.delta, float64(delta)), math.Hypot(s.projected, float64(a.Projected))
}

func (s *amplified) text() string {
	if s.delta == 0 {
		return "–"
	}
	return short(s.delta / s.projected)
}

func printModules(t *tabwriter.Writer, list []diff.Module) {
	if len(list) == 0 {
		return
	}
	grouped, measured := len(list) > maxRows, false
	var rows []*moduleRow
	at := map[string]*moduleRow{}
	for _, m := range list {
		name, rank, what := m.Module, rankText(m.A, m.B), whatText(m)
		if grouped {
			name = overLayers(name)
		}
		key := fmt.Sprintf("%q %s %s", name, rank, what)
		row := at[key]
		if row == nil {
			row = &moduleRow{spread: spread{name: name}, rank: rank, what: what}
			at[key] = row
			rows = append(rows, row)
		}
		a, b := diff.Number(normOf(m.A)), diff.Number(normOf(m.B))
		row.add(m.Module, a, b, m.Distance, m.Cosine, m.Relative)
		if m.A != nil && m.B != nil {
			row.sides++
			row.effA, row.effB = row.effA+float64(m.A.EffectiveRank), row.effB+float64(m.B.EffectiveRank)
		}
		if m.Input != nil && m.Output != nil {
			row.similar++
			row.input, row.output = row.input+lastPhi(m.Input), row.output+lastPhi(m.Output)
		}
		if m.Base == nil {
			continue
		}
		measured = true
		if m.Base.A != nil {
			row.base[0].add(m.Base.A, a)
		}
		if m.Base.B != nil {
			row.base[1].add(m.Base.B, b)
		}
	}
	header := "RANK\t‖A‖\t‖B‖\t‖B−A‖\tRELATIVE\tCOSINE\tEFF. RANK\tφ IN\tφ OUT\t"
	if measured {
		header += "AMPLIFICATION\t"
	}
	header += "WHAT"
	slices.SortStableFunc(rows, func(a, b *moduleRow) int { return byChange(&a.spread, &b.spread) })
	if grouped {
		fmt.Fprintln(t, "\nMODULES\tCOUNT\t"+header+"\tMOST IN")
	} else {
		fmt.Fprintln(t, "\nMODULE\t"+header)
	}
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t", printable(r.name))
		if grouped {
			fmt.Fprintf(t, "%d\t", r.count)
		}
		distance, effective := r.distance, "–"
		if r.none {
			distance = math.NaN()
		}
		if n := float64(r.sides); n > 0 {
			effective = arrow(fmt.Sprintf("%.1f", r.effA/n), fmt.Sprintf("%.1f", r.effB/n))
		}
		n := float64(r.similar)
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t", r.rank, short(r.normA), short(r.normB), short(distance),
			short(r.relative()), cosineText(diff.Number(r.cosine())), effective, fraction(r.input/n), fraction(r.output/n))
		if measured {
			fmt.Fprintf(t, "%s\t", arrow(r.base[0].text(), r.base[1].text()))
		}
		fmt.Fprint(t, r.what)
		if grouped {
			fmt.Fprintf(t, "\t%s", printable(r.worst))
		}
		fmt.Fprintln(t)
	}
}

// lastPhi is φ of the whole of both updates.
func lastPhi(s *diff.Similarity) float64 {
	row := s.Phi[len(s.Phi)-1]
	return float64(row[len(row)-1])
}

func rankText(a, b *diff.Update) string {
	switch {
	case a == nil:
		return fmt.Sprint(b.Rank)
	case b == nil:
		return fmt.Sprint(a.Rank)
	}
	return arrow(fmt.Sprint(a.Rank), fmt.Sprint(b.Rank))
}

// whatText says what is between two updates, where it is more than a distance.
func whatText(m diff.Module) string {
	switch {
	case m.What == diff.Scaled:
		return scaleText(*m.Scale) + " × A"
	case m.What == diff.Shape:
		return fmt.Sprintf("shape %v → %v", m.A.Shape, m.B.Shape)
	case m.What == diff.OnlyA || m.What == diff.OnlyB:
		return m.What
	case m.A.Kind != m.B.Kind:
		return m.A.Kind + " → " + m.B.Kind
	}
	return ""
}
