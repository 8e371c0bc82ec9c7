//go:build ignore

// Command testsum reads what "go test -json" prints and prints what a reader wants of it: a line
// for each package, benchmarks, and all that a failed test said. It appends the numbers
// of tests that passed, failed and were skipped to a file.
//
//	go test -json ./... | testsum [-logs] COUNTS
//
// A package that fails without a failed test, because it does not compile or exits early,
// counts as one failure.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
)

// event is a line of go test -json.
type event struct {
	Action, Package, ImportPath, Test, Output string
	Elapsed                                   float64
}

type counts struct{ passed, failed, skipped int }

func (c *counts) add(action string) {
	switch action {
	case "pass":
		c.passed++
	case "fail":
		c.failed++
	case "skip":
		c.skipped++
	}
}

func main() {
	logs := flag.Bool("logs", false, "print what tests log even if they pass")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: testsum [-logs] COUNTS")
		os.Exit(1)
	}
	total, err := summarize(*logs)
	if err == nil {
		err = appendCounts(flag.Arg(0), total)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
}

func summarize(logs bool) (total counts, err error) {
	said := map[string]*strings.Builder{} // by package and test
	packages := map[string]*counts{}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Action == "" {
			fmt.Println(lines.Text()) // of the go command itself
			continue
		}
		key := e.Package + " " + e.Test
		n := packages[e.Package]
		if n == nil {
			n = &counts{}
			packages[e.Package] = n
		}
		switch e.Action {
		case "build-output":
			fmt.Print(e.Output)
		case "output":
			log := strings.HasPrefix(e.Output, "    ") && !strings.HasPrefix(strings.TrimLeft(e.Output, " "), "---")
			if logs && log || strings.Contains(e.Output, " ns/op") {
				fmt.Print(e.Output)
				continue
			}
			if said[key] == nil {
				said[key] = &strings.Builder{}
			}
			said[key].WriteString(e.Output)
		case "pass", "fail", "skip":
			if e.Action == "fail" && said[key] != nil {
				fmt.Print(said[key])
			}
			delete(said, key)
			if e.Test != "" {
				n.add(e.Action)
				continue
			}
			if *n == (counts{}) && e.Action != "fail" {
				continue // without tests
			}
			if e.Action == "fail" && n.failed == 0 {
				n.failed = 1
			}
			fmt.Printf("%-5s %s  %d passed, %d failed, %d skipped  %.1f s\n", e.Action, e.Package, n.passed, n.failed, n.skipped, e.Elapsed)
			total.passed, total.failed, total.skipped = total.passed+n.passed, total.failed+n.failed, total.skipped+n.skipped
		}
	}
	return total, lines.Err()
}

func appendCounts(name string, c counts) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintln(f, c.passed, c.failed, c.skipped)
	return err
}
