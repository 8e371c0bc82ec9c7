package train

import (
	"bytes"
	"image/color"
	"io"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/seed-b982eded/graft/formats"
)

const (
	curveWidth   = 7.5 * vg.Inch
	curveHeight  = 4.2 * vg.Inch
	legendHeight = 24 * vg.Length(1) // points
	curveMargin  = 10 * vg.Length(1) // points
)

var (
	colorRaw    = color.RGBA{R: 0xB3, G: 0xC9, B: 0xE3, A: 0xFF}
	colorSmooth = color.RGBA{R: 0x1F, G: 0x5F, B: 0xA8, A: 0xFF}
	colorEval   = color.RGBA{R: 0xD9, G: 0x5F, B: 0x02, A: 0xFF}
	colorGrid   = color.RGBA{R: 0xE6, G: 0xE6, B: 0xE6, A: 0xFF}
	colorText   = color.RGBA{R: 0x33, G: 0x33, B: 0x33, A: 0xFF}
)

// Curve draws the losses over the steps as an SVG image: of training as measured and
// smoothed, and of evaluations. Equal points give equal bytes. Series of thousands of
// points are thinned so that the extremes stay visible.
//
// Without points, or with a loss that is not finite or above 1e100, it writes nothing and returns a
// [formats.ErrUsage]; failures of w are [formats.ErrOutput].
func Curve(w io.Writer, points []Point) error {
	return CurveOf(w, points, "loss (nats per token)")
}

// CurveOf is [Curve] with another name for the loss.
func CurveOf(w io.Writer, points []Point, loss string) error {
	series, err := newSeries(points)
	if err != nil {
		return err
	}
	p := newPlot(series, loss)
	legend, err := addSeries(p, series)
	if err != nil {
		return formats.Usagef("loss curve: %v", err)
	}

	canvas := vgsvg.New(curveWidth, curveHeight)
	whole := draw.New(canvas)
	whole.SetColor(color.White)
	whole.Fill(whole.Rectangle.Path())
	inner := draw.Crop(whole, curveMargin, -curveMargin, curveMargin, -curveMargin)
	// The legend has a strip of its own, as a loss may run through any corner.
	height := inner.Max.Y - inner.Min.Y
	p.Draw(draw.Crop(inner, 0, 0, 0, -legendHeight))
	drawLegend(draw.Crop(inner, 0, 0, height-legendHeight, 0), legend)

	var svg bytes.Buffer
	_, err = canvas.WriteTo(&svg)
	if err == nil {
		_, err = w.Write(withFontFallback(svg.Bytes()))
	}
	if err != nil {
		return &formats.Error{Class: formats.ErrOutput, Detail: "writing the loss curve", Err: err}
	}
	return nil
}

// newPlot returns the empty plot with its axes.
func newPlot(s series, loss string) *plot.Plot {
	p := plot.New()
	p.X.Label.Text = "step"
	p.Y.Label.Text = loss
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Label.TextStyle.Font = sans(10)
		axis.Label.TextStyle.Color = colorText
		axis.Label.Padding = vg.Points(4)
		axis.Tick.Label.Font = sans(9)
		axis.Tick.Label.Color = colorText
		axis.Tick.Length = vg.Points(4)
		axis.Tick.Color = colorText
		axis.Color = colorText
		axis.Padding = 0
	}
	p.X.Tick.Marker = ticks{most: 10, whole: true}
	p.Y.Tick.Marker = ticks{most: 8}
	p.X.Min, p.X.Max = s.stepRange()
	p.Y.Min, p.Y.Max = s.lossRange()

	grid := plotter.NewGrid()
	grid.Vertical.Width = 0
	grid.Horizontal.Color = colorGrid
	grid.Horizontal.Width = vg.Points(0.75)
	p.Add(grid)
	return p
}

// legendItem is a name with the line and marker that stand for it.
type legendItem struct {
	name   string
	thumbs []plot.Thumbnailer
}

// addSeries draws the series, the most important one last, and returns its legend.
func addSeries(p *plot.Plot, s series) ([]legendItem, error) {
	var legend []legendItem
	line := func(name string, xy plotter.XYs, c color.Color, width vg.Length) error {
		if len(xy) == 0 {
			return nil
		}
		l, err := plotter.NewLine(xy)
		if err != nil {
			return err
		}
		l.Color, l.Width = c, width
		item := legendItem{name: name, thumbs: []plot.Thumbnailer{l}}
		p.Add(l)
		if len(xy) <= fewPoints {
			dots, err := plotter.NewScatter(xy)
			if err != nil {
				return err
			}
			dots.GlyphStyle = draw.GlyphStyle{Color: c, Radius: vg.Points(2.2), Shape: draw.CircleGlyph{}}
			item.thumbs = append(item.thumbs, dots)
			p.Add(dots)
		}
		legend = append(legend, item)
		return nil
	}
	raw, width := colorRaw, vg.Points(1)
	if len(s.smooth) == 0 {
		raw, width = colorSmooth, vg.Points(1.75)
	}
	if err := line("training", thin(s.train), raw, width); err != nil {
		return nil, err
	}
	if err := line("training, smoothed", thin(s.smooth), colorSmooth, vg.Points(1.75)); err != nil {
		return nil, err
	}
	if err := line("held out", thin(s.eval), colorEval, vg.Points(1.75)); err != nil {
		return nil, err
	}
	return legend, nil
}

// fewPoints is up to how many points are marked one by one.
const fewPoints = 40

// drawLegend writes the items side by side from the left.
func drawLegend(c draw.Canvas, items []legendItem) {
	for _, item := range items {
		l := plot.NewLegend()
		l.Left, l.Top = true, true
		l.YPosition = draw.PosCenter
		l.TextStyle.Font = sans(9)
		l.TextStyle.Color = colorText
		l.ThumbnailWidth = vg.Points(22)
		l.Add(item.name, item.thumbs...)
		at := c
		at.Min.X += legendIndent
		l.Draw(at)
		box := l.Rectangle(at)
		c.Min.X += box.Max.X - box.Min.X + legendGap
	}
}

const (
	legendIndent = 36 * vg.Length(1) // points, about where the axis stands
	legendGap    = 18 * vg.Length(1) // points
)

func sans(size float64) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: vg.Points(size)}
}

// withFontFallback names fonts for viewers that lack the one that was measured with;
// Arial and Helvetica have its widths.
func withFontFallback(svg []byte) []byte {
	return bytes.ReplaceAll(svg,
		[]byte("font-family:Liberation Sans;"),
		[]byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;"))
}

// ticks marks an axis at multiples of 1, 2 or 5 times a power of ten.
type ticks struct {
	most  int  // marks, at most one more
	whole bool // at integers only
}

// Ticks implements [plot.Ticker].
func (t ticks) Ticks(low, high float64) []plot.Tick {
	step := tickStep((high-low)/float64(t.most), t.whole)
	decimals := max(0, int(-math.Floor(math.Log10(step)+1e-9)))
	var marks []plot.Tick
	first := math.Ceil(low/step - 1e-9)
	for i := range t.most + 2 {
		at := (first + float64(i)) * step
		if at <= high+step*1e-9 {
			marks = append(marks, plot.Tick{Value: at, Label: tickLabel(at, decimals)})
		}
	}
	return marks
}
