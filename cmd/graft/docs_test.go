package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"
)

var update = flag.Bool("update", false, "write docs/cli.md anew")

const docsFile = "../../docs/cli.md"

// TestCLIDocs keeps docs/cli.md what the table of commands says. Run it with -update to
// write the file.
func TestCLIDocs(t *testing.T) {
	want := cliDocs(newApp())
	if *update {
		if err := os.WriteFile(docsFile, []byte(want), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/cli.md is not what the commands say (- want, + got); go test ./cmd/graft -run TestCLIDocs -update writes it:\n%s", diff)
	}
}

// TestExamples: the command line of every example is one that graft takes.
func TestExamples(t *testing.T) {
	app := newApp()
	t.Chdir(t.TempDir())
	if err := os.WriteFile("train.yaml", []byte("base: TinyLlama-1.1B\ndata: train.jsonl\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range app.Commands {
		if examples[c.Name] == "" {
			t.Errorf("command %s has no example", c.Name)
		}
		for _, line := range strings.Split(strings.ReplaceAll(examples[c.Name], "\\\n", " "), "\n") {
			args := strings.Fields(strings.ReplaceAll(line, "'", ""))
			if len(args) < 2 || args[0] != "graft" || args[1] != c.Name {
				t.Errorf("%q is no example of %s", line, c.Name)
				continue
			}
			// Quoted arguments have no spaces here.
			if _, err := normalize(app, args[1:]); err != nil {
				t.Errorf("%q: %v", line, err)
			}
		}
	}
}

// examples are those of docs/cli.md, one or several lines for each command.
var examples = map[string]string{
	"quickstart": "graft quickstart",
	"inspect": "graft inspect TinyLlama-1.1B\ngraft inspect my-adapter --json\ngraft inspect model.onnx --layers\n" +
		"graft inspect my-adapter --check --base TinyLlama-1.1B --advice\n" +
		"graft inspect my-adapter --html report.html\n" +
		"graft inspect TinyLlama-1.1B --spectrum --only q_proj",
	"init": "graft init --base TinyLlama-1.1B --target-modules q_proj,v_proj --rank 16 --alpha 32 --out fresh",
	"train": "graft train --base TinyLlama-1.1B --target-modules all-linear --rank 16 \\\n" +
		"  --data train.jsonl --eval-share 0.1 --epochs 3 --learning-rate 2e-4 --out my-adapter\n" +
		"graft train --base TinyLlama-1.1B --adapter my-adapter --data more.jsonl --out my-adapter-2\n" +
		"graft train --config train.yaml --seed 2 --out another\n" +
		"graft train --base TinyLlama-1.1B --target-modules q_proj,v_proj --data train.jsonl --eval-share 0.1 --eval-steps 100 \\\n" +
		"  --early-stopping-patience 3 --load-best-model-at-end --save-steps 100 --resume --out my-adapter",
	"eval":     "graft eval --base TinyLlama-1.1B --adapter my-adapter --data held-out.jsonl",
	"generate": "graft generate --base TinyLlama-1.1B --adapter my-adapter --prompt 'Once' --seed 1",
	"merge": "graft merge --base TinyLlama-1.1B --adapter my-adapter --out merged\n" +
		"graft merge --base TinyLlama-1.1B --adapter style=0.7 --adapter facts=0.5 --out merged --dry-run\n" +
		"graft merge --base model.onnx --adapter my-adapter --out merged.onnx",
	"inject": "graft inject --base model.onnx --adapter style --adapter facts --mode inputs --out lora.onnx\n" +
		"graft inject --base model-int4.onnx --adapter my-adapter=0.5 --mode baked --out tuned.onnx",
	"diff": "graft diff TinyLlama-1.1B merged\n" +
		"graft diff my-adapter my-adapter-2 --exit-code --tolerance 1e-6",
	"verify": "graft verify --base TinyLlama-1.1B --adapter my-adapter --merged merged",
	"convert": "graft convert TinyLlama-1.1B --to safetensors --dtype f16 --out half\n" +
		"graft convert merged --to safetensors --max-shard-size 2GB --out sharded\n" +
		"graft convert my-adapter --to onnx_adapter --names genai --out my.onnx_adapter",
	"combine": "graft combine --adapter style=0.7 --adapter facts=0.5 --out both\n" +
		"graft combine --adapter style --adapter facts --method svd --rank 16 --out both\n" +
		"graft combine --adapter style --adapter facts --method ties --density 0.5 --out both",
	"extract": "graft extract --base MODEL --tuned TUNED --rank 16 --out my-adapter\n" +
		"graft extract --base MODEL --tuned TUNED --size 50MB --dtype bf16 --out my-adapter --report r.json\n" +
		"graft extract --base MODEL --tuned TUNED --max-error 0 --out exact",
	"resize": "graft resize --adapter my-adapter --energy 0.99 --out smaller\n" +
		"graft resize --adapter my-adapter --size 20MB --dtype bf16 --out smaller\n" +
		"graft resize --adapter my-adapter --rank 16 --common --out served\n" +
		"graft resize --adapter my-adapter --slim --base TinyLlama-1.1B --out slim",
	"completion": "graft completion bash",
	"version":    "graft version --json",
}

const docsIntro = `# The command line

<!-- Made from the program by: go test ./cmd/graft -run TestCLIDocs -update -->

` + "```" + `
graft COMMAND [flags and paths in any order]
` + "```" + `

%s

| command | what it does |
| --- | --- |
%s
## Rules for all commands

- Flags and paths come in any order. A flag is ` + "`--name value`, `--name=value`" + ` or, without a value, ` + "`--name`" + `; one
  dash does too. What follows ` + "`--`" + ` is a path whatever it looks like. A flag that is unknown, given twice
  (unless it may be repeated) or without a value is an error, and so is a path that belongs to no flag.
- A model is a Hugging Face directory (one safetensors file, or shards with their index), the folder of a
  model in the Hugging Face cache, or a bare safetensors file. ` + "`merge`, `inject`, `verify` and `inspect`" + ` also take
  an ONNX file, whose external data lies where it says, in its directory. An adapter is a PEFT LoRA directory or
  an .onnx_adapter file of ONNX Runtime. What a path holds is decided by its content, never by its name.
- ` + "`--adapter A=W`" + ` multiplies the adapter's change by W: the text after the last "=" is a weight where it is a
  finite number, and else part of the path. Weights may be negative; 0 changes nothing.
- Data goes to stdout, talk to stderr. With ` + "`--json`" + ` stdout is one JSON value with a ` + "`\"schema\"`" + ` such as
  ` + "`\"graft.merge/1\"`" + `.
- Everything is opened and checked before anything is written. An output appears under its name when all
  of it is good, and not before: after an error or Ctrl-C there is no output, an older one is as it was,
  and nothing else is left behind. Only training keeps what it has learned when it is interrupted.
- graft never writes to its inputs or into them, nor through a symbolic link, and replaces an older output
  only with ` + "`--force`" + `. ` + "`--report`" + ` and ` + "`--html`" + ` replace an earlier report or page, or an empty file, and no other.
- The same inputs and flags give the same bytes, on any number of processors.
- ` + "`train`" + ` and ` + "`eval`" + ` take flags from a YAML file too, ` + "`--config FILE`" + `. A key is a flag's name, with dashes or underscores;
  a flag that may be repeated or has names split by commas may have a list, one of KEY=VALUE a map, and null sets
  nothing. A flag of the command line goes before what the file says, and before keys that it excludes. Paths are
  relative to where graft runs, as on the command line. ` + "`--print-config`" + ` prints all flags with their values as such a file.

Most commands that work on models take these:

%s`

const docsOutro = `## Exit codes

| code | meaning |
| --- | --- |
| 0 | done |
| 1 | usage: what was asked makes no sense, and nothing was begun |
| 3 | a check found a difference |
| 4 | an input was rejected: damaged, hostile, missing, or of a kind that graft does not read |
| 5 | an adapter does not fit the base, or asks for what graft does not implement |
| 6 | output failed: it exists, the disk is full, or the system refused |
| 130 | interrupted by Ctrl-C or SIGTERM; a second one ends the process at once |

Code 2 is a crash of the program and always a bug.

## Errors

An error is one line on stderr that names the file, the tensor and what was got and wanted, with a hint
where there is a remedy:

` + "```" + `
graft: reading "base/model.safetensors": truncated: 1 bytes are missing (got 36707 bytes of tensor data, header wants 36708)
graft: writing "merged": it exists
hint: use --force to replace it
` + "```" + `

Where several things are wrong with one input, each has a line; the first 20 are shown. Text that comes
from files is quoted, with control characters escaped and long text cut.
`

// cliDocs renders the table of commands as Markdown.
func cliDocs(app *cli.App) string {
	var table, b strings.Builder
	for _, c := range app.VisibleCommands() {
		fmt.Fprintf(&table, "| [%s](#%s) | %s |\n", c.Name, anchor(c.Name), cell(c.Usage))
	}
	fmt.Fprintf(&b, docsIntro, app.Description, table.String(), flagRows(commonFlags()))
	for _, c := range app.VisibleCommands() {
		b.WriteString("\n" + commandDocs(c))
	}
	b.WriteString("\n" + docsOutro)
	return b.String()
}

// anchor is the name that Markdown gives the heading of a command.
func anchor(name string) string { return "graft-" + name }

func commandDocs(c *cli.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## graft %s\n\n%s.\n\n", c.Name, upper(c.Usage))
	fmt.Fprintf(&b, "```\n%s\n```\n\n", c.UsageText)
	switch {
	case strings.HasPrefix(c.Description, "  "): // it is examples
		fmt.Fprintf(&b, "```sh\n%s\n```\n", strings.ReplaceAll(c.Description[2:], "\n  ", "\n"))
	case c.Description != "":
		b.WriteString(c.Description + "\n\n")
		fallthrough
	default:
		fmt.Fprintf(&b, "```sh\n%s\n```\n", examples[c.Name])
	}
	common := names(commonFlags())
	own := slices.DeleteFunc(slices.Clone(c.Flags), func(f cli.Flag) bool { return slices.Contains(common, f.Names()[0]) })
	shared := len(c.Flags) - len(own)
	if shared < len(common) { // then they are not those of all commands
		own, shared = c.Flags, 0
	}
	own = slices.DeleteFunc(own, func(f cli.Flag) bool { return f.Names()[0] == "help" })
	if len(own) > 0 {
		b.WriteString("\n" + flagRows(own))
	}
	if shared > 0 {
		fmt.Fprintf(&b, "\nAnd %s.\n", strings.Join(quoted(common), ", "))
	}
	return b.String()
}

func flagRows(flags []cli.Flag) string {
	var b strings.Builder
	b.WriteString("| flag | meaning |\n| --- | --- |\n")
	for _, f := range flags {
		d := f.(cli.DocGenerationFlag)
		value, usage := flagValue(d)
		name := "--" + f.Names()[0]
		if value != "" {
			name += " " + value
		}
		for _, alias := range f.Names()[1:] {
			name += ", -" + alias
		}
		if def := flagDefault(d); def != "" {
			usage += " (default: " + def + ")"
		}
		if r, ok := f.(cli.RequiredFlag); ok && r.IsRequired() {
			usage += " (**required**)"
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, cell(usage))
	}
	return b.String()
}

// cell makes text fit for a cell of a table.
func cell(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\n", " "), "|", `\|`)
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func names(flags []cli.Flag) []string {
	var out []string
	for _, f := range flags {
		out = append(out, f.Names()[0])
	}
	return out
}

func quoted(names []string) []string {
	var out []string
	for _, n := range names {
		out = append(out, "`--"+n+"`")
	}
	return out
}
