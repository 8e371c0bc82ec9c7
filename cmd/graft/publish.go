package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/hf"
	"github.com/seed-b982eded/graft/formats/publish"
)

// publishFlags are those of commands that write a model.
func publishFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "max-shard-size", Usage: "cut the weights into files of at most `SIZE`, such as 5GB, or join them"},
		&cli.BoolFlag{Name: "resume", Usage: "keep finished files on a failure or Ctrl-C, and go on from those of an earlier run"},
		&cli.BoolFlag{Name: "sha256", Usage: "report the SHA-256 of every file, by reading it back"},
		&cli.BoolFlag{Name: "no-fsync", Usage: "do not wait for the disk: faster, not safe against power loss"},
	}
}

// publication is a model on its way to the disk.
type publication struct {
	co   *console
	set  publish.Set
	size int64 // of the weights
	out  string
	opts publish.Options
	what string // it is doing, for the progress bar

	files []writtenFile
}

type writtenFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	CRC32C string `json:"crc32c"`
	SHA256 string `json:"sha256,omitempty"`
}

// newPublication reads the flags. Files are summed up where a report is wanted.
func newPublication(c *cli.Context, co *console, what string, set publish.Set, inputs []string) *publication {
	p := &publication{co: co, set: set, out: outPath(c), what: what}
	for _, f := range set.Files {
		if f.Weights {
			p.size += f.Size
		}
	}
	p.opts = publish.Options{
		Force: c.Bool("force"), NoSync: c.Bool("no-fsync"), Inputs: inputs, Resume: c.Bool("resume"), SHA256: c.Bool("sha256"),
	}
	if p.opts.SHA256 || co.json || co.report != "" {
		p.opts.File = func(f publish.FileResult) error {
			p.files = append(p.files, writtenFile{f.Name, f.Size, fmt.Sprintf("%08x", f.CRC32C), f.SHA256})
			return nil
		}
	}
	return p
}

// resharded cuts a checkpoint into files as --max-shard-size says.
func resharded(c *cli.Context, ckpt *formats.Checkpoint) (*formats.Checkpoint, error) {
	if !c.IsSet("max-shard-size") {
		return ckpt, nil
	}
	limit, err := parseSize(c.String("max-shard-size"))
	if err != nil {
		return nil, err
	}
	return hf.Reshard(ckpt, limit)
}

// check reports what would keep the publication from starting.
func (p *publication) check() error { return publish.Check(p.set, p.out, p.opts) }

// run writes everything.
func (p *publication) run(ctx context.Context) error {
	began := time.Now()
	b := p.co.newBar(p.what, float64(p.size))
	p.opts.Progress = func(n int64) {
		b.add(float64(n), func(rate float64) string { return sizeText(int64(rate)) + "/s" })
	}
	err := publish.Write(ctx, p.set, p.out, p.opts)
	b.end()
	if err != nil {
		return err
	}
	p.co.noteLeft(p.out)
	done := map[string]string{"merging": "merged", "converting": "converted", "injecting": "wrote"}[p.what]
	p.co.note("%s %s in %.1f s", done, sizeText(p.size), time.Since(began).Seconds())
	return nil
}

// noteLeftOut says which files of the base's directory stay behind.
func (p *publication) noteLeftOut(names []string) {
	if len(names) == 0 {
		return
	}
	shown := names[:min(len(names), 5)]
	more := ""
	if n := len(names) - len(shown); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	p.co.note("note: not carried to the output: %s%s", joinNames(shown), more)
}

// printSums lists SHA-256 sums as sha256sum does, where they were asked for.
func printSums(w io.Writer, files []writtenFile) {
	for _, f := range files {
		if f.SHA256 != "" {
			fmt.Fprintf(w, "%s  %s\n", f.SHA256, f.Name)
		}
	}
}

// parseSize reads a number of bytes: plain, or with kB, MB, GB, TB, KiB, MiB, GiB, TiB.
func parseSize(s string) (int64, error) {
	units := []struct {
		name string
		n    float64
	}{
		{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
		{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
	}
	number, unit := strings.TrimSpace(s), 1.0
	for _, u := range units {
		if len(number) > len(u.name) && strings.EqualFold(number[len(number)-len(u.name):], u.name) {
			number, unit = strings.TrimSpace(number[:len(number)-len(u.name)]), u.n
			break
		}
	}
	x, err := strconv.ParseFloat(number, 64)
	if err != nil || !(x*unit >= 1) || x*unit > 1<<62 {
		return 0, formats.Usagef("%s is not a size (want for example 5GB, 500MB or 4GiB)", formats.Quote(s))
	}
	return int64(x * unit), nil
}

// resumable returns what an error says of finished files that stay.
func resumable(err error) (string, bool) {
	var layers *layersLeft
	if errors.As(err, &layers) {
		return layers.text, true
	}
	var r *publish.ResumableError
	if !errors.As(err, &r) {
		return "", false
	}
	return fmt.Sprintf("%d of %s are finished and stay in %s: the same command goes on from there", r.Finished, countOf(r.Shards, "weight file"), formats.Quote(r.Dir)), true
}
