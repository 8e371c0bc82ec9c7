package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	//go:embed assets/page.html
	pageHTML string
	//go:embed assets/page.css
	pageCSS string
	//go:embed assets/base.js
	baseJS string
	//go:embed assets/heatmap.js
	heatmapJS string
	//go:embed assets/chart.js
	chartJS string
	//go:embed assets/table.js
	tableJS string
	//go:embed assets/page.js
	pageJS string
)

// script is all of the page's, in a function of its own.
var script = "(function () {\n\"use strict\";\n" + strings.Join([]string{baseJS, heatmapJS, chartJS, tableJS, pageJS}, "\n") + "})();\n"

var page = template.Must(template.New("page").Parse(pageHTML))

// Write writes a page. It fails where the sizes of its parts do not agree, and as w does.
func Write(w io.Writer, p *Page) error {
	for _, part := range p.Parts {
		if err := part.check(len(p.Items)); err != nil {
			return err
		}
	}
	if p.First < 0 || p.First >= max(1, len(p.Items)) {
		return fmt.Errorf("item %d of %d", p.First, len(p.Items))
	}
	for i := range p.Items {
		if err := p.Items[i].check(); err != nil {
			return err
		}
	}
	data, err := encode(p)
	if err != nil {
		return err
	}
	facts := make([]Fact, len(p.Facts))
	for i, f := range p.Facts {
		facts[i] = Fact{visible(f.Label), visible(f.Value), visible(f.Note)}
	}
	return page.Execute(w, map[string]any{
		"Title": visible(p.Title), "Summary": visible(p.Summary), "Facts": facts, "Maker": visible(p.Maker),
		"Policy": fmt.Sprintf("default-src 'none'; img-src data:; script-src '%s'; style-src '%s'; base-uri 'none'; form-action 'none'", hash(script), hash(pageCSS)),
		"Style":  template.CSS(pageCSS),
		"Script": template.JS(script),
		"Data":   template.JS(data), // json.Marshal leaves no < in it
	})
}

// hash names a script or style in a content security policy.
func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// encode writes the data block. encoding/json escapes what could end the block or a line of
// a script: <, >, &, U+2028 and U+2029.
func encode(p *Page) ([]byte, error) {
	type withKind struct {
		Kind string `json:"kind"`
		Part `json:"part"`
	}
	parts := make([]withKind, len(p.Parts))
	for i, x := range p.Parts {
		parts[i] = withKind{x.kind(), x}
	}
	items := p.Items
	if items == nil {
		items = []Item{}
	}
	data, err := json.Marshal(map[string]any{"parts": parts, "items": items, "first": p.First})
	if err != nil {
		return nil, err
	}
	return visibleJSON(data), nil
}

// visibleJSON is [visible] for all strings in a JSON text.
func visibleJSON(data []byte) []byte {
	// Control characters are escapes in it already, of one backslash: two make them text.
	var out bytes.Buffer
	for i := 0; i < len(data); {
		c := data[i]
		if c == '\\' {
			n := 2
			if data[i+1] == 'u' {
				n = 6
				if code, err := strconv.ParseUint(string(data[i+2:i+6]), 16, 16); err == nil && !shown(rune(code)) {
					out.WriteByte('\\')
				}
			} else if strings.IndexByte("bfnrt", data[i+1]) >= 0 {
				out.WriteByte('\\')
			}
			out.Write(data[i : i+n])
			i += n
			continue
		}
		r, n := utf8.DecodeRune(data[i:])
		if shown(r) {
			out.Write(data[i : i+n])
		} else {
			fmt.Fprintf(&out, `\\u%04x`, r)
		}
		i += n
	}
	return out.Bytes()
}

// visible replaces characters that show nothing, or that change how others show, by escapes.
func visible(s string) string {
	var b strings.Builder
	for _, r := range s {
		if shown(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// shown reports whether a character is itself to the eye. A private or unassigned one is not.
func shown(r rune) bool {
	return r == ' ' || r != utf8.RuneError && unicode.IsGraphic(r) && !unicode.IsSpace(r)
}

// number is a float64 in JSON of which NaN is null and an infinity is text that JavaScript's
// Number reads. Six digits are more than the eye has.
type number float64

func (n number) MarshalJSON() ([]byte, error) {
	x := float64(n)
	switch {
	case math.IsNaN(x):
		return []byte("null"), nil
	case math.IsInf(x, 0):
		return strconv.AppendQuote(nil, strings.Replace(strings.TrimPrefix(fmt.Sprint(x), "+"), "Inf", "Infinity", 1)), nil
	}
	return strconv.AppendFloat(nil, x, 'g', 6, 64), nil
}

func numbers(v []float64) []number {
	if v == nil {
		return nil
	}
	out := make([]number, len(v))
	for i, x := range v {
		out[i] = number(x)
	}
	return out
}

func grid(v [][]float64) [][]number {
	out := make([][]number, len(v))
	for i, row := range v {
		out[i] = numbers(row)
	}
	return out
}

// MarshalJSON writes the values beside the rest.
func (m Measure) MarshalJSON() ([]byte, error) {
	type plain Measure
	return json.Marshal(struct {
		plain
		Values [][]number `json:"values"`
	}{plain(m), grid(m.Values)})
}

// MarshalJSON writes the values beside the rest.
func (m Matrix) MarshalJSON() ([]byte, error) {
	type plain Matrix
	return json.Marshal(struct {
		plain
		Values [][]number `json:"values"`
	}{plain(m), grid(m.Values)})
}

// MarshalJSON writes the values beside the rest.
func (s Series) MarshalJSON() ([]byte, error) {
	type plain Series
	return json.Marshal(struct {
		plain
		Values []number `json:"values"`
	}{plain(s), numbers(s.Values)})
}

// MarshalJSON writes the numbers beside the rest.
func (c Column) MarshalJSON() ([]byte, error) {
	type plain Column
	return json.Marshal(struct {
		plain
		Numbers []number `json:"numbers,omitempty"`
	}{plain(c), numbers(c.Numbers)})
}
