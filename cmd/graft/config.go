package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v4"

	"github.com/seed-b982eded/graft/formats"
)

// A command with configFlags takes its other flags from a YAML file too: a key is a
// flag's name, and a flag of the command line goes before what the file says. The file
// becomes arguments like those of the command line, so that all that holds for those
// holds for its keys.

// configFlags are the flags of a command that reads a file of flags.
func configFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "config", Usage: "take flags from a YAML `FILE`, such as batch_size: 8; those given here go before, and paths in it are relative to where graft runs"},
		&cli.BoolFlag{Name: "print-config", Usage: "print all flags with their values as such a file, and do nothing else"},
	}
}

// inConfig reports whether a file may set a flag.
func inConfig(f cli.Flag) bool {
	return !slices.Contains([]string{"config", "print-config", "help"}, f.Names()[0])
}

// maxConfigFileBytes bounds a file of flags, which a person writes.
const maxConfigFileBytes = 1 << 20

// commaLists are the flags whose value is names split by commas; a file may have a list.
var commaLists = []string{"target-modules", "exclude-modules", "layers-to-transform", "columns"}

// pairs reports whether a flag's value is KEY=VALUE; a file may have a map.
func pairs(f cli.Flag) bool {
	value, _ := flagValue(f.(cli.DocGenerationFlag))
	return strings.Contains(value, "=")
}

// configArgs returns the flags of a command that a file sets as arguments, but those that
// are given and those that exclude one of these.
func configArgs(path string, command *cli.Command, given map[string]bool) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, &formats.Error{Class: formats.ErrInput, File: path, Err: formats.Cause(err)}
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxConfigFileBytes+1))
	if err != nil {
		return nil, &formats.Error{Class: formats.ErrInput, File: path, Err: formats.Cause(err)}
	}
	settings, err := parseConfig(path, text, command.Flags)
	if err != nil {
		return nil, err
	}
	var args []string
	for _, s := range settings {
		if given[s.name] || slices.ContainsFunc(excludedBy(command.Name, s.name), func(other string) bool { return given[other] }) {
			continue
		}
		for _, v := range s.values {
			args = append(args, "--"+s.name+"="+v)
		}
	}
	return args, nil
}

// setting is a flag with its values; only one that may be repeated has several.
type setting struct {
	name   string
	values []string
}

// parseConfig reads a file of flags. All that is wrong with it is reported, each with its
// line.
func parseConfig(path string, text []byte, flags []cli.Flag) ([]setting, error) {
	if len(text) > maxConfigFileBytes {
		return nil, formats.Rejectf(path, "", "too large for a file of flags (want at most %d bytes)", maxConfigFileBytes)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); err != nil && err != io.EOF {
		return nil, yamlError(path, err)
	}
	switch err := dec.Decode(&more); {
	case err == nil:
		return nil, formats.Rejectf(path, "", "line %d: a second document (want one)", max(more.Line, 1))
	case err != io.EOF:
		return nil, yamlError(path, err)
	}
	r := &configReader{path: path, flags: flags, lines: map[string]int{}}
	if len(doc.Content) > 0 {
		r.document(doc.Content[0])
	}
	return r.settings, r.problems.Err()
}

// yamlError words what the YAML library says about a file.
func yamlError(path string, err error) error {
	var at *yaml.LoadError
	if errors.As(err, &at) && at.Mark.Line > 0 && at.Message != "" {
		return formats.Rejectf(path, "", "line %d: not YAML: %s", at.Mark.Line, at.Message)
	}
	what := strings.TrimPrefix(strings.Join(strings.Fields(err.Error()), " "), "yaml: ")
	return formats.Rejectf(path, "", "not YAML: %s", what)
}

// configReader turns the nodes of a file into settings.
type configReader struct {
	path     string
	flags    []cli.Flag
	settings []setting
	lines    map[string]int // of the flags that are set
	problems formats.Problems
}

func (r *configReader) reject(n *yaml.Node, format string, args ...any) *formats.Error {
	err := formats.Rejectf(r.path, "", "line %d: "+format, append([]any{n.Line}, args...)...)
	r.problems.Add(err)
	return err
}

func (r *configReader) document(top *yaml.Node) {
	if top.Kind == yaml.ScalarNode && top.Tag == "!!null" { // an empty file
		return
	}
	if !r.plain(top) {
		return
	}
	if top.Kind != yaml.MappingNode {
		r.reject(top, "got %s, want the names of flags with their values", nodeText(top))
		return
	}
	for i := 0; i+1 < len(top.Content); i += 2 {
		r.entry(top.Content[i], top.Content[i+1])
	}
}

// plain refuses what makes one node stand for others, and types of somebody's own. It
// looks at the node alone.
func (r *configReader) plain(n *yaml.Node) bool {
	switch {
	case n.Kind == yaml.AliasNode, n.Anchor != "", n.Tag == "!!merge":
		r.reject(n, "anchors, aliases and merge keys are not read")
	case n.Style&yaml.TaggedStyle != 0:
		r.reject(n, "tags are not read (got %s)", formats.Quote(n.Tag))
	default:
		return true
	}
	return false
}

// entry reads one flag.
func (r *configReader) entry(key, value *yaml.Node) {
	if !r.plain(key) || !r.plain(value) {
		return
	}
	if key.Kind != yaml.ScalarNode {
		r.reject(key, "a key is %s (want the name of a flag)", nodeText(key))
		return
	}
	f := r.flag(key)
	if f == nil {
		return
	}
	name := f.Names()[0]
	if first, twice := r.lines[name]; twice {
		r.reject(key, "%s is given twice, first in line %d", formats.Quote(key.Value), first)
		return
	}
	r.lines[name] = key.Line
	if value.Kind == yaml.ScalarNode && value.Tag == "!!null" { // not set
		return
	}
	if values, ok := r.values(f, key, value); ok && len(values) > 0 {
		r.settings = append(r.settings, setting{name, values})
	}
}

