package report

import "fmt"

// Page is a report.
type Page struct {
	Title   string // of the page and its first heading
	Summary string // what was found, in a sentence
	Facts   []Fact // the few figures that matter most
	Parts   []Part // in the order in which they are shown
	Items   []Item // what heat maps, tables and details speak of, by index
	First   int    // the item that is chosen until the reader does
	Maker   string // who made the page, at its foot and as the generator in its head
}

// Fact is a figure with what it says.
type Fact struct {
	Label string `json:"label"`
	Value string `json:"value"`
	Note  string `json:"note,omitempty"` // in small letters, if not empty
}

// Part is a section of a page: a [HeatMap], a [Table] or [Details].
type Part interface {
	kind() string
	// check fails where sizes do not agree, or an item is not on the page.
	check(items int) error
}

// Item is a thing that the reader may choose to see more of.
type Item struct {
	Name     string   `json:"name"`
	Facts    []Fact   `json:"facts,omitempty"`
	Charts   []Chart  `json:"charts,omitempty"`
	Matrices []Matrix `json:"matrices,omitempty"`
}

// Details is where the chosen item is shown.
type Details struct {
	Title string `json:"title"`
	Note  string `json:"note,omitempty"`
}

// HeatMap is a grid of cells, each coloured by a number.
type HeatMap struct {
	Title   string   `json:"title"`
	Note    string   `json:"note,omitempty"`
	RowName string   `json:"row_name"` // what a row is, in the singular: "module"
	ColName string   `json:"col_name"`
	Rows    []string `json:"rows"` // their names
	Cols    []string `json:"cols"`
	// Items is what each cell stands for, row by row: an index of the page's items, or −1.
	Items    [][]int   `json:"items"`
	Measures []Measure `json:"measures"` // the first is shown first
}

// Measure is a number for each cell of a heat map.
type Measure struct {
	Name string `json:"name"`
	Note string `json:"note,omitempty"`
	// Values, row by row; NaN where there is none.
	Values [][]float64 `json:"-"`
	// From and To are the ends of the colours; the smallest and largest value where both
	// are 0. With Log colours go by the logarithm, and what is not above 0 has the first.
	From float64 `json:"from,omitempty"`
	To   float64 `json:"to,omitempty"`
	Log  bool    `json:"log,omitempty"`
}

// Table is a list of things with their numbers.
type Table struct {
	Title   string   `json:"title"`
	Note    string   `json:"note,omitempty"`
	Columns []Column `json:"columns"`         // of one length; the first names the row
	Items   []int    `json:"items,omitempty"` // of each row, an index or −1; nil where none has one
	By      int      `json:"by,omitempty"`    // the column that rows are sorted by at first; as they are where it is 0
	Plain   bool     `json:"plain,omitempty"` // neither sorted nor filtered
	// Stacked puts the cells of a row under one another where a window is narrow, for sentences.
	Stacked bool `json:"stacked,omitempty"`
}

// Column is one of a table. It has Numbers, Texts or both: then texts are shown, and sorted
// by the numbers.
type Column struct {
	Name    string    `json:"name"`
	Note    string    `json:"note,omitempty"` // what it means, for who points at the name
	Numbers []float64 `json:"-"`
	Texts   []string  `json:"texts,omitempty"`
	// Code shows texts in letters of one width, as names found in files.
	Code bool `json:"code,omitempty"`
}

func (c *Column) rows() int { return max(len(c.Numbers), len(c.Texts)) }

// Chart shows series of numbers: lines over their index from 1 on, or with Labels a bar for
// each.
type Chart struct {
	Title  string   `json:"title"`
	X      string   `json:"x,omitempty"` // what the axes are
	Y      string   `json:"y,omitempty"`
	Log    bool     `json:"log,omitempty"` // y goes by the logarithm; what is not above 0 is left out
	Series []Series `json:"series"`
	Labels []string `json:"labels,omitempty"` // of the bars of one series
}

// Series is one line or set of bars. Those of the same place have the same colour everywhere.
type Series struct {
	Name string `json:"name"`
	// Values of a series that is not there are nil: it only keeps a place, that those after
	// it have the colours which they have elsewhere.
	Values []float64 `json:"-"`
}

