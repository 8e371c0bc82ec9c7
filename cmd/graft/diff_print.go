package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/patch/diff"
)

const (
	// maxRows is how many tensors or modules are listed one by one; more are grouped over
	// the layers.
	maxRows = 40
	// maxNames is how many names a list shows.
	maxNames = 20
	// maxValue is how much of a config's value is shown.
	maxValue = 60
)

// summary says in a sentence what changed.
func (r *diffResult) summary(tolerance float64) string {
	tensors, modules := r.Differing(tolerance)
	a, b := formats.Quote(r.A.Path), formats.Quote(r.B.Path)
	var said []string
	add := func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	scaled := r.Scale != nil && len(modules) > 0
	if scaled {
		add("%s is %s × %s in %s", b, scaleText(*r.Scale), a, allOf(len(r.Modules), "module"))
	}
	if !scaled {
		said = append(said, r.moduleSentences(modules)...)
	}
	tensors, retyped := splitRetyped(tensors)
	if n := len(tensors); n > 0 {
		text := fmt.Sprintf("%s %s", someOf(n, r.shared, "tensor"), verb(n, "differs", "differ"))
		if t := r.Total; t != nil && len(r.Modules) == 0 && tolerance <= 0 { // it is over all that differ
			text += fmt.Sprintf(", by %s", relativeText(t.Relative, t.Distance))
		}
		add("%s", text)
	}
	if n := len(retyped); n > 0 {
		add("%s %s the same values in another type", someOf(n, r.shared, "tensor"), verb(n, "has", "have"))
	}
	if n := len(r.OnlyA); n > 0 {
		add("%s only in A", countOf(n, "tensor"))
	}
	if n := len(r.OnlyB); n > 0 {
		add("%s only in B", countOf(n, "tensor"))
	}
	weights := len(said)
	if n := len(r.Config); n > 0 {
		add("%s of %s %s", countOf(n, "key"), printable(r.Config[0].File), verb(n, "differs", "differ"))
	}
	if n := len(r.Files); n > 0 {
		add("%s beside the weights %s", countOf(n, "file"), verb(n, "differs", "differ"))
	}
	if weights == 0 {
		said = append([]string{r.likeness(tolerance)}, said...)
	}
	if scaled { // the sentence names both
		return strings.Join(said, "; ")
	}
	return fmt.Sprintf("A = %s, B = %s: %s", a, b, strings.Join(said, "; "))
}

// moduleSentences says how modules differ: in what they add, which is measured, in its shape,
// or in being there.
func (r *diffResult) moduleSentences(modules []diff.Module) (said []string) {
	var measured, shaped, idle int
	for _, m := range modules {
		switch {
		case m.What == diff.Shape:
			shaped++
		case m.Distance != 0:
			measured++
		default:
			idle++
		}
	}
	of := func(n int) string { return someOf(n, len(r.Modules), "module") }
	if t := r.Total; measured > 0 {
		said = append(said, fmt.Sprintf("ΔW differs in %s, by %s (‖A‖ %s, ‖B‖ %s, cosine %s)", of(measured),
			relativeText(t.Relative, t.Distance), short(float64(t.NormA)), short(float64(t.NormB)), cosineText(t.Cosine)))
	}
	if shaped > 0 {
		said = append(said, fmt.Sprintf("ΔW has another shape in %s and cannot be compared there", of(shaped)))
	}
	if idle > 0 {
		said = append(said, fmt.Sprintf("%s %s on one side alone and %s nothing", of(idle), verb(idle, "is", "are"), verb(idle, "adds", "add")))
	}
	return said
}

// likeness says what the weights have in common where none of them counts as different.
func (r *diffResult) likeness(tolerance float64) string {
	modules, near := len(r.Modules), len(r.Tensors)
	for _, m := range r.Modules {
		if m.What != diff.Equal {
			near++
		}
	}
	var what []string
	if modules > 0 {
		what = append(what, "ΔW is the same in "+allOf(modules, "module"))
	}
	if r.shared > 0 {
		what = append(what, allOf(r.shared, "tensor")+" "+verb(r.shared, "is", "are")+" the same")
	}
	text := strings.Join(what, ", ")
	switch {
	case text == "":
		return "there is nothing to compare"
	case near == r.shared+modules:
		return fmt.Sprintf("%s to the tolerance of %g", text, tolerance)
	case near > 0:
		return fmt.Sprintf("%s, %d of them to the tolerance of %g", text, near, tolerance)
	}
	return text
}

// splitRetyped tells the tensors whose values differ from those that differ in type alone.
func splitRetyped(list []diff.Tensor) (values, retyped []diff.Tensor) {
	for _, t := range list {
		if t.Values != nil && t.Values.Differing == 0 {
			retyped = append(retyped, t)
		} else {
			values = append(values, t)
		}
	}
	return values, retyped
}

func (r *diffResult) print(w io.Writer, tolerance float64) {
	fmt.Fprintln(w, r.Summary)
	if r.A.Kind != r.B.Kind {
		fmt.Fprintf(w, "\nA is %s and B is %s: their tensors are compared by name\n", kindText(r.A.Kind), kindText(r.B.Kind))
	}
	printNames(w, "only in A", r.OnlyA)
	printNames(w, "only in B", r.OnlyB)
	tensors, modules := r.Differing(tolerance)
	tensors, retyped := splitRetyped(tensors)
	printRetyped(w, retyped)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(r.Config) > 0 {
		fmt.Fprintln(t, "\nCONFIG\tKEY\tA\tB")
		for _, k := range r.Config {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", printable(k.File), printable(k.Key), valueText(k.A), valueText(k.B))
		}
	}
	if len(r.Files) > 0 {
		fmt.Fprintln(t, "\nFILE\tWHAT")
		for _, f := range r.Files {
			fmt.Fprintf(t, "%s\t%s\n", printable(f.Name), f.What)
		}
	}
	printModules(t, modules)
	printTensors(t, tensors)
	t.Flush()
}

// printNames lists names, with those of all layers as one.
func printNames(w io.Writer, title string, list []string) {
	if len(list) == 0 {
		return
	}
	shown := list
	if len(list) > maxNames {
		shown = nil
		for _, name := range list {
			if g := overLayers(name); !slices.Contains(shown, g) {
				if shown = append(shown, g); len(shown) > maxNames {
					break
				}
			}
		}
	}
	more := ""
	if len(shown) > maxNames {
		shown, more = shown[:maxNames], ", …"
	}
	fmt.Fprintf(w, "\n%s (%s): %s%s\n", title, countText(int64(len(list))), joinNames(shown), more)
}

// printRetyped lists the tensors that differ in type alone, by types.
func printRetyped(w io.Writer, list []diff.Tensor) {
	var types []string
	names := map[string][]string{}
	for _, t := range list {
		c := arrow(t.DTypeA, t.DTypeB)
		if names[c] == nil {
			types = append(types, c)
		}
		names[c] = append(names[c], t.Name)
	}
	for _, c := range types {
		printNames(w, c+", the same values", names[c])
	}
}

// overLayers is a name with its numbers left open: those between the marks that split names.
func overLayers(name string) string {
	var b strings.Builder
	for part := range strings.FieldsFuncSeq(name, isMark) {
		at := strings.Index(name, part)
		b.WriteString(name[:at])
		name = name[at+len(part):]
		if strings.Trim(part, "0123456789") == "" {
			part = "*"
		}
		b.WriteString(part)
	}
	return b.String() + name
}

func isMark(r rune) bool { return strings.ContainsRune("./_:", r) }
