package main

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v4"

	"github.com/seed-b982eded/graft/formats"
)

// orPrintConfig returns a command's action, which prints the flags instead where
// --print-config asks for it.
func orPrintConfig(action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		if !c.Bool("print-config") {
			return action(c)
		}
		for _, pair := range exclusiveFlags(c.Command.Name) {
			if err := oneOf(c, pair[0], pair[1]); err != nil {
				return err
			}
		}
		if err := noPaths(c); err != nil {
			return err
		}
		text, err := configText(c)
		if err != nil {
			return err
		}
		if _, err := c.App.Writer.Write(text); err != nil {
			return formats.Outputf("stdout", formats.Cause(err), "")
		}
		return nil
	}
}

// needNothing makes a command take any of its flags.
func needNothing(command *cli.Command) {
	for _, f := range command.Flags {
		switch f := f.(type) {
		case *cli.StringFlag:
			f.Required = false
		case *cli.StringSliceFlag:
			f.Required = false
		}
	}
}

// configText returns a file of flags that gives what the command line gives: the flags
// that are set, and the defaults of the others. A flag that must not be given beside one
// that is set is null, which sets nothing, as is one without a default of its own.
func configText(c *cli.Context) ([]byte, error) {
	doc := &yaml.Node{Kind: yaml.MappingNode}
	doc.HeadComment = fmt.Sprintf("# Flags of graft %s; null leaves one out.\n", c.Command.Name)
	for _, f := range c.Command.Flags {
		if !inConfig(f) {
			continue
		}
		name, value := f.Names()[0], &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}
		excluded := slices.ContainsFunc(excludedBy(c.Command.Name, name), c.IsSet)
		if c.IsSet(name) || !excluded && hasDefault(f) {
			value = flagNode(c, f)
		}
		d := f.(cli.DocGenerationFlag)
		_, usage := flagValue(d)
		doc.Content = append(doc.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name, HeadComment: "# " + usage}, value)
	}
	return yaml.Marshal(doc)
}

// hasDefault reports whether a flag that is not given has a value all the same. Zero is
// how flags without one read.
func hasDefault(f cli.Flag) bool {
	_, isBool := f.(*cli.BoolFlag)
	return isBool || flagDefault(f.(cli.DocGenerationFlag)) != ""
}

// flagNode returns the value of a flag.
func flagNode(c *cli.Context, f cli.Flag) *yaml.Node {
	name := f.Names()[0]
	text := func(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }
	plain := func(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: s} }
	switch f.(type) {
	case *cli.BoolFlag:
		return plain(strconv.FormatBool(c.Bool(name)))
	case *cli.IntFlag:
		return plain(strconv.Itoa(c.Int(name)))
	case *cli.Uint64Flag:
		return plain(strconv.FormatUint(c.Uint64(name), 10))
	case *cli.Float64Flag:
		return plain(strconv.FormatFloat(c.Float64(name), 'g', -1, 64))
	case *cli.StringSliceFlag:
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for _, s := range c.StringSlice(name) {
			list.Content = append(list.Content, text(s))
		}
		return list
	}
	return text(c.String(name))
}