// flag returns the flag that a key names, with dashes or with underscores, or nil.
func (r *configReader) flag(key *yaml.Node) cli.Flag {
	name := strings.ReplaceAll(key.Value, "_", "-")
	var names []string
	for _, f := range r.flags {
		if !inConfig(f) {
			continue
		}
		if slices.Contains(f.Names(), name) {
			return f
		}
		names = append(names, f.Names()[0])
	}
	err := r.reject(key, "unknown key %s", formats.Quote(key.Value))
	if near := formats.Nearest(name, names, 1); len(near) > 0 {
		err.Hint = fmt.Sprintf("did you mean %s?", near[0])
	}
	return nil
}

// values reads the value of a flag: one, or those of a list or map where it takes several.
func (r *configReader) values(f cli.Flag, key, n *yaml.Node) (values []string, ok bool) {
	_, repeats := f.(*cli.StringSliceFlag)
	joined := slices.Contains(commaLists, f.Names()[0])
	switch {
	case n.Kind == yaml.ScalarNode:
		v, ok := r.scalar(f, key, n)
		return []string{v}, ok
	case n.Kind == yaml.SequenceNode && (repeats || joined):
		values, ok = r.list(f, key, n)
	case n.Kind == yaml.MappingNode && pairs(f):
		values, ok = r.pairs(f, key, n)
	default:
		r.reject(n, "%s is %s (want %s)", formats.Quote(key.Value), nodeText(n), wantedInFile(f))
		return nil, false
	}
	if !joined || !ok || len(values) == 0 {
		return values, ok
	}
	for _, v := range values {
		if strings.Contains(v, ",") || !pairs(f) && special.MatchString(v) {
			r.reject(n, "%s: %s is no name (a list has names; a regular expression is one string)", formats.Quote(key.Value), formats.Quote(v))
			return nil, false
		}
	}
	return []string{strings.Join(values, ",")}, true
}

func (r *configReader) list(f cli.Flag, key, n *yaml.Node) (values []string, ok bool) {
	for _, item := range n.Content {
		if !r.plain(item) {
			return nil, false
		}
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
			r.reject(item, "%s has %s in its list (want %s)", formats.Quote(key.Value), nodeText(item), wantedInFile(f))
			return nil, false
		}
		v, ok := r.scalar(f, key, item)
		if !ok {
			return nil, false
		}
		values = append(values, v)
	}
	return values, true
}

func (r *configReader) pairs(f cli.Flag, key, n *yaml.Node) (values []string, ok bool) {
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if !r.plain(k) || !r.plain(v) {
			return nil, false
		}
		if k.Kind != yaml.ScalarNode || k.Value == "" || v.Kind != yaml.ScalarNode || v.Tag == "!!null" {
			r.reject(k, "%s: got %s for %s (want a name with one value)", formats.Quote(key.Value), nodeText(v), nodeText(k))
			return nil, false
		}
		if first, twice := lines[k.Value]; twice {
			r.reject(k, "%s: %s is given twice, first in line %d", formats.Quote(key.Value), formats.Quote(k.Value), first)
			return nil, false
		}
		lines[k.Value] = k.Line
		text, ok := r.scalar(f, key, v)
		if !ok {
			return nil, false
		}
		values = append(values, k.Value+"="+text)
	}
	return values, true
}

// scalar returns a value as the command line has it. A string flag takes numbers and
// booleans as they are written, and no other flag takes a string.
func (r *configReader) scalar(f cli.Flag, key, n *yaml.Node) (string, bool) {
	value := n.Value
	_, isBool := f.(*cli.BoolFlag)
	_, isString := f.(*cli.StringFlag)
	_, isSlice := f.(*cli.StringSliceFlag)
	if n.Tag == "!!bool" {
		value = strings.ToLower(value)
	}
	if value == "" {
		r.reject(n, "%s has an empty value", formats.Quote(key.Value))
		return "", false
	}
	if strings.ContainsRune(value, 0) {
		r.reject(n, "%s: %s has a zero character", formats.Quote(key.Value), formats.Quote(value))
		return "", false
	}
	fits := isString || isSlice || isBool == (n.Tag == "!!bool") && n.Tag != "!!str"
	plain, ok := flagText(f, value)
	if !fits || !ok {
		err := r.reject(n, "%s: %s is not %s", formats.Quote(key.Value), formats.Quote(n.Value), wantedBy(f))
		if ok && n.Tag == "!!str" {
			err.Hint = "write it without quotes"
		}
		return "", false
	}
	return plain, true
}

// wantedInFile says what a flag takes in a file.
func wantedInFile(f cli.Flag) string {
	_, repeats := f.(*cli.StringSliceFlag)
	switch {
	case pairs(f):
		return "names with their values, or texts such as KEY=VALUE"
	case repeats || slices.Contains(commaLists, f.Names()[0]):
		return "a text or a list of texts"
	}
	return wantedBy(f)
}

// nodeText names what a node is.
func nodeText(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	if n.Tag == "!!null" {
		return "null"
	}
	return formats.Quote(n.Value)
}

// exclusiveFlags returns the pairs of a command's flags of which one alone may be given.
func exclusiveFlags(command string) [][2]string {
	if command == "train" {
		return exclusiveTrainFlags()
	}
	return nil
}

// excludedBy returns the flags that may not be given with one of a command.
func excludedBy(command, flag string) (others []string) {
	for _, pair := range exclusiveFlags(command) {
		switch flag {
		case pair[0]:
			others = append(others, pair[1])
		case pair[1]:
			others = append(others, pair[0])
		}
	}
	return others
}
