package main

import (
	"bytes"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/publish"
	html "github.com/seed-b982eded/graft/patch/report"
)

// checkPage refuses a page of --html over an input, over the report or over a file of another
// kind, before any work is done.
func checkPage(c *cli.Context, inputs ...string) error {
	path := c.String("html")
	if !c.IsSet("html") {
		return nil
	}
	if err := checkNotStdout("html", path); err != nil {
		return err
	}
	if other := c.String("report"); other != "" && overlap(path, other) {
		return formats.Usagef("page %s overlaps report %s", formats.Quote(path), formats.Quote(other))
	}
	for _, in := range inputs {
		if err := publish.CheckApart(in, path); err != nil {
			return err
		}
	}
	return checkReplace(path)
}

// oneByOne shows what the reader chooses, in a map if there is one, or a table.
func oneByOne(what string, mapped bool) *html.Details {
	where := "a table"
	if mapped {
		where = "the map or a table"
	}
	return &html.Details{Title: "One by one", Note: what + " is chosen in " + where + "."}
}

// writePage writes a page whole or not at all.
func writePage(path string, p *html.Page) error {
	p.Maker = "graft " + readVersion().Version
	var b bytes.Buffer
	if err := html.Write(&b, p); err != nil {
		return err
	}
	return writeWhole(path, b.Bytes())
}
