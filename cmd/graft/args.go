package main

import (
	"math"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
)

// normalize brings a command's arguments into the one order that the flag package
// understands, flags first, and refuses what it would let pass: a flag given twice,
// an empty value, a number that is none. Unknown commands are told apart from
// arguments here too.
func normalize(app *cli.App, args []string) ([]string, error) {
	if len(args) == 0 {
		return nil, formats.Usagef("no command given").WithHint("run \"graft --help\", or begin with \"graft quickstart\"")
	}
	switch args[0] {
	case "help", "--help", "-h":
		if len(args) == 1 {
			return []string{"--help"}, nil
		}
		args = []string{args[1], "--help"}
	case "--version":
		args = append([]string{"version"}, args[1:]...)
	}
	command := app.Command(args[0])
	if command == nil {
		var names []string
		for _, c := range app.Commands {
			names = append(names, c.Name)
		}
		err := formats.Usagef("unknown command %s", formats.Quote(args[0]))
		if near := formats.Nearest(args[0], names, 1); len(near) > 0 {
			return nil, err.WithHint("did you mean %q?", near[0])
		}
		return nil, err.WithHint("run \"graft --help\" for the commands")
	}
	flags := map[string]cli.Flag{}
	for _, f := range command.Flags {
		for _, name := range f.Names() {
			flags[name] = f
		}
	}
	out, paths := []string{command.Name}, []string{"--"}
	seen, config := map[string]bool{}, ""
	for i := 1; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			paths = append(paths, args[i+1:]...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' || isNumber(arg) {
			paths = append(paths, arg)
			continue
		}
		name, value, hasValue := cutFlag(arg)
		if name == "help" || name == "h" {
			return []string{command.Name, "--help"}, nil
		}
		f, ok := flags[name]
		if !ok {
			return nil, unknownFlag(command, name, flags)
		}
		name = f.Names()[0]
		_, isBool := f.(*cli.BoolFlag)
		if !hasValue && !isBool {
			if i+1 == len(args) {
				return nil, formats.Usagef("flag --%s needs a value", name)
			}
			i++
			value = args[i]
			if value == "--" {
				return nil, formats.Usagef("flag --%s needs a value", name)
			}
			if next, _, _ := cutFlag(value); flags[next] != nil && strings.HasPrefix(value, "--") {
				return nil, formats.Usagef("flag --%s needs a value (got flag --%s)", name, next).WithHint("--%s=%s takes it as a value", name, value)
			}
		} else if !hasValue {
			value = "true"
		}
		value, err := checkFlag(f, name, value, seen[name])
		if err != nil {
			return nil, err
		}
		seen[name] = true
		if name == "config" {
			config = value
		}
		out = append(out, "--"+name+"="+value)
	}
	if config != "" {
		more, err := configArgs(config, command, seen)
		if err != nil {
			return nil, err
		}
		for _, arg := range more {
			name, _, _ := cutFlag(arg)
			seen[name] = true
		}
		out = append(out, more...)
	}
	if seen["print-config"] {
		needNothing(command)
	}
	return append(out, paths...), checkRequired(command, seen)
}

// cutFlag splits -NAME, --NAME and --NAME=VALUE.
func cutFlag(arg string) (name, value string, hasValue bool) {
	return strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
}

// checkRequired names all flags that are missing at once. The library would print its
// help to stdout.
func checkRequired(command *cli.Command, seen map[string]bool) error {
	var missing []string
	for _, f := range command.Flags {
		if r, ok := f.(cli.RequiredFlag); ok && r.IsRequired() && !seen[f.Names()[0]] {
			missing = append(missing, "--"+f.Names()[0])
		}
	}
	if len(missing) == 0 {
		return nil
	}
	verb := "is"
	if len(missing) > 1 {
		verb = "are"
	}
	return formats.Usagef("%s %s missing", strings.Join(missing, ", "), verb).WithHint("usage: %s", command.UsageText)
}

func isNumber(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}

// checkFlag returns a flag's value as the library shall read it: to it, 010 is eight.
func checkFlag(f cli.Flag, name, value string, again bool) (string, error) {
	if _, repeats := f.(*cli.StringSliceFlag); again && !repeats {
		return "", formats.Usagef("flag --%s is given twice", name)
	}
	if value == "" {
		return "", formats.Usagef("flag --%s has an empty value", name)
	}
	plain, ok := flagText(f, value)
	if !ok {
		return "", formats.Usagef("flag --%s: %s is not %s", name, formats.Quote(value), wantedBy(f))
	}
	return plain, nil
}

// flagText returns a flag's value as the library shall read it, and whether it is one.
func flagText(f cli.Flag, value string) (plain string, ok bool) {
	var err error
	plain = value
	switch f.(type) {
	case *cli.BoolFlag:
		_, err = strconv.ParseBool(value)
	case *cli.IntFlag:
		var n int64
		n, err = strconv.ParseInt(value, 10, 0)
		plain = strconv.FormatInt(n, 10)
	case *cli.Uint64Flag:
		var n uint64
		n, err = strconv.ParseUint(value, 10, 64)
		plain = strconv.FormatUint(n, 10)
	case *cli.Float64Flag:
		_, err = parseFloat(value)
	}
	return plain, err == nil
}

func wantedBy(f cli.Flag) string {
	switch f.(type) {
	case *cli.BoolFlag:
		return "true or false"
	case *cli.Float64Flag:
		return "a number"
	case *cli.Uint64Flag:
		return "a whole number from 0 up"
	case *cli.StringFlag, *cli.StringSliceFlag:
		return "a text"
	}
	return "a whole number"
}

// parseFloat reads a finite decimal number.
func parseFloat(s string) (float64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, err
	}
	if math.IsNaN(f) || math.IsInf(f, 0) || strings.ContainsAny(s, "xX_") {
		return 0, strconv.ErrSyntax
	}
	return f, nil
}

func unknownFlag(command *cli.Command, name string, flags map[string]cli.Flag) error {
	err := formats.Usagef("unknown flag %s of %s", formats.Quote("--"+name), command.Name)
	var names []string
	for n := range flags {
		names = append(names, n)
	}
	if near := formats.Nearest(name, names, 1); len(near) > 0 {
		return err.WithHint("did you mean --%s?", near[0])
	}
	return err.WithHint("run \"graft %s --help\"", command.Name)
}