// Matrix is a small grid of numbers from 0 to 1 that are written into the cells.
type Matrix struct {
	Title   string      `json:"title"`
	Note    string      `json:"note,omitempty"`
	RowName string      `json:"row_name"`
	ColName string      `json:"col_name"`
	Rows    []string    `json:"rows"`
	Cols    []string    `json:"cols"`
	Values  [][]float64 `json:"-"`
}

func (*Details) kind() string { return "details" }
func (*HeatMap) kind() string { return "heatmap" }
func (*Table) kind() string   { return "table" }

func (d *Details) check(items int) error {
	if items == 0 {
		return fmt.Errorf("details %q of a page without items", d.Title)
	}
	return nil
}

func (h *HeatMap) check(items int) error {
	if len(h.Items) != len(h.Rows) || len(h.Rows) == 0 || len(h.Cols) == 0 || len(h.Measures) == 0 {
		return fmt.Errorf("heat map %q: %d rows of items for %d rows, %d columns and %d measures", h.Title, len(h.Items), len(h.Rows), len(h.Cols), len(h.Measures))
	}
	for _, row := range h.Items {
		if len(row) != len(h.Cols) {
			return fmt.Errorf("heat map %q: a row of %d items for %d columns", h.Title, len(row), len(h.Cols))
		}
		if err := checkItems(row, items); err != nil {
			return fmt.Errorf("heat map %q: %w", h.Title, err)
		}
	}
	for _, m := range h.Measures {
		if err := checkGrid(m.Values, len(h.Rows), len(h.Cols)); err != nil {
			return fmt.Errorf("heat map %q: measure %q: %w", h.Title, m.Name, err)
		}
	}
	return nil
}

func (t *Table) check(items int) error {
	if len(t.Columns) == 0 {
		return fmt.Errorf("table %q has no columns", t.Title)
	}
	if t.By < 0 || t.By >= len(t.Columns) {
		return fmt.Errorf("table %q: sorted by column %d of %d", t.Title, t.By, len(t.Columns))
	}
	rows := t.Columns[0].rows()
	for _, c := range t.Columns {
		if c.rows() != rows || c.Numbers != nil && len(c.Numbers) != rows || c.Texts != nil && len(c.Texts) != rows {
			return fmt.Errorf("table %q: column %q has %d numbers and %d texts for %d rows", t.Title, c.Name, len(c.Numbers), len(c.Texts), rows)
		}
	}
	if t.Items != nil && len(t.Items) != rows {
		return fmt.Errorf("table %q: %d items for %d rows", t.Title, len(t.Items), rows)
	}
	if err := checkItems(t.Items, items); err != nil {
		return fmt.Errorf("table %q: %w", t.Title, err)
	}
	return nil
}

func (i *Item) check() error {
	for _, c := range i.Charts {
		if len(c.Series) == 0 {
			return fmt.Errorf("item %q: chart %q has no series", i.Name, c.Title)
		}
		if c.Labels != nil && (len(c.Series) != 1 || len(c.Series[0].Values) != len(c.Labels)) {
			return fmt.Errorf("item %q: chart %q: bars are one number for each of %d labels", i.Name, c.Title, len(c.Labels))
		}
	}
	for _, m := range i.Matrices {
		if err := checkGrid(m.Values, len(m.Rows), len(m.Cols)); err != nil {
			return fmt.Errorf("item %q: matrix %q: %w", i.Name, m.Title, err)
		}
	}
	return nil
}

func checkGrid(values [][]float64, rows, cols int) error {
	if len(values) != rows {
		return fmt.Errorf("%d rows of values, want %d", len(values), rows)
	}
	for _, row := range values {
		if len(row) != cols {
			return fmt.Errorf("a row of %d values, want %d", len(row), cols)
		}
	}
	return nil
}

func checkItems(list []int, items int) error {
	for _, i := range list {
		if i < -1 || i >= items {
			return fmt.Errorf("item %d of %d", i, items)
		}
	}
	return nil
}
