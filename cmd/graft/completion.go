package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
)

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a shell completion script",
		UsageText: "graft completion bash|zsh|fish",
		Description: "  bash: source <(graft completion bash)\n" +
			"  zsh:  source <(graft completion zsh)\n" +
			"  fish: graft completion fish | source",
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return formats.Usagef("completion takes one shell (got %d)", c.NArg())
			}
			switch shell := c.Args().First(); shell {
			case "bash":
				bashCompletion(c.App.Writer, c.App)
			case "zsh":
				fmt.Fprintln(c.App.Writer, "autoload -U +X bashcompinit && bashcompinit")
				bashCompletion(c.App.Writer, c.App)
			case "fish":
				fishCompletion(c.App.Writer, c.App)
			default:
				return formats.Usagef("no completion for shell %s (want bash, zsh or fish)", formats.Quote(shell))
			}
			return nil
		},
	}
}

// flagNames returns a command's long flags, with their dashes.
func flagNames(c *cli.Command) []string {
	var names []string
	for _, f := range c.Flags {
		names = append(names, "--"+f.Names()[0])
	}
	return append(names, "--help")
}

// bashCompletion completes commands, then a command's flags, then files.
func bashCompletion(w io.Writer, app *cli.App) {
	var commands []string
	for _, c := range app.VisibleCommands() {
		commands = append(commands, c.Name)
	}
	fmt.Fprintf(w, "_graft() {\n  local cur=${COMP_WORDS[COMP_CWORD]} words=\"\"\n")
	fmt.Fprintf(w, "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n    COMPREPLY=($(compgen -W \"%s\" -- \"$cur\"))\n    return\n  fi\n", strings.Join(commands, " "))
	fmt.Fprintf(w, "  case ${COMP_WORDS[1]} in\n")
	for _, c := range app.VisibleCommands() {
		fmt.Fprintf(w, "  %s) words=\"%s\" ;;\n", c.Name, strings.Join(flagNames(c), " "))
	}
	fmt.Fprintf(w, "  esac\n  case $cur in\n  -*) COMPREPLY=($(compgen -W \"$words\" -- \"$cur\")) ;;\n  *) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n  esac\n}\ncomplete -o filenames -F _graft graft\n")
}

func fishCompletion(w io.Writer, app *cli.App) {
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `\'`) + "'" }
	for _, c := range app.VisibleCommands() {
		fmt.Fprintf(w, "complete -c graft -n __fish_use_subcommand -a %s -d %s\n", c.Name, quote(c.Usage))
		for _, f := range c.Flags {
			usage := ""
			if d, ok := f.(cli.DocGenerationFlag); ok {
				usage = strings.ReplaceAll(d.GetUsage(), "`", "")
			}
			value := " -r"
			if _, ok := f.(*cli.BoolFlag); ok {
				value = ""
			}
			fmt.Fprintf(w, "complete -c graft -n '__fish_seen_subcommand_from %s' -l %s%s -d %s\n", c.Name, f.Names()[0], value, quote(usage))
		}
	}
}
