package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/internal/parallel"
	"github.com/seed-b982eded/graft/train/data"
)

// trainFingerprint tells whether two runs of train are the same one.
type trainFingerprint struct {
	// Settings are the values of all flags that decide what is learned or written, by name.
	Settings map[string]string `json:"settings"`
	// Inputs are the SHA-256 of what is read, by what it is called in messages.
	Inputs map[string]string `json:"inputs"`
}

// resultFree are the flags of train that decide nothing of a result, and those whose files
// count by their content.
var resultFree = []string{
	"out", "force", "dry-run", "json", "report", "workers", "quiet", "resume",
	"base", "adapter", "data", "eval-data", "config", "print-config", "help",
}

// fingerprint describes a run. The base and the data were read before, so it takes about the
// time of reading the base once more from the system's cache.
func (l *lesson) fingerprint(c *cli.Context, base *formats.Checkpoint) (*trainFingerprint, error) {
	f := &trainFingerprint{Settings: map[string]string{}, Inputs: map[string]string{}}
	for _, flag := range c.Command.Flags {
		name := flag.Names()[0]
		if slices.Contains(resultFree, name) {
			continue
		}
		value := c.Value(name)
		if _, ok := flag.(*cli.StringSliceFlag); ok {
			value = strings.Join(c.StringSlice(name), ", ")
		}
		f.Settings[name] = fmt.Sprint(value)
	}
	var err error
	if f.Inputs["base"], err = baseSum(base); err != nil {
		return nil, err
	}
	if f.Inputs["training data"], err = examplesSum(l.set); err != nil {
		return nil, err
	}
	if l.heldSet != nil {
		if f.Inputs["held-out data"], err = examplesSum(l.heldSet); err != nil {
			return nil, err
		}
	}
	if c.IsSet("adapter") {
		f.Inputs["adapter"], err = adapterSum(l.start)
	}
	return f, err
}

// baseSum sums up all that a model computes with: the weights as they lie in their files,
// and the files that say what to do with them. An interruption is when it may be wanted, so
// none stops it.
func baseSum(base *formats.Checkpoint) (string, error) {
	tensors := slices.Collect(base.Tensors())
	sums := make([][sha256.Size]byte, len(tensors))
	err := parallel.Each(context.Background(), len(tensors), 0, func(i int) (err error) {
		sums[i], err = tensorHash(tensors[i])
		return err
	})
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for i, t := range tensors {
		fmt.Fprintf(h, "%q %s %v %x\n", t.Name, t.DType, t.Shape, sums[i])
	}
	for _, f := range base.SideFiles() {
		if !strings.HasSuffix(f.Name, ".json") || strings.HasSuffix(f.Name, ".index.json") || strings.HasPrefix(f.Name, "tokenizer") {
			continue // what the tokenizer makes of the data is what counts
		}
		text, err := base.ReadSideFile(f.Name, formats.MaxIndexBytes)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%q %x\n", f.Name, sha256.Sum256(text))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// examplesSum sums up examples as the model sees them. Where they were read from does not
// count, which of a pipe is another place each time.
func examplesSum(set *data.Set) (string, error) {
	h := sha256.New()
	enc := json.NewEncoder(h)
	for _, e := range set.Examples {
		e.Origin = data.Origin{}
		if err := enc.Encode(e); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// adapterSum sums up an adapter that training goes on from.
func adapterSum(a *adapter.Adapter) (string, error) {
	h := sha256.New()
	h.Write(a.Config)
	for _, e := range a.Entries {
		for _, t := range e.Update.Tensors() {
			sum, err := tensorHash(t)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(h, "%q %q %s %v %x\n", e.Module, t.Name, t.DType, t.Shape, sum)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// differences says in which ways a checkpoint's run is another one, nil if in none.
func (f *trainFingerprint) differences(checkpoint *trainFingerprint) []string {
	var flags, inputs []string
	both := func(a, b map[string]string) []string {
		var names []string
		for name := range a {
			names = append(names, name)
		}
		for name := range b {
			if _, ok := a[name]; !ok {
				names = append(names, name)
			}
		}
		sort.Strings(names)
		return names
	}
	for _, name := range both(f.Settings, checkpoint.Settings) {
		got, want := f.Settings[name], checkpoint.Settings[name]
		if got != want {
			flags = append(flags, fmt.Sprintf("--%s (got %s, the checkpoint has %s)", name, settingText(got), settingText(want)))
		}
	}
	for _, name := range both(f.Inputs, checkpoint.Inputs) {
		if f.Inputs[name] != checkpoint.Inputs[name] {
			inputs = append(inputs, "the "+name)
		}
	}
	return append(flags, inputs...)
}

func settingText(value string) string {
	if value == "" {
		return "none"
	}
	if strings.ContainsAny(value, " \t\n\"") || len(value) > 60 {
		return formats.Quote(value)
	}
	return value
}
